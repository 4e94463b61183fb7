//! Oddities of what is said, in any encoding.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::super::made::{Request, pair};
use super::{Change, Oddity};

pub(super) const ALL: &[Oddity] = &[
    Oddity("a trace id of zeros", Change::Request(|it| first(it).trace_id = vec![0; 16])),
    Oddity("no trace id", Change::Request(|it| first(it).trace_id.clear())),
    Oddity("a short trace id", Change::Request(|it| first(it).trace_id.truncate(8))),
    Oddity("a long trace id", Change::Request(|it| first(it).trace_id.push(1))),
    Oddity("a span id of zeros", Change::Request(|it| first(it).span_id = vec![0; 8])),
    Oddity("no span id", Change::Request(|it| first(it).span_id.clear())),
    Oddity("a short span id", Change::Request(|it| first(it).span_id.truncate(3))),
    Oddity("a long span id", Change::Request(|it| first(it).span_id.push(1))),
    Oddity("a parent of zeros", Change::Request(|it| first(it).parent_span_id = vec![0; 8])),
    Oddity("a short parent id", Change::Request(|it| first(it).parent_span_id = vec![1; 4])),
    Oddity(
        "a span that is its own parent",
        Change::Request(|it| first(it).parent_span_id = first(it).span_id.clone()),
    ),
    Oddity(
        "two spans of one id",
        Change::Request(|it| {
            let span = first(it).clone();
            first_scope(it).spans.push(span);
        }),
    ),
    Oddity("an unknown kind", Change::Request(|it| first(it).kind = 77)),
    Oddity("a kind below zero", Change::Request(|it| first(it).kind = -1)),
    Oddity(
        "an unknown status",
        Change::Request(|it| {
            first(it).status = Some(Status { message: "m".to_owned(), code: 9 });
        }),
    ),
    Oddity(
        "a status below zero",
        Change::Request(|it| {
            first(it).status = Some(Status { message: String::new(), code: -5 });
        }),
    ),
    Oddity("no status", Change::Request(|it| first(it).status = None)),
    Oddity("all flags", Change::Request(|it| first(it).flags = u32::MAX)),
    Oddity("an end before the start", Change::Request(|it| first(it).end_time_unix_nano = 5)),
    Oddity(
        "no times",
        Change::Request(|it| {
            (first(it).start_time_unix_nano, first(it).end_time_unix_nano) = (0, 0);
        }),
    ),
    Oddity(
        "the last times",
        Change::Request(|it| {
            (first(it).start_time_unix_nano, first(it).end_time_unix_nano) = (u64::MAX, u64::MAX);
        }),
    ),
    Oddity("an empty span", Change::Request(|it| *first(it) = Span::default())),
    Oddity("a long name", Change::Request(|it| first(it).name = "n".repeat(100_000))),
    Oddity("zeros in text", Change::Request(|it| first(it).name = "a\0b\u{7f}\u{fffe}".to_owned())),
    Oddity(
        "an odd trace state",
        Change::Request(|it| first(it).trace_state = "=,;\u{e9} = ".repeat(50)),
    ),
    Oddity(
        "nothing dropped too often",
        Change::Request(|it| {
            let span = first(it);
            span.dropped_attributes_count = u32::MAX;
            (span.dropped_events_count, span.dropped_links_count) = (u32::MAX, u32::MAX);
        }),
    ),
    Oddity("no resources", Change::Request(|it| it.resource_spans.clear())),
    Oddity(
        "an empty resource",
        Change::Request(|it| it.resource_spans.push(ResourceSpans::default())),
    ),
    Oddity(
        "no scopes",
        Change::Request(|it| {
            it.resource_spans.iter_mut().for_each(|resource| resource.scope_spans.clear());
        }),
    ),
    Oddity(
        "an empty scope",
        Change::Request(|it| first_resource(it).scope_spans.push(ScopeSpans::default())),
    ),
    Oddity("no spans", Change::Request(|it| scopes(it).for_each(|scope| scope.spans.clear()))),
    Oddity(
        "no resource's attributes",
        Change::Request(|it| {
            it.resource_spans.iter_mut().for_each(|resource| resource.resource = None);
        }),
    ),
    Oddity(
        "no scope's name",
        Change::Request(|it| scopes(it).for_each(|scope| scope.scope = None)),
    ),
    Oddity(
        "the same resource twice",
        Change::Request(|it| {
            let resource = first_resource(it).clone();
            it.resource_spans.push(resource);
        }),
    ),
    Oddity(
        "many resources",
        Change::Request(|it| {
            let resource = first_resource(it).clone();
            it.resource_spans.extend(vec![resource; 60]);
        }),
    ),
    Oddity(
        "an entity",
        Change::Request(|it| {
            let resource = first_resource(it).resource.get_or_insert_default();
            resource.entity_refs.push(EntityRef {
                schema_url: "s".to_owned(),
                r#type: "host".to_owned(),
                id_keys: vec!["host.id".to_owned()],
                description_keys: vec!["host.name".to_owned()],
            });
        }),
    ),
    Oddity(
        "an attribute without a key",
        Change::Request(|it| attribute(it, pair("", Value::IntValue(1)))),
    ),
    Oddity(
        "an attribute without a value",
        Change::Request(|it| {
            attribute(it, KeyValue { key: "k".to_owned(), ..KeyValue::default() });
        }),
    ),
    Oddity(
        "an attribute of nothing",
        Change::Request(|it| {
            let value = Some(AnyValue { value: None });
            attribute(it, KeyValue { key: "k".to_owned(), value, ..KeyValue::default() });
        }),
    ),
    Oddity(
        "an attribute twice",
        Change::Request(|it| {
            attribute(it, pair("k", Value::IntValue(1)));
            attribute(it, pair("k", Value::StringValue("2".to_owned())));
        }),
    ),
    Oddity(
        "no number",
        Change::Request(|it| attribute(it, pair("k", Value::DoubleValue(f64::NAN)))),
    ),
    Oddity(
        "infinite numbers",
        Change::Request(|it| {
            attribute(it, pair("k", Value::DoubleValue(f64::INFINITY)));
            attribute(it, pair("l", Value::DoubleValue(f64::NEG_INFINITY)));
        }),
    ),
    Oddity(
        "a zero below zero",
        Change::Request(|it| attribute(it, pair("k", Value::DoubleValue(-0.0)))),
    ),
    Oddity(
        "an empty array",
        Change::Request(|it| {
            attribute(it, pair("k", Value::ArrayValue(ArrayValue::default())));
        }),
    ),
    Oddity(
        "an array of nothing",
        Change::Request(|it| {
            let values = vec![AnyValue { value: None }];
            attribute(it, pair("k", Value::ArrayValue(ArrayValue { values })));
        }),
    ),
    Oddity(
        "an empty map",
        Change::Request(|it| {
            attribute(it, pair("k", Value::KvlistValue(KeyValueList::default())));
        }),
    ),
    Oddity(
        "many attributes",
        Change::Request(|it| {
            (0..2_000).for_each(|number| {
                attribute(it, pair(&number.to_string(), Value::BoolValue(true)))
            });
        }),
    ),
    Oddity("arrays 20 deep", Change::Request(|it| attribute(it, arrays(20)))),
    Oddity("arrays 45 deep", Change::Request(|it| attribute(it, arrays(45)))),
    Oddity("arrays 90 deep", Change::Request(|it| attribute(it, arrays(90)))),
    Oddity("arrays 300 deep", Change::Request(|it| attribute(it, arrays(300)))),
    Oddity("maps 30 deep", Change::Request(|it| attribute(it, maps(30)))),
    Oddity("maps 200 deep", Change::Request(|it| attribute(it, maps(200)))),
    Oddity(
        "an empty event and an empty link",
        Change::Request(|it| {
            first(it).events.push(Event::default());
            first(it).links.push(Link::default());
        }),
    ),
    Oddity(
        "a link of short ids",
        Change::Request(|it| {
            let (trace_id, span_id) = (vec![1; 5], vec![2; 2]);
            first(it).links.push(Link { trace_id, span_id, ..Link::default() });
        }),
    ),
];

