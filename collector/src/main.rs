//! The program `collector`.

use std::process::ExitCode;

use clap::Parser;
use collector::command;

/// Receives traces by OTLP and sends them to Datadog.
#[derive(Parser)]
#[command(name = "collector")]
struct Cli {
    #[command(flatten)]
    args: command::Args,
}

fn main() -> ExitCode {
    command::run(Cli::parse().args)
}
