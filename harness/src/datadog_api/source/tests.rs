use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use stub_server::StubServer;
use wiremock::{
    Mock, Request, Respond, ResponseTemplate,
    matchers::{method, path, path_regex},
};

use super::*;
use crate::{
    case::{Outcome, ResponseParts},
    datadog_api::{Access, Site},
    scenario::Method,
    secret::Secret,
    trace::SpanId,
};

const ID: TraceId = TraceId(0x6740_0000_16cd_43dd_8448_eb21_1c80_319c);
const LONG: Duration = Duration::from_secs(20);

/// Answers with one after the other, and with the last of them for ever.
struct InTurn(AtomicUsize, Vec<ResponseTemplate>);

impl InTurn {
    fn new(answers: Vec<ResponseTemplate>) -> Self {
        Self(AtomicUsize::new(0), answers)
    }
}

impl Respond for InTurn {
    fn respond(&self, _request: &Request) -> ResponseTemplate {
        let turn = self.0.fetch_add(1, Ordering::SeqCst);
        self.1[turn.min(self.1.len() - 1)].clone()
    }
}

fn json(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn status(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "errors": ["so it is"] }))
}

/// A trace of so many spans of the service `shop`, of which the newest ended so many seconds ago.
fn trace(spans: u64, age: u64, truncated: bool) -> ResponseTemplate {
    let end = unix_nanos(SystemTime::now() - Duration::from_secs(age));
    let spans = (1..=spans).map(|id| {
        json!({
            "traceID": ID.low(), "traceIDFull": ID.to_string(), "spanID": id, "parentID": id - 1, "service": "shop",
            "name": "n", "resource": "r", "type": "web", "error": 0, "startTime": end - 1000, "endTime": end,
            "duration": 1000, "meta": {}, "metrics": {}
        })
    });
    let attributes = json!({ "is_truncated": truncated, "spans": spans.collect::<Vec<_>>() });
    json(json!({ "data": { "id": ID.to_string(), "type": "trace", "attributes": attributes } }))
}

fn found(trace_id: TraceId, id: u64, service: &str, start: SystemTime) -> Value {
    json!({ "id": "x", "type": "spans", "attributes": {
        "trace_id": trace_id.low().to_string(), "span_id": id.to_string(), "parent_id": "0", "service": service,
        "resource_name": "r", "start_timestamp": humantime::format_rfc3339_millis(start).to_string(),
        "custom": { "otel": { "trace_id": trace_id.to_string() } }
    }})
}

fn page(spans: Vec<Value>, after: Option<&str>) -> ResponseTemplate {
    json(json!({ "data": spans, "meta": { "status": "done", "page": { "after": after } } }))
}

struct World {
    server: StubServer,
    source: DatadogSource,
}

impl World {
    async fn new(
        patience: Duration,
        traces: Vec<ResponseTemplate>,
        spans: Vec<ResponseTemplate>,
    ) -> Self {
        let server = StubServer::start().await;
        let by_id = Mock::given(method("GET")).and(path_regex("^/api/v2/trace/"));
        by_id.respond_with(InTurn::new(traces)).mount(&server).await;
        let search = Mock::given(method("POST")).and(path("/api/v2/spans/events/search"));
        search.respond_with(InTurn::new(spans)).mount(&server).await;
        let access = Access {
            site: Site::default(),
            url: Some(server.uri()),
            api_key: Secret::new("5ecret-a"),
            app_key: Secret::new("5ecret-b"),
        };
        let source = DatadogSource::new(Client::new(&access).unwrap(), patience);
        Self { server, source }
    }

    fn look(&self, services: &[&str]) {
        let now = unix_nanos(SystemTime::now());
        let case = Case {
            request: 0,
            ordinal: 0,
            trace_id: ID,
            driver_span: SpanId(1),
            driver_exported: false,
            context_sent: true,
            sampled: true,
            sent_at: now,
            ended_at: now,
            outcome: Outcome::Response { status: 200, trace_id: None },
            method: Method::Get,
            entry: None,
            answer: ResponseParts::default(),
        };
        let services = services.iter().map(|name| (*name).to_owned()).collect();
        self.source.look_for(&case, &services);
    }

    /// Waits until it holds, and reports what there was where it never does.
    async fn until(&self, what: &str, holds: impl Fn(&DatadogSource) -> bool) {
        let mut changes = self.source.changes();
        let waiting = async {
            while !holds(&self.source) {
                let _changed =
                    tokio::time::timeout(Duration::from_millis(100), changes.changed()).await;
            }
        };
        if tokio::time::timeout(LONG, waiting).await.is_err() {
            panic!(
                "{what}: {:?} {:?} {:?}",
                self.source.trace(ID),
                self.source.unsettled(ID),
                self.source.usage()
            );
        }
    }

