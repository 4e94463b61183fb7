//! Valid OTLP of every kind: what SDKs send, and what the protocol allows beside it.
//!
//! A case depends on the run's seed and its own number only, so each can be had again alone.

mod vocabulary;

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    datadog::MARKER,
    otlp::{
        self, AnyValue, Array, Event, KeyValue, Link, Map, Request, Resource, ResourceSpans, Scope,
        ScopeSpans, Span, Status, Value,
    },
};

/// Nanoseconds between the Unix epoch and the year 2000; a span that starts before is given another start.
pub(crate) const YEAR_2000: u64 = 946_684_800_000_000_000;

/// A resource's attribute that says whether its stats are there already.
pub(crate) const STATS_COMPUTED: &str = "_dd.stats_computed";

/// Returns whether this is the name of an attribute that means something; all others are made up.
pub(crate) fn is_known(key: &str) -> bool {
    let keys = vocabulary::CONVENTIONS.iter().copied();
    let all = [vocabulary::DATADOG, vocabulary::SCOPE, vocabulary::SERVICE];
    keys.chain(all)
        .chain(vocabulary::RESOURCES.iter().copied())
        .flatten()
        .any(|(known, _)| *known == key)
}

/// Limits on the cases of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The time of the run, in nanoseconds since the epoch.
    pub(crate) now: u64,
    /// Only times shortly before `now`, and only UTF-8: what a bucket of stats can hold.
    pub(crate) tame: bool,
    /// Whether some traces are ignored by the resource name of their root: that is not to be a matter of chance.
    pub(crate) ignoring: bool,
    /// Whether each second resource asks for stats.
    pub(crate) asking: bool,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) number: u32,
    pub(crate) request: Request,
}

/// Case `number` of the run with this seed.
pub(crate) fn case(seed: u64, number: u32, limits: Limits) -> Case {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = request(limits).new_tree(&mut runner).expect("no strategy here rejects a value");
    let mut request = tree.current();
    without_chance(&mut request, limits);
    if limits.asking {
        let resources = request.resource_spans.iter_mut().skip(number as usize / 20 % 2).step_by(2);
        for resource in resources {
            let attributes = &mut resource.resource.get_or_insert_default().attributes;
            attributes.retain(|pair| pair.key != STATS_COMPUTED.as_bytes());
            attributes.push(KeyValue::text(STATS_COMPUTED, "false"));
        }
    }
    for (index, span) in request.spans_mut().enumerate() {
        let marker = format!("{number}.{index}");
        span.attributes.push(KeyValue::text(MARKER, &marker));
    }
    Case { number, request }
}

/// Takes away what would make the reference's stats, or what it sends, a matter of its chance.
fn without_chance(request: &mut Request, limits: Limits) {
    for resource in &mut request.resource_spans {
        if !limits.tame {
            // By this a resource may ask for stats whatever the gate, and those are compared where all have them.
            let resource = resource.resource.iter_mut();
            for attributes in resource.map(|resource| &mut resource.attributes) {
                attributes.retain(|pair| pair.key != STATS_COMPUTED.as_bytes());
            }
        }
        let before = resource.clone();
        if limits.ignoring {
            let own = resource.resource.iter_mut();
            for attributes in own.map(|own| &mut own.attributes) {
                attributes.retain(|pair| !vocabulary::NOT_IN_REFERENCE.contains(&&*pair.key));
            }
        }
        let is_random = |span: &Span| before.root_is_random(span);
        let any_random = before.scope_spans.iter().flat_map(|scope| &scope.spans).any(is_random);
        if limits.tame && (any_random || before.has_several_traces()) {
            let scopes = resource.scope_spans.iter_mut().filter_map(|spans| spans.scope.as_mut());
            for scope in scopes {
                scope.attributes.retain(|pair| !vocabulary::OF_FIRST_CHUNK.contains(&&*pair.key));
            }
        }
        for span in resource.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans) {
            let is_random = before.root_is_random(span);
            let mut leave_out = Vec::new();
            if is_random {
                leave_out.extend(vocabulary::OF_ROOT);
                // A rate, as that of the root is.
                if otlp::may_have_rate(&span.trace_state) {
                    span.trace_state.clear();
                }
                // This number stands for none, and then the root's counts.
                let is_none = |pair: &KeyValue| match pair.value.as_ref().map(|value| &value.value)
                {
                    Some(Some(Value::Int(int))) => *int as u8 == 128,
                    Some(Some(Value::Double(double))) => *double as i32 as u8 == 128,
                    _ => false,
                };
                span.attributes.retain(|pair| !(is_priority(&pair.key) && is_none(pair)));
            }
            if limits.ignoring && is_random {
                span.parent_span_id.clear();
            }
            if limits.ignoring {
                leave_out.extend(vocabulary::NOT_IN_REFERENCE);
            }
            if limits.tame {
                if is_random {
                    leave_out.extend(vocabulary::OF_ROOT_IN_STATS);
                }
                if is_random || before.has_several_traces() {
                    leave_out.extend(vocabulary::OF_FIRST_CHUNK);
                }
            }
            span.attributes.retain(|pair| !leave_out.contains(&&*pair.key));
        }
    }
}

