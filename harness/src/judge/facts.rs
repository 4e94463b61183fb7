//! Facts beyond the traces, and their effect on the verdict.

use std::collections::BTreeSet;

use harness_core::wire::Passed;

use super::silenced;
use crate::{
    case::{Case, Outcome, ServiceIdentity},
    finding::{Failure, NotEvaluated, Stage},
    record::{Facts, Record, Unrest},
    rule::SILENT_SERVICE,
    stages::BALANCE,
    system::taps::tap_name,
    verdict::ScenarioResult,
};

/// Name of the expectation that an outage took place.
const REFUSED_ATTEMPTS: &str = "refused-attempts";
/// Name of the expectation that collectors refused services.
const REFUSED_EXPORTS: &str = "refused-exports";
/// Name of the expectation of what senders gave up.
const LOST_BY_SENDERS: &str = "lost-by-senders";

/// Name of the rule that an injected fault shows.
const WITHOUT_EFFECT: &str = "fault-without-effect";

/// Rules by which a sentinel proves a loss, once nothing more of it can arrive.
const LOSSES: [&str; 3] = ["no-trace", "lost-span", "undelivered-span"];

/// Adds what the facts of a record mean to the result of its cases, and takes away what they make meaningless.
pub(super) fn apply(record: &Record, result: &mut ScenarioResult) {
    let Facts { exits, gaps, undone, .. } = &record.facts;
    result.undecided.extend(exits.iter().cloned());
    result.undecided.extend(gaps.iter().map(|gap| format!("the evidence has a gap: {gap}")));
    result.undecided.extend(undone.iter().cloned());
    result.ledger = record.facts.stages_at_failure.as_ref().map(|stages| stages.text());
    balance(record, result);
    refused(record, result);
    struck(record, result);
    refused_exports(record, result);
    lost_by_senders(record, result);
    disturbed(record, result);
    unseen(record, result);
    restless(record, result);
    if record.facts.intake_ended {
        intake_ended(record, result);
    }
    silent(record, result);
}

fn balance(record: &Record, result: &mut ScenarioResult) {
    let Some(expect) = record.scenario.expect.balance else { return };
    match &record.facts.stages {
        Some(stages) => {
            let findings = stages.judge(expect);
            result.failures.extend(findings.failures);
            result.not_evaluated.extend(findings.not_evaluated);
        }
        None => result.not_evaluated.push(NotEvaluated {
            rule: BALANCE.to_owned(),
            because: "the stages were not asked".to_owned(),
            required: true,
        }),
    }
}

/// An outage that is asked for must have taken place.
fn refused(record: &Record, result: &mut ScenarioResult) {
    let wanted = record.scenario.expect.refused_attempts;
    // Where nothing was sent, nothing could be refused.
    if wanted == 0 || record.cases.is_empty() {
        return;
    }
    match record.facts.refused {
        Some(refused) if refused >= wanted => {}
        Some(refused) => result.failures.push(Failure::new(
            REFUSED_ATTEMPTS,
            format!(
                "the intake should have refused at least {wanted} attempts, but refused {refused}: the outage did not take place"
            ),
        )),
        None => result.not_evaluated.push(NotEvaluated {
            rule: REFUSED_ATTEMPTS.to_owned(),
            because: "refused attempts were not counted".to_owned(),
            required: true,
        }),
    }
}

/// Checks that a fault of what passes between two workloads struck something.
fn struck(record: &Record, result: &mut ScenarioResult) {
    if record.scenario.tolerate.contains_key(WITHOUT_EFFECT) || record.cases.is_empty() {
        return;
    }
    let faults = record.scenario.faults.iter().filter(|fault| !fault.kind.is_to_be_found());
    for fault in faults {
        let Some(between) = fault.kind.between() else { continue };
        let tap = tap_name(&between.caller, &fault.at);
        let Some(Passed { passed, changed: 0 }) = record.facts.passed.get(&tap) else { continue };
        let (caller, callee) = (&between.caller, &fault.at);
        let because = match passed {
            0 => format!("no request passed there: `{caller}` did not call `{callee}`"),
            _ => format!("{passed} requests passed there, and the fault applied to none of them"),
        };
        let detail =
            format!("`{}` between `{caller}` and `{callee}` had no effect", between.written());
        let failure = Failure::new(WITHOUT_EFFECT, detail).because(because);
        result.failures.push(failure.on_hop(caller, callee));
    }
}

