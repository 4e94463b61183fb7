//! Tests of the rules about faults, and how they show.

use super::{MS, World, altered::shown, at, span};
use crate::{
    finding::{Findings, Stage},
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

/// A world in which the second service failed, and its span had its status by so many of the points at which it is shown before.
fn unmarked_behind(points: usize) -> World {
    let (mut world, id) = (shown(), SpanId(0xb1));
    world.shape = World::with_faults(&[at("app-2", FaultKind::Status(503))], 0).shape;
    for id in [0xa1, 0xa2] {
        world.span(id).error = true;
    }
    let status = |has: bool| if has { "error" } else { "unset" }.to_owned();
    world.ledger("app-2").spans[0].recorded.as_mut().unwrap().status = status(points > 0);
    let entry = world.evidence.collector.as_mut().unwrap();
    entry.spans.iter_mut().find(|span| span.id == id).unwrap().status = status(points > 1);
    let sent = &mut entry.exporters.get_mut("datadog").unwrap().spans;
    sent.iter_mut().find(|span| span.id == id).unwrap().error = points > 2;
    world
}

#[test]
fn a_status_that_was_changed_behind_the_service_is_none_of_its_instrumentations() {
    for (points, stage, cause) in [
        (0, Stage::Service, "its instrumentation does not set the span's status"),
        (1, Stage::BeforeCollector, "something between `app-2` and the collector changes the"),
        (2, Stage::Collector, "a processor of the collector changes the span's status, as it came"),
        (3, Stage::BehindCollector, "something between the collector and Datadog changes the"),
    ] {
        let mut world = unmarked_behind(points);
        let reported = |world: &World| {
            let found = world.findings().failures.into_iter();
            let found = found.filter(|one| one.rule == "error-not-marked");
            let found: Vec<_> = found.collect();
            let [only] = &found[..] else { panic!("{points}: {found:#?}") };
            only.clone()
        };
        let found = reported(&world);
        assert!(found.detail.contains(cause) && found.stage == Some(stage), "{found:#?}");
        // By the answer alone, where a processor set the status that only code may mean.
        world.shape.hops.clear();
        let failed = world.span(0xb1);
        failed.metrics.insert("http.status_code".to_owned(), 503.0);
        if points > 0 {
            failed.meta.insert("otel.status_code".to_owned(), "Ok".to_owned());
        }
        let found = reported(&world);
        assert_eq!(found.stage, Some(stage), "{found:#?}");
        assert_eq!(found.detail.contains("instrumentation"), points == 0, "{found:#?}");
    }
}

#[test]
fn an_error_that_was_marked_behind_the_service_is_reported_with_its_stage() {
    let mut world = shown();
    world.span(0xb1).error = true;
    let entry = world.evidence.collector.as_mut().unwrap();
    let sent = &mut entry.exporters.get_mut("datadog").unwrap().spans;
    sent.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap().error = true;
    let found = world.findings().failures;
    let [only] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((&*only.rule, only.stage), ("error-not-injected", Some(Stage::Collector)));
    assert!(only.detail.contains("a processor of the collector changes"), "{}", only.detail);
}

#[test]
fn an_answers_status_that_the_collector_changed_is_not_put_down_to_its_service() {
    let mut world = shown();
    world.shape.hops.clear();
    world.topology.services[1].direct_callers = vec!["app-1".to_owned()];
    let status = "http.response.status_code".to_owned();
    world.span(0xa2).metrics.insert("http.status_code".to_owned(), 503.0);
    let entry = world.evidence.collector.as_mut().unwrap();
    let taken = entry.spans.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
    taken.attributes.insert(status, Some("503".to_owned()));
    let found = world.findings().failures;
    let disagrees = found.iter().find(|one| one.rule == "status-disagrees").unwrap();
    assert_eq!(disagrees.stage, Some(Stage::Collector));
    let cause = "a processor of the collector changes the status of the span, as it came to the collector with 503";
    assert!(disagrees.detail.ends_with(cause), "{}", disagrees.detail);
}