fn is_priority(key: &[u8]) -> bool {
    matches!(key, b"sampling.priority" | b"_sampling_priority_v1")
}

fn request(limits: Limits) -> impl Strategy<Value = Request> {
    let resources = prop_oneof![12 => 1..3_usize, 2 => 3..8_usize, 1 => Just(0)];
    resources
        .prop_flat_map(move |count| vec(resource_spans(limits), count))
        .prop_map(|resource_spans| Request { resource_spans })
}

fn resource_spans(limits: Limits) -> impl Strategy<Value = ResourceSpans> {
    let attributes = (
        select(vocabulary::RESOURCES).prop_flat_map(|keys| vec(known(keys), 0..9)),
        option::weighted(
            0.3,
            select(vocabulary::RESOURCES).prop_flat_map(|keys| vec(known(keys), 0..4)),
        ),
        option::weighted(0.85, known(vocabulary::SERVICE)),
        vec(odd_attribute(limits), 0..2),
    );
    let resource = attributes.prop_map(|(mut attributes, more, service, odd)| {
        attributes.extend(more.unwrap_or_default());
        attributes.extend(service);
        attributes.extend(odd);
        Resource { attributes: without_duplicates(attributes), dropped_attributes_count: 0 }
    });
    let scopes = (trace_ids(), span_ids())
        .prop_flat_map(move |(traces, spans)| vec(scope_spans(limits, traces, spans), 0..4));
    (option::weighted(0.93, resource), scopes, schema_url()).prop_map(
        |(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url },
    )
}

fn scope_spans(
    limits: Limits,
    traces: Vec<Vec<u8>>,
    ids: Vec<Vec<u8>>,
) -> impl Strategy<Value = ScopeSpans> {
    let attributes = prop_oneof![
        4 => Just(Vec::new()),
        4 => vec(odd_attribute(limits), 0..3),
        1 => vec(known(vocabulary::SCOPE), 1..4),
    ];
    let scope =
        (text(limits), text(limits), attributes).prop_map(|(name, version, attributes)| Scope {
            name,
            version,
            attributes: without_duplicates(attributes),
            dropped_attributes_count: 0,
        });
    (option::weighted(0.8, scope), vec(span(limits, traces, ids), 0..5), schema_url())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url })
}

fn schema_url() -> impl Strategy<Value = Vec<u8>> {
    select(vec![Vec::new(), b"https://opentelemetry.io/schemas/1.37.0".to_vec()])
}

/// A few trace ids, so that traces have several spans; some without their upper or lower half.
fn trace_ids() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let id = prop_oneof![
        14 => any::<[u8; 16]>().prop_map(|id| id.to_vec()),
        2 => any::<u64>().prop_map(|low| u128::from(low).to_be_bytes().to_vec()),
        1 => Just(vec![0xff; 16]),
        1 => prop_oneof![
            any::<u64>().prop_map(|high| (u128::from(high) << 64).to_be_bytes().to_vec()),
            Just(vec![0; 16]),
            Just(Vec::new()),
        ],
    ];
    vec(id, 1..4)
}

