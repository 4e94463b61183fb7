//! Tests of the rules about what must have come: traces, hops, services, and what was sampled.

use std::collections::BTreeMap;

use super::{DRIVER, MS, TRACE, World, span};
use crate::{
    case::{Capability, LedgerReport, Origin, Outcome, Shape, Stray},
    finding::{Findings, Hop},
    trace::{SpanId, Trace, TraceId},
};

#[test]
fn no_span_at_all_is_no_trace() {
    let mut world = World::healthy();
    world.evidence.trace = None;
    let (names, details) = world.failing();
    assert_eq!(names, ["no-trace", "lost-span"]);
    assert!(details.contains("the services ended 3 spans of it"), "{details}");
}

#[test]
fn an_entry_that_began_a_trace_with_what_the_request_lacks_took_it_without_its_context() {
    let mut world = World::healthy();
    world.spans().retain(|span| span.service == "tracecheck");
    world.evidence.ledgers.clear();
    world.evidence.heard.insert("app-1".to_owned());
    let mut call = span(0xf1, 0, "app-1", "client", 30 * MS, 10 * MS);
    call.trace_id = TraceId(9);
    let (of, services) = (TRACE, vec!["app-1".to_owned(), "app-2".to_owned()]);
    let origin = Origin::Lacking { of, services, caller: None };
    world.strays = vec![Stray { trace: Trace::new(TraceId(9), vec![call]), origin }];
    let (names, details) = world.failing();
    assert_eq!(names[0], "no-trace");
    assert!(details.contains("its server is not instrumented"), "{details}");
    assert!(!details.contains("sampled this trace out"), "{details}");
}

#[test]
fn who_was_heard_of_in_other_traces_is_not_said_to_export_nothing() {
    let reported = |change: &dyn Fn(&mut World)| {
        let mut world = World::healthy();
        world.spans().retain(|span| span.service == "tracecheck");
        world.evidence.ledgers.clear();
        change(&mut world);
        let (names, details) = world.failing();
        assert_eq!(names, ["no-trace"]);
        details
    };
    let none = reported(&|_| {});
    assert!(none.contains(": the services do not export, or what they export"), "{none}");
    let heard = |world: &mut World, name: &str| {
        world.evidence.heard.insert(name.to_owned());
    };
    let other = reported(&|world| heard(world, "app-2"));
    assert!(
        other.contains(
            ": other traces have spans of `app-2`, and none has one of `app-1`: it does not export"
        ),
        "{other}"
    );
    let entry = reported(&|world| heard(world, "app-1"));
    assert!(entry.contains("so it does export: it sampled this trace out"), "{entry}");
    let linked = reported(&|world| {
        heard(world, "app-1");
        let mut first = span(0xc1, 0, "app-1", "server", 30 * MS, 40 * MS);
        (first.trace_id, first.parent_id) = (TraceId(9), None);
        let origin = Origin::Link { of: world.case.trace_id, also: Vec::new() };
        world.strays.push(Stray { trace: Trace::new(TraceId(9), vec![first]), origin });
    });
    assert!(
        linked.contains(
            "`app-1` began trace 00000000000000000000000000000009 of its own, and only links it"
        ),
        "{linked}"
    );
}

/// Sends the request without a context; nothing was captured of the trace that it is judged by.
fn without_context(trace_id: Option<TraceId>) -> World {
    let mut world = World::healthy();
    world.made_below(0xa1, None);
    world.evidence.trace = None;
    (world.case.context_sent, world.case.driver_exported) = (false, false);
    world.case.outcome = Outcome::Response { status: 200, trace_id };
    world
}

#[test]
fn samplers_that_were_sent_no_parent_are_not_said_not_to_follow_it() {
    let dropped = |context_sent: bool| {
        let mut world = without_context(Some(TRACE));
        world.case.context_sent = context_sent;
        for app in ["app-1", "app-2"] {
            world.ledger(app).spans.iter_mut().for_each(|span| span.sampled = false);
        }
        let failures = world.findings().failures;
        let found = failures.iter().find(|failure| failure.rule == "no-trace").unwrap();
        (found.cause.clone().unwrap(), failures.len())
    };
    let (cause, count) = dropped(false);
    assert!(
        cause.ends_with("(OTEL_TRACES_SAMPLER): no parent was sent that they could follow")
            && !cause.contains("do not follow the parent"),
        "{cause}"
    );
    assert_eq!(count, 1, "no sampler is blamed by `sampled-out` either");
    let (cause, _) = dropped(true);
    assert!(cause.ends_with("their samplers do not follow the parent"), "{cause}");
}

