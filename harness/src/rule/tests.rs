//! Each rule holds on a healthy trace, and fails on one that is broken in its way.

use std::collections::BTreeMap;

use super::{RULES, check_all};
use crate::{
    case::{
        Answer, Capability, Case, Evidence, LedgerReport, Origin, Outcome, ServiceIdentity, Stray,
        Topology, View,
    },
    finding::{Findings, Hop},
    ledger::{CollectorEntry, Exported, LedgerEntry, LedgerSpan},
    scenario::{
        Method,
        fault::{Fault, FaultKind, Shape},
    },
    trace::{PayloadForm, Span, SpanId, Trace, TraceId},
};

const TRACE: TraceId = TraceId(0x6740_0000_1111_2222_3333_4444_5555_6666);
const DRIVER: SpanId = SpanId(0xd0);

struct World {
    case: Case,
    evidence: Evidence,
    strays: Vec<Stray>,
    capabilities: Vec<Capability>,
    topology: Topology,
    shape: Shape,
}

fn span(id: u64, parent: u64, workload: &str, kind: &str, start: i64, duration: i64) -> Span {
    let meta = [
        ("span.kind", kind),
        ("otel.trace_id", &TRACE.to_string()),
        ("service.instance.id", &format!("{workload}-instance")),
        ("http.method", "GET"),
    ];
    Span {
        trace_id: TRACE,
        datadog_trace_id: TRACE.low(),
        id: SpanId(id),
        parent_id: (parent != 0).then_some(SpanId(parent)),
        service: workload.to_owned(),
        name: format!("http.{kind}.request"),
        resource: if kind == "server" { "GET /work".to_owned() } else { "GET".to_owned() },
        span_type: String::new(),
        error: false,
        start,
        duration,
        meta: meta.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        metrics: (parent == 0 || kind == "server")
            .then(|| ("_top_level".to_owned(), 1.0))
            .into_iter()
            .collect(),
        hostname: "host".to_owned(),
        env: "none".to_owned(),
        container_id: String::new(),
        priority: 1,
        dropped: false,
        form: PayloadForm::Datadog,
        attempt: 1,
    }
}

const MS: i64 = 1_000_000;

impl World {
    fn healthy() -> Self {
        Self::with_faults(&[], 0)
    }

    fn with_faults(faults: &[Fault], retries: u32) -> Self {
        let spans = vec![
            span(0xd0, 0, "tracecheck", "client", 0, 100 * MS),
            span(0xa1, 0xd0, "app-1", "server", 10 * MS, 80 * MS),
            span(0xa2, 0xa1, "app-1", "client", 20 * MS, 60 * MS),
            span(0xb1, 0xa2, "app-2", "server", 30 * MS, 40 * MS),
        ];
        let chain = ["app-1".to_owned(), "app-2".to_owned()];
        let ledgers = chain.iter().map(|workload| {
            let own = spans.iter().filter(|span| &span.service == workload);
            let spans = own.map(|span| LedgerSpan {
                span_id: span.id,
                parent_span_id: span.parent_id,
                name: span.resource.clone(),
                kind: span.kind().to_owned(),
                sampled: true,
                parent_sampled: None,
            });
            let entry = LedgerEntry { trace_id: TRACE, spans: spans.collect(), evicted: false };
            (workload.clone(), LedgerReport::Known(entry))
        });
        Self {
            case: Case {
                request: 0,
                ordinal: 0,
                trace_id: TRACE,
                driver_span: DRIVER,
                driver_exported: true,
                context_sent: true,
                sampled: true,
                sent_at: 0,
                ended_at: 100 * MS,
                outcome: Outcome::Response { status: 200, trace_id: Some(TRACE) },
                method: Method::Get,
                entry: None,
                answer: Answer::default(),
            },
            evidence: Evidence {
                ledgers: ledgers.collect(),
                trace: Some(Trace::new(TRACE, spans)),
                refused: BTreeMap::new(),
                ended: Vec::new(),
                unsettled: None,
                collector: None,
                elsewhere: Vec::new(),
                heard: Default::default(),
            },
            strays: Vec::new(),
            capabilities: vec![
                Capability::RawPayloads,
                Capability::Exclusiveness,
                Capability::Completeness,
                Capability::Ledger,
                Capability::CollectorLedger,
            ],
            topology: Topology {
                services: chain
                    .iter()
                    .map(|workload| ServiceIdentity {
                        workload: workload.clone(),
                        service: Some(workload.clone()),
                        instances: vec![format!("{workload}-instance")],
                        meant: Some(workload.clone()),
                    })
                    .collect(),
            },
            shape: Shape::of_chain(
                &chain,
                faults,
                (retries, std::time::Duration::from_secs(5)),
                &|_| vec!["traceparent"],
            ),
        }
    }

    fn spans(&mut self) -> &mut Vec<Span> {
        &mut self.evidence.trace.as_mut().unwrap().spans
    }

    fn remove(&mut self, id: u64) {
        self.spans().retain(|span| span.id != SpanId(id));
    }

    fn span(&mut self, id: u64) -> &mut Span {
        self.spans().iter_mut().find(|span| span.id == SpanId(id)).unwrap()
    }

    /// Makes a span below another parent, as its service tells too.
    fn made_below(&mut self, id: u64, parent: Option<SpanId>) {
        self.span(id).parent_id = parent;
        for report in self.evidence.ledgers.values_mut() {
            let LedgerReport::Known(entry) = report else { continue };
            for made in entry.spans.iter_mut().filter(|made| made.span_id == SpanId(id)) {
                made.parent_span_id = parent;
            }
        }
    }

