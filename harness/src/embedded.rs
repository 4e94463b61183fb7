//! The programs that `tracecheck` carries inside itself, so that one binary is the whole system under test.
//!
//! The only place that knows the collector and the sample app as crates; the library knows them as commands.

use std::{io::Read, process::ExitCode, thread};

use clap::Subcommand;
pub(crate) use collector::mapping;
use harness::intake;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Set to `1` by the harness for the processes it starts: their stdin ends when the harness does.
const EXIT_WITH_PARENT: &str = "TRACECHECK_EXIT_WITH_PARENT";

/// A workload's program.
#[derive(Debug, Subcommand)]
pub(crate) enum Embedded {
    /// Runs the mock Datadog intake: a stand-in for Datadog that shows what it was sent.
    Intake(intake::command::Args),
    /// Runs the OpenTelemetry collector: OTLP in, Datadog out.
    Collector(collector::command::Args),
    /// Runs one sample app, a chainable, instrumented HTTP service.
    SampleApp(sample_apps::command::Args),
    /// Stands between two workloads, and does to what passes what a scenario's faults ask for.
    #[command(hide = true)]
    Tap(harness_prove::tap::program::Args),
}

impl Embedded {
    pub(crate) fn run(self) -> ExitCode {
        exit_with_parent();
        match self {
            Self::Intake(args) => intake::command::run(args),
            Self::Collector(args) => collector::command::run(args),
            Self::SampleApp(args) => sample_apps::command::run(args),
            Self::Tap(args) => harness_prove::tap::program::run(args),
        }
    }
}

/// Ends this process gracefully when the harness that started it is gone, however it went.
fn exit_with_parent() {
    if std::env::var_os(EXIT_WITH_PARENT).is_none_or(|value| value != "1") {
        return;
    }
    thread::spawn(|| {
        let mut sink = [0; 64];
        // Nothing is ever written to it; only its end means something.
        while matches!(std::io::stdin().read(&mut sink), Ok(1..)) {}
        let _already_ending = kill(Pid::this(), Signal::SIGTERM);
    });
}
