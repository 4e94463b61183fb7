//! The program `collector`.

use std::process::ExitCode;

use clap::Parser;
use collector::command;

/// Receives traces by OTLP and sends them to Datadog.
#[derive(Parser)]
#[command(name = "collector", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    args: command::Args,
}

fn main() -> ExitCode {
    command::run(Cli::parse().args)
}
