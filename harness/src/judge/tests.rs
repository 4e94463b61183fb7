//! Each way in which a verdict comes about.

use super::{
    judge,
    testing::{MS, TRACE, World},
    totals_are_final,
};
use crate::{
    case::{Capability, LedgerReport, Origin, Outcome},
    expectation::{Matcher, SpanCount},
    finding::Failure,
    record::Unrest,
    scenario::{Fault, FaultKind},
    stages::{BalanceExpect, CollectorCounts, Stages},
    stats::{Captured, Forms, StatsExpect, StatsRecord},
    trace::{SpanId, TraceId},
    verdict::{
        ScenarioResult,
        Verdict::{self, Fail, Inconclusive, Pass},
    },
};

mod linked;
mod undecided;
mod whole;

/// A healthy record that was changed, judged.
fn judged(change: impl FnOnce(&mut World)) -> ScenarioResult {
    let mut world = World::healthy();
    change(&mut world);
    let result = judge(&world.record);
    assert_eq!(judge(&world.record), result, "it comes to another verdict when it is judged again");
    result
}

/// The verdict and what it is given for.
fn described(result: &ScenarioResult) -> (Verdict, Vec<String>) {
    let of_cases = result.cases.iter().flat_map(|case| &case.findings.failures);
    let failures = result.failures.iter().chain(of_cases);
    let failures = failures.map(|failure| format!("{}: {}", failure.rule, failure.detail));
    (result.verdict, failures.chain(result.reasons()).collect())
}

/// Checks the verdict, and that one of its reasons holds this text.
#[track_caller]
fn expect(result: &ScenarioResult, verdict: Verdict, text: &str) {
    let (given, reasons) = described(result);
    assert_eq!(given, verdict, "{reasons:#?}");
    assert!(reasons.iter().any(|reason| reason.contains(text)), "`{text}` is not in {reasons:#?}");
}

fn stages(captured: u64) -> Stages {
    let counted = CollectorCounts { accepted: 4, sent: 4, ..CollectorCounts::default() };
    Stages {
        services: vec![("sample-app-1".to_owned(), Ok(2)), ("sample-app-2".to_owned(), Ok(1))],
        collectors: vec![("collector".to_owned(), Ok(counted))],
        harness: vec![1],
        harness_undecided: 0,
        captured: Some(captured),
        source: String::new(),
    }
}

#[test]
fn a_whole_trace_passes() {
    let result = judged(|_| {});
    assert_eq!(described(&result), (Pass, Vec::new()));
    assert_eq!((result.cases.len(), result.spans(), result.revised), (1, 4, false));
    assert_eq!(result.cases[0].trees, None);
}

#[test]
fn a_broken_rule_fails_and_draws_both_trees() {
    let result = judged(|world| world.lose("sample-app-2"));
    expect(&result, Fail, "lost-span: `sample-app-2` ended `GET /work`");
    // Consequences of the loss are folded below it.
    let lost = &result.cases[0].findings.failures[0];
    let symptoms: Vec<&str> = lost.symptoms.iter().map(|symptom| &*symptom.rule).collect();
    assert_eq!(symptoms, ["missing-hop"]);
    let trees = result.cases[0].trees.as_ref().unwrap();
    assert_eq!((trees.expected.len(), trees.captured.len()), (4, 3));
    let ledger = result.cases[0].ledger.as_deref().unwrap();
    assert!(ledger.contains("sample-app-2 ended 1"), "{ledger}");
}

#[test]
fn a_rule_that_is_tolerated_does_not_fail() {
    let result = judged(|world| {
        world.stray("sample-app-2");
        world.record.scenario.tolerate.insert("stray-trace".to_owned(), "it is known".to_owned());
    });
    assert_eq!(described(&result), (Pass, Vec::new()));
}

#[test]
fn an_expectation_that_is_not_met_fails() {
    let result = judged(|world| {
        let span = Matcher { at: Some("sample-app-2".to_owned()), ..Matcher::default() };
        world.expect().spans = vec![SpanCount { span, at_least: 2, at_most: None }];
    });
    expect(&result, Fail, "spans: at least 2 of `sample-app-2` expected, 1 captured");
}

