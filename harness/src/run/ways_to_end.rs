//! Runs that end in another way than by judging all their scenarios. Their system is in the test's own process: a service that sends its
//! spans to an intake before it answers.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use axum::{Router, extract::State, http::HeaderMap, response::IntoResponse, routing::get};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::{
    environment::{Endpoints, InstanceEndpoints, LineTest, UnexpectedExit, WorkloadEndpoints},
    intake::{Intake, client::IntakeClient},
    saved::SavedRun,
    scenario::{Fault, FaultKind, Request},
    secret::Secret,
    system::{Role, file::SystemFile},
    verdict::Verdict,
};

const SYSTEM: &str = "entry: shop\nworkloads: [{ name: shop, command: [shop, '${listen:http}'], ports: [http], env: { OTEL_SERVICE_NAME: shop, OTEL_BSP_SCHEDULE_DELAY: '100', OTEL_EXPORTER_OTLP_ENDPOINT: '${endpoint:collector.otlp-http}' } }]";

/// The service and the intake beside it, once they are up.
#[derive(Default)]
struct InProcess {
    running: Option<(Intake, AbortOnDropHandle<()>)>,
}

/// Answers when the span is captured; at `/lost` there is none, and at `/held` there is no answer.
async fn answer(State(intake): State<String>, path: &'static str, headers: HeaderMap) {
    if path == "/held" {
        std::future::pending::<()>().await;
    }
    let context = headers.get("traceparent").and_then(|context| context.to_str().ok());
    let Some([_, trace, parent, _]) = context.and_then(|text| {
        <[&str; 4]>::try_from(text.split('-').collect::<Vec<_>>().as_slice()).ok()
    }) else {
        return;
    };
    if path == "/lost" {
        return;
    }
    let now = crate::trace::unix_nanos(SystemTime::now());
    let attribute =
        |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let span = json!({
        "traceId": trace, "spanId": format!("{:016x}", rand::random_range(1..u64::MAX)), "parentSpanId": parent,
        "name": format!("GET {path}"), "kind": 2,
        "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + 1000).to_string(),
        "attributes": [
            attribute("http.request.method", "GET"),
            attribute("http.route", path),
            json!({ "key": "http.response.status_code", "value": { "intValue": "200" } }),
        ],
    });
    let resource = json!({ "attributes": [attribute("service.name", "shop")] });
    let spans =
        json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": [span] }] }] });
    let client = crate::http::client().build().unwrap();
    let sent = client.post(format!("{intake}/v1/traces")).header("dd-api-key", "any");
    // Else a run warns that Datadog would compute no stats of them.
    let sent = sent.header("compute_stats", "true").json(&spans).send();
    sent.await.unwrap().error_for_status().unwrap();
}

impl InProcess {
    async fn start() -> (Intake, AbortOnDropHandle<()>, String) {
        let intake = Intake::start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let route = |path| {
            get(move |intake: State<String>, headers: HeaderMap| async move {
                answer(intake, path, headers).await;
                "".into_response()
            })
        };
        let app = ["/", "/lost", "/held"]
            .into_iter()
            .fold(Router::new(), |app, path| app.route(path, route(path)));
        let app = app.with_state(intake.url());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (intake, AbortOnDropHandle::new(server), address)
    }
}

#[async_trait]
impl Environment for InProcess {
    async fn up(&mut self, _: &System) -> Result<Endpoints, EnvironmentError> {
        let (intake, server, address) = Self::start().await;
        let of = |role, address: String| WorkloadEndpoints {
            role,
            instances: vec![InstanceEndpoints {
                name: String::new(),
                ports: [("http".to_owned(), address)].into(),
            }],
        };
        let workloads = [
            ("intake".to_owned(), of(Role::Intake, intake.url())),
            ("shop".to_owned(), of(Role::Service, address)),
        ];
        self.running = Some((intake, server));
        Ok(Endpoints { workloads: workloads.into() })
    }

    async fn start(&mut self, _: &str) -> Result<(), EnvironmentError> {
        Ok(())
    }

    async fn stop(&mut self, _: &str) -> Result<(), EnvironmentError> {
        Ok(())
    }

    async fn kill(&mut self, _: &str) -> Result<(), EnvironmentError> {
        panic!("a number was 7")
    }

    async fn scale(&mut self, _: &str, _: u32) -> Result<(), EnvironmentError> {
        Ok(())
    }

    async fn pause(&mut self, _: &str) -> Result<(), EnvironmentError> {
        Ok(())
    }

    async fn resume(&mut self, _: &str) -> Result<(), EnvironmentError> {
        Ok(())
    }

    async fn unexpected_exits(&mut self) -> Vec<UnexpectedExit> {
        Vec::new()
    }

