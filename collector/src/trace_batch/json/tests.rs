//! Requests in JSON and what they become, beside the plain way of reading them.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{to_protobuf, tree};
use crate::trace_batch::{AnyValue, DecodeError, MAX_DEPTH, SpanKind, StatusCode, TraceBatch};

const REQUEST: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}],
  "entityRefs":[{"schemaUrl":"u","type":"service","idKeys":["service.name",""],"descriptionKeys":["k"]}]},
  "scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C",
    "spanId":"eee19b7ec3c1b174","parentSpanId":"","name":"I'm a server span","startTimeUnixNano":"1544712660000000000",
    "endTimeUnixNano":1544712661000000000,"kind":2,"droppedAttributesCount":null,"unknown":{"a":[]},
    "attributes":[{"key":"i","value":{"intValue":"-7"}},{"key":"d","value":{"doubleValue":1.5}},
      {"key":"n","value":{"doubleValue":"NaN"}},{"key":"b","value":{"boolValue":true}},{"key":"y","value":{"bytesValue":"AQI="}},
      {"key":"a","value":{"arrayValue":{"values":[{"intValue":1},{"stringValue":"x"}]}}},
      {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}},{"key":"e","value":{}}],
    "events":[{"timeUnixNano":"5","name":"ev"}],"links":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174"}],
    "status":{"code":"STATUS_CODE_ERROR","message":"bad"}}]}]}]}"#;

#[test]
fn a_request_in_json_becomes_the_same_spans() {
    let batch = TraceBatch::from_json(REQUEST.as_bytes()).unwrap();
    let resource = batch.resources().next().unwrap();
    let (scope, span) = resource.spans().next().unwrap();
    assert_eq!((scope.name, scope.version), (&b"lib"[..], &b"1"[..]));
    assert_eq!(span.trace_id, 0x5b8efff798038103d269b633813fc60c);
    assert_eq!((span.span_id, span.parent_span_id), (0xeee19b7ec3c1b174, 0));
    assert_eq!((span.start, span.end), (1544712660000000000, 1544712661000000000));
    assert_eq!((span.kind, span.status.code), (SpanKind::Server, StatusCode::Error));
    assert_eq!(span.status.message, b"bad");
    assert_eq!((span.events().count(), span.links().count()), (1, 1));
    let values: Vec<_> = span.attributes().iter().map(|(_, value)| value).collect();
    assert!(matches!(values[0], AnyValue::Int(-7)));
    assert!(matches!(values[1], AnyValue::Double(1.5)));
    assert!(matches!(values[2], AnyValue::Double(nan) if nan.is_nan()));
    assert!(matches!(values[3], AnyValue::Bool(true)));
    assert!(matches!(values[4], AnyValue::Bytes([1, 2])));
    assert_eq!(values[5].elements().count(), 2);
    assert!(matches!(values[6], AnyValue::Map(map) if map.iter().count() == 1));
    assert!(matches!(values[7], AnyValue::Empty));
}

#[test]
fn doubles_keep_their_last_digit() {
    for text in ["132876418.58429329", "-387433.04307600245", "3.8029928126359177e-215"] {
        let request =
            REQUEST.replace("{\"doubleValue\":1.5}", &format!("{{\"doubleValue\":{text}}}"));
        let batch = TraceBatch::from_json(request.as_bytes()).unwrap();
        let (_, span) = batch.resources().next().unwrap().spans().next().unwrap();
        let (_, value) = span.attributes().iter().nth(1).unwrap();
        assert!(matches!(value, AnyValue::Double(read) if Ok(read) == text.parse()), "{text}");
    }
}

#[test]
fn the_entities_of_a_resource_are_kept() {
    let written = to_protobuf(REQUEST.as_bytes()).unwrap();
    let entity = b"\x1a\x1f\x0a\x01u\x12\x07service\x1a\x0cservice.name\x1a\x00\x22\x01k";
    assert!(written.windows(entity.len()).any(|bytes| bytes == entity), "{written:?}");
}

