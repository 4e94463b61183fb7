//! Starting one workload: its files and settings, its ports, and waiting until it is ready.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    process::Command,
    sync::mpsc,
    time::{self, Instant},
};

use super::{
    child::{Child, Exit, Stopped},
    error::ProcessError,
    ports::{Reservation, shows_clash},
    record::Record,
};
use crate::{EnvironmentError, log::Log};
use harness_system::{
    Program, Workload,
    reference::{Reference, Template},
};

/// Listen address of every workload.
const LOOPBACK: &str = "127.0.0.1";
/// How many lines of a log an error shows.
pub(super) const TAIL_LINES: usize = 20;
/// How often free ports are chosen anew when others were faster to take them.
const MAX_CHOICES: u32 = 5;
/// Interval for polling something that cannot notify by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long one health request may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// All that one start needs; owned, so that several can go on at once.
pub(super) struct Launch {
    pub(super) workload: Workload,
    /// The program `tracecheck`.
    pub(super) tracecheck: PathBuf,
    pub(super) inherited: Arc<Vec<(OsString, OsString)>>,
    /// Folder for its files.
    pub(super) dir: PathBuf,
    pub(super) log: Arc<Log>,
    pub(super) record: Arc<Record>,
    pub(super) client: reqwest::Client,
    /// `host:port` by port, by workload: those known so far.
    pub(super) addresses: BTreeMap<String, BTreeMap<String, String>>,
    /// The ports it must have, kept from others until it starts; `None` where it may have any.
    pub(super) ports: Option<Reservation>,
    /// For the whole start.
    pub(super) limit: Duration,
}

/// A workload that is ready.
pub(super) struct Launched {
    pub(super) child: Child,
    /// `host:port` by port name.
    pub(super) addresses: BTreeMap<String, String>,
}

/// Outcome of an attempt that did not end in a ready workload.
enum Attempt {
    /// It ended; perhaps because of its ports.
    Died(Exit),
    /// Anything else; another attempt would end the same way.
    Failed(EnvironmentError),
}

#[derive(Deserialize)]
struct ListeningLine {
    listening: BTreeMap<String, String>,
}

impl Launch {
    /// Starts the process and waits until it can be used.
    pub(super) async fn run(mut self) -> Result<Launched, EnvironmentError> {
        let deadline = Instant::now() + self.limit;
        // From here on the workload is to have them.
        let must_have = self.ports.take().map(|ports| ports.numbers().clone());
        let reports = matches!(self.workload.program, Program::Builtin(_));
        let mut attempts = 0;
        let mut clash = None;
        loop {
            attempts += 1;
            let numbers = match &must_have {
                Some(numbers) => Some(numbers.clone()),
                None if reports => None,
                None => {
                    let chosen = Reservation::choose(&self.workload.ports);
                    let chosen = chosen.map_err(|source| EnvironmentError::NoFreePort {
                        workload: self.name(),
                        source,
                    })?;
                    Some(chosen.numbers().clone())
                }
            };
            let mark = self.log.mark();
            let exit = match self.attempt(numbers.as_ref(), deadline).await {
                Ok(launched) => return Ok(launched),
                // An attempt that the limit cut short says less than the clash before it.
                Err(Attempt::Failed(error)) => return Err(clash.unwrap_or(error)),
                Err(Attempt::Died(exit)) => exit,
            };
            let log_tail = self.log.since(mark, TAIL_LINES);
            if !shows_clash(&log_tail) {
                let (workload, status) = (self.name(), exit.text);
                return Err(EnvironmentError::DiedAtStart { workload, status, log_tail });
            }
            // Other ports may be free; the ports it must have may become free; a built-in chose its own.
            let again = match (&must_have, reports) {
                (Some(_), _) => Instant::now() + 5 * POLL_INTERVAL < deadline,
                (None, reports) => !reports && attempts < MAX_CHOICES,
            };
            let taken = EnvironmentError::PortTaken {
                workload: self.name(),
                addresses: describe(numbers.as_ref()),
                attempts,
                log_tail,
            };
            if !again {
                return Err(taken);
            }
            clash = Some(taken);
            if must_have.is_some() {
                time::sleep(5 * POLL_INTERVAL).await;
            }
        }
    }

