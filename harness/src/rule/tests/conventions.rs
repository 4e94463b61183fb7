//! Attributes that the conventions ask for.

use super::{World, altered::shown, at, identity::own_services};
use crate::{finding::Stage, scenario::fault::FaultKind, trace::SpanId};

#[test]
fn a_span_of_the_chain_without_its_method_or_status_is_reported_with_its_service() {
    for (lost, reported) in
        [("http.method", "http.request.method"), ("http.status_code", "http.response.status_code")]
    {
        let mut world = World::healthy();
        let span = world.span(0xb1);
        span.meta.remove(lost);
        span.metrics.remove(lost);
        let found = world.findings().failures;
        let [only] = &found[..] else { panic!("{found:#?}") };
        assert_eq!((&*only.rule, only.service.as_deref()), ("missing-attributes", Some("app-2")));
        assert!(only.detail.contains(&format!("without `{reported}`")), "{}", only.detail);
    }
}

#[test]
fn what_was_made_to_fail_need_not_have_a_status_and_of_others_nothing_is_known() {
    let fault = at("app-2", FaultKind::Abort);
    let mut cut = World::with_faults(&[fault], 0);
    for id in [0xa1, 0xa2, 0xb1] {
        let span = cut.span(id);
        span.error = true;
        span.metrics.remove("http.status_code");
    }
    assert!(!cut.failing().0.contains(&"missing-attributes".to_owned()), "{:?}", cut.failing());
    let mut own = own_services();
    own.span(0xb1).meta.remove("http.method");
    own.span(0xb1).metrics.remove("http.status_code");
    let findings = own.findings();
    assert_eq!(findings.failures, []);
    let reported =
        findings.not_evaluated.iter().find(|one| one.rule == "missing-attributes").unwrap();
    assert!(
        !reported.required && reported.because.contains("ask for it in `expect`"),
        "{reported:?}"
    );
}

#[test]
fn what_the_collector_removes_of_a_request_is_reported_with_its_stage() {
    let removed = |key: &str| {
        let mut world = shown();
        world.shape.hops.clear();
        world.evidence.ledgers.clear();
        let entry = world.evidence.collector.as_mut().unwrap();
        let came = entry.spans.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
        came.attributes.insert(key.to_owned(), Some("200".to_owned()));
        let sent = &mut entry.exporters.get_mut("datadog").unwrap().spans;
        let sent = sent.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
        sent.metrics.remove("http.status_code");
        world.span(0xb1).metrics.remove("http.status_code");
        world.findings().failures
    };
    let found = removed("http.response.status_code");
    let [only] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((&*only.rule, only.service.as_deref()), ("missing-attributes", Some("app-2")));
    assert_eq!(only.stage, Some(Stage::Collector));
    // What did not come with it has not lost it there.
    assert_eq!(removed("status_code"), []);
}

/// A world in which a span was captured without its method, and came with it by so many of the points at which it is shown before.
fn lost_behind(points: usize) -> World {
    let (mut world, id) = (shown(), SpanId(0xb1));
    let of = |name: &str| (name.to_owned(), "GET".to_owned());
    world.span(0xb1).meta.remove("http.method");
    if points > 0 {
        let ended = world.ledger("app-2").spans[0].recorded.as_mut().unwrap();
        ended.attributes.extend([of("http.request.method")]);
    }
    let entry = world.evidence.collector.as_mut().unwrap();
    if points > 1 {
        let taken = entry.spans.iter_mut().find(|span| span.id == id).unwrap();
        taken.attributes.insert("http.request.method".to_owned(), Some("GET".to_owned()));
    }
    if points < 3 {
        let sent = &mut entry.exporters.get_mut("datadog").unwrap().spans;
        sent.iter_mut().find(|span| span.id == id).unwrap().meta.remove("http.method");
    }
    world
}

#[test]
fn who_removed_an_attribute_is_named_as_the_ledgers_show_and_nobody_before() {
    for (points, stage, cause) in [
        (0, Stage::Service, "`app-2` itself ended it without: a limit on attributes in the SDK"),
        (1, Stage::BeforeCollector, "something between `app-2` and the collector removes it"),
        (2, Stage::Collector, "a processor of the collector removes it, as it came to the coll"),
        (3, Stage::BehindCollector, "something between the collector and Datadog removes it"),
    ] {
        for has_shape in [true, false] {
            let mut world = lost_behind(points);
            if !has_shape {
                world.shape.hops.clear();
            }
            let found = world.findings().failures;
            let found = found.into_iter().filter(|one| one.rule == "missing-attributes");
            let found: Vec<_> = found.collect();
            let [only] = &found[..] else { panic!("{points}: {found:#?}") };
            let is_named = only.detail.contains(cause) || !has_shape && points == 2;
            assert!(is_named && only.stage == Some(stage), "{points}: {only:#?}");
            assert_eq!(only.detail.contains("in the SDK"), points == 0, "{}", only.detail);
        }
    }
}

#[test]
fn a_limit_on_attributes_is_named_where_it_is_set_and_reached() {
    for (most, is_named) in [(2, true), (128, false)] {
        let mut world = lost_behind(0);
        let setting = format!("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT={most}");
        world.topology.services[1].most_attributes = Some((setting.clone(), most));
        let span = world.span(0xb1);
        span.meta.insert("http.method".to_owned(), "GET".to_owned());
        span.meta.remove("http.route");
        span.metrics.remove("http.status_code");
        span.resource = "GET".to_owned();
        let ended = world.ledger("app-2").spans[0].recorded.as_mut().unwrap();
        ended.attributes.remove("http.route");
        ended.attributes.insert("a".to_owned(), "b".to_owned());
        let entry = world.evidence.collector.as_mut().unwrap();
        let taken = entry.spans.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
        taken.attributes.remove("http.route");
        taken.attributes.insert("a".to_owned(), Some("b".to_owned()));
        let sent = &mut entry.exporters.get_mut("datadog").unwrap().spans;
        let sent = sent.iter_mut().find(|span| span.id == SpanId(0xb1)).unwrap();
        sent.meta.remove("http.route");
        sent.metrics.remove("http.status_code");
        let found = world.findings().failures;
        for rule in ["missing-attributes", "unnamed-resource"] {
            let Some(one) = found.iter().find(|one| one.rule == rule) else {
                panic!("{rule}: {found:#?}")
            };
            assert_eq!(one.detail.contains(&setting), is_named, "{}", one.detail);
        }
    }
}
