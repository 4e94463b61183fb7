use std::collections::BTreeMap;

use super::warning;
use crate::{
    case::{Capability, Outcome},
    finding::Failure,
    judge::{judge, testing::World},
    ledger::CollectorEntry,
    scenario::{Fault, FaultKind},
    trace::{Span, SpanId, TraceId},
    verdict::{ScenarioResult, Verdict},
};

/// Judges so many equal requests, of which the last lacks the second service and was answered as the others were.
fn judged(requests: u32, change: impl FnOnce(&mut World)) -> ScenarioResult {
    judge(&world(requests, change).record)
}

fn world(requests: u32, change: impl FnOnce(&mut World)) -> World {
    let mut world = World::healthy();
    // As with system files: it is unknown who calls whom, and there is no ledger.
    world.record.scenario.system = crate::scenario::SystemChoice::File("shop.system.yaml".into());
    world.record.capabilities.retain(|one| *one != Capability::Ledger);
    world.evidence().ledgers.clear();
    world.record.facts.sources_ended = true;
    let one = world.record.cases[0].clone();
    for ordinal in 1..requests {
        let mut another = one.clone();
        another.case.ordinal = ordinal;
        another.case.trace_id = TraceId(another.case.trace_id.0 + u128::from(ordinal) * 7);
        world.record.cases.push(another);
    }
    let last = world.record.cases.last_mut().unwrap();
    let trace = last.evidence.trace.as_mut().unwrap();
    trace.spans.retain(|span| span.service != "sample-app-2");
    change(&mut world);
    world
}

#[test]
fn a_trace_that_a_sampler_of_the_collector_dropped_lacks_nothing() {
    let drops = |dropped: u64| {
        judged(6, |world| {
            let of = world.record.cases.last_mut().unwrap();
            of.evidence.trace = None;
            let reasons = BTreeMap::from([("not_sampled".to_owned(), dropped)]);
            of.evidence.collector = Some(CollectorEntry {
                accepted: 4,
                sampled_out: BTreeMap::from([("tail_sampling".to_owned(), reasons)]),
                ..CollectorEntry::default()
            });
        })
    };
    assert_eq!(drops(4).verdict, Verdict::Pass, "{:?}", drops(4).failures);
    assert_ne!(drops(3).verdict, Verdict::Pass);
}

#[test]
fn a_sampler_that_does_not_follow_the_parent_is_named_by_its_setting() {
    let result = judged(6, |world| {
        let setting = "OTEL_TRACES_SAMPLER=traceidratio".to_owned();
        world.record.topology.services[1].own_sampler = Some(setting);
    });
    let [only] = &result.failures[..] else { panic!("{result:#?}") };
    let cause = "its sampler does not follow the parent: OTEL_TRACES_SAMPLER=traceidratio is set for `sample-app-2`";
    assert_eq!(only.cause.as_deref(), Some(cause));
}

/// Leaves the second service in so many of ten.
fn warned_where_so_many_have_it(having: usize) -> Option<String> {
    let world = world(10, |world| {
        for of in world.record.cases.iter_mut().skip(having) {
            let trace = of.evidence.trace.as_mut().unwrap();
            trace.spans.retain(|span| span.service != "sample-app-2");
        }
    });
    let result = judge(&world.record);
    warning("shop", [(&world.record, &result)]).map(|warning| warning.text)
}

#[test]
fn a_service_that_no_majority_has_is_warned_of_with_its_hop() {
    for having in [1, 2, 5] {
        let warned = warned_where_so_many_have_it(having).unwrap();
        let start = format!(
            "shop: inconsistent-trace: `happy`: {having} of 10 equal requests (GET /outgoing-sampleapp, answered 200) have spans of `sample-app-2` in their traces (`sample-app-1` -> `sample-app-2`), and the others have none; it fails nothing"
        );
        assert!(warned.starts_with(&start), "{warned}");
    }
    // None has it; or it fails.
    assert_eq!(warned_where_so_many_have_it(0), None);
    assert_eq!(warned_where_so_many_have_it(6), None);
}

fn reported(result: &ScenarioResult) -> Vec<&str> {
    let failures = result.failures.iter();
    let failures = failures.filter(|failure| failure.rule == "inconsistent-trace");
    failures.map(|failure| failure.detail.as_str()).collect()
}