/// The span ids that spans and parents are drawn from, so that some are parents of others and some come twice.
fn span_ids() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let id = prop_oneof![
        80 => any::<[u8; 8]>().prop_map(|id| id.to_vec()),
        2 => Just(vec![0xff; 8]),
        1 => Just(vec![0; 8]),
        1 => Just(Vec::new()),
    ];
    vec(id, 4..9)
}

fn pick(from: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    any::<Index>().prop_map(move |index| index.get(&from).clone())
}

fn span(limits: Limits, traces: Vec<Vec<u8>>, ids: Vec<Vec<u8>>) -> impl Strategy<Value = Span> {
    let parent = prop_oneof![
        3 => pick(ids.clone()),
        2 => select(vec![Vec::new(), vec![0; 8]]),
        1 => any::<[u8; 8]>().prop_map(|id| id.to_vec()),
    ];
    let identity = (pick(traces), pick(ids), parent, trace_state(limits), any::<u32>());
    let kind = prop_oneof![20 => 0..6_i32, 1 => select(vec![-1, 6, 99, i32::MAX])];
    let facts = (name(limits), kind, times(limits), option::weighted(0.6, status(limits)));
    let counts = (few(), few(), few());
    let parts =
        (attributes(limits), vec(event(limits), 0..3), vec(link(limits), 0..3), any::<Index>());
    (identity, facts, counts, parts).prop_map(
        |(
            (trace_id, span_id, parent_span_id, trace_state, flags),
            (name, kind, (start, end), status),
            (dropped_attributes_count, dropped_events_count, dropped_links_count),
            (attributes, events, links, which),
        )| {
            // Most spans have neither events nor links.
            let which = which.index(4);
            Span {
                trace_id,
                span_id,
                parent_span_id,
                trace_state,
                flags,
                name,
                kind,
                start,
                end,
                status,
                dropped_attributes_count,
                dropped_events_count,
                dropped_links_count,
                attributes,
                events: if which & 1 == 0 { events } else { Vec::new() },
                links: if which & 2 == 0 { links } else { Vec::new() },
            }
        },
    )
}

fn few() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(0), 2 => 1..9_u32, 1 => Just(u32::MAX)]
}

fn trace_state(limits: Limits) -> impl Strategy<Value = Vec<u8>> {
    let fractional = if limits.tame { &[""] } else { vocabulary::FRACTIONAL_RATES };
    prop_oneof![
        8 => Just(Vec::new()),
        2 => select(vocabulary::TRACE_STATES).prop_map(|text| text.as_bytes().to_vec()),
        2 => select(vocabulary::SAMPLING).prop_map(|text| text.as_bytes().to_vec()),
        1 => select(fractional).prop_map(|text| text.as_bytes().to_vec()),
        1 => text(limits),
    ]
}

fn name(limits: Limits) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => select(vocabulary::SPAN_NAMES).prop_map(|text| text.as_bytes().to_vec()),
        2 => text(limits),
    ]
}

/// Start and end.
fn times(limits: Limits) -> BoxedStrategy<(u64, u64)> {
    let second = 1_000_000_000;
    let usual = (0..60 * second, 0..5 * second).prop_map(move |(ago, duration)| {
        let end = limits.now - ago;
        (end - duration, end)
    });
    if limits.tame {
        return usual.boxed();
    }
    let odd = select(vec![
        0,
        1,
        second,
        YEAR_2000 - 1,
        YEAR_2000,
        limits.now,
        limits.now + 3600 * second,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX,
    ]);
    prop_oneof![
        8 => usual,
        1 => (odd.clone(), odd.clone()),
        1 => (odd, Just(limits.now)),
        // Not up to now: a range that moves would make another case of the same seed.
        1 => (Just(limits.now), 0..1_790_000_000_000_000_000_u64),
    ]
    .boxed()
}

