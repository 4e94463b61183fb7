//! Workloads as containers of a Docker engine, through testcontainers.
//!
//! Each system has a network of its own, in which workloads find each other by their containers' names. Containers run as a user
//! without rights, with a root that cannot be written to, and their ports are published on the loopback address of the engine's
//! machine. Everything is labelled with its run and with the process that made it, so that what a run left behind when it was
//! killed can be found: by the next run, and by `tracecheck reap`.
//!
//! A workload that is started again is a new container of the same name at the same published ports.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    engine::Engine,
    instance::{Instance, Running, State},
    labels::Labels,
    launch::Launch,
};
use super::{
    Endpoints, Environment, EnvironmentError, InstanceEndpoints, LineTest, UncleanStop,
    UnexpectedExit, WorkloadEndpoints,
    container::{self, Choices, Container},
    log::Log,
    refuse_instances,
};
use harness_system::{Program, Role, System, start_order};

mod engine;
mod instance;
mod labels;
mod launch;
mod leftovers;

pub use self::{
    engine::{Version, address_of, version},
    labels::{OWNER, RUN, SYSTEM, WORKLOAD},
    leftovers::{Leftover, leftovers, remove},
};

/// Address of published ports on the engine's own machine.
pub const LOOPBACK: &str = "127.0.0.1";
/// Its name, for messages.
pub const NAME: &str = "docker";
/// Default time limit for a container to become ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Grace period of a container after SIGTERM, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(25);
/// How long what was going on when a start was given up may take to come to an end.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(20);
/// How many lines of each log are kept in memory.
const LOG_LINES: usize = 2_000;
/// How many lines of a log an error shows.
const TAIL_LINES: usize = 20;

/// Settings for all systems of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The run's id, for names and labels.
    pub run_id: String,
    /// The image that holds `tracecheck`; the engine has it, or can pull it.
    pub tracecheck_image: String,
    /// Images of workloads, by workload.
    pub images: BTreeMap<String, String>,
    /// The host at which published ports are reached from here; they are published on the loopback address only when that is
    /// it, and at every address of the engine's machine else.
    pub address: String,
    /// Time limit for a container to become ready.
    pub start_limit: Duration,
    /// Grace period of a container after SIGTERM, before it is killed.
    pub stop_grace: Duration,
}

impl Settings {
    /// Creates the default settings of a run.
    pub fn new(run_id: impl Into<String>, tracecheck_image: impl Into<String>) -> Self {
        Self {
            run_id: run_id.into(),
            tracecheck_image: tracecheck_image.into(),
            images: BTreeMap::new(),
            address: LOOPBACK.to_owned(),
            start_limit: START_LIMIT,
            stop_grace: STOP_GRACE,
        }
    }
}

/// The `docker` environment: one system. Taken down by [`Environment::down`]; what is dropped without it is removed by
/// testcontainers as far as it can, and is a leftover else.
pub struct DockerEnvironment {
    settings: Settings,
    engine: Arc<Engine>,
    /// Of everything that belongs to this system.
    labels: Labels,
    client: reqwest::Client,
    /// Holds the logs.
    dir: tempfile::TempDir,
    instances: BTreeMap<String, Instance>,
    /// Starts that go on: of `up`, or left over when it was given up.
    starting: JoinSet<Start>,
    give_up: CancellationToken,
    is_up: bool,
}

/// Index in the system, name, and outcome.
type Start = (usize, String, Result<Running, EnvironmentError>);

/// State that a run's systems share: the engine, and how containers are made.
pub struct DockerRun {
    settings: Settings,
    engine: Arc<Engine>,
    systems: AtomicUsize,
}

