//! A session: one system that is up, the evidence it produces, and a driver to send requests through it.
//!
//! `run` makes one for each group of scenarios; a library user makes one for a test. It knows nothing of files,
//! reports or exit codes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::connect::{Parts, watch_exits};
use crate::{
    case::{Case, LedgerReport, Outcome, Topology},
    driver::{self, Driver, DriverError, Ids},
    environment::{Endpoints, Environment, EnvironmentError, UnexpectedExit},
    evidence::EvidenceSource,
    intake::{
        client::{ClientError, IntakeClient},
        decode::Route,
        replies::{Script, ScriptedReply},
        store::Store,
    },
    ledger::LedgerClient,
    scenario::{
        Fault, FaultKind, Request,
        fault::{self, IntakeFault, IntakeReply},
        request::SavedValues,
    },
    stages::{self, BalanceExpect, Stages},
    strays::Strays,
    system::{Role, System},
    trace::TraceId,
    verdict::CaseResult,
};

mod connect;
mod pointing;
mod rest;
mod settle;

/// Longest wait for what the intake has and the copy of it has not.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How many ledgers are asked at once.
const LEDGERS_AT_ONCE: usize = 32;
/// How soon stages that do not balance yet are asked again.
const STAGES_AGAIN: Duration = Duration::from_millis(200);

/// Why a session did not start or end well.
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
    /// It was not to go on.
    #[error("the run ended while its system came up")]
    Halted,
    /// A fault is for the mock intake, and there is none.
    #[error("a fault at `intake` needs the mock intake, but evidence comes from {0}")]
    NoMockIntake(&'static str),
    /// The system lacks something that every system has.
    #[error("the system has no {0}")]
    Incomplete(&'static str),
}

/// What became of a workload that was stopped on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// It is down.
    Down,
    /// It is up again, and has forgotten what it did before.
    Again,
}

/// A judged case, with what the services' ledgers said of it.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The judgement.
    pub result: CaseResult,
    /// What the ledgers said last.
    pub ledgers: BTreeMap<String, LedgerReport>,
}

/// A system that is up, with all that is needed to drive and judge it.
pub struct Session {
    environment: Arc<AsyncMutex<Box<dyn Environment>>>,
    endpoints: Endpoints,
    /// The mock intake; `None` where the collector sends to Datadog itself.
    intake: Option<Arc<IntakeClient>>,
    source: Arc<dyn EvidenceSource>,
    /// Whether the system was there before, and others may use it.
    attached: bool,
    /// How long to wait until the collector sends to the intake.
    pointing: Option<Duration>,
    driver: Driver,
    topology: Topology,
    http: reqwest::Client,
    /// By service, one for each of its instances.
    ledgers: BTreeMap<String, Vec<LedgerClient>>,
    /// Lets so many ledgers be asked at once; each answer has a time limit, and waiting for a turn is not to count.
    ledger_turns: Semaphore,
    claims: Mutex<HashSet<TraceId>>,
    /// When the newest request was sent whose spans are to prove that what began earlier had its time.
    later_sent_at: AsyncMutex<i64>,
    strays: Mutex<Strays>,
    /// Traces that answers told of though the request belonged to another one, with that other one.
    told: Mutex<HashMap<TraceId, TraceId>>,
    /// Workloads that were stopped on purpose; their ledgers are gone, or begin anew.
    stopped: Mutex<BTreeMap<String, Stopped>>,
    /// What is to be told of their ends.
    notes: Mutex<Vec<String>>,
    exits: watch::Receiver<Vec<UnexpectedExit>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Brings the system up in the environment. When it fails, or `halt` is cancelled meanwhile, everything that came up is
    /// taken down again.
    ///
    /// # Errors
    ///
    /// When a workload does not come up, or cannot be reached.
    pub async fn start(
        environment: Box<dyn Environment>,
        system: &System,
        run_id: &str,
        halt: &CancellationToken,
    ) -> Result<Self, SessionError> {
        Self::start_with(environment, system, run_id, None, &|| Ok(None), halt).await
    }