fn status(limits: Limits) -> impl Strategy<Value = Status> {
    let code = prop_oneof![4 => Just(2), 2 => 0..3_i32, 1 => select(vec![-1, 3, 77])];
    let message = prop_oneof![2 => Just(Vec::new()), 3 => text(limits)];
    (message, code).prop_map(|(message, code)| Status { message, code })
}

fn event(limits: Limits) -> impl Strategy<Value = Event> {
    let name = prop_oneof![
        1 => Just(b"exception".to_vec()),
        1 => text(limits),
    ];
    let time = prop_oneof![
        5 => Just(limits.now),
        1 => select(vec![0, 1, i64::MAX as u64, u64::MAX]),
    ];
    let attributes = (vec(known(vocabulary::EXCEPTION), 0..4), vec(odd_attribute(limits), 0..3));
    (time, name, attributes, few()).prop_map(
        |(time, name, (mut attributes, odd), dropped_attributes_count)| {
            attributes.extend(odd);
            let attributes = without_duplicates(attributes);
            Event { time, name, attributes, dropped_attributes_count }
        },
    )
}

fn link(limits: Limits) -> impl Strategy<Value = Link> {
    let trace_id = prop_oneof![
        8 => any::<[u8; 16]>().prop_map(|id| id.to_vec()),
        1 => select(vec![vec![0; 16], Vec::new()]),
    ];
    let span_id = prop_oneof![
        8 => any::<[u8; 8]>().prop_map(|id| id.to_vec()),
        1 => select(vec![vec![0; 8], Vec::new()]),
    ];
    let attributes = vec(odd_attribute(limits), 0..3);
    (trace_id, span_id, trace_state(limits), attributes, few(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes: without_duplicates(attributes),
            dropped_attributes_count,
            flags,
        },
    )
}

/// Attributes of a span: of one convention mostly, with some others between.
fn attributes(limits: Limits) -> impl Strategy<Value = Vec<KeyValue>> {
    let convention = select(vocabulary::CONVENTIONS).prop_flat_map(|keys| vec(known(keys), 0..7));
    let steering = prop_oneof![
        3 => Just(Vec::new()),
        1 => vec(known(vocabulary::DATADOG), 1..4),
    ];
    let any_known = prop_oneof![
        3 => Just(Vec::new()),
        1 => select(vocabulary::CONVENTIONS).prop_flat_map(|keys| vec(known(keys), 0..4)),
    ];
    (convention, any_known, steering, vec(odd_attribute(limits), 0..4)).prop_map(
        |(mut attributes, more, steering, odd)| {
            attributes.extend(more);
            attributes.extend(steering);
            attributes.extend(odd);
            without_duplicates(attributes)
        },
    )
}

/// OTLP asks for keys that are unique.
fn without_duplicates(attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    let mut seen = std::collections::HashSet::new();
    attributes.into_iter().filter(|pair| seen.insert(pair.key.clone())).collect()
}

/// A key that means something, mostly with a value that it has in practice.
fn known(
    keys: &'static [(&'static str, &'static [&'static str])],
) -> impl Strategy<Value = KeyValue> {
    select(keys).prop_flat_map(|(key, values)| {
        let usual = select(values).prop_map(|text| match text.strip_prefix('#') {
            Some(other) => other_value(other),
            None => Value::Text(text.as_bytes().to_vec()),
        });
        let value = prop_oneof![
            12 => usual,
            1 => any::<i64>().prop_map(Value::Int),
            1 => any::<bool>().prop_map(Value::Bool),
            1 => Just(Value::Text(Vec::new())),
            1 => select(&[0.0, 1.0, 2.5, -1.0]).prop_map(Value::Double),
        ];
        value.prop_map(move |value| KeyValue::new(key, value))
    })
}

