//! Measures the collector beside another one, in one run, over the same OTLP bytes and into the same sink.
//!
//! Each subject is a process of its own, so that its CPU time and memory are the kernel's figures. The load generator and the
//! sink run in this process, on the same cores, and cost the same for each subject. Rounds go through all subjects in turn,
//! so that what else the machine does meets them alike; tables have medians.

mod floor;
mod load;
mod measure;
mod process;
mod report;
mod sink;
mod subject;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use bench::builds::{self, Executable, Program, Revision};
use clap::{Parser, Subcommand};

use measure::Plan;
use subject::Subject;
use traffic::Shape;

/// Measures the collector beside a reference and beside the floor
#[derive(Parser)]
#[command(name = "side-by-side", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The reference: an OpenTelemetry Collector with the Datadog exporter; without it only ours and the floor are measured
    #[arg(long, value_name = "PATH")]
    reference: Option<PathBuf>,
    /// Another build of our collector, instead of the one that is built in
    #[arg(long, value_name = "PATH", conflicts_with_all = ["program", "against"])]
    collector: Option<PathBuf>,
    /// Our collector in this program, built from the working tree, instead of the one that is built in; with `--against` it is `tracecheck`
    /// by default
    #[arg(long, value_enum)]
    program: Option<Program>,
    /// Also a revision of this repository, built by the same profile in a folder of its own below the target directory
    #[arg(long, value_name = "REV")]
    against: Option<String>,
    /// The profile by which `--program` and `--against` build
    #[arg(long, default_value = "dist")]
    profile: String,
    /// A folder for the disk queue; ours is then also measured with it
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    /// Only subjects whose name contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Which tables to make
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["cost", "latency"])]
    tables: Vec<Table>,
    /// Only rows of the scale table whose name contains this, for example `groups`; may be given several times
    #[arg(long, value_name = "TEXT")]
    rows: Vec<String>,
    /// How often each subject is measured
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many spans each run sends
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u64).range(1..))]
    spans: u64,
    /// Spans in a request
    #[arg(long, value_delimiter = ',', default_values = ["100", "1000"])]
    per_request: Vec<usize>,
    /// How many requests are in flight at a time, each on a connection of its own
    #[arg(long, default_value = "4")]
    connections: usize,
    /// Spans a second at most; without it as many as are taken
    #[arg(long)]
    rate: Option<u64>,
    /// One line of JSON for each run, besides the tables
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// CPU time, throughput, memory, bytes
    Cost,
    /// From receipt to the intake, at low load
    Latency,
    /// Cost against attributes, spans of a trace, services, and groups of stats
    Scale,
    /// Cost of ours with each processor
    Processors,
}

#[derive(Subcommand)]
enum Command {
    /// Our collector, as a subject is started
    #[command(hide = true)]
    Collector(collector::command::Args),
    /// The floor, as a subject is started
    #[command(hide = true)]
    Floor(floor::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Collector(args)) => collector::command::run(args),
        Some(Command::Floor(args)) => finish(floor::run(args)),
        None => finish(run(&cli)),
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a program")]
fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let against = cli.against.as_deref().map(Revision::find).transpose()?;
    let against = against.as_ref();
    let before = against.map(|revision| revision.name.as_str());
    let subjects = Subject::all(cli.reference.as_deref(), before, cli.storage.as_deref())?;
    let chosen = |subject: &Subject| {
        cli.only.is_empty() || cli.only.iter().any(|text| subject.is_called(text))
    };
    let subjects: Vec<Subject> = subjects.into_iter().filter(chosen).collect();
    anyhow::ensure!(
        !subjects.is_empty() || !cli.tables.iter().any(|table| *table != Table::Processors),
        "no subject has a name with `{}`",
        cli.only.join("` or `")
    );
    let program = cli.program.or(against.and(Some(Program::Tracecheck)));
    let ours = match (&cli.collector, program) {
        (Some(path), _) => Executable { path: path.clone(), is_subcommand: false },
        (None, Some(program)) => builds::working_tree(program, &cli.profile)?,
        (None, None) => Executable { path: std::env::current_exe()?, is_subcommand: true },
    };
    let before_build = against
        .zip(program)
        .map(|(revision, program)| revision.build(program, &cli.profile))
        .transpose()?;
    let plan = Plan {
        ours,
        before: before_build,
        spans: cli.spans,
        connections: cli.connections,
        rate: cli.rate,
    };
    report::environment(&plan);
    for table in &cli.tables {
        match table {
            Table::Cost => {
                let mut runs = Vec::new();
                for _ in 0..cli.rounds {
                    for spans in &cli.per_request {
                        let shape = Shape { spans_per_request: *spans, ..Shape::default() };
                        for subject in &subjects {
                            let run = runtime.block_on(measure::cost(&plan, subject, shape))?;
                            report::progress(cli.json, &run);
                            runs.push(run);
                        }
                    }
                }
                report::cost(&runs, before);
            }
            Table::Processors => {
                let subjects = Subject::processors();
                let mut runs = Vec::new();
                for _ in 0..cli.rounds {
                    for subject in subjects.iter().filter(|subject| chosen(subject)) {
                        let shape = Shape { spans_per_request: 100, ..Shape::default() };
                        let run = runtime.block_on(measure::cost(&plan, subject, shape))?;
                        report::progress(cli.json, &run);
                        runs.push(run);
                    }
                }
                report::cost(&runs, before);
            }
            Table::Latency => {
                let mut runs = Vec::new();
                for subject in subjects.iter().filter(|subject| subject.translates()) {
                    runs.push(runtime.block_on(measure::latency(&plan, subject))?);
                }
                report::latency(&runs);
            }
            Table::Scale => {
                let mut runs = Vec::new();
                let chosen = |(what, _): &(String, Shape)| {
                    cli.rows.is_empty() || cli.rows.iter().any(|text| what.contains(text.as_str()))
                };
                let rows: Vec<_> = Shape::scale().into_iter().filter(chosen).collect();
                anyhow::ensure!(
                    !rows.is_empty(),
                    "no row has a name with `{}`",
                    cli.rows.join("` or `")
                );
                for _ in 0..cli.rounds {
                    for (what, shape) in &rows {
                        for subject in &subjects {
                            let run = runtime.block_on(measure::cost(&plan, subject, *shape))?;
                            report::progress(cli.json, &run);
                            runs.push((what.clone(), run));
                        }
                    }
                }
                report::scale(&runs, before);
            }
        }
    }
    Ok(())
}
