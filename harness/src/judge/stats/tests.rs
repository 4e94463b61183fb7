use std::{collections::HashSet, time::Duration};

use super::*;
use crate::{
    intake::{
        attempt::{Attempt, Reply},
        decode::{
            Decoded, OtlpPayload, Sketch, SpanMapping, StatsGroup, StatsPayload, TracesPayload,
        },
        store::{Bounds, Store},
    },
    stats::lacks_trace_metrics,
    trace::{PayloadForm, Span, SpanId, TraceId},
};

const TRACE: TraceId = TraceId(1);
const ALL: [Capability; 4] = [
    Capability::RawPayloads,
    Capability::Stats,
    Capability::Exclusiveness,
    Capability::Completeness,
];

fn span(id: u64, trace_id: TraceId, kind: &str, error: bool) -> Span {
    let json = serde_json::json!({
        "trace_id": trace_id.to_string(), "datadog_trace_id": trace_id.low(), "id": SpanId(id).to_string(),
        "parent_id": null, "service": "shop", "name": "http.server.request", "resource": "GET /cart", "type": "web",
        "error": error, "start": 0, "duration": 1, "meta": { "span.kind": kind }, "metrics": { "http.status_code": 200 }, "hostname": "",
        "env": "", "container_id": "", "priority": 1, "attempt": 1,
    });
    serde_json::from_value(json).unwrap()
}

fn group(kind: &str, hits: u64, errors: u64) -> StatsGroup {
    let json = serde_json::json!({
        "hostname": "", "env": "", "version": "", "container_id": "", "lang": "", "tags": [], "start": 0, "bucket": 0,
        "service": "shop", "name": "http.server.request", "resource": "GET /cart", "type": "web", "span_kind": kind,
        "http_status_code": 200, "grpc_status_code": "", "peer_tags": [], "is_trace_root": null, "synthetics": false,
        "hits": hits, "errors": errors, "top_level_hits": 0, "duration": hits, "ok_summary": "", "error_summary": "",
    });
    let group: StatsGroup = serde_json::from_value(json).unwrap();
    let [ok_summary, error_summary] = [hits - errors, errors].map(|count| sketch(count, 1.0));
    StatsGroup { ok_summary, error_summary, ..group }
}

/// So many latencies, each of so many nanoseconds.
fn sketch(count: u64, each: f64) -> Sketch {
    let mut sketch = libdd_ddsketch::DDSketch::default();
    (0..count).for_each(|_| sketch.add(each).unwrap());
    Sketch(sketch.encode_to_vec())
}

struct World {
    store: Store,
    seq: u64,
}

impl World {
    fn new() -> Self {
        let bounds = Bounds { max_bytes: usize::MAX, max_attempts: usize::MAX };
        Self { store: Store::new(bounds), seq: 0 }
    }

    fn insert(&mut self, headers: &[(&str, &str)], decoded: Decoded) {
        self.seq += 1;
        let attempt = Attempt {
            seq: self.seq,
            received_at: 0,
            method: "POST".to_owned(),
            path: "/".to_owned(),
            headers: headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            body: self.seq.to_be_bytes().to_vec(),
            reply: Reply::Status(202),
        };
        self.store.insert(attempt, decoded, std::time::Instant::now());
    }

    fn spans(&mut self, spans: Vec<Span>) {
        let payload = TracesPayload {
            hostname: String::new(),
            env: String::new(),
            agent_version: String::new(),
            target_tps: 0.0,
            error_tps: 0.0,
            tags: BTreeMap::new(),
            tracers: Vec::new(),
            repaired_strings: 0,
            spans,
        };
        self.insert(&[], Decoded::Traces(payload));
    }

    fn stats(&mut self, groups: Vec<StatsGroup>) {
        let payload = StatsPayload {
            agent_hostname: String::new(),
            agent_env: String::new(),
            agent_version: String::new(),
            client_computed: false,
            split_payload: false,
            groups,
        };
        self.insert(&[], Decoded::Stats(payload));
    }

    fn otlp(&mut self, headers: &[(&str, &str)]) {
        let mut span = span(1, TRACE, "server", false);
        span.form = PayloadForm::Otlp;
        let payload = OtlpPayload {
            compute_stats: true,
            mapping: SpanMapping::default(),
            repaired_strings: 0,
            dropped_spans: 0,
            spans: vec![span],
        };
        self.insert(headers, Decoded::OtlpTraces(payload));
    }

