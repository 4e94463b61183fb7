//! Tests of the rules about times.

use super::{MS, World};
use crate::{
    finding::{Findings, Stage},
    intake::decode::TakenSpan,
    ledger::CollectorEntry,
    trace::{Span, SpanId},
};

#[test]
fn a_child_may_end_late_but_not_begin_outside_its_parent() {
    let mut late_end = World::healthy();
    late_end.span(0xb1).duration = 500 * MS;
    assert_eq!(late_end.findings(), Findings::default());
    let mut early = World::healthy();
    early.span(0xb1).start = 7 * MS;
    assert_eq!(early.failing().0, ["child-outside-parent"]);
    let mut late = World::healthy();
    late.span(0xb1).start = 93 * MS;
    assert_eq!(late.failing().0, ["child-outside-parent"]);
    late.span(0xb1).hostname = "other".to_owned();
    assert_eq!(late.findings(), Findings::default());
}

#[test]
fn clocks_of_two_processes_may_drift_by_ten_milliseconds_and_that_of_one_may_not() {
    for start in [10 * MS, 90 * MS] {
        let mut drifted = World::healthy();
        drifted.span(0xb1).start = start;
        assert_eq!(drifted.findings(), Findings::default());
    }
    let mut own = World::healthy();
    own.span(0xa2).start = 5 * MS;
    assert_eq!(own.failing().0, ["child-outside-parent"]);
}

/// A healthy world on the time axis, `sent` after the epoch.
fn dated(sent: i64) -> World {
    let mut world = World::healthy();
    world.case.sent_at = sent;
    world.case.ended_at = sent + 100 * MS;
    for span in world.spans() {
        span.start += sent;
    }
    world
}

const MINUTE: i64 = 60_000 * MS;

#[test]
fn a_span_that_ends_after_it_was_captured_is_reported() {
    let mut world = dated(NOW);
    world.span(0xb1).duration = 60 * MINUTE;
    let (names, details) = world.failing();
    assert_eq!(names, ["outside-request"], "{details}");
    assert!(details.contains("ended 59m 59s after the request was answered"), "{details}");
    assert!(details.contains("its duration, is of another unit"), "{details}");
}

const NOW: i64 = 1_790_000_000_000 * MS;

#[test]
fn a_span_of_another_day_is_reported_whichever_host_it_says_it_is_of() {
    for (shift, cause) in [
        (-24 * 60 * MINUTE, "a day is wrong"),
        (60 * MINUTE, "a local time was taken for UTC"),
        (-5 * 24 * 60 * MINUTE, "its clock is wrong"),
        (-NOW, "its times are not set"),
        (NOW / 1000 - NOW, "its times are microseconds where nanoseconds are meant"),
    ] {
        let mut world = dated(NOW);
        world.span(0xb1).start += shift;
        world.span(0xb1).hostname = "other".to_owned();
        let (names, details) = world.failing();
        assert_eq!(names, ["outside-request"], "{shift}");
        assert!(details.contains("1 span of `app-2`") && details.contains(cause), "{details}");
    }
}

#[test]
fn clocks_minutes_apart_and_work_after_the_answer_are_no_other_time() {
    for shift in [-10 * MINUTE, 10 * MINUTE] {
        let mut world = dated(NOW);
        world.span(0xb1).start += shift;
        world.span(0xb1).hostname = "other".to_owned();
        assert_eq!(world.findings(), Findings::default());
    }
}

#[test]
fn work_that_takes_no_time_is_reported_where_the_clock_is_fine_enough() {
    let world = |start: i64, kind: &str| {
        let mut world = World::healthy();
        let span = world.span(0xb1);
        (span.start, span.duration) = (start, 0);
        span.meta.insert("span.kind".to_owned(), kind.to_owned());
        world.failing().0
    };
    assert_eq!(world(30 * MS + 1, "server"), ["no-duration"]);
    // A clock of milliseconds, or of microseconds.
    assert_eq!(world(30 * MS, "server"), [""; 0]);
    assert_eq!(world(30 * MS + 7000, "server"), [""; 0]);
    assert!(!world(30 * MS + 1, "internal").contains(&"no-duration".to_owned()));
}

#[test]
fn a_start_that_an_exporter_replaced_is_found_by_what_came_to_the_collector() {
    let mut world = dated(NOW);
    world.evidence.ledgers.clear();
    world.shape.hops.clear();
    let nanos = |time: i64| u64::try_from(time).unwrap();
    let taken = |span: &Span, start: i64| TakenSpan {
        id: span.id,
        parent_id: span.parent_id,
        name: span.resource.clone(),
        kind: span.kind().to_owned(),
        start: nanos(start),
        end: nanos(start + span.duration),
        status: "unset".to_owned(),
        attributes: Default::default(),
        events: 0,
        links: 0,
    };
    let spans: Vec<TakenSpan> = world.spans().iter().map(|span| taken(span, span.start)).collect();
    world.evidence.collector =
        Some(CollectorEntry { accepted: 4, spans, ..CollectorEntry::default() });
    let found = |world: &World| {
        let failures = world.findings().failures.into_iter();
        failures.filter(|one| one.rule == "outside-request").collect::<Vec<_>>()
    };
    assert_eq!(found(&world), []);
    let spans = &mut world.evidence.collector.as_mut().unwrap().spans;
    let one = spans.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
    one.start /= 1_000_000;
    let failures = found(&world);
    let [only] = &failures[..] else { panic!("{failures:#?}") };
    assert_eq!(
        (only.service.as_deref(), only.stage),
        (Some("app-2"), Some(Stage::BeforeCollector))
    );
    let cause = "its times are milliseconds where nanoseconds are meant";
    assert!(only.detail.contains(cause), "{}", only.detail);
}
