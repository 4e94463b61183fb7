//! Compares the traces of equal requests: what most of them have, and one lacks.

use std::collections::{BTreeMap, BTreeSet};

use harness_core::family::by_id;

use self::{
    called::{called_in_each, is_in_another_trace},
    misplaced::Misplaced,
};
use super::case::WHOLE_TRACE;
use crate::{
    case::{Capability, DRIVER_SERVICE, Outcome, Topology},
    expectation::SERVICES,
    finding::{Failure, Warning},
    record::{CaseRecord, Record},
    rule::INCONSISTENT_TRACE,
    scenario::{FaultKind, Request, Scenario, request::Content},
    trace::Span,
    verdict::ScenarioResult,
};

mod called;
mod misplaced;
mod mixed;
#[cfg(test)]
mod tests;

/// How many traces at least must have what another lacks.
const AT_LEAST: usize = 3;
/// How many traces are named.
const NAMED: usize = 3;

/// Adds the services that most traces of equal requests have and others lack, and those whose work for a request is in the trace of
/// another. A trace that fails by itself says better why.
pub(super) fn apply(record: &Record, result: &mut ScenarioResult) {
    let groups = grouped(differing(record, result).into_iter());
    let failures = groups.into_iter().filter_map(|(differs, services)| {
        let Differs { having, all, asked, with, without, .. } = &differs;
        // What is behind it is not there since it is not.
        let first = first_of(&services, with, &record.topology);
        if let Some((misplaced, service)) = kept_context(&differs, &first, &record.topology) {
            let mut failure = misplaced.failure(&differs, service, &record.topology);
            misplaced.explain(&mut failure, &mut result.cases);
            misplaced.place(service, without, &mut result.cases);
            return Some(failure);
        }
        if is_in_another_trace(&differs, &first, &record.topology) {
            return None;
        }
        if let Some(failure) = mixed_contexts(&differs, &first, &record.topology) {
            return Some(failure);
        }
        let called = called_in_each(&differs, &first, &record.topology);
        if !differs.is_most() && called.is_none() {
            return None;
        }
        let (first, behind): (Vec<&String>, Vec<&String>) =
            services.iter().partition(|service| first.contains(*service));
        let of = listed(&first);
        let behind = match behind.is_empty() {
            true => String::new(),
            false => format!(", and of {} behind it,", listed(&behind)),
        };
        let detail = format!(
            "{having} of {all} equal requests ({asked}) have spans of {of}{behind} in their traces; {} none",
            reported(without)
        );
        let own_sampler = first.iter().find_map(|name| {
            let services = &record.topology.services;
            let known = services.iter().find(|one| one.workload == **name)?;
            Some(format!(
                "its sampler does not follow the parent: {} is set for `{name}`",
                known.own_sampler.as_ref()?
            ))
        });
        let cause = match &called {
            _ if own_sampler.is_some() => own_sampler.unwrap_or_default(),
            Some(caller) => format!(
                "`{caller}` called it in each of them, and was answered, so that its spans did not arrive, or were dropped by a sampler of its own that ignores the parent"
            ),
            None => format!(
                "a sampler of {of} that ignores the parent, a call that is made only sometimes, or spans that did not arrive"
            ),
        };
        let failure = Failure::new(INCONSISTENT_TRACE, detail).because(cause);
        Some(match (first.as_slice(), called) {
            ([only], Some(caller)) => failure.about(only).on_hop(&caller, only),
            ([only], None) => failure.about(only),
            _ => failure,
        })
    });
    let failures: Vec<Failure> = failures.collect();
    result.failures.extend(failures);
}

/// Finds the first of some services whose work for a request is in another's trace.
fn kept_context<'a, 's>(
    differs: &Differs<'a>,
    first: &'s BTreeSet<String>,
    topology: &Topology,
) -> Option<(Misplaced<'a>, &'s str)> {
    first
        .iter()
        .find_map(|service| Some((Misplaced::find(differs, service, topology)?, service.as_str())))
}

/// Finds the first of some services that is called in other requests' contexts.
fn mixed_contexts(
    differs: &Differs<'_>,
    first: &BTreeSet<String>,
    topology: &Topology,
) -> Option<Failure> {
    first.iter().find_map(|service| mixed::mixed_up(differs, service, topology))
}

