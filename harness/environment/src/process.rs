//! Workloads as child processes of this one, on free ports of the loopback address.
//!
//! Built-in programs bind port 0 and report where they listen; foreign ones are given a free port, and another
//! one when somebody was faster to take it. Each process leads a group of its own and inherits only the variables
//! in [`INHERITED`]. Nothing is isolated beyond that: for it, use containers.
//!
//! The run's directory holds `logs/<workload>.log`, `files/<workload>/`, and `processes.json`, which names the
//! processes that run, for whoever has to clean up after a crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use self::{
    child::{Child, Exit, Stopped},
    launch::{Launch, Launched, TAIL_LINES, io_error},
    ports::Reservation,
    record::Record,
};
use super::{
    Endpoints, Environment, EnvironmentError, InstanceEndpoints, LineTest, UncleanStop,
    UnexpectedExit, WorkloadEndpoints, log::Log, proc, refuse_instances,
};
use harness_system::{Program, Role, StopSignal, System, Workload, start_order};

mod child;
mod error;
mod inherit;
mod launch;
mod leftovers;
mod ports;
mod record;
#[cfg(test)]
mod tests;

pub use self::{
    error::ProcessError,
    inherit::INHERITED,
    leftovers::{Leftover, find_leftovers, remove_leftovers},
};

/// How the names of temporary directories begin.
const DIR_PREFIX: &str = "tracecheck-";
/// How long a process has to get ready, by default.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a process has to end after SIGTERM by default: longer than the collector drains (20 s), so that
/// it can say itself what it lost.
const STOP_GRACE: Duration = Duration::from_secs(25);
/// How long a process may take to be gone after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How many lines of each log are kept in memory, by default.
const LOG_LINES: usize = 2_000;

/// The `process` environment. Dropped without [`Environment::down`], it kills what runs.
pub struct ProcessEnvironment {
    settings: Settings,
    inherited: Arc<Vec<(OsString, OsString)>>,
    client: reqwest::Client,
    dir: PathBuf,
    /// Removes the directory when it was not the caller's choice.
    _temporary: Option<tempfile::TempDir>,
    record: Arc<Record>,
    instances: BTreeMap<String, Instance>,
    /// Starts that go on: of [`Environment::up`], or left over when it was given up.
    starting: JoinSet<Start>,
}

/// Index in the system, name, and outcome.
type Start = (usize, String, Result<Launched, EnvironmentError>);

#[derive(Debug, Clone)]
struct Settings {
    tracecheck: PathBuf,
    start_limit: Duration,
    stop_grace: Duration,
    log_lines: usize,
}

/// Makes a [`ProcessEnvironment`].
#[derive(Debug, Clone)]
pub struct Builder {
    settings: Settings,
    dir: Option<PathBuf>,
    variables: Option<Vec<(OsString, OsString)>>,
}

struct Instance {
    workload: Workload,
    log: Arc<Log>,
    /// Of its last start.
    addresses: BTreeMap<String, String>,
    state: State,
}

enum State {
    /// Its ports are kept from others, if it had any.
    Stopped {
        ports: Reservation,
    },
    Running {
        child: Child,
        paused: bool,
        exit_reported: bool,
    },
}

impl ProcessEnvironment {
    /// Starts with the path of the program `tracecheck`, which built-in workloads are subcommands of.
    pub fn builder(tracecheck: impl Into<PathBuf>) -> Builder {
        Builder {
            settings: Settings {
                tracecheck: tracecheck.into(),
                start_limit: START_LIMIT,
                stop_grace: STOP_GRACE,
                log_lines: LOG_LINES,
            },
            dir: None,
            variables: None,
        }
    }

    /// Returns the run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the path of the file that lists the running processes; it exists only while a process runs.
    pub fn process_record(&self) -> &Path {
        self.record.path()
    }
}