    fn judge(&self, hits: u64, errors: Option<u64>, capabilities: &[Capability]) -> Findings {
        let count = StatsCount {
            service: Some("shop".to_owned()),
            kind: Some("server".to_owned()),
            hits,
            errors,
            ..StatsCount::default()
        };
        let expect = StatsExpect { counts: vec![count], within: Duration::ZERO };
        judge_captured(&expect, &self.captured(u64::MAX), capabilities, |_| false)
    }

    fn captured(&self, until: u64) -> Captured {
        Captured::until(&self.store, until, &HashSet::from([TRACE]))
    }
}

/// Three server spans of the run's trace, one with an error, and an internal one, with their stats in two payloads.
fn healthy() -> World {
    let mut world = World::new();
    world.spans(vec![
        span(1, TRACE, "server", false),
        span(2, TRACE, "server", true),
        span(3, TRACE, "server", false),
        span(4, TRACE, "internal", true),
    ]);
    world.stats(vec![group("server", 2, 1)]);
    world.stats(vec![group("server", 1, 0)]);
    world
}

fn failed(findings: &Findings) -> Vec<&str> {
    findings.failures.iter().map(|failure| failure.rule.as_str()).collect()
}

#[test]
fn stats_that_say_what_the_spans_say_hold_however_they_are_split() {
    assert_eq!(healthy().judge(3, Some(1), &ALL), Findings::default());
    assert_eq!(healthy().judge(3, None, &ALL), Findings::default());
}

#[test]
fn stats_that_are_missing_doubled_or_of_nobody_disagree_with_the_spans() {
    let mut lost = World::new();
    lost.spans(vec![span(1, TRACE, "server", false)]);
    let findings = lost.judge(1, None, &ALL);
    assert_eq!(failed(&findings), [DISAGREE, EXPECTATION]);
    let details: Vec<&str> = findings.failures.iter().map(|failure| &*failure.detail).collect();
    assert_eq!(
        details,
        [
            "no APM stats were captured at all, and the captured spans make those of shop server GET /cart (http.server.request): stats are switched off in the collector (its feature gate `exporter.datadogexporter.DisableAPMStats`; where it leaves them to the connector `datadog`, no pipeline leads from traces through that to an exporter), or something between it and Datadog does not let `/api/v0.2/stats` pass",
            "`shop server` should have 1 hits, has 0 hits, 0 errors; no APM stats were captured at all",
        ]
    );
    let mut doubled = healthy();
    doubled.stats(vec![group("server", 3, 1)]);
    assert_eq!(failed(&doubled.judge(6, Some(2), &ALL)), [DISAGREE]);
    let mut invented = healthy();
    invented.stats(vec![group("client", 1, 0)]);
    assert_eq!(failed(&invented.judge(3, Some(1), &ALL)), [DISAGREE]);
}

#[test]
fn stats_that_the_spans_say_are_computed_elsewhere_are_not_looked_for_in_the_collector() {
    let reported = |said: &str, is_empty: bool| {
        let mut world = World::new();
        let mut one = span(1, TRACE, "server", false);
        one.meta.insert("_dd.stats_computed".to_owned(), said.to_owned());
        world.spans(vec![one, span(2, TRACE, "client", false)]);
        if !is_empty {
            world.stats(vec![group("client", 1, 0)]);
        }
        let found = rule::check_stats(&world.captured(u64::MAX), &ALL, |_| false).failures;
        found.into_iter().map(|one| one.detail).collect::<Vec<_>>()
    };
    for is_empty in [false, true] {
        let found = reported("true", is_empty);
        assert_eq!(found.len(), if is_empty { 2 } else { 1 }, "{found:?}");
        let left_out =
            "the stats leave out shop server GET /cart (http.server.request): the resource";
        assert!(found[0].starts_with(left_out), "{found:?}");
        assert!(!found.iter().any(|one| one.contains("switched off")), "{found:?}");
        // Where they ask for stats, nothing is said of elsewhere.
        let found = reported("false", is_empty);
        assert!(!found.iter().any(|one| one.contains("elsewhere")), "{found:?}");
    }
}

#[test]
fn stats_may_count_top_level_and_measured_spans_alone() {
    let mut world = World::new();
    let mut top = span(1, TRACE, "internal", false);
    top.metrics.insert("_top_level".to_owned(), 1.0);
    world.spans(vec![top, span(2, TRACE, "server", false)]);
    world.stats(vec![StatsGroup { top_level_hits: 1, ..group("internal", 1, 0) }]);
    assert_eq!(world.judge(0, None, &ALL), Findings::default());
    world.stats(vec![group("server", 1, 0)]);
    assert_eq!(world.judge(1, None, &ALL), Findings::default());
}

