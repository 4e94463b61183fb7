//! Judges the run of a system as a whole, beyond the verdicts of its scenarios.

use super::{consistency, sampled};
use crate::{
    case::Capability,
    finding::{SystemFindings, Warning},
    record::{Record, SystemFacts},
    rule, stats,
    strays::Nobodys,
    verdict::{ScenarioResult, Verdict},
};

/// Judges the run of a system by its facts, the traces that belong to no request, the records of all its scenarios, and the results
/// of those that are to be reported. Pure, as [`super::judge`] is.
pub fn judge_system(
    facts: &SystemFacts,
    nobodys: &Nobodys,
    records: &[&Record],
    results: &[&ScenarioResult],
) -> SystemFindings {
    let system = &facts.name;
    let judged: Vec<(&Record, &ScenarioResult)> = records
        .iter()
        .filter_map(|record| {
            let result = results.iter().find(|result| result.name == record.scenario.name);
            Some((*record, *result?))
        })
        .collect();
    let reported = || judged.iter().map(|(record, _)| *record);
    let of_results = || judged.iter().map(|(_, result)| *result);
    let mut found = nobodys.judge(system, not_concluded(facts, records).as_deref());
    let known = facts.foreseen.iter().map(|text| format!("{system}: {text}"));
    let panicked = facts.panicked.iter().map(|text| format!("a scenario was not judged: {text}"));
    let metrics = facts
        .lacks_trace_metrics
        .then(|| format!("{system}: {}", stats::no_trace_metrics_warning()));
    // Where one fails, its failures say so.
    let is_passed = of_results().all(|result| result.verdict == Verdict::Pass);
    let lossy = facts.export_errors.iter().filter(|_| is_passed).map(|(workload, line)| {
        format!(
            "{system}: spans may be missing that nothing asks for: the log of `{workload}` says `{line}`"
        )
    });
    let of_strays = std::mem::take(&mut found.warnings);
    let of_rules = [
        rule::literals_warning(system, reported()),
        rule::levels_warning(system, reported()),
        consistency::warning(system, judged.iter().copied()),
        sampled::warning(system, of_results()),
    ];
    let before = known.chain(panicked).chain(metrics).chain(lossy).map(Warning::from);
    let after = facts.taking_down().map(Warning::from);
    found.warnings =
        before.chain(of_strays).chain(of_rules.into_iter().flatten()).chain(after).collect();
    found
}

