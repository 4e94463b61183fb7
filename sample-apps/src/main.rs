//! The program: one sample app.

use std::process::ExitCode;

use clap::Parser;
use sample_apps::command;

/// One chainable, instrumented HTTP service.
#[derive(Debug, Parser)]
#[command(name = "sample-app", version)]
struct Cli {
    #[command(flatten)]
    args: command::Args,
}

fn main() -> ExitCode {
    command::run(Cli::parse().args)
}
