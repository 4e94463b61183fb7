//! A system that is there already: nothing of it is started or stopped, requests go to its entry, and its collector's exporter
//! points at the mock intake, or at Datadog.
//!
//! All that may be started is the intake, by another environment. Others may use the system meanwhile, so the evidence is nobody's
//! alone. What acts on workloads is not supported.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::{
    net::TcpStream,
    time::{self, Instant},
};

use super::{
    Endpoints, Environment, EnvironmentError, InstanceEndpoints, LineTest, UnexpectedExit,
    WorkloadEndpoints,
};
use harness_system::{Role, System, parts::COLLECTOR};

/// Its name.
pub(super) const NAME: &str = "attached";

/// How long what is attached to may refuse connections: one that is restarted does so for a moment.
const LISTENING_LIMIT: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Addresses of a system that already runs.
pub struct Attached {
    /// Base URL of the entry.
    pub entry: String,
    /// Base URL of the collector's OTLP/gRPC port, where the harness reaches it; its own spans are virtual parents elsewhere.
    pub otlp: Option<String>,
    /// Source of the intake.
    pub intake: IntakeSource,
    /// Time limit for the collector to send to the intake, where it may first have to be configured to do so.
    pub pointing: Option<Duration>,
}

/// Source of an attached system's intake.
pub enum IntakeSource {
    /// There is none: the collector sends to Datadog.
    None,
    /// The intake is up already, at this base URL.
    Running(String),
    /// The intake is started, alone, in this environment.
    BroughtUp(Box<dyn Environment>),
}

/// The environment of a system that is there already.
pub struct AttachedEnvironment {
    at: Attached,
}

impl AttachedEnvironment {
    /// Creates an environment for systems that already run, without contacting them.
    pub fn new(at: Attached) -> Self {
        Self { at }
    }

    fn inner(&mut self) -> Option<&mut (dyn Environment + 'static)> {
        match &mut self.at.intake {
            IntakeSource::BroughtUp(environment) => Some(environment.as_mut()),
            IntakeSource::None | IntakeSource::Running(_) => None,
        }
    }
}

fn unsupported(verb: &'static str, workload: &str) -> EnvironmentError {
    EnvironmentError::Unsupported {
        environment: NAME,
        verb,
        workload: workload.to_owned(),
        reason: "the system was there before the run, and is left as it is".to_owned(),
    }
}

/// Waits until somebody takes connections at a base URL, for a moment. Only a refusal says that nobody does; all else is for the requests
/// themselves to find.
async fn listens(url: &str, option: &str, start: &str) -> Result<(), EnvironmentError> {
    let Some(address) = reqwest::Url::parse(url).ok().and_then(|url| {
        Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
    }) else {
        return Ok(());
    };
    let deadline = Instant::now() + LISTENING_LIMIT;
    loop {
        let connecting = TcpStream::connect((address.0.as_str(), address.1));
        match time::timeout_at(deadline, connecting).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            _ => return Ok(()),
        }
        if Instant::now() + POLL_INTERVAL >= deadline {
            return Err(EnvironmentError::Unavailable {
                environment: NAME,
                reason: format!("nothing listens at {url} (`--{option}`)"),
                remedy: format!("{start}, or correct the address"),
            });
        }
        time::sleep(POLL_INTERVAL).await;
    }
}

fn at(role: Role, name: &str, port: &str, url: &str) -> WorkloadEndpoints {
    let ports = BTreeMap::from([(port.to_owned(), url.to_owned())]);
    let instance = InstanceEndpoints { name: name.to_owned(), ports };
    WorkloadEndpoints { role, instances: vec![instance] }
}

