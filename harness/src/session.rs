//! A session: one system that is up, the evidence it produces, and a driver to send requests through it.
//!
//! `run` makes one for each group of scenarios; a library user makes one for a test. It knows nothing of files,
//! reports or exit codes.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future;
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

pub(crate) use self::accounts::Reports;
use self::{accounts::Accounts, connect::Parts};
pub use self::{rest::Restless, up::Up, witness::Witness};
use crate::{
    case::{Case, Evidence},
    driver::{self, Driver, DriverError, Ids},
    environment::{Endpoints, Environment, EnvironmentError},
    evidence::EvidenceSource,
    finding::Findings,
    intake::client::{ClientError, IntakeClient},
    ledger::LedgerError,
    record::{CaseRecord, Record},
    scenario::{Fault, Method, Request, Scenario, fault, request::SavedValues},
    stages::Stages,
    system::System,
};

mod accounts;
mod connect;
pub(crate) mod export_errors;
mod faults;
mod pointing;
mod rest;
mod settle;
mod up;
mod witness;

/// Longest wait for what the intake has and the copy of it has not.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon stages that do not balance yet are asked again.
const STAGES_AGAIN: Duration = Duration::from_millis(200);

/// Error for a session that did not start or end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The environment did not do its part.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The driver could not be set up.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The intake cannot be read.
    #[error("the intake cannot be read: {0}")]
    Intake(#[from] ClientError),
    /// The start was cancelled.
    #[error("the run was cancelled while its system started")]
    Halted,
    /// A fault is for the mock intake, and there is none.
    #[error("a fault at `intake` needs the mock intake, but evidence comes from {0}")]
    NoMockIntake(&'static str),
    /// The tap between two workloads does not do what it was asked to.
    #[error("the tap `{tap}` could not be configured with its faults: {reason}")]
    Tap {
        /// Its name.
        tap: String,
        /// The reason.
        reason: String,
    },
    /// A fault scripts the collector, which cannot be scripted.
    #[error(
        "a fault with a `status` at `collector` needs the built-in collector, whose ledger takes scripts; another one can be stopped, paused or killed"
    )]
    NoScripts,
    /// A collector did not take a script.
    #[error("the collector cannot be scripted: {0}")]
    Script(#[from] LedgerError),
    /// The system lacks something that every system has.
    #[error("the system has no {0}")]
    Incomplete(&'static str),
}

/// A case that can be judged.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The findings by which the wait for its trace ended.
    pub findings: Findings,
    /// The evidence of its trace.
    pub evidence: Evidence,
    /// Time from its newest span to the end of the wait, in milliseconds; `None` where no span was captured.
    pub judged_after_ms: Option<u64>,
}

/// A system that is up, with all that is needed to drive and judge it.
pub struct Session {
    up: Up,
    witness: Witness,
    accounts: Accounts,
    driver: Driver,
    /// Longest time that spans wait in a service's SDK; `None` where it is not known.
    export_delay: Option<Duration>,
    /// When the newest request was sent whose spans are to prove that what began earlier had its time.
    later_sent_at: AsyncMutex<i64>,
}

impl Session {
    /// Starts the system in the environment. If that fails, or `halt` is cancelled meanwhile, everything that was
    /// started is taken down again.
    ///
    /// # Errors
    ///
    /// If a workload does not start, or cannot be reached.
    pub async fn start(
        environment: Box<dyn Environment>,
        system: &System,
        run_id: &str,
        halt: &CancellationToken,
    ) -> Result<Self, SessionError> {
        Self::start_with(environment, system, run_id, None, &|| Ok(None), halt).await
    }

    /// Starts the system as [`Session::start`] does, with evidence from `source` in place of the system's mock
    /// intake, if given. If the start fails, `logs` returns the folder to write logs to.
    ///
    /// # Errors
    ///
    /// If a workload does not start, or cannot be reached.
    pub async fn start_with(
        mut environment: Box<dyn Environment>,
        system: &System,
        run_id: &str,
        source: Option<Arc<dyn EvidenceSource>>,
        logs: &(dyn Fn() -> io::Result<Option<PathBuf>> + Sync),
        halt: &CancellationToken,
    ) -> Result<Self, SessionError> {
        let start = async {
            let endpoints = environment.up(system).await?;
            Parts::connect(endpoints, system, run_id, source).await
        };
        let started = tokio::select! {
            started = start => started,
            () = halt.cancelled() => Err(SessionError::Halted),
        };
        let parts = match started {
            Ok(parts) => parts,
            Err(error) => {
                // Whoever gave it up does not want to read why.
                if !halt.is_cancelled()
                    && let Ok(Some(dir)) = logs()
                    && let Err(lost) = environment.collect_logs(&dir).await
                {
                    tracing::warn!(%lost, "keeping logs of a system that did not come up");
                }
                if let Err(left) = environment.down().await {
                    tracing::warn!(%left, "cleaning up after a failed start");
                }
                return Err(error);
            }
        };
        let Parts { endpoints, intake, source, driver, mut topology, .. } = parts;
        let Parts { places, http, ledgers, export_delay, .. } = parts;
        let accounts = Accounts::new(http, ledgers, &endpoints);
        let up = Up::new(environment, endpoints);
        if up.is_attached() {
            // Of what was there before, it is not known what stands between.
            for service in &mut topology.services {
                service.direct_callers.clear();
                service.called_through.clear();
                service.exports_elsewhere = None;
            }
        }
        let ledgers = (accounts.services(), accounts.has_collector_ledger());
        let witness = Witness::new(intake, source, (topology, places), ledgers, up.is_attached());
        // Of what was there before, it is not known how it exports.
        let export_delay = export_delay.filter(|_| !up.is_attached());
        let later_sent_at = AsyncMutex::default();
        Ok(Self { up, witness, accounts, driver, export_delay, later_sent_at })
    }

