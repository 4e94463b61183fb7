//! Which system is meant by commands that run no scenario.

use std::path::{Path, PathBuf};

use anyhow::bail;
use harness::scenario::{Chain, SystemChoice, load};

/// The system of a scenario's file, or the built-in chain of two; with this config of its collector.
pub(super) fn system_of(
    scenario: Option<&Path>,
    collector_config: Option<&Path>,
) -> anyhow::Result<SystemChoice> {
    let mut choice = match scenario {
        None => SystemChoice::Chain(Chain::default()),
        Some(path) => {
            let mut scenarios = load::load(&[path.to_owned()])?;
            let Some(scenario) = scenarios.pop().filter(|_| scenarios.is_empty()) else {
                bail!("{}: name one scenario's file, since its system is meant", path.display());
            };
            scenario.system
        }
    };
    if let (SystemChoice::Chain(chain), Some(config)) = (&mut choice, collector_config) {
        chain.collector_config = Some(PathBuf::from(config));
    }
    Ok(choice)
}
