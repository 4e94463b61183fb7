//! `tracecheck schema`.

use std::process::ExitCode;

use clap::ValueEnum;

/// Which schema to print.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of which documents.
    #[arg(long, value_enum, default_value_t = Of::Scenario)]
    of: Of,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    /// Scenario files.
    Scenario,
    /// A line of `--format json`.
    Report,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    super::print(&match args.of {
        Of::Scenario => harness::load::schema::json(),
        Of::Report => harness::event::json_schema(),
    })
}
