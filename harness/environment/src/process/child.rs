//! One running process: its group, its end, its output.

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{ChildStdin, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
    time,
};

use super::record::{Process, Record};
use crate::{log::Log, proc};

/// How long output is read after a process has ended; its children may hold it open for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// How long the system may take to carry out SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A process in a group of its own. Dropped while it runs, the group is killed.
pub(super) struct Child {
    group: Pid,
    exit: watch::Receiver<Option<Exit>>,
    outputs: Vec<JoinHandle<()>>,
    record: Arc<Record>,
    /// The whole group is gone.
    stopped: bool,
    /// Open as long as this process lives: its end shows a built-in that its parent is gone.
    _stdin: Option<ChildStdin>,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub(super) struct Exit {
    /// `None` when the system did not report it.
    pub(super) status: Option<ExitStatus>,
    /// For people.
    pub(super) text: String,
}

/// How a process ended after it was asked to.
pub(super) enum Stopped {
    Ended(Exit),
    Killed,
}

impl Child {
    /// Starts it. Its lines go into `log`; `stdout` gets those of standard output as well.
    pub(super) fn spawn(
        mut command: Command,
        workload: &str,
        log: &Arc<Log>,
        stdout: Option<mpsc::Sender<String>>,
        record: &Arc<Record>,
    ) -> io::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id =
            id.ok_or_else(|| io::Error::other("the operating system assigned no process id"))?;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut outputs = Vec::new();
        if let Some(output) = child.stdout.take() {
            let log = Arc::clone(log);
            outputs.push(tokio::spawn(async move {
                // Only the first lines are of interest; nobody reads the channel later.
                let observe = |line: &str| {
                    if let Some(stdout) = &stdout {
                        let _ = stdout.try_send(line.to_owned());
                    }
                };
                log.follow(output, observe).await;
            }));
        }
        if let Some(output) = child.stderr.take() {
            let log = Arc::clone(log);
            outputs.push(tokio::spawn(async move { log.follow(output, |_| {}).await }));
        }
        let stdin = child.stdin.take();
        let (ended, exit) = watch::channel(None);
        tokio::spawn(async move {
            let exit = match child.wait().await {
                Ok(status) => Exit { status: Some(status), text: status.to_string() },
                Err(error) => {
                    Exit { status: None, text: format!("its exit was not observed: {error}") }
                }
            };
            ended.send_replace(Some(exit));
        });
        let group = Pid::from_raw(id);
        let child = Self {
            group,
            exit,
            outputs,
            record: Arc::clone(record),
            stopped: false,
            _stdin: stdin,
        };
        child.record.add(Process {
            pid: id,
            workload: workload.to_owned(),
            program,
            started_unix_ms: started.as_millis(),
            owner: std::process::id(),
            started_ticks: proc::Stat::of(id).map(|stat| stat.started_ticks),
        })?;
        Ok(child)
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Reports the end to those who wait for something else as well.
    pub(super) fn exit_watch(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Waits for its end and for the end of its output.
    pub(super) async fn ended(&mut self) -> Exit {
        let exit = match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone(),
            Err(_) => None,
        };
        let outputs = std::mem::take(&mut self.outputs);
        let _ = time::timeout(OUTPUT_GRACE, futures_util::future::join_all(outputs)).await;
        exit.unwrap_or_else(|| Exit { status: None, text: "its exit was not observed".to_owned() })
    }

    /// Asks the group to end by `signal`, and kills it when it has not after `grace`. Also what the process leaves behind in its
    /// group is killed.
    pub(super) async fn stop(&mut self, signal: Signal, grace: Duration) -> Stopped {
        if self.exit().is_none() {
            self.signal(signal);
            // A frozen process gets no other signal.
            self.signal(Signal::SIGCONT);
        }
        let stopped = match time::timeout(grace, self.ended()).await {
            Ok(exit) => Stopped::Ended(exit),
            Err(_) => {
                self.signal(Signal::SIGKILL);
                let _ = time::timeout(KILL_LIMIT, self.ended()).await;
                Stopped::Killed
            }
        };
        self.signal(Signal::SIGKILL);
        let _ = self.record.remove(self.group.as_raw());
        self.stopped = true;
        stopped
    }

    /// Sends a signal to the whole group; says whether there was anybody to get it.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        killpg(self.group, signal) != Err(Errno::ESRCH)
    }

    /// Returns whether the whole group stands still.
    pub(super) fn is_frozen(&self) -> bool {
        proc::is_group_frozen(self.group.as_raw())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.stopped {
            self.signal(Signal::SIGKILL);
            let _ = self.record.remove(self.group.as_raw());
        }
    }
}