/// The value that stands behind `#` in the vocabulary.
fn other_value(text: &str) -> Value {
    if let Some(list) = text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        let texts = list.split(',').filter(|_| !list.is_empty());
        let values =
            texts.map(|text| AnyValue { value: Some(Value::Text(text.as_bytes().to_vec())) });
        return Value::Array(Array { values: values.collect() });
    }
    let int = text.parse().map(Value::Int).ok();
    let bool = text.parse().map(Value::Bool).ok();
    let double = || text.parse().map(Value::Double).ok();
    int.or(bool).or_else(double).expect("a number, a boolean or a list behind `#`")
}

/// Any key with any value.
fn odd_attribute(limits: Limits) -> impl Strategy<Value = KeyValue> {
    let key = prop_oneof![
        16 => "[a-z]{1,8}(\\.[a-z_]{1,8}){0,2}".prop_map(String::into_bytes),
        4 => text(limits),
        1 => select(vec!["_dd.appsec.json", "_dd.x.msgpack", "_dd.protobuf"])
            .prop_map(|key| key.as_bytes().to_vec()),
    ];
    (key, any_value(limits)).prop_map(|(key, value)| KeyValue { key, value })
}

fn any_value(limits: Limits) -> impl Strategy<Value = Option<AnyValue>> {
    let double = prop_oneof![
        3 => any::<f64>(),
        2 => -1e6..1e6_f64,
        2 => select(vec![0.0, -0.0, 0.1, 1e21, 1e20, 1e-6, 1e-7, 123_456_789.0, f64::MAX, f64::MIN_POSITIVE, 5e-324]),
        1 => select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ];
    let int = prop_oneof![
        3 => -1000..1000_i64,
        2 => any::<i64>(),
        1 => select(vec![i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1]),
    ];
    let leaf = prop_oneof![
        6 => text(limits).prop_map(|text| Some(Value::Text(text))),
        2 => any::<bool>().prop_map(|value| Some(Value::Bool(value))),
        3 => int.prop_map(|value| Some(Value::Int(value))),
        3 => double.prop_map(|value| Some(Value::Double(value))),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| Some(Value::Bytes(bytes))),
        1 => Just(None),
    ];
    let leaf = leaf.prop_map(|value| AnyValue { value });
    let nested = leaf.prop_recursive(3, 12, 4, move |inner| {
        let pair = (text(limits), option::weighted(0.95, inner.clone()));
        prop_oneof![
            vec(inner, 0..4)
                .prop_map(|values| AnyValue { value: Some(Value::Array(Array { values })) }),
            vec(pair, 0..4).prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(key, value)| KeyValue { key, value });
                let values = without_duplicates(pairs.collect());
                AnyValue { value: Some(Value::Map(Map { values })) }
            }),
        ]
    });
    option::weighted(0.97, nested)
}

fn text(limits: Limits) -> BoxedStrategy<Vec<u8>> {
    // Stats cut a resource name between two bytes, and text that is not UTF-8 cannot be read there.
    let parts = if limits.tame { &vocabulary::LONG_PARTS[..3] } else { vocabulary::LONG_PARTS };
    let long =
        (select(parts), select(vocabulary::LENGTHS)).prop_map(|(part, length): (&str, usize)| {
            let mut text = "x".repeat(length % part.len());
            while text.len() < length {
                text.push_str(part);
            }
            text.into_bytes()
        });
    let tame = prop_oneof![
        10 => "[a-zA-Z0-9_./:-]{1,20}".prop_map(String::into_bytes),
        4 => select(vocabulary::TEXTS).prop_map(|text| text.as_bytes().to_vec()),
        2 => "\\PC{0,30}".prop_map(String::into_bytes),
        1 => any::<String>().prop_map(String::into_bytes),
        1 => Just(Vec::new()),
        1 => long,
    ];
    if limits.tame {
        return tame.boxed();
    }
    let not_utf8 = prop_oneof![
        2 => select(vocabulary::NOT_UTF8).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..20),
    ];
    prop_oneof![16 => tame, 1 => not_utf8].boxed()
}
