//! One diagnosis in place of many findings: what is explained by another finding of the same trace is folded below it.
//!
//! Pure, and by what findings are about alone: their rules, services, links and spans. Only a finding of an earlier tier explains
//! others, so that no two explain each other.

use std::collections::HashMap;

use crate::{
    finding::{Changed, Failure, Stage},
    trace::SpanId,
};

/// Rules whose findings explain others, those that say most first.
const TIERS: [&[&str]; 7] = [
    &["no-trace"],
    &["sampled-out", "duplicate-span"],
    &["sampled-differently", "missing-service-name", "wrong-service", "altered-span"],
    &["lost-span", "undelivered-span"],
    &["missing-hop", "trace-id-halves-disagree"],
    &["orphan-span", "several-roots", "parent-cycle", "wrong-service-edge", "outside-request"],
    &["missing-attributes", "child-outside-parent"],
];
/// Rules whose findings are explained by others, and explain none.
const SYMPTOMS: [&str; 8] = [
    "stray-trace",
    "invented-span",
    "top-level-lost",
    "unnamed-resource",
    "error-not-marked",
    "error-not-injected",
    "no-duration",
    "status-disagrees",
];

/// Folds each finding that another one explains below that one.
pub(super) fn fold(failures: Vec<Failure>) -> Vec<Failure> {
    let explainer = explainers(&failures);
    let mut diagnoses: Vec<Option<Failure>> = failures.into_iter().map(Some).collect();
    for symptom in 0..diagnoses.len() {
        let Some(mut above) = explainer[symptom] else { continue };
        // What explains may be explained itself: one diagnosis, and all of its symptoms below it.
        while let Some(further) = explainer[above] {
            above = further;
        }
        if let (Some(folded), Some(diagnosis)) =
            (diagnoses[symptom].take(), diagnoses.get_mut(above).and_then(Option::as_mut))
        {
            diagnosis.symptoms.push(folded);
        }
    }
    diagnoses.into_iter().flatten().collect()
}

/// Returns for each finding the one that explains it: of those that say most, the first.
fn explainers(failures: &[Failure]) -> Vec<Option<usize>> {
    // What explains what is a matter of what findings are about, which many share, and of their spans, which few do.
    let mut kinds: HashMap<Kind<'_>, Vec<usize>> = HashMap::new();
    let mut of_span: HashMap<SpanId, Vec<usize>> = HashMap::new();
    for (index, one) in failures.iter().enumerate() {
        kinds.entry(Kind::of(one)).or_default().push(index);
        if let Some(span) = one.span.filter(|_| tier(one).is_some()) {
            of_span.entry(span).or_default().push(index);
        }
    }
    // The first of each kind that explains anything stands for all of it.
    let first = kinds.values().filter_map(|of| of.first().copied());
    let explaining: Vec<usize> = first.filter(|index| tier(&failures[*index]).is_some()).collect();
    let explains = |one: usize, symptom: usize, is_same_span: bool| {
        let (above, below) = (&failures[one], &failures[symptom]);
        one != symptom && explains(above, below, one < symptom, is_same_span)
    };
    let mut explainers = vec![None; failures.len()];
    for of in kinds.values() {
        let Some(example) = of.first().map(|index| &failures[*index]) else { continue };
        // It may explain those of its kind that come behind it.
        let may_explain = |one: &usize| self::explains(&failures[*one], example, true, false);
        let above: Vec<usize> = explaining.iter().copied().filter(may_explain).collect();
        for &symptom in of {
            let above = above.iter().copied().filter(|one| explains(*one, symptom, false));
            let same = failures[symptom].span.and_then(|span| of_span.get(&span));
            let same = same.into_iter().flatten().copied();
            let same = same.filter(|one| explains(*one, symptom, true));
            explainers[symptom] = above.chain(same).min_by_key(|one| (tier(&failures[*one]), *one));
        }
    }
    explainers
}

/// All of a finding, but for its span, that decides what explains it and what it explains.
#[derive(PartialEq, Eq, Hash)]
struct Kind<'a> {
    rule: &'a str,
    service: Option<&'a str>,
    hop: Option<(&'a str, &'a str)>,
    stage: Option<Stage>,
    /// The cause, where the findings of one rule are distinguished by it.
    cause: Option<&'a str>,
    changed: Option<Changed>,
}