#[test]
fn other_numbers_than_asked_for_fail_and_other_traces_are_taken_off() {
    assert_eq!(failed(&healthy().judge(4, None, &ALL)), [EXPECTATION]);
    assert_eq!(failed(&healthy().judge(3, Some(0), &ALL)), [EXPECTATION]);
    let mut with_sentinel = healthy();
    with_sentinel.spans(vec![span(9, TraceId(2), "server", false)]);
    with_sentinel.stats(vec![group("server", 1, 0)]);
    assert_eq!(with_sentinel.judge(3, Some(1), &ALL), Findings::default());
}

#[test]
fn what_came_after_the_stats_were_judged_is_left_out() {
    let mut world = healthy();
    let until = world.seq;
    world.spans(vec![span(9, TRACE, "server", false)]);
    let disagreeing = |until| {
        let findings = rule::check_stats(&world.captured(until), &ALL, |_| false);
        assert_eq!(findings.not_evaluated, []);
        findings.failures.len()
    };
    assert_eq!((disagreeing(until), disagreeing(u64::MAX)), (0, 1));
}

#[test]
fn otlp_that_does_not_ask_for_stats_fails_and_otlp_that_does_cannot_be_decided() {
    let mut world = World::new();
    world.otlp(&[]);
    assert!(lacks_trace_metrics(&world.store));
    let findings = world.judge(1, None, &ALL);
    assert_eq!(failed(&findings), [EXPECTATION]);
    assert!(findings.failures[0].detail.ends_with("there will be no trace metrics in Datadog"));
    assert!(!findings.not_evaluated[0].required, "{findings:?}");

    let mut world = World::new();
    world.otlp(&[("compute_stats", "true")]);
    assert!(!lacks_trace_metrics(&world.store));
    let findings = world.judge(1, None, &ALL);
    assert_eq!(failed(&findings), [""; 0]);
    let required: Vec<bool> =
        findings.not_evaluated.iter().map(|skipped| skipped.required).collect();
    assert_eq!(required, [false, true], "{findings:?}");
}

#[test]
fn evidence_without_stats_decides_nothing() {
    let findings = healthy().judge(3, None, &ALL[..1]);
    assert_eq!(failed(&findings), [""; 0]);
    assert!(findings.not_evaluated.iter().any(|skipped| skipped.required), "{findings:?}");
    assert!(findings.not_evaluated[0].because.contains("does not give"), "{findings:?}");
}

#[test]
fn each_reason_for_which_stats_were_not_looked_at_is_reported_as_what_it_is() {
    let asking = Expect { stats: Some(StatsExpect::default()), ..Expect::default() };
    let reported = |record: StatsRecord, expect: &Expect| {
        let findings = judge(&record, expect, &ALL, |_| false);
        assert_eq!(findings.failures, []);
        let reported = findings.not_evaluated.into_iter();
        reported.map(|one| (one.rule, one.required, one.because)).collect::<Vec<_>>()
    };
    let forms = Forms::default();
    let [(rule, required, because)] = &reported(StatsRecord::NotReached(forms), &asking)[..] else {
        panic!("it is reported once")
    };
    assert_eq!((rule.as_str(), *required), (EXPECTATION, true));
    assert!(because.contains("traces are not as they should be"), "{because}");
    assert_eq!(reported(StatsRecord::NotSent(forms), &asking), []);
    let [(rule, required, because)] = &reported(StatsRecord::NoPayloads, &asking)[..] else {
        panic!("it is reported once")
    };
    assert_eq!((rule.as_str(), *required), (EXPECTATION, true));
    assert_eq!(because, "the evidence does not give APM stats");
    for record in [StatsRecord::NoPayloads, StatsRecord::NotAsked(forms)] {
        let [(rule, required, _)] = &reported(record, &Expect::default())[..] else {
            panic!("it is reported once")
        };
        assert_eq!((rule.as_str(), *required), (DISAGREE, false));
    }
}