/// A request whose span has an attribute of so many arrays, or maps, within each other.
fn nested(depth: usize, open: &str, close: &str, inmost: &str) -> String {
    let value = [&open.repeat(depth), inmost, &close.repeat(depth)].concat();
    format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[\n{{\"attributes\":[{{\"key\":\"k\",\"value\":{value}}}]}}]}}]}}]}}"
    )
}

#[test]
fn values_may_be_nested_as_deep_in_json_as_in_protobuf() {
    let array = (r#"{"arrayValue":{"values":["#, "]}}");
    let map = (r#"{"kvlistValue":{"values":[{"key":"k","value":"#, "}]}}");
    for (open, close) in [array, map] {
        let batch =
            |depth, inmost| TraceBatch::from_json(nested(depth, open, close, inmost).as_bytes());
        for depth in [1, 30, 38, 40, 99, MAX_DEPTH] {
            let batch = batch(depth, r#"{"intValue":7}"#).unwrap();
            let (_, span) = batch.resources().next().unwrap().spans().next().unwrap();
            let (_, value) = span.attributes().iter().next().unwrap();
            let shown = show((b"k", value));
            let levels = shown.matches("Array").count() + shown.matches("Map").count();
            assert_eq!(levels, depth, "{shown}");
            assert!(shown.contains("Int(7)"), "{shown}");
        }
        let error = batch(MAX_DEPTH + 1, r#"{"intValue":7}"#).unwrap_err();
        assert!(matches!(error, DecodeError::TooDeep), "{error}");
        // An error far down is reported with its place in the whole request.
        let text = nested(60, open, close, r#"{"intValue":"x"}"#);
        let error = TraceBatch::from_json(text.as_bytes()).unwrap_err().to_string();
        let column = text.lines().nth(1).unwrap().find("\"x\"").unwrap() + 3;
        assert!(error.contains(".intValue` is not an integer"), "{error}");
        assert!(error.ends_with(&format!("(line 2, column {column})")), "{error} {column}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let cases = [
        ("[]", "not an OTLP trace request in JSON: `$` is not an object (line 1, column 0)"),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{},{"traceId":"xyz"}]}]}]}"#,
            "not an OTLP trace request in JSON: `$.resourceSpans[0].scopeSpans[0].spans[1].traceId` is not an id in hexadecimal digits (line 1, column 62)",
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"0102"}]}]}]}"#,
            "a span id has 2 bytes, where OTLP has 8",
        ),
        (
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"intValue":"1.5"}}]}}]}"#,
            "not an OTLP trace request in JSON: `$.resourceSpans[0].resource.attributes[0].value.intValue` is not an integer, or a string of one (line 1, column 81)",
        ),
        (
            "{\"resourceSpans\":",
            "not an OTLP trace request in JSON: EOF while parsing a value at line 1 column 17",
        ),
    ];
    for (json, message) in cases {
        let error = TraceBatch::from_json(json.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

/// The attributes of the first span of a request whose span has these, in JSON.
fn attributes(attributes: &[u8]) -> Vec<(Vec<u8>, String)> {
    let (before, after) =
        (br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":"#, b"}]}]}]}");
    let request = [&before[..], attributes, after].concat();
    let batch = TraceBatch::from_json(&request).unwrap();
    let (_, span) = batch.resources().next().unwrap().spans().next().unwrap();
    let shown = |value: AnyValue<'_>| match value {
        AnyValue::String(text) => text.escape_ascii().to_string(),
        other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
    };
    span.attributes().iter().map(|(key, value)| (key.to_vec(), shown(value))).collect()
}

#[test]
fn text_need_not_be_utf_8_as_in_the_reference() {
    let raw = b"[{\"key\":\"k\xff\",\"value\":{\"stringValue\":\"a\xc3(\\n\"}},{\"\xfe\":1,\"key\":\"\"}]";
    let expected = [(b"k\xff".to_vec(), r"a\xc3(\n".to_owned()), (vec![], "Empty".into())];
    assert_eq!(attributes(raw), expected);
    let halves = br#"[{"key":"k","value":{"stringValue":"a\ud800\u00e9\ud83d\ude00\udc00"}}]"#;
    let text = "a\u{fffd}\u{e9}\u{1f600}\u{fffd}".as_bytes().escape_ascii().to_string();
    assert_eq!(attributes(halves), [(b"k".to_vec(), text)]);
}

#[test]
fn null_is_nothing_and_the_last_of_several_values_counts() {
    let value = |value: &str| {
        let (_, value) =
            attributes(format!(r#"[{{"key":"k","value":{value}}}]"#).as_bytes()).remove(0);
        value
    };
    for (json, expected) in [
        ("null", "Empty"),
        (r#"{"stringValue":null}"#, ""),
        (r#"{"arrayValue":null}"#, "Array"),
        (r#"{"kvlist_value":null}"#, "Map"),
        (r#"{"intValue":null,"bytesValue":null}"#, "Empty"),
        (r#"{"intValue":1,"stringValue":"x"}"#, "x"),
        (r#"{"stringValue":"x","arrayValue":{"values":[{"intValue":1}]},"intValue":"2"}"#, "Int"),
        (r#"{"stringValue":"x","intValue":null,"unknown":[{}]}"#, "x"),
    ] {
        assert_eq!(value(json), expected, "{json}");
    }
    let request = r#"{"resourceSpans":[null,{"resource":null,"scopeSpans":[null,{"scope":null,"spans":[null,{"events":null,"status":null}]}]}]}"#;
    assert_eq!(TraceBatch::from_json(request.as_bytes()).unwrap().span_count(), 2);
    assert_eq!(TraceBatch::from_json(br#"{"resourceSpans":null}"#).unwrap().span_count(), 0);
}

/// A number as JSON, or as a string of it.
fn number(value: impl Strategy<Value = u64>) -> impl Strategy<Value = Value> {
    prop_oneof![
        value.prop_flat_map(|value| select(vec![json!(value), json!(value.to_string())])),
        Just(Value::Null),
    ]
}

fn text() -> impl Strategy<Value = Value> {
    select(vec!["", "a", "\u{e9}\"\\\n\u{1}", "a longer text, so that lengths take more than one byte: ............................................................................................................................................"])
        .prop_map(|text| json!(text))
}

fn value() -> impl Strategy<Value = Value> {
    let double = prop_oneof![
        any::<f64>().prop_map(|value| json!(value)),
        select(vec![json!("NaN"), json!("-Infinity"), json!(7)])
    ];
    let leaf = prop_oneof![
        text().prop_map(|text| json!({ "stringValue": text })),
        any::<bool>().prop_map(|value| json!({ "boolValue": value })),
        any::<i64>().prop_map(|value| json!({ "intValue": value })),
        any::<i64>().prop_map(|value| json!({ "intValue": value.to_string() })),
        double.prop_map(|value| json!({ "doubleValue": value })),
        select(vec!["", "AQI=", "AA=="]).prop_map(|text| json!({ "bytesValue": text })),
        Just(json!({})),
        Just(json!({ "nobody": { "knows": [1, null] } })),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4)
                .prop_map(|values| json!({ "arrayValue": { "values": values } })),
            vec((text(), inner), 0..4).prop_map(|pairs| {
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(key, value)| json!({ "key": key, "value": value }))
                    .collect();
                json!({ "kvlistValue": { "values": pairs } })
            }),
        ]
    })
}

fn pairs() -> impl Strategy<Value = Value> {
    vec((text(), value()), 0..4).prop_map(|pairs| {
        pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
    })
}

fn digits(bytes: usize) -> impl Strategy<Value = Value> {
    select(vec![json!(""), json!("aB".repeat(bytes)), json!("01".repeat(bytes)), Value::Null])
}

fn span() -> impl Strategy<Value = Value> {
    let counts = || number(any::<u32>().prop_map(u64::from));
    let kind = select(vec![
        json!(0),
        json!(3),
        json!("5"),
        json!(-1),
        json!("SPAN_KIND_SERVER"),
        json!(null),
    ]);
    let code = select(vec![json!(2), json!("STATUS_CODE_OK"), json!("1"), json!(77)]);
    let event = (number(any::<u64>()), text(), pairs(), counts()).prop_map(|(time, name, attributes, dropped)| {
        json!({ "timeUnixNano": time, "name": name, "attributes": attributes, "droppedAttributesCount": dropped })
    });
    let link = (digits(16), digits(8), text(), pairs(), counts()).prop_map(|(trace, span, state, attributes, flags)| {
        json!({ "traceId": trace, "spanId": span, "traceState": state, "attributes": attributes, "flags": flags })
    });
    let ids = (digits(16), digits(8), digits(8), text(), text(), kind);
    let times = (number(any::<u64>()), number(any::<u64>()));
    let lists = (pairs(), vec(event, 0..3), vec(link, 0..3), text(), code);
    (ids, times, lists, [counts(), counts(), counts(), counts()]).prop_map(|(ids, times, lists, counts)| {
        json!({
            "traceId": ids.0, "spanId": ids.1, "parentSpanId": ids.2, "traceState": ids.3, "name": ids.4, "kind": ids.5,
            "startTimeUnixNano": times.0, "endTimeUnixNano": times.1,
            "attributes": lists.0, "events": lists.1, "links": lists.2, "status": { "message": lists.3, "code": lists.4 },
            "droppedAttributesCount": counts[0], "droppedEventsCount": counts[1], "droppedLinksCount": counts[2], "flags": counts[3],
        })
    })
}

fn request() -> impl Strategy<Value = Value> {
    let scope = (text(), text(), pairs(), vec(span(), 0..3), text()).prop_map(
        |(name, version, attributes, spans, schema)| {
            json!({ "scope": { "name": name, "version": version, "attributes": attributes }, "spans": spans, "schemaUrl": schema })
        },
    );
    let resource = (pairs(), vec(scope, 0..3), text()).prop_map(|(attributes, scopes, schema)| {
        json!({ "resource": { "attributes": attributes }, "scopeSpans": scopes, "schemaUrl": schema, "more": [[{}]] })
    });
    vec(resource, 0..3).prop_map(|resources| json!({ "resourceSpans": resources }))
}

/// Each name at one of these positions in snake_case.
fn in_snake_case(text: &str, positions: &[Index]) -> String {
    const NAMES: [(&str, &str); 5] = [
        ("resourceSpans", "resource_spans"),
        ("startTimeUnixNano", "start_time_unix_nano"),
        ("stringValue", "string_value"),
        ("parentSpanId", "parent_span_id"),
        ("droppedLinksCount", "dropped_links_count"),
    ];
    positions.iter().fold(text.to_owned(), |text, position| {
        let (camel, snake) = position.get(&NAMES);
        text.replace(&format!("\"{camel}\""), &format!("\"{snake}\""))
    })
}

/// A batch as it is read, whatever the order of its fields on the wire.
fn shown(protobuf: Vec<u8>) -> Result<String, String> {
    let batch = TraceBatch::from_protobuf(protobuf.into()).map_err(|error| error.to_string())?;
    let mut out = String::new();
    for resource in batch.resources() {
        out.push_str(&format!(
            "{:?}\n",
            resource.attributes().iter().map(show).collect::<Vec<_>>()
        ));
        for (scope, span) in resource.spans() {
            let scope_attributes: Vec<_> = scope.attributes().iter().map(show).collect();
            let attributes: Vec<_> = span.attributes().iter().map(show).collect();
            let events: Vec<_> = span
                .events()
                .map(|event| {
                    (
                        event.time,
                        event.name.to_vec(),
                        event.attributes().iter().map(show).collect::<Vec<_>>(),
                        event.dropped_attributes,
                    )
                })
                .collect();
            let links: Vec<_> = span
                .links()
                .map(|link| {
                    (
                        link.trace_id,
                        link.span_id,
                        link.trace_state.to_vec(),
                        link.attributes().iter().map(show).collect::<Vec<_>>(),
                        link.dropped_attributes,
                    )
                })
                .collect();
            out.push_str(&format!(
                "{:?} {:?} {scope_attributes:?} {:x} {:x} {:x} {:?} {:?} {:?} {} {} {:?} {:?} {attributes:?} {events:?} {links:?}\n",
                scope.name, scope.version, span.trace_id, span.span_id, span.parent_span_id, span.trace_state, span.name,
                span.kind, span.start, span.end, span.status.code, span.status.message,
            ));
        }
    }
    Ok(out)
}

fn show((key, value): (&[u8], AnyValue<'_>)) -> String {
    let inner = match value {
        AnyValue::Map(map) => map.iter().map(show).collect::<Vec<_>>().join(","),
        AnyValue::Array(_) => {
            value.elements().map(|value| show((b"", value))).collect::<Vec<_>>().join(",")
        }
        AnyValue::Double(value) => value.to_bits().to_string(),
        other => format!("{other:?}"),
    };
    let kind = format!("{value:?}");
    format!("{}={}({inner})", key.escape_ascii(), kind.split('(').next().unwrap_or_default())
}

#[test]
fn what_is_read_is_what_a_tree_of_the_request_holds() {
    let mut runner =
        TestRunner::new(Config { cases: 512, failure_persistence: None, ..Config::default() });
    let spans = std::cell::Cell::new(0);
    let case = (request(), any::<bool>(), vec(any::<Index>(), 0..3));
    runner
        .run(&case, |(request, pretty, positions)| {
            let text = match pretty {
                true => serde_json::to_string_pretty(&request).unwrap(),
                false => request.to_string(),
            };
            let text = in_snake_case(&text, &positions);
            let (read, expected) =
                (to_protobuf(text.as_bytes()), tree::to_protobuf(text.as_bytes()));
            let (read, expected) = (read.unwrap(), expected.unwrap());
            spans.set(spans.get() + expected.len());
            assert_eq!(shown(read), shown(expected), "{text}");
            Ok(())
        })
        .unwrap();
    assert!(spans.get() > 100_000, "the requests have hardly anything: {}", spans.get());
}

#[test]
fn both_ways_refuse_the_same_values() {
    // Each field of a request with all of them, given something of another shape.
    let request: Value = serde_json::from_str(REQUEST).unwrap();
    let wrong = [
        json!(true),
        json!("x"),
        json!(-3),
        json!(1.5),
        json!([]),
        json!([1]),
        json!({}),
        json!("12"),
    ];
    let mut refused = 0;
    for pointer in pointers(&request, String::new()) {
        for value in &wrong {
            let mut request = request.clone();
            *request.pointer_mut(&pointer).unwrap() = value.clone();
            let text = request.to_string();
            let read = to_protobuf(text.as_bytes()).map(shown);
            let expected = tree::to_protobuf(text.as_bytes()).map(shown);
            assert_eq!(read.is_ok(), expected.is_ok(), "{pointer} {value}: {read:?} {expected:?}");
            refused += usize::from(read.is_err());
            if let (Ok(read), Ok(expected)) = (read, expected) {
                assert_eq!(read, expected, "{pointer} {value}");
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

fn pointers(value: &Value, at: String) -> Vec<String> {
    let mut found = vec![at.clone()];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.extend(pointers(value, format!("{at}/{name}")));
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                found.extend(pointers(value, format!("{at}/{index}")));
            }
        }
        _ => {}
    }
    found
}
