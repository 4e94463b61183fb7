//! Spans that are late, and not lost: failures about missing spans that came after the case was judged, or may still come.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    case::{LateSpan, View},
    expectation::Expect,
    finding::Failure,
    trace::SpanId,
};

/// Expectations that may fail for want of spans.
const EXPECTATIONS: [&str; 7] =
    ["tree", "services", "spans", "fails_at", "linked", "order", "overlap"];

/// Says of failures about missing spans that these came late, or are known to be held back for longer than they are waited for.
pub(super) fn explain(failures: &mut [Failure], expect: &Expect, view: View<'_>) {
    let late = view.evidence.late.as_ref().filter(|late| !late.is_empty());
    let late = late.map(|late| Late::new(late, view));
    for failure in failures {
        let came_late = late.as_ref().and_then(|late| late.cause(failure, expect));
        let Some(cause) = came_late.or_else(|| held(failure, expect, view)) else {
            continue;
        };
        if failure.rule == "missing-hop" {
            // It does not say that the link is broken.
            let here = failure.service.as_deref().unwrap_or_default();
            let id = view.case.trace_id;
            failure.detail = format!("`{here}` has no server span in trace {id} in time");
        }
        failure.set_cause(cause);
    }
}

/// Spans that came late.
struct Late<'a> {
    view: View<'a>,
    /// The workloads that it is of, by span.
    workloads: HashMap<SpanId, &'a str>,
    /// How many spans of each workload, and how late the last was: milliseconds.
    arrived: BTreeMap<&'a str, (usize, u64)>,
    /// The parents that captured spans name.
    parents: HashMap<SpanId, SpanId>,
}

impl<'a> Late<'a> {
    fn new(late: &'a [LateSpan], view: View<'a>) -> Self {
        let (mut workloads, mut arrived) = (HashMap::new(), BTreeMap::<&str, (usize, u64)>::new());
        for span in late {
            workloads.entry(span.span).or_insert(span.workload.as_str());
            let (spans, last) = arrived.entry(&span.workload).or_default();
            (*spans, *last) = (*spans + 1, span.after_ms.max(*last));
        }
        let mut parents = HashMap::new();
        for span in view.spans() {
            parents.entry(span.id).or_insert(span.parent_id);
        }
        let parents = parents.into_iter().filter_map(|(id, parent)| Some((id, parent?)));
        Self { view, workloads, arrived, parents: parents.collect() }
    }

    /// How late what a failure is about came, if it did.
    fn cause(&self, failure: &Failure, expect: &Expect) -> Option<String> {
        let of = |workload: Option<&str>| match workload {
            Some(name) => self.arrived.get_key_value(name).into_iter().collect(),
            None => Vec::new(),
        };
        let service = failure.service.as_deref();
        let late: Vec<_> = match failure.rule.as_str() {
            "no-trace" => self.arrived.iter().collect(),
            "missing-hop" => of(service),
            "lost-span" => {
                let is_late = failure.span.is_some_and(|span| self.workloads.contains_key(&span));
                of(service.filter(|_| is_late))
            }
            "orphan-span" => {
                let parent = failure.span.and_then(|span| self.parents.get(&span));
                of(parent.and_then(|parent| self.workloads.get(parent)).copied())
            }
            rule if EXPECTATIONS.contains(&rule) => self.arrived.iter().collect(),
            _ => Vec::new(),
        };
        let each = late.iter().map(|(workload, (spans, last))| {
            let spans = if *spans == 1 { "1 span".to_owned() } else { format!("{spans} spans") };
            format!("{spans} of `{workload}` arrived {} after the answer", seconds(*last))
        });
        let each: Vec<String> = each.collect();
        if each.is_empty() {
            return None;
        }
        let why = why_late(self.view, &late);
        let within = seconds(millis(expect.within));
        Some(format!("not lost, but late: {}, and `within` is {within}; {why}", each.join(", ")))
    }
}

/// Names those whose SDKs keep spans for as long as these were late, or who else may have.
fn why_late(view: View<'_>, late: &[(&&str, &(usize, u64))]) -> String {
    let delays =
        late.iter().map(|(workload, (_, last))| (**workload, *last, held_for(view, workload)));
    let delays: Vec<(&str, u64, Option<u64>)> = delays.collect();
    // Who keeps them for less than half of that time is not the reason.
    let reasons = delays.iter().filter_map(|(workload, last, delay)| {
        let delay = delay.filter(|delay| delay.saturating_mul(2) >= *last)?;
        Some(format!(
            "`{workload}` keeps spans for up to {} (OTEL_BSP_SCHEDULE_DELAY)",
            seconds(delay)
        ))
    });
    let reasons: Vec<String> = reasons.collect();
    if !reasons.is_empty() {
        format!("{}; lower that, or raise `within`", reasons.join(", "))
    } else if delays.iter().all(|(_, _, delay)| delay.is_some()) {
        "their SDKs are not set to keep them for so long, so look at what is behind those: batches and samplers of the collector (`timeout`, `decision_wait`), or what had to be sent again; or raise `within`".to_owned()
    } else {
        "lower what its SDK keeps them for (OTEL_BSP_SCHEDULE_DELAY, 5 s where it is not set), or raise `within`".to_owned()
    }
}

