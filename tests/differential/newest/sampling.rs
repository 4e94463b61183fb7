//! Tail sampling: which traces each policy keeps, and what becomes of spans that are late.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::running::{Running, Sink};
use crate::{SEED, asked, newest};

const OURS: &str = env!("CARGO_BIN_EXE_tracecheck");
const TRACES: u64 = 400;
const REQUESTS: usize = 40;

/// Policies, each of which judges all traces by itself. Those that go by the time are in the collector's own
/// tests, and so is `bytes_limiting`: the Collector counts bytes of its own encoding, which has empty messages too.
const POLICIES: &[&str] = &[
    "{type: always_sample}",
    "{type: latency, latency: {threshold_ms: 100}}",
    "{type: latency, latency: {threshold_ms: 20, upper_threshold_ms: 120}}",
    "{type: numeric_attribute, numeric_attribute: {key: n, min_value: 2, max_value: 3}}",
    "{type: numeric_attribute, numeric_attribute: {key: n, max_value: 1}}",
    "{type: numeric_attribute, numeric_attribute: {key: n, min_value: 3, invert_match: true}}",
    "{type: probabilistic, probabilistic: {sampling_percentage: 30}}",
    "{type: probabilistic, probabilistic: {sampling_percentage: 66.6, hash_salt: pepper}}",
    "{type: status_code, status_code: {status_codes: [ERROR]}}",
    "{type: status_code, status_code: {status_codes: [OK]}}",
    "{type: status_code, status_code: {status_codes: [UNSET, ERROR]}}",
    "{type: string_attribute, string_attribute: {key: s, values: [red, green]}}",
    "{type: string_attribute, string_attribute: {key: s, values: ['^b', 'd$'], enabled_regex_matching: true}}",
    "{type: string_attribute, string_attribute: {key: s, values: ['^$'], enabled_regex_matching: true}}",
    "{type: string_attribute, string_attribute: {key: s, values: [red, ''], invert_match: true}}",
    "{type: boolean_attribute, boolean_attribute: {key: b, value: true}}",
    "{type: boolean_attribute, boolean_attribute: {key: b, value: false}}",
    "{type: boolean_attribute, boolean_attribute: {key: b, value: false, invert_match: true}}",
    "{type: span_count, span_count: {min_spans: 4}}",
    "{type: span_count, span_count: {min_spans: 2, max_spans: 3}}",
    "{type: trace_state, trace_state: {key: k, values: [v, w]}}",
    "{type: trace_flags}",
    "{type: and, and: {and_sub_policy: [{name: a, type: status_code, status_code: {status_codes: [ERROR]}}, {name: b, type: not, not: {not_sub_policy: {name: n, type: string_attribute, string_attribute: {key: s, values: [red]}}}}]}}",
    "{type: not, not: {not_sub_policy: {name: n, type: span_count, span_count: {min_spans: 3}}}}",
    "{type: rate_limiting, rate_limiting: {spans_per_second: 1000000, burst_capacity: 1000000}}",
    "{type: composite, composite: {max_total_spans_per_second: 1000000, policy_order: [c, d], composite_sub_policy: [{name: c, type: status_code, status_code: {status_codes: [ERROR]}}, {name: d, type: latency, latency: {threshold_ms: 150}}]}}",
];
/// A policy that keeps all, behind one that drops some.
const DROPS: &str = "{name: all, type: always_sample}, {name: d, type: drop, drop: {drop_sub_policy: [{name: s, type: string_attribute, string_attribute: {key: s, values: [blue]}}, {name: t, type: status_code, status_code: {status_codes: [ERROR]}}]}}";

