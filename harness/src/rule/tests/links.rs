//! Tests of the rules about how spans hang together.

use super::{MS, World, span};
use crate::{
    case::Shape,
    finding::Findings,
    trace::{Span, SpanId, Trace, TraceId},
};

#[test]
fn a_missing_client_span_leaves_an_orphan_and_is_lost() {
    let mut world = World::healthy();
    world.remove(0xa2);
    let (names, details) = world.failing();
    assert_eq!(names, ["orphan-span", "lost-span"]);
    assert!(details.contains("not captured: `app-1` ended it, and it did not arrive"), "{details}");
}

#[test]
fn the_harness_span_that_was_not_exported_is_a_virtual_parent() {
    let mut world = World::healthy();
    world.remove(0xd0);
    world.case.driver_exported = false;
    assert_eq!(world.findings(), Findings::default());
    world.case.driver_exported = true;
    assert_eq!(world.failing().0, ["lost-span"]);
}

#[test]
fn a_second_root_is_reported() {
    let mut world = World::healthy();
    world.made_below(0xb1, None);
    assert_eq!(world.failing().0, ["several-roots"]);
}

#[test]
fn a_cycle_is_reported_once() {
    let mut world = World::healthy();
    world.span(0xa1).parent_id = Some(SpanId(0xb1));
    world.span(0xa1).meta.insert("span.kind".to_owned(), "internal".to_owned());
    world.shape = Shape::default();
    let failures = world.findings().failures;
    let cycles: Vec<_> = failures.iter().filter(|failure| failure.rule == "parent-cycle").collect();
    assert_eq!(cycles.len(), 1, "{failures:?}");
    let reported = &cycles[0].detail;
    assert!(reported.contains("(server, app-2, 00000000000000b1)"), "{reported}");
    assert!(reported.contains("`app-1` and `app-2` make span ids themselves"), "{reported}");
}

#[test]
fn a_span_that_came_twice_is_a_duplicate() {
    let mut world = World::healthy();
    let again = Span { attempt: 2, ..world.span(0xb1).clone() };
    world.spans().push(again);
    let (names, details) = world.failing();
    assert_eq!(names, ["duplicate-span"]);
    assert!(details.contains("in attempts #1, #2"), "{details}");
}

#[test]
fn a_server_span_below_a_server_span_is_a_wrong_edge() {
    let mut world = World::healthy();
    world.made_below(0xb1, Some(SpanId(0xa1)));
    assert_eq!(world.failing().0, ["wrong-service-edge"]);
}

#[test]
fn a_hop_called_by_the_wrong_service_is_a_wrong_edge() {
    let mut world = World::healthy();
    world.made_below(0xb1, Some(SpanId(0xd0)));
    assert_eq!(world.failing().0, ["wrong-service-edge"]);
}

#[test]
fn disagreeing_id_halves_are_reported() {
    let mut low = World::healthy();
    low.span(0xb1).datadog_trace_id = 1;
    assert_eq!(low.failing().0, ["trace-id-halves-disagree"]);
    let mut high = World::healthy();
    high.span(0xb1).meta.insert("_dd.p.tid".to_owned(), "0000000000000001".to_owned());
    assert_eq!(high.failing().0, ["trace-id-halves-disagree"]);
}

#[test]
fn a_parent_that_nobody_made_is_reported_with_the_call_that_nobody_answers() {
    let mut world = World::healthy();
    world.made_below(0xb1, Some(SpanId(0xee)));
    for ledgers in [true, false] {
        if !ledgers {
            world.evidence.ledgers.clear();
            world.shape = Shape::default();
        }
        let failures = world.findings().failures;
        let orphan = failures.iter().find(|failure| failure.rule == "orphan-span").unwrap();
        let hop = orphan.hop.as_ref().unwrap();
        assert_eq!((&*hop.caller, &*hop.callee), ("app-1", "app-2"));
        assert!(
            orphan
                .detail
                .contains("no span answers the call `GET` (client, app-1, 00000000000000a2)")
                && !orphan.detail.contains("lost"),
            "{}",
            orphan.detail
        );
    }
}

