//! Measures the cost of a captured span in the harness, from the payload's bytes to the verdict: `cargo bench -p harness --bench judge`.
//!
//! Payloads of 1000 spans, zstd, as the collector sends them: two services and the harness's own span, five spans in a trace,
//! 17 texts each. Besides, one trace of many spans, whole and with many of them lost, since rules look at parents and children; and a saved
//! run, from its files to its verdict, of traces of ten spans and of one trace. `JUDGE_SPANS=1000000` has that of another size.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says so by ending")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use harness::case::{
    Capability, Case, Evidence, LedgerReport, Outcome, ResponseParts, ServiceIdentity, Topology,
};
use harness::finding::Findings;
use harness::intake::attempt::{Attempt, Reply};
use harness::intake::decode::{DEFAULT_MAX_DECODED, Route, decode};
use harness::intake::store::{Bounds, Store};
use harness::judge;
use harness::ledger::{LedgerEntry, LedgerSpan};
use harness::load;
use harness::record::{CaseRecord, Record, SystemFacts};
use harness::saved;
use harness::scenario::{Method, Scenario};
use harness::strays::Nobodys;
use harness::trace::{SpanId, Trace, TraceId};
use harness::verdict::Verdict;
use libdd_trace_protobuf::pb;
use prost::Message as _;
use serde::Serialize;

/// How many spans a payload has.
const PAYLOAD: usize = 1000;
/// How many spans a trace has: of the harness, then of each service a server's and an inner or a client's.
const HOPS: [(&str, &str); 5] = [
    ("tracecheck", "client"),
    ("sample-app-1", "server"),
    ("sample-app-1", "client"),
    ("sample-app-2", "server"),
    ("sample-app-2", "internal"),
];
const MILLISECOND: i64 = 1_000_000;

fn main() {
    divan::main();
}

fn trace_id(trace: usize) -> TraceId {
    TraceId(0x6740_0000_1111_2222_0000_0000_0000_0000 + trace as u128 + 1)
}

fn span_id(trace: usize, index: usize) -> u64 {
    ((trace as u64 + 1) << 24) + index as u64 + 1
}