#[async_trait]
impl Environment for AttachedEnvironment {
    async fn up(&mut self, system: &System) -> Result<Endpoints, EnvironmentError> {
        let running = match &self.at.intake {
            IntakeSource::Running(url) => Some(url.as_str()),
            IntakeSource::None | IntakeSource::BroughtUp(_) => None,
        };
        let otlp = self.at.otlp.as_deref();
        let wanted = [
            (Some(self.at.entry.as_str()), "entry", "start the system"),
            (otlp, "otlp", "start its collector, or leave the option out"),
            (running, "intake", "start `tracecheck intake`"),
        ];
        for (url, option, start) in wanted {
            if let Some(url) = url {
                listens(url, option, start).await?;
            }
        }
        let mut endpoints = Endpoints::default();
        let intake = system.workloads.iter().find(|workload| workload.role == Role::Intake);
        if let Some(intake) = intake {
            match &mut self.at.intake {
                IntakeSource::None => {}
                IntakeSource::Running(url) => {
                    let intake = (intake.name.clone(), at(Role::Intake, &intake.name, "http", url));
                    endpoints.workloads.extend([intake]);
                }
                IntakeSource::BroughtUp(environment) => {
                    let alone = System {
                        workloads: vec![intake.clone()],
                        entry: intake.name.clone(),
                        own_traces: Vec::new(),
                    };
                    endpoints = environment.up(&alone).await?;
                }
            }
        }
        let entry = at(Role::Service, &system.entry, "http", &self.at.entry);
        endpoints.workloads.insert(system.entry.clone(), entry);
        if let Some(otlp) = &self.at.otlp {
            let collector = at(Role::Collector, COLLECTOR, "otlp-grpc", otlp);
            endpoints.workloads.insert(COLLECTOR.to_owned(), collector);
        }
        Ok(endpoints)
    }

    async fn start(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        Err(unsupported("start", workload))
    }

    async fn stop(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        Err(unsupported("stop", workload))
    }

    async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        Err(unsupported("kill", workload))
    }

    async fn scale(&mut self, workload: &str, _instances: u32) -> Result<(), EnvironmentError> {
        Err(unsupported("scale", workload))
    }

    async fn pause(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        Err(unsupported("pause", workload))
    }

    async fn resume(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        Err(unsupported("resume", workload))
    }

    async fn unexpected_exits(&mut self) -> Vec<UnexpectedExit> {
        match self.inner() {
            Some(inner) => inner.unexpected_exits().await,
            None => Vec::new(),
        }
    }

    fn is_attached(&self) -> bool {
        true
    }

    fn pointing(&self) -> Option<Duration> {
        self.at.pointing
    }

    async fn disturbances(&self) -> Vec<String> {
        match &self.at.intake {
            IntakeSource::BroughtUp(environment) => environment.disturbances().await,
            IntakeSource::None | IntakeSource::Running(_) => Vec::new(),
        }
    }

    async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        match &self.at.intake {
            IntakeSource::BroughtUp(environment) => environment.log_tail(workload, lines).await,
            IntakeSource::None | IntakeSource::Running(_) => Vec::new(),
        }
    }

    async fn logged(&self, workload: &str, is_meant: LineTest) -> Vec<(SystemTime, String)> {
        match &self.at.intake {
            IntakeSource::BroughtUp(environment) => environment.logged(workload, is_meant).await,
            IntakeSource::None | IntakeSource::Running(_) => Vec::new(),
        }
    }

    async fn collect_logs(&self, dir: &Path) -> Result<(), EnvironmentError> {
        match &self.at.intake {
            IntakeSource::BroughtUp(environment) => environment.collect_logs(dir).await,
            IntakeSource::None | IntakeSource::Running(_) => Ok(()),
        }
    }

    async fn down(&mut self) -> Result<(), EnvironmentError> {
        match self.inner() {
            Some(inner) => inner.down().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_at_which_nothing_listens_is_named_with_its_option() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        listens(&url, "entry", "start the system").await.unwrap();
        drop(listener);
        let error = listens(&url, "entry", "start the system").await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "the `attached` environment cannot be used: nothing listens at {url} (`--entry`); start the system, or correct the address"
            )
        );
    }
}
