//! Which system is meant by commands that run no scenario.

use std::path::{Path, PathBuf};

use anyhow::bail;
use harness::{
    load,
    scenario::{ChainChoice, SystemChoice},
};

/// Refuses `--traces-only` beside the image of another collector, which may not know it.
pub(super) fn check_traces_only(traces_only: bool, has_image: bool) -> anyhow::Result<()> {
    if traces_only && has_image {
        bail!(
            "--traces-only is the built-in collector's, and --collector-image names another one; leave out of that one's config what it cannot read"
        );
    }
    Ok(())
}

/// The system of a scenario's file, that of a system file, or the built-in chain of two; with this config of its collector.
pub(super) fn system_of(
    scenario: Option<&Path>,
    collector_config: Option<&Path>,
) -> anyhow::Result<SystemChoice> {
    let mut choice = match scenario {
        None => SystemChoice::Chain(ChainChoice::default()),
        Some(path) => {
            let load::Loaded { mut scenarios, mut systems } = load::check(&[path.to_owned()])?;
            match (scenarios.pop(), systems.pop()) {
                (Some(scenario), None) if scenarios.is_empty() => scenario.system,
                (None, Some(system)) if systems.is_empty() => SystemChoice::File(system),
                _ => bail!(
                    "{}: name one system file, or the file of one scenario that uses the system",
                    path.display()
                ),
            }
        }
    };
    if let (SystemChoice::Chain(chain), Some(config)) = (&mut choice, collector_config) {
        chain.collector_config = Some(PathBuf::from(config));
    }
    Ok(choice)
}
