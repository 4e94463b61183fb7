//! Expectations of all requests of a scenario together.

use super::*;

#[test]
fn an_outage_that_was_asked_for_must_have_taken_place() {
    let wanting = |refused: Option<u64>| {
        judged(|world| {
            world.expect().refused_attempts = 2;
            world.record.facts.refused = refused;
        })
    };
    assert_eq!(wanting(Some(2)).verdict, Pass);
    expect(&wanting(Some(1)), Fail, "but refused 1: the outage did not take place");
    expect(&wanting(None), Inconclusive, "refused-attempts: not evaluated");
    let unsent = judged(|world| {
        world.expect().refused_attempts = 2;
        world.record.cases.clear();
    });
    assert_eq!(described(&unsent), (Inconclusive, Vec::new()));
}

#[test]
fn senders_must_be_refused_and_lose_what_is_said() {
    let refused = |refused: Option<u64>| {
        judged(|world| {
            world.expect().refused_exports = 2;
            world.record.facts.refused_exports = refused;
        })
    };
    assert_eq!(refused(Some(2)).verdict, Pass);
    expect(&refused(Some(1)), Fail, "should have refused at least 2 requests of services");
    expect(&refused(None), Inconclusive, "refused-exports: not evaluated");
    let losing = |wanted: u64, stages: Option<Stages>| {
        judged(|world| {
            world.expect().lost_by_senders = Some(wanted);
            world.record.facts.stages = stages;
        })
    };
    assert_eq!(losing(0, Some(stages(4))).verdict, Pass);
    expect(
        &losing(3, Some(stages(4))),
        Fail,
        "should have lost 3 spans, and the collectors lack 0",
    );
    expect(&losing(0, None), Inconclusive, "lost-by-senders: not evaluated");
    let mut lacking = stages(4);
    lacking.services.push(("sample-app-3".to_owned(), Ok(3)));
    assert_eq!(losing(3, Some(lacking)).verdict, Pass);
}

#[test]
fn stages_that_are_to_balance_must_be_known_and_agree() {
    let balance = |stages: Option<Stages>| {
        judged(|world| {
            world.expect().balance = Some(BalanceExpect { collector_instances: 1 });
            world.record.facts.stages = stages;
        })
    };
    assert_eq!(balance(Some(stages(4))).verdict, Pass);
    expect(&balance(Some(stages(3))), Fail, "and the intake took 3");
    expect(
        &balance(None),
        Inconclusive,
        "balance: not evaluated, because the stages were not asked",
    );
    let unknown = Stages { captured: None, ..stages(4) };
    expect(&balance(Some(unknown)), Inconclusive, "does not come from the mock intake");
}

#[test]
fn what_the_stages_reported_at_a_failure_is_in_the_result() {
    let result = judged(|world| {
        world.lose("sample-app-2");
        world.record.facts.stages_at_failure = Some(stages(3));
    });
    assert!(result.ledger.unwrap().contains("sample-app-2 ended 1"));
}

#[test]
fn stats_that_were_asked_for_are_judged_or_it_is_reported_why_not() {
    let asking = |record: StatsRecord| {
        judged(|world| {
            world.expect().stats = Some(StatsExpect::default());
            world.record.stats = record;
        })
    };
    let forms = Forms::default();
    assert_eq!(asking(StatsRecord::Captured(Captured::default())).verdict, Pass);
    expect(&asking(StatsRecord::NoPayloads), Inconclusive, "stats: not evaluated");
    expect(&asking(StatsRecord::NotReached(forms)), Inconclusive, "stats: not evaluated");
    // A collector that could not be stopped is reported once, as what could not be done.
    let unsent = judged(|world| {
        world.expect().stats = Some(StatsExpect::default());
        world.record.stats = StatsRecord::NotSent(forms);
        world.record.facts.undone.push("the collector could not be made to send".to_owned());
    });
    let reasons = vec!["the collector could not be made to send".to_owned()];
    assert_eq!(described(&unsent), (Inconclusive, reasons));
    let without = Forms { otlp: true, without_stats: true };
    let wanting = judged(|world| {
        world.expect().trace_metrics = Some(true);
        world.record.stats = StatsRecord::NotAsked(without);
    });
    expect(&wanting, Fail, "trace-metrics: the spans were sent as OTLP without the header");
}

#[test]
fn totals_are_counted_over_all_requests() {
    let record = |at_least: usize, at_most: Option<usize>, span: Matcher| {
        let mut world = World::healthy();
        let mut another = world.record.cases[0].clone();
        (another.case.ordinal, another.case.trace_id) = (1, TraceId(77));
        let trace = another.evidence.trace.as_mut().unwrap();
        trace.spans.retain(|span| span.service != "sample-app-2");
        world.record.cases.push(another);
        world.expect().totals = vec![SpanCount { span, at_least, at_most }];
        world.record
    };
    let described = |at_least: usize, at_most: Option<usize>, span: Matcher| {
        let failures = judge(&record(at_least, at_most, span)).failures.into_iter();
        failures.filter(|failure| failure.rule == "totals").map(|failure| failure.detail).collect()
    };
    let at = |at: &str| Matcher {
        at: Some(at.to_owned()),
        kind: Some("server".to_owned()),
        ..Matcher::default()
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(described(2, Some(2), at("sample-app-1")), none);
    assert_eq!(described(1, Some(1), at("sample-app-2")), none);
    let few: Vec<String> = described(2, None, at("sample-app-2"));
    assert_eq!(
        few,
        [
            "at least 2 of `sample-app-2 server` expected in all 2 traces, 1 captured; no other span comes close"
        ]
    );
    let many: Vec<String> = described(0, Some(1), at("sample-app-1"));
    assert!(many[0].starts_with("0 to 1 of `sample-app-1 server` expected in all 2 traces, 2 captured; most are in trace "), "{many:?}");
    let failed = |name: &str| Matcher { error: Some(true), ..at(name) };
    assert_eq!(described(0, Some(0), failed("sample-app-2")), none);
    let vacuous: Vec<String> = described(0, Some(0), failed("sample-app-9"));
    assert!(vacuous[0].contains("no trace has a span of `sample-app-9` at all"), "{vacuous:?}");
    let nearest: Vec<String> = described(1, None, failed("sample-app-2"));
    assert!(nearest[0].ends_with(": should be marked as an error"), "{nearest:?}");
    // More spans may still come where there are too few; where there are too many, nothing helps.
    for (at_least, at_most, is_final) in [(2, Some(2), true), (3, None, false), (0, Some(1), true)]
    {
        let record = record(at_least, at_most, at("sample-app-1"));
        assert_eq!(totals_are_final(&record), is_final, "{at_least} to {at_most:?}");
    }
}
