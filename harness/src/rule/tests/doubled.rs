//! At which stage one span became two.

use super::{World, altered::shown, stage::collector};
use crate::{
    case::Shape,
    finding::{Failure, Stage},
    ledger::CollectorEntry,
    trace::SpanId,
};

/// Says of a trace in which app-2's span is there twice.
fn reported(change: impl FnOnce(&mut World)) -> Failure {
    let mut world = World::healthy();
    let again = world.span(0xb1).clone();
    world.spans().push(again);
    change(&mut world);
    let failures = world.findings().failures;
    let found: Vec<_> = failures.into_iter().filter(|one| one.rule == "duplicate-span").collect();
    let [only] = &found[..] else { panic!("{found:#?}") };
    only.clone()
}

fn stage(change: impl FnOnce(&mut World)) -> Option<Stage> {
    reported(change).stage
}

fn without_ledgers(world: &mut World) {
    world.evidence.ledgers.clear();
    world.shape = Shape::default();
}

#[test]
fn a_service_that_ended_two_spans_of_one_id_did_it_itself() {
    let found = reported(|world| {
        let again = world.ledger("app-2").spans[0].clone();
        world.ledger("app-2").spans.push(again);
        world.evidence.collector = Some(collector(5, 5, &[]));
    });
    assert_eq!(found.stage, Some(Stage::Service));
    assert!(found.detail.contains("look at its generator of ids"), "{}", found.detail);
}

#[test]
fn different_spans_of_one_id_are_of_no_stage() {
    let found = reported(|world| {
        world.spans().last_mut().unwrap().name = "another".to_owned();
        world.evidence.collector = Some(collector(5, 5, &[]));
    });
    assert_eq!(found.stage, None);
    assert!(found.detail.contains("different spans with one id"), "{}", found.detail);
}

#[test]
fn what_came_to_the_collector_more_often_than_it_was_made_was_doubled_before() {
    let took_more = |world: &mut World| world.evidence.collector = Some(collector(5, 5, &[]));
    assert_eq!(stage(took_more), Some(Stage::BeforeCollector));
    // Without ledgers, where all stages agree.
    let all_agree = |world: &mut World| {
        without_ledgers(world);
        world.evidence.collector = Some(collector(5, 5, &[]));
    };
    assert_eq!(stage(all_agree), Some(Stage::BeforeCollector));
}

#[test]
fn what_the_collector_sent_more_often_than_it_took_was_doubled_in_it() {
    for ledgers in [true, false] {
        let sent_more = |world: &mut World| {
            if !ledgers {
                without_ledgers(world);
            }
            world.evidence.collector = Some(collector(4, 5, &[]));
        };
        let found = reported(sent_more);
        assert_eq!(found.stage, Some(Stage::Collector), "{ledgers}");
        assert!(found.detail.contains("took 4 spans of the trace and sent 5"), "{}", found.detail);
    }
}

#[test]
fn what_was_captured_more_often_than_it_was_sent_was_doubled_behind_unless_it_may_have_been_sent_again()
 {
    let behind = |world: &mut World| world.evidence.collector = Some(collector(4, 4, &[]));
    assert_eq!(stage(behind), Some(Stage::BehindCollector));
    // In two payloads, a retry of the collector's after an answer that got lost does it as well.
    let in_two = |world: &mut World, retried: Option<&str>| {
        world.spans().last_mut().unwrap().attempt = 2;
        let mut entry = collector(4, 4, &[]);
        entry.exporters.get_mut("datadog").unwrap().retried = retried.map(str::to_owned);
        world.evidence.collector = Some(entry);
    };
    assert_eq!(stage(|world| in_two(world, Some("timed out"))), None);
    assert_eq!(stage(|world| in_two(world, None)), Some(Stage::BehindCollector));
}

#[test]
fn where_no_collector_reports_no_stage_is_named() {
    assert_eq!(stage(|_| {}), None);
    let forgotten = CollectorEntry { evicted: true, ..collector(5, 5, &[]) };
    assert_eq!(stage(|world| world.evidence.collector = Some(forgotten)), None);
}

/// Failures where app-2's span passed the collector several times, and was captured once; by services without a ledger, or with one.
fn equal_payloads(taken: usize, sent: usize, ledgers: bool) -> Vec<Failure> {
    let mut world = shown();
    let entry = world.evidence.collector.as_mut().unwrap();
    let again = entry.spans.iter().find(|span| span.id == SpanId(0xb1)).unwrap().clone();
    entry.spans.extend(std::iter::repeat_n(again, taken - 1));
    entry.accepted += taken as u64 - 1;
    let exported = entry.exporters.get_mut("datadog").unwrap();
    let again = exported.spans.iter().find(|span| span.id == SpanId(0xb1)).unwrap().clone();
    exported.spans.extend(std::iter::repeat_n(again, sent - 1));
    exported.exported += sent as u64 - 1;
    if !ledgers {
        without_ledgers(&mut world);
    }
    world.findings().failures
}

#[test]
fn a_span_that_is_sent_again_in_an_equal_payload_came_twice_and_is_not_lost() {
    for ledgers in [true, false] {
        for (taken, stage) in [(2, Stage::BeforeCollector), (1, Stage::Collector)] {
            let found = equal_payloads(taken, 2, ledgers);
            let [only] = &found[..] else { panic!("{ledgers} {taken}: {found:#?}") };
            assert_eq!((&*only.rule, only.stage), ("duplicate-span", Some(stage)));
            assert_eq!(only.service.as_deref(), Some("app-2"));
            assert!(only.detail.contains("was sent to Datadog 2 times"), "{}", only.detail);
        }
        // What came twice and left once, as where a processor removes copies.
        assert_eq!(equal_payloads(2, 1, ledgers), []);
    }
}

#[test]
fn of_two_spans_with_one_id_the_one_that_its_service_never_ended_is_named() {
    let mut world = World::healthy();
    world.span(0xb1).id = SpanId(0xa2);
    let failures = world.findings().failures;
    let twice = failures.iter().filter(|one| one.rule == "duplicate-span").collect::<Vec<_>>();
    let [only] = &twice[..] else { panic!("{failures:#?}") };
    assert_eq!(only.service.as_deref(), Some("app-2"));
    assert!(only.detail.contains("and `app-2` ended none with it"), "{}", only.detail);
}

#[test]
fn of_two_spans_with_one_id_the_one_that_has_its_parents_is_named_where_no_ledger_shows_it() {
    let mut world = World::healthy();
    without_ledgers(&mut world);
    world.span(0xb1).id = SpanId(0xa2);
    let failures = world.findings().failures;
    let twice = failures.iter().find(|one| one.rule == "duplicate-span").unwrap();
    assert_eq!(twice.service.as_deref(), Some("app-2"));
    assert!(twice.detail.contains("the one of `app-2` has that of its parent"), "{}", twice.detail);
}