impl<'a> Kind<'a> {
    fn of(failure: &'a Failure) -> Self {
        let hop = failure.hop.as_ref();
        Self {
            rule: &failure.rule,
            service: failure.service.as_deref(),
            hop: hop.map(|hop| (hop.caller.as_str(), hop.callee.as_str())),
            stage: failure.stage,
            cause: failure.cause.as_deref().filter(|_| stands_for_all(&failure.rule)),
            changed: failure.changed,
        }
    }
}

/// Returns whether the first finding of a rule stands for all of the same service, stage and cause.
fn stands_for_all(rule: &str) -> bool {
    matches!(rule, "lost-span" | "altered-span")
}

fn tier(failure: &Failure) -> Option<usize> {
    TIERS.iter().position(|rules| rules.contains(&failure.rule.as_str()))
}

/// Returns whether one finding explains another one; `earlier` says whether it was found before it, and `is_same_span` whether they are
/// about one span.
fn explains(one: &Failure, other: &Failure, earlier: bool, is_same_span: bool) -> bool {
    let Some(above) = tier(one) else { return false };
    let (rule, of) = (one.rule.as_str(), other.rule.as_str());
    match tier(other) {
        // Of the same kind, service and stage, the first stands for all.
        Some(below) if below == above => {
            let same = rule == of && one.service == other.service && one.stage == other.stage;
            return earlier && same && stands_for_all(rule) && one.cause == other.cause;
        }
        Some(below) if below < above => return false,
        None if !SYMPTOMS.contains(&of) => return false,
        _ => {}
    }
    if let Some(changed) = one.changed {
        return explains_fields(one, changed, other);
    }
    match (rule, of) {
        ("no-trace", _) => return true,
        // Where it is known that the collector lost the parent.
        ("undelivered-span", "orphan-span") => {
            return other.stage.is_some() && other.stage == one.stage;
        }
        _ => {}
    }
    let at = one.service.as_deref().or(one.hop.as_ref().map(|hop| hop.callee.as_str()));
    let Some(at) = at else { return is_same_span };
    let is_callee = other.hop.as_ref().is_some_and(|hop| hop.callee == at);
    let is_caller = other.hop.as_ref().is_some_and(|hop| hop.caller == at);
    let is_about = other.service.as_deref() == Some(at);
    match (rule, of) {
        // A link: what the callee shows on its side of it.
        ("missing-hop", "stray-trace" | "several-roots") => {
            is_callee || is_about || (one.hop.is_some() && one.hop == other.hop)
        }
        ("missing-hop", _) => is_same_span,
        // They are of a clock, or of single fields.
        ("outside-request", "child-outside-parent") => is_about || is_callee || is_caller,
        ("outside-request", _) | (_, "outside-request" | "no-duration" | "error-not-injected") => {
            false
        }
        // Who drops a trace sends on that it is dropped.
        ("sampled-out", "missing-hop") => is_callee || is_caller || is_about,
        ("sampled-out", "lost-span" | "stray-trace") => is_callee || is_about,
        ("sampled-out", "sampled-differently") => is_caller || is_about,
        ("sampled-differently", "orphan-span" | "missing-hop") => is_about || is_callee,
        // What was below a span that is not there hangs on nothing.
        ("sampled-out" | "lost-span" | "duplicate-span", "orphan-span") => is_caller || is_about,
        ("lost-span", "missing-hop") => is_callee || is_about,
        ("lost-span", _) => is_same_span,
        ("altered-span" | "wrong-service" | "missing-service-name" | "duplicate-span", _) => {
            is_about || is_callee || is_same_span || (of == "orphan-span" && is_caller)
        }
        (
            "trace-id-halves-disagree",
            "stray-trace" | "top-level-lost" | "orphan-span" | "several-roots",
        ) => is_about || is_callee,
        ("several-roots" | "orphan-span" | "parent-cycle" | "wrong-service-edge", _) => {
            is_same_span
        }
        // A route that went the way of other attributes.
        ("missing-attributes", "unnamed-resource") => is_about && one.stage == other.stage,
        _ => false,
    }
}