#[test]
fn a_service_that_most_equal_requests_have_and_some_lack_is_named() {
    for (requests, lacking) in [(6, 1), (10, 1), (10, 2)] {
        let result = judged(requests, |world| {
            for of in world.record.cases.iter_mut().rev().take(lacking) {
                let trace = of.evidence.trace.as_mut().unwrap();
                trace.spans.retain(|span| span.service != "sample-app-2");
            }
        });
        let [detail] = reported(&result)[..] else { panic!("{result:#?}") };
        let having = requests as usize - lacking;
        let none = if lacking == 1 { "has none" } else { "have none" };
        assert!(
            detail.starts_with(&format!("{having} of {requests} equal requests (GET "))
                && detail.contains("have spans of `sample-app-2` in their traces; ")
                && detail.contains("(the last span in it is `GET` of `sample-app-1`)")
                && detail.contains(none),
            "{detail}"
        );
        assert_eq!(result.verdict, Verdict::Fail);
    }
}

#[test]
fn what_is_behind_a_service_that_is_lacking_is_no_finding_of_its_own() {
    let result = judged(10, |world| {
        let lacking = world.record.cases.len() - 1;
        for of in world.record.cases.iter_mut().take(lacking) {
            let trace = of.evidence.trace.as_mut().unwrap();
            let mut behind = trace.spans.last().unwrap().clone();
            (behind.id, behind.parent_id) = (SpanId(0xc1), Some(behind.id));
            // Before the other in the alphabet.
            behind.service = "mail".to_owned();
            behind.meta.remove("service.instance.id");
            trace.spans.push(behind);
        }
    });
    let [detail] = reported(&result)[..] else { panic!("{result:#?}") };
    assert!(
        detail.contains("have spans of `sample-app-2`, and of `mail` behind it, in their")
            && detail.contains("a sampler of `sample-app-2` that ignores the parent"),
        "{detail}"
    );
    assert_eq!(result.failures[0].service.as_deref(), Some("sample-app-2"));
}

#[test]
fn what_is_no_majority_or_is_not_equal_is_not_compared() {
    assert_eq!(reported(&judged(3, |_| {})), [""; 0]);
    let none = |change: fn(&mut World)| assert_eq!(reported(&judged(10, change)), [""; 0]);
    none(|world| {
        let last = world.record.cases.last_mut().unwrap();
        last.case.outcome = Outcome::Response { status: 404, trace_id: None };
    });
    none(|world| world.record.cases.last_mut().unwrap().case.sampled = false);
    none(|world| {
        for of in world.record.cases.iter_mut().take(5) {
            let trace = of.evidence.trace.as_mut().unwrap();
            trace.spans.retain(|span| span.service != "sample-app-2");
        }
    });
    none(|world| world.record.scenario.requests[0].path = "/orders/${saved:id}".to_owned());
    none(|world| {
        let kind = FaultKind::Status(503);
        let at = "sample-app-2".to_owned();
        world.record.scenario.faults = vec![Fault { at, kind, first: Some(1), after: None }];
    });
}

#[test]
fn what_cannot_be_proved_to_be_lacking_is_not_reported() {
    let none = |change: fn(&mut World)| assert_eq!(reported(&judged(10, change)), [""; 0]);
    none(|world| world.record.capabilities.retain(|one| *one != Capability::Completeness));
    none(|world| world.record.capabilities.retain(|one| *one != Capability::Exclusiveness));
    none(|world| world.record.facts.sources_ended = false);
    none(|world| world.record.facts.gaps.push("attempts 3 to 5".to_owned()));
    none(|world| world.record.facts.exits.push("`pay` ended by itself".to_owned()));
    none(|world| {
        let last = world.record.cases.last_mut().unwrap();
        last.evidence.unsettled = Some("it may still come".to_owned());
    });
    none(|world| {
        let because = "it is sampled by itself".to_owned();
        world.record.scenario.tolerate.insert("inconsistent-trace".to_owned(), because);
    });
}

/// Has so many equal requests of 100 ms each, one after the other; the calls of all but the first are in the first one's trace, which
/// the given share of them changes.
fn kept(requests: u32, change: impl FnOnce(&mut World)) -> World {
    kept_in(|number| (number > 0).then_some(0), requests, change)
}

