//! `tracecheck check`.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use harness::{
    report::plain,
    scenario::{Scenario, SystemChoice, load},
    system::file,
};

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenario files and system files, or folders of them.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Do not look for the programs that system files name: they are in images.
    #[arg(long)]
    for_images: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let load::Loaded { scenarios, systems } = load::check(&args.paths)?;
    if !args.for_images {
        let of_scenarios = scenarios.iter().filter_map(|scenario| match &scenario.system {
            SystemChoice::File(path) => Some(path.clone()),
            SystemChoice::Chain(_) => None,
        });
        let files: BTreeSet<PathBuf> = of_scenarios.chain(systems.iter().cloned()).collect();
        let search = std::env::var_os("PATH");
        let mut missing = Vec::new();
        for path in files {
            let file = file::load(&path).map_err(load::LoadError::Invalid)?;
            missing.extend(file.missing_programs(search.as_deref()));
        }
        if !missing.is_empty() {
            return Err(load::LoadError::Invalid(missing).into());
        }
    }
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
