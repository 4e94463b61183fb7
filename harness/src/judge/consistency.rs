//! Compares the traces of equal requests: what most of them have, and one lacks.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    case::{Capability, DRIVER_SERVICE, Outcome, Topology},
    finding::Failure,
    record::{CaseRecord, Record},
    rule::INCONSISTENT_TRACE,
    scenario::{FaultKind, Request, Scenario, request::Content},
    trace::Span,
    verdict::ScenarioResult,
};

/// How many traces at least must have what another lacks.
const AT_LEAST: usize = 3;
/// How many traces are named.
const NAMED: usize = 3;

/// Adds the services that most traces of equal requests have and others lack. A trace that fails by itself says better why.
pub(super) fn apply(record: &Record, result: &mut ScenarioResult) {
    if !may_compare(record) {
        return;
    }
    let mut equal: BTreeMap<(usize, u16), Vec<(&CaseRecord, bool)>> = BTreeMap::new();
    for (of, judged) in record.cases.iter().zip(&result.cases) {
        let Outcome::Response { status, .. } = of.case.outcome else { continue };
        let is_equal = record.scenario.requests.get(of.case.request).is_some_and(is_always_equal);
        // Of what failed inside, it is not known how far it went.
        if of.case.sampled && is_equal && status < 500 {
            let holds = judged.findings.failures.is_empty();
            equal.entry((of.case.request, status)).or_default().push((of, holds));
        }
    }
    for ((request, status), cases) in equal {
        let title = record.scenario.requests.get(request).map(Request::title);
        let title = title.unwrap_or_default();
        let lacking = lacking(&cases, &record.topology);
        let failures = lacking.into_iter().map(|(service, of_how_many, without)| {
            let all = cases.len();
            let detail = format!(
                "{of_how_many} of {all} equal requests ({title}, answered {status}) have spans of `{service}` in their traces; {} none: a sampler of `{service}` that ignores the parent, a call that is made only sometimes, or spans that were lost",
                told(&without)
            );
            Failure::new(INCONSISTENT_TRACE, detail)
        });
        result.failures.extend(failures);
    }
}

/// Returns whether traces of a scenario's requests should be alike, and what they lack can be proved to be lacking.
fn may_compare(record: &Record) -> bool {
    let Record { scenario, facts, capabilities, .. } = record;
    let is_tolerated =
        [INCONSISTENT_TRACE, "missing-hop", "lost-span", "sampled-out", "stray-trace"]
            .iter()
            .any(|rule| scenario.tolerate.contains_key(*rule));
    let needs = [Capability::Completeness, Capability::Exclusiveness];
    needs.iter().all(|need| capabilities.contains(need))
        && !is_tolerated
        && !scenario.expect.absent
        && !has_faults_of_some_requests(scenario)
        // A trace may be quiet for a while before its last spans come, such as those that a service sends in batches.
        && facts.sources_ended
        && facts.gaps.is_empty()
        && facts.exits.is_empty()
        && facts.undone.is_empty()
}

/// Returns whether a fault strikes some of the requests and not others, or may leave more or less of each.
fn has_faults_of_some_requests(scenario: &Scenario) -> bool {
    scenario.faults.iter().any(|fault| {
        fault.first.is_some()
            || fault.after.is_some()
            || fault.kind.between().is_some_and(|between| between.next.is_some())
            || !matches!(fault.kind, FaultKind::Status(_) | FaultKind::Between(_))
    })
}

/// Returns whether a request is the same each time that it is sent.
fn is_always_equal(request: &Request) -> bool {
    let varies = |text: &str| text.contains("${");
    let body = request.body.as_ref().is_some_and(|body| match &body.content {
        Content::Json(json) => varies(&json.to_string()),
        other => varies(&String::from_utf8_lossy(&other.bytes())),
    });
    !varies(&request.path) && !body && !request.headers.values().any(|value| varies(value))
}