    async fn attempt(
        &self,
        ports: Option<&BTreeMap<String, u16>>,
        deadline: Instant,
    ) -> Result<Launched, Attempt> {
        let command = self.command(ports).map_err(Attempt::Failed)?;
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let (lines, mut stdout) = mpsc::channel(16);
        let lines = matches!(self.workload.program, Program::Builtin(_)).then_some(lines);
        let mark = self.log.mark();
        let mut child = Child::spawn(command, &self.workload.name, &self.log, lines, &self.record)
            .map_err(|source| {
                let failed = ProcessError::Spawn { workload: self.name(), program, source };
                Attempt::Failed(failed.into())
            })?;
        let mut waits_for = String::new();
        let ready = async {
            let addresses = match self.workload.program {
                Program::Builtin(_) => {
                    "it has not printed its listening line".clone_into(&mut waits_for);
                    let reported = listening(&mut stdout).await;
                    self.check_reported(reported).map_err(|missing| waits_for = missing)?
                }
                Program::Command(_) => given(ports),
            };
            if matches!(self.workload.program, Program::Command(_)) {
                for (port, address) in &addresses {
                    waits_for = format!(
                        "port `{port}` ({address}) accepts no connections; the program has to listen there, and is given the port by `${{port:{port}}}` or `${{listen:{port}}}` in its command or `env`"
                    );
                    accepts(address).await;
                }
            }
            if let Some(health) = &self.workload.health {
                let address = addresses.get(&health.port).cloned().unwrap_or_default();
                self.healthy(&format!("http://{address}{}", health.path), &mut waits_for).await;
            }
            Ok(addresses)
        };
        let outcome: Option<Result<_, ()>> = tokio::select! {
            // An end is reported before a port that somebody else happens to answer on.
            biased;
            _ = exited(&child) => None,
            ready = time::timeout_at(deadline, ready) => Some(ready.unwrap_or(Err(()))),
        };
        match outcome {
            Some(Ok(addresses)) => Ok(Launched { child, addresses }),
            None => {
                let exit = child.ended().await;
                child.stop(Signal::SIGTERM, Duration::ZERO).await;
                Err(Attempt::Died(exit))
            }
            Some(Err(())) => {
                let _: Stopped = child.stop(Signal::SIGTERM, Duration::ZERO).await;
                Err(Attempt::Failed(EnvironmentError::NotReady {
                    workload: self.name(),
                    limit: self.limit,
                    waited_for: waits_for,
                    log_tail: self.log.since(mark, TAIL_LINES),
                }))
            }
        }
    }

    fn command(&self, ports: Option<&BTreeMap<String, u16>>) -> Result<Command, EnvironmentError> {
        let expand = |text: &str| self.expand(text, ports);
        fs::create_dir_all(&self.dir).map_err(io_error("create", &self.dir))?;
        for (name, file) in &self.workload.files {
            let path = self.dir.join(name);
            let contents =
                if file.expand { expand(&file.contents)? } else { file.contents.clone() };
            fs::write(&path, contents).map_err(io_error("write", &path))?;
        }
        let mut command = match &self.workload.program {
            Program::Builtin(subcommand) => {
                let mut command = Command::new(&self.tracecheck);
                command.arg(subcommand).stdin(Stdio::piped());
                command
            }
            Program::Command(program) => {
                let mut command = Command::new(program);
                command.stdin(Stdio::null());
                command
            }
        };
        for arg in &self.workload.args {
            command.arg(expand(arg)?);
        }
        command.env_clear().envs(self.inherited.iter().map(|(name, value)| (name, value)));
        if matches!(self.workload.program, Program::Builtin(_)) {
            command.env("TRACECHECK_EXIT_WITH_PARENT", "1");
        }
        for (name, value) in &self.workload.env {
            command.env(name, expand(value)?);
        }
        for (name, secret) in &self.workload.secrets {
            command.env(name, secret.reveal());
        }
        if let Some(dir) = &self.workload.working_dir {
            command.current_dir(dir);
        }
        Ok(command)
    }

