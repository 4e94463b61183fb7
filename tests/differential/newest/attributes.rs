//! Attributes as the processors `attributes` and `resource` make them: both have them in many settings over the same made-up spans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::settings::{count_of, resources_of, through};
use crate::{SEED, asked, newest};

const OURS: &str = env!("CARGO_BIN_EXE_tracecheck");
/// How many spans each setting sees, each of a resource of its own, and in how many requests.
const SPANS: u64 = 500;
const REQUESTS: usize = 5;

/// Lists of actions, for spans and for resources.
const ACTIONS: [&str; 30] = [
    "[{key: new, value: text, action: insert}]",
    "[{key: s, value: 5, action: insert}, {key: n, value: 2.5, action: insert}]",
    "[{key: s, value: true, action: update}, {key: other, value: x, action: update}]",
    "[{key: s, value: '', action: upsert}, {key: n, value: -7, action: upsert}, {key: d, value: 1e300, action: upsert}]",
    "[{key: copy, from_attribute: s, action: insert}]",
    "[{key: copy, from_attribute: l, action: upsert}, {key: s, from_attribute: m, action: update}]",
    "[{key: s, from_attribute: n, action: upsert}, {key: n, from_attribute: s, action: upsert}]",
    "[{key: copy, from_attribute: nosuch, action: upsert}, {key: copy, value: late, action: insert}]",
    "[{key: copy, from_attribute: s, default_value: none, action: upsert}]",
    "[{key: s, default_value: 3, action: insert}, {key: copy, from_context: metadata.nosuch, default_value: x, action: upsert}]",
    "[{key: s, action: delete}]",
    "[{pattern: '^[snb]$', action: delete}]",
    "[{key: d, pattern: '^(l|m)', action: delete}]",
    "[{key: s, action: hash}]",
    "[{key: n, action: hash}, {key: b, action: hash}, {key: d, action: hash}]",
    "[{pattern: '.', action: hash}]",
    "[{key: s, pattern: '^(s|n)$', action: hash}]",
    "[{key: s, pattern: '^(?P<verb>\\w+) /(?P<path>.*)$', action: extract}]",
    "[{key: s, pattern: '(?P<digits>\\d+)', action: extract}]",
    "[{key: s, pattern: '(?P<n>[^/]+)/(?P<rest>.*)', action: extract}]",
    "[{key: s, pattern: '^(?P<word>[\\w ]*)(?P<none>!)?', action: extract}]",
    "[{key: s, pattern: '\\b(?P<first>\\S)', action: extract}]",
    "[{key: s, converted_type: int, action: convert}]",
    "[{key: s, converted_type: double, action: convert}]",
    "[{key: s, converted_type: string, action: convert}, {key: n, converted_type: string, action: convert}]",
    "[{key: d, converted_type: string, action: convert}, {key: b, converted_type: string, action: convert}]",
    "[{key: l, converted_type: string, action: convert}, {key: m, converted_type: string, action: convert}, {key: y, converted_type: string, action: convert}, {key: e, converted_type: string, action: convert}]",
    "[{key: n, converted_type: double, action: convert}, {key: b, converted_type: int, action: convert}]",
    "[{key: b, converted_type: double, action: convert}, {key: l, converted_type: int, action: convert}, {key: y, converted_type: double, action: convert}]",
    "[{key: s, value: x, action: INSERT}, {key: s, converted_type: int, action: Convert}, {key: n, action: Delete}]",
];
/// Choices of spans, for the processor `attributes`.
const CHOICES: [&str; 8] = [
    "include: {match_type: strict, span_names: [a, b]}",
    "include: {match_type: regexp, span_names: ['^[ab]']}",
    "include: {match_type: regexp, attributes: [{key: s, value: '\\d'}]}",
    "include: {match_type: strict, attributes: [{key: n, value: 3}, {key: b}]}",
    "exclude: {match_type: strict, attributes: [{key: b, value: true}]}",
    "include: {match_type: strict, resources: [{key: s, value: '42'}]}",
    "exclude: {match_type: regexp, libraries: [{name: '^lib', version: '1\\..*'}]}",
    "include: {match_type: strict, span_kinds: [SPAN_KIND_CLIENT]}, exclude: {match_type: strict, libraries: [{name: lib-a}]}",
];