impl Builder {
    /// Sets the folder for logs and files, which is created if it is missing. Default: a temporary one, removed with the environment.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Sets the time for a process to become ready; 30 s by default.
    #[must_use]
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.settings.start_limit = limit;
        self
    }

    /// Sets the grace period after SIGTERM before a process is killed; 25 s by default.
    #[must_use]
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.settings.stop_grace = grace;
        self
    }

    /// Sets how many log lines of each workload are kept in memory, at least 1; 2000 by default.
    #[must_use]
    pub fn log_lines(mut self, lines: usize) -> Self {
        self.settings.log_lines = lines.max(1);
        self
    }

    /// Sets the environment variables from which child processes inherit those in [`INHERITED`]; those of this
    /// process by default.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.variables = Some(variables.into_iter().collect());
        self
    }

    /// Creates the environment and its directory, without starting a process.
    ///
    /// # Errors
    ///
    /// If the directory cannot be created.
    pub fn build(self) -> Result<ProcessEnvironment, EnvironmentError> {
        let (dir, temporary) = match self.dir {
            Some(dir) => (dir, None),
            None => {
                let parent = std::env::temp_dir();
                let made = tempfile::Builder::new().prefix(DIR_PREFIX).tempdir_in(&parent);
                let made = made.map_err(io_error("create a directory in", &parent))?;
                (made.path().to_owned(), Some(made))
            }
        };
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).map_err(io_error("create", &logs))?;
        // A process elsewhere gets these paths.
        let dir = fs::canonicalize(&dir).map_err(io_error("find", &dir))?;
        let inherited = match self.variables {
            Some(variables) => inherit::inherited(variables),
            None => inherit::inherited(std::env::vars_os()),
        };
        let client = harness_core::http::client().build();
        let client = client.map_err(EnvironmentError::HttpClient)?;
        Ok(ProcessEnvironment {
            settings: self.settings,
            inherited: Arc::new(inherited),
            client,
            record: Arc::new(Record::new(&dir)),
            dir,
            _temporary: temporary,
            instances: BTreeMap::new(),
            starting: JoinSet::new(),
        })
    }
}

#[async_trait]
impl Environment for ProcessEnvironment {
    async fn up(&mut self, system: &System) -> Result<Endpoints, EnvironmentError> {
        if self.instances.values().any(Instance::is_running) {
            return Err(EnvironmentError::AlreadyUp);
        }
        let problems = system.problems();
        if !problems.is_empty() {
            return Err(EnvironmentError::InvalidSystem(problems));
        }
        refuse_instances("process", system)?;
        self.instances.clear();
        for workload in &system.workloads {
            let instance = self.instance(workload)?;
            self.instances.insert(workload.name.clone(), instance);
        }
        let started = self.start_all(system).await;
        self.starting.shutdown().await;
        started.map(|()| self.endpoints())
    }

    async fn start(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let instance = self.find_mut(workload)?;
        let State::Stopped { ports } = &mut instance.state else { return Ok(()) };
        // Taken out first, so that they are not kept from the workload itself.
        *ports = Reservation::default();
        let numbers = instance.port_numbers();
        let must_have = (!numbers.is_empty()).then(|| Reservation::keep(&numbers));
        let launch = self.launch(workload, must_have)?;
        match launch.run().await {
            Ok(launched) => self.keep_running(workload, launched),
            Err(error) => {
                // Another start is to be at the same addresses too.
                let instance = self.find_mut(workload)?;
                instance.state =
                    State::Stopped { ports: Reservation::keep(&instance.port_numbers()) };
                Err(error)
            }
        }
    }

    async fn stop(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let grace = self.settings.stop_grace;
        let instance = self.find_mut(workload)?;
        match instance.stop(Some(grace)).await {
            None => Ok(()),
            Some(unclean) => Err(EnvironmentError::UncleanStop(vec![unclean])),
        }
    }

