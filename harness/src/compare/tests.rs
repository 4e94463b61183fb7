//! Tests of whole comparisons: a healthy record beside one that differs in its way.

use super::*;
use crate::{
    judge::testing::World,
    saved,
    strays::Nobodys,
    trace::{Span, SpanId, Trace},
};

/// Saves a record as a run of one system.
fn saved(record: &Record) -> (tempfile::TempDir, Vec<SavedSystem>) {
    let dir = tempfile::tempdir().unwrap();
    let system = dir.path().join("system-0");
    std::fs::create_dir(&system).unwrap();
    saved::testing::write(&system, &[record], &Nobodys::default());
    let systems = saved::read(dir.path()).unwrap();
    (dir, systems)
}

fn compared(a: &Record, b: &Record) -> Result<Comparison, CompareError> {
    let ((_dir_a, a), (_dir_b, b)) = (saved(a), saved(b));
    compare(("before", &a), ("after", &b))
}

/// Compares a healthy record with one whose spans are changed, and which has other ids and times.
fn changed(change: impl FnMut(&mut Vec<Span>)) -> Comparison {
    changed_from(|_| {}, change)
}

fn changed_from(
    first: impl FnOnce(&mut Vec<Span>),
    mut change: impl FnMut(&mut Vec<Span>),
) -> Comparison {
    let (mut a, mut b) = (World::healthy(), World::healthy());
    let spans = &mut a.evidence().trace.as_mut().unwrap().spans;
    first(spans);
    let id = TraceId(0x77);
    let mut spans: Vec<Span> = spans.clone();
    for span in &mut spans {
        span.trace_id = id;
        span.datadog_trace_id = id.low();
        span.id = SpanId(span.id.0 + 0x1000);
        span.parent_id = span.parent_id.map(|parent| SpanId(parent.0 + 0x1000));
        span.start += 5_000;
        span.duration += 77;
        span.meta.insert("otel.trace_id".to_owned(), id.to_string());
    }
    change(&mut spans);
    b.evidence().trace = Some(Trace::new(id, spans));
    b.case().trace_id = id;
    b.case().driver_span = SpanId(0x10d0);
    let mut all = compared(&a.record, &b.record).unwrap();
    // A changed trace may be judged otherwise, which is reported beside what differs.
    all.differences.retain(|one| one.kind != Kind::Verdict);
    all
}

fn titles(comparison: &Comparison) -> Vec<(&str, usize)> {
    comparison.differences.iter().map(|one| (one.title.as_str(), one.count)).collect()
}

fn set(span: &mut Span, key: &str, value: &str) {
    span.meta.insert(key.to_owned(), value.to_owned());
}

#[test]
fn ids_times_and_ports_are_no_difference() {
    let with_port = |port: &'static str| {
        move |spans: &mut Vec<Span>| {
            for span in spans {
                set(span, "http.url", &format!("http://127.0.0.1:{port}/work"));
                set(span, "service.instance.id", port);
                span.metrics.insert("server.port".to_owned(), port.parse().unwrap());
            }
        }
    };
    let all = changed_from(with_port("40001"), with_port("40002"));
    assert_eq!(titles(&all), []);
    // Nothing was captured by an intake in these records, so there are no stats.
    assert_eq!(all.pairs, 4);
    assert!(all.undecided[0].starts_with("APM stats were not compared"), "{:?}", all.undecided);
}

#[test]
fn what_hangs_on_how_a_trace_was_cut_into_payloads_is_no_difference() {
    let entry = |spans: &mut Vec<Span>, is_cut: bool| {
        for span in spans.iter_mut().filter(|span| span.service == "sample-app-1") {
            span.metrics.remove("_top_level");
            if span.kind() == "server" || is_cut {
                span.metrics.insert("_top_level".to_owned(), 1.0);
                set(span, "_dd.p.dm", "-9");
            }
        }
    };
    let together = move |spans: &mut Vec<Span>| entry(spans, false);
    let apart = move |spans: &mut Vec<Span>| {
        entry(spans, true);
        spans.iter_mut().filter(|span| span.kind() == "client").for_each(|span| span.attempt += 1);
    };
    assert_eq!(titles(&changed_from(together, apart)), []);
    let lost = move |spans: &mut Vec<Span>| entry(spans, true);
    let found = changed_from(together, lost);
    assert_eq!(titles(&found).len(), 2, "{:?}", titles(&found));
}

