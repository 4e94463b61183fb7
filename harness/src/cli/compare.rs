//! `tracecheck compare`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::ValueEnum;
use harness::{
    compare::{self, Comparison, Outcome},
    report,
    saved::{self, SavedSystem},
};

use super::{exit_code, html};

/// Which runs to compare.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 equal; 1 different; 2 usage, or a run that cannot be read; \
                        3 nothing differs, but something could not be compared.\n\n\
                        Example: the same scenarios with the collector of today and of tomorrow\n  \
                        tracecheck run scenarios --save before\n  \
                        tracecheck run scenarios --collector-command ./otelcol-next --save after\n  \
                        tracecheck compare before after --html differences.html")]
pub(super) struct Args {
    /// Folder of the first run, which `tracecheck run --save` wrote: how it was.
    run_a: PathBuf,
    /// Folder of the second run: how it is now.
    run_b: PathBuf,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    html: html::Args,
}

/// Options of the output.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Output {
    /// Format of stdout.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Prints all examples of each difference, with their traces.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One document, for programs.
    Json,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.html.check()?;
    let systems = [("RUN_A", &args.run_a), ("RUN_B", &args.run_b)];
    let [a, b] = systems.map(|(name, dir)| read(name, dir));
    let (a, b) = (a?, b?);
    let [name_a, name_b] = [&args.run_a, &args.run_b].map(|dir| dir.display().to_string());
    let comparison = compare::compare((&name_a, &a), (&name_b, &b))?;
    args.html.write_comparison(&comparison)?;
    match args.output.format {
        Format::Text => print_text(&comparison, args.output.verbose)?,
        Format::Json => super::print(&format!("{}\n", serde_json::to_string_pretty(&comparison)?))?,
    };
    Ok(code(comparison.outcome))
}

fn read(name: &str, dir: &Path) -> anyhow::Result<Vec<SavedSystem>> {
    saved::read(dir).with_context(|| format!("{name}: the run cannot be read"))
}

/// Prints a comparison for people.
pub(super) fn print_text(comparison: &Comparison, verbose: bool) -> anyhow::Result<ExitCode> {
    super::print(&report::compare::render(comparison, verbose, super::width()))
}

/// The exit code of a comparison.
pub(super) fn code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Equal => ExitCode::SUCCESS,
        Outcome::Different => ExitCode::from(1),
        Outcome::Undecided => ExitCode::from(exit_code::INCONCLUSIVE),
    }
}
