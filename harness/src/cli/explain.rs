//! `tracecheck explain`.

use std::process::ExitCode;

use harness::{rule, source};

use crate::embedded::mapping;

/// The page that is about no rule: how Datadog names spans.
const MAPPING: (&str, &str) =
    ("mapping", "what Datadog makes of a span, and why it has its names (no rule)");

/// Options of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a rule, or `mapping`; lists all when left out.
    topic: Option<String>,
    /// With `mapping`: attributes of a span whose names in Datadog are to be explained.
    #[arg(value_name = "KEY=VALUE")]
    attributes: Vec<String>,
    /// With `mapping`: the span's kind, `server` for example. Default `internal`.
    #[arg(long)]
    kind: Option<String>,
    /// With `mapping`: the span's name.
    #[arg(long)]
    name: Option<String>,
    /// With `mapping`: an attribute of its resource; several times.
    #[arg(long, value_name = "KEY=VALUE")]
    resource: Vec<String>,
}

impl Args {
    /// Returns whether one span is asked about.
    fn is_about_a_span(&self) -> bool {
        !self.attributes.is_empty()
            || !self.resource.is_empty()
            || self.kind.is_some()
            || self.name.is_some()
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(topic) = &args.topic else {
        let rules = rule::RULES.iter().map(|rule| (rule.name, rule.reason));
        let lines = rules.chain([MAPPING]).map(|(name, about)| format!("{name:<26} {about}\n"));
        return super::print(&lines.collect::<String>());
    };
    if topic == MAPPING.0 {
        let said = if args.is_about_a_span() { about_span(args)? } else { mapping::page() };
        return super::print(&said);
    }
    anyhow::ensure!(
        !args.is_about_a_span(),
        "attributes, --kind, --name and --resource are for `tracecheck explain {}`",
        MAPPING.0
    );
    match rule::named(topic) {
        Some(rule) => super::print(&format!("{}\n\n{}", rule.name, rule.page)),
        None => {
            let known = rule::RULES.iter().map(|rule| rule.name).chain([MAPPING.0]);
            let suggestion = source::nearest_or_known(topic, known).unwrap_or_default();
            Err(anyhow::anyhow!("there is no rule `{topic}`; {suggestion}"))
        }
    }
}

fn about_span(args: &Args) -> anyhow::Result<String> {
    let question = mapping::Question {
        kind: args.kind.clone().unwrap_or_else(|| "internal".to_owned()),
        name: args.name.clone().unwrap_or_default(),
        attributes: pairs(&args.attributes)?,
        resource: pairs(&args.resource)?,
    };
    mapping::explain(&question).map_err(anyhow::Error::msg)
}

fn pairs(texts: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => anyhow::bail!(
            "`{text}` is not an attribute; write `key=value`, for example `http.route=/users`"
        ),
    };
    texts.iter().map(pair).collect()
}
