//! Environments that a system runs in: one trait, one backend per environment.
//!
//! After `up`, nothing downstream knows which backend it is on; it sees [`Endpoints`].

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;

use harness_system::{Problem, Role, System};

pub mod attached;
#[cfg(any(feature = "docker", feature = "kubernetes"))]
mod container;
#[cfg(feature = "docker")]
pub mod docker;
#[cfg(feature = "image")]
pub mod image;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod log;
pub mod outside_intake;
pub mod proc;
pub mod process;

/// A place where a system can run. One value runs one system at a time.
#[async_trait]
pub trait Environment: Send + Sync {
    /// Starts every workload and returns once each one is ready. When it fails, or is given up half way (its future is
    /// dropped), everything it made is gone again after `down`.
    async fn up(&mut self, system: &System) -> Result<Endpoints, EnvironmentError>;
    /// Starts a workload that was stopped, at the same addresses, and waits until it is ready.
    async fn start(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Stops a workload gracefully (SIGTERM, then SIGKILL after a grace period) and waits until it is gone.
    async fn stop(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Stops several workloads, all at once where the environment can; each as [`Environment::stop`] does.
    async fn stop_all(&mut self, workloads: &[String]) -> Result<(), EnvironmentError> {
        let mut unclean = Vec::new();
        for workload in workloads {
            match self.stop(workload).await {
                Err(EnvironmentError::UncleanStop(more)) => unclean.extend(more),
                stopped => stopped?,
            }
        }
        if unclean.is_empty() { Ok(()) } else { Err(EnvironmentError::UncleanStop(unclean)) }
    }
    /// Stops and starts a workload.
    async fn restart(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.stop(workload).await?;
        self.start(workload).await
    }
    /// Ends a workload at once (SIGKILL), so that it loses what it has not sent. Where something brings it back by itself, it
    /// may be coming already; [`Environment::start`] waits until it is there.
    async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Sets how many instances of a workload there are, and waits until there are so many, each ready. None at all is a
    /// workload that others find, but that nobody serves.
    async fn scale(&mut self, workload: &str, instances: u32) -> Result<(), EnvironmentError>;
    /// Freezes a workload: it keeps its connections and answers nothing.
    async fn pause(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Resumes a paused workload.
    async fn resume(&mut self, workload: &str) -> Result<(), EnvironmentError>;
    /// Returns the workloads that ended without being stopped, each once.
    async fn unexpected_exits(&mut self) -> Vec<UnexpectedExit>;
    /// Returns whether the system was there before: then it is not stopped, and others may send requests to it.
    fn is_attached(&self) -> bool {
        false
    }
    /// Returns the time limit for the system's collector to send to the intake, if it may first have to be configured to do so.
    fn pointing(&self) -> Option<Duration> {
        None
    }
    /// Returns the disturbances between the harness and the system so far, though the system went on: each time that the connection to a workload
    /// broke. A request that got no answer then says nothing about the system.
    async fn disturbances(&self) -> Vec<String> {
        Vec::new()
    }
    /// Returns the last lines of a workload's log.
    async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String>;
    /// Returns those of the last lines of a workload's log that `is_meant`, each with the time when it was read.
    async fn logged(&self, workload: &str, is_meant: LineTest) -> Vec<(SystemTime, String)>;
    /// Writes every workload's log into `dir` as `<workload>.log`.
    async fn collect_logs(&self, dir: &Path) -> Result<(), EnvironmentError>;
    /// Stops services first, then collectors, then the intake, and removes all that `up` created. Safe to call
    /// twice, or after `up` failed.
    async fn down(&mut self) -> Result<(), EnvironmentError>;
}

/// Chooses lines of a log.
pub type LineTest = for<'a> fn(&'a str) -> bool;

/// A workload that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnexpectedExit {
    /// Name of the workload.
    pub workload: String,
    /// Exit status or signal, for example `exit status: 101`.
    pub status: String,
    /// The end of its log.
    pub log_tail: Vec<String>,
}

/// Refuses a system with a workload of several instances, for environments in which an address is one program's.
pub(crate) fn refuse_instances(
    environment: &'static str,
    system: &System,
) -> Result<(), EnvironmentError> {
    let Some(workload) = system.workloads.iter().find(|workload| workload.is_replicated()) else {
        return Ok(());
    };
    Err(EnvironmentError::Unsupported {
        environment,
        verb: "run several instances of",
        workload: workload.name.clone(),
        reason: "only one program can use an address there; use `--env kind` or `--env cluster`"
            .to_owned(),
    })
}

/// Addresses of all workloads, as the harness reaches them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// By workload name.
    pub workloads: BTreeMap<String, WorkloadEndpoints>,
}

