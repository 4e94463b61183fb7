//! Names, attributes and statuses as the span processor makes them: both have it in many settings over the same made-up spans.

use std::collections::BTreeMap;
use std::path::Path;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::running::Sink;
use crate::settings::{count_of, resources_of, through};
use crate::{SEED, asked, newest};

const OURS: &str = env!("CARGO_BIN_EXE_tracecheck");
/// How many spans each setting sees, and in how many requests.
const SPANS: u64 = 600;
const REQUESTS: usize = 6;

/// Settings of the processor.
const SETTINGS: [&str; 19] = [
    "{name: {from_attributes: [s]}}",
    "{name: {from_attributes: [s, n], separator: '::'}}",
    "{name: {from_attributes: [b, s], separator: ' '}}",
    "{name: {from_attributes: [d, l]}}",
    "{name: {to_attributes: {rules: ['^/doc/(?P<id>\\d+)/(?P<verb>\\w+)$']}}}",
    "{name: {to_attributes: {rules: ['(?P<id>\\d+)', '(?P<end>[^/]+)$']}}}",
    "{name: {to_attributes: {rules: ['(?P<id>\\d+)', '(?P<end>[^/]+)$'], break_after_match: true}}}",
    "{name: {to_attributes: {rules: ['^(?P<s>[A-Z]+) (?P<n>.*)$'], keep_original_name: true}}}",
    "{name: {to_attributes: {rules: ['(?P<first>.)(?P<rest>.*)']}}}",
    "{name: {from_attributes: [s], to_attributes: {rules: ['^(?P<colour>r\\w+)$']}}}",
    "{status: {code: Ok}}",
    "{status: {code: Error, description: broken}}",
    "{status: {code: Unset}}",
    "{include: {match_type: strict, span_names: ['GET /a']}, status: {code: Ok}}",
    "{include: {match_type: regexp, span_names: ['^/doc/.*']}, name: {from_attributes: [s]}}",
    "{include: {match_type: regexp, attributes: [{key: s, value: '^(red|blue)$'}]}, status: {code: Ok}}",
    "{exclude: {match_type: strict, attributes: [{key: n, value: 3}]}, status: {code: Error}}",
    "{include: {match_type: strict, services: [shop]}, exclude: {match_type: regexp, span_names: ['\\d']}, status: {code: Ok}}",
    "{include: {match_type: strict, span_kinds: [SPAN_KIND_SERVER]}, status: {code: Ok}}",
];

/// By setting and span id: what is compared of a span.
type Made = BTreeMap<(usize, Vec<u8>), (String, Vec<String>, String)>;

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_changed_as_by_the_newest_collector() {
    let newest = newest();
    let (seed, _) = asked("NEWEST_SEED", SEED);
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut requests = vec![Vec::new(); REQUESTS];
    for number in 0..SPANS {
        requests[random.random_range(0..REQUESTS)].push(resource_spans(&mut random, number));
    }
    let (ours, theirs) = tokio::join!(
        made("spans-ours", Path::new(OURS), &["collector"], folder.path(), &requests),
        made("spans-theirs", &newest, &[], folder.path(), &requests),
    );
    assert_eq!(ours.len(), theirs.len());
    let differ: Vec<_> = ours.iter().filter(|(key, span)| theirs.get(key) != Some(span)).collect();
    println!("seed {seed}, {} spans of {} settings", ours.len(), SETTINGS.len());
    if let Some((key, span)) = differ.first() {
        let (count, setting) = (differ.len(), SETTINGS[key.0]);
        panic!(
            "{count} differ, first with {setting}:\nours   {span:?}\ntheirs {:?}",
            theirs.get(key)
        );
    }
    // Each setting changes some spans, and not into the same.
    for (setting, text) in SETTINGS.iter().enumerate() {
        let of_setting = ours.iter().filter(|((of, _), _)| *of == setting);
        let different: std::collections::BTreeSet<_> = of_setting.map(|(_, span)| span).collect();
        assert!(different.len() > 10, "{text}: {}", different.len());
    }
}

/// Runs a collector over the requests; returns what each setting made of each span.
async fn made(
    name: &'static str,
    program: &Path,
    args: &[&str],
    folder: &Path,
    requests: &[Vec<ResourceSpans>],
) -> Made {
    let (mut running, sink) =
        through(name, program, args, folder, "span", &SETTINGS, requests).await;
    running
        .until("all came", async |_| {
            (0..SETTINGS.len()).all(|number| count_of(&sink, number) as u64 == SPANS)
        })
        .await;
    let all = (0..SETTINGS.len()).flat_map(|number| {
        spans_of(&sink, number).into_iter().map(move |span| {
            let mut attributes: Vec<_> = span
                .attributes
                .iter()
                .map(|pair| format!("{}={:?}", pair.key, pair.value))
                .collect();
            attributes.sort();
            let status = format!("{:?}", span.status.unwrap_or_default());
            ((number, span.span_id), (span.name, attributes, status))
        })
    });
    all.collect()
}

fn spans_of(sink: &Sink, number: usize) -> Vec<Span> {
    let resources = resources_of(sink, number).into_iter();
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn resource_spans(random: &mut StdRng, number: u64) -> ResourceSpans {
    const NAMES: [&str; 10] = [
        "/doc/42/edit",
        "/doc/7/view",
        "GET /a",
        "POST /a/b/3",
        "",
        "red",
        "a  b",
        "/é/ü/12",
        "x1y22z",
        "/doc//",
    ];
    let service = (*["shop", "cart"].choose(random).unwrap()).to_owned();
    let service = AnyValue { value: Some(Value::StringValue(service)) };
    let service =
        KeyValue { key: "service.name".into(), value: Some(service), ..KeyValue::default() };
    let code = random.random_range(0..3);
    let span = Span {
        trace_id: random.random::<[u8; 16]>().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: (*NAMES.choose(random).unwrap()).to_owned(),
        kind: random.random_range(0..6),
        attributes: attributes(random),
        status: (code != 0).then(|| Status {
            code,
            message: if code == 2 { "was".into() } else { String::new() },
        }),
        ..Span::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope::default()),
            spans: vec![span],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

/// Attributes of all types, of which some are missing.
fn attributes(random: &mut StdRng) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    for key in ["s", "n", "b", "d", "l"] {
        if random.random_ratio(1, 4) {
            continue;
        }
        let text = |text: &str| Value::StringValue(text.to_owned());
        let value = match key {
            "s" => text(["red", "green", "blue", "", "GET"].choose(random).unwrap()),
            "n" if random.random_ratio(1, 5) => text("3"),
            "n" => Value::IntValue(random.random_range(-1..5)),
            "b" => Value::BoolValue(random.random()),
            "d" => Value::DoubleValue(*[0.25, -1.0, 1e21, 1e-7, 3.0].choose(random).unwrap()),
            _ => {
                Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(text("x")) }] })
            }
        };
        let value = Some(AnyValue { value: Some(value) });
        attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
    attributes
}