#[test]
fn one_cause_is_one_difference_with_what_it_means_and_the_worst_comes_first() {
    let url = |url: &'static str| {
        move |spans: &mut Vec<Span>| {
            for span in spans.iter_mut().filter(|span| span.kind() == "client") {
                set(span, "http.url", url);
            }
        }
    };
    let all = changed_from(url("http://shop/a?b=1"), |spans| {
        url("http://shop/a")(spans);
        for span in spans.iter_mut().filter(|span| span.kind() == "server") {
            span.resource = "POST /work".to_owned();
            span.meta.remove("http.method");
        }
    });
    assert_eq!(
        titles(&all),
        [
            ("`resource` is `POST /work` in B, not `GET /work`", 2),
            ("`http.url` without query in B", 2),
            ("`http.method` missing in B", 2),
        ]
    );
    let impacts: Vec<Impact> = all.differences.iter().map(|one| one.impact).collect();
    assert_eq!(impacts, [Impact::Monitors, Impact::Search, Impact::Search]);
    assert!(all.differences[0].meaning.contains("`resource_name`"));
    let example = &all.differences[1].examples[0];
    assert_eq!(example.a.as_deref(), Some("http://shop/a?b=1"));
    assert_eq!((example.trace_b, all.outcome), (Some(TraceId(0x77)), Outcome::Different));
}

#[test]
fn a_key_with_another_name_or_type_is_one_difference() {
    let all = changed(|spans| {
        for span in spans {
            let method = span.meta.remove("http.method").unwrap();
            set(span, "http.request.method", &method);
            let status = span.metrics.remove("http.status_code").unwrap();
            set(span, "http.status_code", &status.to_string());
        }
    });
    assert_eq!(
        titles(&all),
        [
            ("`http.status_code` is a text in B", 4),
            ("`http.method` is `http.request.method` in B", 4),
        ]
    );
    assert_eq!((all.differences[0].kind, all.differences[1].kind), (Kind::Retyped, Kind::Renamed));
}

#[test]
fn a_key_that_has_the_value_of_two_others_is_not_said_to_be_renamed() {
    let all = changed(|spans| {
        for span in spans {
            let method = span.meta.remove("http.method").unwrap();
            set(span, "http.request.method", &method);
            set(span, "verb", &method);
        }
    });
    let kinds: Vec<Kind> = all.differences.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Kind::FieldMissing, Kind::FieldAdded, Kind::FieldAdded], "{all:?}");
}

#[test]
fn a_span_that_is_lost_is_missing_and_what_was_below_it_hangs_elsewhere() {
    let all = changed(|spans| spans.retain(|span| span.id != SpanId(0x10a2)));
    assert_eq!(
        titles(&all),
        [
            ("no client span `http.client.request` of `sample-app-1` in B", 1),
            ("spans of `sample-app-2` below a span that was not captured in B", 1),
        ]
    );
    assert!(all.differences.iter().all(|one| one.impact == Impact::Data));
    let all = changed(|spans| spans.push(Span { start: 60, ..spans[3].clone() }));
    let expected = "server span `http.server.request` of `sample-app-2` more than once in B";
    assert_eq!(titles(&all), [(expected, 1)]);
}

#[test]
fn of_siblings_with_one_name_the_lost_one_is_found_by_what_it_called() {
    let calls = |paths: &'static [&'static str]| {
        move |spans: &mut Vec<Span>| {
            let like = spans.remove(2);
            spans.truncate(2);
            let parent = spans[1].id;
            for (number, path) in (0_u64..).zip(paths) {
                let mut span = like.clone();
                (span.id, span.parent_id) = (SpanId(0x5000 + number), Some(parent));
                span.start += i64::try_from(number).unwrap();
                set(&mut span, "http.url", &format!("http://shop/{path}"));
                spans.push(span);
            }
        }
    };
    let all = changed_from(calls(&["a", "b", "c"]), |spans| {
        spans.retain(|span| span.meta.get("http.url").is_none_or(|url| !url.ends_with("/a")));
    });
    assert_eq!(titles(&all), [("no client span `http.client.request` of `sample-app-1` in B", 1)]);
    let example = &all.differences[0].examples[0];
    assert_eq!((example.a.is_some(), example.b.is_none()), (true, true));
}