#[test]
fn no_case_at_all_is_inconclusive() {
    let result = judged(|world| world.record.cases.clear());
    assert_eq!(described(&result), (Inconclusive, Vec::new()));
}

#[test]
fn no_answer_to_any_request_is_no_traffic_and_inconclusive() {
    let result = judged(World::unanswered);
    expect(
        &result,
        Inconclusive,
        "no traffic: `sample-app-1` answered none of 1 requests (no answer: connection refused)",
    );
}

#[test]
fn one_answer_of_several_is_traffic() {
    let result = judged(|world| {
        let whole = world.record.cases[0].clone();
        world.unanswered();
        world.record.cases.push(whole);
    });
    assert_eq!(result.verdict, Fail);
    assert!(!described(&result).1.iter().any(|reason| reason.contains("no traffic")));
}

#[test]
fn a_trace_of_which_nothing_came_fails_since_the_services_made_it() {
    let result = judged(World::lose_all);
    expect(&result, Fail, "so they were lost between the services and the intake");
    assert_eq!(described(&result).1.len(), 1, "{:#?}", described(&result));
}

#[test]
fn where_no_service_span_is_seen_and_nothing_fails_nothing_is_proved() {
    let result = judged(|world| {
        world.lose("sample-app-1");
        world.lose("sample-app-2");
        world.case().sampled = false;
        world.case().driver_exported = false;
        for report in world.evidence().ledgers.values_mut() {
            *report = match report.clone() {
                LedgerReport::Known(mut entry) => {
                    entry.spans.iter_mut().for_each(|span| span.sampled = false);
                    LedgerReport::Known(entry)
                }
                unknown @ LedgerReport::Unknown(_) => unknown,
            };
        }
    });
    expect(&result, Inconclusive, "no span of any service was seen, so nothing is proved");
}

#[test]
fn absence_that_is_asked_for_passes_where_nothing_came() {
    let absent = |world: &mut World| {
        world.lose_all();
        world.case().sampled = false;
        world.case().driver_exported = false;
        world.evidence().ledgers.clear();
        world.expect().absent = true;
    };
    assert_eq!(described(&judged(absent)), (Pass, Vec::new()));
    let came = judged(|world| {
        let trace = world.evidence().trace.clone();
        absent(world);
        world.evidence().trace = trace;
    });
    assert_eq!(came.verdict, Fail);
    let unproved = judged(|world| {
        absent(world);
        world.record.facts.undone.push("absence is not proved".to_owned());
    });
    expect(&unproved, Inconclusive, "absence is not proved");
}

#[test]
fn a_gap_in_the_evidence_is_inconclusive_and_does_not_excuse_a_failure() {
    let gap = |world: &mut World| world.record.facts.gaps.push("attempts 3 to 5".to_owned());
    expect(&judged(gap), Inconclusive, "the evidence has a gap: attempts 3 to 5");
    let failed = judged(|world| {
        gap(world);
        world.stray("sample-app-2");
    });
    expect(&failed, Fail, "the evidence has a gap");
}

#[test]
fn a_workload_that_ended_by_itself_is_inconclusive() {
    let ended = "`sample-app-2` ended by itself (exit status: 101)";
    let result = judged(|world| world.record.facts.exits.push(ended.to_owned()));
    expect(&result, Inconclusive, ended);
}

#[test]
fn where_the_intake_ended_what_is_missing_says_nothing() {
    let result = judged(|world| {
        world.lose("sample-app-2");
        world.record.facts.exits.push("`intake` ended by itself".to_owned());
        world.record.facts.intake_ended = true;
    });
    expect(&result, Inconclusive, "`intake` ended by itself");
}

/// Asks of all requests together for more than holds.
fn ask_too_much(world: &mut World) {
    world.expect().balance = Some(BalanceExpect { collector_instances: 1 });
    world.expect().trace_metrics = Some(true);
    world.record.stats = StatsRecord::NotAsked(Forms { otlp: true, without_stats: true });
    let span = Matcher { at: Some("sample-app-2".to_owned()), ..Matcher::default() };
    world.expect().totals = vec![SpanCount { span, at_least: 9, at_most: None }];
    world.expect().refused_attempts = 2;
    world.record.facts.refused = Some(0);
    world.expect().refused_exports = 2;
    world.record.facts.refused_exports = Some(0);
    world.expect().lost_by_senders = Some(9);
    world.record.facts.stages = Some(stages(3));
}