#[test]
fn a_request_whose_trace_id_is_not_in_the_answer_blames_no_exporter_and_no_link() {
    let found = |world: &World| {
        let failures = world.findings().failures;
        let [only] = failures.as_slice() else { panic!("{failures:#?}") };
        assert_eq!((only.rule.as_str(), &only.hop), ("no-trace", &None));
        let cause = only.cause.clone().unwrap();
        assert!(cause.starts_with("it is unknown which trace is the request's: "), "{cause}");
        assert!(cause.contains("no trace id where `trace_id_from` looks for it"), "{cause}");
        cause
    };
    for ledgers in [true, false] {
        let mut world = without_context(None);
        for app in ["app-1", "app-2"] {
            world.ledger(app).spans.clear();
        }
        if !ledgers {
            world.evidence.ledgers.clear();
            world.shape = Shape::default();
        }
        found(&world);
        // What its entry began meanwhile is likely it, and no stray.
        let mut begun = span(0xa1, 0, "app-1", "server", 10 * MS, 80 * MS);
        begun.trace_id = TraceId(9);
        let (caller, what) = ("tracecheck".to_owned(), "GET /".to_owned());
        let origin = Origin::Call { of: TRACE, call: DRIVER, caller, what };
        world.strays = vec![Stray { trace: Trace::new(TraceId(9), vec![begun]), origin }];
        let cause = found(&world);
        let likely = "trace 00000000000000000000000000000009, which `app-1` began meanwhile, is likely its own";
        assert!(cause.ends_with(likely), "{cause}");
        // Once the answer names one, and nothing of it came, the export is asked about again.
        world.strays.clear();
        world.case.outcome = Outcome::Response { status: 200, trace_id: Some(TRACE) };
        let (names, details) = world.failing();
        assert_eq!(names, ["no-trace"]);
        assert!(!details.contains("it is unknown which trace"), "{details}");
    }
}

#[test]
fn an_entry_that_answers_another_trace_id_is_named_as_the_break() {
    let mut world = World::healthy();
    world.spans().retain(|span| span.service == "tracecheck");
    for app in ["app-1", "app-2"] {
        world.ledger(app).spans.clear();
    }
    world.case.outcome = Outcome::Response { status: 200, trace_id: Some(TraceId(7)) };
    let (names, details) = world.failing();
    assert_eq!(names, ["no-trace"]);
    assert!(details.contains("the link tracecheck -> app-1 is broken"), "{details}");
}

#[test]
fn a_second_hop_in_a_trace_of_its_own_is_a_missing_hop() {
    let mut world = World::healthy();
    world.remove(0xb1);
    world.ledger("app-2").spans.clear();
    let mut stray = span(0xb1, 0, "app-2", "server", 30 * MS, 40 * MS);
    stray.trace_id = TraceId(9);
    let (caller, what) = ("app-1".to_owned(), "GET".to_owned());
    let origin = Origin::Call { of: TRACE, call: SpanId(0xa2), caller, what };
    world.strays = vec![Stray { trace: Trace::new(TraceId(9), vec![stray]), origin }];
    let (names, details) = world.failing();
    assert_eq!(names, ["missing-hop", "stray-trace"]);
    assert!(details.contains("the link app-1 -> app-2 is broken"), "{details}");
    assert!(
        details.contains("`app-2` started trace 00000000000000000000000000000009"),
        "{details}"
    );
}

#[test]
fn a_workload_without_spans_that_a_call_leads_through_is_named_as_the_likely_break() {
    let through = |caller: &str| BTreeMap::from([(caller.to_owned(), vec!["gateway".to_owned()])]);
    let mut world = World::healthy();
    world.remove(0xb1);
    world.ledger("app-2").spans.clear();
    let mut stray = span(0xb1, 0, "app-2", "server", 30 * MS, 40 * MS);
    stray.trace_id = TraceId(9);
    let (caller, what) = ("app-1".to_owned(), "GET".to_owned());
    let origin = Origin::Call { of: TRACE, call: SpanId(0xa2), caller, what };
    world.strays = vec![Stray { trace: Trace::new(TraceId(9), vec![stray]), origin }];
    world.topology.services[1].called_through = through("app-1");
    let (_, details) = world.failing();
    let likely = "most likely `gateway`, through which the call leads and which makes no spans, drops the context";
    assert!(details.contains(likely), "{details}");
    world.strays[0].trace.spans[0].parent_id = Some(SpanId(0xee));
    let (_, details) = world.failing();
    assert!(details.contains("`gateway`, through which the call leads and which makes no spans, puts its own in its place"), "{details}");

    let mut world = World::healthy();
    world.spans().retain(|span| span.service == "tracecheck");
    for app in ["app-1", "app-2"] {
        world.ledger(app).spans.clear();
    }
    world.case.outcome = Outcome::Response { status: 200, trace_id: Some(TraceId(7)) };
    world.topology.services[0].called_through = through("tracecheck");
    let (_, details) = world.failing();
    assert!(details.contains("most likely `gateway`"), "{details}");
    assert!(!details.contains("did not take over the context"), "{details}");
}