    fn ledger(&mut self, workload: &str) -> &mut LedgerEntry {
        match self.evidence.ledgers.get_mut(workload).unwrap() {
            LedgerReport::Known(entry) => entry,
            LedgerReport::Unknown(reason) => panic!("{reason}"),
        }
    }

    fn findings(&self) -> Findings {
        let strays: Vec<&Stray> = self.strays.iter().collect();
        let view = View {
            case: &self.case,
            evidence: &self.evidence,
            strays: &strays,
            capabilities: &self.capabilities,
            topology: &self.topology,
            shape: &self.shape,
        };
        check_all(view, |_| false)
    }

    /// The names of the rules that fail, each once, and all details.
    fn failing(&self) -> (Vec<String>, String) {
        let failures = self.findings().failures;
        let mut names: Vec<_> = failures.iter().map(|failure| failure.rule.clone()).collect();
        names.dedup();
        let details: Vec<_> = failures.into_iter().map(|failure| failure.detail).collect();
        (names, details.join("\n"))
    }
}

fn at(workload: &str, kind: FaultKind) -> Fault {
    Fault { at: workload.to_owned(), kind, first: None, after: None }
}

#[test]
fn a_healthy_trace_trips_no_rule() {
    let findings = World::healthy().findings();
    assert_eq!(findings, Findings::default());
}