#[test]
fn trace_metrics_are_judged_by_the_forms_that_spans_came_in() {
    let found = |wanted: bool, forms: Option<Forms>| {
        let findings = judge_trace_metrics(Some(wanted), forms);
        (findings.failures.len(), findings.not_evaluated.len())
    };
    let otlp = |without_stats| Some(Forms { otlp: true, without_stats });
    assert_eq!(found(true, otlp(false)), (0, 0));
    assert_eq!(found(true, otlp(true)), (1, 0));
    assert_eq!(found(false, otlp(true)), (0, 0));
    assert_eq!(found(false, otlp(false)), (1, 0));
    assert_eq!(found(true, Some(Forms::default())), (0, 1));
    assert_eq!(found(true, None), (0, 1));
    assert_eq!(judge_trace_metrics(None, None), Findings::default());
}

#[test]
fn what_was_captured_is_written_and_read_unchanged() {
    let captured = StatsRecord::Captured(healthy().captured(u64::MAX));
    let text = serde_json::to_string(&captured).unwrap();
    assert_eq!(serde_json::from_str::<StatsRecord>(&text).unwrap(), captured);
}

#[test]
fn stats_whose_hits_are_right_and_whose_rest_is_not_disagree_with_the_spans() {
    let second = 1_000_000_000;
    type Change<'a> = &'a dyn Fn(&mut StatsGroup);
    let judged = |change: Change<'_>| {
        let mut world = World::new();
        let mut one = span(1, TRACE, "server", false);
        (one.start, one.duration) = (1_790_000_000 * second, second / 10);
        one.env = "prod".to_owned();
        one.metrics.insert("_top_level".to_owned(), 1.0);
        let sound = StatsGroup {
            env: "prod".to_owned(),
            start: 1_790_000_000 * second as u64,
            bucket: 10 * second as u64,
            duration: second as u64 / 10,
            top_level_hits: 1,
            ok_summary: sketch(1, 1e8),
            ..group("server", 1, 0)
        };
        let mut group = sound;
        change(&mut group);
        world.spans(vec![one]);
        world.stats(vec![group]);
        world.judge(1, None, &ALL)
    };
    let changes: [(Change<'_>, &str); 8] = [
        (
            &|group| group.ok_summary = Sketch(Vec::new()),
            "the latencies of 0 spans that did not fail and 0 that did, the captured spans 1 and 0",
        ),
        (
            &|group| std::mem::swap(&mut group.ok_summary, &mut group.error_summary),
            "the latencies of 0 spans that did not fail and 1 that did, the captured spans 1 and 0",
        ),
        (&|group| group.ok_summary = sketch(1, 1.05e8), "latencies of 10"),
        (
            &|group| group.duration *= 1000,
            "a duration of 100000.000 ms in all, the captured spans 100.000 ms",
        ),
        (&|group| group.top_level_hits = 0, "0 top-level hits, the captured spans 1"),
        (
            &|group| group.http_status_code = 500,
            "the HTTP statuses 500 on 1, the captured spans 200 on 1",
        ),
        (&|group| group.env = "staging".to_owned(), "the env `staging`, the captured spans `prod`"),
        (&|group| group.start -= 3600 * second as u64, "buckets that are 1h from"),
    ];
    for (change, reported) in changes {
        let findings = judged(change);
        assert_eq!(failed(&findings), [DISAGREE], "{reported}");
        assert!(findings.failures[0].detail.contains(reported), "{findings:?}");
    }
    let unnamed = |env: &str| {
        let mut world = World::new();
        let mut one = span(1, TRACE, "server", false);
        (one.start, one.duration) = (1_790_000_000 * second, second / 10);
        one.metrics.insert("_top_level".to_owned(), 1.0);
        let sound = StatsGroup {
            env: env.to_owned(),
            start: 1_790_000_000 * second as u64,
            bucket: 10 * second as u64,
            duration: second as u64 / 10,
            top_level_hits: 1,
            ok_summary: sketch(1, 1e8),
            ..group("server", 1, 0)
        };
        world.spans(vec![one]);
        world.stats(vec![sound]);
        world.judge(1, None, &ALL)
    };
    assert_eq!(unnamed("none"), Findings::default());
    let findings = unnamed("prd");
    assert!(
        findings.failures[0].detail.contains("the env `prd`, the captured spans"),
        "{findings:?}"
    );
    // A default for what names no environment, a bucket for what came late, a sum that was rounded.
    let sound: [Change<'_>; 4] = [
        &|group| group.ok_summary = sketch(1, 1.01e8),
        &|group| group.env = "none".to_owned(),
        &|group| group.start += 60 * second as u64,
        &|group| group.duration += 1,
    ];
    for change in sound {
        assert_eq!(judged(change), Findings::default());
    }
}
