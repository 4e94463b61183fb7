//! Ways to an inconclusive verdict where a check asks for what the evidence cannot show, or not yet.

use super::*;
use crate::{ledger::CollectorEntry, record::CaseRecord};

/// Has the collector's sampler drop all of a trace.
fn drop_whole(of: &mut CaseRecord) {
    of.evidence.trace = None;
    let dropped = [("not_sampled".to_owned(), 4)].into();
    of.evidence.collector = Some(CollectorEntry {
        accepted: 4,
        sampled_out: [("tail_sampling".to_owned(), dropped)].into(),
        ..CollectorEntry::default()
    });
}

#[test]
fn a_scenario_whose_traces_were_all_dropped_by_a_sampler_is_inconclusive() {
    let all = judged(|world| drop_whole(&mut world.record.cases[0]));
    expect(
        &all,
        Inconclusive,
        "the collector's sampler `tail_sampling` dropped every trace, so that none was seen",
    );
    let one_of_two = judged(|world| {
        world.record.cases.push(world.record.cases[0].clone());
        drop_whole(&mut world.record.cases[1]);
    });
    assert_eq!(described(&one_of_two), (Pass, Vec::new()));
}

fn young(world: &mut World) {
    world.evidence().unsettled = Some("it is young".to_owned());
}

fn incomplete(world: &mut World) {
    world.lose_all();
    world.evidence().ledgers.clear();
    world.record.capabilities.retain(|one| *one != Capability::Completeness);
}

fn two_of_the_second() -> Vec<SpanCount> {
    let span = Matcher { at: Some("sample-app-2".to_owned()), ..Matcher::default() };
    vec![SpanCount { span, at_least: 2, at_most: None }]
}

#[test]
fn totals_of_what_may_still_come_or_cannot_be_seen_are_inconclusive() {
    let totals = |change: &dyn Fn(&mut World)| {
        judged(|world| {
            world.expect().totals = two_of_the_second();
            change(world);
        })
    };
    expect(&totals(&|_| {}), Fail, "totals: at least 2 of `sample-app-2` expected");
    let open = "totals: not evaluated, because it is young. Seen so far: at least 2 of `sample-app-2` expected";
    expect(&totals(&young), Inconclusive, open);
    let open = "totals: not evaluated, because the evidence does not give complete evidence";
    expect(&totals(&incomplete), Inconclusive, open);
}

#[test]
fn an_expectation_of_spans_that_may_still_come_is_inconclusive() {
    let result = judged(|world| {
        world.expect().spans = two_of_the_second();
        young(world);
    });
    let open = "spans: not evaluated, because it is young. Seen so far: at least 2 of `sample-app-2` expected";
    expect(&result, Inconclusive, open);
}

#[test]
fn absence_that_the_evidence_cannot_show_is_inconclusive() {
    let result = judged(|world| {
        incomplete(world);
        world.case().sampled = false;
        world.case().driver_exported = false;
        world.expect().absent = true;
    });
    let open = "absent: not evaluated, because the evidence does not give complete evidence";
    expect(&result, Inconclusive, open);
}

#[test]
fn an_answer_that_was_not_observed_is_not_evaluated_and_its_trace_is_judged() {
    let unobserved = |change: &dyn Fn(&mut World)| {
        judged(|world| {
            world.case().outcome = Outcome::Unobserved { found: "found by the search".to_owned() };
            world.record.scenario.requests[0].status = Some(201);
            change(world);
        })
    };
    let whole = unobserved(&|_| {});
    assert_eq!(
        (described(&whole), whole.cases[0].request.as_str()),
        ((Pass, vec![]), "found by the search")
    );
    let open = &whole.cases[0].findings.not_evaluated;
    assert!(open.iter().any(|open| open.rule == "response" && !open.required), "{open:?}");
    let broken = unobserved(&|world| world.stray("sample-app-2"));
    expect(&broken, Fail, "stray-trace");
    assert_eq!(broken.cases[0].ledger, None);
    // Nothing is asked of the answer.
    let silent = unobserved(&|world| world.record.scenario.requests[0].status = None);
    assert!(silent.cases[0].findings.not_evaluated.iter().all(|open| open.rule != "response"));
}

#[test]
fn where_nothing_came_yet_no_single_thing_is_open_as_well() {
    let result = judged(|world| {
        world.lose_all();
        world.evidence().unsettled = Some("it may still come".to_owned());
        world.expect().services = vec!["sample-app-2".to_owned()];
        world.expect().fails_at = Some("sample-app-2".to_owned());
    });
    expect(&result, Inconclusive, "no-trace: not evaluated, because it may still come");
    let required = result.unevaluated().filter(|open| open.required);
    assert_eq!(required.map(|open| open.rule.as_str()).collect::<Vec<_>>(), ["no-trace"]);
}