/// The addresses of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadEndpoints {
    /// Role of the workload in the system.
    pub role: Role,
    /// At least one.
    pub instances: Vec<InstanceEndpoints>,
}

/// The addresses of one instance (process, container or pod) of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceEndpoints {
    /// Name of the process, container or pod.
    pub name: String,
    /// `host:port` by port name; or a base URL, where a port is reached by more than that.
    pub ports: BTreeMap<String, String>,
}

impl InstanceEndpoints {
    /// Returns the base URL of a port; `None` if the instance has no such port.
    pub fn url(&self, port: &str) -> Option<String> {
        let address = self.ports.get(port)?;
        let is_url = address.contains("://");
        Some(if is_url { address.to_owned() } else { format!("http://{address}") })
    }
}

impl Endpoints {
    /// Returns the address, `host:port`, of a port on a workload's first instance.
    pub fn address(&self, workload: &str, port: &str) -> Option<&str> {
        let instance = self.workloads.get(workload)?.instances.first()?;
        instance.ports.get(port).map(String::as_str)
    }

    /// Returns the base URL of a port on a workload's first instance.
    pub fn url(&self, workload: &str, port: &str) -> Option<String> {
        self.workloads.get(workload)?.instances.first()?.url(port)
    }

    /// Returns the base URL of a port on each instance that has it.
    pub fn urls(&self, workload: &str, port: &str) -> Vec<String> {
        let instances = self.workloads.get(workload).map(|workload| workload.instances.as_slice());
        instances.unwrap_or_default().iter().filter_map(|instance| instance.url(port)).collect()
    }
}