    async fn log_tail(&self, _: &str, _: usize) -> Vec<String> {
        Vec::new()
    }

    async fn logged(&self, _: &str, _: LineTest) -> Vec<(SystemTime, String)> {
        Vec::new()
    }

    async fn collect_logs(&self, _: &Path) -> Result<(), EnvironmentError> {
        Ok(())
    }

    async fn down(&mut self) -> Result<(), EnvironmentError> {
        self.running = None;
        Ok(())
    }
}

/// Counts judgements, and systems that are up.
#[derive(Default)]
struct Counts {
    judged: Mutex<BTreeMap<String, usize>>,
    up: AtomicUsize,
}

impl Watch for Counts {
    fn up(&self, _: &[String], _: &Arc<IntakeClient>) {
        self.up.fetch_add(1, Ordering::SeqCst);
    }

    fn judged(&self, record: &Record, _: &ScenarioResult) {
        *self.judged.lock().unwrap().entry(record.scenario.name.clone()).or_default() += 1;
    }

    fn down(&self, _: &[String]) {
        self.up.fetch_sub(1, Ordering::SeqCst);
    }
}

fn scenario(name: &str, path: &str) -> Scenario {
    let expect = crate::expectation::Expect {
        within: Duration::from_millis(300),
        ..crate::expectation::Expect::default()
    };
    Scenario {
        name: name.to_owned(),
        description: format!("Asks for {path}."),
        file: PathBuf::from("shop.yaml"),
        system: SystemChoice::File("system.yaml".into()),
        requests: vec![Request::get(path)],
        faults: Vec::new(),
        expect,
        tolerate: BTreeMap::new(),
        levels: BTreeMap::new(),
        requires: BTreeMap::new(),
    }
}

/// A scenario whose task panics: its system cannot be made to do what its fault asks for.
fn panicking() -> Scenario {
    let (kind, at) = (FaultKind::Kill, "shop".to_owned());
    let faults = vec![Fault { at, kind, first: None, after: None }];
    Scenario { faults, ..scenario("panics", "/") }
}

/// Outcome of a run.
struct Ended {
    summary: Summary,
    events: Vec<Event>,
    judged: BTreeMap<String, usize>,
}

impl Ended {
    fn result(&self, name: &str) -> &ScenarioResult {
        self.summary.scenarios.iter().find(|result| result.name == name).unwrap()
    }

    /// Verdict and reasons of each scenario.
    fn verdicts(&self) -> Vec<(&str, Verdict, String)> {
        let results = self.summary.scenarios.iter();
        results.map(|it| (it.name.as_str(), it.verdict, it.undecided.join("; "))).collect()
    }
}

/// Runs scenarios, saves the run, and checks what holds of each run, however it ends: every scenario is reported as finished once,
/// the last that is reported of it is its result, its system is down, and the saved run comes to the same.
async fn run_to_its_end(
    scenarios: Vec<Scenario>,
    fail_fast: bool,
    mut on_event: impl FnMut(&Event, &CancellationToken),
) -> Ended {
    let saved = tempfile::tempdir().unwrap();
    let file = SystemFile::parse("system.yaml", SYSTEM, Path::new("."), &|_| None).unwrap();
    let mut system = file.system(&Secret::new("")).unwrap();
    system.workloads.retain(|workload| workload.role != Role::Collector);
    let (cancel, counts) = (CancellationToken::new(), Arc::new(Counts::default()));
    let plan = Plan {
        skipped: Vec::new(),
        systems: [(scenarios[0].system.clone(), system)].into(),
        scenarios,
        environment: Box::new(|| Ok(Box::<InProcess>::default())),
        environment_name: "in process".to_owned(),
        evidence: None,
        parallel: 1,
        fail_fast,
        listen: Duration::ZERO,
        keep: false,
        save: Some(saved.path().to_owned()),
        logs: None,
        watch: Some(Arc::clone(&counts) as Arc<dyn Watch>),
        halt: cancel.child_token(),
        cancel: cancel.clone(),
    };
    let names: Vec<String> = plan.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let (sender, mut received) = mpsc::channel(100);
    let running = tokio::spawn(async move { run(plan, "1".to_owned(), sender).await });
    let mut events = Vec::new();
    while let Some(event) = received.recv().await {
        on_event(&event, &cancel);
        events.push(event);
    }
    let summary = running.await.unwrap();
    assert_eq!(counts.up.load(Ordering::SeqCst), 0, "a system is still up");
    for name in names {
        let reported = events.iter().filter_map(|event| match event {
            Event::ScenarioFinished { result } if result.name == name => Some((true, result)),
            Event::VerdictRevised { result, .. } if result.name == name => Some((false, result)),
            _ => None,
        });
        let reported: Vec<_> = reported.collect();
        assert_eq!(reported.iter().filter(|(is_first, _)| *is_first).count(), 1, "{name}");
        let result = summary.scenarios.iter().find(|result| result.name == name).unwrap();
        assert_eq!(reported.last().unwrap().1.verdict, result.verdict, "{name}");
    }
    let (mut replayed, _) = SavedRun::read(saved.path()).unwrap().judge("1", None);
    replayed.scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    let mut live = summary.clone();
    live.took_ms = replayed.took_ms;
    for result in &mut live.scenarios {
        result.took_ms = 0;
        result.cases.iter_mut().for_each(|case| case.judged_after_ms = None);
    }
    assert_eq!(live, replayed, "it comes to another result when it is judged again");
    let judged = counts.judged.lock().unwrap().clone();
    Ended { summary, events, judged }
}

