//! Records for tests: a healthy one, and what breaks it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    case::{
        Capability, Case, Evidence, LedgerReport, Origin, Outcome, ResponseParts, ServiceIdentity,
        Stray, Topology,
    },
    expectation::Expect,
    ledger::{LedgerEntry, LedgerSpan},
    record::{CaseRecord, Record},
    scenario::{ChainChoice, Method, Request, Scenario, SystemChoice},
    stats::{Forms, StatsRecord},
    trace::{PayloadForm, Span, SpanId, Trace, TraceId},
};

pub(crate) const TRACE: TraceId = TraceId(0x6740_0000_1111_2222_3333_4444_5555_6666);
pub(crate) const DRIVER: SpanId = SpanId(0xd0);
pub(crate) const MS: i64 = 1_000_000;

/// A span of [`TRACE`].
pub(crate) fn span(
    id: u64,
    parent: u64,
    workload: &str,
    kind: &str,
    start: i64,
    duration: i64,
) -> Span {
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

/// The request of [`TRACE`], answered 200 after 100 ms.
pub(crate) fn case() -> Case {
    Case {
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
    }
}

/// A record under test.
pub(crate) struct World {
    pub(crate) record: Record,
}

impl World {
    /// One request along a chain of two services; all of its trace is there, and everybody says so.
    pub(crate) fn healthy() -> Self {
        let scenario = Scenario {
            name: "happy".to_owned(),
            description: "All of it arrives.".to_owned(),
            file: PathBuf::from("happy.yaml"),
            system: SystemChoice::Chain(ChainChoice { apps: 2, ..ChainChoice::default() }),
            requests: vec![Request::get("/outgoing-sampleapp")],
            faults: Vec::new(),
            expect: Expect { within: Duration::from_secs(1), ..Expect::default() },
            tolerate: BTreeMap::new(),
            levels: BTreeMap::new(),
            requires: BTreeMap::new(),
        };
        let identity = |workload: &str| ServiceIdentity {
            workload: workload.to_owned(),
            service: Some(workload.to_owned()),
            instances: vec![format!("{workload}-instance")],
            meant: Some(workload.to_owned()),
            ..ServiceIdentity::default()
        };
        let topology = Topology { services: ["sample-app-1", "sample-app-2"].map(identity).into() };
        let capabilities = vec![
            Capability::RawPayloads,
            Capability::Stats,
            Capability::Exclusiveness,
            Capability::Completeness,
            Capability::Ledger,
        ];
        let mut record = Record::new(scenario, topology, capabilities);
        record.facts.refused = Some(0);
        record.stats = StatsRecord::NotAsked(Forms::default());
        let spans = vec![
            span(0xd0, 0, "tracecheck", "client", 0, 100 * MS),
            span(0xa1, 0xd0, "sample-app-1", "server", 10 * MS, 80 * MS),
            span(0xa2, 0xa1, "sample-app-1", "client", 20 * MS, 60 * MS),
            span(0xb1, 0xa2, "sample-app-2", "server", 30 * MS, 40 * MS),
        ];
        let ledgers = record.topology.services.iter().map(|service| {
            let own = spans.iter().filter(|span| span.service == service.workload);
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
            (service.workload.clone(), LedgerReport::Known(entry))
        });
        let evidence = Evidence {
            ledgers: ledgers.collect(),
            trace: Some(Trace::new(TRACE, spans)),
            ..Evidence::default()
        };
        record.cases.push(CaseRecord { case: case(), evidence });
        Self { record }
    }

    pub(crate) fn case(&mut self) -> &mut Case {
        &mut self.record.cases[0].case
    }

    pub(crate) fn evidence(&mut self) -> &mut Evidence {
        &mut self.record.cases[0].evidence
    }

    pub(crate) fn expect(&mut self) -> &mut Expect {
        &mut self.record.scenario.expect
    }

    /// Takes the captured spans of a service away.
    pub(crate) fn lose(&mut self, service: &str) {
        let trace = self.evidence().trace.as_mut().expect("a trace is captured");
        trace.spans.retain(|span| span.service != service);
    }

    /// Takes all that was captured away.
    pub(crate) fn lose_all(&mut self) {
        self.evidence().trace = None;
    }

    /// Has the request fail without an answer, and nothing made of it.
    pub(crate) fn unanswered(&mut self) {
        self.case().outcome = Outcome::Failed { reason: "connection refused".to_owned() };
        self.lose_all();
        for report in self.evidence().ledgers.values_mut() {
            if let LedgerReport::Known(entry) = report {
                entry.spans.clear();
            }
        }
    }

    /// Adds a trace that a service began as the answer to the request's call.
    pub(crate) fn stray(&mut self, service: &str) {
        let (of, caller) = (self.case().trace_id, "sample-app-1".to_owned());
        let what = "GET".to_owned();
        self.stray_of(service, Origin::Call { of, call: SpanId(0xa2), caller, what });
    }

    /// Adds a trace that a service began while the request was in progress.
    pub(crate) fn stray_of(&mut self, service: &str, origin: Origin) {
        let id = TraceId(9 + self.record.strays.len() as u128);
        let mut begun = span(0xc1, 0, service, "server", 30 * MS, 40 * MS);
        begun.trace_id = id;
        begun.datadog_trace_id = id.low();
        begun.meta.insert("otel.trace_id".to_owned(), id.to_string());
        let trace = Trace::new(id, vec![begun]);
        self.record.strays.push(Stray { trace, origin });
    }
}