#[test]
fn a_trace_that_began_within_each_of_several_equal_requests_says_where_its_context_was_lost() {
    let mut world = World::healthy();
    let mut work = span(0xf1, 0, "app-2", "internal", 30 * MS, 10 * MS);
    work.trace_id = TraceId(9);
    let origin = Origin::Within { of: TRACE, requests: 4, caller: None };
    world.strays = vec![Stray { trace: Trace::new(TraceId(9), vec![work]), origin }];
    let (names, details) = world.failing();
    assert_eq!(names, ["stray-trace"]);
    for text in ["one like it began upon each of 4 equal requests", "`app-2` takes part in"] {
        assert!(details.contains(text), "{text}: {details}");
    }
    world.remove(0xb1);
    let (_, details) = world.failing();
    assert!(details.contains("`app-2` has no span in the request's own trace"), "{details}");
    let caller = Some("app-1".to_owned());
    world.strays[0].origin = Origin::Within { of: TRACE, requests: 4, caller };
    let (_, details) = world.failing();
    assert!(details.contains("none of its calls there left a span"), "{details}");
    // What exports does not export nothing.
    assert!(!details.contains("it exports nothing"), "{details}");
    let disabled = "OTEL_NODE_DISABLED_INSTRUMENTATIONS=undici".to_owned();
    world.topology.services[0].uninstrumented_by = vec![disabled];
    let (caller, services) = (Some("app-1".to_owned()), vec!["app-2".to_owned()]);
    world.strays[0].origin = Origin::Lacking { of: TRACE, services, caller };
    let (_, details) = world.failing();
    for text in [
        "it has `app-2`, which the request must have and its own trace lacks",
        "hands no context on; OTEL_NODE_DISABLED_INSTRUMENTATIONS=undici is set for `app-1`",
    ] {
        assert!(details.contains(text), "{text}: {details}");
    }
}

#[test]
fn a_trace_whose_id_lost_its_upper_half_names_the_link_on_which_it_did() {
    let mut world = World::healthy();
    world.shape.hops.clear();
    world.evidence.ledgers.clear();
    world.capabilities.retain(|one| *one != Capability::Ledger);
    let mut moved = world.span(0xb1).clone();
    world.remove(0xb1);
    moved.trace_id = TraceId(u128::from(TRACE.low()));
    let origin = Origin::Parent { of: TRACE, span: SpanId(0xb1), parent: SpanId(0xa2) };
    world.strays = vec![Stray { trace: Trace::new(moved.trace_id, vec![moved]), origin }];
    let failures = world.findings().failures;
    let [only] = &failures[..] else { panic!("{failures:#?}") };
    let hop = Hop { caller: "app-1".to_owned(), callee: "app-2".to_owned() };
    assert_eq!((&*only.rule, only.hop.as_ref()), ("stray-trace", Some(&hop)));
    assert!(
        only.detail.contains("the upper 64 bits of the trace id were cut off"),
        "{}",
        only.detail
    );
}