/// Services that are to be refused must have been.
fn refused_exports(record: &Record, result: &mut ScenarioResult) {
    let wanted = record.scenario.expect.refused_exports;
    if wanted == 0 || record.cases.is_empty() {
        return;
    }
    match record.facts.refused_exports {
        Some(refused) if refused >= wanted => {}
        Some(refused) => result.failures.push(Failure::new(
            REFUSED_EXPORTS,
            format!("the collector should have refused at least {wanted} requests of services, but refused {refused}"),
        )),
        None => result.not_evaluated.push(NotEvaluated {
            rule: REFUSED_EXPORTS.to_owned(),
            because: "the collector does not report how many requests it refused".to_owned(),
            required: true,
        }),
    }
}

/// Senders must have given up just as much as is said.
fn lost_by_senders(record: &Record, result: &mut ScenarioResult) {
    let Some(wanted) = record.scenario.expect.lost_by_senders else { return };
    if record.cases.is_empty() {
        return;
    }
    let stages = record.facts.stages.as_ref();
    let lost = stages
        .map_or(Err("the stages were not asked".to_owned()), |stages| stages.lost_by_senders());
    match (lost, stages) {
        (Ok(lost), Some(stages)) if !lost.contains(&wanted) => {
            result.failures.push(Failure::new(
                LOST_BY_SENDERS,
                format!(
                    "senders should have lost {wanted} spans, and the collectors lack {}: {}",
                    lost.start(),
                    stages.text()
                ),
            ));
        }
        (Ok(_), _) => {}
        (Err(because), _) => result.not_evaluated.push(NotEvaluated {
            rule: LOST_BY_SENDERS.to_owned(),
            because,
            required: true,
        }),
    }
}

/// Judges a sentinel that did not arrive whole: it fails the scenario by the losses that it proves, and proves nothing otherwise.
fn restless(record: &Record, result: &mut ScenarioResult) {
    let Some(Unrest { missing, failures }) = &record.facts.unrest else { return };
    let proves = |failure: &&Failure| {
        LOSSES.contains(&failure.rule.as_str())
            && !record.scenario.tolerate.contains_key(&failure.rule)
    };
    let before = result.failures.len();
    result.failures.extend(failures.iter().filter(proves).map(|failure| {
        let detail =
            format!("in a request like the scenario's that followed it: {}", failure.detail);
        // Its span is of no trace of the scenario's.
        Failure { detail, span: None, ..failure.clone() }
    }));
    if result.failures.len() == before {
        result.undecided.push(format!(
            "the system did not come to rest, so late or lost spans could go unseen: {missing}"
        ));
    }
}

/// Takes back all failures: the mock is ours, and that it is gone says nothing about the system.
fn intake_ended(record: &Record, result: &mut ScenarioResult) {
    for case in &mut result.cases {
        case.findings.failures.clear();
    }
    result.failures.clear();
    // As a rule its exit says so.
    if record.facts.exits.is_empty() {
        result.undecided.push("the mock intake ended before all was judged".to_owned());
    }
}

/// A request that got no answer while the way to the system was broken says nothing about the system.
fn disturbed(record: &Record, result: &mut ScenarioResult) {
    let disturbances = &record.facts.disturbances;
    if disturbances.is_empty() {
        return;
    }
    let mut unanswered = 0;
    for (record, judged) in record.cases.iter().zip(&mut result.cases) {
        if is_unanswered(&record.case) {
            judged.findings.failures.clear();
            unanswered += 1;
        }
    }
    if unanswered > 0 {
        // What is asked of all requests together depends on these, too.
        result.failures.clear();
        result.undecided.push(format!(
            "{unanswered} of {} requests got no answer while the way to the system was broken: {}",
            record.cases.len(),
            disturbances.join("; ")
        ));
    }
}

/// Makes the verdict inconclusive where no span of any service was captured.
fn unseen(record: &Record, result: &mut ScenarioResult) {
    if record.scenario.expect.absent || result.cases.iter().any(|case| case.service_spans > 0) {
        return;
    }
    let Some(first) = record.cases.first() else { return };
    if record.cases.iter().all(|record| is_unanswered(&record.case)) {
        // What failed for want of an answer says nothing about traces.
        for case in &mut result.cases {
            case.findings.failures.clear();
        }
        result.failures.clear();
        result.undecided.push(format!(
            "no traffic: `{}` answered none of {} requests ({})",
            first.case.entry(&record.topology).unwrap_or("the entry"),
            record.cases.len(),
            first.case.outcome.describe()
        ));
    } else if result.cases.iter().all(|case| case.findings.failures.is_empty()) {
        result.undecided.push("no span of any service was seen, so nothing is proved".to_owned());
    }
}