#[test]
fn what_is_asked_of_all_requests_says_nothing_where_the_intake_ended_or_some_got_no_answer() {
    let asked = judged(ask_too_much);
    assert_eq!((asked.verdict, asked.failures.len()), (Fail, 6), "{asked:#?}");
    let ended = judged(|world| {
        ask_too_much(world);
        let lost = Failure::new("lost-span", "between the services and the intake".to_owned());
        world.record.facts.unrest = unrest([lost]);
        world.record.facts.intake_ended = true;
    });
    assert_eq!(
        described(&ended),
        (Inconclusive, vec!["the mock intake ended before all was judged".to_owned()])
    );
    let disturbed = judged(|world| {
        ask_too_much(world);
        let whole = world.record.cases[0].clone();
        world.unanswered();
        world.record.cases.push(whole);
        world.record.facts.disturbances.push("the port-forward broke".to_owned());
    });
    expect(&disturbed, Inconclusive, "1 of 2 requests got no answer");
    assert_eq!(disturbed.failures, []);
    let unanswered = judged(|world| {
        ask_too_much(world);
        world.unanswered();
    });
    expect(&unanswered, Inconclusive, "no traffic: ");
    assert_eq!(unanswered.failures, []);
}

#[test]
fn what_could_not_be_done_is_inconclusive() {
    let text = "a fault could not be injected: no such workload";
    let result = judged(|world| world.record.facts.undone.push(text.to_owned()));
    expect(&result, Inconclusive, text);
}

#[test]
fn spans_under_a_name_that_nobody_has_are_named_beside_the_silent_service() {
    let renamed = |world: &mut World| {
        world.record.facts.silent.push("sample-app-2".to_owned());
        world.record.scenario.system = crate::scenario::SystemChoice::File("shop.yaml".into());
        world.evidence().ledgers.clear();
        let trace = world.evidence().trace.as_mut().unwrap();
        for span in trace.spans.iter_mut().filter(|span| span.service == "sample-app-2") {
            span.service = "otelcol".to_owned();
            span.meta.remove("service.instance.id");
        }
        world.record.scenario.tolerate.insert("wrong-service".to_owned(), "a test".to_owned());
    };
    expect(
        &judged(renamed),
        Inconclusive,
        "and spans came of `otelcol`, which no workload is known as",
    );
}

#[test]
fn a_silent_service_is_inconclusive_unless_it_is_tolerated_or_nothing_is_to_come() {
    let silent = |world: &mut World| world.record.facts.silent.push("audit".to_owned());
    expect(&judged(silent), Inconclusive, "silent-service: no span of `audit` was captured");
    let namesake = |world: &mut World| {
        world.record.topology.services[1].service = Some("Sample-App-1".to_owned());
        world.record.facts.silent.push("sample-app-2".to_owned());
    };
    let shared = "`sample-app-2` has the service name of `sample-app-1`, `sample-app-1`, so that spans of both cannot be distinguished: give each its own OTEL_SERVICE_NAME";
    assert!(judged(namesake).undecided.iter().any(|reason| reason.contains(shared)));
    let tolerated = judged(|world| {
        silent(world);
        let reason = "it has no SDK".to_owned();
        world.record.scenario.tolerate.insert("silent-service".to_owned(), reason);
    });
    assert_eq!(tolerated.verdict, Pass);
}

#[test]
fn a_request_without_an_answer_on_a_broken_way_says_nothing_of_the_system() {
    let disturbed = |world: &mut World| {
        let whole = world.record.cases[0].clone();
        world.unanswered();
        world.record.cases.push(whole);
        world.record.facts.disturbances.push("the port-forward broke".to_owned());
    };
    let result = judged(disturbed);
    expect(
        &result,
        Inconclusive,
        "1 of 2 requests got no answer while the way to the system was broken: the port-forward broke",
    );
    // Those that were answered are judged all the same.
    let failed = judged(|world| {
        disturbed(world);
        let trace = world.record.cases[1].evidence.trace.as_mut().unwrap();
        trace.spans.retain(|span| span.service != "sample-app-2");
    });
    expect(&failed, Fail, "lost-span");
    // And a way that broke while everything was answered changes nothing.
    let harmless = judged(|world| world.record.facts.disturbances.push("it broke".to_owned()));
    assert_eq!(described(&harmless), (Pass, Vec::new()));
}