#[test]
fn a_value_of_the_service_is_never_taken_for_one_that_varies() {
    let repeated = |value: fn(u32) -> String, service: fn(u32) -> String| {
        let mut world = World::healthy();
        let first = world.record.cases[0].clone();
        for ordinal in 1..4 {
            let mut of = first.clone();
            of.case.ordinal = ordinal;
            world.record.cases.push(of);
        }
        for of in &mut world.record.cases {
            let ordinal = of.case.ordinal;
            let span = &mut of.evidence.trace.as_mut().unwrap().spans[3];
            set(span, "cart", &value(ordinal));
            span.service = service(ordinal);
        }
        world.record
    };
    let a = repeated(|n| format!("a{n}"), |n| format!("pay-{n}"));
    let b = repeated(|n| format!("b{n}"), |n| format!("bank-{n}"));
    let all = compared(&a, &b).unwrap();
    let fields: BTreeSet<&str> = all.differences.iter().map(|one| one.field.as_str()).collect();
    assert!(fields.contains("service") && !fields.contains("meta.cart"), "{fields:?}");
    assert!(all.notes[0].ends_with("meta.cart"), "{:?}", all.notes);
    // What is the same in one of them is another value in the other.
    let same = repeated(|_| "a".to_owned(), |_| "pay".to_owned());
    let all = compared(&same, &b).unwrap();
    assert!(all.differences.iter().any(|one| one.field == "meta.cart"), "{all:?}");
}

#[test]
fn runs_of_different_scenarios_are_refused_and_a_changed_scenario_is_undecided() {
    let (a, mut b) = (World::healthy(), World::healthy());
    b.record.scenario.name = "other".to_owned();
    let error = compared(&a.record, &b.record).unwrap_err().to_string();
    assert!(error.contains("A has `happy`, B has `other`"), "{error}");
    let mut b = World::healthy();
    b.record.scenario.requests[0].path = "/elsewhere".to_owned();
    let all = compared(&a.record, &b.record).unwrap();
    assert_eq!((all.outcome, all.differences.len(), all.pairs), (Outcome::Undecided, 0, 0));
    assert!(all.undecided[0].contains("its requests or faults were changed"));
}

#[test]
fn another_verdict_is_a_difference_with_its_reason() {
    let (a, mut b) = (World::healthy(), World::healthy());
    b.lose("sample-app-2");
    let all = compared(&a.record, &b.record).unwrap();
    assert_eq!(all.differences[0].title, "verdict pass in A, fail in B");
    let reason = all.differences[0].examples[0].b.as_deref().unwrap();
    assert!(reason.starts_with("fail: ") && reason.len() > 20, "{reason}");
}

#[test]
fn hostile_texts_are_bounded_and_shown_harmlessly() {
    let hostile = format!("</script>\u{1b}[2J\u{202e}{}", "x".repeat(30_000));
    let all = changed(|spans| spans[3].resource = hostile.clone());
    let value = all.differences[0].examples[0].b.as_deref().unwrap();
    assert!(value.ends_with("more characters are left out)"), "{}", &value[value.len() - 60..]);
    for verbose in [false, true] {
        let text = crate::report::compare::render(&all, verbose, 100);
        assert!(!text.contains(['\u{1b}', '\u{202e}']) && text.contains("␛[2J‹U+202E›"), "{text}");
        assert!(text.len() < 3_000, "{} bytes", text.len());
    }
}

#[test]
fn a_request_that_is_answered_otherwise_is_a_difference_of_its_own() {
    let (a, mut b) = (World::healthy(), World::healthy());
    b.case().outcome = crate::case::Outcome::Response { status: 503, trace_id: None };
    b.lose_all();
    let mut all = compared(&a.record, &b.record).unwrap();
    all.differences.retain(|one| one.kind != Kind::Verdict);
    assert_eq!(titles(&all), [("answered with status 503 in B, not status 200", 1)]);
}