/// A world in which these spans are off by so many milliseconds, and one of another request in which they are by as many as said.
fn off(ids: &[u64], by: i64, other: Option<i64>) -> World {
    let shifted = |by: i64| {
        let mut world = World::healthy();
        for id in ids {
            world.span(*id).start += by * MS;
        }
        world
    };
    let mut world = shifted(by);
    world.around = other.into_iter().map(|by| another(shifted(by))).collect();
    world
}

/// The trace of a world as that of another request.
fn another(mut world: World) -> Trace {
    let mut trace = world.evidence.trace.take().unwrap();
    trace.id = TraceId(9);
    trace.spans.iter_mut().for_each(|span| span.trace_id = TraceId(9));
    trace
}

#[test]
fn a_clock_is_named_alone_where_all_requests_show_it_off_by_the_same() {
    let reported = |world: &World| {
        let found = world.findings().failures;
        assert!(!found.is_empty() && found.iter().all(|one| one.rule == "child-outside-parent"));
        found
    };
    for (by, apart) in [(-100, "100 ms behind"), (1_500, "1.5 s ahead")] {
        let found = reported(&off(&[0xb1], by, Some(by)));
        let [only] = &found[..] else { panic!("{found:#?}") };
        let cause = format!(
            "the clock of `app-2` is {apart}, by which its spans are off in each of the 2 traces that have both"
        );
        assert_eq!((only.cause.as_ref(), only.service.as_deref()), (Some(&cause), Some("app-2")));
        // By one request it is one cause of several, and so where another one says otherwise.
        for other in [None, Some(0), Some(3 * by)] {
            let found = reported(&off(&[0xb1], by, other));
            assert!(found[0].detail.contains(", or the "), "{other:?}: {found:#?}");
        }
    }
    // The one of both whose other calls are off as well.
    let found = reported(&off(&[0xa1, 0xa2], -100, Some(-100)));
    assert_eq!(found.len(), 2, "{found:#?}");
    for one in found {
        assert!(one.detail.contains("the clock of `app-1` is 100 ms behind"), "{}", one.detail);
        assert_eq!(one.service.as_deref(), Some("app-1"));
    }
    // An answer that outlasts its call in all of them is none of a clock's.
    let mut early = off(&[0xb1], 0, Some(0));
    for span in early.spans().iter_mut().filter(|span| span.id == SpanId(0xa2)) {
        span.duration = 1;
        span.start -= 8 * MS;
    }
    let mut trace = early.evidence.trace.clone().unwrap();
    trace.id = TraceId(9);
    early.around = vec![trace];
    let found = reported(&early);
    assert!(found[0].detail.contains("that client span was ended too early"), "{found:#?}");
}

#[test]
fn a_clock_that_was_set_back_is_named_where_another_request_is_off_by_as_much() {
    let set_back = || {
        let mut world = World::healthy();
        let write = span(0xb2, 0xb1, "app-2", "internal", 40 * MS - 3_000 * MS, MS);
        world.spans().push(write);
        world.evidence.ledgers.clear();
        world
    };
    let cause = |world: &World| {
        let found = world.findings().failures;
        let [only] = &found[..] else { panic!("{found:#?}") };
        only.cause.clone().unwrap()
    };
    let mut world = set_back();
    assert_eq!(
        cause(&world),
        "both are of one process: its start is set by hand or is that of something else, the clock was set back in between, or the parent is wrong"
    );
    let mut after = World::healthy();
    let answer = after.span(0xb1);
    (answer.start, answer.duration) = (answer.start - 3_000 * MS, 3_000 * MS);
    world.around = vec![another(after)];
    assert!(cause(&world).starts_with("the clock of `app-2` was set back by 3.0 s"));
    // Seen from the other one.
    let mut after = World::healthy();
    let answer = after.span(0xb1);
    (answer.start, answer.duration) = (answer.start - 3_000 * MS, 3_000 * MS);
    after.around = vec![another(set_back())];
    assert!(cause(&after).starts_with("the clock of `app-2` was set back by 3.0 s"));
}
