//! Finds what runs that could not clean up left behind.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    LOOPBACK,
    engine::Engine,
    labels::{CREATED, OWNER, RUN, SYSTEM, owner_lives},
};
use crate::EnvironmentError;

/// A system on the engine, with the run that created it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The run's id and the number of the system in it.
    pub system: String,
    /// The run's id.
    pub run: String,
    /// Whether the process that made it still runs; `None` where that cannot be determined from here.
    pub owner_lives: Option<bool>,
    /// Time since the system was created.
    pub age: Duration,
    /// Number of its containers.
    pub containers: usize,
}

/// Lists all systems of tracecheck on the engine.
///
/// # Errors
/// When the engine cannot be asked.
pub async fn leftovers() -> Result<Vec<Leftover>, EnvironmentError> {
    let all = Engine::connect(LOOPBACK).await?.labelled(OWNER).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut found: BTreeMap<String, Leftover> = BTreeMap::new();
    let containers = all.containers.iter().map(|(_, labels)| (labels, 1));
    let others = all.networks.iter().chain(&all.volumes).map(|(_, labels)| (labels, 0));
    for (labels, count) in containers.chain(others) {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let created = Duration::from_secs(label(CREATED).parse().unwrap_or_default());
        let age = now.saturating_sub(created);
        let system = label(SYSTEM);
        let leftover = found.entry(system.clone()).or_insert_with(|| Leftover {
            system,
            run: label(RUN),
            owner_lives: owner_lives(&label(OWNER)),
            age,
            containers: 0,
        });
        leftover.age = leftover.age.max(age);
        leftover.containers += count;
    }
    Ok(found.into_values().collect())
}

/// Removes systems with everything that belongs to them, immediately.
///
/// # Errors
/// What could not be removed.
pub async fn remove(leftovers: &[Leftover]) -> Result<(), EnvironmentError> {
    let engine = Engine::connect(LOOPBACK).await?;
    let mut outcome = Ok(());
    for leftover in leftovers {
        let removed = engine.remove_labelled(SYSTEM, &leftover.system).await;
        outcome = outcome.and(removed);
    }
    outcome
}
