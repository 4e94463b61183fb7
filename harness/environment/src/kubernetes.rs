//! Workloads as Deployments of a Kubernetes cluster, in a namespace of their own, reached over port-forwards.
//!
//! Everything is made in one namespace that this environment created, and nothing outside of it is ever changed. What is
//! known of pods comes from watches, so that asking costs nothing; their logs are followed while they run, since they go
//! with the pods. Making clusters is left to `kind`, and judging to others.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::time::Instant;

use self::{deployed::Deployed, operator::Operator};
use super::{
    Endpoints, Environment, EnvironmentError, LineTest, UnexpectedExit,
    container::{self, Choices, Container},
};
use harness_system::{Role, System, reference};
use kube::Client;

mod apply;
pub mod canary;
pub mod cluster;
mod deployed;
mod diagnose;
pub mod eks;
mod error;
mod evidence;
mod exec;
mod forward;
pub mod kind;
pub mod leftovers;
mod logs;
pub mod manifests;
mod names;
pub mod operator;
mod pods;
pub mod service;
mod typed;

pub use self::error::KubernetesError;

/// Default time that a system has to get ready: images may have to be pulled, nodes to be added.
pub const START_LIMIT: Duration = Duration::from_secs(120);
/// How long one call of the API may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// After how long anybody may remove a namespace, whoever made it.
const EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of the backend: the cluster, and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// The environment's name for users: `cluster` or `kind`.
    pub environment: &'static str,
    /// The way to the cluster.
    pub client: Client,
    /// The run's id.
    pub run_id: String,
    /// The image of `tracecheck` itself.
    pub image: String,
    /// Images of workloads, by workload.
    pub images: BTreeMap<String, String>,
    /// Time limit for a system to become ready.
    pub start_limit: Duration,
    /// The operator that makes the collector; manifests of our own where `None`.
    pub operator: Option<Operator>,
    /// An image whose entrypoint is the collector.
    pub collector_image: Option<String>,
    /// User that runs that image, by number, where it has a name for it.
    pub collector_user: Option<i64>,
    /// The role on AWS that the collector's account stands for.
    pub role_arn: Option<String>,
}

impl Settings {
    /// Creates settings with the default time limits and options.
    pub fn new(environment: &'static str, client: Client, run_id: &str, image: String) -> Self {
        Self {
            environment,
            client,
            run_id: run_id.to_owned(),
            image,
            images: BTreeMap::new(),
            start_limit: START_LIMIT,
            operator: None,
            collector_image: None,
            collector_user: None,
            role_arn: None,
        }
    }
}

/// The environment of one system in a cluster.
pub struct KubernetesEnvironment {
    settings: Settings,
    namespace: String,
    /// Folder of the logs.
    dir: tempfile::TempDir,
    deployed: Option<Deployed>,
}

impl KubernetesEnvironment {
    /// Creates the environment of a run's system with that number, without contacting the cluster.
    ///
    /// # Errors
    /// If a directory for logs cannot be created.
    pub fn new(settings: Settings, number: usize) -> Result<Self, EnvironmentError> {
        let dir = tempfile::Builder::new().prefix("tracecheck-").tempdir();
        let dir = dir.map_err(|source| EnvironmentError::Io {
            what: "create a directory in",
            path: std::env::temp_dir(),
            source,
        })?;
        let namespace = format!("tracecheck-{}-{number}", settings.run_id);
        Ok(Self { settings, namespace, dir, deployed: None })
    }

    /// Sets the system's namespace, which must not exist.
    #[must_use]
    pub fn in_namespace(mut self, name: &str) -> Self {
        name.clone_into(&mut self.namespace);
        self
    }

    /// Returns the system's namespace, which exists once the system is deployed.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

#[async_trait]
impl Environment for KubernetesEnvironment {
    async fn up(&mut self, system: &System) -> Result<Endpoints, EnvironmentError> {
        if self.deployed.is_some() {
            return Err(EnvironmentError::AlreadyUp);
        }
        let problems = system.problems();
        if !problems.is_empty() {
            return Err(EnvironmentError::InvalidSystem(problems));
        }
        let deadline = Instant::now() + self.settings.start_limit;
        let containers = self.settings.placing().plan(system)?;
        let replicas = replicas(system);
        let settings = self.manifests(replicas.clone());
        let objects = manifests::objects(&containers, &settings);
        let mut calls = calls(system, &containers);
        if self.settings.operator.is_some() {
            look_for_the_collector(&containers, &mut calls);
        }
        let deployed = Deployed::new(
            &self.settings,
            &self.namespace,
            self.dir.path(),
            containers,
            calls,
            &replicas,
        )?;
        // From here on `down` has something to remove.
        let deployed = self.deployed.insert(deployed);
        deployed.apply(&objects).await?;
        deployed.wait_until_ready(None, deadline).await?;
        deployed.wait_until_reached(None, false, deadline).await?;
        deployed.endpoints().await
    }