/// The first span, a new one where another oddity has taken all away.
fn first(request: &mut Request) -> &mut Span {
    let scope = first_scope(request);
    if scope.spans.is_empty() {
        scope.spans.push(Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..Span::default() });
    }
    &mut scope.spans[0]
}

fn first_scope(request: &mut Request) -> &mut ScopeSpans {
    let resource = first_resource(request);
    if resource.scope_spans.is_empty() {
        resource.scope_spans.push(ScopeSpans::default());
    }
    &mut resource.scope_spans[0]
}

fn first_resource(request: &mut Request) -> &mut ResourceSpans {
    if request.resource_spans.is_empty() {
        request.resource_spans.push(ResourceSpans::default());
    }
    &mut request.resource_spans[0]
}

fn scopes(request: &mut Request) -> impl Iterator<Item = &mut ScopeSpans> {
    request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans)
}

fn attribute(request: &mut Request, pair: KeyValue) {
    first(request).attributes.push(pair);
}

fn arrays(depth: usize) -> KeyValue {
    let inner = (0..depth).fold(Value::BoolValue(true), |inner, _| {
        Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(inner) }] })
    });
    pair("deep", inner)
}

fn maps(depth: usize) -> KeyValue {
    let inner = (0..depth).fold(Value::BoolValue(true), |inner, _| {
        Value::KvlistValue(KeyValueList { values: vec![pair("k", inner)] })
    });
    pair("deep", inner)
}
