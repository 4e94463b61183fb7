//! The command line: one subcommand per file below `cli/`.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use harness::source;

use crate::embedded::Embedded;

mod attach;
mod canary;
mod check;
mod choice;
mod collector_check;
mod compare;
mod completions;
mod datadog;
mod doctor;
mod down;
mod environment;
mod explain;
mod html;
mod image;
mod init;
mod inside;
mod man;
mod manifests;
mod output;
mod prove;
mod reap;
mod record;
mod replay;
mod run;
mod schema;
mod show;
mod standing;
mod status;
mod ui;
mod up;
mod verify;

/// Exit codes of the process; part of the public contract.
pub(crate) mod exit_code {
    use std::process::ExitCode;

    use harness::verdict::Verdict;

    /// Usage, or an invalid scenario.
    pub(crate) const USAGE: u8 = 2;
    /// Nothing failed, but something could not be decided.
    pub(crate) const INCONCLUSIVE: u8 = 3;

    /// All passed, something failed, or something could not be decided.
    pub(crate) fn of(verdict: Verdict) -> ExitCode {
        match verdict {
            Verdict::Pass => ExitCode::SUCCESS,
            Verdict::Fail => ExitCode::from(1),
            Verdict::Inconclusive | Verdict::Skipped => ExitCode::from(INCONCLUSIVE),
        }
    }
}

/// Proves, per trace_id, that the traces a system sends to Datadog arrive whole.
#[derive(Debug, Parser)]
#[command(
    name = "tracecheck",
    version,
    after_help = "Exit codes: 0 all passed; 1 something failed; 2 usage or an invalid scenario; \
                  3 nothing failed, but something could not be decided.\n\n\
                  Examples:\n  \
                  tracecheck run scenarios --html report.html     run scenarios, and look at every trace\n  \
                  tracecheck init                                 begin with your own services\n  \
                  tracecheck explain orphan-span                  what a rule checks, and what usually breaks it\n  \
                  tracecheck compare before after                 what a new collector changes in Datadog"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings systems up, drives scenarios through them, and judges every trace.
    #[command(after_help = "Examples:\n  \
                            tracecheck run scenarios --filter second-hop -v\n  \
                            tracecheck run my-scenario.yaml --html report.html --save my-run\n  \
                            tracecheck run scenarios --collector-config my-collector.yaml\n  \
                            tracecheck run scenarios --compare-with-collector my-new-collector.yaml\n  \
                            tracecheck run my-scenario.yaml --attach --entry http://localhost:8080")]
    Run(Box<run::Args>),
    /// Runs scenarios as `run` does, with the report as a page that follows them, and that stays until Ctrl-C.
    #[command(after_help = "Examples:\n  \
                            tracecheck ui scenarios\n  \
                            tracecheck ui my-scenario.yaml --page 127.0.0.1:0")]
    Ui(Box<ui::Args>),
    /// Runs scenarios again and again, and comes to one verdict: for a schedule, or as a gate.
    Canary(Box<canary::Args>),
    /// Writes a system file and a first scenario for your own services.
    Init(init::Args),
    /// Checks scenario files, and runs nothing.
    Check(check::Args),
    /// Prints the JSON Schema of scenario files, for editors, or of what `--format json` prints, for programs.
    Schema(schema::Args),
    /// Prints the completions of a shell.
    Completions(completions::Args),
    /// Writes the manual: a page for the program, and one for each command.
    Man(man::Args),
    /// Prints one captured trace: its waterfall and its spans.
    Show(show::Args),
    /// Judges a saved run again, and runs nothing.
    Replay(replay::Args),
    /// Compares two saved runs: what differs in Datadog's payloads and APM stats, and what that means there.
    Compare(compare::Args),
    /// Judges traces in Datadog by trace id.
    Verify(Box<verify::Args>),
    /// Drives a scenario once, and writes it with expectations that match what was seen, for review.
    Record(Box<record::Args>),
    /// Says what a rule checks and what usually causes its failure, or why a span has its name in Datadog.
    Explain(explain::Args),
    /// Breaks systems that run, one way after the other, and reports which breakages the rules catch.
    Prove(prove::Args),
    /// Makes the container image that the environments run.
    Image(image::Args),
    /// Prints what would be applied to a Kubernetes cluster for a system, as YAML.
    Manifests(Box<manifests::Args>),
    /// Brings a system up and leaves it up, for work on it or for runs with `--attach`.
    Up(Box<up::Args>),
    /// Shows which systems are up, where their parts are, and whether each can be used.
    Status(status::Args),
    /// Takes a system down that `up` brought up.
    Down(down::Args),
    /// Checks the prerequisites of each environment.
    Doctor(doctor::Args),
    /// Removes what runs left behind that were killed.
    Reap(reap::Args),
    /// Commands that the harness runs inside a pod.
    #[command(hide = true)]
    Inside(inside::Args),
    #[command(flatten)]
    Embedded(Embedded),
}