impl DockerRun {
    /// Connects to the engine (`DOCKER_HOST`, else the default socket) and verifies that it responds, without
    /// creating anything.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn connect(settings: Settings) -> Result<Self, EnvironmentError> {
        let engine = Arc::new(Engine::connect(&settings.address).await?);
        Ok(Self { settings, engine, systems: AtomicUsize::new(0) })
    }

    /// Creates an environment for one more system of the run.
    ///
    /// # Errors
    /// When no folder for logs can be made.
    pub fn environment(&self) -> Result<DockerEnvironment, EnvironmentError> {
        let number = self.systems.fetch_add(1, Ordering::Relaxed);
        let parent = std::env::temp_dir();
        let dir = tempfile::Builder::new().prefix("tracecheck-docker-").tempdir_in(&parent);
        let dir = dir.map_err(|source| EnvironmentError::Io {
            what: "create a directory in",
            path: parent,
            source,
        })?;
        Ok(DockerEnvironment {
            settings: self.settings.clone(),
            engine: Arc::clone(&self.engine),
            labels: Labels::new(&self.settings.run_id, number),
            client: harness_core::http::client().build().map_err(EnvironmentError::HttpClient)?,
            dir,
            instances: BTreeMap::new(),
            starting: JoinSet::new(),
            give_up: CancellationToken::new(),
            is_up: false,
        })
    }
}

impl DockerEnvironment {
    fn plan(&mut self, system: &System) -> Result<(), EnvironmentError> {
        let problems = system.problems();
        if !problems.is_empty() {
            return Err(EnvironmentError::InvalidSystem(problems));
        }
        let labels = self.labels.clone();
        let host = move |workload: &str| labels.name_of(workload);
        let choices = Choices { environment: NAME, host: &host, images: &self.settings.images };
        let containers = container::plan(system, &choices)?;
        self.instances.clear();
        for container in containers {
            let path = self.dir.path().join(format!("{}.log", container.workload));
            let secrets = container.secrets.values().cloned().collect();
            let log = Log::create(&path, secrets, LOG_LINES);
            let log =
                log.map_err(|source| EnvironmentError::Io { what: "create", path, source })?;
            let instance = Instance::new(container, Arc::new(log));
            self.instances.insert(instance.container.workload.clone(), instance);
        }
        Ok(())
    }

