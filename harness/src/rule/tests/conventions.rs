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
