//! Systems that stay up while somebody works on them.
//!
//! Each has a *keeper*: a process that brings it up, holds what must be held (child processes, port-forwards), and takes it down
//! when it is asked to, or when its time is over. What others have to know of it stands in a folder, [`StandingPlace`]: who keeps it is
//! shown by a lock that ends with the keeper, so that no process id of the past is ever taken for it. What a keeper that was
//! killed left behind is for `tracecheck reap`.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    environment::{Endpoints, Environment, EnvironmentError},
    system::{Role, System, parts::COLLECTOR},
};

mod health;
mod place;

pub use self::{
    health::{Health, health},
    place::{PlaceError, Placed, StandingPlace, all},
};

/// How often the keeper looks whether a workload ended by itself.
const LOOK: Duration = Duration::from_millis(500);

/// State of a standing system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// The keeper's process.
    pub keeper: u32,
    /// The run's id, by which what it made is labelled.
    pub run: String,
    /// The environment's name.
    pub environment: String,
    /// Time at which the system was ready, RFC 3339.
    pub since: String,
    /// Time at which the keeper takes the system down, RFC 3339.
    pub until: String,
    /// The workload that requests are sent to.
    pub entry: String,
    /// By name.
    pub workloads: BTreeMap<String, Part>,
}

/// One workload of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `intake`, `collector` or `service`.
    pub role: String,
    /// Its processes, containers or pods.
    pub instances: Vec<Instance>,
    /// Manner of its end, if it ended without being asked to.
    pub ended: Option<String>,
}

/// One process, container or pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// `host:port` by port name.
    pub ports: BTreeMap<String, String>,
    /// The URL that answers 2xx while it can be used, where it has one.
    pub health: Option<String>,
}

impl Standing {
    /// Returns the base URL of a workload's port on its first instance; `None` if the system has no such workload or
    /// port.
    pub fn url(&self, workload: &str, port: &str) -> Option<String> {
        let address = self.workloads.get(workload)?.instances.first()?.ports.get(port)?;
        Some(if address.contains("://") { address.clone() } else { format!("http://{address}") })
    }

    /// Returns the base URL to send requests to.
    pub fn entry_url(&self) -> Option<String> {
        self.url(&self.entry, "http")
    }

    /// Returns the base URL of the collector's OTLP/gRPC port.
    pub fn otlp_url(&self) -> Option<String> {
        self.url(COLLECTOR, "otlp-grpc")
    }

    /// Returns the base URL of the mock intake.
    pub fn intake_url(&self) -> Option<String> {
        let is_intake = |part: &&Part| part.role == role(Role::Intake);
        let (name, _) = self.workloads.iter().find(|(_, part)| is_intake(part))?;
        self.url(name, "http")
    }

    fn of(what: &What, system: &System, endpoints: &Endpoints) -> Self {
        let now = SystemTime::now();
        let at = |time| humantime::format_rfc3339_seconds(time).to_string();
        let part = |name: &String| {
            let workload = &endpoints.workloads[name];
            let health = system.workload(name).and_then(|workload| workload.health.as_ref());
            let instances = workload.instances.iter().map(|instance| {
                let health = health.and_then(|health| {
                    let address = instance.ports.get(&health.port)?;
                    let base = if address.contains("://") { "" } else { "http://" };
                    Some(format!("{base}{address}{}", health.path))
                });
                Instance { name: instance.name.clone(), ports: instance.ports.clone(), health }
            });
            let instances = instances.collect();
            Part { role: role(workload.role).to_owned(), instances, ended: None }
        };
        let parts = endpoints.workloads.keys().map(|name| (name.clone(), part(name)));
        Self {
            name: what.name.clone(),
            keeper: std::process::id(),
            run: what.run.clone(),
            environment: what.environment.clone(),
            since: at(now),
            until: at(now + what.time),
            entry: system.entry.clone(),
            workloads: parts.collect(),
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Intake => "intake",
        Role::Collector => "collector",
        Role::Service => "service",
        Role::Tap => "tap",
    }
}

/// The system to keep, and for how long.
#[derive(Debug, Clone)]
pub struct What {
    /// The system's name.
    pub name: String,
    /// The run's id.
    pub run: String,
    /// The environment's name.
    pub environment: String,
    /// After this time it is taken down.
    pub time: Duration,
}

/// Error for a system that cannot be kept, or was not taken down cleanly.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The environment did not do what was asked.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The state that others read cannot be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Starts a system, registers it in `place`, and keeps it until `stop` or the end of its time, then takes it down.
/// `ready` is called once, when the whole system can be used.
///
/// # Errors
///
/// If the system does not start (nothing is left of it then), cannot be registered, or is not taken down cleanly.
pub async fn keep(
    what: &What,
    system: &System,
    environment: &mut dyn Environment,
    place: &Placed,
    stop: &CancellationToken,
    ready: impl FnOnce(&Standing),
) -> Result<(), KeepError> {
    let kept = until_stopped(what, system, environment, place, stop, ready).await;
    let down = environment.down().await;
    // The first thing that went wrong is what is reported.
    kept.and(down.map_err(KeepError::from))?;
    Ok(place.report_end("")?)
}

async fn until_stopped(
    what: &What,
    system: &System,
    environment: &mut dyn Environment,
    place: &Placed,
    stop: &CancellationToken,
    ready: impl FnOnce(&Standing),
) -> Result<(), KeepError> {
    let endpoints = tokio::select! {
        endpoints = environment.up(system) => endpoints?,
        () = stop.cancelled() => return Ok(()),
    };
    let mut standing = Standing::of(what, system, &endpoints);
    place.report(&standing)?;
    ready(&standing);
    let end = Instant::now() + what.time;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = time::sleep_until(end) => return Ok(()),
            () = time::sleep(LOOK) => {}
        }
        let exits = environment.unexpected_exits().await;
        for exit in &exits {
            tracing::warn!(workload = exit.workload, status = exit.status, "ended by itself");
            if let Some(part) = standing.workloads.get_mut(&exit.workload) {
                part.ended = Some(exit.status.clone());
            }
        }
        if !exits.is_empty() {
            place.report(&standing)?;
        }
    }
}
