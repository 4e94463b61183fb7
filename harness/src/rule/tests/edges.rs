//! Tests of what stands below what where it is not known who calls whom.

use super::{MS, World, altered::shown, span};
use crate::{
    finding::{Failure, Stage},
    trace::{SpanId, TraceId},
};

/// A world in which it is not known who calls whom.
fn unknown() -> World {
    let mut world = World::healthy();
    world.shape.hops.clear();
    world.evidence.ledgers.clear();
    world
}

fn only(world: &World, contains: &str, service: &str) {
    let failures = world.findings().failures;
    let [only] = failures.as_slice() else { panic!("{failures:?}") };
    assert_eq!(
        (only.rule.as_str(), only.service.as_deref()),
        ("wrong-service-edge", Some(service))
    );
    assert!(only.detail.contains(contains), "{}", only.detail);
}

#[test]
fn a_server_span_within_another_of_its_process_is_instrumented_twice() {
    let mut world = unknown();
    let again = span(0xb2, 0xb1, "app-2", "server", 32 * MS, 30 * MS);
    world.spans().push(again);
    only(&world, "`app-2` is instrumented twice", "app-2");
    // A request of its own that it was sent through another port is another one.
    world.span(0xb2).resource = "GET /inner".to_owned();
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_call_beside_the_request_during_which_it_was_made_is_named() {
    let mut world = unknown();
    world.span(0xa2).parent_id = Some(SpanId(0xd0));
    // Below the harness's own span.
    only(&world, "`app-1` makes the call with the context that it was sent", "app-1");
    // Without a server span, it is one of a service that has none.
    let mut world = unknown();
    world.span(0xa2).parent_id = Some(SpanId(0xd0));
    world.remove(0xa1);
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_span_beside_the_server_span_of_its_process_was_begun_with_the_context_that_was_sent() {
    let mut world = unknown();
    let beside = span(0xb2, 0xa2, "app-2", "internal", 35 * MS, 10 * MS);
    world.spans().push(beside);
    only(&world, "`app-2` begins it with the context that it was sent", "app-2");
    // Below it, or when its server is not at work, nothing is wrong.
    world.span(0xb2).parent_id = Some(SpanId(0xb1));
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_call_of_kind_server_is_named() {
    let mut world = unknown();
    let meta = &mut world.span(0xa2).meta;
    meta.insert("span.kind".to_owned(), "server".to_owned());
    world.span(0xa2).resource = "call".to_owned();
    only(&world, "`app-1` makes its call with a span of the wrong kind", "app-1");
    // At the entry of a service whose client makes no spans, it is right.
    let mut world = unknown();
    world.remove(0xa2);
    world.span(0xb1).parent_id = Some(SpanId(0xa1));
    assert_eq!(world.findings().failures, []);
}

#[test]
fn spans_that_say_by_their_attributes_what_they_are_lost_their_kind() {
    let like_a_server = |world: &mut World, id: u64| {
        let meta = &mut world.span(id).meta;
        meta.insert("span.kind".to_owned(), "internal".to_owned());
        for (key, value) in
            [("http.method", "GET"), ("http.route", "/"), ("http.status_code", "200")]
        {
            meta.insert(key.to_owned(), value.to_owned());
        }
    };
    let mut world = unknown();
    like_a_server(&mut world, 0xb1);
    only(&world, "is by its attributes a server's", "app-2");
    let mut world = unknown();
    let meta = &mut world.span(0xa2).meta;
    meta.insert("span.kind".to_owned(), "internal".to_owned());
    meta.insert("http.method".to_owned(), "GET".to_owned());
    meta.insert("http.url".to_owned(), "http://app-2/".to_owned());
    only(&world, "is by its attributes a client's", "app-1");
    // What says nothing of itself may be anything, such as the work of a function that is called remotely.
    let mut world = unknown();
    world.span(0xb1).meta.insert("span.kind".to_owned(), "internal".to_owned());
    assert_eq!(world.findings().failures, []);
}

#[test]
fn two_services_that_have_one_anothers_names_are_found_by_the_addresses_that_callers_are_given() {
    let mut world = unknown();
    world.spans().extend([
        span(0xb2, 0xb1, "app-2", "client", 32 * MS, 30 * MS),
        span(0xc1, 0xb2, "app-3", "server", 34 * MS, 20 * MS),
    ]);
    let mut third = world.topology.services[1].clone();
    third.workload = "app-3".to_owned();
    third.service = Some("app-3".to_owned());
    third.meant = third.service.clone();
    world.topology.services.push(third);
    world.topology.services.iter_mut().for_each(|one| one.instances.clear());
    world.topology.services[0].callees = vec!["app-2".to_owned()];
    world.topology.services[1].callees = vec!["app-3".to_owned()];
    assert_eq!(world.findings().failures, []);
    for span in world.spans() {
        let other = match span.service.as_str() {
            "app-2" => "app-3",
            "app-3" => "app-2",
            _ => continue,
        };
        span.service = other.to_owned();
    }
    let (names, details) = world.failing();
    assert_eq!(names, ["wrong-service"], "{details}");
    assert!(
        details.contains("at the address of `app-2` answers as service `app-3`, and what is called at that of `app-3` as `app-2`"),
        "{details}"
    );
}

#[test]
fn who_sends_on_the_context_that_it_was_sent_is_named_by_the_addresses_that_services_are_given() {
    let mut world = unknown();
    // `app-3` is called by `app-2`, and hangs below the call of `app-1`.
    world.spans().extend([
        span(0xb2, 0xb1, "app-2", "client", 32 * MS, 30 * MS),
        span(0xc1, 0xa2, "app-3", "server", 34 * MS, 20 * MS),
    ]);
    let mut third = world.topology.services[1].clone();
    third.workload = "app-3".to_owned();
    third.service = Some("app-3".to_owned());
    third.meant = third.service.clone();
    third.instances.clear();
    world.topology.services.push(third);
    assert_eq!(world.findings().failures, []);
    world.topology.services[0].callees = vec!["app-2".to_owned()];
    world.topology.services[1].callees = vec!["app-3".to_owned()];
    let failures = world.findings().failures;
    let [only] = &failures[..] else { panic!("{failures:#?}") };
    assert_eq!((&*only.rule, only.service.as_deref()), ("wrong-service-edge", Some("app-2")));
    let hop = only.hop.as_ref().unwrap();
    assert_eq!((&*hop.caller, &*hop.callee), ("app-2", "app-3"));
    // One that may call both is sound.
    world.topology.services[0].callees.push("app-3".to_owned());
    assert_eq!(world.findings().failures, []);
}

#[test]
fn an_answer_below_a_call_that_asked_for_something_else_is_of_another_one() {
    /// Two calls of `app-1`, and the paths that the answers below them are of.
    fn called(paths: [&str; 2], is_direct: bool) -> World {
        let mut world = unknown();
        world.spans().extend([
            span(0xa3, 0xa1, "app-1", "client", 20 * MS, 60 * MS),
            span(0xb3, 0xa3, "app-2", "server", 30 * MS, 40 * MS),
        ]);
        for (id, path) in [(0xa2, "/orders/1"), (0xa3, "/orders/2")] {
            let url = format!("http://pay:8080{path}?now");
            world.span(id).meta.insert("http.url".to_owned(), url);
        }
        for (id, path) in [(0xb1, paths[0]), (0xb3, paths[1])] {
            world.span(id).meta.insert("url.path".to_owned(), path.to_owned());
        }
        if is_direct {
            world.topology.services[1].direct_callers = vec!["app-1".to_owned()];
        }
        world
    }
    let found = |paths, is_direct| {
        let failures = called(paths, is_direct).findings().failures;
        let edges = failures.iter().filter(|one| one.rule == "wrong-service-edge").count();
        let altered = failures.iter().filter(|one| one.rule == "altered-span").count();
        assert_eq!(edges + altered, failures.len(), "{failures:#?}");
        [edges, altered]
    };
    assert_eq!(found(["/orders/1", "/orders/2"], true), [0, 0]);
    assert_eq!(found(["/orders/2", "/orders/1"], true), [2, 0]);
    // Behind a proxy, what the other call asked for shows it, and another path may be a rewritten one.
    assert_eq!(found(["/orders/2", "/orders/1"], false), [2, 0]);
    assert_eq!(found(["/v2/one", "/v2/two"], false), [0, 0]);
    // What nobody asked for is of no other call.
    assert_eq!(found(["/v2/one", "/v2/two"], true), [0, 2]);
    // An app may know the rest of its path alone.
    assert_eq!(found(["/1", "/2"], true), [0, 0]);
}

/// A world in which a call asked for a path, and the answer below it is of another one.
fn answered(path: &str) -> World {
    let mut world = shown();
    world.shape = unknown().shape;
    world.topology.services[1].direct_callers = vec!["app-1".to_owned()];
    let url = "http://pay:8080/payments/1".to_owned();
    world.span(0xa2).meta.insert("http.url".to_owned(), url);
    world.span(0xb1).meta.insert("url.path".to_owned(), path.to_owned());
    world
}

/// The only failure of a world, but for what came to another rule's attention beside.
fn only_of(world: &World) -> Failure {
    let found = world.findings().failures;
    let [only] = &found[..] else { panic!("{found:#?}") };
    only.clone()
}

#[test]
fn contexts_are_mixed_up_only_where_another_call_fits_at_that_time() {
    let mut world = answered("/payments/2");
    let mut other = world.evidence.trace.clone().unwrap();
    other.id = TraceId(9);
    for span in &mut other.spans {
        (span.trace_id, span.id) = (TraceId(9), SpanId(span.id.0 | 0xf000));
    }
    let call = other.spans.iter_mut().find(|span| span.id == SpanId(0xf0a2)).unwrap();
    call.meta.insert("http.url".to_owned(), "http://pay:8080/payments/2".to_owned());
    let at = |start: i64| {
        let mut other = other.clone();
        for span in &mut other.spans {
            span.start += start;
        }
        vec![other]
    };
    // The other request's call is in progress at the same time as this one's.
    world.around = at(2 * MS);
    let only = only_of(&world);
    assert_eq!((&*only.rule, only.service.as_deref()), ("wrong-service-edge", Some("app-1")));
    let asked = format!("as the call 000000000000f0a2 of trace {} asked: calls that", TraceId(9));
    assert!(only.detail.contains(&asked), "{}", only.detail);
    // It begins once this one is over, and the answer with it.
    world.around = at(100 * MS);
    (world.span(0xb1).start, world.span(0xa2).error) = (140 * MS, true);
    let found = world.findings().failures;
    let edge = found.iter().find(|one| one.rule == "wrong-service-edge").unwrap();
    assert!(edge.detail.contains("in the context of an earlier one"), "{}", edge.detail);
    // No other was in progress when the answer began.
    let mut world = answered("/payments/2");
    world.around = at(500 * MS);
    let only = only_of(&world);
    assert_eq!(&*only.rule, "altered-span");
    assert!(!only.detail.contains("context"), "{}", only.detail);
}

#[test]
fn a_path_that_was_cut_or_hashed_is_altered_and_who_did_it_named_as_far_as_known() {
    let mut world = answered("/payment");
    let only = only_of(&world);
    assert_eq!((&*only.rule, only.service.as_deref()), ("altered-span", Some("app-2")));
    assert!(only.detail.contains("a limit on the length of values"), "{}", only.detail);
    for (longest, is_it) in [(8, true), (9, false)] {
        let setting = format!("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT={longest}");
        world.topology.services[1].longest_value = Some((setting.clone(), longest));
        let only = only_of(&world);
        assert_eq!(only.detail.contains(&setting), is_it, "{}", only.detail);
        assert_eq!(only.stage, is_it.then_some(Stage::Service));
    }
    let mut world = answered("f3d8942a");
    let entry = world.evidence.collector.as_mut().unwrap();
    let taken = entry.spans.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
    taken.attributes.insert("url.path".to_owned(), Some("/payments/1".to_owned()));
    let sent = &mut entry.exporters.get_mut("datadog").unwrap().spans;
    let sent = sent.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
    sent.meta.insert("url.path".to_owned(), "f3d8942a".to_owned());
    let only = only_of(&world);
    assert_eq!((&*only.rule, only.stage), ("altered-span", Some(Stage::Collector)));
    let cause = "a processor of the collector changes the path, as it came to the collector with `/payments/1`";
    assert!(only.detail.ends_with(cause), "{}", only.detail);
}

#[test]
fn unusual_traces_that_are_sound_trip_no_rule() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 6] = [
        ("a redirect: two calls of one request", |world| {
            let mut first = span(0xa3, 0xa1, "app-1", "client", 12 * MS, 5 * MS);
            first.metrics.insert("http.status_code".to_owned(), 302.0);
            world.spans().push(first);
        }),
        ("a proxy that makes a server's and a client's span", |world| {
            world.span(0xb1).parent_id = Some(SpanId(0xc2));
            world.spans().extend([
                span(0xc1, 0xa2, "proxy", "server", 22 * MS, 50 * MS),
                span(0xc2, 0xc1, "proxy", "client", 23 * MS, 48 * MS),
            ]);
        }),
        ("a stream that goes on behind the answer", |world| {
            world.span(0xb1).duration = 400 * MS;
        }),
        ("work in the background, and calls that it makes", |world| {
            world.spans().extend([
                span(0xb2, 0xb1, "app-2", "internal", 60 * MS, 300 * MS),
                span(0xb3, 0xb2, "app-2", "client", 200 * MS, 50 * MS),
            ]);
        }),
        ("a service that is called and makes no server span", |world| {
            world.remove(0xb1);
            world.spans().push(span(0xb2, 0xa2, "app-2", "client", 30 * MS, 10 * MS));
        }),
        ("a request that a service sends to itself", |world| {
            world.spans().extend([
                span(0xb2, 0xb1, "app-2", "client", 32 * MS, 10 * MS),
                span(0xb3, 0xb2, "app-2", "server", 33 * MS, 8 * MS),
            ]);
        }),
    ];
    for (what, change) in cases {
        let mut world = unknown();
        change(&mut world);
        assert_eq!(world.findings().failures, [], "{what}");
    }
}