    async fn asked(&self, part: &str) -> usize {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().filter(|request| request.url.path().contains(part)).count()
    }

    fn unsettled(&self) -> String {
        self.source.unsettled(ID).unwrap_or_default()
    }
}

const SHORT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_trace_that_comes_late_and_grows_is_quiet_once_two_looks_agree() {
    let answers = vec![status(404), trace(1, 0, false), trace(3, 0, false), trace(3, 0, false)];
    let world = World::new(SHORT, answers, vec![page(vec![], None)]).await;
    assert_eq!(world.unsettled(), "Datadog was not asked for it");
    world.look(&[]);
    world
        .until("one span", |source| source.progress(ID).is_some_and(|(spans, _)| spans == 1))
        .await;
    assert!(!world.source.is_quiet(ID));
    world.until("quiet", |source| source.is_quiet(ID)).await;
    assert_eq!(world.source.trace(ID).unwrap().spans.len(), 3);
    assert_eq!(world.source.found(ID), Some(Found { by: Endpoint::Trace, looks: 4 }));
    let usage = world.source.usage().unwrap();
    assert!(usage.contains("trace API: 4 used, 56 left of 60 in 1m"), "{usage}");
}

#[tokio::test]
async fn nothing_is_asked_any_more_once_nobody_looks_for_it() {
    let world = World::new(SHORT, vec![trace(1, 0, false)], vec![page(vec![], None)]).await;
    world.look(&[]);
    world.until("quiet", |source| source.is_quiet(ID)).await;
    world.source.stop_looking(ID);
    let later = Instant::now() + LONG;
    let step = world.source.shared.state().step(SHORT, later);
    assert!(matches!(step, Step::Wait(None)));
}

#[tokio::test]
async fn keys_without_the_trace_api_use_the_search_page_by_page() {
    let now = SystemTime::now();
    let pages = vec![
        page(vec![found(ID, 1, "shop", now), found(ID, 2, "shop", now)], Some("next")),
        page(vec![found(ID, 2, "shop", now), found(ID, 3, "stock", now)], None),
        page(vec![found(ID, 1, "shop", now), found(ID, 2, "shop", now)], Some("next")),
        page(vec![found(ID, 3, "stock", now)], None),
    ];
    let world = World::new(SHORT, vec![status(403)], pages).await;
    world.look(&[]);
    world.until("quiet", |source| source.is_quiet(ID)).await;
    assert_eq!(world.source.trace(ID).unwrap().spans.len(), 3);
    assert_eq!(world.source.found(ID).unwrap().by, Endpoint::Spans);
    assert_eq!(world.asked("/trace/").await, 1);
    let usage = world.source.usage().unwrap();
    assert!(usage.contains("Asked by the spans search alone, since trace API: "), "{usage}");
    assert!(usage.contains("spans search: 4 used"), "{usage}");
    assert!(!usage.contains("5ecret"), "{usage}");
}

#[tokio::test]
async fn keys_that_may_do_neither_end_the_waiting_with_the_remedy() {
    let world = World::new(LONG, vec![status(403)], vec![status(403)]).await;
    world.look(&["shop"]);
    world.until("over", EvidenceSource::is_over).await;
    let reported = world.unsettled();
    assert!(reported.starts_with("Datadog cannot be asked. trace API: "), "{reported}");
    assert!(reported.contains("DD_SITE") && reported.contains("apm_read"), "{reported}");
}