    async fn start(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let deadline = Instant::now() + self.settings.start_limit;
        let deployed = self.find_mut(workload)?;
        deployed.start(workload, deadline).await
    }

    async fn stop(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let unclean = self.find_mut(workload)?.stop(workload).await?;
        if unclean.is_empty() { Ok(()) } else { Err(EnvironmentError::UncleanStop(unclean)) }
    }

    async fn stop_all(&mut self, workloads: &[String]) -> Result<(), EnvironmentError> {
        for workload in workloads {
            self.find_mut(workload)?;
        }
        let Some(deployed) = &mut self.deployed else { return Ok(()) };
        let unclean = deployed.stop_all(|name, _| workloads.iter().any(|one| one == name)).await?;
        if unclean.is_empty() { Ok(()) } else { Err(EnvironmentError::UncleanStop(unclean)) }
    }

    async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.find_mut(workload)?.kill(workload).await
    }

    async fn scale(&mut self, workload: &str, instances: u32) -> Result<(), EnvironmentError> {
        let deadline = Instant::now() + self.settings.start_limit;
        self.find_mut(workload)?.scale(workload, instances, deadline).await
    }

    async fn pause(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.find_mut(workload)?.freeze(workload, true).await
    }

    async fn resume(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.find_mut(workload)?.freeze(workload, false).await
    }

    async fn unexpected_exits(&mut self) -> Vec<UnexpectedExit> {
        self.deployed.as_mut().map(Deployed::unexpected_exits).unwrap_or_default()
    }

    async fn disturbances(&self) -> Vec<String> {
        self.deployed.as_ref().map(Deployed::disturbances).unwrap_or_default()
    }

    async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        self.deployed
            .as_ref()
            .map(|deployed| deployed.log_tail(workload, lines))
            .unwrap_or_default()
    }

    async fn logged(&self, workload: &str, is_meant: LineTest) -> Vec<(SystemTime, String)> {
        let deployed = self.deployed.as_ref();
        deployed.map(|deployed| deployed.logged(workload, is_meant)).unwrap_or_default()
    }

    async fn collect_logs(&self, dir: &Path) -> Result<(), EnvironmentError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        match &self.deployed {
            Some(deployed) => deployed.collect(dir).await,
            None => Ok(()),
        }
    }

    async fn down(&mut self) -> Result<(), EnvironmentError> {
        let Some(deployed) = &mut self.deployed else { return Ok(()) };
        let mut unclean = Vec::new();
        for role in [Role::Service, Role::Collector, Role::Tap, Role::Intake] {
            match deployed.stop_all(|_, of| of == role).await {
                Ok(more) => unclean.extend(more),
                // What does not answer is removed all the same.
                Err(error) => tracing::warn!(%error, "stopping workloads"),
            }
        }
        deployed.remove().await?;
        self.deployed = None;
        if unclean.is_empty() { Ok(()) } else { Err(EnvironmentError::UncleanStop(unclean)) }
    }
}

impl KubernetesEnvironment {
    /// Returns what the objects of this run have in common.
    fn manifests(&self, replicas: BTreeMap<String, u32>) -> manifests::Settings {
        let expires = humantime::format_rfc3339_seconds(SystemTime::now() + EXPIRY);
        manifests::Settings {
            namespace: self.namespace.clone(),
            run: Some(self.settings.run_id.clone()),
            expires: Some(expires.to_string()),
            image: self.settings.image.clone(),
            replicas,
            role_arn: self.settings.role_arn.clone(),
            collector_user: self.settings.collector_user,
            operator: self.settings.operator.clone(),
        }
    }

    fn find_mut(&mut self, workload: &str) -> Result<&mut Deployed, EnvironmentError> {
        let known = self.deployed.as_ref().map(Deployed::known).unwrap_or_default();
        let workload = workload.to_owned();
        match &mut self.deployed {
            Some(deployed) if deployed.names().any(|name| name == workload) => Ok(deployed),
            _ => Err(EnvironmentError::UnknownWorkload { workload, known }),
        }
    }
}

/// Settings by which a system's workloads become containers of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Placing<'a> {
    /// The environment's name, for messages.
    pub environment: &'static str,
    /// The image of `tracecheck` itself.
    pub image: &'a str,
    /// Images of workloads, by workload.
    pub images: &'a BTreeMap<String, String>,
    /// Whether an operator makes the collector.
    pub operator: bool,
    /// An image whose entrypoint is the collector.
    pub collector_image: Option<&'a str>,
}

