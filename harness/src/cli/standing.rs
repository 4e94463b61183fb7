//! The shared part of `up`, `status` and `down`: where systems that stay are recorded, and how they are shown.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use harness::standing::{Health, Standing, StandingPlace};

/// Options that choose where systems that stay are recorded.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Home {
    /// Folder in which systems that stay are recorded; by default tracecheck's folder in $XDG_STATE_HOME or ~/.local/state.
    #[arg(long, value_name = "DIR", env = "TRACECHECK_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

/// The name of a system whose user gives it none.
pub(super) const DEFAULT_NAME: &str = "default";

impl Home {
    /// The folder.
    pub(super) fn dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let state = variable("XDG_STATE_HOME").map(PathBuf::from);
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        let state = state.or_else(home).context(
            "there is no folder for the state of systems: set HOME, XDG_STATE_HOME or TRACECHECK_STATE_DIR",
        )?;
        Ok(state.join("tracecheck"))
    }

    /// The folder of the system of that name.
    pub(super) fn place(&self, name: &str) -> anyhow::Result<StandingPlace> {
        Ok(StandingPlace::new(&self.dir()?, name)?)
    }
}

/// A standing system for people: its parts with their addresses, and how scenarios are run through it.
pub(super) fn reported(standing: &Standing, health: &Health) -> String {
    let Standing { name, environment, run, since, until, .. } = standing;
    let mut text = format!(
        "system {name}: environment {environment}, run {run}, up since {since}, until {until}\n"
    );
    let width = standing.workloads.keys().map(String::len).max().unwrap_or_default();
    for (workload, part) in &standing.workloads {
        for instance in &part.instances {
            let trouble = health.get(&(workload.clone(), instance.name.clone()));
            let state = match trouble {
                Some(Some(trouble)) => format!("  NOT USABLE: {trouble}"),
                Some(None) | None => String::new(),
            };
            let ports = instance.ports.iter().map(|(port, address)| format!("{port} {address}"));
            let ports = ports.collect::<Vec<_>>().join(", ");
            text += &format!("  {workload:width$}  {:9}  {ports}{state}\n", part.role);
        }
    }
    if let Some(how) = how_to_run(standing) {
        text += &format!("\nrun scenarios on it:  {how}\n");
    }
    text += &format!("take it down:         tracecheck down {name}\n");
    text
}

/// The command that runs scenarios through it.
fn how_to_run(standing: &Standing) -> Option<String> {
    let entry = standing.entry_url()?;
    let mut command = format!("tracecheck run SCENARIO… --attach --entry {entry}");
    let options =
        BTreeMap::from([("--otlp", standing.otlp_url()), ("--intake", standing.intake_url())]);
    for (option, url) in options {
        command += &url.map_or_else(String::new, |url| format!(" {option} {url}"));
    }
    Some(command)
}
