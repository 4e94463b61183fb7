//! `tracecheck check`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
};

use harness::{
    load,
    report::plain,
    run,
    scenario::{Scenario, SystemChoice},
    secret::Secret,
    system::file,
};

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Scenario files and system files, or folders of them.
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    /// Do not look for the programs that system files name: they are in images.
    #[arg(long)]
    for_images: bool,
}

/// Returns what can be foreseen of runs of these scenarios, and of these systems.
fn foreseen_of(scenarios: &[Scenario], systems: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut by_file: BTreeMap<&PathBuf, Vec<&Scenario>> =
        systems.iter().map(|path| (path, Vec::new())).collect();
    for scenario in scenarios {
        if let SystemChoice::File(path) = &scenario.system {
            by_file.entry(path).or_default().push(scenario);
        }
    }
    let mut foreseen = Vec::new();
    for (path, scenarios) in by_file {
        let file = file::load(path).map_err(load::LoadError::Invalid)?;
        let system = file.system(&Secret::new("")).map_err(load::LoadError::Invalid)?;
        let found = run::foreseen(&system, scenarios).into_iter();
        foreseen.extend(found.map(|text| format!("{}: {text}", path.display())));
    }
    Ok(foreseen)
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
    for text in foreseen_of(&scenarios, &systems)? {
        super::warn(&text);
    }
    let requests: u32 = scenarios.iter().map(Scenario::request_count).sum();
    let mut reported = Vec::new();
    if !scenarios.is_empty() {
        reported.push(format!(
            "{} with {}",
            plain::count(scenarios.len(), "scenario"),
            plain::count(usize::try_from(requests)?, "request")
        ));
    }
    if !systems.is_empty() {
        reported.push(plain::count(systems.len(), "system file"));
    }
    let are = if scenarios.len() + systems.len() == 1 { "is" } else { "are" };
    super::print(&format!("{} {are} valid\n", reported.join(" and ")))
}