impl Placing<'_> {
    /// Plans the pods of a system's workloads, with the collector as it is to be installed.
    ///
    /// # Errors
    /// As for [`plan`], and if the operator's resource cannot express the collector's config.
    pub fn plan(&self, system: &System) -> Result<Vec<Container>, EnvironmentError> {
        let collector = system.workloads.iter().find(|one| one.role == Role::Collector);
        let mut images = self.images.clone();
        if let (Some(collector), Some(image)) = (collector, self.collector_image) {
            images.insert(collector.name.clone(), image.to_owned());
        }
        let Some(collector) = collector else { return plan(system, self.environment, &images) };
        let unfit = |error: operator::config::ConfigError| EnvironmentError::Unsupported {
            environment: self.environment,
            verb: "have the operator make",
            workload: collector.name.clone(),
            reason: error.to_string(),
        };
        let mut fixed = BTreeMap::new();
        if self.operator {
            fixed
                .insert(collector.name.clone(), operator::config::ports(collector).map_err(unfit)?);
        }
        let host = |workload: &str| names::object_name(system, workload);
        let choices = Choices { environment: self.environment, host: &host, images: &images };
        let mut containers = container::plan_with_ports(system, &choices, &fixed)?;
        for container in containers.iter_mut().filter(|one| one.workload == collector.name) {
            // The image's own entrypoint is the collector; elsewhere `tracecheck` is run from it, which is ours.
            let foreign = images.get(&collector.name).is_some_and(|image| image != self.image);
            if foreign && (self.collector_image.is_some() || self.operator) {
                container.entrypoint.clear();
                operator::config::without_ledger(container).map_err(unfit)?;
            }
            if self.operator {
                operator::config::take_over(container).map_err(unfit)?;
            }
        }
        Ok(containers)
    }
}

impl Settings {
    /// How a system's workloads get into this cluster.
    fn placing(&self) -> Placing<'_> {
        Placing {
            environment: self.environment,
            image: &self.image,
            images: &self.images,
            operator: self.operator.is_some(),
            collector_image: self.collector_image.as_deref(),
        }
    }
}

/// Has the intake's pod look whether the collector listens: what the operator makes is called ready long before. Where the intake is
/// not in the cluster, the built-in services look.
fn look_for_the_collector(containers: &[Container], calls: &mut BTreeMap<String, Vec<String>>) {
    let has_intake = containers.iter().any(|one| one.role == Role::Intake);
    let looks = |one: &&Container| match has_intake {
        true => one.role == Role::Intake,
        false => one.role == Role::Service && !one.is_foreign(),
    };
    let Some(collector) = containers.iter().find(|one| one.host == names::COLLECTOR) else {
        return;
    };
    let is_otlp = |port: &str| port.ends_with("-grpc") || port.ends_with("-http");
    let ports = collector.ports.iter().filter(|(port, _)| is_otlp(port));
    let addresses: Vec<String> =
        ports.map(|(_, number)| format!("{}:{number}", collector.host)).collect();
    for looking in containers.iter().filter(looks) {
        calls.entry(looking.workload.clone()).or_default().extend(addresses.clone());
    }
}

/// Returns the number of pods of each workload.
pub fn replicas(system: &System) -> BTreeMap<String, u32> {
    system.workloads.iter().map(|one| (one.name.clone(), one.instances)).collect()
}

/// Plans the pods of a system's workloads.
///
/// # Errors
/// If a workload has no image, or a reference cannot be resolved.
pub fn plan(
    system: &System,
    environment: &'static str,
    images: &BTreeMap<String, String>,
) -> Result<Vec<Container>, EnvironmentError> {
    let host = |workload: &str| names::object_name(system, workload);
    container::plan(system, &Choices { environment, host: &host, images })
}

/// The addresses that each workload is configured to call, by workload.
fn calls(system: &System, containers: &[Container]) -> BTreeMap<String, Vec<String>> {
    let address = |workload: &str, port: &str| {
        let container = containers.iter().find(|one| one.workload == workload)?;
        Some(format!("{}:{}", container.host, container.ports.get(port)?))
    };
    let of = |workload: &harness_system::Workload| {
        let mut calls: Vec<String> = reference::references(workload)
            .iter()
            .filter_map(|reference| reference.edge())
            .filter_map(|(callee, port)| address(callee, port))
            .collect();
        calls.sort();
        calls.dedup();
        (workload.name.clone(), calls)
    };
    system.workloads.iter().map(of).collect()
}

/// Makes an error about a file of the run.
fn io_error(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EnvironmentError {
    let path = path.to_owned();
    move |source| EnvironmentError::Io { what, path, source }
}
