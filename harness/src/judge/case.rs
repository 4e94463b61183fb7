//! Judges one request by what is known of its trace.

use crate::{
    case::{Capability, DRIVER_SERVICE, LedgerReport, Outcome, Shape, View},
    expectation,
    finding::{Findings, NotEvaluated},
    ledger::Exported,
    rule,
    scenario::{Request, Scenario, SystemChoice, implied},
    verdict::{CaseResult, Trees},
};

use super::{diagnosis, late, silenced, tree};

/// The route that goes along the chain of sample apps.
pub(crate) const CHAIN_PATH: &str = "/outgoing-sampleapp";
/// How long the sample apps wait for the next one where nothing else is set.
const DEFAULT_CLIENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Returns the shape that a scenario's faults imply for its traces; empty where the system does not declare who calls whom.
pub(crate) fn shape(scenario: &Scenario, request: &Request) -> Shape {
    let SystemChoice::Chain(chain) = &scenario.system else { return Shape::default() };
    let mut hops = chain.app_names();
    if let Some(at) =
        request.entry.as_ref().and_then(|entry| hops.iter().position(|app| app == entry))
    {
        hops.drain(..at);
    }
    // Only this route goes along the chain, by whichever method; the others end at the entry.
    if request.path.split('?').next() != Some(CHAIN_PATH) {
        hops.truncate(1);
    }
    // Standing faults strike by the services' own choice: nothing can be said of the shape.
    let standing = |app: &String| {
        chain
            .app_env(app, "ERROR_RATE")
            .is_some_and(|rate| rate.parse::<f64>().is_ok_and(|rate| rate > 0.0))
    };
    if hops.iter().any(standing) {
        return Shape::default();
    }
    let all = |name: &str| hops.iter().find_map(|app| chain.app_env(app, name));
    let retries = all("HTTP_CLIENT_RETRIES").and_then(|text| text.parse().ok()).unwrap_or(0);
    let timeout = all("HTTP_CLIENT_REQUEST_TIMEOUT")
        .and_then(|text| humantime::parse_duration(text).ok())
        .unwrap_or(DEFAULT_CLIENT_TIMEOUT);
    let carriers = |app: &str| carriers(chain.app_env(app, "OTEL_PROPAGATORS"));
    implied::of_chain(&hops, &scenario.faults, (retries, timeout), &carriers)
}

/// The headers by which an app of the chain with these propagators is given which trace it is in. It has no others.
fn carriers(propagators: Option<&str>) -> Vec<&'static str> {
    let names = propagators.unwrap_or("tracecontext").split(',').map(str::trim);
    let headers = names.filter_map(|name| match name {
        "tracecontext" => Some("traceparent"),
        "xray" => Some("x-amzn-trace-id"),
        _ => None,
    });
    headers.collect()
}

/// Name of what is not evaluated of a case whose trace the collector's samplers dropped.
pub(super) const WHOLE_TRACE: &str = "trace";

/// Name of the rule that a request leaves spans.
const NO_TRACE: &str = "no-trace";
/// Rules and expectations that are open, or fail, together with it.
const IMPLIED: [&str; 10] = [
    "lost-span",
    "undelivered-span",
    "altered-span",
    "tree",
    "services",
    "spans",
    "fails_at",
    "linked",
    "order",
    "overlap",
];