/// One of a trace's spans; from the fifth on they are inner ones of the last service, each below one of the four before it.
fn span(trace: usize, index: usize) -> pb::Span {
    let (service, kind) = HOPS[index.min(HOPS.len() - 1)];
    let parent = match index {
        0 => 0,
        1..5 => span_id(trace, index - 1),
        _ => span_id(trace, index - 1 - index % 4),
    };
    let id = trace_id(trace);
    let texts = [
        ("span.kind", kind),
        ("otel.trace_id", &id.to_string()),
        ("_dd.p.tid", &format!("{:016x}", id.high())),
        ("service.instance.id", &format!("{service}-instance")),
        ("http.method", "GET"),
        ("http.route", "/outgoing-sampleapp"),
        ("http.status_code", "200"),
        ("url.path", "/outgoing-sampleapp"),
        ("url.scheme", "http"),
        ("server.address", "sample-app.example"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("deployment.environment.name", "staging"),
        ("service.version", "1.4.2"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("otel.library.name", "bench"),
    ];
    pb::Span {
        service: service.to_owned(),
        name: format!("http.{kind}.request"),
        resource: if kind == "client" { "GET" } else { "GET /outgoing-sampleapp" }.to_owned(),
        trace_id: id.low(),
        span_id: span_id(trace, index),
        parent_id: parent,
        start: 1_750_000_000_000_000_000 + index.min(4) as i64 * MILLISECOND,
        duration: (20 - 2 * index.min(4) as i64) * MILLISECOND,
        meta: texts.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        metrics: [("_sampling_priority_v1".to_owned(), 1.0), ("_top_level".to_owned(), 1.0)].into(),
        r#type: "web".to_owned(),
        ..pb::Span::default()
    }
}

/// A payload of traces, with these spans of each, as the intake gets it.
fn attempt(seq: usize, traces: impl Iterator<Item = usize>, spans: Range<usize>) -> Attempt {
    let chunk = |trace| pb::TraceChunk {
        priority: 1,
        spans: spans.clone().map(|index| span(trace, index)).collect(),
        ..pb::TraceChunk::default()
    };
    let tracer = pb::TracerPayload {
        hostname: "host".to_owned(),
        // As the resources of the spans say.
        env: "staging".to_owned(),
        chunks: traces.map(chunk).collect(),
        ..pb::TracerPayload::default()
    };
    let payload = pb::AgentPayload {
        host_name: "host".to_owned(),
        // What was delivered before would not be taken twice.
        agent_version: seq.to_string(),
        tracer_payloads: vec![tracer],
        ..pb::AgentPayload::default()
    };
    Attempt {
        seq: seq as u64,
        received_at: 0,
        method: "POST".to_owned(),
        path: Route::Traces.path().to_owned(),
        headers: [("content-encoding".to_owned(), "zstd".to_owned())].into(),
        body: zstd::encode_all(payload.encode_to_vec().as_slice(), 1).unwrap(),
        reply: Reply::Status(202),
    }
}

/// Payloads that have so many spans together.
fn attempts(spans: usize) -> Vec<Attempt> {
    let traces_each = PAYLOAD / HOPS.len();
    let one = |number| {
        let first = number * traces_each;
        attempt(number + 1, first..first + traces_each, 0..HOPS.len())
    };
    (0..spans / PAYLOAD).map(one).collect()
}

fn store(attempts: Vec<Attempt>) -> Store {
    let mut store = Store::new(Bounds { max_bytes: 1 << 30, max_attempts: 1_000_000 });
    for attempt in attempts {
        let decoded = decode(&attempt, DEFAULT_MAX_DECODED);
        store.insert(attempt, decoded, Instant::now());
    }
    store
}

/// Capabilities of the mock intake and of services with ledgers.
const CAPABILITIES: [Capability; 4] = [
    Capability::RawPayloads,
    Capability::Exclusiveness,
    Capability::Completeness,
    Capability::Ledger,
];

/// All that a case of the chain of two services is judged by.
struct World {
    scenario: Scenario,
    topology: Topology,
}

impl World {
    fn new() -> Self {
        let text = "name: bench\ndescription: For the benchmark.\nrequests:\n  - { get: /outgoing-sampleapp }\n";
        let parsed = load::parse(Path::new("bench.yaml"), text);
        let (scenario, _) = parsed.unwrap();
        let services = ["sample-app-1", "sample-app-2"].map(|workload| ServiceIdentity {
            workload: workload.to_owned(),
            service: Some(workload.to_owned()),
            instances: vec![format!("{workload}-instance")],
            meant: Some(workload.to_owned()),
            ..ServiceIdentity::default()
        });
        Self { scenario, topology: Topology { services: services.into() } }
    }

    /// Returns ledgers of services that ended just what was captured.
    fn ledgers(&self, trace: &Trace) -> BTreeMap<String, LedgerReport> {
        let of = |workload: &str| {
            let spans = trace.spans.iter().filter(|span| span.service == workload);
            let spans = spans.map(|span| LedgerSpan {
                span_id: span.id,
                parent_span_id: span.parent_id,
                name: span.resource.clone(),
                kind: span.kind().to_owned(),
                sampled: true,
                parent_sampled: None,
                recorded: None,
            });
            let spans = spans.collect();
            LedgerReport::Known(LedgerEntry { trace_id: trace.id, spans, evicted: false })
        };
        let services = self.topology.services.iter();
        services.map(|service| (service.workload.clone(), of(&service.workload))).collect()
    }

    /// The request of a trace, and all that is known of it.
    fn case(&self, trace: Trace, ledgers: BTreeMap<String, LedgerReport>) -> CaseRecord {
        let case = Case {
            request: 0,
            ordinal: 0,
            trace_id: trace.id,
            driver_span: trace.spans[0].id,
            driver_exported: true,
            context_sent: true,
            sampled: true,
            sent_at: trace.spans[0].start,
            ended_at: trace.spans[0].end(),
            outcome: Outcome::Response { status: 200, trace_id: Some(trace.id) },
            method: Method::Get,
            entry: None,
            answer: ResponseParts::default(),
        };
        let evidence = Evidence { trace: Some(trace), ledgers, ..Evidence::default() };
        CaseRecord { case, evidence }
    }

    /// Judges one trace, and reports it as a run does.
    fn judge(&self, trace: Trace, ledgers: BTreeMap<String, LedgerReport>) -> Findings {
        let mut record =
            Record::new(self.scenario.clone(), self.topology.clone(), CAPABILITIES.to_vec());
        record.cases.push(self.case(trace, ledgers));
        judge::judge(&record).cases.remove(0).findings
    }
}

#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn decode_payloads(bencher: Bencher<'_, '_>, spans: usize) {
    let attempts = attempts(spans);
    bencher.counter(ItemsCount::new(spans)).bench(|| {
        for attempt in &attempts {
            divan::black_box(decode(attempt, DEFAULT_MAX_DECODED));
        }
    });
}

#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn capture_and_judge(bencher: Bencher<'_, '_>, spans: usize) {
    let (world, attempts) = (World::new(), attempts(spans));
    bencher.counter(ItemsCount::new(spans)).with_inputs(|| attempts.clone()).bench_values(
        |attempts| {
            let store = store(attempts);
            let mut traces = 0;
            for id in store.trace_ids() {
                let trace = store.trace(id).unwrap();
                let ledgers = world.ledgers(&trace);
                let findings = world.judge(trace, ledgers);
                assert!(findings.failures.is_empty(), "{findings:?}");
                traces += 1;
            }
            assert_eq!(traces, spans / HOPS.len());
        },
    );
}

/// A store that is full lets the oldest go with each that comes.
#[divan::bench(args = [1_000, 10_000], sample_count = 10)]
fn capture_into_a_full_store(bencher: Bencher<'_, '_>, spans: usize) {
    // All of one trace, so that the old spans are among the new ones.
    let attempts = [1, 2, 3, 4].map(|seq| attempt(seq, [0].into_iter(), 0..spans));
    bencher.counter(ItemsCount::new(4 * spans)).with_inputs(|| attempts.clone()).bench_values(
        |attempts| {
            let mut store = Store::new(Bounds { max_bytes: 1 << 30, max_attempts: 1 });
            for attempt in attempts {
                let decoded = decode(&attempt, DEFAULT_MAX_DECODED);
                store.insert(attempt, decoded, Instant::now());
            }
        },
    );
}

