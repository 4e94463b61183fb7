//! Spans that are chosen and that are not.

use std::cell::RefCell;

use super::config::Properties;
use super::{Chosen, Span};
use crate::settings::Purpose;
use crate::settings::decode::decode;
use crate::settings::node::Node;
use crate::trace_batch::TraceBatch;

/// Returns the names of the spans that are chosen.
fn chosen(include: Option<&str>, exclude: Option<&str>) -> String {
    let json = r#"{"resourceSpans":[
        {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},{"key":"n","value":{"intValue":5}}]},
         "scopeSpans":[{"scope":{"name":"lib","version":"1.2"},"spans":[
            {"name":"a","kind":2,"attributes":[{"key":"s","value":{"stringValue":"red"}}]},
            {"name":"b","kind":3,"attributes":[{"key":"s","value":{"doubleValue":1.5}},{"key":"t","value":{"boolValue":true}}]}]}]},
        {"scopeSpans":[{"spans":[{"name":"c"}]}]}]}"#;
    let batch = TraceBatch::from_json(json.as_bytes()).unwrap();
    let properties = |yaml: &str| -> Properties {
        decode(&Node::parse("test", yaml).unwrap(), Purpose::Run).unwrap()
    };
    let (include, exclude) = (include.map(properties), exclude.map(properties));
    let choice = Chosen::new(include.as_ref(), exclude.as_ref());
    let names = RefCell::new(String::new());
    let same = batch.change_spans(|resource, scope, span| {
        choice.has(resource, scope, span).then(|| {
            names.borrow_mut().push_str(&String::from_utf8_lossy(Span::new(span).name));
            span.to_vec()
        })
    });
    assert_eq!(same.to_protobuf(), batch.to_protobuf());
    names.into_inner()
}

#[test]
fn a_span_is_included_that_has_all_properties() {
    for (properties, expected) in [
        ("{match_type: strict, services: [cart, x]}", "ab"),
        ("{match_type: strict, services: [car]}", ""),
        ("{match_type: regexp, services: [car]}", "ab"),
        ("{match_type: strict, services: ['<nil-service-name>']}", "c"),
        ("{match_type: strict, span_names: [a, c]}", "ac"),
        ("{match_type: regexp, span_names: ['^[bc]$']}", "bc"),
        ("{match_type: strict, span_kinds: [SPAN_KIND_SERVER]}", "a"),
        ("{match_type: regexp, span_kinds: [CLIENT, UNSPECIFIED]}", "bc"),
        ("{match_type: strict, attributes: [{key: s}]}", "ab"),
        ("{match_type: strict, attributes: [{key: s, value: red}]}", "a"),
        ("{match_type: strict, attributes: [{key: s, value: 1.5}]}", "b"),
        ("{match_type: strict, attributes: [{key: s, value: '1.5'}]}", ""),
        ("{match_type: regexp, attributes: [{key: s, value: '^1'}]}", "b"),
        ("{match_type: strict, attributes: [{key: s}, {key: t, value: true}]}", "b"),
        ("{match_type: strict, resources: [{key: n, value: 5}]}", "ab"),
        ("{match_type: strict, libraries: [{name: lib}]}", "ab"),
        ("{match_type: strict, libraries: [{name: lib, version: '1.3'}]}", ""),
        ("{match_type: regexp, libraries: [{name: l, version: '^1'}]}", "ab"),
        ("{match_type: strict, libraries: [{name: lib}, {name: other}]}", ""),
        ("{match_type: strict, services: [cart], span_names: [a, c]}", "a"),
    ] {
        assert_eq!(chosen(Some(properties), None), expected, "{properties}");
        let others: String = "abc".chars().filter(|name| !expected.contains(*name)).collect();
        assert_eq!(chosen(None, Some(properties)), others, "{properties}");
    }
    let (cart, a) =
        ("{match_type: strict, services: [cart]}", "{match_type: strict, span_names: [a]}");
    assert_eq!(chosen(Some(cart), Some(a)), "b");
    assert_eq!(chosen(None, None), "abc");
}
