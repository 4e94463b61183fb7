//! Tests of spans that came otherwise than they were made: moved, renamed, below another parent.

use std::collections::BTreeMap;

use super::{MS, TRACE, World};
use crate::{
    case::Capability,
    finding::Stage,
    intake::decode::{SentSpan, TakenSpan},
    ledger::{CollectorEntry, Exported, Recorded},
    trace::{Span, SpanId, TraceId},
};

/// Takes the second hop's span out of its trace, and has it captured under another.
fn moved_to(world: &mut World, trace_id: TraceId, datadog_trace_id: u64) {
    let mut moved = world.span(0xb1).clone();
    world.remove(0xb1);
    (moved.trace_id, moved.datadog_trace_id) = (trace_id, datadog_trace_id);
    world.evidence.elsewhere.push(moved);
}

#[test]
fn a_span_that_was_captured_under_another_trace_is_not_called_lost() {
    let cases = [
        (
            TraceId(u128::from(TRACE.low())),
            TRACE.low(),
            "the upper 64 bits of its trace id are missing",
        ),
        (
            TraceId(TRACE.0 ^ (1 << 100)),
            TRACE.low(),
            "the upper 64 bits of its trace id are others",
        ),
        (TraceId(9), TRACE.low(), "its meta `otel.trace_id` names another trace"),
        (TraceId(9), 9, "gives spans another trace id, or puts traces together"),
    ];
    for (trace_id, datadog_trace_id, cause) in cases {
        let mut world = World::healthy();
        moved_to(&mut world, trace_id, datadog_trace_id);
        let (names, details) = world.failing();
        assert_eq!(names, ["missing-hop", "altered-span"]);
        assert!(!details.contains("lost"), "{details}");
        let reported = format!("they were captured under trace {trace_id}");
        assert!(details.contains(&reported) && details.contains(cause), "{cause}: {details}");
        let reported = format!("and it was captured under trace {trace_id}, as a span of `app-2`");
        assert!(details.contains(&reported), "{details}");
    }
}

#[test]
fn a_whole_trace_that_was_captured_under_another_id_is_named_and_not_called_lost() {
    let mut world = World::healthy();
    let spans = std::mem::take(world.spans());
    world.evidence.trace = None;
    world.evidence.elsewhere = spans;
    for span in &mut world.evidence.elsewhere {
        span.trace_id = TraceId(u128::from(TRACE.low()));
    }
    let (names, details) = world.failing();
    assert_eq!(names, ["no-trace", "altered-span"]);
    assert!(!details.contains("lost"), "{details}");
    assert!(details.contains("its spans were captured under trace 0000000000000000"), "{details}");
}

#[test]
fn a_span_below_another_parent_than_it_was_made_with_is_altered() {
    let mut world = World::healthy();
    world.span(0xb1).parent_id = Some(SpanId(0xa1));
    let (names, details) = world.failing();
    assert!(names.contains(&"altered-span".to_owned()), "{names:?}");
    assert!(
        details.contains(
            "below parent 00000000000000a2, and it was captured below parent 00000000000000a1"
        ),
        "{details}"
    );
}

#[test]
fn a_span_of_another_kind_than_it_was_made_with_is_altered_and_not_called_lost() {
    let mut world = World::healthy();
    world.span(0xb1).meta.insert("span.kind".to_owned(), "internal".to_owned());
    let (names, details) = world.failing();
    assert_eq!(names, ["missing-hop", "altered-span"]);
    assert!(!details.contains("lost"), "{details}");
    assert!(details.contains("and it was captured with the kind `internal`"), "{details}");
    assert!(details.contains("which was captured, and not as a server span of `app-2`"));
}

#[test]
fn a_span_that_was_captured_under_another_id_is_not_called_lost() {
    let mut world = World::healthy();
    world.span(0xa2).id = SpanId(0xa1);
    let (names, details) = world.failing();
    assert!(!names.iter().any(|name| name == "lost-span"), "{names:?}: {details}");
    assert!(details.contains("captured under the span id 00000000000000a1"), "{details}");
}