/// Returns the reason why nothing is concluded of traces that belong to no request: what would show whose they are may be missing, or
/// they are tolerated.
fn not_concluded(facts: &SystemFacts, records: &[&Record]) -> Option<String> {
    let needs = [Capability::Exclusiveness, Capability::Completeness];
    let gives = |need| records.iter().all(|record| record.capabilities.contains(need));
    if let Some(lacking) = needs.iter().find(|need| !gives(need)) {
        return Some(format!("the evidence does not give {}", lacking.name()));
    }
    let tolerates = |record: &&Record| record.scenario.tolerate.contains_key(rule::STRAY);
    let because = if facts.is_cancelled {
        "the run was cancelled"
    } else if !facts.unclean.is_empty() {
        "the system did not stop cleanly"
    } else if !facts.gaps.is_empty() {
        "the evidence has a gap"
    } else if !facts.exits.is_empty() {
        "a workload ended by itself"
    } else if records.iter().any(tolerates) {
        "a scenario tolerates `stray-trace`"
    } else {
        return None;
    };
    Some(because.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::Origin,
        judge::{judge, testing::World},
        strays::{Group, When},
        trace::{SpanId, TraceId},
    };

    fn nobodys() -> Nobodys {
        let group = |origin: Origin| Group {
            kind: if origin == Origin::Foreign { "server" } else { "internal" }.to_owned(),
            origin,
            service: "mail".to_owned(),
            resource: "send".to_owned(),
            status: None,
            count: 1,
            first: TraceId(7),
            first_span: Some(SpanId(7)),
            services: vec!["mail".to_owned()],
            when: When::Before,
        };
        Nobodys { groups: vec![group(Origin::Unexplained), group(Origin::Foreign)], more: 0 }
    }

    fn found(change: impl FnOnce(&mut SystemFacts, &mut Record)) -> SystemFindings {
        let mut record = World::healthy().record;
        let mut facts = SystemFacts { name: "the shop".to_owned(), ..SystemFacts::default() };
        change(&mut facts, &mut record);
        let result = judge(&record);
        judge_system(&facts, &nobodys(), &[&record], &[&result])
    }

    fn texts(found: &SystemFindings) -> Vec<&str> {
        found.warnings.iter().map(|warning| warning.text.as_str()).collect()
    }

    #[test]
    fn a_log_that_reports_lost_exports_is_a_warning_where_all_passes() {
        let found = found(|facts, _| {
            let line = "Queue is full, likely spans/logs will be dropped.".to_owned();
            facts.export_errors.insert("depot".to_owned(), line);
        });
        let warned = texts(&found)[0];
        assert!(warned.contains("the log of `depot` says `Queue is full"), "{warned}");
        let mut failing = World::healthy();
        failing.lose_all();
        let result = judge(&failing.record);
        let mut facts = SystemFacts::default();
        facts.export_errors.insert("depot".to_owned(), "Queue is full".to_owned());
        let none = Nobodys::default();
        let found = judge_system(&facts, &none, &[&failing.record], &[&result]);
        assert!(!texts(&found).iter().any(|text| text.contains("Queue is full")), "{found:?}");
    }

    #[test]
    fn traces_of_nobody_make_a_run_inconclusive_and_those_of_third_parties_are_a_warning() {
        let found = found(|_, _| {});
        assert!(found.undecided[0].starts_with("the shop: 1 trace began by no known request"));
        assert!(texts(&found)[0].starts_with("the shop: 1 trace began by requests of third"));
        assert_eq!((found.undecided.len(), found.warnings.len(), found.notes.len()), (1, 1, 0));
    }

    /// Checks that nothing is concluded of strays, and that the reason is given with each note of them.
    #[track_caller]
    fn assert_not_concluded(because: &str, change: impl FnOnce(&mut SystemFacts, &mut Record)) {
        let found = found(change);
        assert_eq!(found.undecided, [""; 0]);
        assert!(!texts(&found).iter().any(|text| text.contains("third parties")), "{found:?}");
        let reason = format!("(not judged: {because})");
        assert_eq!(
            found.notes.iter().filter(|note| note.ends_with(&reason)).count(),
            2,
            "{found:?}"
        );
    }

    #[test]
    fn each_reason_not_to_conclude_anything_of_strays_is_given() {
        assert_not_concluded("the run was cancelled", |facts, _| facts.is_cancelled = true);
        assert_not_concluded("the system did not stop cleanly", |facts, _| {
            facts.unclean.push("`mail` was killed".to_owned());
        });
        assert_not_concluded("the evidence has a gap", |facts, _| {
            facts.gaps.push("3 attempts".to_owned());
        });
        assert_not_concluded("a workload ended by itself", |facts, _| {
            facts.exits.push("`mail` ended".to_owned());
        });
        assert_not_concluded("a scenario tolerates `stray-trace`", |_, record| {
            record.scenario.tolerate.insert("stray-trace".to_owned(), "it is so".to_owned());
        });
        for lacking in [Capability::Exclusiveness, Capability::Completeness] {
            assert_not_concluded(
                &format!("the evidence does not give {}", lacking.name()),
                |_, record| record.capabilities.retain(|capability| *capability != lacking),
            );
        }
    }

    #[test]
    fn the_first_of_several_reasons_is_given() {
        assert_not_concluded("the run was cancelled", |facts, record| {
            facts.is_cancelled = true;
            facts.unclean.push("`mail` was killed".to_owned());
            facts.exits.push("`mail` ended".to_owned());
            record.scenario.tolerate.insert("stray-trace".to_owned(), "it is so".to_owned());
        });
    }

    #[test]
    fn facts_of_the_system_are_warnings_in_the_order_of_the_run() {
        let found = found(|facts, _| {
            facts.undone.push("a folder is left".to_owned());
            facts.unclean.push("`mail` was killed".to_owned());
            facts.lacks_trace_metrics = true;
            facts.panicked.push("`one`: index out of bounds".to_owned());
            facts.foreseen.push("`mail` waits for long".to_owned());
        });
        let metrics = format!("the shop: {}", stats::no_trace_metrics_warning());
        assert_eq!(
            texts(&found),
            [
                "the shop: `mail` waits for long",
                "a scenario was not judged: `one`: index out of bounds",
                &metrics,
                "taking the shop down: `mail` was killed",
                "taking the shop down: a folder is left",
            ]
        );
    }

    #[test]
    fn what_is_not_reported_has_no_warnings_and_still_a_say_in_whose_strays_are() {
        let mut record = World::healthy().record;
        record.scenario.tolerate.insert("stray-trace".to_owned(), "it is so".to_owned());
        let trace = record.cases[0].evidence.trace.as_mut().unwrap();
        trace.spans[1].meta.insert("http.target".to_owned(), "/".to_owned());
        let facts = SystemFacts::default();
        let nobodys = nobodys();
        let judged =
            |results: &[&ScenarioResult]| judge_system(&facts, &nobodys, &[&record], results);
        let warned =
            |found: &SystemFindings| texts(found).join("").contains("deprecated-attribute");
        assert!(warned(&judged(&[&judge(&record)])));
        let found = judged(&[]);
        assert!(!warned(&found), "{found:?}");
        assert!(found.notes[0].contains("tolerates `stray-trace`"), "{found:?}");
    }
}
