//! Where a system runs: one trait, one backend per place.
//!
//! After `up`, nothing downstream knows which backend it is on; it sees [`Endpoints`].

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;

use crate::system::{Role, System};

/// A place where a system can run. One value runs one system at a time.
#[async_trait]
pub trait Environment: Send + Sync {
    /// Starts every workload and returns once each one is ready. On failure everything it made is gone again
    /// after `down`.
    async fn up(&mut self, system: &System) -> Result<Endpoints, EnvironmentError>;
    /// Starts a workload that was stopped, at the same addresses, and waits until it is ready.
    async fn start(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Stops a workload gracefully (SIGTERM, then SIGKILL after a grace period) and waits until it is gone.
    async fn stop(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Stops and starts a workload.
    async fn restart(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.stop(workload).await?;
        self.start(workload).await
    }
    /// Freezes a workload: it keeps its connections and answers nothing.
    async fn pause(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Lets a paused workload go on.
    async fn resume(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Workloads that ended though nobody stopped them, each told once.
    async fn unexpected_exits(&mut self) -> Vec<UnexpectedExit>;
    /// Last lines that a workload logged.
    async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String>;
    /// Writes every workload's log into `dir` as `<workload>.log`.
    async fn collect_logs(&self, dir: &Path) -> Result<(), EnvironmentError>;
    /// Stops services first, then collectors, then the intake, and removes all that `up` created. Safe to call
    /// twice, or after `up` failed.
    async fn down(&mut self) -> Result<(), EnvironmentError>;
}

/// A workload that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnexpectedExit {
    /// Which one.
    pub workload: String,
    /// How, for example `exit status: 101`.
    pub status: String,
    /// The end of its log.
    pub log_tail: Vec<String>,
}

/// Where everything can be reached from the harness.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// By workload name.
    pub workloads: BTreeMap<String, WorkloadEndpoints>,
}

/// The addresses of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadEndpoints {
    /// As in the system.
    pub role: Role,
    /// At least one.
    pub instances: Vec<InstanceEndpoints>,
}

/// The addresses of one instance (process, container or pod) of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceEndpoints {
    /// Name of the process, container or pod.
    pub name: String,
    /// `host:port` by port name.
    pub ports: BTreeMap<String, String>,
}

impl Endpoints {
    /// `host:port` of a workload's first instance.
    pub fn address(&self, workload: &str, port: &str) -> Option<&str> {
        let instance = self.workloads.get(workload)?.instances.first()?;
        instance.ports.get(port).map(String::as_str)
    }

    /// `http://host:port` of a workload's first instance.
    pub fn url(&self, workload: &str, port: &str) -> Option<String> {
        self.address(workload, port).map(|address| format!("http://{address}"))
    }
}

/// Why an environment did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The backend has no such verb for this workload; the scenario is inconclusive there.
    #[error("the `{environment}` environment cannot {verb} `{workload}`: {reason}")]
    Unsupported {
        /// Backend's name.
        environment: &'static str,
        /// `pause`, `stop`, …
        verb: &'static str,
        /// Which workload.
        workload: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// No workload of that name.
    #[error("there is no workload `{workload}` in the system: it has {known}")]
    UnknownWorkload {
        /// As asked for.
        workload: String,
        /// The names there are.
        known: String,
    },
}
