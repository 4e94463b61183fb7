//! `tracecheck explain`.

use std::process::ExitCode;

use harness::{rule, source};

/// Which rule to explain.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the rule; lists all rules when left out.
    rule: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(name) = &args.rule else {
        let lines = rule::RULES.iter().map(|rule| format!("{:<26} {}\n", rule.name, rule.reason));
        return super::print(&lines.collect::<String>());
    };
    match rule::named(name) {
        Some(rule) => super::print(&format!("{}\n\n{}", rule.name, rule.page)),
        None => {
            let known = rule::RULES.iter().map(|rule| rule.name);
            let suggestion = source::nearest_or_known(name, known).unwrap_or_default();
            Err(anyhow::anyhow!("there is no rule `{name}`; {suggestion}"))
        }
    }
}