    /// Returns the running system.
    pub fn up(&self) -> &Up {
        &self.up
    }

    /// Returns the witness: captured traces and their owners.
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Returns the endpoints of all workloads.
    pub fn endpoints(&self) -> &Endpoints {
        self.up.endpoints()
    }

    /// Returns the client of the mock intake; `None` if evidence comes from elsewhere.
    pub fn intake(&self) -> Option<&IntakeClient> {
        self.witness.intake()
    }

    /// Returns the source of evidence.
    pub fn source(&self) -> &dyn EvidenceSource {
        self.witness.source()
    }

    /// Sends one request under the given faults, and claims its trace.
    pub async fn send(&self, request: &Request, place: (usize, u32), faults: &[Fault]) -> Case {
        let ids = Ids::generate();
        self.witness.claim(ids.trace_id);
        let first = self.witness.topology().services.first().map(|service| &service.workload);
        let by_grpc = request.method == Method::Grpc;
        let entry_url = match request.entry.as_ref().or(first.filter(|_| by_grpc)) {
            Some(entry) => match self.port_of(entry, by_grpc) {
                Some(url) => Some(url),
                None if request.entry.is_none() => None,
                None => {
                    let reason = format!("the address of port `http` of `{entry}` is unknown");
                    return driver::not_sent(request, place, ids, reason);
                }
            },
            None => None,
        };
        let fault = fault::header_value(faults);
        let sent = self.driver.send(request, entry_url.as_deref(), place, ids, fault.as_deref());
        let case = sent.await;
        self.witness.note_answer(&case, &request.path);
        case
    }

    /// Sends one request for the harness's own sake, without faults.
    async fn send_for_itself(&self, request: &Request, place: (usize, u32)) -> Case {
        let case = self.send(request, place, &[]).await;
        self.witness.note_for_itself(&case);
        case
    }

    /// Returns the address for requests to a workload.
    fn port_of(&self, workload: &str, by_grpc: bool) -> Option<String> {
        let grpc = by_grpc.then(|| self.endpoints().url(workload, "grpc")).flatten();
        grpc.or_else(|| self.endpoints().url(workload, "http"))
    }

    /// Sends one request as [`Session::send`] does, with references replaced by `values`, and saves values from its
    /// response there.
    pub async fn send_filled(
        &self,
        request: &Request,
        place: (usize, u32),
        faults: &[Fault],
        values: &SavedValues,
    ) -> Case {
        let case = match values.fill(request, place.1) {
            Ok(filled) => self.send(&filled, place, faults).await,
            Err(reason) => {
                let reason = format!("the request was not sent: {reason}");
                driver::not_sent(request, place, Ids::generate(), reason)
            }
        };
        values.keep(request, place.1, &case.answer.json);
        case
    }

    /// Returns the record of a scenario that nothing was sent for yet.
    pub(crate) fn record(&self, scenario: Scenario) -> Record {
        let capabilities = self.witness.capabilities().to_vec();
        Record::new(scenario, self.witness.topology().clone(), capabilities)
    }

    /// Returns the record of a scenario of which one request was sent.
    pub(crate) fn record_of(&self, scenario: Scenario, case: Case, evidence: Evidence) -> Record {
        let strays = self.witness.strays_of(std::iter::once(&case));
        let cases = vec![CaseRecord { case, evidence }];
        Record { cases, strays, ..self.record(scenario) }
    }

    /// Returns each stage's span counts so far.
    pub async fn stages(&self) -> Stages {
        let (services, collectors) =
            future::join(self.accounts.of_services(), self.accounts.of_collectors()).await;
        Stages {
            services,
            collectors,
            harness: self.driver.exported(),
            harness_undecided: self.driver.undecided(),
            captured: self.intake().map(|intake| intake.counts().spans),
            source: self.source().counted(),
        }
    }

    /// Waits until the stages satisfy the predicate, or `within` has passed, and returns them.
    pub async fn stages_when(
        &self,
        are_as_expected: impl Fn(&Stages) -> bool,
        within: Duration,
    ) -> Stages {
        let deadline = Instant::now() + within;
        loop {
            let stages = self.stages().await;
            if are_as_expected(&stages) || Instant::now() >= deadline {
                return stages;
            }
            tokio::time::sleep(STAGES_AGAIN).await;
        }
    }

    /// Takes the system down, the intake last.
    ///
    /// # Errors
    ///
    /// What could not be cleaned up, or ended badly.
    pub async fn stop(&self) -> Result<(), EnvironmentError> {
        self.up.down().await
    }
}

/// The lock of plain data, which a panic elsewhere cannot leave half changed.
fn lock<T>(data: &Mutex<T>) -> MutexGuard<'_, T> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}
