//! Breaks the intake, the disk and the collector while spans are sent, and compares what was acknowledged with what arrived.
//!
//! Every span is known by its id. A span is lost if its sender was answered OK and the intake never accepted it; it arrived twice
//! if the intake accepted it twice. Ours must lose none, must have counted at least as many possible duplicates as there are,
//! and must stay within its memory; otherwise the exit code is 1. The reference is measured beside it and judged by nobody.

#[path = "../load.rs"]
#[expect(dead_code, reason = "what the other program needs")]
mod load;
#[path = "../traffic.rs"]
#[expect(dead_code, reason = "what the other program needs")]
mod traffic;

mod disk;
mod fault;
mod intake;
mod report;
mod run;
mod sender;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use fault::Fault;
use subject::{Queue, Subject};

/// Breaks things under load and counts what is lost
#[derive(Parser)]
#[command(name = "faults", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The reference: an OpenTelemetry Collector with the Datadog exporter; without it only ours is run
    #[arg(long, value_name = "PATH")]
    reference: Option<PathBuf>,
    /// Another build of our collector, instead of the one that is built in
    #[arg(long, value_name = "PATH")]
    collector: Option<PathBuf>,
    /// Spans a second
    #[arg(long, default_value = "20000", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How long each fault lasts, in seconds
    #[arg(long, default_value = "60", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How large our queue is, in MiB
    #[arg(long, default_value = "1024", value_parser = clap::value_parser!(u64).range(1..4096))]
    queue_mib: u64,
    /// Only faults whose name contains one of these
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    only: Vec<String>,
    /// Only subjects whose name contains one of these
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    subjects: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Our collector, as a subject is started
    #[command(hide = true)]
    Collector(collector::command::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Collector(args)) => collector::command::run(args),
        None => match run(&cli) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                report::last_word(&error);
                ExitCode::from(2)
            }
        },
    }
}

/// Runs all that was chosen; whether ours did as it must.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut subjects = vec![
        Subject::ours(cli.collector.clone(), Queue::Memory, cli.queue_mib)?,
        Subject::ours(cli.collector.clone(), Queue::Disk, cli.queue_mib)?,
    ];
    subjects.extend(cli.reference.clone().map(Subject::reference));
    let chosen = |name: &str, texts: &[String]| {
        texts.is_empty() || texts.iter().any(|text| name.contains(text.as_str()))
    };
    let mut runs = Vec::new();
    for fault in Fault::ALL.into_iter().filter(|fault| chosen(fault.name(), &cli.only)) {
        for subject in &subjects {
            if chosen(subject.name(), &cli.subjects) && fault.concerns(subject.queue()) {
                let plan = run::Plan { rate: cli.rate, seconds: cli.seconds };
                let run = runtime.block_on(run::run(plan, fault, subject))?;
                report::progress(&run);
                runs.push(run);
            }
        }
    }
    anyhow::ensure!(!runs.is_empty(), "no fault or no subject has such a name");
    report::table(cli.rate, cli.seconds, cli.queue_mib, &runs);
    Ok(runs.iter().all(|run| run.problems.is_empty()))
}