#[tokio::test]
async fn a_trace_that_is_never_found_is_tried_by_its_spans_too_and_stays_open() {
    let world = World::new(SHORT, vec![status(404)], vec![page(vec![], None)]).await;
    world.look(&["shop"]);
    let deadline = Instant::now() + LONG;
    while world.asked("/search").await == 0 {
        assert!(Instant::now() < deadline, "no search: {}", world.unsettled());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reported = world.unsettled();
    assert!(reported.contains("has shown no span of this trace within 2s"), "{reported}");
    assert!(reported.contains("DD_SITE"), "{reported}");
}

#[tokio::test]
async fn many_traces_are_searched_for_together() {
    let world = World::new(SHORT, vec![status(404)], vec![page(vec![], None)]).await;
    let now = SystemTime::now();
    {
        let mut state = world.source.shared.state();
        for number in 1..=40 {
            let looked = Looked::new(Proof::Age, unix_nanos(now), unix_nanos(now), BTreeSet::new());
            state.looked_for.insert(TraceId(number), looked);
        }
    }
    world.source.shared.wake.notify_one();
    world
        .until("all looked at", |source| {
            let state = source.shared.state();
            state.looked_for.values().all(|looked| looked.next > looked.since)
        })
        .await;
    let (searches, traces) = (world.asked("/search").await, world.asked("/trace/").await);
    assert!(searches <= 4 && traces <= MANY, "{searches} searches, {traces} traces");
}

#[tokio::test]
async fn what_is_cut_short_or_broken_is_neither_whole_nor_missing() {
    let world = World::new(SHORT, vec![trace(2, 60, true)], vec![page(vec![], None)]).await;
    world.look(&[]);
    world.until("found", |source| source.trace(ID).is_some()).await;
    assert!(world.unsettled().contains("is_truncated"), "{}", world.unsettled());

    for (answer, part) in [
        (status(500), "answered 500"),
        (ResponseTemplate::new(200).set_body_string("{\"data\":"), "cannot be read"),
    ] {
        let world = World::new(SHORT, vec![answer], vec![page(vec![], None)]).await;
        world.look(&[]);
        world
            .until(part, |source| {
                source.unsettled(ID).is_some_and(|reported| reported.contains(part))
            })
            .await;
        assert!(!world.source.is_over());
    }
}

#[tokio::test]
async fn a_used_up_limit_is_waited_for_as_it_says_and_reported() {
    let closed = |reset: &str| status(429).insert_header("x-ratelimit-reset", reset);
    let world = World::new(SHORT, vec![closed("600")], vec![closed("900")]).await;
    world.look(&[]);
    world
        .until("reported", |source| {
            source.unsettled(ID).is_some_and(|reported| reported.contains("used up"))
        })
        .await;
    world
        .until("both", |source| {
            source.unsettled(ID).is_some_and(|reported| reported.contains("0 left of 300"))
        })
        .await;
    assert_eq!((world.asked("/trace/").await, world.asked("/search").await), (1, 1));

    let world = World::new(SHORT, vec![closed("1"), trace(1, 0, false)], vec![closed("600")]).await;
    world.look(&[]);
    world.until("found", |source| source.trace(ID).is_some()).await;
}

#[tokio::test]
async fn what_is_missing_did_not_arrive_once_later_spans_of_the_service_did() {
    let later = SystemTime::now() + Duration::from_secs(5);
    let apart = TraceId(7 << 64 | 7);
    let first = page(vec![found(TraceId(3 << 64 | 3), 9, "shop", later)], None);
    let both = page(
        vec![
            found(apart, 5, "stock", SystemTime::now() - Duration::from_millis(100)),
            found(TraceId(3 << 64 | 3), 9, "shop", later),
            found(TraceId(4 << 64 | 4), 9, "stock", later),
        ],
        None,
    );
    let world = World::new(SHORT, vec![trace(2, 0, false)], vec![first, both]).await;
    world.look(&["shop", "Stock"]);
    world
        .until("the first witness", |source| {
            source
                .unsettled(ID)
                .is_some_and(|reported| reported.starts_with("no span of `stock` that began later"))
        })
        .await;
    world.until("settled", |source| source.unsettled(ID).is_none()).await;
    let strays = world.source.unclaimed(&HashSet::from([ID]));
    assert_eq!(strays.iter().map(|trace| trace.id).collect::<Vec<_>>(), [apart]);
}

#[tokio::test]
async fn a_trace_of_somebody_elses_is_settled_by_its_age() {
    let now = SystemTime::now();
    for (age, open) in [(0, "may take"), (60, "")] {
        let world = World::new(SHORT, vec![trace(2, age, false)], vec![page(vec![], None)]).await;
        world.source.look_for_made(ID, now - Duration::from_secs(600), now);
        world.until("found", |source| source.trace(ID).is_some()).await;
        let reported = world.unsettled();
        assert!(
            if open.is_empty() { reported.is_empty() } else { reported.contains(open) },
            "{age}: {reported}"
        );
    }
    // The search shows only what is retained of an old trace.
    let old = now - Duration::from_secs(3600);
    let world =
        World::new(SHORT, vec![status(403)], vec![page(vec![found(ID, 1, "shop", old)], None)])
            .await;
    world.source.look_for_made(ID, old - Duration::from_secs(60), now);
    world.until("found", |source| source.trace(ID).is_some()).await;
    assert!(world.unsettled().contains("only retained spans"), "{}", world.unsettled());
}

#[tokio::test]
async fn two_sites_are_two_sources_with_budgets_of_their_own() {
    let here = World::new(SHORT, vec![trace(1, 60, false)], vec![page(vec![], None)]).await;
    let there = World::new(SHORT, vec![status(403)], vec![status(403)]).await;
    here.look(&[]);
    there.look(&[]);
    here.until("found", |source| source.trace(ID).is_some()).await;
    there.until("over", EvidenceSource::is_over).await;
    assert!(there.source.trace(ID).is_none() && !here.source.is_over());
    assert!(there.source.usage().unwrap().contains("trace API: 1 used, 59 left"));
}