#[test]
fn every_rule_has_a_page_and_a_kebab_case_name_of_its_own() {
    for rule in RULES {
        assert!(rule.page.len() > 80, "{}", rule.name);
        assert!(rule.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", rule.name);
        assert_eq!(RULES.iter().filter(|other| other.name == rule.name).count(), 1);
    }
}

#[test]
fn no_span_at_all_is_no_trace() {
    let mut world = World::healthy();
    world.evidence.trace = None;
    let (names, details) = world.failing();
    assert_eq!(names, ["no-trace", "lost-span"]);
    assert!(details.contains("the services ended 3 spans of it"), "{details}");
}

#[test]
fn who_was_heard_of_in_other_traces_is_not_said_to_export_nothing() {
    let told = |change: &dyn Fn(&mut World)| {
        let mut world = World::healthy();
        world.spans().retain(|span| span.service == "tracecheck");
        world.evidence.ledgers.clear();
        change(&mut world);
        let (names, details) = world.failing();
        assert_eq!(names, ["no-trace"]);
        details
    };
    let none = told(&|_| {});
    assert!(none.contains(": the services do not export, or what they export"), "{none}");
    let heard = |world: &mut World, name: &str| {
        world.evidence.heard.insert(name.to_owned());
    };
    let other = told(&|world| heard(world, "app-2"));
    assert!(
        other.contains(
            ": other traces have spans of `app-2`, and none has one of `app-1`: it does not export"
        ),
        "{other}"
    );
    let entry = told(&|world| heard(world, "app-1"));
    assert!(entry.contains("so it does export: it sampled this trace out"), "{entry}");
    let linked = told(&|world| {
        heard(world, "app-1");
        let mut first = span(0xc1, 0, "app-1", "server", 30 * MS, 40 * MS);
        (first.trace_id, first.parent_id) = (TraceId(9), None);
        let origin = Origin::Link { of: world.case.trace_id, also: Vec::new() };
        world.strays.push(Stray { trace: Trace::new(TraceId(9), vec![first]), origin });
    });
    assert!(
        linked.contains(
            "`app-1` began trace 00000000000000000000000000000009 of its own, and only links it"
        ),
        "{linked}"
    );
}

#[test]
fn an_entry_that_answers_another_trace_id_is_named_as_the_break() {
    let mut world = World::healthy();
    world.spans().retain(|span| span.service == "tracecheck");
    for app in ["app-1", "app-2"] {
        world.ledger(app).spans.clear();
    }
    world.case.outcome = Outcome::Response { status: 200, trace_id: Some(TraceId(7)) };
    let (names, details) = world.failing();
    assert_eq!(names, ["no-trace"]);
    assert!(details.contains("the link tracecheck -> app-1 is broken"), "{details}");
}

#[test]
fn a_second_hop_in_a_trace_of_its_own_is_a_missing_hop() {
    let mut world = World::healthy();
    world.remove(0xb1);
    world.ledger("app-2").spans.clear();
    let mut stray = span(0xb1, 0, "app-2", "server", 30 * MS, 40 * MS);
    stray.trace_id = TraceId(9);
    let (caller, what) = ("app-1".to_owned(), "GET".to_owned());
    let origin = Origin::Call { of: TRACE, call: SpanId(0xa2), caller, what };
    world.strays = vec![Stray { trace: Trace::new(TraceId(9), vec![stray]), origin }];
    let (names, details) = world.failing();
    assert_eq!(names, ["missing-hop", "stray-trace"]);
    assert!(details.contains("the link app-1 -> app-2 is broken"), "{details}");
    assert!(
        details.contains("`app-2` started trace 00000000000000000000000000000009"),
        "{details}"
    );
}

#[test]
fn a_missing_client_span_leaves_an_orphan_and_is_lost() {
    let mut world = World::healthy();
    world.remove(0xa2);
    let (names, details) = world.failing();
    assert_eq!(names, ["orphan-span", "lost-span"]);
    assert!(details.contains("not captured: `app-1` ended it, and it did not arrive"), "{details}");
}

#[test]
fn the_harness_span_that_was_not_exported_is_a_virtual_parent() {
    let mut world = World::healthy();
    world.remove(0xd0);
    world.case.driver_exported = false;
    assert_eq!(world.findings(), Findings::default());
    world.case.driver_exported = true;
    assert_eq!(world.failing().0, ["lost-span"]);
}

#[test]
fn a_second_root_is_told() {
    let mut world = World::healthy();
    world.made_below(0xb1, None);
    assert_eq!(world.failing().0, ["several-roots"]);
}

#[test]
fn a_cycle_is_told_once() {
    let mut world = World::healthy();
    world.span(0xa1).parent_id = Some(SpanId(0xb1));
    world.span(0xa1).meta.insert("span.kind".to_owned(), "internal".to_owned());
    world.shape = Shape::default();
    let failures = world.findings().failures;
    let cycles: Vec<_> = failures.iter().filter(|failure| failure.rule == "parent-cycle").collect();
    assert_eq!(cycles.len(), 1, "{failures:?}");
    let told = &cycles[0].detail;
    assert!(told.contains("(server, app-2, 00000000000000b1)"), "{told}");
    assert!(told.contains("`app-1` and `app-2` make span ids themselves"), "{told}");
}

#[test]
fn a_span_that_came_twice_is_a_duplicate() {
    let mut world = World::healthy();
    let again = Span { attempt: 2, ..world.span(0xb1).clone() };
    world.spans().push(again);
    let (names, details) = world.failing();
    assert_eq!(names, ["duplicate-span"]);
    assert!(details.contains("in attempts #1, #2"), "{details}");
}

#[test]
fn a_server_span_below_a_server_span_is_a_wrong_edge() {
    let mut world = World::healthy();
    world.made_below(0xb1, Some(SpanId(0xa1)));
    assert_eq!(world.failing().0, ["wrong-service-edge"]);
}

#[test]
fn a_hop_called_by_the_wrong_service_is_a_wrong_edge() {
    let mut world = World::healthy();
    world.made_below(0xb1, Some(SpanId(0xd0)));
    assert_eq!(world.failing().0, ["wrong-service-edge"]);
}

#[test]
fn disagreeing_id_halves_are_told() {
    let mut low = World::healthy();
    low.span(0xb1).datadog_trace_id = 1;
    assert_eq!(low.failing().0, ["trace-id-halves-disagree"]);
    let mut high = World::healthy();
    high.span(0xb1).meta.insert("_dd.p.tid".to_owned(), "0000000000000001".to_owned());
    assert_eq!(high.failing().0, ["trace-id-halves-disagree"]);
}

#[test]
fn a_child_may_end_late_but_not_begin_outside_its_parent() {
    let mut late_end = World::healthy();
    late_end.span(0xb1).duration = 500 * MS;
    assert_eq!(late_end.findings(), Findings::default());
    let mut early = World::healthy();
    early.span(0xb1).start = 7 * MS;
    assert_eq!(early.failing().0, ["child-outside-parent"]);
    let mut late = World::healthy();
    late.span(0xb1).start = 93 * MS;
    assert_eq!(late.failing().0, ["child-outside-parent"]);
    late.span(0xb1).hostname = "other".to_owned();
    assert_eq!(late.findings(), Findings::default());
}

#[test]
fn clocks_of_two_processes_may_drift_by_ten_milliseconds_and_that_of_one_may_not() {
    for start in [10 * MS, 90 * MS] {
        let mut drifted = World::healthy();
        drifted.span(0xb1).start = start;
        assert_eq!(drifted.findings(), Findings::default());
    }
    let mut own = World::healthy();
    own.span(0xa2).start = 5 * MS;
    assert_eq!(own.failing().0, ["child-outside-parent"]);
}

#[test]
fn a_fault_must_be_marked_where_it_fails_and_above() {
    let mut world = World::with_faults(&[at("app-2", FaultKind::Status(503))], 0);
    assert_eq!(world.findings().failures.len(), 3, "{:?}", world.failing());
    for id in [0xa1, 0xa2, 0xb1] {
        world.span(id).error = true;
    }
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn an_error_without_a_fault_is_told_with_its_message() {
    let mut world = World::healthy();
    world.span(0xb1).error = true;
    world.span(0xb1).meta.insert("error.msg".to_owned(), "disk full".to_owned());
    let (names, details) = world.failing();
    assert_eq!(names, ["error-not-injected"]);
    assert!(details.contains("disk full"), "{details}");
}

#[test]
fn a_delay_and_a_failed_try_must_show() {
    let slow = World::with_faults(
        &[at("app-2", FaultKind::Delay(std::time::Duration::from_millis(50)))],
        0,
    );
    assert_eq!(slow.failing().0, ["fault-without-effect"]);
    let retried = Fault { first: Some(1), ..at("app-2", FaultKind::Status(503)) };
    let mut world = World::with_faults(&[retried], 1);
    assert_eq!(world.failing().0, ["fault-without-effect"]);
    let first_try = Span { error: true, ..span(0xa3, 0xa1, "app-1", "client", 12 * MS, 5 * MS) };
    world.spans().insert(2, first_try);
    world.ledger("app-1").spans.push(LedgerSpan {
        span_id: SpanId(0xa3),
        parent_span_id: Some(SpanId(0xa1)),
        name: "GET".to_owned(),
        kind: "client".to_owned(),
        sampled: true,
        parent_sampled: None,
    });
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn names_must_be_there() {
    let mut service = World::healthy();
    service.span(0xb1).service = "otlpresourcenoservicename".to_owned();
    assert_eq!(service.failing().0, ["missing-service-name"]);
    let mut resource = World::healthy();
    resource.span(0xb1).resource = "GET".to_owned();
    assert_eq!(resource.failing().0, ["unnamed-resource"]);
    for status in [404.0, 503.0] {
        resource.span(0xb1).metrics.insert("http.status_code".to_owned(), status);
        assert_eq!(resource.findings(), Findings::default());
    }
}

#[test]
fn a_service_that_is_not_known_to_have_routes_need_not_tell_one() {
    let mut world = World::healthy();
    world.shape = Shape::default();
    world.span(0xb1).resource = "GET".to_owned();
    let findings = world.findings();
    assert_eq!(findings.failures, []);
    let told: Vec<_> =
        findings.not_evaluated.iter().filter(|one| one.rule == "unnamed-resource").collect();
    assert!(told.len() == 1 && !told[0].required, "{told:?}");
    assert!(told[0].because.contains("(server, app-2, 00000000000000b1) tells its method alone"));
    world.span(0xb1).resource = String::new();
    assert_eq!(world.failing().0, ["unnamed-resource"]);
}

#[test]
fn spans_without_a_service_are_told_once_and_nobody_is_advised_to_set_what_is_set() {
    let mut world = World::healthy();
    world.shape = Shape::default();
    for id in [0xa1, 0xa2] {
        let span = world.span(id);
        span.service = "unknown_service:node".to_owned();
        span.meta.remove("service.instance.id");
    }
    let failures = world.findings().failures;
    let told: Vec<_> =
        failures.iter().filter(|failure| failure.rule == "missing-service-name").collect();
    assert_eq!(told.len(), 1, "{failures:?}");
    let detail = &told[0].detail;
    assert!(detail.contains("and 1 more have the SDK's default service"), "{detail}");
    assert!(
        detail.contains("so `app-1` does not read it") && !detail.contains("set OTEL_"),
        "{detail}"
    );
    world.topology.services[0].service = None;
    let failures = world.findings().failures;
    assert!(failures.iter().any(|failure| failure.detail.ends_with("; set OTEL_SERVICE_NAME")));
}

#[test]
fn a_span_that_a_service_did_not_keep_is_sampled_out() {
    let mut world = World::healthy();
    world.remove(0xb1);
    world.ledger("app-2").spans[0].sampled = false;
    let (names, details) = world.failing();
    assert_eq!(names, ["missing-hop", "sampled-out"]);
    assert!(details.contains("`app-2` sampled out 1 span(s)"), "{details}");
}

#[test]
fn a_span_that_no_ledger_knows_is_invented() {
    let mut world = World::healthy();
    world.ledger("app-2").spans.clear();
    assert_eq!(world.failing().0, ["invented-span"]);
    world.ledger("app-2").evicted = true;
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_ledger_that_cannot_be_read_is_not_evaluated() {
    let mut world = World::healthy();
    world
        .evidence
        .ledgers
        .insert("app-2".to_owned(), LedgerReport::Unknown("connection refused".to_owned()));
    let findings = world.findings();
    assert_eq!(findings.failures, []);
    let named: Vec<_> =
        findings.not_evaluated.iter().map(|skipped| skipped.rule.as_str()).collect();
    assert_eq!(named, ["lost-span", "undelivered-span", "invented-span"]);
}

#[test]
fn what_the_evidence_cannot_give_is_not_evaluated() {
    let mut world = World::healthy();
    world.capabilities = vec![Capability::RawPayloads];
    let findings = world.findings();
    assert_eq!(findings.failures, []);
    assert_eq!(findings.not_evaluated.len(), 6, "{:?}", findings.not_evaluated);
}

#[test]
fn what_may_still_come_is_neither_held_nor_failed() {
    let mut world = World::healthy();
    world.remove(0xa2);
    assert_eq!(world.failing().0, ["orphan-span", "lost-span"]);
    world.capabilities.retain(|one| *one != Capability::Completeness);
    world.evidence.unsettled = Some("it is young".to_owned());
    let findings = world.findings();
    assert_eq!(findings.failures, []);
    let told: Vec<_> =
        findings.not_evaluated.iter().map(|one| (&*one.rule, one.required)).collect();
    assert_eq!(told, [("orphan-span", true), ("lost-span", true)]);
    assert!(findings.not_evaluated[0].because.starts_with("it is young. Seen so far: "));
    // Once all of it is there, nothing is left open.
    let mut world = World::healthy();
    world.evidence.unsettled = Some("it is young".to_owned());
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn an_answer_that_tells_another_trace_proves_a_broken_link_without_complete_evidence() {
    let mut world = World::healthy();
    world.evidence.trace = None;
    world.capabilities = Vec::new();
    world.evidence.unsettled = Some("nothing came yet".to_owned());
    let none: Vec<_> = world.findings().failures;
    assert_eq!(none, []);
    world.case.outcome = Outcome::Response { status: 200, trace_id: Some(TraceId(7)) };
    let failures = world.findings().failures;
    assert_eq!(failures.len(), 1);
    assert!(failures[0].detail.contains("the link tracecheck -> app-1 is broken"), "{failures:?}");
}

#[test]
fn what_only_datadogs_payloads_carry_is_not_judged_on_otlp() {
    let mut world = World::healthy();
    let break_ids = |world: &mut World| world.span(0xb1).datadog_trace_id = 1;
    break_ids(&mut world);
    assert_eq!(world.findings().failures.len(), 1);
    for span in &mut world.evidence.trace.as_mut().unwrap().spans {
        span.form = PayloadForm::Otlp;
    }
    let findings = world.findings();
    assert_eq!(findings.failures, []);
    let skipped: Vec<_> =
        findings.not_evaluated.iter().map(|skipped| skipped.rule.as_str()).collect();
    assert_eq!(skipped, ["trace-id-halves-disagree", "priority-lost", "top-level-lost"]);
    assert!(findings.not_evaluated[0].because.starts_with("the spans came as OTLP"));
}

#[test]
fn an_unsampled_request_owes_no_trace() {
    let mut world = World::healthy();
    world.case.sampled = false;
    world.case.driver_exported = false;
    world.evidence.trace = None;
    for app in ["app-1", "app-2"] {
        for span in &mut world.ledger(app).spans {
            span.sampled = false;
        }
    }
    assert_eq!(world.findings(), Findings::default());
}

/// Takes the second hop's span out of its trace, and has it captured under another.
fn moved_to(world: &mut World, trace_id: TraceId, datadog_trace_id: u64) {
    let mut moved = world.span(0xb1).clone();
    world.remove(0xb1);
    (moved.trace_id, moved.datadog_trace_id) = (trace_id, datadog_trace_id);
    world.evidence.elsewhere.push(moved);
}

#[test]
fn a_span_that_was_captured_under_another_trace_is_not_called_lost() {
    let cases = [
        (
            TraceId(u128::from(TRACE.low())),
            TRACE.low(),
            "the upper 64 bits of its trace id are missing",
        ),
        (
            TraceId(TRACE.0 ^ (1 << 100)),
            TRACE.low(),
            "the upper 64 bits of its trace id are others",
        ),
        (TraceId(9), TRACE.low(), "its meta `otel.trace_id` names another trace"),
        (TraceId(9), 9, "gives spans another trace id, or puts traces together"),
    ];
    for (trace_id, datadog_trace_id, cause) in cases {
        let mut world = World::healthy();
        moved_to(&mut world, trace_id, datadog_trace_id);
        let (names, details) = world.failing();
        assert_eq!(names, ["missing-hop", "altered-span"]);
        assert!(!details.contains("lost"), "{details}");
        let told = format!("they were captured under trace {trace_id}");
        assert!(details.contains(&told) && details.contains(cause), "{cause}: {details}");
        let told = format!("and it was captured under trace {trace_id}, as a span of `app-2`");
        assert!(details.contains(&told), "{details}");
    }
}

#[test]
fn a_whole_trace_that_was_captured_under_another_id_is_named_and_not_called_lost() {
    let mut world = World::healthy();
    let spans = std::mem::take(world.spans());
    world.evidence.trace = None;
    world.evidence.elsewhere = spans;
    for span in &mut world.evidence.elsewhere {
        span.trace_id = TraceId(u128::from(TRACE.low()));
    }
    let (names, details) = world.failing();
    assert_eq!(names, ["no-trace", "altered-span"]);
    assert!(!details.contains("lost"), "{details}");
    assert!(details.contains("its spans were captured under trace 0000000000000000"), "{details}");
}

#[test]
fn a_span_below_another_parent_than_it_was_made_with_is_altered() {
    let mut world = World::healthy();
    world.span(0xb1).parent_id = Some(SpanId(0xa1));
    let (names, details) = world.failing();
    assert!(names.contains(&"altered-span".to_owned()), "{names:?}");
    assert!(
        details.contains(
            "below parent 00000000000000a2, and it was captured below parent 00000000000000a1"
        ),
        "{details}"
    );
}

/// A healthy world on the time axis, `sent` after the epoch.
fn dated(sent: i64) -> World {
    let mut world = World::healthy();
    world.case.sent_at = sent;
    world.case.ended_at = sent + 100 * MS;
    for span in world.spans() {
        span.start += sent;
    }
    world
}

const MINUTE: i64 = 60_000 * MS;
const NOW: i64 = 1_790_000_000_000 * MS;

#[test]
fn a_span_of_another_day_is_told_whichever_host_it_says_it_is_of() {
    for (shift, cause) in [
        (-24 * 60 * MINUTE, "a day is wrong"),
        (60 * MINUTE, "a local time was taken for UTC"),
        (-5 * 24 * 60 * MINUTE, "its clock is wrong"),
        (-NOW, "its times are not set"),
        (NOW / 1000 - NOW, "its times are microseconds where nanoseconds are meant"),
    ] {
        let mut world = dated(NOW);
        world.span(0xb1).start += shift;
        world.span(0xb1).hostname = "other".to_owned();
        let (names, details) = world.failing();
        assert_eq!(names, ["outside-request"], "{shift}");
        assert!(details.contains("1 span of `app-2`") && details.contains(cause), "{details}");
    }
}

#[test]
fn clocks_minutes_apart_and_work_after_the_answer_are_no_other_time() {
    for shift in [-10 * MINUTE, 10 * MINUTE] {
        let mut world = dated(NOW);
        world.span(0xb1).start += shift;
        world.span(0xb1).hostname = "other".to_owned();
        assert_eq!(world.findings(), Findings::default());
    }
}

fn rename(world: &mut World, from: &str, to: &str) {
    for span in world.spans().iter_mut().filter(|span| span.service == from) {
        span.service = to.to_owned();
    }
}

#[test]
fn a_workload_that_reports_as_another_service_is_told_with_who_named_it_so() {
    let mut world = World::healthy();
    rename(&mut world, "app-2", "oops");
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"]);
    assert!(details.contains("`app-2` itself does not call its service so"), "{details}");
    world.topology.services[1].service = Some("oops".to_owned());
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"]);
    assert!(details.contains("reach Datadog as service `oops`, and are meant to be of `app-2`"));
    assert!(details.contains("`app-2` itself calls its service so"), "{details}");
}

#[test]
fn a_service_that_is_meant_to_be_called_so_is_no_wrong_one() {
    let mut world = World::healthy();
    rename(&mut world, "app-2", "getting_started");
    for meant in [None, Some("Getting Started".to_owned())] {
        world.topology.services[1].meant = meant;
        assert_eq!(world.findings(), Findings::default());
    }
}

/// A system of somebody's own: no shape, no ledger, and only the names in its file.
fn own_services() -> World {
    let mut world = World::healthy();
    world.shape = Shape::default();
    world.evidence.ledgers.clear();
    for identity in &mut world.topology.services {
        identity.instances.clear();
    }
    for span in world.spans() {
        span.meta.remove("service.instance.id");
    }
    world
}

#[test]
fn a_stranger_in_the_place_of_the_only_silent_workload_is_told() {
    let mut world = own_services();
    assert_eq!(world.findings().failures, []);
    rename(&mut world, "app-2", "oops");
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"]);
    assert!(
        details.contains("nothing was heard of `app-2`, which is meant to be service `app-2`"),
        "{details}"
    );
}

#[test]
fn a_stranger_that_may_be_somebody_else_is_not_told() {
    let stranger = || {
        let mut world = own_services();
        rename(&mut world, "app-2", "oops");
        world
    };
    // Another workload, of which no name is written down, may be it.
    let mut unnamed = stranger();
    let third = ServiceIdentity {
        workload: "gateway".to_owned(),
        service: None,
        instances: Vec::new(),
        meant: None,
    };
    unnamed.topology.services.push(third);
    // A database that a client gives a service of its own.
    let mut pseudo = stranger();
    pseudo.span(0xb1).meta.insert("span.kind".to_owned(), "client".to_owned());
    // Everybody is heard of.
    let mut more = own_services();
    more.spans().push(span(0xc1, 0xa2, "oops", "server", 30 * MS, 40 * MS));
    // Somebody else's traffic.
    let mut shared = stranger();
    shared.capabilities.retain(|one| *one != Capability::Exclusiveness);
    for world in [unnamed, pseudo, more, shared] {
        assert_eq!(world.findings().failures, []);
    }
}

#[test]
fn spans_of_one_process_that_disagree_in_their_resource_are_told() {
    for key in ["service.version", "host.name", "telemetry.sdk.language"] {
        let mut world = World::healthy();
        for (id, value) in [(0xa1, "one"), (0xa2, "two")] {
            let span = world.span(id);
            span.meta.insert(key.to_owned(), value.to_owned());
            if key == "host.name" {
                value.clone_into(&mut span.hostname);
            }
        }
        let (names, details) = world.failing();
        assert_eq!(names, ["resource-mixed"], "{key}");
        assert!(details.contains("`one` on") && details.contains("`two` on"), "{details}");
    }
}

#[test]
fn a_payload_whose_env_or_host_is_not_the_resources_is_told() {
    let mut world = World::healthy();
    let span = world.span(0xb1);
    span.meta.insert("deployment.environment.name".to_owned(), "prod".to_owned());
    span.env = "staging".to_owned();
    let (names, details) = world.failing();
    assert_eq!(names, ["resource-mixed"]);
    assert!(details.contains("1 span of `app-2`"), "{details}");
    assert!(details.contains("came with the env `staging`, but their resource says `prod`"));
}

#[test]
fn resources_that_differ_between_processes_or_in_words_are_no_mix() {
    let mut world = World::healthy();
    for (id, version, env) in [(0xa1, "1", "prod"), (0xa2, "1", "prod"), (0xb1, "2", "Staging EU")]
    {
        let span = world.span(id);
        span.meta.insert("service.version".to_owned(), version.to_owned());
        span.meta.insert("deployment.environment".to_owned(), env.to_owned());
        span.env = env.to_lowercase().replace(' ', "_");
    }
    // Two instances of one service, of two versions.
    rename(&mut world, "app-2", "app-1");
    // The host that a node gives goes before its name.
    world.span(0xb1).meta.insert("host.name".to_owned(), "pod-1".to_owned());
    world.span(0xb1).meta.insert("k8s.node.name".to_owned(), "node-1".to_owned());
    world.span(0xb1).hostname = "node-1".to_owned();
    world.topology.services[1].meant = None;
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn a_chunk_that_is_not_to_be_kept_is_told_where_the_request_was_sampled() {
    for priority in [0, -1, -128] {
        let mut world = World::healthy();
        world.span(0xb1).priority = priority;
        let (names, details) = world.failing();
        assert_eq!(names, ["priority-lost"], "{priority}");
        assert!(details.contains("1 span of `app-2`"), "{details}");
    }
    let mut dropped = World::healthy();
    dropped.span(0xa1).dropped = true;
    assert_eq!(dropped.failing().0, ["priority-lost"]);
}

#[test]
fn a_priority_that_somebody_asked_for_is_not_lost() {
    let zero = || {
        let mut world = World::healthy();
        world.span(0xb1).priority = 0;
        world
    };
    for key in ["_dd.errors_sr", "sampling.priority", "_dd.span_sampling.mechanism"] {
        let mut world = zero();
        let value = if key == "sampling.priority" { 0.0 } else { 1.0 };
        world.span(0xb1).metrics.insert(key.to_owned(), value);
        assert_eq!(world.findings(), Findings::default(), "{key}");
    }
    // Of Datadog's own tracers.
    let mut tracer = zero();
    tracer.span(0xb1).meta.remove("otel.trace_id");
    assert_eq!(tracer.findings(), Findings::default());
    let mut kept_by_user = World::healthy();
    kept_by_user.span(0xb1).priority = 2;
    assert_eq!(kept_by_user.findings(), Findings::default());
}

#[test]
fn the_span_with_which_a_trace_enters_a_service_must_be_top_level() {
    let mut world = World::healthy();
    world.span(0xb1).metrics.clear();
    let (names, details) = world.failing();
    assert_eq!(names, ["top-level-lost"]);
    assert!(details.contains("the trace enters `app-2`"), "{details}");
    // Those within a service are not, nor what other clients than an exporter send, nor one whose parent is not there.
    let mut within = World::healthy();
    within.span(0xb1).metrics.clear();
    within.span(0xb1).meta.remove("otel.trace_id");
    assert_eq!(within.findings(), Findings::default());
    let mut orphan = World::healthy();
    orphan.span(0xb1).metrics.clear();
    orphan.remove(0xa2);
    assert!(!orphan.failing().0.contains(&"top-level-lost".to_owned()));
}

#[test]
fn a_span_of_another_kind_than_it_was_made_with_is_altered_and_not_called_lost() {
    let mut world = World::healthy();
    world.span(0xb1).meta.insert("span.kind".to_owned(), "internal".to_owned());
    let (names, details) = world.failing();
    assert_eq!(names, ["missing-hop", "altered-span"]);
    assert!(!details.contains("lost"), "{details}");
    assert!(details.contains("and it was captured with the kind `internal`"), "{details}");
    assert!(details.contains("which was captured, and not as a server span of `app-2`"));
}

/// What the collector says: spans that it took, sent to Datadog, and dropped with a reason.
fn collector(accepted: u64, exported: u64, dropped: &[(&str, u64)]) -> CollectorEntry {
    let dropped = dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    let exporters = BTreeMap::from([("datadog".to_owned(), Exported { exported, dropped })]);
    CollectorEntry { accepted, exporters, ..CollectorEntry::default() }
}

#[test]
fn a_lost_span_is_told_with_the_stage_that_alone_accounts_for_it() {
    let told = |entry: CollectorEntry| {
        let mut world = World::healthy();
        world.remove(0xb1);
        world.evidence.collector = Some(entry);
        let failures = world.findings().failures;
        let lost = failures.into_iter().find(|failure| failure.rule == "lost-span");
        lost.map(|failure| failure.detail).unwrap_or_default()
    };
    let before = told(collector(3, 3, &[]));
    assert!(
        before.contains("lost between `app-2` and the collector, which took 3 of the 4 spans"),
        "{before}"
    );
    let dropped = told(collector(4, 3, &[("too_large", 1)]));
    assert!(
        dropped.contains(
            "lost in the collector, which took 4 spans of the trace and dropped 1 as `too_large`"
        ),
        "{dropped}"
    );
    let inside = told(collector(4, 3, &[]));
    assert!(inside.contains("took 4 spans of the trace and sent 3: a processor"), "{inside}");
    let behind = told(collector(4, 4, &[]));
    assert!(
        behind.contains("lost between the collector and the intake: the collector sent 4 spans")
            && behind.contains("and 3 were captured"),
        "{behind}"
    );
    // Numbers that do not fit, more taken than made, and a ledger that has forgotten: no stage is named.
    for unclear in [
        collector(2, 2, &[]),
        collector(6, 6, &[]),
        CollectorEntry { evicted: true, ..collector(0, 0, &[]) },
    ] {
        let told = told(unclear);
        assert!(told.contains("lost between `app-2` and the intake"), "{told}");
    }
}

#[test]
fn spans_that_were_refused_are_told_with_the_exporter_that_gave_them_up() {
    let told = |refused_from: &[(&str, u64)], wrong_port: &[(&str, u64)]| {
        let mut world = World::healthy();
        world.remove(0xb1);
        let by_sender = |of: &[(&str, u64)]| {
            of.iter().map(|(sender, count)| ((*sender).to_owned(), *count)).collect()
        };
        world.evidence.collector = Some(CollectorEntry {
            refused_from: by_sender(refused_from),
            wrong_port: by_sender(wrong_port),
            ..collector(3, 3, &[])
        });
        world.failing().1
    };
    let node = "OTel-OTLP-Exporter-JavaScript/0.301.0 grpc-node-js/1.14.7";
    let gave_up = told(&[(&format!("{node} (grpc)"), 1)], &[]);
    assert!(
        gave_up.contains(&format!(
            "the collector refused spans to `{node}` (1, each attempt counted): Node's exporter over gRPC does not try again"
        )),
        "{gave_up}"
    );
    let over_http = told(&[("OTel-OTLP-Exporter-JavaScript/0.301.0 (http)", 1)], &[]);
    assert!(!over_http.contains("does not try again"), "{over_http}");
    let rust = told(&[("OTel-OTLP-Exporter-Rust/0.33.1 (http)", 1)], &[]);
    assert!(rust.contains("after a second where no delay is told"), "{rust}");
    let unknown = told(&[("curl/8 (http)", 1)], &[]);
    assert!(
        unknown.contains("refused spans to `curl/8`") && !unknown.contains("exporters"),
        "{unknown}"
    );
    let mistaken = told(&[], &[("OTel-OTLP-Exporter-Java/1.68.0 (http)", 7)]);
    assert!(
        mistaken.contains("an exporter that speaks HTTP (`OTel-OTLP-Exporter-Java/1.68.0`) is pointed at the gRPC port"),
        "{mistaken}"
    );
    assert!(told(&[], &[]).contains("look at the service's log"));
}

#[test]
fn of_services_without_a_ledger_what_the_collector_took_and_did_not_deliver_is_told() {
    let told = |entry: CollectorEntry, spans: usize| {
        let mut world = World::healthy();
        world.shape = Shape::default();
        world.evidence.ledgers.clear();
        world.capabilities.retain(|one| *one != Capability::Ledger);
        world.spans().truncate(spans);
        world.evidence.collector = Some(entry);
        world.failing()
    };
    assert_eq!(told(collector(4, 4, &[]), 4).0, [""; 0]);
    // What still waits, what a processor removed, and what came twice are no loss.
    assert_eq!(told(collector(5, 4, &[]), 4).0, [""; 0]);
    assert_eq!(told(collector(4, 3, &[]), 4).0, [""; 0]);
    let (names, details) = told(collector(4, 4, &[]), 3);
    assert_eq!(names, ["undelivered-span"]);
    assert!(details.contains("sent 4 spans") && details.contains("3 were captured"), "{details}");
    let (names, details) = told(collector(4, 3, &[("retries_exhausted", 1)]), 3);
    assert_eq!(names, ["undelivered-span"]);
    assert!(details.contains("dropped 1 as `retries_exhausted`"), "{details}");
    // Nothing but the harness's own span came, or nothing of what came was delivered.
    let (names, details) = told(collector(1, 1, &[]), 1);
    assert_eq!(names, ["no-trace"]);
    assert!(details.contains("the collector took no span of theirs"), "{details}");
    let (names, details) = told(collector(4, 4, &[]), 1);
    assert_eq!(names, ["no-trace"]);
    assert!(details.contains("lost between the collector and the intake"), "{details}");
}

#[test]
fn a_flag_that_was_cleared_on_the_way_blames_the_link_and_not_the_sampler_behind_it() {
    let found = |parent_sampled: Option<bool>| {
        let mut world = World::healthy();
        world.remove(0xb1);
        let own = &mut world.ledger("app-2").spans[0];
        (own.sampled, own.parent_sampled) = (false, parent_sampled);
        let failures = world.findings().failures;
        failures.into_iter().find(|failure| failure.rule == "sampled-out").unwrap()
    };
    let cleared = found(Some(false));
    let link = Some(Hop { caller: "app-1".to_owned(), callee: "app-2".to_owned() });
    assert_eq!((cleared.service, cleared.hop), (None, link));
    let cause = cleared.cause.unwrap();
    assert!(cause.contains("`app-2` was sent a context that says *not sampled*"), "{cause}");
    let own = found(Some(true));
    assert_eq!((own.service.as_deref(), own.hop), (Some("app-2"), None));
    assert!(own.cause.unwrap().contains("does not follow the parent"));
    // Whoever does not say what it was sent leaves both possible.
    let either = found(None).cause.unwrap();
    assert!(either.contains("or the link app-1 -> app-2 clears the flag"), "{either}");
}

#[test]
fn who_follows_a_caller_that_sampled_out_is_not_blamed() {
    let mut world = World::healthy();
    for id in [0xa1, 0xa2, 0xb1] {
        world.remove(id);
    }
    for app in ["app-1", "app-2"] {
        world.ledger(app).spans.iter_mut().for_each(|span| span.sampled = false);
    }
    let failures = world.findings().failures;
    let out: Vec<_> = failures.iter().filter(|failure| failure.rule == "sampled-out").collect();
    assert_eq!(out.len(), 1, "{out:?}");
    assert_eq!(out[0].hop.as_ref().map(|hop| &*hop.callee), Some("app-1"));
}

#[test]
fn a_span_that_was_captured_under_another_id_is_not_called_lost() {
    let mut world = World::healthy();
    world.span(0xa2).id = SpanId(0xa1);
    let (names, details) = world.failing();
    assert!(!names.iter().any(|name| name == "lost-span"), "{names:?}: {details}");
    assert!(details.contains("captured under the span id 00000000000000a1"), "{details}");
}

#[test]
fn a_parent_that_nobody_made_is_told_with_the_call_that_nobody_answers() {
    let mut world = World::healthy();
    world.made_below(0xb1, Some(SpanId(0xee)));
    for ledgers in [true, false] {
        if !ledgers {
            world.evidence.ledgers.clear();
            world.shape = Shape::default();
        }
        let failures = world.findings().failures;
        let orphan = failures.iter().find(|failure| failure.rule == "orphan-span").unwrap();
        let hop = orphan.hop.as_ref().unwrap();
        assert_eq!((&*hop.caller, &*hop.callee), ("app-1", "app-2"));
        assert!(
            orphan.detail.contains("nobody answers `GET` (client, app-1, 00000000000000a2)")
                && !orphan.detail.contains("lost"),
            "{}",
            orphan.detail
        );
    }
}