    async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let instance = self.find_mut(workload)?;
        // Having no time to end is what killing is, so that it is no unclean end.
        let _wanted = instance.stop(None).await;
        Ok(())
    }

    async fn scale(&mut self, workload: &str, _: u32) -> Result<(), EnvironmentError> {
        self.find(workload)?;
        Err(EnvironmentError::Unsupported {
            environment: "process",
            verb: "scale",
            workload: workload.to_owned(),
            reason: "a process is one instance, at an address of its own; `stop` ends it"
                .to_owned(),
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
            let State::Running { child, exit_reported, .. } = &mut instance.state else { continue };
            if *exit_reported || child.exit().is_none() {
                continue;
            }
            *exit_reported = true;
            let status = child.ended().await.text;
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
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        for (name, instance) in &self.instances {
            let path = dir.join(format!("{name}.log"));
            if path != instance.log.path() {
                fs::copy(instance.log.path(), &path).map_err(io_error("write", &path))?;
            }
        }
        Ok(())
    }

    async fn down(&mut self) -> Result<(), EnvironmentError> {
        self.starting.shutdown().await;
        let grace = self.settings.stop_grace;
        let mut unclean = Vec::new();
        for role in [Role::Service, Role::Collector, Role::Tap, Role::Intake] {
            let of_role = self.instances.values_mut().filter(|one| one.workload.role == role);
            let stops = of_role.map(|instance| instance.stop(Some(grace)));
            unclean.extend(futures_util::future::join_all(stops).await.into_iter().flatten());
        }
        for instance in self.instances.values_mut() {
            instance.state = State::stopped();
        }
        let files = self.dir.join("files");
        if files.exists() {
            fs::remove_dir_all(&files).map_err(io_error("remove", &files))?;
        }
        if unclean.is_empty() { Ok(()) } else { Err(EnvironmentError::UncleanStop(unclean)) }
    }
}

impl ProcessEnvironment {
    fn instance(&self, workload: &Workload) -> Result<Instance, EnvironmentError> {
        let path = self.dir.join("logs").join(format!("{}.log", workload.name));
        let secrets = workload.secrets.values().cloned().collect();
        let log = Log::create(&path, secrets, self.settings.log_lines);
        Ok(Instance {
            workload: workload.clone(),
            log: Arc::new(log.map_err(io_error("create", &path))?),
            addresses: BTreeMap::new(),
            state: State::stopped(),
        })
    }

    /// Starts each workload as soon as those that it waits for are ready.
    async fn start_all(&mut self, system: &System) -> Result<(), EnvironmentError> {
        let steps = start_order::start_order(system).map_err(|error| {
            let workload = error.workload.clone();
            EnvironmentError::Unresolved { workload, reference: error.to_string() }
        })?;
        let mut beforehand = BTreeMap::new();
        for step in steps.iter().filter(|step| step.ports_beforehand) {
            let workload = &system.workloads[step.workload];
            let ports = Reservation::choose(&workload.ports).map_err(|source| {
                EnvironmentError::NoFreePort { workload: workload.name.clone(), source }
            })?;
            if let Some(instance) = self.instances.get_mut(&workload.name) {
                instance.addresses = ports
                    .numbers()
                    .iter()
                    .map(|(name, number)| (name.clone(), format!("127.0.0.1:{number}")))
                    .collect();
            }
            beforehand.insert(step.workload, ports);
        }
        let mut left = steps;
        let mut ready = BTreeSet::new();
        loop {
            let mut waiting = Vec::new();
            for step in left {
                if step.waits_for.is_subset(&ready) {
                    let name = system.workloads[step.workload].name.clone();
                    let launch = self.launch(&name, beforehand.remove(&step.workload))?;
                    self.starting.spawn(async move { (step.workload, name, launch.run().await) });
                } else {
                    waiting.push(step);
                }
            }
            left = waiting;
            match self.starting.join_next().await {
                None => return Ok(()),
                Some(Ok((index, name, launched))) => {
                    self.keep_running(&name, launched?)?;
                    ready.insert(index);
                }
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only a runtime that is shutting down cancels it.
                    Err(_) => return Err(EnvironmentError::Interrupted),
                },
            }
        }
    }

    fn launch(
        &self,
        workload: &str,
        ports: Option<Reservation>,
    ) -> Result<Launch, EnvironmentError> {
        let instance = self.find(workload)?;
        let addresses = self.instances.iter();
        Ok(Launch {
            workload: instance.workload.clone(),
            tracecheck: self.settings.tracecheck.clone(),
            inherited: Arc::clone(&self.inherited),
            dir: self.dir.join("files").join(workload),
            log: Arc::clone(&instance.log),
            record: Arc::clone(&self.record),
            client: self.client.clone(),
            addresses: addresses.map(|(name, one)| (name.clone(), one.addresses.clone())).collect(),
            ports,
            limit: instance.workload.limits.start.unwrap_or(self.settings.start_limit),
        })
    }

    fn keep_running(&mut self, workload: &str, launched: Launched) -> Result<(), EnvironmentError> {
        let instance = self.find_mut(workload)?;
        instance.addresses = launched.addresses;
        instance.state =
            State::Running { child: launched.child, paused: false, exit_reported: false };
        Ok(())
    }

    /// Pauses or resumes a workload. Once it is paused, it answers nothing any more.
    async fn freeze(&mut self, workload: &str, pause: bool) -> Result<(), EnvironmentError> {
        let (verb, signal) =
            if pause { ("pause", Signal::SIGSTOP) } else { ("resume", Signal::SIGCONT) };
        let instance = self.find_mut(workload)?;
        if let State::Running { child, paused, .. } = &mut instance.state
            && child.exit().is_none()
            && child.signal(signal)
        {
            *paused = pause;
            let frozen = proc::frozen(|| !pause || child.is_frozen()).await;
            return frozen.map_err(|still_at_work| EnvironmentError::Backend {
                environment: "process",
                what: format!("pause `{workload}`"),
                reason: still_at_work.to_string(),
            });
        }
        Err(EnvironmentError::Unsupported {
            environment: "process",
            verb,
            workload: workload.to_owned(),
            reason: "it does not run; start it first".to_owned(),
        })
    }

    fn endpoints(&self) -> Endpoints {
        let workloads = self.instances.iter().map(|(name, instance)| {
            let endpoints = WorkloadEndpoints {
                role: instance.workload.role,
                instances: vec![InstanceEndpoints {
                    name: name.clone(),
                    ports: instance.addresses.clone(),
                }],
            };
            (name.clone(), endpoints)
        });
        Endpoints { workloads: workloads.collect() }
    }

    fn find(&self, workload: &str) -> Result<&Instance, EnvironmentError> {
        self.instances.get(workload).ok_or_else(|| self.unknown(workload))
    }

    fn find_mut(&mut self, workload: &str) -> Result<&mut Instance, EnvironmentError> {
        if !self.instances.contains_key(workload) {
            return Err(self.unknown(workload));
        }
        let unknown = self.unknown(workload);
        self.instances.get_mut(workload).ok_or(unknown)
    }

    fn unknown(&self, workload: &str) -> EnvironmentError {
        let known = harness_core::source::list(self.instances.keys().map(String::as_str));
        EnvironmentError::UnknownWorkload { workload: workload.to_owned(), known }
    }
}

fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::SIGTERM,
        StopSignal::Int => Signal::SIGINT,
        StopSignal::Quit => Signal::SIGQUIT,
        StopSignal::Hup => Signal::SIGHUP,
        StopSignal::Usr1 => Signal::SIGUSR1,
        StopSignal::Usr2 => Signal::SIGUSR2,
        StopSignal::Kill => Signal::SIGKILL,
    }
}

impl State {
    fn stopped() -> Self {
        Self::Stopped { ports: Reservation::default() }
    }
}

impl Instance {
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn port_numbers(&self) -> BTreeMap<String, u16> {
        let number = |address: &String| address.rsplit_once(':')?.1.parse().ok();
        let ports = self.addresses.iter();
        ports.filter_map(|(name, address)| Some((name.clone(), number(address)?))).collect()
    }

    /// Stops it if it runs, without a `grace` by killing it, else by what its system says of it, keeps its ports, and reports if it
    /// did not end as it should.
    async fn stop(&mut self, grace: Option<Duration>) -> Option<UncleanStop> {
        let ports = self.port_numbers();
        let State::Running { child, exit_reported, .. } = &mut self.state else { return None };
        let ended_before = child.exit().is_some();
        let reported = *exit_reported;
        let limits = self.workload.limits;
        let (signal, grace) = match grace {
            // Whoever is not asked needs no time.
            None => (StopSignal::Kill, KILL_LIMIT),
            Some(grace) => (limits.stop_signal, limits.stop.unwrap_or(grace)),
        };
        let is_killed = signal == StopSignal::Kill;
        let grace = if is_killed { KILL_LIMIT } else { grace };
        let how = match child.stop(signal_of(signal), grace).await {
            Stopped::Killed => {
                let name = signal.name();
                let remedy = match limits.stop {
                    Some(_) => "",
                    None => {
                        "; `stop_signal` and `stop_limit` of its system file say how it is to be ended"
                    }
                };
                Some(format!("killed, since it still ran {grace:?} after {name}{remedy}"))
            }
            // That is how it was to end.
            Stopped::Ended(_) if is_killed && !ended_before => None,
            // The one who asked for unexpected exits has it already.
            Stopped::Ended(_) if reported => None,
            Stopped::Ended(exit) if ended_before => {
                Some(format!("had ended before it was stopped ({})", exit.text))
            }
            Stopped::Ended(exit) => self.is_unclean(&exit).then_some(exit.text),
        };
        self.state = State::Stopped { ports: Reservation::keep(&ports) };
        how.map(|how| UncleanStop {
            workload: self.workload.name.clone(),
            foreseen: limits.stop.is_some() && how.starts_with("killed"),
            how,
            log_tail: self.log.tail(TAIL_LINES),
        })
    }

    /// A built-in and every collector must end with 0, since they say in this way that nothing was lost. Another
    /// service may as well be ended by the signal itself, or say 143, as a shell or a JVM does for SIGTERM.
    fn is_unclean(&self, exit: &Exit) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let Some(status) = exit.status else { return true };
        let signal = signal_of(self.workload.limits.stop_signal) as i32;
        let by_signal = status.signal() == Some(signal) || status.code() == Some(128 + signal);
        let may = matches!(self.workload.program, Program::Command(_))
            && self.workload.role == Role::Service;
        !(status.success() || may && by_signal)
    }
}
