//! Tests of the rules about names.

use super::{World, altered::shown};
use crate::{
    case::Shape,
    finding::{Findings, Stage},
    trace::SpanId,
};

#[test]
fn names_must_be_there() {
    let mut service = World::healthy();
    service.span(0xb1).service = "otlpresourcenoservicename".to_owned();
    assert_eq!(service.failing().0, ["missing-service-name"]);
    let mut resource = World::healthy();
    resource.span(0xb1).resource = "GET".to_owned();
    assert_eq!(resource.failing().0, ["unnamed-resource"]);
    for status in [404.0, 503.0] {
        resource.span(0xb1).metrics.insert("http.status_code".to_owned(), status);
        assert_eq!(resource.findings(), Findings::default());
    }
}

#[test]
fn a_service_that_is_not_known_to_have_routes_need_not_have_one() {
    let mut world = World::healthy();
    world.shape = Shape::default();
    world.span(0xb1).resource = "GET".to_owned();
    let findings = world.findings();
    assert_eq!(findings.failures, []);
    let reported: Vec<_> =
        findings.not_evaluated.iter().filter(|one| one.rule == "unnamed-resource").collect();
    assert!(reported.len() == 1 && !reported[0].required, "{reported:?}");
    assert!(reported[0].because.contains("(server, app-2, 00000000000000b1) has its method alone"));
    world.span(0xb1).resource = String::new();
    assert_eq!(world.failing().0, ["unnamed-resource"]);
}

#[test]
fn resources_of_proxies_of_graphql_and_of_flask_behind_node_fail_nothing() {
    for (method, resource) in [("GET", "GET"), ("POST", "POST"), ("GET", "http"), ("GET", "HTTP")] {
        let mut world = World::healthy();
        world.shape = Shape::default();
        let span = world.span(0xb1);
        span.meta.insert("http.method".to_owned(), method.to_owned());
        span.resource = resource.to_owned();
        assert_eq!(world.findings().failures, [], "{method} {resource}");
    }
}

#[test]
fn spans_without_a_service_are_reported_once_and_nobody_is_advised_to_set_what_is_set() {
    let mut world = World::healthy();
    world.shape = Shape::default();
    for id in [0xa1, 0xa2] {
        let span = world.span(id);
        span.service = "unknown_service:node".to_owned();
        span.meta.remove("service.instance.id");
    }
    let failures = world.findings().failures;
    let reported: Vec<_> =
        failures.iter().filter(|failure| failure.rule == "missing-service-name").collect();
    assert_eq!(reported.len(), 1, "{failures:?}");
    let detail = &reported[0].detail;
    assert!(detail.contains("and 1 more have the SDK's default service"), "{detail}");
    assert!(
        detail.contains("so `app-1` does not read it") && !detail.contains("set OTEL_"),
        "{detail}"
    );
    world.topology.services[0].service = None;
    let failures = world.findings().failures;
    assert!(failures.iter().any(|failure| failure.detail.ends_with("; set OTEL_SERVICE_NAME")));
}

#[test]
fn a_route_that_was_removed_behind_the_service_is_not_said_to_be_unset() {
    let mut world = shown();
    world.span(0xb1).resource = "GET".to_owned();
    let entry = world.evidence.collector.as_mut().unwrap();
    let sent = &mut entry.exporters.get_mut("datadog").unwrap().spans;
    let sent = sent.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
    sent.meta.remove("http.route");
    sent.resource = "GET".to_owned();
    world.span(0xb1).meta.remove("http.route");
    let found = world.findings().failures;
    let unnamed = found.iter().find(|one| one.rule == "unnamed-resource").unwrap();
    assert_eq!(unnamed.stage, Some(Stage::Collector));
    let removes = "a processor of the collector removes `http.route`, as it came to the collector";
    assert!(unnamed.detail.contains(removes), "{}", unnamed.detail);
}