/// How long those that a failure is about may hold back what it misses, where that is longer than it was waited for, and it is unknown yet
/// whether it comes.
fn held(failure: &Failure, expect: &Expect, view: View<'_>) -> Option<String> {
    if view.evidence.late.is_some() {
        return None;
    }
    let who = match failure.rule.as_str() {
        "no-trace" => view.case.entry(view.topology),
        "missing-hop" | "lost-span" => failure.service.as_deref(),
        "orphan-span" => failure.hop.as_ref().map(|hop| hop.caller.as_str()),
        _ => None,
    }?;
    let delay = held_for(view, who).filter(|delay| *delay >= millis(expect.within))?;
    Some(format!(
        "`{who}` keeps spans for up to {} (OTEL_BSP_SCHEDULE_DELAY), and `within` is {}, so that they may be late and not lost; lower the delay, or raise `within`",
        seconds(delay),
        seconds(millis(expect.within))
    ))
}

fn held_for(view: View<'_>, workload: &str) -> Option<u64> {
    let mut services = view.topology.services.iter();
    services.find(|service| service.workload == workload)?.held_for_ms
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) {
        format!("{} s", ms / 1000)
    } else {
        format!("{:.1} s", ms as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::Capability,
        judge::{judge, testing::World},
        verdict::{ScenarioResult, Verdict},
    };

    const FIRST: &str = "sample-app-1";

    /// A system without ledgers of whose first service nothing came in time.
    fn world() -> World {
        let mut world = World::healthy();
        world.record.scenario.system =
            crate::scenario::SystemChoice::File("shop.system.yaml".into());
        world.record.capabilities.retain(|one| *one != Capability::Ledger);
        world.evidence().ledgers.clear();
        world.record.topology.services[0].callees = vec!["sample-app-2".to_owned()];
        world.lose(FIRST);
        world
    }

    fn late(ids: &[u64]) -> Vec<LateSpan> {
        let span =
            |id: &u64| LateSpan { span: SpanId(*id), workload: FIRST.to_owned(), after_ms: 5_900 };
        ids.iter().map(span).collect()
    }

    fn orphan(result: &ScenarioResult) -> &Failure {
        let failures = &result.cases[0].findings.failures;
        failures.iter().find(|failure| failure.rule == "orphan-span").unwrap()
    }

    #[test]
    fn what_came_after_the_verdict_is_late_and_not_lost() {
        let mut world = world();
        let result = judge(&world.record);
        assert!(orphan(&result).detail.contains("lost on their way"), "{result:#?}");
        world.evidence().late = Some(late(&[0xa1, 0xa2]));
        let result = judge(&world.record);
        let found = orphan(&result);
        assert!(
            found.detail.ends_with(
                "names the parent 00000000000000a2, which was not captured: not lost, but late: 2 spans of `sample-app-1` arrived 5.9 s after the answer, and `within` is 1 s; lower what its SDK keeps them for (OTEL_BSP_SCHEDULE_DELAY, 5 s where it is not set), or raise `within`"
            ),
            "{}",
            found.detail
        );
        assert_eq!(result.verdict, Verdict::Fail);
    }

    #[test]
    fn a_service_that_keeps_spans_for_a_moment_is_not_why_they_are_late() {
        let why = |delay: u64| {
            let mut world = world();
            world.evidence().late = Some(late(&[0xa1, 0xa2]));
            world.record.topology.services[0].held_for_ms = Some(delay);
            orphan(&judge(&world.record)).detail.clone()
        };
        assert!(why(5_000).ends_with(
            "`sample-app-1` keeps spans for up to 5 s (OTEL_BSP_SCHEDULE_DELAY); lower that, or raise `within`"
        ));
        let behind = "look at what is behind those: batches and samplers of the collector";
        assert!(
            why(100).contains(behind) && !why(100).contains("BSP_SCHEDULE_DELAY"),
            "{}",
            why(100)
        );
    }

    #[test]
    fn another_span_that_came_late_explains_no_missing_parent() {
        let mut world = world();
        world.evidence().late = Some(late(&[0xa9]));
        let result = judge(&world.record);
        assert!(!orphan(&result).detail.contains("late"), "{result:#?}");
    }

    #[test]
    fn a_service_that_is_known_to_hold_spans_back_for_longer_is_not_said_to_have_lost_them() {
        let mut world = world();
        world.record.topology.services[0].held_for_ms = Some(9_000);
        let detail = |world: &World| orphan(&judge(&world.record)).detail.clone();
        assert!(
            detail(&world).contains("`sample-app-1` keeps spans for up to 9 s (OTEL_BSP_SCHEDULE_DELAY), and `within` is 1 s, so that they may be late and not lost"),
            "{}",
            detail(&world)
        );
        // All have stopped, and nothing came.
        world.evidence().late = Some(Vec::new());
        assert!(detail(&world).contains("lost on their way"), "{}", detail(&world));
        world.evidence().late = None;
        world.record.topology.services[0].held_for_ms = Some(999);
        assert!(detail(&world).contains("lost on their way"), "{}", detail(&world));
    }

    #[test]
    fn a_whole_trace_that_came_late_and_a_missing_hop_say_so() {
        let mut world = World::healthy();
        world.lose_all();
        world.evidence().late = Some(late(&[0xa1]));
        let result = judge(&world.record);
        let [only] = &result.cases[0].findings.failures[..] else { panic!("{result:#?}") };
        assert!(
            only.rule == "no-trace"
                && only.detail.contains("not lost, but late: 1 span of `sample-app-1` arrived"),
            "{only:#?}"
        );
        let mut world = World::healthy();
        world.lose("sample-app-2");
        let mut spans = late(&[0xb1]);
        spans[0].workload = "sample-app-2".to_owned();
        world.evidence().late = Some(spans);
        let result = judge(&world.record);
        let failures = &result.cases[0].findings.failures;
        assert!(
            failures.iter().all(|failure| !failure.detail.contains("is broken")),
            "{failures:#?}"
        );
    }
}
