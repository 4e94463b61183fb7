//! `tracecheck check`.

use std::{path::PathBuf, process::ExitCode};

use harness::{
    report::plain,
    scenario::{Scenario, load},
};

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenario files and system files, or folders of them.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let load::Loaded { scenarios, systems } = load::check(&args.paths)?;
    let requests: u32 = scenarios.iter().map(Scenario::request_count).sum();
    let mut told = Vec::new();
    if !scenarios.is_empty() {
        told.push(format!(
            "{} with {}",
            plain::count(scenarios.len(), "scenario"),
            plain::count(usize::try_from(requests)?, "request")
        ));
    }
    if !systems.is_empty() {
        told.push(plain::count(systems.len(), "system file"));
    }
    let are = if scenarios.len() + systems.len() == 1 { "is" } else { "are" };
    super::print(&format!("{} {are} valid\n", told.join(" and ")))
}