/// Returns a warning of services that some traces of equal requests have, and not most: each may be called only sometimes, and may as
/// well sample by itself.
pub(super) fn warning<'r>(
    system: &str,
    judged: impl IntoIterator<Item = (&'r Record, &'r ScenarioResult)>,
) -> Option<Warning> {
    let mut named = Vec::new();
    for (record, result) in judged {
        let some = differing(record, result).into_iter().filter(|differs| !differs.is_most());
        let mut alike = grouped(some);
        // Those fail.
        alike.retain(|(differs, services)| {
            let first = first_of(services, &differs.with, &record.topology);
            kept_context(differs, &first, &record.topology).is_none()
                && !is_in_another_trace(differs, &first, &record.topology)
                && mixed_contexts(differs, &first, &record.topology).is_none()
                && called_in_each(differs, &first, &record.topology).is_none()
        });
        named.extend(alike.into_iter().map(|(Differs { having, all, asked, with, .. }, services)| {
            let hops = hops_to(&services, &with, &record.topology);
            format!(
                "`{}`: {having} of {all} equal requests ({asked}) have spans of {} in their traces{hops}, and the others have none",
                record.scenario.name,
                listed(&services.iter().collect::<Vec<_>>())
            )
        }));
    }
    let more = named.split_off(NAMED.min(named.len()));
    let others = match more.len() {
        0 => String::new(),
        others => format!("; and {others} more (-v has them)"),
    };
    let text = format!(
        "{system}: {INCONSISTENT_TRACE}: {}{others}; it fails nothing, since a service behind a cache is called only sometimes; else look at the sampler there (OTEL_TRACES_SAMPLER); tolerate `{INCONSISTENT_TRACE}` where it is meant",
        named.join("; ")
    );
    (!named.is_empty()).then_some(Warning { text, more })
}

/// Puts the services together that the same traces have, and the same lack.
fn grouped<'a>(all: impl Iterator<Item = Differs<'a>>) -> Vec<(Differs<'a>, Vec<String>)> {
    let mut groups: Vec<(Differs<'_>, Vec<String>)> = Vec::new();
    for differs in all {
        let is_alike = |(first, _): &&mut (Differs<'_>, Vec<String>)| {
            first.asked == differs.asked && first.is_lacked_by_the_same(&differs)
        };
        match groups.iter_mut().find(is_alike) {
            Some((_, services)) => services.push(differs.service),
            None => {
                let services = vec![differs.service.clone()];
                groups.push((differs, services));
            }
        }
    }
    groups
}

/// The links by which some of the traces come to these services from others, as caller and callee.
fn links_to(
    services: &[String],
    with: &[&CaseRecord],
    topology: &Topology,
) -> BTreeSet<(String, String)> {
    let mut links = BTreeSet::new();
    for trace in with.iter().filter_map(|of| of.evidence.trace.as_ref()) {
        let by_id = by_id(&trace.spans);
        for span in &trace.spans {
            let Some(parent) = span.parent_id.and_then(|id| by_id.get(&id)) else { continue };
            let (caller, callee) = (name_of(parent, topology), name_of(span, topology));
            if services.contains(&callee) && !services.contains(&caller) {
                links.insert((caller, callee));
            }
        }
    }
    links
}

/// The same as a part of a sentence; empty where none is known.
fn hops_to(services: &[String], with: &[&CaseRecord], topology: &Topology) -> String {
    let links = links_to(services, with, topology).into_iter();
    let hops: Vec<String> =
        links.map(|(caller, callee)| format!("`{caller}` -> `{callee}`")).collect();
    if hops.is_empty() { String::new() } else { format!(" ({})", hops.join(", ")) }
}

/// Those of these services that others call; all of them where it is not known.
fn first_of(services: &[String], with: &[&CaseRecord], topology: &Topology) -> BTreeSet<String> {
    let called = links_to(services, with, topology);
    let called: BTreeSet<String> = called.into_iter().map(|(_, callee)| callee).collect();
    if called.is_empty() { services.iter().cloned().collect() } else { called }
}

fn listed(services: &[&String]) -> String {
    let each: Vec<String> = services.iter().map(|service| format!("`{service}`")).collect();
    each.join(", ")
}

/// A service that some traces of equal requests have and others lack.
struct Differs<'a> {
    service: String,
    /// How many traces have it.
    having: usize,
    /// Of how many.
    all: usize,
    /// The request, and how it was answered.
    asked: String,
    /// Those that have it.
    with: Vec<&'a CaseRecord>,
    /// Those that hold by themselves and lack it.
    without: Vec<&'a CaseRecord>,
}

