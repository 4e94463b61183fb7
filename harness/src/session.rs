//! A session: one system that is up, the evidence it produces, and a driver to send requests through it.
//!
//! `run` makes one for each group of scenarios; a library user makes one for a test. It knows nothing of files,
//! reports or exit codes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::{
    case::{
        Capability, Case, DRIVER_SERVICE, Evidence, LedgerReport, Outcome, ServiceIdentity,
        Topology, View,
    },
    driver::{Driver, DriverError, Ids, OtlpEndpoint},
    environment::{Endpoints, Environment, EnvironmentError, UnexpectedExit},
    evidence::EvidenceSource,
    expectation::{Expect, Matcher, SpanCount},
    intake::{
        self,
        client::{ClientError, IntakeClient},
        decode::Route,
        replies::{Script, ScriptedReply},
        store::Store,
    },
    judge::{self, CHAIN_PATH},
    ledger::{LedgerClient, LedgerEntry},
    rule::{self, Findings},
    scenario::{
        Fault, FaultKind, Request, Scenario, SystemChoice,
        fault::{self, IntakeFault, IntakeReply},
    },
    stages,
    strays::Strays,
    system::{Role, System, Workload},
    trace::TraceId,
    verdict::CaseResult,
};

/// How long a trace must not have changed before it counts as complete.
const QUIET: Duration = Duration::from_millis(100);
/// How soon what cannot wake the judge (a service's ledger) is looked at again; each time later, up to [`LOOK_AGAIN_MOST`].
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The longest time after which it is looked at again.
const LOOK_AGAIN_MOST: Duration = Duration::from_secs(1);
/// Longest wait for one ledger route.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for what the intake has and the copy of it has not.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often dead workloads are looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

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
    intake: IntakeClient,
    driver: Driver,
    topology: Topology,
    http: reqwest::Client,
    ledgers: BTreeMap<String, LedgerClient>,
    claims: Mutex<HashSet<TraceId>>,
    strays: Mutex<Strays>,
    /// Traces that answers told of though the request belonged to another one, with that other one.
    told: Mutex<HashMap<TraceId, TraceId>>,
    /// Workloads that were stopped on purpose; their ledgers are gone, or begin anew.
    stopped: Mutex<BTreeMap<String, Stopped>>,
    exits: watch::Receiver<Vec<UnexpectedExit>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Brings the system up in the environment. When it fails, everything that came up is taken down again.
    ///
    /// # Errors
    ///
    /// When a workload does not come up, or cannot be reached.
    pub async fn start(
        mut environment: Box<dyn Environment>,
        system: &System,
        run_id: &str,
    ) -> Result<Self, SessionError> {
        let started = match environment.up(system).await {
            Ok(endpoints) => Parts::connect(endpoints, system, run_id).await,
            Err(error) => Err(error.into()),
        };
        let parts = match started {
            Ok(parts) => parts,
            Err(error) => {
                if let Err(left) = environment.down().await {
                    tracing::warn!(%left, "cleaning up after a failed start");
                }
                return Err(error);
            }
        };
        let environment = Arc::new(AsyncMutex::new(environment));
        let (tell, exits) = watch::channel(Vec::new());
        let watcher = tokio::spawn(watch_exits(Arc::clone(&environment), tell));
        let Parts { endpoints, intake, driver, topology, http, ledgers } = parts;
        Ok(Self {
            environment,
            endpoints,
            intake,
            driver,
            topology,
            http,
            ledgers,
            claims: Mutex::default(),
            strays: Mutex::default(),
            told: Mutex::default(),
            stopped: Mutex::default(),
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

    /// The intake's own record.
    pub fn intake(&self) -> &IntakeClient {
        &self.intake
    }

    /// Workloads that ended by themselves so far.
    pub fn unexpected_exits(&self) -> Vec<UnexpectedExit> {
        self.exits.borrow().clone()
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
        let case =
            self.driver.send(request, place, ids, fault::header_value(faults).as_deref()).await;
        self.claim(case.trace_id);
        if let Outcome::Response { trace_id: Some(told), .. } = case.outcome
            && told != case.trace_id
        {
            lock(&self.told).insert(told, case.trace_id);
        }
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
                    self.environment.lock().await.stop(&fault.at).await?;
                }
                FaultKind::Pause => self.environment.lock().await.pause(&fault.at).await?,
                FaultKind::Intake(fault) => {
                    for script in scripts(fault) {
                        self.intake.script_reply(&script).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
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
                FaultKind::Intake(_) => self.intake.clear_replies().await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until a case can be judged and judges it: as soon as all rules and expectations hold and its trace has been
    /// quiet for a moment; at the deadline, or when the intake is gone, with whatever was found last.
    pub async fn settle(&self, scenario: &Scenario, case: &Case) -> Settled {
        let shape = judge::shape(scenario, &scenario.requests[case.request].path);
        let deadline = Instant::now() + scenario.expect.within;
        let mut changes = self.intake.changes();
        let mut exits = self.exits.clone();
        let mut ledgers = BTreeMap::new();
        let mut ledger_age: Option<Instant> = None;
        let mut judged_progress = None;
        let mut look_again = LOOK_AGAIN;
        let mut findings = Findings::default();
        loop {
            changes.borrow_and_update();
            let progress = self.intake.progress(case.trace_id);
            let stale = ledger_age.is_none_or(|age| age.elapsed() >= look_again);
            if judged_progress != Some(progress) || stale {
                let mut evidence = self.evidence(case, ledgers.clone());
                findings = judge::judge(scenario, case, &evidence, &self.topology, &shape);
                let late = Instant::now() >= deadline || self.intake_ended();
                // The ledgers are asked once the rest holds, as they are to confirm it, and once more at the end, to explain.
                let rest_holds =
                    findings.failures.iter().all(|failure| rule::needs_ledger(&failure.rule));
                if stale && (rest_holds || late) {
                    ledgers = self.read_ledgers(case.trace_id).await;
                    ledger_age = Some(Instant::now());
                    evidence.ledgers = ledgers.clone();
                    findings = judge::judge(scenario, case, &evidence, &self.topology, &shape);
                }
                judged_progress = Some(progress);
                let quiet_since = progress.map(|(_, at)| at);
                let quiet = quiet_since.is_none_or(|at| at.elapsed() >= QUIET);
                if (findings.failures.is_empty() && quiet && ledger_age.is_some()) || late {
                    let result =
                        self.conclude(scenario, case, evidence, &shape, findings, quiet_since);
                    return Settled { result, ledgers };
                }
            }
            let quiet_in = progress
                .map(|(_, at)| QUIET.saturating_sub(at.elapsed()))
                .filter(|left| !left.is_zero());
            let wake = match quiet_in {
                Some(quiet_in) if findings.failures.is_empty() => quiet_in,
                _ => look_again,
            };
            let wake = wake.min(deadline.saturating_duration_since(Instant::now()));
            tokio::select! {
                _ = changes.changed() => {}
                _ = exits.changed() => {}
                () = tokio::time::sleep(wake) => {
                    judged_progress = None;
                    if !findings.failures.is_empty() {
                        look_again = (look_again * 2).min(LOOK_AGAIN_MOST);
                    }
                }
            }
        }
    }

    /// Whether the intake ended by itself.
    pub fn intake_ended(&self) -> bool {
        let role = |exit: &UnexpectedExit| Some(self.endpoints.workloads.get(&exit.workload)?.role);
        self.exits.borrow().iter().any(|exit| role(exit) == Some(Role::Intake))
    }

    fn conclude(
        &self,
        scenario: &Scenario,
        case: &Case,
        evidence: Evidence,
        shape: &fault::Shape,
        findings: Findings,
        captured_at: Option<Instant>,
    ) -> CaseResult {
        let view = View { case, evidence: &evidence, topology: &self.topology, shape };
        let after =
            captured_at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        judge::result(scenario, view, findings, after)
    }

    /// Judges a case once more from what is there now, without waiting; what its ledgers say is asked again, or given where
    /// the services are gone.
    pub async fn review(
        &self,
        scenario: &Scenario,
        case: &Case,
        ledgers: Option<BTreeMap<String, LedgerReport>>,
    ) -> Settled {
        let shape = judge::shape(scenario, &scenario.requests[case.request].path);
        let ledgers = match ledgers {
            Some(ledgers) => ledgers,
            None => self.read_ledgers(case.trace_id).await,
        };
        let evidence = self.evidence(case, ledgers.clone());
        let findings = judge::judge(scenario, case, &evidence, &self.topology, &shape);
        let result = self.conclude(scenario, case, evidence, &shape, findings, None);
        Settled { result, ledgers }
    }

    /// Everything known of a case now; what its ledgers say is given.
    pub fn evidence(&self, case: &Case, ledgers: BTreeMap<String, LedgerReport>) -> Evidence {
        let claims = lock(&self.claims);
        let version = *self.intake.changes().borrow();
        let mut strays = lock(&self.strays);
        strays.refresh(version, &claims, |claims| self.intake.unclaimed(claims));
        let mut strays = strays.during(case);
        let told = lock(&self.told);
        // A stray that another request's answer told of is that one's; one's own comes first.
        strays.retain(|stray| told.get(&stray.id).is_none_or(|owner| *owner == case.trace_id));
        strays.sort_by_key(|stray| !told.contains_key(&stray.id));
        Evidence {
            trace: self.intake.trace(case.trace_id),
            ledgers,
            strays,
            capabilities: self.capabilities(),
            refused: self.intake.refused(),
            ended: self
                .unexpected_exits()
                .iter()
                .map(|exit| format!("`{}` ended by itself ({})", exit.workload, exit.status))
                .collect(),
        }
    }

    /// What the evidence can give.
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = self.intake.capabilities();
        if !self.ledgers.is_empty() {
            capabilities.push(Capability::Ledger);
        }
        capabilities
    }

    /// What each service that has a ledger says of one trace. One that was stopped on purpose is not asked while it is down,
    /// and afterwards knows only part.
    pub async fn read_ledgers(&self, trace_id: TraceId) -> BTreeMap<String, LedgerReport> {
        let stopped = lock(&self.stopped).clone();
        let up = self
            .ledgers
            .iter()
            .filter(|(workload, _)| stopped.get(*workload) != Some(&Stopped::Down));
        let reads = up.map(|(workload, ledger)| (workload, ledger, stopped.contains_key(workload)));
        let reads = reads.map(|(workload, ledger, partial)| async move {
            let report = match ledger.entry(trace_id).await {
                Ok(entry) => {
                    LedgerReport::Known(LedgerEntry { evicted: entry.evicted || partial, ..entry })
                }
                Err(error) => LedgerReport::Unknown(error.to_string()),
            };
            (workload.clone(), report)
        });
        futures_util::future::join_all(reads).await.into_iter().collect()
    }

    /// What each stage of the whole system tells of its spans so far, in one line.
    pub async fn stages(&self) -> String {
        let mut told = Vec::new();
        for (workload, ledger) in &self.ledgers {
            told.push(match ledger.totals().await {
                Ok(totals) => format!("{workload} ended {}", totals.spans_ended),
                Err(error) => format!("{workload} unknown ({error})"),
            });
        }
        for (name, _) in
            self.endpoints.workloads.iter().filter(|(_, of)| of.role == Role::Collector)
        {
            told.push(match self.endpoints.url(name, "metrics") {
                None => format!("{name} unknown (it has no port `metrics`)"),
                Some(url) => match stages::collector(&self.http, &url).await {
                    Ok(counted) => format!("{name} {counted}"),
                    Err(reason) => format!("{name} unknown ({reason})"),
                },
            });
        }
        let counts = self.intake.counts();
        let refused: u64 = self.intake.refused().values().sum();
        told.push(format!("intake took {} and refused {refused} attempts", counts.spans));
        told.join("; ")
    }

    /// Sends a sentinel trace, by a request like one that the system takes, through every exporting path, and waits until it has
    /// arrived whole: whatever was sent before it had the same time and more. In a chain every hop must be in it; elsewhere
    /// every service in `seen`.
    ///
    /// # Errors
    ///
    /// What was still missing of the sentinel at the deadline.
    pub async fn quiesce(
        &self,
        like: (&SystemChoice, &Request),
        seen: &BTreeSet<String>,
        within: Duration,
    ) -> Result<(), String> {
        let scenario = sentinel(like, seen, within);
        let case = self.send(&scenario.requests[0], (0, 0), &[]).await;
        let result = self.settle(&scenario, &case).await.result;
        match result.findings.failures.first() {
            None => Ok(()),
            Some(failure) => Err(format!("{}: {}", failure.rule, failure.detail)),
        }
    }

    /// The workloads, or services where they are not known, that spans of a trace came from.
    pub fn seen_in(&self, trace_id: TraceId) -> BTreeSet<String> {
        let Some(trace) = self.intake.trace(trace_id) else { return BTreeSet::new() };
        let services = trace.spans.iter().filter(|span| span.service != DRIVER_SERVICE);
        services
            .map(|span| self.topology.workload_of(span).unwrap_or(&span.service).to_owned())
            .collect()
    }

    /// The services that have no ledger, and that no captured span can be told to be of, though every span can be told.
    pub fn silent_services(&self) -> Vec<String> {
        let seen: BTreeSet<String> =
            self.intake.trace_ids().into_iter().flat_map(|id| self.seen_in(id)).collect();
        let services = self.topology.services.iter().map(|service| &service.workload);
        let silent = services
            .filter(|workload| !self.ledgers.contains_key(*workload) && !seen.contains(*workload));
        let silent: Vec<String> = silent.cloned().collect();
        // A service's name in its spans may differ from its workload's: as many strangers as silent ones are no silence.
        let known =
            |name: &String| self.topology.services.iter().any(|service| &service.workload == name);
        let strangers = seen.iter().filter(|name| !known(name)).count();
        if strangers >= silent.len() { Vec::new() } else { silent }
    }

    /// Stops the services, then the collectors, so that everything they keep back is sent, and waits for what reached the intake.
    /// What does not end as it should is told.
    pub async fn stop_sources(&self) -> Vec<String> {
        let mut unclean = Vec::new();
        for role in [Role::Service, Role::Collector] {
            let of_role =
                self.endpoints.workloads.iter().filter(|(_, workload)| workload.role == role);
            for (name, _) in of_role {
                if let Err(error) = self.environment.lock().await.stop(name).await {
                    unclean.push(error.to_string());
                }
            }
        }
        if let Err(error) = self.intake.drain(DRAIN_TIMEOUT).await {
            unclean.push(error.to_string());
        }
        unclean
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
        self.intake.drain(DRAIN_TIMEOUT).await?;
        Ok(self.intake.with_store(Store::newest))
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

/// A request of the harness's own, whose arrival proves that what came before it had its time.
fn sentinel(
    (system, like): (&SystemChoice, &Request),
    seen: &BTreeSet<String>,
    within: Duration,
) -> Scenario {
    let tolerate = [
        "error-not-injected",
        "error-not-marked",
        "stray-trace",
        "unnamed-resource",
        "missing-service-name",
    ];
    let of_each = seen.iter().map(|service| SpanCount {
        span: Matcher { at: Some(service.clone()), ..Matcher::default() },
        at_least: 1,
        at_most: None,
    });
    let path = match system {
        SystemChoice::Chain(_) => CHAIN_PATH.to_owned(),
        SystemChoice::File(_) => like.path.clone(),
    };
    Scenario {
        name: "sentinel".to_owned(),
        description: String::new(),
        file: PathBuf::new(),
        system: system.clone(),
        requests: vec![Request {
            path,
            times: 1,
            concurrency: 1,
            status: None,
            sampled: true,
            ..like.clone()
        }],
        faults: Vec::new(),
        expect: Expect { within, spans: of_each.collect(), ..Expect::default() },
        tolerate: tolerate.iter().map(|rule| ((*rule).to_owned(), String::new())).collect(),
        requires: BTreeMap::new(),
    }
}

/// What a session has once its system is up.
struct Parts {
    endpoints: Endpoints,
    intake: IntakeClient,
    driver: Driver,
    topology: Topology,
    http: reqwest::Client,
    ledgers: BTreeMap<String, LedgerClient>,
}

impl Parts {
    async fn connect(
        endpoints: Endpoints,
        system: &System,
        run_id: &str,
    ) -> Result<Self, SessionError> {
        let named =
            |role: Role| system.workloads.iter().find(move |workload| workload.role == role);
        let intake = named(Role::Intake).ok_or(SessionError::Incomplete("intake"))?;
        let intake_url = endpoints
            .url(&intake.name, "http")
            .ok_or(SessionError::Incomplete("intake port `http`"))?;
        let entry_url = endpoints
            .url(&system.entry, "http")
            .ok_or(SessionError::Incomplete("entry with a port `http`"))?;
        let otlp = named(Role::Collector).and_then(|collector| {
            let grpc = endpoints.url(&collector.name, "otlp-grpc").map(OtlpEndpoint::Grpc);
            grpc.or_else(|| endpoints.url(&collector.name, "otlp-http").map(OtlpEndpoint::Http))
        });
        let driver = Driver::new(entry_url, otlp, run_id.to_owned())?;
        let intake =
            IntakeClient::connect(&intake_url, intake::client::Settings::default()).await?;
        let http = crate::http::client()
            .timeout(LEDGER_TIMEOUT)
            .build()
            .map_err(|error| DriverError::Client(crate::chain_of(&error)))?;
        let mut ledgers = BTreeMap::new();
        let mut services = Vec::new();
        for workload in services_from_entry(system) {
            let mut identity = ServiceIdentity {
                workload: workload.name.clone(),
                service: None,
                instances: Vec::new(),
            };
            if let Some(url) =
                workload.ledger.as_ref().and_then(|port| endpoints.url(&workload.name, port))
            {
                let ledger = LedgerClient::new(http.clone(), url);
                match ledger.totals().await {
                    Ok(totals) => {
                        identity.service = Some(totals.service);
                        identity.instances.push(totals.instance_id);
                    }
                    Err(error) => tracing::warn!(workload = workload.name, %error, "no ledger"),
                }
                ledgers.insert(workload.name.clone(), ledger);
            }
            services.push(identity);
        }
        Ok(Self { endpoints, intake, driver, topology: Topology { services }, http, ledgers })
    }
}

/// The services, the entry first, the others as written.
fn services_from_entry(system: &System) -> impl Iterator<Item = &Workload> {
    let services = || system.workloads.iter().filter(|workload| workload.role == Role::Service);
    let entry = services().filter(|workload| workload.name == system.entry);
    entry.chain(services().filter(|workload| workload.name != system.entry))
}

async fn watch_exits(
    environment: Arc<AsyncMutex<Box<dyn Environment>>>,
    tell: watch::Sender<Vec<UnexpectedExit>>,
) {
    let mut every = tokio::time::interval(WATCH_INTERVAL);
    loop {
        every.tick().await;
        let ended = environment.lock().await.unexpected_exits().await;
        if !ended.is_empty() {
            tell.send_modify(|all| all.extend(ended));
        }
    }
}

/// The lock of plain data, which a panic elsewhere cannot leave half changed.
fn lock<T>(data: &Mutex<T>) -> MutexGuard<'_, T> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}