    /// The same with evidence from another source than the system's mock intake, which it need not have then. Where it does not
    /// come up, `logs` is asked for the folder that its logs go to.
    ///
    /// # Errors
    ///
    /// When a workload does not come up, or cannot be reached.
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
        let (attached, pointing) = (environment.is_attached(), environment.pointing());
        let environment = Arc::new(AsyncMutex::new(environment));
        let (tell, exits) = watch::channel(Vec::new());
        let watcher = tokio::spawn(watch_exits(Arc::clone(&environment), tell));
        let Parts { endpoints, intake, source, driver, topology, http, ledgers } = parts;
        Ok(Self {
            environment,
            endpoints,
            intake,
            source,
            attached,
            pointing,
            driver,
            topology,
            http,
            ledgers,
            ledger_turns: Semaphore::new(LEDGERS_AT_ONCE),
            claims: Mutex::default(),
            later_sent_at: AsyncMutex::default(),
            strays: Mutex::default(),
            told: Mutex::default(),
            stopped: Mutex::default(),
            notes: Mutex::default(),
            exits,
            watcher,
        })
    }

    /// Where everything can be reached.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Which workload a span comes from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The mock intake's own record; `None` where evidence comes from elsewhere.
    pub fn intake(&self) -> Option<&IntakeClient> {
        self.intake.as_deref()
    }

    /// Where evidence comes from.
    pub fn source(&self) -> &dyn EvidenceSource {
        self.source.as_ref()
    }

    /// The mock intake, which a fault is to script.
    fn scripted(&self) -> Result<&IntakeClient, SessionError> {
        self.intake.as_deref().ok_or_else(|| SessionError::NoMockIntake(self.source.name()))
    }

    /// Workloads that ended by themselves so far.
    pub fn unexpected_exits(&self) -> Vec<UnexpectedExit> {
        self.exits.borrow().clone()
    }

    /// What came between the harness and the system so far.
    pub async fn disturbances(&self) -> Vec<String> {
        self.environment.lock().await.disturbances().await
    }

    /// The last lines that a workload logged.
    pub async fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        self.environment.lock().await.log_tail(workload, lines).await
    }

    /// Writes every workload's log into `dir`.
    ///
    /// # Errors
    ///
    /// When the environment cannot.
    pub async fn collect_logs(&self, dir: &std::path::Path) -> Result<(), EnvironmentError> {
        self.environment.lock().await.collect_logs(dir).await
    }

    /// Sends one request under the given faults, and claims its trace.
    pub async fn send(&self, request: &Request, place: (usize, u32), faults: &[Fault]) -> Case {
        let ids = Ids::generate();
        self.claim(ids.trace_id);
        let entry_url = match &request.entry {
            Some(entry) => match self.endpoints.url(entry, "http") {
                Some(url) => Some(url),
                None => {
                    let reason = format!("nobody here knows where port `http` of `{entry}` is");
                    return driver::not_sent(request, place, ids, reason);
                }
            },
            None => None,
        };
        let fault = fault::header_value(faults);
        let sent = self.driver.send(request, entry_url.as_deref(), place, ids, fault.as_deref());
        let case = sent.await;
        self.claim(case.trace_id);
        if let Outcome::Response { trace_id: Some(told), .. } = case.outcome
            && told != case.trace_id
        {
            lock(&self.told).insert(told, case.trace_id);
        }
        case
    }

    /// The same with the values in it that earlier answers gave, and what its own answer gives kept for later ones.
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

    /// The traces that belong to the run.
    pub fn claims(&self) -> Vec<TraceId> {
        lock(&self.claims).iter().copied().collect()
    }

    fn claim(&self, id: TraceId) {
        lock(&self.claims).insert(id);
    }

    /// Does what the faults ask of workloads and of the intake; the faults of requests travel with them.
    ///
    /// # Errors
    ///
    /// When the environment cannot do it.
    pub async fn inject(&self, faults: &[Fault]) -> Result<(), SessionError> {
        for fault in faults {
            match &fault.kind {
                FaultKind::Stop => {
                    lock(&self.stopped).insert(fault.at.clone(), Stopped::Down);
                    let stopped = self.environment.lock().await.stop(&fault.at).await;
                    self.note_gone(stopped)?;
                }
                FaultKind::Pause => self.environment.lock().await.pause(&fault.at).await?,
                FaultKind::Kill | FaultKind::Restart => {
                    lock(&self.stopped).insert(fault.at.clone(), Stopped::Down);
                    let mut environment = self.environment.lock().await;
                    if fault.kind == FaultKind::Kill {
                        environment.kill(&fault.at).await?;
                        environment.start(&fault.at).await?;
                    } else {
                        let stopped = environment.stop(&fault.at).await;
                        self.note_gone(stopped)?;
                        environment.start(&fault.at).await?;
                    }
                    lock(&self.stopped).insert(fault.at.clone(), Stopped::Again);
                }
                FaultKind::ScaleToZero => {
                    self.environment.lock().await.scale(&fault.at, 0).await?;
                    lock(&self.stopped).insert(fault.at.clone(), Stopped::Down);
                }
                FaultKind::Intake(fault) => {
                    for script in scripts(fault) {
                        self.scripted()?.script_reply(&script).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a workload that a fault stops for stopped though it did not end in peace: it is gone, which is what was asked.
    fn note_gone(&self, stopped: Result<(), EnvironmentError>) -> Result<(), EnvironmentError> {
        let Err(EnvironmentError::UncleanStop(stops)) = stopped else { return stopped };
        let told = stops
            .iter()
            .map(|stop| format!("the fault at `{}`: it was {}", stop.workload, stop.how));
        lock(&self.notes).extend(told);
        Ok(())
    }

    /// What is to be told of workloads that were stopped and did not end in peace, each once.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.notes))
    }

    /// Lets the workloads go on that [`Session::inject`] froze.
    ///
    /// # Errors
    ///
    /// When the environment cannot do it.
    pub async fn thaw(&self, faults: &[Fault]) -> Result<(), SessionError> {
        for fault in faults.iter().filter(|fault| fault.kind == FaultKind::Pause) {
            self.environment.lock().await.resume(&fault.at).await?;
        }
        Ok(())
    }

    /// Takes back what [`Session::inject`] did to the end: starts what it stopped, and lets the intake answer as usual.
    ///
    /// # Errors
    ///
    /// When the environment cannot do it.
    pub async fn heal(&self, faults: &[Fault]) -> Result<(), SessionError> {
        for fault in faults {
            match &fault.kind {
                FaultKind::Stop => {
                    self.environment.lock().await.start(&fault.at).await?;
                    lock(&self.stopped).insert(fault.at.clone(), Stopped::Again);
                }
                FaultKind::ScaleToZero => {
                    let before = self.endpoints.workloads.get(&fault.at);
                    let before = before.map_or(1, |workload| workload.instances.len());
                    let before = u32::try_from(before).unwrap_or(u32::MAX);
                    self.environment.lock().await.scale(&fault.at, before).await?;
                    lock(&self.stopped).insert(fault.at.clone(), Stopped::Again);
                }
                FaultKind::Intake(_) => {
                    if let Some(intake) = &self.intake {
                        intake.clear_replies().await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What each stage of the whole system tells of its spans so far.
    pub async fn stages(&self) -> Stages {
        let services = self.ledgers.iter().flat_map(|(workload, of_instances)| {
            of_instances.iter().map(move |ledger| async move {
                let totals = ledger.totals().await.map_err(|error| error.to_string());
                (workload.clone(), totals.map(|totals| totals.spans_ended))
            })
        });
        let collectors = self.endpoints.workloads.iter();
        let collectors = collectors.filter(|(_, of)| of.role == Role::Collector);
        let collectors = collectors.flat_map(|(workload, of)| {
            let is_one = of.instances.len() == 1;
            of.instances.iter().map(move |instance| async move {
                let counted = match instance.url("metrics") {
                    None => Err("it has no port `metrics`".to_owned()),
                    Some(url) => stages::collector(&self.http, &url).await,
                };
                (if is_one { workload } else { &instance.name }.clone(), counted)
            })
        });
        let (services, collectors) =
            future::join(future::join_all(services), future::join_all(collectors)).await;
        Stages {
            services,
            collectors,
            harness: self.driver.exported(),
            captured: self.intake.as_ref().map(|intake| intake.counts().spans),
            source: self.source.counted(),
        }
    }

    /// The same once the stages balance, or when they have not within that time.
    pub async fn balanced_stages(&self, expect: BalanceExpect, within: Duration) -> Stages {
        let deadline = Instant::now() + within;
        loop {
            let stages = self.stages().await;
            if stages.is_balanced(expect) || Instant::now() >= deadline {
                return stages;
            }
            tokio::time::sleep(STAGES_AGAIN).await;
        }
    }

    /// Stops the collectors, so that they send what they keep back, and gives the number of the last attempt that the intake had
    /// then.
    ///
    /// # Errors
    ///
    /// When one does not end well, or the intake cannot be read.
    pub async fn stop_collectors(&self) -> Result<u64, SessionError> {
        for collector in self.collectors() {
            self.environment.lock().await.stop(&collector).await?;
        }
        let Some(intake) = &self.intake else { return Ok(0) };
        intake.drain(DRAIN_TIMEOUT).await?;
        Ok(intake.with_store(Store::newest))
    }

    /// Starts them again.
    ///
    /// # Errors
    ///
    /// When one does not come up.
    pub async fn start_collectors(&self) -> Result<(), SessionError> {
        for collector in self.collectors() {
            self.environment.lock().await.start(&collector).await?;
        }
        Ok(())
    }

    fn collectors(&self) -> Vec<String> {
        let workloads = self.endpoints.workloads.iter();
        let collectors = workloads.filter(|(_, workload)| workload.role == Role::Collector);
        collectors.map(|(name, _)| name.clone()).collect()
    }

    /// Takes the system down, the intake last.
    ///
    /// # Errors
    ///
    /// What could not be cleaned up, or ended badly.
    pub async fn stop(&self) -> Result<(), EnvironmentError> {
        self.watcher.abort();
        self.environment.lock().await.down().await
    }
}

/// A fault of the intake as its control API takes it: at every route that takes spans, since a collector uses one of them.
fn scripts(fault: &IntakeFault) -> impl Iterator<Item = Script> {
    Route::OF_SPANS.into_iter().map(|route| script(fault, route))
}

fn script(fault: &IntakeFault, route: Route) -> Script {
    let usual = Script { path: route.path().to_owned(), ..Script::status(200) };
    let reply = fault.reply.map(|reply| match reply {
        IntakeReply::Status(status) => ScriptedReply::Status(status),
        IntakeReply::Reset => ScriptedReply::Reset(true),
    });
    Script { reply, delay: fault.delay, next: fault.next, lasting: fault.lasting, ..usual }
}

/// The lock of plain data, which a panic elsewhere cannot leave half changed.
fn lock<T>(data: &Mutex<T>) -> MutexGuard<'_, T> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}
