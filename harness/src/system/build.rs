//! Builds the system that a scenario chooses.

use std::{collections::BTreeMap, path::PathBuf};

use super::{System, chain, collector_overlay::CollectorConfig, file, parts::Collector};
use crate::{
    scenario::{Chain, SystemChoice},
    secret::Secret,
    source::Finding,
};

/// Why a system cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something is wrong in its files or parameters, each with its place.
    #[error("{}", .0.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Finding>),
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The system of a choice, with a new API key of its own. `collector_command` is another collector's program and arguments, to
/// take the built-in one's place.
///
/// # Errors
///
/// All that is wrong with it.
pub fn system(
    choice: &SystemChoice,
    collector_command: Option<&str>,
) -> Result<System, BuildError> {
    let api_key = Secret::new(format!("{:032x}", rand::random::<u128>()));
    match choice {
        SystemChoice::Chain(chain) => built_in(chain, collector_command, api_key),
        SystemChoice::File(path) => {
            let file = file::load(path).map_err(BuildError::Invalid)?;
            file.system(&api_key).map_err(BuildError::Invalid)
        }
    }
}

fn built_in(
    choice: &Chain,
    collector_command: Option<&str>,
    api_key: Secret,
) -> Result<System, BuildError> {
    let mut collector = Collector::default();
    if let Some(path) = &choice.collector_config {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BuildError::Unreadable { path: path.clone(), source })?;
        collector.config = CollectorConfig { file: path.display().to_string(), text };
    }
    let words = collector_command.into_iter().flat_map(str::split_whitespace);
    collector.command = words.map(str::to_owned).collect();
    let mut app_env: BTreeMap<_, _> = choice.env.clone();
    let env = app_env.remove("all").unwrap_or_default();
    let chain = chain::Chain {
        length: choice.apps as usize,
        naming: choice.services,
        protocol: choice.protocol,
        env,
        app_env,
        collector,
        ..chain::Chain::new(api_key)
    };
    chain.system().map_err(BuildError::Invalid)
}
