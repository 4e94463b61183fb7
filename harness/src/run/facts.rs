//! What is known of a scenario's run beyond its traces, and what it means for the verdict.
//!
//! Plain data and a pure function, so that a saved run comes to the same verdict again.

use serde::{Deserialize, Serialize};

use crate::{
    case::{Case, Outcome, Topology},
    rule::{Failure, NotEvaluated, SILENT_SERVICE},
    scenario::Scenario,
    stages::{BALANCE, Stages},
    verdict::ScenarioResult,
};

/// Name of the expectation that an outage took place.
const REFUSED_ATTEMPTS: &str = "refused-attempts";

/// What happened while a scenario ran.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    /// Workloads that ended by themselves, with the end of their logs.
    pub(super) exits: Vec<String>,
    /// Whether the intake was among them: then what is missing says nothing.
    pub(super) intake_ended: bool,
    /// What is missing from the evidence.
    pub(super) gaps: Vec<String>,
    /// Attempts that the intake refused.
    pub(super) refused: u64,
    /// What could not be done: a fault, a proof, an end.
    pub(super) undone: Vec<String>,
    /// Services that no span was captured of, and that have no ledger to say whether there should be one.
    pub(super) silent: Vec<String>,
    /// What every stage told, where the scenario asks for their balance.
    #[serde(default)]
    pub(super) stages: Option<Stages>,
    /// What came between the harness and the system.
    #[serde(default)]
    pub(super) disturbances: Vec<String>,
}

/// Works out the verdict from the judged cases and the facts. Saying it again changes nothing.
pub(super) fn conclude(
    scenario: &Scenario,
    cases: &[Case],
    topology: &Topology,
    facts: &Facts,
    result: &mut ScenarioResult,
) {
    result.undecided.clear();
    result.undecided.extend(facts.exits.iter().cloned());
    result.undecided.extend(facts.gaps.iter().map(|gap| format!("the evidence has a gap: {gap}")));
    result.undecided.extend(facts.undone.iter().cloned());
    result.failures.retain(|failure| ![REFUSED_ATTEMPTS, BALANCE].contains(&failure.rule.as_str()));
    result.not_evaluated.retain(|skipped| skipped.rule != BALANCE);
    balance(scenario, facts, result);
    // Where nothing was sent, nothing could be refused.
    if facts.refused < scenario.expect.refused_attempts && !cases.is_empty() {
        result.failures.push(Failure::new(
            REFUSED_ATTEMPTS,
            format!(
                "the intake should have refused at least {} attempts, but refused {}: the outage did not take place",
                scenario.expect.refused_attempts, facts.refused
            ),
        ));
    }
    if facts.intake_ended {
        // The mock is ours: that it is gone says nothing about the system.
        for case in &mut result.cases {
            case.findings.failures.clear();
        }
    }
    disturbed(cases, facts, result);
    unseen(scenario, cases, topology, result);
    if !facts.silent.is_empty()
        && !scenario.tolerate.contains_key(SILENT_SERVICE)
        && !scenario.expect.absent
    {
        let names: Vec<String> = facts.silent.iter().map(|name| format!("`{name}`")).collect();
        result.undecided.push(format!(
            "{SILENT_SERVICE}: no span of {} was captured in the whole run, and no ledger tells whether there should be one; ask for it in `expect`, or tolerate `{SILENT_SERVICE}` where it takes no part",
            names.join(", ")
        ));
    }
    result.conclude();
}

fn balance(scenario: &Scenario, facts: &Facts, result: &mut ScenarioResult) {
    let Some(expect) = scenario.expect.balance else { return };
    match &facts.stages {
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

/// A request that got no answer while the way to the system was broken says nothing about the system.
fn disturbed(cases: &[Case], facts: &Facts, result: &mut ScenarioResult) {
    if facts.disturbances.is_empty() {
        return;
    }
    let mut unanswered = 0;
    for (case, judged) in cases.iter().zip(&mut result.cases) {
        if matches!(case.outcome, Outcome::Failed { .. }) {
            judged.findings.failures.clear();
            unanswered += 1;
        }
    }
    if unanswered > 0 {
        result.undecided.push(format!(
            "{unanswered} of {} requests got no answer while the way to the system was broken: {}",
            cases.len(),
            facts.disturbances.join("; ")
        ));
    }
}

/// Where no span of any service was seen, nothing is proved.
fn unseen(scenario: &Scenario, cases: &[Case], topology: &Topology, result: &mut ScenarioResult) {
    if cases.is_empty()
        || scenario.expect.absent
        || result.cases.iter().any(|case| case.service_spans > 0)
    {
        return;
    }
    let unanswered = |case: &Case| matches!(case.outcome, Outcome::Failed { .. });
    if cases.iter().all(unanswered) {
        // What failed for want of an answer says nothing about traces.
        for case in &mut result.cases {
            case.findings.failures.clear();
        }
        let entry = topology.services.first().map_or("the entry", |service| &service.workload);
        let why = cases.first().map_or_else(String::new, |case| case.outcome.describe());
        result.undecided.push(format!(
            "no traffic: `{entry}` answered none of {} requests ({why})",
            cases.len()
        ));
    } else if result.cases.iter().all(|case| case.findings.failures.is_empty()) {
        result.undecided.push("no span of any service was seen, so nothing is proved".to_owned());
    }
}