/// Returns whether fields that changed on their way explain what a rule about these fields finds.
fn explains_fields(one: &Failure, changed: Changed, other: &Failure) -> bool {
    let rule = other.rule.as_str();
    let is_judged =
        (changed.times && TIMES.contains(&rule)) || (changed.status && STATUSES.contains(&rule));
    let at = one.service.as_deref();
    let ends = other.hop.iter().flat_map(|hop| [&hop.caller, &hop.callee]);
    let mut services = ends.map(String::as_str).chain(other.service.as_deref());
    is_judged && services.any(|service| Some(service) == at)
}

/// Rules that judge the times of spans.
const TIMES: [&str; 3] = ["child-outside-parent", "outside-request", "no-duration"];
/// Rules that judge how spans, and the requests that they are of, ended.
const STATUSES: [&str; 3] = ["error-not-marked", "error-not-injected", "status-disagrees"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(rule: &str, service: &str, span: u64) -> Failure {
        Failure::new(rule, "").about(service).of_span(SpanId(span))
    }

    /// The rules of the diagnoses, each with those of its symptoms.
    fn folded(failures: Vec<Failure>) -> Vec<(String, Vec<String>)> {
        let diagnoses = fold(failures).into_iter();
        let rules = |symptoms: Vec<Failure>| symptoms.into_iter().map(|one| one.rule).collect();
        diagnoses.map(|one| (one.rule, rules(one.symptoms))).collect()
    }

    #[test]
    fn a_chain_of_explanations_ends_below_one_diagnosis() {
        let failures = vec![
            found("orphan-span", "pay", 3).on_hop("shop", "pay"),
            Failure::new("missing-hop", "").about("shop").on_hop("web", "shop"),
            found("lost-span", "shop", 1),
            found("lost-span", "shop", 2),
        ];
        let symptoms = ["orphan-span", "missing-hop", "lost-span"].map(str::to_owned).to_vec();
        assert_eq!(folded(failures), [("lost-span".to_owned(), symptoms)]);
    }

    #[test]
    fn fields_that_changed_explain_what_is_judged_by_them_alone() {
        let changed =
            |times, status| found("altered-span", "shop", 1).of_changed(Changed { times, status });
        let failures = |altered| {
            vec![
                altered,
                found("child-outside-parent", "pay", 2).on_hop("shop", "pay"),
                found("error-not-marked", "shop", 1),
                found("no-duration", "mail", 3),
            ]
        };
        let symptoms = |altered| folded(failures(altered)).remove(0).1;
        assert_eq!(symptoms(changed(true, false)), ["child-outside-parent"]);
        assert_eq!(symptoms(changed(false, true)), ["error-not-marked"]);
        assert_eq!(symptoms(changed(false, false)), [""; 0]);
        assert_eq!(symptoms(changed(true, true)), ["child-outside-parent", "error-not-marked"]);
    }

    #[test]
    fn a_clock_of_another_day_explains_what_lies_outside_its_parent() {
        let failures = vec![
            found("child-outside-parent", "pay", 2).on_hop("shop", "pay"),
            found("child-outside-parent", "shop", 1).on_hop("web", "shop"),
            found("outside-request", "pay", 2),
        ];
        let reported = folded(failures);
        let outside = ("outside-request".to_owned(), vec!["child-outside-parent".to_owned()]);
        assert_eq!(reported[1], outside);
        assert_eq!(reported.len(), 2, "{reported:?}");
    }

    #[test]
    fn a_route_that_went_the_way_of_other_attributes_is_a_symptom_of_their_loss() {
        let failures = |stage| {
            vec![
                found("unnamed-resource", "pay", 1).at_stage(Some(stage)),
                found("missing-attributes", "pay", 1).at_stage(Some(Stage::Service)),
                found("unnamed-resource", "mail", 2).at_stage(Some(Stage::Service)),
            ]
        };
        let alone: (String, Vec<String>) = ("unnamed-resource".to_owned(), Vec::new());
        let above = |symptoms: &[&str]| -> (String, Vec<String>) {
            ("missing-attributes".to_owned(), symptoms.iter().map(ToString::to_string).collect())
        };
        let reported = folded(failures(Stage::Service));
        assert_eq!(reported, [above(&["unnamed-resource"]), alone.clone()]);
        let reported = folded(failures(Stage::Collector));
        assert_eq!(reported, [alone.clone(), above(&[]), alone]);
    }

    #[test]
    fn what_is_of_another_service_stands_beside() {
        let failures = vec![
            found("lost-span", "shop", 1),
            found("orphan-span", "mail", 3).on_hop("pay", "mail"),
            Failure::new("tree", "the user asked for it"),
            Failure::new("status", "503"),
        ];
        let rules: Vec<String> = fold(failures).into_iter().map(|one| one.rule).collect();
        assert_eq!(rules, ["lost-span", "orphan-span", "tree", "status"]);
    }

    #[test]
    fn what_hangs_below_a_span_that_the_collector_lost_is_explained_by_that_loss() {
        let orphan = |stage| found("orphan-span", "pay", 3).at_stage(stage);
        let failures = vec![
            orphan(None),
            orphan(Some(Stage::Collector)),
            orphan(Some(Stage::BehindCollector)),
            Failure::new("undelivered-span", "").at_stage(Some(Stage::Collector)),
        ];
        let reported = folded(failures);
        let alone = ("orphan-span".to_owned(), Vec::new());
        let loss = ("undelivered-span".to_owned(), vec!["orphan-span".to_owned()]);
        assert_eq!(reported, [alone.clone(), alone, loss]);
    }

    #[test]
    fn losses_at_two_stages_are_two_diagnoses() {
        let at = |span, stage| found("lost-span", "shop", span).at_stage(Some(stage));
        let failures =
            vec![at(1, Stage::Collector), at(2, Stage::BehindCollector), at(3, Stage::Collector)];
        let reported = folded(failures);
        assert_eq!(reported.len(), 2, "{reported:?}");
        assert_eq!(reported[0].1, ["lost-span"]);
    }

    /// Returns the finding that explains each, by looking at all pairs.
    fn explainers_by_pairs(failures: &[Failure]) -> Vec<Option<usize>> {
        let of = |symptom: usize| {
            let below = &failures[symptom];
            let is_explained = |one: &usize| {
                let above = &failures[*one];
                let is_same_span = above.span.is_some() && above.span == below.span;
                *one != symptom && explains(above, below, *one < symptom, is_same_span)
            };
            (0..failures.len()).filter(is_explained).min_by_key(|one| tier(&failures[*one]))
        };
        (0..failures.len()).map(of).collect()
    }

    fn any_failure() -> impl Strategy<Value = Failure> {
        let rules: Vec<&str> = TIERS.concat().into_iter().chain(SYMPTOMS).chain(["tree"]).collect();
        let name = || proptest::sample::select(vec!["web", "shop", "pay"]);
        let stage =
            proptest::sample::select(vec![None, Some(Stage::Service), Some(Stage::Collector)]);
        let hop = proptest::option::of((name(), name()));
        let what = (proptest::sample::select(rules), proptest::option::of(name()), hop);
        let changed = (any::<bool>(), any::<bool>());
        let changed = changed.prop_map(|(times, status)| Changed { times, status });
        let changed = proptest::option::of(changed);
        let more = (proptest::option::of(1u64..4), stage, 0..2u8, changed);
        (what, more).prop_map(|((rule, service, hop), (span, stage, cause, changed))| {
            let found = Failure::new(rule, "").because(cause.to_string()).at_stage(stage);
            let found = match hop {
                Some((caller, callee)) => found.on_hop(caller, callee),
                None => found,
            };
            let service = service.map(str::to_owned);
            Failure { service, span: span.map(SpanId), changed, ..found }
        })
    }

    proptest! {
        #[test]
        fn what_explains_each_is_the_same_as_by_looking_at_all_pairs(
            failures in proptest::collection::vec(any_failure(), 0..24),
        ) {
            prop_assert_eq!(explainers(&failures), explainers_by_pairs(&failures));
        }
    }

    #[test]
    fn a_broken_link_explains_the_trace_that_its_callee_began() {
        let failures = vec![
            Failure::new("missing-hop", "").about("pay").on_hop("shop", "pay"),
            Failure::new("stray-trace", "").about("pay").on_hop("shop", "pay"),
            Failure::new("stray-trace", "").about("mail").on_hop("pay", "mail"),
        ];
        let reported = folded(failures);
        assert_eq!(reported[0].1, ["stray-trace"]);
        assert_eq!(reported.len(), 2, "{reported:?}");
    }
}
