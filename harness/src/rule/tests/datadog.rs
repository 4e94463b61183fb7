//! Tests of the rules about what Datadog's payloads carry.

use super::{MS, World, span};
use crate::finding::Findings;

#[test]
fn a_chunk_that_is_not_to_be_kept_is_reported_where_the_request_was_sampled() {
    for priority in [0, -1, -128] {
        let mut world = World::healthy();
        world.span(0xb1).priority = priority;
        let (names, details) = world.failing();
        assert_eq!(names, ["priority-lost"], "{priority}");
        assert!(details.contains("1 span of `app-2`"), "{details}");
    }
    let mut dropped = World::healthy();
    dropped.span(0xa1).dropped = true;
    assert_eq!(dropped.failing().0, ["priority-lost"]);
}

#[test]
fn a_priority_that_somebody_asked_for_is_not_lost() {
    let zero = || {
        let mut world = World::healthy();
        world.span(0xb1).priority = 0;
        world
    };
    for key in ["_dd.errors_sr", "sampling.priority", "_dd.span_sampling.mechanism"] {
        let mut world = zero();
        let value = if key == "sampling.priority" { 0.0 } else { 1.0 };
        world.span(0xb1).metrics.insert(key.to_owned(), value);
        assert_eq!(world.findings(), Findings::default(), "{key}");
    }
    // Of Datadog's own tracers.
    let mut tracer = zero();
    tracer.span(0xb1).meta.remove("otel.trace_id");
    assert_eq!(tracer.findings(), Findings::default());
    let mut kept_by_user = World::healthy();
    kept_by_user.span(0xb1).priority = 2;
    assert_eq!(kept_by_user.findings(), Findings::default());
}

#[test]
fn the_span_with_which_a_trace_enters_a_service_must_be_top_level() {
    let mut world = World::healthy();
    world.span(0xb1).metrics.remove("_top_level");
    let (names, details) = world.failing();
    assert_eq!(names, ["top-level-lost"]);
    assert!(details.contains("the trace enters `app-2`"), "{details}");
    // Those within a service are not, nor what other clients than an exporter send, nor one whose parent is not there.
    let mut within = World::healthy();
    within.span(0xb1).metrics.remove("_top_level");
    within.span(0xb1).meta.remove("otel.trace_id");
    assert_eq!(within.findings(), Findings::default());
    // Of two spans of one id, an exporter takes the one of the same service for the parent.
    let mut doubled = World::healthy();
    doubled.span(0xb1).metrics.remove("_top_level");
    let twin = span(0xa2, 0xb1, "app-2", "internal", 40 * MS, MS);
    doubled.spans().push(twin);
    let (names, details) = doubled.failing();
    assert!(names.contains(&"duplicate-span".to_owned()), "{details}");
    assert!(!names.contains(&"top-level-lost".to_owned()), "{details}");
    let mut orphan = World::healthy();
    orphan.span(0xb1).metrics.remove("_top_level");
    orphan.remove(0xa2);
    assert!(!orphan.failing().0.contains(&"top-level-lost".to_owned()));
}