#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn judge_one_trace(bencher: Bencher<'_, '_>, spans: usize) {
    let (world, trace) = (World::new(), trace_of(spans));
    let ledgers = world.ledgers(&trace);
    bencher
        .counter(ItemsCount::new(spans))
        .with_inputs(|| (trace.clone(), ledgers.clone()))
        .bench_values(|(trace, ledgers)| {
            let findings = world.judge(trace, ledgers);
            assert!(findings.failures.is_empty(), "{findings:?}");
        });
}

/// One that fails is drawn, too.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn judge_one_trace_that_fails(bencher: Bencher<'_, '_>, spans: usize) {
    let (world, mut trace) = (World::new(), trace_of(spans));
    let ledgers = world.ledgers(&trace);
    trace.spans.retain(|span| span.id != SpanId(span_id(0, 3)));
    bencher
        .counter(ItemsCount::new(spans))
        .with_inputs(|| (trace.clone(), ledgers.clone()))
        .bench_values(|(trace, ledgers)| {
            let findings = world.judge(trace, ledgers);
            assert!(findings.failures.iter().any(|failure| failure.rule == "lost-span"));
        });
}

/// Many findings of one kind are one diagnosis.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 10)]
fn judge_one_trace_that_lost_every_tenth(bencher: Bencher<'_, '_>, spans: usize) {
    let (world, mut trace) = (World::new(), trace_of(spans));
    let ledgers = world.ledgers(&trace);
    let mut index = 0;
    trace.spans.retain(|_| {
        index += 1;
        index % 10 != 0
    });
    bencher
        .counter(ItemsCount::new(spans))
        .with_inputs(|| (trace.clone(), ledgers.clone()))
        .bench_values(|(trace, ledgers)| {
            let findings = world.judge(trace, ledgers);
            let lost = findings.failures.iter().flat_map(|failure| failure.unfolded());
            let lost = lost.filter(|(_, failure)| failure.rule == "lost-span").count();
            assert_eq!(lost, spans / 10);
        });
}

/// How many spans a saved run has.
fn saved_sizes() -> Vec<usize> {
    let asked = std::env::var("JUDGE_SPANS").ok();
    let asked = asked.map(|spans| spans.parse().expect("JUDGE_SPANS is a number of spans"));
    asked.map_or_else(|| vec![1_000, 10_000, 100_000], |spans| vec![spans])
}

#[divan::bench(args = saved_sizes(), sample_count = 3)]
fn saved_run_of_traces_of_ten(bencher: Bencher<'_, '_>, spans: usize) {
    read_and_judge(bencher, spans, 10);
}

#[divan::bench(args = saved_sizes(), sample_count = 3)]
fn saved_run_of_one_trace(bencher: Bencher<'_, '_>, spans: usize) {
    read_and_judge(bencher, spans, spans);
}

/// Reads a saved run of traces of so many spans, and judges it as `tracecheck replay` does.
fn read_and_judge(bencher: Bencher<'_, '_>, spans: usize, per_trace: usize) {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("system-1"), spans, per_trace);
    bencher.counter(ItemsCount::new(spans)).bench(|| {
        for system in saved::read(dir.path()).unwrap() {
            for record in system.records() {
                let result = judge::judge(record);
                assert_eq!(result.verdict, Verdict::Pass, "{result:?}");
            }
        }
    });
}

/// A system as a saved run has it.
#[derive(Serialize)]
struct System {
    form: u32,
    scenarios: [Record; 1],
    attempts: usize,
    facts: SystemFacts,
    nobodys: Nobodys,
}

/// Writes a saved run without its raw attempts, which judging does not read.
fn save(dir: &Path, spans: usize, per_trace: usize) {
    let world = World::new();
    let mut record =
        Record::new(world.scenario.clone(), world.topology.clone(), CAPABILITIES.to_vec());
    record.facts.refused = Some(0);
    for number in 0..spans / per_trace {
        let payload = attempt(number + 1, [number].into_iter(), 0..per_trace);
        let trace = store(vec![payload]).trace(trace_id(number)).unwrap();
        let ledgers = world.ledgers(&trace);
        record.cases.push(world.case(trace, ledgers));
    }
    std::fs::create_dir(dir).unwrap();
    let file = BufWriter::new(File::create(dir.join("system.json")).unwrap());
    let (facts, nobodys) = (SystemFacts::default(), Nobodys::default());
    let system = System { form: 4, scenarios: [record], attempts: 0, facts, nobodys };
    serde_json::to_writer(file, &system).unwrap();
}

fn trace_of(spans: usize) -> Trace {
    let part = |number| {
        let first = number * PAYLOAD;
        attempt(number + 1, [0].into_iter(), first..first + PAYLOAD)
    };
    store((0..spans / PAYLOAD).map(part).collect()).trace(trace_id(0)).unwrap()
}