/// The same, where it is said for each request in which other one's trace its calls are, if in any.
fn kept_in(
    host_of: impl Fn(i64) -> Option<usize>,
    requests: u32,
    change: impl FnOnce(&mut World),
) -> World {
    world(requests, |world| {
        let cases = &mut world.record.cases;
        let length = cases[0].case.ended_at - cases[0].case.sent_at;
        let mut moved = Vec::new();
        for (number, of) in (0..).zip(cases.iter_mut()) {
            let later = number * (length + 1_000_000);
            (of.case.sent_at, of.case.ended_at) =
                (of.case.sent_at + later, of.case.ended_at + later);
            let trace = of.evidence.trace.as_mut().unwrap();
            for span in &mut trace.spans {
                span.start += later;
            }
            if let Some(host) = host_of(number) {
                trace.spans.retain(|span| span.service != "sample-app-2");
                moved.push((host, later));
            }
        }
        let trace = cases[0].evidence.trace.as_ref().unwrap();
        let answer =
            trace.spans.iter().find(|span| span.service == "sample-app-2").unwrap().clone();
        let call =
            trace.spans.iter().find(|span| Some(span.id) == answer.parent_id).unwrap().clone();
        for (id, (host, later)) in (0x1000..).step_by(2).zip(moved) {
            let (mut call, mut answer) = (call.clone(), answer.clone());
            (call.id, answer.id, answer.parent_id) = (SpanId(id), SpanId(id + 1), Some(SpanId(id)));
            (call.start, answer.start) = (call.start + later, answer.start + later);
            cases[host].evidence.trace.as_mut().unwrap().spans.extend([call, answer]);
        }
        change(world);
    })
}

#[test]
fn calls_for_later_requests_in_an_earlier_ones_trace_are_put_down_to_a_kept_context() {
    let found = |world: World| {
        let result = judge(&world.record);
        let details = reported(&result).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let hops = result.failures.iter().filter_map(|one| one.hop.clone());
        let hops: Vec<_> = hops.map(|hop| (hop.caller, hop.callee)).collect();
        let warned = warning("shop", [(&world.record, &result)]).map(|warning| warning.text);
        (details, hops, warned)
    };
    let (details, hops, warned) = found(kept(3, |_| {}));
    let [detail] = &details[..] else { panic!("{details:?}") };
    assert!(
        detail.starts_with("2 of 3 equal requests (GET ")
            && detail.contains("have no span of `sample-app-2` in their traces, and trace ")
            && detail.contains("while that of trace ")
            && detail.contains(
                "`sample-app-1` calls `sample-app-2` in the context of an earlier request"
            ),
        "{detail}"
    );
    assert_eq!(hops, [("sample-app-1".to_owned(), "sample-app-2".to_owned())]);
    assert_eq!(warned, None);
    // The service itself goes on in what it did before.
    let (details, hops, _) = found(kept(3, |world| {
        let trace = world.record.cases[0].evidence.trace.as_mut().unwrap();
        let own = trace.spans.iter().find(|span| span.service == "sample-app-2").unwrap().id;
        trace.spans.retain(|span| span.id.0 < 0x1000 || span.service == "sample-app-2");
        for span in trace.spans.iter_mut().filter(|span| span.id.0 >= 0x1000) {
            span.parent_id = Some(own);
            span.meta.insert("span.kind".to_owned(), "internal".to_owned());
        }
    }));
    assert!(details[0].contains("`sample-app-2` takes what it is asked to do for a part of"));
    assert_eq!(hops, []);
    // One of the requests has no such call in progress: it may well be one that none was made for.
    let (details, hops, warned) = found(kept(3, |world| {
        let trace = world.record.cases[0].evidence.trace.as_mut().unwrap();
        trace.spans.retain(|span| span.id.0 < 0x1002);
    }));
    assert_eq!((details.len(), hops.len()), (0, 0), "{details:?}");
    assert!(warned.unwrap().contains("1 of 3 equal requests"));
}

/// Equal requests at the same time, of which the first has so many more calls of the second service, and the last so many none.
fn mixed(requests: u32, more: usize, none: usize) -> World {
    world(requests, |world| {
        let cases = &mut world.record.cases;
        let first = cases[0].evidence.trace.as_mut().unwrap();
        let answer = first.spans.iter().find(|span| span.service == "sample-app-2").unwrap();
        let (answer, mut added) = (answer.clone(), Vec::new());
        for id in (0x1000..).take(more) {
            added.push(Span { id: SpanId(id), ..answer.clone() });
        }
        first.spans.extend(added);
        for of in cases.iter_mut().rev().take(none) {
            let trace = of.evidence.trace.as_mut().unwrap();
            trace.spans.retain(|span| span.service != "sample-app-2");
        }
    })
}

