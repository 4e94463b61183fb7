//! Tests of the rules about how spans hang together.

use super::World;
use crate::{
    case::Shape,
    finding::Findings,
    trace::{Span, SpanId},
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