impl Differs<'_> {
    /// Returns whether so many have it that all should.
    fn is_most(&self) -> bool {
        self.having >= AT_LEAST && self.having * 2 > self.all
    }

    fn is_lacked_by_the_same(&self, other: &Self) -> bool {
        let ids = |of: &Self| -> Vec<_> { of.without.iter().map(|of| of.case.trace_id).collect() };
        self.having == other.having && ids(self) == ids(other)
    }
}

/// Finds the services that some traces of equal requests have and others lack.
fn differing<'a>(record: &'a Record, result: &ScenarioResult) -> Vec<Differs<'a>> {
    if !may_compare(record) {
        return Vec::new();
    }
    let mut equal: BTreeMap<(usize, u16), Vec<(&CaseRecord, bool)>> = BTreeMap::new();
    for (of, judged) in record.cases.iter().zip(&result.cases) {
        let Outcome::Response { status, .. } = of.case.outcome else { continue };
        let is_equal = record.scenario.requests.get(of.case.request).is_some_and(is_always_equal);
        // A trace that a sampler of the collector dropped lacks nothing.
        let is_dropped =
            judged.findings.not_evaluated.iter().any(|skipped| skipped.rule == WHOLE_TRACE);
        // Of what failed inside, it is not known how far it went.
        if of.case.sampled && is_equal && !is_dropped && status < 500 {
            let holds = judged.findings.failures.iter().all(says_only_who_is_missing);
            equal.entry((of.case.request, status)).or_default().push((of, holds));
        }
    }
    let found = equal.into_iter().flat_map(|((request, status), cases)| {
        let title = record.scenario.requests.get(request).map(Request::title);
        let asked = format!("{}, answered {status}", title.unwrap_or_default());
        differing_of(&cases, &asked, &record.topology)
    });
    found.collect()
}

/// Returns whether a scenario failed since services are missing in traces, and for nothing else.
pub(crate) fn lacks_only_services(result: &ScenarioResult) -> bool {
    let mut failures = result.cases.iter().flat_map(|of| &of.findings.failures).peekable();
    result.failures.is_empty()
        && failures.peek().is_some()
        && failures.all(says_only_who_is_missing)
}

/// Returns whether a failure says that a service has no span in the trace, and nothing of why.
fn says_only_who_is_missing(failure: &Failure) -> bool {
    failure.rule == SERVICES
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
        && !facts.intake_ended
        && facts.undone.is_empty()
        && facts.unrest.is_none()
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

fn differing_of<'a>(
    cases: &[(&'a CaseRecord, bool)],
    asked: &str,
    topology: &Topology,
) -> Vec<Differs<'a>> {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    let services: Vec<BTreeSet<String>> =
        cases.iter().map(|(of, _)| services_of(of, topology)).collect();
    for service in services.iter().flatten() {
        *counted.entry(service.clone()).or_default() += 1;
    }
    let all = cases.len();
    let some = counted.into_iter().filter(|(_, having)| *having < all);
    let found = some.map(|(service, having)| {
        let (with, without): (Vec<_>, Vec<_>) =
            cases.iter().zip(&services).partition(|(_, services)| services.contains(&service));
        let with = with.into_iter().map(|((of, _), _)| *of).collect();
        let holding = without
            .into_iter()
            .filter(|((of, holds), _)| *holds && of.evidence.unsettled.is_none());
        let without = holding.map(|((of, _), _)| *of).collect();
        Differs { service, having, all, asked: asked.to_owned(), with, without }
    });
    found.filter(|differs| !differs.without.is_empty()).collect()
}

fn services_of(of: &CaseRecord, topology: &Topology) -> BTreeSet<String> {
    let spans = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
    let of_services = spans.filter(|span| span.service != DRIVER_SERVICE);
    of_services.map(|span| name_of(span, topology)).collect()
}

fn name_of(span: &Span, topology: &Topology) -> String {
    topology.workload_of(span).unwrap_or(&span.service).to_owned()
}

/// The traces, each with the span that began last in it.
fn reported(cases: &[&CaseRecord]) -> String {
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