/// Checks all rules and the scenario's expectations.
pub(crate) fn findings(scenario: &Scenario, view: View<'_>) -> Findings {
    // Of hops that cannot be distinguished, it is not known what each of them must leave.
    let unknown = Shape::default();
    let hops = view.shape.hops.iter().map(|hop| hop.workload.as_str());
    let view = match view.topology.distinguishes(hops) {
        true => view,
        false => View { shape: &unknown, ..view },
    };
    // Nothing of it is missing, and nothing can be said of it.
    if let Some(samplers) = rule::dropping_samplers(view) {
        let because = format!("the collector's sampler {samplers} dropped the whole trace");
        let skipped = NotEvaluated { rule: WHOLE_TRACE.to_owned(), because, required: false };
        return Findings { not_evaluated: vec![skipped], ..Findings::default() };
    }
    let request = &scenario.requests[view.case.request];
    let mut findings = rule::check_all(view, |name| scenario.tolerate.contains_key(name));
    let linked = rule::check_linked(view, |name| scenario.tolerate.contains_key(name));
    findings.failures.extend(linked.failures);
    findings.not_evaluated.extend(linked.not_evaluated);
    let expected = expectation::check(&scenario.expect, &request.asked(), view);
    findings.failures.extend(expected.failures);
    findings.not_evaluated.extend(expected.not_evaluated);
    // Where nothing came, or nothing yet, every single thing that did not come says no more.
    if findings.failures.iter().any(|failure| failure.rule == NO_TRACE) {
        findings.failures.retain(|failure| !IMPLIED.contains(&failure.rule.as_str()));
    }
    if findings.not_evaluated.iter().any(|open| open.required && open.rule == NO_TRACE) {
        findings.not_evaluated.retain(|open| !IMPLIED.contains(&open.rule.as_str()));
        // What is known of this trace says more than what its source gives, as the others did.
        let general = format!("the evidence does not give {}", Capability::Completeness.name());
        let open = findings.not_evaluated.iter_mut().filter(|open| open.rule == NO_TRACE);
        for (open, unsettled) in open.zip(&view.evidence.unsettled) {
            open.because = open.because.replacen(&general, unsettled, 1);
        }
    }
    silenced::explain(&mut findings.failures, view);
    late::explain(&mut findings.failures, &scenario.expect, view);
    findings.failures = diagnosis::fold(findings.failures);
    findings
}

/// Assembles the result of a case, with both trees if a check failed.
pub(crate) fn result(scenario: &Scenario, view: View<'_>, findings: Findings) -> CaseResult {
    let request = &scenario.requests[view.case.request];
    let trees = (!findings.failures.is_empty()).then(|| Trees {
        expected: tree::expected(scenario, view),
        captured: tree::captured(view),
    });
    let (title, outcome) = (request.title(), &view.case.outcome);
    let (request, ledger) = match outcome {
        // No stage was there to be asked.
        Outcome::Unobserved { found } => (found.clone(), None),
        outcome => {
            (format!("{title}: {}", outcome.describe()), trees.is_some().then(|| ledger(view)))
        }
    };
    CaseResult {
        trace_id: view.case.trace_id,
        place: (view.case.request, view.case.ordinal),
        request,
        findings,
        trees,
        ledger,
        spans: view.spans().len(),
        service_spans: view.service_spans().count(),
        judged_after_ms: None,
    }
}

/// Describes each stage's span counts of a case's trace, in one line.
fn ledger(view: View<'_>) -> String {
    let of_services = view.evidence.ledgers.iter().map(|(workload, report)| match report {
        LedgerReport::Known(entry) => {
            let sampled = entry.spans.iter().filter(|span| span.sampled).count();
            let dropped = entry.spans.len() - sampled;
            let dropped =
                if dropped > 0 { format!(" and sampled out {dropped}") } else { String::new() };
            format!("{workload} ended {sampled}{dropped}")
        }
        LedgerReport::Unknown(_) => format!("{workload} unknown"),
    });
    let mut stages: Vec<String> = of_services.collect();
    if stages.is_empty() {
        stages.push("the services have no ledger".to_owned());
    }
    if view.case.sampled {
        stages.push(format!("{DRIVER_SERVICE} exported {}", u8::from(view.case.driver_exported)));
    }
    if let Some(collector) = &view.evidence.collector {
        stages.push(format!("the collector took {}", collector.accepted));
        for (exporter, Exported { exported, dropped, .. }) in &collector.exporters {
            let dropped =
                dropped.iter().map(|(reason, count)| format!(" and dropped {count} ({reason})"));
            stages.push(format!("{exporter} sent {exported}{}", dropped.collect::<String>()));
        }
        for (sampler, reasons) in &collector.sampled_out {
            let dropped: u64 = reasons.values().sum();
            stages.push(format!("its sampler {sampler} dropped {dropped}"));
        }
    }
    format!("{}; captured {}", stages.join(", "), view.spans().len())
}
