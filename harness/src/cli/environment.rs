//! `--env`: where systems run. Each environment is made by one small function here.

use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use harness::{
    environment::process::{self, ProcessEnvironment},
    run::NewEnvironment,
};

/// How long the folder of a run that crashed is left alone.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// Where systems run.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Where the systems run.
    #[arg(long, value_enum, default_value_t = Kind::Process)]
    env: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Child processes of this program on free ports.
    Process,
}

/// An environment that was chosen.
pub(super) struct Chosen {
    /// Its name, for people.
    pub(super) name: &'static str,
    /// Makes one for each system.
    pub(super) new: NewEnvironment,
}

impl Args {
    /// Sets the environment up, and starts nothing.
    pub(super) fn choose(&self) -> anyhow::Result<Chosen> {
        match self.env {
            Kind::Process => process(),
        }
    }

    /// Removes what runs that crashed left in it.
    pub(super) fn remove_leftovers(&self) {
        match self.env {
            Kind::Process => {
                process::remove_leftovers(&std::env::temp_dir(), LEFTOVER_AGE);
            }
        }
    }
}

fn process() -> anyhow::Result<Chosen> {
    let program = std::env::current_exe().context("this program does not know its own path")?;
    let new: NewEnvironment =
        Box::new(move || Ok(Box::new(ProcessEnvironment::builder(&program).build()?)));
    Ok(Chosen { name: "process", new })
}
