//! The record of a scenario: all that its verdict is made of.
//!
//! Plain data. A run fills one and brings it up to date, a saved run holds it, and `tracecheck verify` makes one of what Datadog
//! shows; [`crate::judge::judge`] makes the verdict of it, always the same one.

use std::collections::BTreeMap;

use harness_core::wire::Passed;
use serde::{Deserialize, Serialize};

use crate::{
    case::{Capability, Case, Evidence, Stray, Topology},
    finding::Failure,
    scenario::Scenario,
    stages::Stages,
    stats::StatsRecord,
    verdict::Verdict,
};

/// Everything that is known of a scenario when it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The scenario that was driven, with its expectations.
    pub scenario: Scenario,
    /// The services of the system and how they identify themselves.
    pub topology: Topology,
    /// The capabilities of the evidence's source.
    pub capabilities: Vec<Capability>,
    /// The requests that were sent, in their order, each with what is known of its trace.
    pub cases: Vec<CaseRecord>,
    /// Captured traces that no request of the run claims, and that belong to one of the cases.
    pub strays: Vec<Stray>,
    /// Facts beyond the traces.
    pub facts: Facts,
    /// Captured APM stats, or the reason why there are none to judge.
    pub stats: StatsRecord,
}

/// A request with what is known of its trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseRecord {
    /// The request.
    pub case: Case,
    /// The evidence of its trace.
    pub evidence: Evidence,
}

/// Facts about a scenario's run beyond its traces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Workloads that ended by themselves, with the end of their logs.
    pub exits: Vec<String>,
    /// Whether the intake was among them: then what is missing says nothing.
    pub intake_ended: bool,
    /// Gaps in the evidence.
    pub gaps: Vec<String>,
    /// Attempts that the intake refused; `None` where nobody counted them.
    pub refused: Option<u64>,
    /// Requests of services that the collectors refused; `None` where nobody counted them.
    #[serde(default)]
    pub refused_exports: Option<u64>,
    /// Steps that could not be carried out: injecting a fault, proving completeness, stopping a workload.
    pub undone: Vec<String>,
    /// Services that no span was captured of, and that have no ledger to say whether there should be one.
    pub silent: Vec<String>,
    /// Every stage's span counts at the end of the scenario, where it expects a balance.
    pub stages: Option<Stages>,
    /// Every stage's span counts when a case had failed, before faults were removed.
    pub stages_at_failure: Option<Stages>,
    /// Disturbances between the harness and the system.
    pub disturbances: Vec<String>,
    /// The sentinel at the end of the run, where it did not arrive whole.
    #[serde(default)]
    pub unrest: Option<Unrest>,
    /// Traffic between workloads while a fault struck it, by what stood there.
    #[serde(default)]
    pub passed: BTreeMap<String, Passed>,
    /// Whether services and collectors were stopped cleanly before it was judged, so that nothing can come any more.
    #[serde(default)]
    pub sources_ended: bool,
    /// The verdict of the first judgement of a run; `None` where a record is judged only once.
    pub first_verdict: Option<Verdict>,
}

/// A sentinel that did not arrive whole: a request like the scenario's that was sent after it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unrest {
    /// The evidence that was missing at its deadline.
    pub missing: String,
    /// Failures of the sentinel once nothing more of it could arrive; empty while that was not certain.
    pub failures: Vec<Failure>,
}

/// Facts about the run of a system that belong to none of its scenarios.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemFacts {
    /// The system, for people.
    pub name: String,
    /// Settings that will not do for the scenarios.
    pub foreseen: Vec<String>,
    /// Scenarios without a record although they were driven, each by its name and the panic that ended it.
    pub panicked: Vec<String>,
    /// Whether spans were captured of which Datadog would make no trace metrics.
    pub lacks_trace_metrics: bool,
    /// Whether the run was cancelled before all scenarios were judged.
    pub is_cancelled: bool,
    /// Errors of stopping services and collectors, and of reading what they sent then.
    pub unclean: Vec<String>,
    /// Gaps in the evidence.
    pub gaps: Vec<String>,
    /// Workloads that ended by themselves.
    pub exits: Vec<String>,
    /// By workload, the line of its log that reports that spans were not passed on, where no scenario made anything fail.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub export_errors: BTreeMap<String, String>,
    /// Errors of saving the run and of removing the rest of the system.
    pub undone: Vec<String>,
}

impl SystemFacts {
    /// Returns all errors of taking the system down, each as a sentence.
    pub(crate) fn taking_down(&self) -> impl Iterator<Item = String> {
        let errors = self.unclean.iter().chain(&self.undone);
        errors.map(|error| format!("taking {} down: {error}", self.name))
    }
}

impl Record {
    /// Creates the record of a scenario that nothing was sent for yet.
    pub fn new(scenario: Scenario, topology: Topology, capabilities: Vec<Capability>) -> Self {
        Self {
            scenario,
            topology,
            capabilities,
            cases: Vec::new(),
            strays: Vec::new(),
            facts: Facts::default(),
            stats: StatsRecord::default(),
        }
    }
}