    /// Starts all at once but those that are programs of the user's: such a one starts when what it calls is ready, since it
    /// may look for it at its start.
    async fn start_all(&mut self, system: &System) -> Result<(), EnvironmentError> {
        // Where callers wait for each other, nothing but their being started is waited for.
        let steps = start_order::start_order(system).unwrap_or_default();
        let waits_for = |index: usize| {
            let foreign = matches!(system.workloads[index].program, Program::Command(_));
            let step = steps.iter().find(|step| step.workload == index && foreign);
            step.map(|step| step.waits_for.clone()).unwrap_or_default()
        };
        let mut waiting: BTreeMap<usize, _> =
            (0..system.workloads.len()).map(|index| (index, waits_for(index))).collect();
        loop {
            let free: Vec<usize> = waiting
                .iter()
                .filter(|(_, waits_for)| waits_for.is_empty())
                .map(|(index, _)| *index)
                .collect();
            for index in free {
                waiting.remove(&index);
                let name = system.workloads[index].name.clone();
                let launch = self.launch(&name)?;
                self.starting.spawn(async move { (index, name, launch.run().await) });
            }
            match self.starting.join_next().await {
                None => return Ok(()),
                Some(Ok((index, name, running))) => {
                    self.keep_running(&name, running?)?;
                    for waits_for in waiting.values_mut() {
                        waits_for.remove(&index);
                    }
                }
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Err(EnvironmentError::Interrupted),
                },
            }
        }
    }

    fn launch(&self, workload: &str) -> Result<Launch, EnvironmentError> {
        let instance = self.find(workload)?;
        let image = match &instance.container.image {
            container::Image::Tracecheck => self.settings.tracecheck_image.clone(),
            container::Image::Named(reference) => reference.clone(),
        };
        Ok(Launch {
            container: instance.container.clone(),
            image,
            helper_image: self.settings.tracecheck_image.clone(),
            network: self.labels.network(),
            labels: self.labels.of_workload(workload),
            host_ports: instance.host_ports.clone(),
            again: instance.was_started,
            log: Arc::clone(&instance.log),
            engine: Arc::clone(&self.engine),
            client: self.client.clone(),
            limit: instance.container.limits.start.unwrap_or(self.settings.start_limit),
            give_up: self.give_up.clone(),
        })
    }

    fn keep_running(&mut self, workload: &str, running: Running) -> Result<(), EnvironmentError> {
        let instance = self.find_mut(workload)?;
        instance.host_ports.clone_from(&running.host_ports);
        instance.was_started = true;
        instance.state =
            State::Running { running: Box::new(running), paused: false, exit_reported: false };
        Ok(())
    }

    fn endpoints(&self) -> Endpoints {
        let workloads = self.instances.iter().map(|(name, instance)| {
            let address = |(port, number): (&String, &u16)| {
                (port.clone(), format!("{}:{number}", self.engine.address()))
            };
            let endpoints = WorkloadEndpoints {
                role: instance.container.role,
                instances: vec![InstanceEndpoints {
                    name: instance.container.host.clone(),
                    ports: instance.host_ports.iter().map(address).collect(),
                }],
            };
            (name.clone(), endpoints)
        });
        Endpoints { workloads: workloads.collect() }
    }

    async fn freeze(&mut self, workload: &str, pause: bool) -> Result<(), EnvironmentError> {
        let engine = Arc::clone(&self.engine);
        let instance = self.find_mut(workload)?;
        let name = instance.container.host.clone();
        let verb: &'static str = if pause { "pause" } else { "resume" };
        let State::Running { paused, running, .. } = &mut instance.state else {
            return Err(not_running(verb, workload));
        };
        if running.exit.borrow().is_some() {
            return Err(not_running(verb, workload));
        }
        if pause {
            engine.pause(&name).await?;
        } else {
            engine.resume(&name).await?;
        }
        *paused = pause;
        Ok(())
    }

    /// Stops all of which `is_meant` holds, at the same time.
    async fn stop_those(
        &mut self,
        is_meant: impl Fn(&Container) -> bool,
    ) -> Result<(), EnvironmentError> {
        let (engine, grace) = (Arc::clone(&self.engine), self.settings.stop_grace);
        let meant = self.instances.values_mut().filter(|one| is_meant(&one.container));
        let stops = meant.map(|instance| instance.stop(&engine, Some(grace)));
        let mut unclean: Vec<UncleanStop> = Vec::new();
        let mut failed = None;
        for stopped in join_all(stops).await {
            match stopped {
                Ok(stopped) => unclean.extend(stopped),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None if unclean.is_empty() => Ok(()),
            None => Err(EnvironmentError::UncleanStop(unclean)),
        }
    }

    fn find(&self, workload: &str) -> Result<&Instance, EnvironmentError> {
        self.instances.get(workload).ok_or_else(|| self.unknown(workload))
    }

    fn find_mut(&mut self, workload: &str) -> Result<&mut Instance, EnvironmentError> {
        let unknown = self.unknown(workload);
        self.instances.get_mut(workload).ok_or(unknown)
    }

    fn unknown(&self, workload: &str) -> EnvironmentError {
        let known = harness_core::source::list(self.instances.keys().map(String::as_str));
        EnvironmentError::UnknownWorkload { workload: workload.to_owned(), known }
    }
}

fn not_running(verb: &'static str, workload: &str) -> EnvironmentError {
    EnvironmentError::Unsupported {
        environment: NAME,
        verb,
        workload: workload.to_owned(),
        reason: "it does not run; start it first".to_owned(),
    }
}

#[async_trait]
impl Environment for DockerEnvironment {
    async fn up(&mut self, system: &System) -> Result<Endpoints, EnvironmentError> {
        if self.is_up {
            return Err(EnvironmentError::AlreadyUp);
        }
        refuse_instances(NAME, system)?;
        self.is_up = true;
        self.give_up = CancellationToken::new();
        self.plan(system)?;
        self.engine.create_network(&self.labels.network(), self.labels.of_system()).await?;
        let started = self.start_all(system).await;
        self.give_up.cancel();
        started.map(|()| self.endpoints())
    }

    async fn start(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        if matches!(self.find(workload)?.state, State::Running { .. }) {
            return Ok(());
        }
        let launch = Launch { give_up: CancellationToken::new(), ..self.launch(workload)? };
        let running = launch.run().await?;
        self.keep_running(workload, running)
    }