/// Parses, runs, and prints the one error that ended it.
pub(crate) fn main() -> ExitCode {
    match Cli::parse_from(called_as_collector(std::env::args_os().collect())).command {
        Command::Embedded(embedded) => embedded.run(),
        Command::Run(args) => ended(run::run(*args)),
        Command::Ui(args) => ended(ui::run(*args)),
        Command::Canary(args) => ended(canary::run(*args)),
        Command::Init(args) => ended(init::run(&args)),
        Command::Check(args) => ended(check::run(&args)),
        Command::Schema(args) => ended(schema::run(&args)),
        Command::Completions(args) => ended(completions::run(&args)),
        Command::Man(args) => ended(man::run(&args)),
        Command::Show(args) => ended(show::run(&args)),
        Command::Replay(args) => ended(replay::run(&args)),
        Command::Compare(args) => ended(compare::run(&args)),
        Command::Record(args) => ended(record::run(*args)),
        Command::Verify(args) => ended(verify::run(*args)),
        Command::Explain(args) => ended(explain::run(&args)),
        Command::Prove(args) => ended(prove::run(args)),
        Command::Manifests(args) => ended(manifests::run(&args)),
        Command::Up(args) => ended(up::run(*args)),
        Command::Status(args) => ended(status::run(&args)),
        Command::Down(args) => ended(down::run(&args)),
        Command::Doctor(args) => ended(doctor::run(&args)),
        Command::Reap(args) => ended(reap::run(args)),
        Command::Inside(args) => ended(inside::run(args)),
        Command::Image(args) => ended(image::run(&args)),
    }
}

/// The OpenTelemetry operator calls an image with the collector's options and nothing else (`--config=…`, and whatever
/// `args` its resource has, sorted by name), so that these stand for `collector …`.
fn called_as_collector(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_option = |word: &OsString, option: &str| {
        let rest = word.to_str().and_then(|word| word.strip_prefix(option));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let first_is_option = words.get(1).is_some_and(|word| word.to_string_lossy().starts_with("--"));
    if first_is_option && words.iter().any(|word| is_option(word, "--config")) {
        words.insert(1, "collector".into());
    }
    words
}

#[expect(clippy::print_stderr, reason = "the process's last word")]
fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        // The reader of our output went away, as `| head` does: nobody is left to read.
        let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        };
        if !error.chain().any(broken_pipe) {
            eprintln!("error: {}", harness_core::chain_of(&*error));
        }
        // An environment that is not there decides nothing.
        let unavailable = |cause: &(dyn std::error::Error + 'static)| {
            cause.is::<harness::environment::EnvironmentError>()
        };
        match error.chain().any(unavailable) {
            true => ExitCode::from(exit_code::INCONCLUSIVE),
            false => ExitCode::from(exit_code::USAGE),
        }
    })
}

/// Those of the scenarios' names that contain one of the texts, all where there is no text. A text that none contains
/// is warned about, since it is likely mistyped.
fn filter(names: &[String], texts: &[String]) -> Vec<String> {
    for text in texts.iter().filter(|text| !names.iter().any(|name| name.contains(*text))) {
        let known = names.iter().map(String::as_str);
        let there_are = format!("there are {}", source::list(known.clone()));
        let nearest = source::nearest(text, known).map(|nearest| format!("{nearest} "));
        warn(&format!(
            "--filter: no scenario's name contains `{text}`; {}{there_are}",
            nearest.unwrap_or_default()
        ));
    }
    let wanted = |name: &&String| texts.is_empty() || texts.iter().any(|text| name.contains(text));
    names.iter().filter(wanted).cloned().collect()
}

/// Prints something that does not end the program.
#[expect(clippy::print_stderr, reason = "it is for the user, not for the log")]
fn warn(text: &str) {
    eprintln!("warning: {text}");
}

/// Prints something beside what the program writes to stdout.
#[expect(clippy::print_stderr, reason = "it is for the user, not for the log")]
fn progress(text: &str) {
    eprintln!("{text}");
}

/// The width of the terminal that stdout is: columns. Where it is none, lines are left as they are.
fn width() -> usize {
    let size = console::Term::stdout().size_checked();
    size.map_or(usize::MAX, |(_, columns)| usize::from(columns))
}

/// Writes data to stdout.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collectors_options_alone_are_the_collector() {
        let called = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            called_as_collector(words).join(std::ffi::OsStr::new(" "))
        };
        let collector = "tracecheck collector --config=/conf/collector.yaml";
        assert_eq!(called("tracecheck --config=/conf/collector.yaml"), collector);
        assert_eq!(
            called("tracecheck --a=b --config /c.yaml"),
            "tracecheck collector --a=b --config /c.yaml"
        );
        for unchanged in [collector, "tracecheck", "tracecheck --help", "tracecheck run --config=x"]
        {
            assert_eq!(called(unchanged), unchanged);
        }
    }
}