/// Of a service that nothing was heard of, it is not known whether something was lost.
fn silent(record: &Record, result: &mut ScenarioResult) {
    let (scenario, silent) = (&record.scenario, &record.facts.silent);
    if silent.is_empty() || scenario.tolerate.contains_key(SILENT_SERVICE) || scenario.expect.absent
    {
        return;
    }
    let (reported, silent): (Vec<_>, Vec<_>) = silent
        .iter()
        .map(|name| (name, silenced::reported(record, name)))
        .partition(|(_, line)| line.is_some());
    // Who says itself that its spans were not delivered leaves nothing open.
    result.failures.extend(reported.into_iter().filter_map(|(name, line)| {
        let detail = format!("no span of `{name}` was captured of any request in the whole run");
        let failure = Failure::new(SILENT_SERVICE, detail).because(line?).about(name);
        Some(failure.at_stage(Some(Stage::BeforeCollector)))
    }));
    let silent: Vec<&String> = silent.into_iter().map(|(name, _)| name).collect();
    if silent.is_empty() {
        return;
    }
    let names: Vec<String> = silent.iter().map(|name| format!("`{name}`")).collect();
    let silenced = silent.iter().filter_map(|workload| silenced::cause(&record.topology, workload));
    let silenced: Vec<String> = silenced.collect();
    if let (true, Some(why)) = (silenced.is_empty(), namesakes(record)) {
        let names = names.join(", ");
        result
            .undecided
            .push(format!("{SILENT_SERVICE}: no captured span is known to be of {names}; {why}"));
        return;
    }
    let strangers = strangers(record);
    if let (true, false) = (silenced.is_empty(), strangers.is_empty()) {
        result.undecided.push(format!(
            "{SILENT_SERVICE}: no captured span is known to be of {}, and spans came of {}, which no workload is known as: they may be theirs, under another name (`service.name`, changed by a processor, an agent or in code)",
            names.join(", "),
            strangers.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ));
        return;
    }
    let why = (!silenced.is_empty()).then(|| silenced.join("; "));
    let remedy = match why {
        None => {
            format!(
                "its SDK is not started (Node's `--require …/register`, Python's `opentelemetry-instrument`, Java's `-javaagent`), or what it exports does not come to the collector; where it makes spans only sometimes, ask for it in `expect`, tolerate `{SILENT_SERVICE}` where it takes no part, or write `traced: false` in the system file where it makes no spans, as a proxy"
            )
        }
        Some(why) => why,
    };
    result.undecided.push(format!(
        "{SILENT_SERVICE}: no span of {} was captured of any request in the whole run, and no ledger shows whether there should be one; {remedy}",
        names.join(", ")
    ));
}

/// Returns the services in requests' traces that answered calls and that no workload is known as.
fn strangers(record: &Record) -> BTreeSet<String> {
    let traces = record.cases.iter().filter_map(|of| of.evidence.trace.as_ref());
    let answers = traces.flat_map(|trace| &trace.spans).filter(|span| span.kind() == "server");
    let strange = answers.filter(|span| record.topology.workload_of(span).is_none());
    strange.map(|span| span.service.clone()).filter(|name| !name.is_empty()).collect()
}

/// Says which silent services have another one's name, so that their spans pass for those of that one.
fn namesakes(record: &Record) -> Option<String> {
    let services = &record.topology.services;
    let name = |workload: &str| {
        let known = services.iter().find(|one| one.workload == workload);
        known.and_then(|one| one.service.as_ref()).map(|name| name.to_lowercase())
    };
    let shared = record.facts.silent.iter().filter_map(|silent| {
        let own = name(silent)?;
        let is_namesake = |one: &&ServiceIdentity| {
            one.workload != *silent
                && one.service.as_ref().is_some_and(|name| name.to_lowercase() == own)
        };
        let other = services.iter().find(is_namesake)?;
        Some(format!(
            "`{silent}` has the service name of `{}`, `{own}`, so that spans of both cannot be distinguished: give each its own OTEL_SERVICE_NAME",
            other.workload
        ))
    });
    let shared: Vec<String> = shared.collect();
    (!shared.is_empty()).then(|| shared.join("; "))
}

fn is_unanswered(case: &Case) -> bool {
    matches!(case.outcome, Outcome::Failed { .. })
}