    async fn stop(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let (engine, grace) = (Arc::clone(&self.engine), self.settings.stop_grace);
        let instance = self.find_mut(workload)?;
        match instance.stop(&engine, Some(grace)).await? {
            None => Ok(()),
            Some(unclean) => Err(EnvironmentError::UncleanStop(vec![unclean])),
        }
    }

    async fn stop_all(&mut self, workloads: &[String]) -> Result<(), EnvironmentError> {
        for workload in workloads {
            self.find(workload)?;
        }
        self.stop_those(|one| workloads.contains(&one.workload)).await
    }

    async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let engine = Arc::clone(&self.engine);
        // Having no time to end is what killing is, so that it is no unclean end.
        let _wanted = self.find_mut(workload)?.stop(&engine, None).await?;
        Ok(())
    }

    async fn scale(&mut self, workload: &str, _: u32) -> Result<(), EnvironmentError> {
        self.find(workload)?;
        Err(EnvironmentError::Unsupported {
            environment: NAME,
            verb: "scale",
            workload: workload.to_owned(),
            reason: "a container is one instance, with ports of its own; `stop` ends it".to_owned(),
        })
    }

    async fn pause(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.freeze(workload, true).await
    }

    async fn resume(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        self.freeze(workload, false).await
    }

    async fn unexpected_exits(&mut self) -> Vec<UnexpectedExit> {
        let mut exits = Vec::new();
        for (name, instance) in &mut self.instances {
            let State::Running { running, exit_reported, .. } = &mut instance.state else {
                continue;
            };
            let Some(exit) = running.exit.borrow().clone().filter(|_| !*exit_reported) else {
                continue;
            };
            *exit_reported = true;
            let status = running.describe(&self.engine, &instance.container.host, &exit).await;
            running.end_of_log().await;
            let log_tail = instance.log.tail(TAIL_LINES);
            exits.push(UnexpectedExit { workload: name.clone(), status, log_tail });
        }
        exits
    }

    async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        self.instances.get(workload).map(|instance| instance.log.tail(lines)).unwrap_or_default()
    }

    async fn logged(&self, workload: &str, is_meant: LineTest) -> Vec<(SystemTime, String)> {
        self.instances
            .get(workload)
            .map(|instance| instance.log.lines(is_meant))
            .unwrap_or_default()
    }

    async fn collect_logs(&self, dir: &Path) -> Result<(), EnvironmentError> {
        let failed = |what: &'static str, path: &Path| {
            let path: PathBuf = path.to_owned();
            move |source| EnvironmentError::Io { what, path, source }
        };
        std::fs::create_dir_all(dir).map_err(failed("create", dir))?;
        for (name, instance) in &self.instances {
            let path = dir.join(format!("{name}.log"));
            std::fs::copy(instance.log.path(), &path).map_err(failed("write", &path))?;
        }
        Ok(())
    }

    async fn down(&mut self) -> Result<(), EnvironmentError> {
        self.give_up.cancel();
        // What is being made is made to its end, so that it is there to be removed.
        let deadline = Instant::now() + GIVE_UP_LIMIT;
        while let Ok(Some(started)) =
            tokio::time::timeout_at(deadline, self.starting.join_next()).await
        {
            if let Ok((_, name, Ok(running))) = started {
                self.keep_running(&name, running)?;
            }
        }
        self.starting.abort_all();
        let mut unclean: Vec<UncleanStop> = Vec::new();
        let mut failed = None;
        for role in [Role::Service, Role::Collector, Role::Tap, Role::Intake] {
            match self.stop_those(|one| one.role == role).await {
                Ok(()) => {}
                Err(EnvironmentError::UncleanStop(more)) => unclean.extend(more),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let removed = self.engine.remove_labelled(SYSTEM, &self.labels.system()).await;
        self.is_up = false;
        removed?;
        match failed {
            Some(error) => Err(error),
            None if unclean.is_empty() => Ok(()),
            None => Err(EnvironmentError::UncleanStop(unclean)),
        }
    }
}