/// Spans that are kept, by policy.
type Kept = BTreeMap<usize, BTreeSet<Vec<u8>>>;

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_kept_and_dropped_as_by_the_newest_collector() {
    let newest = newest();
    let (seed, _) = asked("NEWEST_SEED", SEED);
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let traces: Vec<Vec<ResourceSpans>> =
        (0..TRACES).map(|number| trace(&mut random, number)).collect();
    // The parts of traces come in requests with those of others, in any order; some only after the decision.
    let (mut first, mut late) = (vec![Vec::new(); REQUESTS], Vec::new());
    for part in traces.into_iter().enumerate() {
        let (number, parts) = part;
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 && number % 3 == 0 {
                late.push(part);
            } else {
                first[random.random_range(0..REQUESTS)].push(part);
            }
        }
    }
    let (ours, theirs) = tokio::join!(
        kept("ours", Path::new(OURS), &["collector"], folder.path(), &first, &late),
        kept("theirs", &newest, &[], folder.path(), &first, &late),
    );
    println!(
        "seed {seed}, {TRACES} traces: {:?}",
        ours.iter().map(|(policy, spans)| (policy, spans.len())).collect::<Vec<_>>()
    );
    let all = ours[&0].len();
    for (policy, text) in POLICIES.iter().copied().chain([DROPS]).enumerate() {
        let (ours, theirs) = (&ours[&policy], &theirs[&policy]);
        let differ = ours.symmetric_difference(theirs).count();
        assert_eq!(differ, 0, "{text}: ours kept {} spans, theirs {}", ours.len(), theirs.len());
        let is_a_choice = (1..all).contains(&ours.len());
        assert!(
            is_a_choice || text.contains("always_sample") || text.contains("rate_limiting"),
            "{text}: {} of {all}",
            ours.len()
        );
    }
}

/// Runs a collector over the requests, and returns what each policy kept.
async fn kept(
    name: &'static str,
    program: &Path,
    args: &[&str],
    folder: &Path,
    first: &[Vec<ResourceSpans>],
    late: &[ResourceSpans],
) -> Kept {
    let sink = Sink::start().await;
    let policies: Vec<String> = POLICIES
        .iter()
        .map(|policy| policy.replacen('{', "{name: p, ", 1))
        .chain([DROPS.to_owned()])
        .collect();
    let (mut processors, mut exporters, mut pipelines) =
        (String::new(), String::new(), String::new());
    for (number, policy) in policies.iter().enumerate() {
        processors.push_str(&format!("  tail_sampling/{number}: {{decision_wait: 3s, decision_cache: {{sampled_cache_size: 4000, non_sampled_cache_size: 4000}}, policies: [{policy}]}}\n"));
        exporters.push_str(&format!("  otlp_http/{number}: {{traces_endpoint: 'http://127.0.0.1:{}/{number}', compression: none}}\n", sink.port));
        pipelines.push_str(&format!("    traces/{number}: {{receivers: [otlp], processors: [tail_sampling/{number}], exporters: [otlp_http/{number}]}}\n"));
    }
    // One more has all, and keeps traces together. Its time is longer than requests take to be sent: spans that come while their
    // trace is released are lost in the Collector.
    let grouped = policies.len();
    exporters.push_str(&format!("  otlp_http/grouped: {{traces_endpoint: 'http://127.0.0.1:{}/{grouped}', compression: none}}\n", sink.port));
    pipelines.push_str("    traces/grouped: {receivers: [otlp], processors: [groupbytrace], exporters: [otlp_http/grouped]}\n");
    let rest = format!(
        "processors:\n  groupbytrace: {{wait_duration: 8s}}\n{processors}exporters:\n{exporters}service:\n  pipelines:\n{pipelines}"
    );
    let mut running = Running::start(name, program, args, folder, &rest).await;
    for request in first {
        send(&running, request.clone()).await;
    }
    let judged = (policies.len() as u64 * TRACES) as f64;
    running
        .until("all are judged", async |running| {
            running.metric("otelcol_processor_tail_sampling_global_count_traces_sampled").await
                >= judged
        })
        .await;
    send(&running, late.to_vec()).await;
    let late_spans = (policies.len() * count(late)) as f64;
    let late_metric = "otelcol_processor_tail_sampling_early_releases_from_cache_decision";
    running
        .until("what is late is decided", async |running| {
            running.metric(late_metric).await >= late_spans
        })
        .await;
    // What is kept was in the queues by then.
    running
        .until("all that is kept came", async |running| {
            let came: usize = (0..=grouped).map(|number| count_all(&sink, number)).sum();
            let all = count_all(&sink, 0);
            running.metric("otelcol_exporter_queue_size").await == 0.0
                && running.metric("otelcol_exporter_sent_spans").await == came as f64
                && all == first.iter().map(|request| count(request)).sum::<usize>() + count(late)
                && count_all(&sink, grouped) == all
        })
        .await;
    (0..policies.len())
        .map(|number| {
            let requests = sink.of(&format!("/{number}"));
            let resources = requests.iter().flat_map(|request| &request.resource_spans);
            let spans =
                resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
            let ids: Vec<_> = spans.map(|span| span.span_id.clone()).collect();
            let kept: BTreeSet<_> = ids.iter().cloned().collect();
            assert_eq!(kept.len(), ids.len(), "{name}: spans came twice");
            (number, kept)
        })
        .collect()
}

