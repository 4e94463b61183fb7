//! `tracecheck check`.

use std::{path::PathBuf, process::ExitCode};

use harness::{report::plain, scenario::load};

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenario files, or folders of them.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let scenarios = load::load(&args.paths)?;
    let requests: u32 = scenarios.iter().map(harness::scenario::Scenario::request_count).sum();
    let are = if scenarios.len() == 1 { "is" } else { "are" };
    super::print(&format!(
        "{} with {} {are} valid\n",
        plain::count(scenarios.len(), "scenario"),
        plain::count(usize::try_from(requests)?, "request")
    ))
}
