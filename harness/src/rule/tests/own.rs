//! Tests of the rules on services of which nothing else is known.

use super::{MS, World, span};
use crate::{case::Outcome, trace::SpanId};

/// Services of a system file whose calls are not known.
fn own() -> World {
    let mut world = World::healthy();
    world.shape.hops.clear();
    world.evidence.ledgers.clear();
    world
}

/// The rule, the service and the detail of the only finding.
fn only(change: impl FnOnce(&mut World)) -> (String, Option<String>, String) {
    let mut world = own();
    change(&mut world);
    let failures = world.findings().failures;
    let [only] = failures.as_slice() else { panic!("{failures:#?}") };
    (only.rule.clone(), only.service.clone(), only.detail.clone())
}

fn set(world: &mut World, id: u64, pairs: &[(&str, &str)]) {
    let meta = &mut world.span(id).meta;
    meta.extend(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
}

const ANSWER: [(&str, &str); 2] = [("http.route", "/"), ("http.status_code", "200")];
const CALL: [(&str, &str); 3] =
    [("rpc.system", "grpc"), ("rpc.service", "Prices"), ("rpc.method", "Get")];

#[test]
fn an_answer_of_any_other_kind_is_reported() {
    for kind in ["client", "consumer", "unspecified", ""] {
        let (rule, service, detail) = only(|world| {
            set(world, 0xb1, &ANSWER);
            set(world, 0xb1, &[("span.kind", kind)]);
        });
        assert_eq!((&*rule, service.as_deref()), ("wrong-service-edge", Some("app-2")), "{kind}");
        assert!(detail.contains("by its attributes a server's"), "{detail}");
    }
    let (rule, _, detail) = only(|world| {
        set(world, 0xa2, &[("rpc.system.name", "grpc"), ("rpc.method", "Prices/Get")]);
        set(world, 0xb1, &CALL);
        set(world, 0xb1, &[("span.kind", "internal")]);
    });
    assert_eq!(rule, "wrong-service-edge", "{detail}");
    // A client of another procedure is one whose server makes no spans.
    let mut world = own();
    set(&mut world, 0xa2, &CALL);
    set(&mut world, 0xb1, &CALL);
    set(&mut world, 0xb1, &[("span.kind", "client"), ("rpc.method", "Put")]);
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_service_that_sends_on_the_context_that_it_was_sent_is_named() {
    let (rule, service, detail) = only(|world| world.span(0xb1).parent_id = Some(SpanId(0xd0)));
    assert_eq!((&*rule, service.as_deref()), ("wrong-service-edge", Some("app-1")));
    assert!(detail.contains("which was sent to `app-1`, not to `app-2`"), "{detail}");
    // A redirect leads the harness there itself.
    let mut world = own();
    world.span(0xb1).parent_id = Some(SpanId(0xd0));
    world.span(0xa1).metrics.insert("http.status_code".to_owned(), 307.0);
    assert_eq!(world.findings().failures, []);
}

#[test]
fn copies_under_other_ids_are_reported_and_short_spans_of_a_coarse_clock_are_none() {
    let copied = |world: &mut World, start: i64, duration: i64| {
        for id in [0xc1, 0xc2] {
            world.spans().push(span(id, 0xb1, "app-2", "internal", start, duration));
        }
    };
    let (rule, service, detail) = only(|world| copied(world, 35 * MS + 1, 2 * MS));
    assert_eq!((&*rule, service.as_deref()), ("duplicate-span", Some("app-2")));
    assert!(detail.contains("came under 2 ids (00000000000000c1, 00000000000000c2)"), "{detail}");
    for (start, duration) in [(35 * MS, 2 * MS), (35 * MS + 1, 50_000)] {
        let mut world = own();
        copied(&mut world, start, duration);
        assert_eq!(world.findings().failures, [], "{start} {duration}");
    }
}

#[test]
fn a_mark_and_a_status_that_contradict_each_other_are_reported() {
    let (rule, _, detail) = only(|world| {
        set(world, 0xb1, &[("otel.status_code", "Unset")]);
        world.span(0xb1).error = true;
    });
    assert_eq!(rule, "error-not-injected");
    assert!(
        detail.contains("marked as an error, and was ended with the status `Unset`"),
        "{detail}"
    );
    let (rule, ..) = only(|world| set(world, 0xb1, &[("otel.status_code", "Error")]));
    assert_eq!(rule, "error-not-marked");
    let mut world = own();
    set(&mut world, 0xb1, &[("otel.status_code", "Error")]);
    world.span(0xb1).error = true;
    assert_eq!(world.findings().failures, []);
}

#[test]
fn an_answer_with_a_status_and_without_a_method_lost_it() {
    let (rule, service, detail) = only(|world| {
        world.span(0xb1).meta.remove("http.method");
    });
    assert_eq!((&*rule, service.as_deref()), ("missing-attributes", Some("app-2")));
    assert!(detail.contains("without `http.request.method`"), "{detail}");
}

#[test]
fn a_root_that_came_twice_is_one() {
    let (rule, _, detail) = only(|world| {
        world.span(0xa1).parent_id = None;
        world.case.context_sent = false;
        world.case.driver_exported = false;
        world.remove(0xd0);
        let again = world.span(0xa1).clone();
        world.spans().push(again);
    });
    assert_eq!(rule, "duplicate-span");
    assert!(detail.contains("it is in one payload twice"), "{detail}");
}

#[test]
fn both_ends_of_a_call_report_one_status() {
    /// The spans of a call, and who reaches `app-2` straight.
    fn called(world: &mut World, got: f64, given: f64, direct: &[&str]) {
        let status = "http.status_code".to_owned();
        world.span(0xa2).metrics.insert(status.clone(), got);
        world.span(0xb1).metrics.insert(status, given);
        for id in [0xa2, 0xb1] {
            let span = world.span(id);
            span.error = span.http_status().is_some_and(|status| status >= 500);
        }
        world.topology.services[1].direct_callers =
            direct.iter().map(|name| (*name).to_owned()).collect();
    }
    let (rule, service, detail) = only(|world| called(world, 503.0, 200.0, &["app-1"]));
    assert_eq!((rule.as_str(), service.as_deref()), ("status-disagrees", Some("app-2")));
    assert!(detail.contains("says that it answered 200, and `GET` (client, app-1"), "{detail}");
    let (rule, service, _) = only(|world| called(world, 200.0, 404.0, &["app-1"]));
    assert_eq!((rule.as_str(), service.as_deref()), ("status-disagrees", Some("app-1")));
    // What may differ: behind a proxy, from a cache, by tries within one call, and what is no failure.
    let sound = |got, given, direct: &[&str], tries: bool| {
        let mut world = own();
        called(&mut world, got, given, direct);
        if tries {
            let first = span(0xb0, 0xa2, "app-2", "server", 25 * MS, 2 * MS);
            world.spans().push(first);
        }
        world.findings().failures
    };
    for (got, given, direct, tries) in [
        (503.0, 200.0, [].as_slice(), false),
        (503.0, 200.0, &["other"], false),
        (503.0, 200.0, &["app-1"], true),
        (404.0, 304.0, &["app-1"], false),
        (503.0, 499.0, &["app-1"], false),
        (200.0, 201.0, &["app-1"], false),
        (404.0, 404.0, &["app-1"], false),
    ] {
        assert_eq!(sound(got, given, direct, tries), [], "{got} {given} {direct:?} {tries}");
    }
}

#[test]
fn the_harness_knows_what_the_entry_answered() {
    let (rule, service, detail) = only(|world| {
        world.case.outcome = Outcome::Response { status: 503, trace_id: Some(world.case.trace_id) };
        world.topology.services[0].direct_callers = vec!["tracecheck".to_owned()];
    });
    assert_eq!((rule.as_str(), service.as_deref()), ("status-disagrees", Some("app-1")));
    assert!(detail.contains("and the harness, whose call that was, got 503"), "{detail}");
}