/// By setting and span id: all of a span, its scope and its resource.
type Made = BTreeMap<(usize, Vec<u8>), String>;

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_spans_are_changed_as_by_the_newest_collector() {
    let chosen = CHOICES
        .map(|choice| format!("{{actions: [{{key: new, value: x, action: insert}}], {choice}}}"));
    let all = ACTIONS.iter().map(|actions| format!("{{actions: {actions}}}"));
    compared("attributes", &all.chain(chosen).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_resources_are_changed_as_by_the_newest_collector() {
    let all = ACTIONS.iter().map(|actions| format!("{{attributes: {actions}}}"));
    compared("resource", &all.collect::<Vec<_>>()).await;
}

#[expect(clippy::print_stdout, reason = "what was compared, as the tests beside it print it")]
async fn compared(processor: &str, settings: &[String]) {
    let newest = newest();
    let (seed, _) = asked("NEWEST_SEED", SEED);
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut requests = vec![Vec::new(); REQUESTS];
    for number in 0..SPANS {
        requests[random.random_range(0..REQUESTS)].push(resource_spans(&mut random, number));
    }
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let before: BTreeMap<_, _> =
        requests.iter().flatten().flat_map(|resource| shown(resource.clone())).collect();
    let (ours, theirs) = tokio::join!(
        made(
            "ours",
            Path::new(OURS),
            &["collector"],
            folder.path(),
            processor,
            &settings,
            &requests
        ),
        made("theirs", &newest, &[], folder.path(), processor, &settings, &requests),
    );
    assert_eq!(ours.len(), theirs.len());
    let differ: Vec<_> = ours.iter().filter(|(key, span)| theirs.get(key) != Some(span)).collect();
    println!("seed {seed}, {processor}: {} spans of {} settings", ours.len(), settings.len());
    if !differ.is_empty() {
        let mut first = BTreeMap::new();
        for ((setting, id), span) in &differ {
            let theirs = theirs.get(&(*setting, id.clone()));
            first.entry(settings[*setting]).or_insert((span, theirs, &before[id]));
        }
        for (setting, (ours, theirs, before)) in first {
            println!("{setting}:\n  before {before}\n  ours   {ours}\n  theirs {theirs:?}");
        }
        panic!("{} differ", differ.len());
    }
    // Each setting changes some spans.
    let changing: BTreeSet<_> = ours
        .iter()
        .filter(|((_, id), span)| before[id] != **span)
        .map(|((of, _), _)| *of)
        .collect();
    let idle: Vec<_> = (0..settings.len()).filter(|of| !changing.contains(of)).collect();
    assert!(idle.is_empty(), "{:?}", idle.iter().map(|of| settings[*of]).collect::<Vec<_>>());
}

/// Runs a collector over the requests; returns what each setting made of each span.
async fn made(
    name: &'static str,
    program: &Path,
    args: &[&str],
    folder: &Path,
    processor: &str,
    settings: &[&str],
    requests: &[Vec<ResourceSpans>],
) -> Made {
    let folder = folder.join(processor);
    std::fs::create_dir_all(&folder).unwrap();
    let (mut running, sink) =
        through(name, program, args, &folder, processor, settings, requests).await;
    running
        .until("all came", async |_| {
            (0..settings.len()).all(|number| count_of(&sink, number) as u64 == SPANS)
        })
        .await;
    (0..settings.len())
        .flat_map(|number| {
            let resources = resources_of(&sink, number).into_iter();
            resources.flat_map(shown).map(move |(id, span)| ((number, id), span))
        })
        .collect()
}

/// All of each span, its scope and its resource, by the span's id. Attributes are sorted, and an empty message is the same as none.
fn shown(resource: ResourceSpans) -> Vec<(Vec<u8>, String)> {
    let around = format!("{:?}", sorted(resource.resource.unwrap_or_default().attributes));
    let scopes = resource.scope_spans.into_iter();
    let spans = scopes.flat_map(|scope| {
        let inside = scope.scope.unwrap_or_default();
        scope.spans.into_iter().map(move |span| (inside.clone(), span))
    });
    spans
        .map(|(scope, mut span)| {
            span.attributes = sorted(span.attributes);
            span.status.get_or_insert_default();
            (span.span_id.clone(), format!("{span:?} in {scope:?} in {around}"))
        })
        .collect()
}

fn sorted(mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    for pair in &mut attributes {
        pair.value.get_or_insert_default();
    }
    attributes.sort_by(|one, other| one.key.cmp(&other.key));
    attributes
}

fn resource_spans(random: &mut StdRng, number: u64) -> ResourceSpans {
    let names = ["a", "b", "a/b", "", "c"];
    let libraries = [("", ""), ("lib-a", "1.2"), ("lib-b", "2.0"), ("other", "1.0")];
    let (name, version) = *libraries.choose(random).unwrap();
    let span = Span {
        trace_id: random.random::<[u8; 16]>().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: (*names.choose(random).unwrap()).to_owned(),
        kind: random.random_range(0..6),
        attributes: attributes(random),
        ..Span::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes: attributes(random), ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: name.into(),
                version: version.into(),
                ..InstrumentationScope::default()
            }),
            spans: vec![span],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

/// Attributes of all types, of which some are missing, and some have another type.
fn attributes(random: &mut StdRng) -> Vec<KeyValue> {
    const TEXTS: [&str; 24] = [
        "GET /a/b",
        "POST /",
        "",
        "42",
        "+7",
        "-0",
        "007",
        " 5",
        "0x10",
        "1e3",
        "1.5",
        ".5",
        "1.",
        "9223372036854775807",
        "9223372036854775808",
        "1e400",
        "NaN",
        "-inf",
        "+nan",
        "é/ü",
        "١٢",
        "red green",
        "true",
        "a\nb",
    ];
    // Without those that are too large for an integer, of which Go makes what the processor does.
    const DOUBLES: [f64; 10] =
        [0.25, -1.0, 1e-7, 3.0, -0.0, 1e15, 123_456_789.125, 1e-6, -2.5e-9, 0.1];
    const INTS: [i64; 8] = [-1, 0, 3, 3, 42, i64::MAX, i64::MIN, 1 << 53];
    let text = |text: &str| Value::StringValue(text.to_owned());
    let mut all = Vec::new();
    for key in ["s", "n", "b", "d", "l", "m", "y", "e"] {
        if random.random_ratio(1, 4) {
            continue;
        }
        let kind = if random.random_ratio(1, 6) {
            *["s", "n", "b", "d", "l", "m", "y", "e"].choose(random).unwrap()
        } else {
            key
        };
        let scalar = |random: &mut StdRng| match random.random_range(0..5) {
            0 => Some(text(TEXTS.choose(random).unwrap())),
            1 => Some(Value::IntValue(*INTS.choose(random).unwrap())),
            2 => Some(Value::DoubleValue(*DOUBLES.choose(random).unwrap())),
            3 => Some(Value::BoolValue(random.random())),
            _ => Some(text("<&>\u{2028}\"")),
        };
        let value = match kind {
            "s" => Some(text(TEXTS.choose(random).unwrap())),
            "n" => Some(Value::IntValue(*INTS.choose(random).unwrap())),
            "b" => Some(Value::BoolValue(random.random())),
            "d" => Some(Value::DoubleValue(*DOUBLES.choose(random).unwrap())),
            "l" => Some(Value::ArrayValue(ArrayValue {
                values: (0..random.random_range(0..3))
                    .map(|_| AnyValue { value: scalar(random) })
                    .collect(),
            })),
            "m" => Some(Value::KvlistValue(KeyValueList {
                values: ["z", "a<"][..random.random_range(0..3)]
                    .iter()
                    .map(|key| KeyValue {
                        key: (*key).to_owned(),
                        value: Some(AnyValue { value: scalar(random) }),
                        ..KeyValue::default()
                    })
                    .collect(),
            })),
            "y" => Some(Value::BytesValue(vec![7; random.random_range(0..4)])),
            _ => None,
        };
        let value = Some(AnyValue { value });
        all.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
    all
}
