//! Spans that the probabilistic sampler keeps, with their `tracestate`: both have it in many settings over the same made-up spans.

use std::collections::BTreeMap;
use std::path::Path;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::settings::{count_of, resources_of, through};
use crate::{SEED, asked, newest};

const OURS: &str = env!("CARGO_BIN_EXE_tracecheck");
/// How many spans each setting sees, and in how many requests.
const SPANS: u64 = 1500;
const REQUESTS: usize = 10;

/// Settings of the processor. The first keeps all.
const SETTINGS: [&str; 20] = [
    "{sampling_percentage: 100, fail_closed: false}",
    "{sampling_percentage: 15}",
    "{sampling_percentage: 15, hash_seed: 22}",
    "{sampling_percentage: 66.6, hash_seed: 4294967295}",
    "{sampling_percentage: 0.01}",
    "{sampling_percentage: 0}",
    "{sampling_percentage: 150}",
    "{sampling_percentage: 30, fail_closed: false}",
    "{sampling_percentage: 30, mode: hash_seed, fail_closed: true}",
    "{sampling_percentage: 25, mode: equalizing}",
    "{sampling_percentage: 25, mode: equalizing, fail_closed: false}",
    "{sampling_percentage: 33.3, mode: equalizing, sampling_precision: 1}",
    "{sampling_percentage: 33.3, mode: equalizing, sampling_precision: 14}",
    "{sampling_percentage: 100, mode: equalizing}",
    "{sampling_percentage: 25, mode: proportional}",
    "{sampling_percentage: 25, mode: proportional, fail_closed: false}",
    "{sampling_percentage: 1, mode: proportional, sampling_precision: 2}",
    "{sampling_percentage: 77.7, mode: proportional, sampling_precision: 6}",
    "{sampling_percentage: 100, mode: proportional}",
    "{sampling_percentage: 0, mode: proportional}",
];

/// By setting and span id: all of a span that was kept.
type Kept = BTreeMap<(usize, Vec<u8>), String>;

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_sampled_by_their_ids_as_by_the_newest_collector() {
    let newest = newest();
    let (seed, _) = asked("NEWEST_SEED", SEED);
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut requests = vec![Vec::new(); REQUESTS];
    for number in 0..SPANS {
        requests[random.random_range(0..REQUESTS)].push(resource_spans(&mut random, number));
    }
    let (ours, theirs) = tokio::join!(
        kept("sampler-ours", Path::new(OURS), &["collector"], folder.path(), &requests),
        kept("sampler-theirs", &newest, &[], folder.path(), &requests),
    );
    let count = |of: &Kept, number| of.keys().filter(|(setting, _)| *setting == number).count();
    let counts: Vec<_> = (0..SETTINGS.len()).map(|number| count(&ours, number)).collect();
    println!("seed {seed}, {SPANS} spans, kept: {counts:?}");
    let mut problems = Vec::new();
    for (number, setting) in SETTINGS.iter().enumerate() {
        let keys = ours.keys().chain(theirs.keys()).filter(|(of, _)| *of == number);
        let differ: Vec<_> = keys.filter(|key| ours.get(*key) != theirs.get(*key)).collect();
        if let Some(first) = differ.first() {
            let all = ours.get(&(0, first.1.clone()));
            problems.push(format!(
                "{setting}: {} differ: of {all:?}\n  ours   {:?}\n  theirs {:?}",
                differ.len(),
                ours.get(*first),
                theirs.get(*first)
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(counts.iter().filter(|kept| (1..SPANS as usize).contains(*kept)).count() > 12);
}

/// Runs a collector over the requests, and returns what each setting kept.
async fn kept(
    name: &'static str,
    program: &Path,
    args: &[&str],
    folder: &Path,
    requests: &[Vec<ResourceSpans>],
) -> Kept {
    let (mut running, sink) =
        through(name, program, args, folder, "probabilistic_sampler", &SETTINGS, requests).await;
    let judged = (SETTINGS.len() as u64 * SPANS) as f64;
    running
        .until("all are judged, and what is kept came", async |running| {
            let judges = "otelcol_processor_probabilistic_sampler_count_spans_processed";
            let came: usize = (0..SETTINGS.len()).map(|number| count_of(&sink, number)).sum();
            running.metric(judges).await >= judged
                && running.metric_of(judges, "sampled=\"true\"").await == came as f64
        })
        .await;
    let mut kept = Kept::new();
    for number in 0..SETTINGS.len() {
        let resources = resources_of(&sink, number).into_iter();
        let spans =
            resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        for mut span in spans {
            span.status.get_or_insert_default();
            // The Collector makes an id of zeros none.
            if span.trace_id.iter().all(|byte| *byte == 0) {
                span.trace_id.clear();
            }
            let before = kept.insert((number, span.span_id.clone()), format!("{span:?}"));
            assert_eq!(before, None, "{name}: it came twice");
        }
    }
    kept
}

fn resource_spans(random: &mut StdRng, number: u64) -> ResourceSpans {
    let span = Span {
        trace_id: trace_id(random),
        span_id: (number + 1).to_be_bytes().to_vec(),
        trace_state: trace_state(random),
        name: "s".into(),
        attributes: priority(random).into_iter().collect(),
        ..Span::default()
    };
    ResourceSpans {
        resource: Some(Resource::default()),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope::default()),
            spans: vec![span],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

/// A trace id: mostly of random bytes, now and then one that decides by its end, or none.
fn trace_id(random: &mut StdRng) -> Vec<u8> {
    let mut id = random.random::<[u8; 16]>();
    match random.random_range(0..20) {
        0 => id = [0; 16],
        1 => id[9..].fill(0xff),
        2 => id[9..].fill(0),
        _ => {}
    }
    id.to_vec()
}

/// A `tracestate`: mostly none, else one with OpenTelemetry's randomness and threshold, right and wrong.
fn trace_state(random: &mut StdRng) -> String {
    if random.random_ratio(1, 2) {
        return String::new();
    }
    let digits = |random: &mut StdRng, count: usize| -> String {
        (0..count).map(|_| char::from_digit(random.random_range(0..16), 16).unwrap()).collect()
    };
    let length = random.random_range(1..=14);
    let rv = format!("rv:{}", digits(random, 14));
    let th = format!("th:{}", digits(random, length));
    let made = [
        format!("ot={rv}"),
        format!("ot={th}"),
        format!("ot={rv};{th}"),
        format!("ot={th};{rv};ab:c"),
        "ot=th:0".to_owned(),
        "ot=th:8".to_owned(),
        "ot=th:c".to_owned(),
        "ot=rv:abc".to_owned(),
        "ot=th:".to_owned(),
        "ot=th:xyz".to_owned(),
        "ot=".to_owned(),
        "vendor=value".to_owned(),
        format!("vendor=value,ot={th},other=1"),
        format!("ot={rv};{th},vendor=value"),
        "no state".to_owned(),
        ",".to_owned(),
    ];
    made.choose(random).unwrap().clone()
}

fn priority(random: &mut StdRng) -> Option<KeyValue> {
    let value = match random.random_range(0..30) {
        0 => Value::IntValue(1),
        1 => Value::IntValue(0),
        2 => Value::IntValue(-1),
        3 => Value::DoubleValue(0.5),
        4 => Value::DoubleValue(0.0),
        5 => Value::StringValue("1".into()),
        6 => Value::StringValue("0".into()),
        7 => Value::StringValue("x".into()),
        8 => Value::BoolValue(true),
        _ => return None,
    };
    let value = Some(AnyValue { value: Some(value) });
    Some(KeyValue { key: "sampling.priority".into(), value, ..KeyValue::default() })
}