#[test]
fn an_unreadable_ledger_is_inconclusive() {
    let result = judged(|world| {
        let unknown = LedgerReport::Unknown("connection reset".to_owned());
        world.evidence().ledgers.insert("sample-app-2".to_owned(), unknown);
    });
    expect(&result, Inconclusive, "the ledger of `sample-app-2` could not be read");
}

#[test]
fn what_may_still_come_is_inconclusive_and_not_a_failure() {
    let result = judged(|world| {
        world.lose("sample-app-2");
        world.record.capabilities.retain(|one| *one != Capability::Completeness);
        world.evidence().unsettled = Some("Datadog was asked for 20 s".to_owned());
    });
    expect(&result, Inconclusive, "missing-hop: not evaluated, because Datadog was asked for 20 s");
}

#[test]
fn a_workload_that_had_ended_is_named_where_spans_were_lost() {
    let result = judged(|world| {
        world.lose("sample-app-2");
        world.evidence().ended.push("`collector` ended by itself (signal: 9)".to_owned());
    });
    expect(&result, Fail, "`collector` ended by itself (signal: 9)");
}

#[test]
fn a_fault_that_keeps_every_service_from_being_reached_leaves_nothing_to_see() {
    let result = judged(|world| {
        let at = "sample-app-1".to_owned();
        let fault = Fault { at, kind: FaultKind::Stop, first: None, after: None };
        world.record.scenario.faults.push(fault);
        world.unanswered();
    });
    expect(&result, Inconclusive, "no traffic");
}

#[test]
fn a_verdict_that_the_audit_changed_is_marked_as_revised() {
    let audited = |first: Verdict, broken: bool| {
        judged(|world| {
            world.record.facts.first_verdict = Some(first);
            if broken {
                world.stray("sample-app-2");
            }
        })
    };
    assert!(audited(Pass, true).revised);
    assert!(!audited(Pass, false).revised);
}

/// A sentinel that failed in these ways when nothing more of it could arrive.
fn unrest<const N: usize>(failures: [Failure; N]) -> Option<Unrest> {
    Some(Unrest { missing: "lost-span: one".to_owned(), failures: failures.into() })
}

const NO_REST: &str =
    "the system did not come to rest, so late or lost spans could go unseen: lost-span: one";

#[test]
fn a_sentinel_that_proves_a_loss_fails_the_scenario() {
    for rule in ["no-trace", "lost-span", "undelivered-span"] {
        let lost = Failure::new(rule, "`sample-app-1` ended it").about("sample-app-1");
        let result = judged(|world| world.record.facts.unrest = unrest([lost]));
        let detail = "in a request like the scenario's that followed it: `sample-app-1` ended it";
        assert_eq!(described(&result), (Fail, vec![format!("{rule}: {detail}")]));
    }
}

#[test]
fn a_sentinel_that_proves_no_loss_is_inconclusive() {
    let late = judged(|world| world.record.facts.unrest = unrest([]));
    assert_eq!(described(&late), (Inconclusive, vec![NO_REST.to_owned()]));
    // What else is wrong with it may be the sentinel's own.
    let other = Failure::new("orphan-span", "its parent is missing");
    let result = judged(|world| world.record.facts.unrest = unrest([other]));
    assert_eq!(described(&result), (Inconclusive, vec![NO_REST.to_owned()]));
    let lost = Failure::new("lost-span", "`sample-app-1` ended it");
    let result = judged(|world| {
        world.record.facts.unrest = unrest([lost]);
        let tolerate = &mut world.record.scenario.tolerate;
        tolerate.insert("lost-span".to_owned(), "it is so".to_owned());
    });
    assert_eq!(described(&result), (Inconclusive, vec![NO_REST.to_owned()]));
}
