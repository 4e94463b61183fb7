//! The running system: its environment, its endpoints, and workloads that ended by themselves.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard, watch},
    task::JoinHandle,
};

use super::lock;
use crate::{
    environment::{Endpoints, Environment, EnvironmentError, LineTest, UnexpectedExit},
    system::Role,
};

/// How often dead workloads are looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Outcome of stopping a workload on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It is down.
    Down,
    /// It is up again, and has forgotten what it did before.
    Again,
}

/// A system that is up.
pub struct Up {
    environment: Arc<AsyncMutex<Box<dyn Environment>>>,
    endpoints: Endpoints,
    /// Whether the system was there before, and others may use it.
    attached: bool,
    /// How long to wait until the collector sends to the intake.
    pointing: Option<Duration>,
    /// Workloads that were stopped on purpose; their ledgers are gone, or begin anew.
    stopped: Mutex<BTreeMap<String, Stopped>>,
    /// Notes about how they ended.
    notes: Mutex<Vec<String>>,
    exits: watch::Receiver<Vec<UnexpectedExit>>,
    watcher: JoinHandle<()>,
}

impl Up {
    /// Watches over a system that has come up at these endpoints.
    pub(super) fn new(environment: Box<dyn Environment>, endpoints: Endpoints) -> Self {
        let (attached, pointing) = (environment.is_attached(), environment.pointing());
        let environment = Arc::new(AsyncMutex::new(environment));
        let (report, exits) = watch::channel(Vec::new());
        let watcher = tokio::spawn(watch_exits(Arc::clone(&environment), report));
        let (stopped, notes) = Default::default();
        Self { environment, endpoints, attached, pointing, stopped, notes, exits, watcher }
    }

    /// Returns the endpoints of all workloads.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Returns whether the system was there before, and others may use it.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// How long to wait until the collector sends to the intake, where it may have to be pointed there first.
    pub(super) fn pointing(&self) -> Option<Duration> {
        self.pointing
    }

    /// Returns the environment, for as long as nobody else is to act on it.
    pub(super) async fn environment(&self) -> MutexGuard<'_, Box<dyn Environment>> {
        self.environment.lock().await
    }

    /// Notes that a workload was stopped on purpose, or is up again.
    pub(super) fn note_stopped(&self, workload: &str, stopped: Stopped) {
        lock(&self.stopped).insert(workload.to_owned(), stopped);
    }

    /// The workloads that were stopped on purpose so far.
    pub(super) fn stopped(&self) -> BTreeMap<String, Stopped> {
        lock(&self.stopped).clone()
    }

    /// Notes how workloads ended that were stopped on purpose.
    pub(super) fn note(&self, reported: impl IntoIterator<Item = String>) {
        lock(&self.notes).extend(reported);
    }

    /// Takes the notes about workloads that were stopped and did not end cleanly, each once.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.notes))
    }

    /// Returns the workloads that have ended by themselves so far.
    pub fn unexpected_exits(&self) -> Vec<UnexpectedExit> {
        self.exits.borrow().clone()
    }

    /// The same, to be woken by each.
    pub(super) fn exits(&self) -> watch::Receiver<Vec<UnexpectedExit>> {
        self.exits.clone()
    }

    /// Returns whether the intake ended by itself.
    pub fn intake_ended(&self) -> bool {
        let role = |exit: &UnexpectedExit| Some(self.endpoints.workloads.get(&exit.workload)?.role);
        self.exits.borrow().iter().any(|exit| role(exit) == Some(Role::Intake))
    }

    /// Returns the disturbances between the harness and the system so far.
    pub async fn disturbances(&self) -> Vec<String> {
        self.environment().await.disturbances().await
    }

    /// Returns the last lines of a workload's log.
    pub async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        self.environment().await.log_tail(workload, lines).await
    }

    /// Returns those of the last lines of a workload's log that `is_meant`, each with the time when it was read.
    pub async fn logged(&self, workload: &str, is_meant: LineTest) -> Vec<(SystemTime, String)> {
        self.environment().await.logged(workload, is_meant).await
    }

    /// Writes every workload's log into `dir`.
    ///
    /// # Errors
    ///
    /// When the environment cannot.
    pub async fn collect_logs(&self, dir: &Path) -> Result<(), EnvironmentError> {
        self.environment().await.collect_logs(dir).await
    }

    /// Names of the workloads of this role.
    pub(crate) fn named(&self, role: Role) -> Vec<String> {
        let workloads = self.endpoints.workloads.iter();
        let of_role = workloads.filter(|(_, workload)| workload.role == role);
        of_role.map(|(name, _)| name.clone()).collect()
    }

    /// Takes the system down, the intake last.
    pub(super) async fn down(&self) -> Result<(), EnvironmentError> {
        self.watcher.abort();
        self.environment().await.down().await
    }
}

/// Reports each workload that ended by itself.
async fn watch_exits(
    environment: Arc<AsyncMutex<Box<dyn Environment>>>,
    report: watch::Sender<Vec<UnexpectedExit>>,
) {
    let mut every = tokio::time::interval(WATCH_INTERVAL);
    loop {
        every.tick().await;
        let ended = environment.lock().await.unexpected_exits().await;
        if !ended.is_empty() {
            report.send_modify(|all| all.extend(ended));
        }
    }
}
