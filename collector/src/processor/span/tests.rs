//! Names and statuses as the reference makes them.

use super::Config;
use crate::config::{Config as Whole, Sources};
use crate::processor::ProcessorConfig;
use crate::trace_batch::TraceBatch;

fn config(settings: &str) -> Config {
    let yaml = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, processors: {{span: {settings}}}, exporters: {{debug: }}, service: {{pipelines: {{traces: {{receivers: [otlp], processors: [span], exporters: [debug]}}}}}}}}"
    );
    let sources = Sources { configs: vec![yaml], ..Sources::default() };
    let whole = Whole::load(&sources, &|_| None).unwrap();
    match whole.processors.into_values().next().unwrap() {
        ProcessorConfig::Span(config) => *config,
        other => panic!("{other:?}"),
    }
}

/// Returns name, attributes and status of a span that was changed.
fn changed(settings: &str, name: &str) -> (String, Vec<String>, String) {
    let json = serde_json::json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{
        "name": name, "status": { "code": 2, "message": "m" },
        "attributes": [
            { "key": "s", "value": { "stringValue": "GET" } },
            { "key": "n", "value": { "intValue": "5" } },
            { "key": "d", "value": { "doubleValue": 0.25 } },
            { "key": "l", "value": { "arrayValue": { "values": [] } } },
        ],
    }] }] }] });
    let batch = TraceBatch::from_json(json.to_string().as_bytes()).unwrap();
    let batch = super::process(&config(settings), &batch);
    let batch = TraceBatch::from_protobuf(batch.to_protobuf().into()).unwrap();
    let resource = batch.resources().next().unwrap();
    let (_, span) = resource.spans().next().unwrap();
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let attributes = span.attributes();
    let new = attributes.iter().skip(4).map(|(key, value)| {
        format!("{}={}", text(key), text(&super::text(value).unwrap_or_default()))
    });
    let status = format!("{:?} {}", span.status.code, text(span.status.message));
    (text(span.name), new.collect(), status)
}

#[test]
fn a_name_is_made_of_attributes() {
    let name = |settings: &str| changed(&format!("{{name: {settings}}}"), "old").0;
    assert_eq!(name("{from_attributes: [s, n, d], separator: '::'}"), "GET::5::0.25");
    assert_eq!(name("{from_attributes: [s, n]}"), "GET5");
    assert_eq!(name("{from_attributes: [s, no]}"), "old");
    assert_eq!(name("{from_attributes: [l]}"), "<unknown-attribute-type>");
}

#[test]
fn attributes_are_made_of_a_name() {
    let rule = "'^/doc/(?P<id>\\d+)/(?P<verb>\\w+)$'";
    let of = |settings: &str| {
        let (name, attributes, _) =
            changed(&format!("{{name: {{to_attributes: {settings}}}}}"), "/doc/42/edit");
        (name, attributes.join(" "))
    };
    let both = "id=42 verb=edit";
    assert_eq!(of(&format!("{{rules: [{rule}]}}")), ("/doc/{id}/{verb}".into(), both.into()));
    let kept = of(&format!("{{rules: [{rule}], keep_original_name: true}}"));
    assert_eq!(kept, ("/doc/42/edit".into(), both.into()));
    // The second looks at what the first left.
    let rules = "rules: ['(?P<id>\\d+)', '(?P<end>[^/]+)$', 'x(?P<no>.)']";
    assert_eq!(of(&format!("{{{rules}}}")), ("/doc/{id}/{end}".into(), "id=42 end=edit".into()));
    let one = of(&format!("{{{rules}, break_after_match: true}}"));
    assert_eq!(one, ("/doc/{id}/edit".into(), "id=42".into()));
    assert_eq!(of("{rules: ['^no(?P<x>.)']}"), ("/doc/42/edit".into(), String::new()));
    // An attribute of that key is replaced.
    let (_, attributes, _) = changed("{name: {to_attributes: {rules: ['(?P<s>.)']}}}", "x");
    assert_eq!(attributes, [""; 0], "as many as before");
}

#[test]
fn a_status_is_set() {
    let status = |settings: &str| changed(&format!("{{status: {settings}}}"), "old").2;
    assert_eq!(status("{code: Ok}"), "Ok ");
    assert_eq!(status("{code: Unset}"), "Unset ");
    assert_eq!(status("{code: Error, description: d}"), "Error d");
    let chosen = "include: {match_type: strict, span_names: [other]}, status: {code: Ok}";
    assert_eq!(changed(&format!("{{{chosen}}}"), "old").2, "Error m");
    assert_eq!(changed(&format!("{{{chosen}}}"), "other").2, "Ok ");
}