/// Error of an environment: the causes that backends share, and those of one backend as it has them.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The backend has no such verb for this workload; the scenario is inconclusive there.
    #[error("the `{environment}` environment cannot {verb} `{workload}`: {reason}")]
    Unsupported {
        /// Backend's name.
        environment: &'static str,
        /// `pause`, `stop`, …
        verb: &'static str,
        /// Name of the workload.
        workload: String,
        /// The reason, and what to do instead.
        reason: String,
    },
    /// The engine or cluster behind the environment is not available.
    #[error("the `{environment}` environment cannot be used: {reason}; {remedy}")]
    Unavailable {
        /// Backend's name.
        environment: &'static str,
        /// The problem: something is missing, or does not respond.
        reason: String,
        /// Remedy.
        remedy: String,
    },
    /// The engine or cluster behind the environment refused a request.
    #[error("the `{environment}` environment cannot {what}: {reason}")]
    Backend {
        /// Backend's name.
        environment: &'static str,
        /// For example ``create the network `tracecheck-590bc6e5-0` ``.
        what: String,
        /// Its message.
        reason: String,
    },
    /// No workload of that name.
    #[error("there is no workload `{workload}` in the system: it has {known}")]
    UnknownWorkload {
        /// Workload as requested.
        workload: String,
        /// The names there are.
        known: String,
    },
    /// The system cannot be brought up as it is described.
    #[error("the system is invalid:{}", lines(.0))]
    InvalidSystem(Vec<Problem>),
    /// `up` was called while a system is up.
    #[error("a system is up already; take it down first")]
    AlreadyUp,
    /// A program ended before it was ready.
    #[error(
        "`{workload}` ended while it started ({status}); its last log lines:{}",
        lines(log_tail)
    )]
    DiedAtStart {
        /// Name of the workload.
        workload: String,
        /// For example `exit status: 1`.
        status: String,
        /// The end of its log.
        log_tail: Vec<String>,
    },
    /// A program was not ready in time; it has been killed.
    #[error(
        "`{workload}` was not ready within {limit:?}: {waited_for}; where it only needs longer, give it more by `start_limit` of `{workload}` in the system file, or `--start-limit`; its last log lines:{}",
        lines(log_tail)
    )]
    NotReady {
        /// Name of the workload.
        workload: String,
        /// Time limit.
        limit: Duration,
        /// The condition that did not come true.
        waited_for: String,
        /// The end of its log.
        log_tail: Vec<String>,
    },
    /// Another program uses the port.
    #[error(
        "`{workload}` cannot bind {addresses}: in use by another program, also after {attempts} attempts; \
         free the port; its last log lines:{}",
        lines(log_tail)
    )]
    PortTaken {
        /// Name of the workload.
        workload: String,
        /// The addresses that it was last given, or what it was to choose itself.
        addresses: String,
        /// Number of attempts.
        attempts: u32,
        /// The end of its log.
        log_tail: Vec<String>,
    },
    /// A file or port of the run itself.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        /// For example `write`.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No free port could be reserved.
    #[error("cannot reserve a free port on 127.0.0.1 for `{workload}`: {source}")]
    NoFreePort {
        /// Name of the workload.
        workload: String,
        /// The cause.
        source: io::Error,
    },
    /// A reference to something that does not exist; [`System::problems`] reports it beforehand.
    #[error("`{workload}`: cannot replace {reference}")]
    Unresolved {
        /// Name of the workload.
        workload: String,
        /// The reference, or what is wrong with it.
        reference: String,
    },
    /// The client that asks for health could not be made.
    #[error("cannot make an HTTP client: {0}")]
    HttpClient(reqwest::Error),
    /// The runtime went away while workloads were starting.
    #[error("starting was interrupted: the runtime is shutting down")]
    Interrupted,
    /// Everything asked to stop is gone, but not all of it stopped cleanly: something may be lost.
    #[error("not every workload ended cleanly:{}", lines(.0))]
    UncleanStop(Vec<UncleanStop>),
    /// A cause that only processes of this machine have.
    #[error(transparent)]
    Process(#[from] process::ProcessError),
    /// A cause that only clusters have.
    #[cfg(feature = "kubernetes")]
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::KubernetesError),
}

/// A workload that did not end as it should when it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncleanStop {
    /// Name of the workload.
    pub workload: String,
    /// Manner of the end, for example `exit status: 1` or `killed, since it was still running after 10s`.
    pub how: String,
    /// The end of its log.
    pub log_tail: Vec<String>,
    /// Whether the system declares this end as expected; it is reported then, and makes nothing inconclusive.
    pub foreseen: bool,
}

impl EnvironmentError {
    /// Returns descriptions of the unclean stops, if the system declares all of them as expected.
    ///
    /// # Errors
    ///
    /// The unclean stops that are not declared as expected, or any other error unchanged.
    pub fn foreseen(self) -> Result<Vec<String>, Self> {
        let Self::UncleanStop(stops) = self else { return Err(self) };
        let (foreseen, rest): (Vec<_>, Vec<_>) = stops.into_iter().partition(|stop| stop.foreseen);
        let reported = foreseen.iter().map(|stop| format!("`{}` was {}", stop.workload, stop.how));
        if rest.is_empty() { Ok(reported.collect()) } else { Err(Self::UncleanStop(rest)) }
    }
}

impl fmt::Display for UncleanStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}; its last log lines:{}", self.workload, self.how, lines(&self.log_tail))
    }
}

/// Says of a health route how it answers, and, where it is none, which key names it.
fn unhealthy(url: &str, status: reqwest::StatusCode) -> String {
    let remedy = match status.as_u16() {
        300..500 => {
            ", and 2xx is waited for: name a route that answers so by `health: { port: …, path: … }` of its workload, or leave `health` out, and only connections are waited for"
        }
        _ => "",
    };
    format!("{url} answers {status}{remedy}")
}

/// Each on a line of its own, indented.
fn lines<T: fmt::Display>(lines: &[T]) -> String {
    if lines.is_empty() {
        return " none".to_owned();
    }
    let indented = |line: &T| format!("\n  {}", line.to_string().replace('\n', "\n  "));
    lines.iter().map(indented).collect()
}