#[tokio::test]
async fn a_run_to_the_end_judges_what_passes_three_times() {
    let ended = run_to_its_end(vec![scenario("whole", "/")], false, |_, _| {}).await;
    assert_eq!(ended.verdicts(), [("whole", Verdict::Pass, String::new())]);
    assert_eq!(ended.summary.warnings, [""; 0]);
    // When its traces have come, when its system has come to rest, and when it has ended.
    assert_eq!(ended.judged["whole"], 3);
}

#[tokio::test]
async fn a_run_that_is_interrupted_keeps_what_was_judged_and_is_inconclusive() {
    let scenarios = vec![scenario("held", "/held"), scenario("whole", "/")];
    let ended = run_to_its_end(scenarios, false, |event, cancel| {
        if matches!(event, Event::ScenarioFinished { result } if result.name == "whole") {
            cancel.cancel();
        }
    });
    let ended = ended.await;
    let interrupted = "it was interrupted".to_owned();
    assert_eq!(
        ended.verdicts(),
        [("held", Verdict::Inconclusive, interrupted), ("whole", Verdict::Pass, String::new())]
    );
    assert_eq!(ended.summary.verdict(), Verdict::Inconclusive);
    // It is not audited any more.
    assert_eq!(ended.judged, [("whole".to_owned(), 1)].into());
}

#[tokio::test]
async fn a_run_that_ends_at_the_first_failure_keeps_it_and_leaves_the_rest_undecided() {
    let scenarios = vec![scenario("held", "/held"), scenario("lost", "/lost"), panicking()];
    let ended = run_to_its_end(scenarios, true, |_, _| {}).await;
    let verdicts = ended.verdicts();
    assert_eq!(
        verdicts[0],
        ("held", Verdict::Inconclusive, "the run ended before it was judged".to_owned())
    );
    assert_eq!((verdicts[1].0, verdicts[1].1), ("lost", Verdict::Fail));
    let unreached = "the run ended before its system was started".to_owned();
    assert_eq!(verdicts[2], ("panics", Verdict::Inconclusive, unreached));
    assert_eq!(ended.summary.verdict(), Verdict::Fail);
    let failures = &ended.result("lost").cases[0].findings.failures;
    assert_eq!(failures[0].rule, "no-trace");
    assert_eq!(ended.judged, [("lost".to_owned(), 1)].into());
}

#[tokio::test]
async fn a_scenario_that_panics_is_inconclusive_with_the_reason_and_others_are_judged() {
    let scenarios = vec![panicking(), scenario("whole", "/")];
    let ended = run_to_its_end(scenarios, false, |_, _| {}).await;
    let because = "it was not judged: a bug of tracecheck: a number was 7".to_owned();
    assert_eq!(
        ended.verdicts(),
        [("panics", Verdict::Inconclusive, because), ("whole", Verdict::Pass, String::new())]
    );
    assert_eq!(ended.summary.verdict(), Verdict::Inconclusive);
    let warning = "a scenario was not judged: `panics`: a bug of tracecheck: a number was 7";
    assert_eq!(ended.summary.warnings, [warning]);
    let warned = |event: &&Event| matches!(event, Event::Warning { text, .. } if text == warning);
    assert_eq!(ended.events.iter().filter(warned).count(), 1);
}

#[tokio::test]
async fn a_scenario_that_panics_ends_a_run_that_is_to_end_at_the_first_failure() {
    let held = Scenario { faults: panicking().faults, ..scenario("later", "/") };
    let ended = run_to_its_end(vec![panicking(), held], true, |_, _| {}).await;
    let unreached = "the run ended before its system was started".to_owned();
    let by_name = ended.verdicts().into_iter().map(|(name, _, because)| (name, because));
    let of: BTreeMap<_, _> = by_name.collect();
    // Either of them may be the first.
    assert_eq!(of.values().filter(|because| **because == unreached).count(), 1, "{of:?}");
}