    /// The text with its references replaced. A system was validated before, so that all of them are there; should
    /// one not be, it becomes an error of its own.
    fn expand(
        &self,
        text: &str,
        ports: Option<&BTreeMap<String, u16>>,
    ) -> Result<String, EnvironmentError> {
        let unresolved =
            |reference: String| EnvironmentError::Unresolved { workload: self.name(), reference };
        let template = Template::parse(text).map_err(|error| unresolved(error.to_string()))?;
        let own = |port: &String| match ports {
            Some(numbers) => numbers.get(port).copied(),
            None => Some(0),
        };
        let address = |workload: &str, port: &str| match ports.and_then(|own| own.get(port)) {
            Some(number) if workload == self.workload.name => Some(loopback(*number)),
            _ => self.addresses.get(workload)?.get(port).cloned(),
        };
        template.expand(|reference| {
            let value = match reference {
                Reference::Endpoint { workload, port } => {
                    address(workload, port).map(|address| format!("http://{address}"))
                }
                Reference::Address { workload, port } => address(workload, port),
                Reference::Listen { port } => own(port).map(loopback),
                Reference::Host { port } => own(port).map(|_| LOOPBACK.to_owned()),
                Reference::Port { port } => own(port).map(|number| number.to_string()),
                Reference::File { name } => Some(self.dir.join(name).display().to_string()),
            };
            value.ok_or_else(|| unresolved(reference.to_string()))
        })
    }

    /// The reported addresses, as they are reached from here; or which port is missing.
    fn check_reported(
        &self,
        mut reported: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, String> {
        for port in &self.workload.ports {
            if !reported.contains_key(port) {
                let names = harness_core::source::list(reported.keys().map(String::as_str));
                return Err(format!("its listening line has no port `{port}`, only {names}"));
            }
        }
        for address in reported.values_mut() {
            if let Some(port) =
                address.strip_prefix("0.0.0.0:").or_else(|| address.strip_prefix("[::]:"))
            {
                *address = format!("127.0.0.1:{port}");
            }
        }
        Ok(reported)
    }

    async fn healthy(&self, url: &str, waits_for: &mut String) {
        loop {
            match self.client.get(url).timeout(HEALTH_TIMEOUT).send().await {
                Ok(response) if response.status().is_success() => return,
                Ok(response) => *waits_for = crate::unhealthy(url, response.status()),
                Err(error) => *waits_for = format!("{url} does not answer: {error}"),
            }
            time::sleep(POLL_INTERVAL).await;
        }
    }

    fn name(&self) -> String {
        self.workload.name.clone()
    }
}

/// The first listening line; never, when the output ends without one: then the process's end is near, or the
/// deadline.
async fn listening(stdout: &mut mpsc::Receiver<String>) -> BTreeMap<String, String> {
    while let Some(line) = stdout.recv().await {
        if let Ok(line) = serde_json::from_str::<ListeningLine>(&line) {
            return line.listening;
        }
    }
    std::future::pending().await
}

async fn exited(child: &Child) {
    let mut exit = child.exit_watch();
    // The sender goes only after it has reported the end.
    let _ = exit.wait_for(Option::is_some).await;
}

/// Waits until somebody listens there.
async fn accepts(address: &str) {
    while TcpStream::connect(address).await.is_err() {
        time::sleep(POLL_INTERVAL).await;
    }
}

fn given(ports: Option<&BTreeMap<String, u16>>) -> BTreeMap<String, String> {
    let ports = ports.into_iter().flatten();
    ports.map(|(name, number)| (name.clone(), loopback(*number))).collect()
}

fn loopback(port: u16) -> String {
    format!("{LOOPBACK}:{port}")
}

fn describe(ports: Option<&BTreeMap<String, u16>>) -> String {
    let given: Vec<String> = given(ports).into_values().collect();
    if given.is_empty() { "the address of its choice".to_owned() } else { given.join(", ") }
}

/// Makes an error about a file of the run.
pub(super) fn io_error(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> EnvironmentError {
    let path = path.to_owned();
    move |source| EnvironmentError::Io { what, path, source }
}