#[test]
fn calls_that_some_of_the_requests_at_once_have_for_all_are_put_down_to_mixed_contexts() {
    let found = |world: World| {
        let result = judge(&world.record);
        reported(&result).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let details = found(mixed(6, 4, 4));
    let [detail] = &details[..] else { panic!("{details:?}") };
    for text in [
        "the traces of 2 of 6 equal requests",
        "have all 6 calls of `sample-app-2`, up to 5 in one",
        "`sample-app-1` calls `sample-app-2` in the context of another request",
    ] {
        assert!(detail.contains(text), "{text}: {detail}");
    }
    // One more than there are requests, and requests one after the other.
    assert!(!found(mixed(6, 5, 4)).iter().any(|one| one.contains("another request than")));
    let mut apart = mixed(6, 4, 4);
    for (number, of) in (0..).zip(&mut apart.record.cases) {
        of.case.sent_at += number * 10_000_000_000;
        of.case.ended_at += number * 10_000_000_000;
    }
    assert!(!found(apart).iter().any(|one| one.contains("another request than")));
}

#[test]
fn calls_in_the_traces_of_several_earlier_requests_are_put_down_to_a_kept_context_as_well() {
    let world = kept_in(|number| (number % 2 == 1).then(|| number as usize - 1), 6, |_| {});
    let result = judge(&world.record);
    let [detail] = &reported(&result)[..] else { panic!("{result:#?}") };
    for text in ["3 of 6 equal requests", "3 traces of earlier ones have it, such as trace"] {
        assert!(detail.contains(text), "{text}: {detail}");
    }
}

#[test]
fn calls_that_are_whole_and_answered_in_an_earlier_requests_trace_are_put_down_to_the_link() {
    let world = kept(3, |world| {
        let trace = world.record.cases[0].evidence.trace.as_mut().unwrap();
        let answer = trace.spans.iter().find(|span| span.service == "sample-app-2").unwrap();
        let call = answer.parent_id;
        // What was sent on is the first call's context: nobody else called in that trace.
        trace.spans.retain(|span| span.id.0 < 0x1000 || span.service == "sample-app-2");
        for span in trace.spans.iter_mut().filter(|span| span.id.0 >= 0x1000) {
            span.parent_id = call;
        }
    });
    let result = judge(&world.record);
    let [only] = &result.failures[..] else { panic!("{result:#?}") };
    let link = "something on the link sample-app-1 -> sample-app-2";
    assert!(only.detail.contains(link), "{only:#?}");
    let rules = |of: &[Failure]| of.iter().map(|one| one.rule.clone()).collect::<Vec<_>>();
    assert_eq!(rules(&only.symptoms), ["child-outside-parent"; 2]);
    assert_eq!(rules(&result.cases[0].findings.failures), [""; 0]);
}

#[test]
fn work_that_was_captured_in_another_requests_trace_is_not_called_missing() {
    let world = world(4, |world| {
        let cases = &mut world.record.cases;
        for (number, of) in (0..).zip(&mut *cases) {
            // Ids of their own.
            for span in &mut of.evidence.trace.as_mut().unwrap().spans {
                span.id = SpanId(span.id.0 | number << 16);
                span.parent_id = span.parent_id.map(|id| SpanId(id.0 | number << 16));
            }
        }
        let trace = cases[3].evidence.trace.as_mut().unwrap();
        let (moved, rest) = std::mem::take(&mut trace.spans)
            .into_iter()
            .partition(|span| span.service == "sample-app-2");
        trace.spans = rest;
        let moved: Vec<Span> = moved;
        cases[0].evidence.trace.as_mut().unwrap().spans.extend(moved);
    });
    let result = judge(&world.record);
    assert_eq!(result.failures, []);
    assert_eq!(warning("shop", [(&world.record, &result)]), None);
}

#[test]
fn a_service_that_was_called_in_each_request_fails_where_half_of_the_traces_lack_it() {
    let judged = |address: bool, direct: bool| {
        let world = world(4, |world| {
            if direct {
                world.record.topology.services[1].direct_callers = vec!["sample-app-1".to_owned()];
            }
            for (number, of) in (0..).zip(&mut world.record.cases) {
                let trace = of.evidence.trace.as_mut().unwrap();
                let is_call =
                    |span: &&mut Span| span.service == "sample-app-1" && span.kind() == "client";
                let call = trace.spans.iter_mut().find(is_call).unwrap();
                call.meta.insert("server.address".to_owned(), "app-2".to_owned());
                if address {
                    call.metrics.insert("server.port".to_owned(), 8080.0);
                    call.meta.insert("url.path".to_owned(), "/pay".to_owned());
                }
                if number % 2 == 0 {
                    trace.spans.retain(|span| span.service != "sample-app-2");
                }
            }
        });
        judge(&world.record)
    };
    let result = judged(true, true);
    let [only] = &result.failures[..] else { panic!("{result:#?}") };
    assert_eq!(only.service.as_deref(), Some("sample-app-2"));
    let cause = "`sample-app-1` called it in each of them, and was answered";
    assert!(only.detail.contains(cause), "{}", only.detail);
    // Where calls do not say where they went, or a proxy may have answered, it may be behind a cache.
    assert_eq!((judged(false, true).failures, judged(true, false).failures), (vec![], vec![]));
}
