//! Each rule holds on a healthy trace, and fails on one that is broken in its way.

use super::{RULES, check_all};
use crate::{
    case::{
        Around, Capability, Case, Evidence, LedgerReport, Outcome, ResponseParts, ServiceIdentity,
        Shape, Stray, Topology, View,
    },
    finding::Findings,
    ledger::{LedgerEntry, LedgerSpan},
    scenario::{
        Method,
        fault::{Fault, FaultKind},
        implied::of_chain,
    },
    trace::{PayloadForm, Span, SpanId, Trace, TraceId},
};

mod altered;
mod callers;
mod conventions;
mod datadog;
mod doubled;
mod edges;
mod errors;
mod identity;
mod links;
mod naming;
mod own;
mod presence;
mod sampling;
mod stage;
mod time;
mod tracestate;

const TRACE: TraceId = TraceId(0x6740_0000_1111_2222_3333_4444_5555_6666);
const DRIVER: SpanId = SpanId(0xd0);

struct World {
    case: Case,
    evidence: Evidence,
    strays: Vec<Stray>,
    capabilities: Vec<Capability>,
    topology: Topology,
    shape: Shape,
    /// Those of other requests.
    around: Vec<Trace>,
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
            .chain([("http.status_code".to_owned(), 200.0)])
            .collect(),
        hostname: "host".to_owned(),
        env: "none".to_owned(),
        container_id: String::new(),
        language: String::new(),
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
                recorded: None,
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
                answer: ResponseParts::default(),
            },
            evidence: Evidence {
                ledgers: ledgers.collect(),
                trace: Some(Trace::new(TRACE, spans)),
                ..Evidence::default()
            },
            strays: Vec::new(),
            around: Vec::new(),
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
                        ..ServiceIdentity::default()
                    })
                    .collect(),
            },
            shape: of_chain(&chain, faults, (retries, std::time::Duration::from_secs(5)), &|_| {
                vec!["traceparent"]
            }),
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

    /// Puts a span below another parent, in its service's ledger too.
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
        self.look(|view| check_all(view, |_| false))
    }

    fn look<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        let strays: Vec<&Stray> = self.strays.iter().collect();
        let view = View {
            case: &self.case,
            evidence: &self.evidence,
            strays: &strays,
            capabilities: &self.capabilities,
            topology: &self.topology,
            shape: &self.shape,
            around: &Around::new(self.evidence.trace.iter().chain(&self.around)),
        };
        look(view)
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
    let reported: Vec<_> =
        findings.not_evaluated.iter().map(|one| (&*one.rule, one.required)).collect();
    assert_eq!(reported, [("orphan-span", true), ("lost-span", true)]);
    assert!(findings.not_evaluated[0].because.starts_with("it is young. Seen so far: "));
    // Once all of it is there, nothing is left open.
    let mut world = World::healthy();
    world.evidence.unsettled = Some("it is young".to_owned());
    assert_eq!(world.findings(), Findings::default());
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
