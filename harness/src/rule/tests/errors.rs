//! Tests of the rules about faults, and how they show.

use super::{MS, World, at, span};
use crate::{
    finding::Findings,
    ledger::LedgerSpan,
    scenario::fault::{Fault, FaultKind},
    trace::{Span, SpanId},
};

#[test]
fn a_fault_must_be_marked_where_it_fails_and_above() {
    let mut world = World::with_faults(&[at("app-2", FaultKind::Status(503))], 0);
    assert_eq!(world.findings().failures.len(), 3, "{:?}", world.failing());
    for id in [0xa1, 0xa2, 0xb1] {
        world.span(id).error = true;
    }
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn an_error_without_a_fault_is_reported_with_its_message() {
    let mut world = World::healthy();
    world.span(0xb1).error = true;
    world.span(0xb1).meta.insert("error.msg".to_owned(), "disk full".to_owned());
    let (names, details) = world.failing();
    assert_eq!(names, ["error-not-injected"]);
    assert!(details.contains("disk full"), "{details}");
}

#[test]
fn a_delay_and_a_failed_try_must_show() {
    let slow = World::with_faults(
        &[at("app-2", FaultKind::Delay(std::time::Duration::from_millis(50)))],
        0,
    );
    assert_eq!(slow.failing().0, ["fault-without-effect"]);
    let retried = Fault { first: Some(1), ..at("app-2", FaultKind::Status(503)) };
    let mut world = World::with_faults(&[retried], 1);
    assert_eq!(world.failing().0, ["fault-without-effect"]);
    let first_try = Span { error: true, ..span(0xa3, 0xa1, "app-1", "client", 12 * MS, 5 * MS) };
    world.spans().insert(2, first_try);
    world.ledger("app-1").spans.push(LedgerSpan {
        span_id: SpanId(0xa3),
        parent_span_id: Some(SpanId(0xa1)),
        name: "GET".to_owned(),
        kind: "client".to_owned(),
        sampled: true,
        parent_sampled: None,
        recorded: None,
    });
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn who_answers_5xx_without_a_mark_is_named_where_nothing_is_known_of_faults() {
    let mut world = World::healthy();
    world.shape.hops.clear();
    world.evidence.ledgers.clear();
    let answer = |world: &mut World, status: f64| {
        _ = world.span(0xb1).metrics.insert("http.status_code".to_owned(), status);
    };
    answer(&mut world, 404.0);
    assert_eq!(world.findings().failures, []);
    answer(&mut world, 503.0);
    let (names, details) = world.failing();
    assert_eq!(names, ["error-not-marked"]);
    assert!(details.contains("answered 503, and is not marked as an error"), "{details}");
    world.span(0xb1).meta.insert("otel.status_code".to_owned(), "Ok".to_owned());
    assert_eq!(world.findings().failures, []);
}