fn count_all(sink: &Sink, number: usize) -> usize {
    sink.of(&format!("/{number}")).iter().map(|request| count(&request.resource_spans)).sum()
}

fn count(resources: &[ResourceSpans]) -> usize {
    resources.iter().flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len()).sum()
}

async fn send(running: &Running, resource_spans: Vec<ResourceSpans>) {
    let url = format!("http://127.0.0.1:{}/v1/traces", running.http);
    let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let request = running.client.post(url).header("content-type", "application/x-protobuf");
    let status = request.body(body).send().await.unwrap().status();
    assert_eq!(status, 200, "{}", running.log());
}

/// Makes a trace of one to three parts, in the order in which they are sent.
fn trace(random: &mut StdRng, number: u64) -> Vec<ResourceSpans> {
    let trace_id = random.random::<[u8; 16]>().to_vec();
    let parts = random.random_range(1..=3);
    (0..parts)
        .map(|part| ResourceSpans {
            resource: Some(Resource { attributes: attributes(random), ..Resource::default() }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope::default()),
                spans: (0..random.random_range(1..=3))
                    .map(|index| span(random, &trace_id, number * 100 + part * 10 + index))
                    .collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        })
        .collect()
}

fn span(random: &mut StdRng, trace_id: &[u8], number: u64) -> Span {
    const STATES: [&str; 8] = ["", "", "k=v", "a=b,k=w", "k=x", "k=v,K=v", "k=v,,b=c", "k=v,k=w"];
    let start = 1_700_000_000_000_000_000 + random.random_range(0..100) * 1_000_000;
    let code = *[0, 0, 1, 2].choose(random).unwrap();
    Span {
        trace_id: trace_id.to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        parent_span_id: if random.random_range(0..3) == 0 { Vec::new() } else { vec![1; 8] },
        trace_state: (*STATES.choose(random).unwrap()).to_owned(),
        name: "s".to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.random_range(0..150) * 1_000_000,
        attributes: attributes(random),
        flags: *[0, 0x100, 0x101, 2].choose(random).unwrap(),
        status: (code != 0).then(|| Status { code, ..Status::default() }),
        ..Span::default()
    }
}

/// A few attributes of right and of other types.
fn attributes(random: &mut StdRng) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    for key in ["s", "n", "b"] {
        let value = match random.random_range(0..9) {
            0 => Value::StringValue(String::new()),
            1 => Value::StringValue((*["red", "green", "blue"].choose(random).unwrap()).to_owned()),
            2 => Value::IntValue(random.random_range(-1..5)),
            3 => Value::BoolValue(random.random()),
            4 => Value::DoubleValue(random.random()),
            _ => continue,
        };
        let value = Some(AnyValue { value: Some(value) });
        attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
    attributes
}