#[test]
fn a_server_that_only_links_to_the_call_that_waits_for_it_is_a_broken_link() {
    /// Returns the findings where `app-2` answers the call of `app-1` in trace 9, with a link to span `to`.
    fn found(to: u64, change: impl FnOnce(&mut World, &mut Trace)) -> Vec<String> {
        let mut world = World::healthy();
        world.evidence.ledgers.clear();
        world.shape.hops.clear();
        world.capabilities.retain(|one| *one != Capability::Ledger);
        world.remove(0xb1);
        let mut begun = span(0xb1, 0, "app-2", "server", 30 * MS, 40 * MS);
        (begun.trace_id, begun.parent_id) = (TraceId(9), None);
        let link = format!(r#"[{{"trace_id":"{TRACE}","span_id":"{}"}}]"#, SpanId(to));
        begun.meta.insert("_dd.span_links".to_owned(), link);
        let mut linked = Trace::new(TraceId(9), vec![begun]);
        change(&mut world, &mut linked);
        let origin = Origin::Link { of: TRACE, also: Vec::new() };
        world.strays = vec![Stray { trace: linked, origin }];
        let failures = world.findings().failures;
        assert!(
            failures.iter().all(|one| one.hop
                == Some(Hop { caller: "app-1".to_owned(), callee: "app-2".to_owned() }))
        );
        failures.iter().map(|one| format!("{}: {}", one.rule, one.detail)).collect()
    }
    let broken = found(0xa2, |_, _| {});
    let [only] = broken.as_slice() else { panic!("{broken:#?}") };
    assert!(only.starts_with("stray-trace: trace 00000000000000000000000000000009"), "{only}");
    assert!(only.contains("the link app-1 -> app-2 is broken"), "{only}");
    // What is right to link: another endpoint than a server, one that is declared, work behind the call or another span, a second answer.
    let mut sound = vec![
        found(0xa2, |_, linked| {
            linked.spans[0].meta.insert("span.kind".to_owned(), "consumer".to_owned());
        }),
        found(0xa2, |world, _| world.topology.services[1].public = true),
        found(0xa2, |_, linked| linked.spans[0].start += 500 * MS),
        found(0xa1, |_, _| {}),
        found(0xa2, |world, _| {
            let answer = span(0xb2, 0xa2, "app-2", "server", 30 * MS, 40 * MS);
            world.spans().push(answer);
        }),
    ];
    sound.retain(|found| !found.is_empty());
    assert_eq!(sound, [[""; 0]; 0]);
}

#[test]
fn a_span_that_a_service_did_not_keep_is_sampled_out() {
    let mut world = World::healthy();
    world.remove(0xb1);
    world.ledger("app-2").spans[0].sampled = false;
    let (names, details) = world.failing();
    assert_eq!(names, ["missing-hop", "sampled-out"]);
    assert!(details.contains("`app-2` sampled out 1 span(s)"), "{details}");
}

#[test]
fn the_harness_misses_its_own_span_where_no_service_has_a_ledger() {
    let mut world = World::healthy();
    world.evidence.ledgers.clear();
    world.shape.hops.clear();
    world.capabilities.retain(|one| *one != Capability::Ledger);
    world.remove(0xd0);
    let failures = world.findings().failures;
    let [only] = failures.as_slice() else { panic!("{failures:?}") };
    assert_eq!((only.rule.as_str(), only.service.as_deref()), ("lost-span", Some("tracecheck")));
    assert!(only.detail.contains("the harness exported its own span 00000000000000d0"));
    // Where the collector said no OK, nothing is known.
    world.case.driver_exported = false;
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_span_that_no_ledger_knows_is_invented() {
    let mut world = World::healthy();
    world.ledger("app-2").spans.clear();
    assert_eq!(world.failing().0, ["invented-span"]);
    world.ledger("app-2").evicted = true;
    assert_eq!(world.findings().failures, []);
}

#[test]
fn a_ledger_that_cannot_be_read_is_not_evaluated() {
    let mut world = World::healthy();
    world
        .evidence
        .ledgers
        .insert("app-2".to_owned(), LedgerReport::Unknown("connection refused".to_owned()));
    let findings = world.findings();
    assert_eq!(findings.failures, []);
    let named: Vec<_> =
        findings.not_evaluated.iter().map(|skipped| skipped.rule.as_str()).collect();
    assert_eq!(named, ["lost-span", "undelivered-span", "invented-span"]);
}

#[test]
fn an_answer_that_reports_another_trace_proves_a_broken_link_without_complete_evidence() {
    let mut world = World::healthy();
    world.evidence.trace = None;
    world.capabilities = Vec::new();
    world.evidence.unsettled = Some("nothing came yet".to_owned());
    let none: Vec<_> = world.findings().failures;
    assert_eq!(none, []);
    world.case.outcome = Outcome::Response { status: 200, trace_id: Some(TraceId(7)) };
    let failures = world.findings().failures;
    assert_eq!(failures.len(), 1);
    assert!(failures[0].detail.contains("the link tracecheck -> app-1 is broken"), "{failures:?}");
}

#[test]
fn an_unsampled_request_owes_no_trace() {
    let mut world = World::healthy();
    world.case.sampled = false;
    world.case.driver_exported = false;
    world.evidence.trace = None;
    for app in ["app-1", "app-2"] {
        for span in &mut world.ledger(app).spans {
            span.sampled = false;
        }
    }
    assert_eq!(world.findings(), Findings::default());
}

#[test]
fn a_flag_that_was_cleared_on_the_way_blames_the_link_and_not_the_sampler_behind_it() {
    let found = |parent_sampled: Option<bool>| {
        let mut world = World::healthy();
        world.remove(0xb1);
        let own = &mut world.ledger("app-2").spans[0];
        (own.sampled, own.parent_sampled) = (false, parent_sampled);
        let failures = world.findings().failures;
        failures.into_iter().find(|failure| failure.rule == "sampled-out").unwrap()
    };
    let cleared = found(Some(false));
    let link = Some(Hop { caller: "app-1".to_owned(), callee: "app-2".to_owned() });
    assert_eq!((cleared.service, cleared.hop), (None, link));
    let cause = cleared.cause.unwrap();
    assert!(cause.contains("`app-2` was sent a context that says *not sampled*"), "{cause}");
    let own = found(Some(true));
    assert_eq!((own.service.as_deref(), own.hop), (Some("app-2"), None));
    assert!(own.cause.unwrap().contains("does not follow the parent"));
    // Whoever does not say what it was sent leaves both possible.
    let either = found(None).cause.unwrap();
    assert!(either.contains("or the link app-1 -> app-2 clears the flag"), "{either}");
}

#[test]
fn who_follows_a_caller_that_sampled_out_is_not_blamed() {
    let mut world = World::healthy();
    for id in [0xa1, 0xa2, 0xb1] {
        world.remove(id);
    }
    for app in ["app-1", "app-2"] {
        world.ledger(app).spans.iter_mut().for_each(|span| span.sampled = false);
    }
    let failures = world.findings().failures;
    let out: Vec<_> = failures.iter().filter(|failure| failure.rule == "sampled-out").collect();
    assert_eq!(out.len(), 1, "{out:?}");
    assert_eq!(out[0].hop.as_ref().map(|hop| &*hop.callee), Some("app-1"));
}

#[test]
fn a_broken_link_names_the_one_end_that_other_links_do_not_clear() {
    /// Returns the cause where `app-2` began trace 9 when `app-1` called it, beside these spans.
    fn cause(others: &[(u64, u64, &str, &str)], change: impl FnOnce(&mut World)) -> String {
        let mut world = World::healthy();
        world.evidence.ledgers.clear();
        world.shape.hops.clear();
        world.capabilities.retain(|one| *one != Capability::Ledger);
        world.remove(0xb1);
        let mut begun = span(0xb1, 0, "app-2", "server", 30 * MS, 40 * MS);
        begun.trace_id = TraceId(9);
        for (id, parent, workload, kind) in others {
            world.spans().push(span(*id, *parent, workload, kind, 40 * MS, 10 * MS));
        }
        let (caller, what) = ("app-1".to_owned(), "GET".to_owned());
        let origin = Origin::Call { of: TRACE, call: SpanId(0xa2), caller, what };
        world.strays = vec![Stray { trace: Trace::new(TraceId(9), vec![begun]), origin }];
        change(&mut world);
        let failures = world.findings().failures;
        let found = failures.iter().find(|one| one.rule == "stray-trace");
        found.unwrap_or_else(|| panic!("{failures:#?}")).detail.clone()
    }
    let either = "`app-1` does not send its context, or in a form that `app-2` does not read";
    assert!(cause(&[], |_| {}).contains(either), "{}", cause(&[], |_| {}));
    let sends = [(0xa3, 0xa1, "app-1", "client"), (0xc1, 0xa3, "app-3", "server")];
    let callee = "`app-2` does not read the context that `app-1` sends";
    let found = cause(&sends, |_| {});
    assert!(found.contains(callee) && found.contains("`app-3` did go on with it"), "{found}");
    let reads = [
        (0xa3, 0xa1, "app-1", "client"),
        (0xc2, 0xa1, "app-3", "client"),
        (0xb2, 0xc2, "app-2", "server"),
    ];
    let caller = "`app-1` does not send its context in a form that `app-2` reads";
    let found = cause(&reads, |_| {});
    assert!(found.contains(caller) && found.contains("the context of `app-3`"), "{found}");
    // Both do elsewhere; and another protocol has propagators of its own.
    let both = [sends.as_slice(), &reads[1..]].concat();
    let found = cause(&both, |_| {});
    assert!(found.contains(either), "{found}");
    let found = cause(&sends, |world| {
        let call = world.spans().iter_mut().find(|span| span.id == SpanId(0xa3)).unwrap();
        call.name = "grpc.client.request".to_owned();
    });
    assert!(found.contains(either), "{found}");
}