/// The services that more than half of the traces have, how many have them, and the traces that hold by themselves and lack them.
fn lacking<'a>(
    cases: &[(&'a CaseRecord, bool)],
    topology: &Topology,
) -> Vec<(String, usize, Vec<&'a CaseRecord>)> {
    let mut having: BTreeMap<String, usize> = BTreeMap::new();
    let services: Vec<BTreeSet<String>> =
        cases.iter().map(|(of, _)| services_of(of, topology)).collect();
    for service in services.iter().flatten() {
        *having.entry(service.clone()).or_default() += 1;
    }
    let most = having.into_iter().filter(|(_, count)| {
        *count >= AT_LEAST && *count * 2 > cases.len() && *count < cases.len()
    });
    let lacking = most.filter_map(|(service, count)| {
        let without = cases.iter().zip(&services).filter(|((of, holds), services)| {
            *holds && of.evidence.unsettled.is_none() && !services.contains(&service)
        });
        let without: Vec<&CaseRecord> = without.map(|((of, _), _)| *of).collect();
        (!without.is_empty()).then_some((service, count, without))
    });
    lacking.collect()
}

fn services_of(of: &CaseRecord, topology: &Topology) -> BTreeSet<String> {
    let spans = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
    let of_services = spans.filter(|span| span.service != DRIVER_SERVICE);
    of_services.map(|span| topology.workload_of(span).unwrap_or(&span.service).to_owned()).collect()
}

/// The traces, each with the span that began last in it.
fn told(cases: &[&CaseRecord]) -> String {
    let last = |of: &CaseRecord| {
        let spans = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
        let of_services = spans.filter(|span| span.service != DRIVER_SERVICE);
        let last: Option<&Span> = of_services.max_by_key(|span| span.start);
        last.map_or_else(String::new, |span| {
            format!(" (the last span in it is `{}` of `{}`)", span.resource, span.service)
        })
    };
    let named = cases.iter().take(NAMED);
    let named: Vec<String> = named.map(|of| format!("{}{}", of.case.trace_id, last(of))).collect();
    let more = match cases.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let verb = if cases.len() == 1 { "has" } else { "have" };
    format!("{}{more} {verb}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::{
        case::{Capability, Outcome},
        judge::{judge, testing::World},
        scenario::{Fault, FaultKind},
        trace::TraceId,
        verdict::{ScenarioResult, Verdict},
    };

    /// Judges so many equal requests, of which the last lacks the second service and was answered as the others were.
    fn judged(requests: u32, change: impl FnOnce(&mut World)) -> ScenarioResult {
        let mut world = World::healthy();
        // As with system files: nobody says who calls whom, and there is no ledger.
        world.record.scenario.system =
            crate::scenario::SystemChoice::File("shop.system.yaml".into());
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
        judge(&world.record)
    }

    fn told(result: &ScenarioResult) -> Vec<&str> {
        let failures = result.failures.iter();
        let failures = failures.filter(|failure| failure.rule == "inconsistent-trace");
        failures.map(|failure| failure.detail.as_str()).collect()
    }

    #[test]
    fn a_service_that_most_equal_requests_have_and_one_lacks_is_named() {
        let result = judged(10, |_| {});
        let [detail] = told(&result)[..] else { panic!("{result:#?}") };
        assert!(
            detail.starts_with("9 of 10 equal requests (GET ")
                && detail.contains("have spans of `sample-app-2` in their traces; ")
                && detail.contains("(the last span in it is `GET` of `sample-app-1`) has none"),
            "{detail}"
        );
        assert_eq!(result.verdict, Verdict::Fail);
    }

    #[test]
    fn what_is_no_majority_or_is_not_equal_is_not_compared() {
        assert_eq!(told(&judged(3, |_| {})), [""; 0]);
        let none = |change: fn(&mut World)| assert_eq!(told(&judged(10, change)), [""; 0]);
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
    fn what_cannot_be_proved_to_be_lacking_is_not_told() {
        let none = |change: fn(&mut World)| assert_eq!(told(&judged(10, change)), [""; 0]);
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
}
