//! Strays and linked traces beside those of requests.

use super::*;

#[test]
fn a_stray_fails_the_request_that_it_belongs_to_and_no_other() {
    let own = judged(|world| world.stray("sample-app-2"));
    expect(&own, Fail, "stray-trace");
    let anothers = judged(|world| {
        let caller = "sample-app-1".to_owned();
        let (of, what) = (TraceId(77), "GET".to_owned());
        let origin = Origin::Call { of, call: SpanId(0xa2), caller, what };
        world.stray_of("sample-app-2", origin);
    });
    assert_eq!(described(&anothers), (Pass, Vec::new()));
    for nobodys in [Origin::StartUp, Origin::Probe, Origin::Foreign, Origin::Unexplained] {
        let result = judged(|world| world.stray_of("sample-app-2", nobodys.clone()));
        assert_eq!(described(&result), (Pass, Vec::new()), "{nobodys:?}");
    }
}

#[test]
fn a_missing_hop_is_not_put_down_to_the_trace_of_a_neighbour() {
    let result = judged(|world| {
        world.lose("sample-app-2");
        world.evidence().ledgers.clear();
        let mut neighbour = world.record.cases[0].clone();
        (neighbour.case.ordinal, neighbour.case.trace_id) = (1, TraceId(77));
        world.record.cases.push(neighbour);
        world.stray("sample-app-2");
    });
    let hops = result.cases.iter().map(|case| {
        let failures = &case.findings.failures;
        assert!(failures.iter().all(|one| one.rule == "missing-hop"), "{failures:#?}");
        failures[0].detail.contains("started trace 00000000000000000000000000000009 of its own")
    });
    assert_eq!(hops.collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_linked_trace_fails_nothing_and_is_drawn_apart() {
    let linked = |world: &mut World| {
        let of = world.case().trace_id;
        world.stray_of("sample-app-2", Origin::Link { of, also: Vec::new() });
    };
    assert_eq!(described(&judged(linked)), (Pass, Vec::new()));
    let failed = judged(|world| {
        linked(world);
        world.lose("sample-app-2");
    });
    let drawn = failed.cases[0].trees.as_ref().unwrap().captured.join("\n");
    assert!(drawn.contains("linked, as trace 00000000000000000000000000000009:"), "{drawn}");
    assert!(!drawn.contains("apart, as trace"), "{drawn}");
    let details = &failed.cases[0].findings.failures[0].detail;
    assert!(details.contains("sample-app-2"), "{details}");
}

#[test]
fn a_linked_trace_is_held_against_the_rules_about_spans_by_the_first_request_that_it_goes_on_from()
{
    let broken = |of: TraceId| {
        move |world: &mut World| {
            world.stray_of("sample-app-2", Origin::Link { of, also: vec![TRACE] });
            world.record.strays[0].trace.spans[0].parent_id = Some(SpanId(0xee));
        }
    };
    let result = judged(broken(TRACE));
    expect(
        &result,
        Fail,
        "orphan-span: in trace 00000000000000000000000000000009, which a link connects with it: `GET /work` (server, sample-app-2, 00000000000000c1) names the parent 00000000000000ee, which was not captured",
    );
    let (verdict, described) = described(&judged(broken(TraceId(7))));
    assert_eq!(verdict, Pass, "{described:?}");
}

#[test]
fn a_linked_trace_may_have_begun_before_the_request_and_does_not_end_an_hour_later() {
    const HOUR: i64 = 3_600_000 * MS;
    let judged_with = |start: i64, duration: i64| {
        judged(|world| {
            let now = 30 * 24 * HOUR;
            let case = world.case();
            (case.sent_at, case.ended_at) = (now, now + 100 * MS);
            for span in &mut world.evidence().trace.as_mut().unwrap().spans {
                span.start += now;
            }
            world.stray_of("sample-app-2", Origin::Link { of: TRACE, also: Vec::new() });
            let span = &mut world.record.strays[0].trace.spans[0];
            (span.start, span.duration) = (now + start, duration);
        })
    };
    for (start, duration) in [(30 * MS, 40 * MS), (-2 * HOUR, 2 * HOUR), (60_000 * MS, 10 * MS)] {
        assert_eq!(described(&judged_with(start, duration)), (Pass, Vec::new()), "{start}");
    }
    let late = judged_with(30 * MS, HOUR);
    expect(&late, Fail, "outside-request: in trace 00000000000000000000000000000009, which a link");
    expect(&late, Fail, "ended 59m 59s after the request was answered");
    expect(&judged_with(-26 * HOUR, 40 * MS), Fail, "1day 2h before the request was sent");
}

#[test]
fn propagators_that_have_nothing_in_common_are_why_a_link_is_broken() {
    let broken = |[sent, read]: [Option<&'static str>; 2]| {
        move |world: &mut World| {
            world.stray("sample-app-2");
            world.lose("sample-app-2");
            world.evidence().ledgers.clear();
            let services = &mut world.record.topology.services;
            services[0].propagators = sent.map(str::to_owned);
            services[1].propagators = read.map(str::to_owned);
        }
    };
    let nothing = "so that `sample-app-2` reads no form of a context that `sample-app-1` sends";
    for (set, cause) in [
        ([None, Some("xray")], "OTEL_PROPAGATORS=xray is set for `sample-app-2`, so"),
        ([Some("none"), None], "OTEL_PROPAGATORS=none is set for `sample-app-1`, so"),
        ([Some("b3"), Some("baggage")], "`sample-app-1` and OTEL_PROPAGATORS=baggage is set for"),
    ] {
        let result = judged(broken(set));
        expect(&result, Fail, cause);
        expect(&result, Fail, nothing);
    }
    for set in [[None, None], [Some("b3"), Some("b3multi")], [None, Some("xray,tracecontext")]] {
        let (verdict, described) = described(&judged(broken(set)));
        assert_eq!(verdict, Fail);
        assert!(!described.join("").contains(nothing), "{set:?}: {described:?}");
    }
}

#[test]
fn a_link_to_a_span_that_is_not_there_is_reported_with_the_span_that_has_it() {
    let linked = |span: u64| {
        move |world: &mut World| {
            world.stray_of("sample-app-2", Origin::Link { of: TRACE, also: Vec::new() });
            let links = format!("[{{\"trace_id\":\"{TRACE}\",\"span_id\":\"{span:016x}\"}}]");
            let meta = &mut world.record.strays[0].trace.spans[0].meta;
            meta.insert("_dd.span_links".to_owned(), links);
        }
    };
    assert_eq!(described(&judged(linked(0xa2))), (Pass, Vec::new()));
    expect(&judged(linked(0xee)), Fail, "links to the span 00000000000000ee of trace");
}