fn attributes() -> BTreeMap<String, String> {
    let of = [("http.route", "/pay"), ("url.query", "q")];
    of.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// A healthy world whose services report what was recorded, and whose collector shows what it took and sent.
pub(super) fn shown() -> World {
    let mut world = World::healthy();
    for span in world.spans() {
        span.meta.insert("http.route".to_owned(), "/pay".to_owned());
    }
    let spans: Vec<Span> = world.spans().clone();
    let nanos = |time: i64| u64::try_from(time).unwrap();
    for app in ["app-1", "app-2"] {
        for made in &mut world.ledger(app).spans {
            let span = spans.iter().find(|span| span.id == made.span_id).unwrap();
            made.recorded = Some(Recorded {
                start: nanos(span.start),
                end: nanos(span.end()),
                status: "unset".to_owned(),
                attributes: attributes(),
                events: 1,
                links: 1,
            });
        }
    }
    let taken = spans.iter().map(|span| TakenSpan {
        id: span.id,
        parent_id: span.parent_id,
        name: span.resource.clone(),
        kind: span.kind().to_owned(),
        start: nanos(span.start),
        end: nanos(span.end()),
        status: "unset".to_owned(),
        attributes: attributes().into_iter().map(|(key, value)| (key, Some(value))).collect(),
        events: 1,
        links: 1,
    });
    let sent = spans.iter().map(|span| SentSpan {
        id: span.id,
        parent_id: span.parent_id,
        service: span.service.clone(),
        name: span.name.clone(),
        resource: span.resource.clone(),
        span_type: span.span_type.clone(),
        error: span.error,
        start: span.start,
        duration: span.duration,
        meta: span.meta.clone(),
        metrics: span.metrics.clone(),
    });
    let count = spans.len() as u64;
    let exported = Exported { exported: count, spans: sent.collect(), ..Exported::default() };
    world.evidence.collector = Some(CollectorEntry {
        accepted: count,
        spans: taken.collect(),
        exporters: [("datadog".to_owned(), exported)].into(),
        ..CollectorEntry::default()
    });
    world
}

impl World {
    fn taken(&mut self, id: u64) -> &mut TakenSpan {
        let spans = &mut self.evidence.collector.as_mut().unwrap().spans;
        spans.iter_mut().find(|span| span.id == SpanId(id)).unwrap()
    }

    /// The only failure, with its stage.
    fn altered(&self) -> (String, Option<Stage>) {
        let failures = self.findings().failures;
        let [only] = failures.as_slice() else { panic!("{failures:?}") };
        assert_eq!((only.rule.as_str(), only.service.as_deref()), ("altered-span", Some("app-2")));
        assert!(only.changed.is_some());
        (only.detail.clone(), only.stage)
    }
}

#[test]
fn what_comes_as_it_was_made_and_sent_is_not_altered() {
    assert_eq!(shown().findings().failures, []);
}

#[test]
fn a_field_that_changes_before_the_collector_is_named_with_its_stage() {
    type Change = fn(&mut TakenSpan);
    let cases: [(Change, &str); 8] = [
        (|span| span.name = "x".to_owned(), "with the name `x` in place of `GET /work`"),
        (|span| span.end -= 1000, "with an end that is 0.000001 s earlier"),
        (|span| span.start -= 13_000_000, "with a start that is 0.013000 s earlier"),
        (|span| span.status = "ok".to_owned(), "with the status `ok` in place of `unset`"),
        (|span| _ = span.attributes.remove("url.query"), "without `url.query`"),
        (
            |span| _ = span.attributes.insert("http.route".to_owned(), Some("/p".to_owned())),
            "with `http.route` `/p` in place of `/pay`",
        ),
        (|span| span.events = 0, "with 0 of its 1 events"),
        (|span| span.links = 0, "with 0 of its 1 links"),
    ];
    for (change, expected) in cases {
        let mut world = shown();
        change(world.taken(0xb1));
        let (detail, stage) = world.altered();
        assert!(
            detail.contains(&format!(
                "came to the collector {expected}: something between `app-2` and the collector"
            )),
            "{detail}"
        );
        assert_eq!(stage, Some(Stage::BeforeCollector));
    }
}

#[test]
fn clocks_that_drift_and_what_is_added_alter_nothing() {
    let mut world = shown();
    let taken = world.taken(0xb1);
    taken.start -= 5_000_000;
    taken.attributes.insert("added.by".to_owned(), Some("a relay".to_owned()));
    taken.events = 2;
    world.span(0xb1).meta.insert("added.by".to_owned(), "a relay".to_owned());
    assert_eq!(world.findings().failures, []);
    let mut world = shown();
    let taken = world.taken(0xb1);
    (taken.start, taken.end) = (taken.start - 20_000_000, taken.end - 20_000_000);
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_processor_that_changes_spans_in_the_collector_alters_nothing() {
    let mut world = shown();
    for entry in world.evidence.collector.as_mut().unwrap().exporters.values_mut() {
        for span in &mut entry.spans {
            span.meta.insert("renamed".to_owned(), "x".to_owned());
            span.name = "other".to_owned();
        }
    }
    for span in world.spans() {
        span.meta.insert("renamed".to_owned(), "x".to_owned());
        span.name = "other".to_owned();
    }
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_field_that_changes_behind_the_collector_is_named_without_any_ledger_of_services() {
    type Change = fn(&mut Span);
    let cases: [(Change, &str); 7] = [
        (|span| span.span_type.clear(), "without the type, which was `web`"),
        (|span| span.name = "x".to_owned(), "with the operation name `x` in place of `op`"),
        (|span| span.resource = "GET /?".to_owned(), "with the resource name `GET /?`"),
        (|span| span.error = true, "captured as an error"),
        (|span| span.start += 13 * MS, "with a start that is 0.013000 s later"),
        (|span| span.duration /= 10, "with a duration of 0.004000 s in place of 0.040000 s"),
        (|span| _ = span.meta.remove("service.instance.id"), "without `service.instance.id`"),
    ];
    for (change, expected) in cases {
        let mut world = shown();
        world.span(0xb1).span_type = "web".to_owned();
        world.span(0xb1).name = "op".to_owned();
        for entry in world.evidence.collector.as_mut().unwrap().exporters.values_mut() {
            let sent = entry.spans.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
            (sent.span_type, sent.name) = ("web".to_owned(), "op".to_owned());
        }
        world.evidence.ledgers.clear();
        world.capabilities.retain(|one| *one != Capability::Ledger);
        // What a fault must leave has a rule of its own.
        world.shape.hops.clear();
        change(world.span(0xb1));
        let (detail, stage) = world.altered();
        assert!(detail.contains(expected), "{expected}: {detail}");
        assert!(detail.ends_with("something between the collector and Datadog changes it"));
        assert_eq!(stage, Some(Stage::BehindCollector));
    }
}

#[test]
fn a_parent_that_changes_is_placed_at_its_stage() {
    let stage = |world: &World| {
        let failures = world.findings().failures;
        failures.into_iter().find(|one| one.rule == "altered-span").unwrap().stage
    };
    let mut world = shown();
    world.span(0xb1).parent_id = Some(SpanId(0xa1));
    assert_eq!(stage(&world), Some(Stage::BehindCollector));
    world.taken(0xb1).parent_id = Some(SpanId(0xa1));
    assert_eq!(stage(&world), Some(Stage::BeforeCollector));
}

#[test]
fn spans_that_were_sent_and_lost_are_named_without_any_ledger_of_services() {
    let mut world = shown();
    world.evidence.ledgers.clear();
    world.capabilities.retain(|one| *one != Capability::Ledger);
    world.shape.hops.clear();
    world.remove(0xb1);
    let failures = world.findings().failures;
    let [only] = failures.as_slice() else { panic!("{failures:?}") };
    assert_eq!((only.rule.as_str(), only.service.as_deref()), ("undelivered-span", Some("app-2")));
    assert!(
        only.detail
            .contains(", without 1 span of `app-2` (`GET /work`, 00000000000000b1): something"),
        "{}",
        only.detail
    );
}

#[test]
fn a_kind_that_is_gone_is_altered_where_an_exporter_writes_every_kind() {
    let mut world = World::healthy();
    world.span(0xb1).meta.remove("span.kind");
    let (names, details) = world.failing();
    assert!(names.contains(&"altered-span".to_owned()), "{names:?}");
    assert!(details.contains("and it was captured without a kind"), "{details}");
    world.span(0xb1).meta.remove("otel.trace_id");
    assert!(!world.failing().1.contains("without a kind"), "{}", world.failing().1);
}
