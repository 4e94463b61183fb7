//! The verdict: pass, fail, or inconclusive; never a pass when nothing was seen.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    finding::{Failure, Findings, NotEvaluated, SystemFindings},
    trace::TraceId,
};

/// The outcome of a scenario, or of a run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything that was asked for was seen to hold.
    Pass,
    /// Not run: the system lacks a feature that the scenario requires.
    Skipped,
    /// Nothing failed, but something could not be decided.
    Inconclusive,
    /// Something that must hold does not.
    Fail,
}

impl Verdict {
    /// Returns the verdict's name as in YAML and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skipped => "skipped",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

/// The judgement of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseResult {
    /// The trace that was judged.
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{32}$"))]
    pub trace_id: TraceId,
    /// Indexes of the request in the scenario and of its repetition, both from 0.
    pub place: (usize, u32),
    /// The request's path and how it was answered.
    pub request: String,
    /// Failures, and checks that could not be evaluated.
    pub findings: Findings,
    /// Expected and captured tree, where something failed.
    pub trees: Option<Trees>,
    /// Number of its spans at each stage, in words, if a check failed.
    pub ledger: Option<String>,
    /// Spans captured, the harness's own included.
    pub spans: usize,
    /// Spans captured of the services alone.
    pub service_spans: usize,
    /// From the capture of the payload that completed the trace to the judgement: milliseconds; `None` where nothing was
    /// captured.
    pub judged_after_ms: Option<u64>,
}

/// Two trees side by side, one line a span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trees {
    /// The expected tree, by faults and scenario.
    pub expected: Vec<String>,
    /// The captured tree.
    pub captured: Vec<String>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// The judgement of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The file that it is in; empty where it is in none.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub file: PathBuf,
    /// Outcome of all its cases together.
    pub verdict: Verdict,
    /// From its first request to its verdict: milliseconds.
    pub took_ms: u64,
    /// Its cases, in the order of their requests.
    pub cases: Vec<CaseResult>,
    /// Failures that belong to no single case.
    pub failures: Vec<Failure>,
    /// Checks over all its cases together that could not be evaluated.
    #[serde(default)]
    pub not_evaluated: Vec<NotEvaluated>,
    /// Reasons for an inconclusive verdict beyond those of its cases.
    pub undecided: Vec<String>,
    /// Span counts of each stage of the system, where something failed.
    pub ledger: Option<String>,
    /// Whether the audit at the end changed the verdict.
    pub revised: bool,
}

impl ScenarioResult {
    /// Creates the result of a scenario of which nothing was judged yet: inconclusive.
    pub fn new(name: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            file: PathBuf::new(),
            verdict: Verdict::Inconclusive,
            took_ms: 0,
            cases: Vec::new(),
            failures: Vec::new(),
            not_evaluated: Vec::new(),
            undecided: Vec::new(),
            ledger: None,
            revised: false,
        }
    }

    /// The result of a scenario that is in this file.
    pub(crate) fn in_file(self, file: &Path) -> Self {
        Self { file: file.to_owned(), ..self }
    }

    /// Creates the inconclusive result of a scenario that could not be run.
    pub fn undecided(name: &str, description: &str, because: impl Into<String>) -> Self {
        Self { undecided: vec![because.into()], ..Self::new(name, description) }
    }

    /// Creates the result of a scenario that was skipped, since it requires a feature that is missing.
    pub fn skipped(name: &str, description: &str, because: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::undecided(name, description, because) }
    }

    /// Works out the verdict from what was found.
    pub(crate) fn conclude(&mut self) {
        let required = |skipped: &NotEvaluated| skipped.required;
        let failed = !self.failures.is_empty()
            || self.cases.iter().any(|case| !case.findings.failures.is_empty());
        let undecided =
            self.cases.is_empty() || !self.undecided.is_empty() || self.unevaluated().any(required);
        self.verdict = match (failed, undecided) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Inconclusive,
            (false, false) => Verdict::Pass,
        };
    }

    /// Returns the number of spans captured for all cases.
    pub fn spans(&self) -> usize {
        self.cases.iter().map(|case| case.spans).sum()
    }

    /// Returns the reasons for an inconclusive verdict, each once.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = self.undecided.clone();
        for skipped in self.unevaluated().filter(|skipped| skipped.required) {
            let reason = format!("{}: not evaluated, because {}", skipped.rule, skipped.because);
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }

    /// Iterates over all checks that were not evaluated: those of the scenario, then those of each case.
    pub fn unevaluated(&self) -> impl Iterator<Item = &NotEvaluated> {
        let of_cases = self.cases.iter().flat_map(|case| &case.findings.not_evaluated);
        self.not_evaluated.iter().chain(of_cases)
    }
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The run's id.
    pub run_id: String,
    /// All its scenarios, by name.
    pub scenarios: Vec<ScenarioResult>,
    /// Wall time of the whole run, start-up and clean-up included: milliseconds.
    pub took_ms: u64,
    /// Warnings beyond the verdicts, for example about clean-up.
    pub warnings: Vec<String>,
    /// Reasons for an inconclusive verdict beyond those of its scenarios.
    #[serde(default)]
    pub undecided: Vec<String>,
    /// Notes for verbose output.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Summary {
    /// Creates the outcome of a run of which nothing was judged yet.
    pub fn new(run_id: impl Into<String>) -> Self {
        Self {
            run_id: run_id.into(),
            scenarios: Vec::new(),
            took_ms: 0,
            warnings: Vec::new(),
            undecided: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds the findings about one of its systems.
    pub fn add(&mut self, found: SystemFindings) {
        self.undecided.extend(found.undecided);
        self.warnings.extend(found.warnings.into_iter().map(|warning| warning.text));
        self.notes.extend(found.notes);
    }

    /// Returns the worst verdict of the scenarios that were not skipped; at best inconclusive if part of the run is
    /// undecided or no scenario was judged.
    pub fn verdict(&self) -> Verdict {
        let undecided = (!self.undecided.is_empty()).then_some(Verdict::Inconclusive);
        self.scenarios
            .iter()
            .map(|scenario| scenario.verdict)
            .filter(|verdict| *verdict != Verdict::Skipped)
            .chain(undecided)
            .max()
            .unwrap_or(Verdict::Inconclusive)
    }

    /// Counts the scenarios with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.scenarios.iter().filter(|scenario| scenario.verdict == verdict).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(findings: Findings) -> CaseResult {
        CaseResult {
            trace_id: TraceId(1),
            place: (0, 0),
            request: String::new(),
            findings,
            trees: None,
            ledger: None,
            spans: 0,
            service_spans: 0,
            judged_after_ms: None,
        }
    }

    fn verdict(cases: Vec<CaseResult>) -> Verdict {
        let mut result = ScenarioResult { cases, ..ScenarioResult::new("", "") };
        result.conclude();
        result.verdict
    }

    fn skipped(required: bool) -> Findings {
        let skipped = NotEvaluated { rule: String::new(), because: String::new(), required };
        Findings { not_evaluated: vec![skipped], ..Findings::default() }
    }

    #[test]
    fn a_scenario_without_cases_is_never_a_pass() {
        assert_eq!(verdict(Vec::new()), Verdict::Inconclusive);
        assert_eq!(verdict(vec![case(Findings::default())]), Verdict::Pass);
    }

    #[test]
    fn what_was_required_and_not_evaluated_is_inconclusive_and_a_failure_is_worse() {
        assert_eq!(verdict(vec![case(skipped(false))]), Verdict::Pass);
        assert_eq!(
            verdict(vec![case(skipped(true)), case(Findings::default())]),
            Verdict::Inconclusive
        );
        let failed = Findings { failures: vec![Failure::new("r", "d")], ..Findings::default() };
        assert_eq!(verdict(vec![case(skipped(true)), case(failed)]), Verdict::Fail);
    }

    #[test]
    fn a_run_without_scenarios_or_with_skipped_ones_alone_is_inconclusive() {
        let mut summary = Summary::new("");
        assert_eq!(summary.verdict(), Verdict::Inconclusive);
        summary.scenarios.push(ScenarioResult::skipped("", "", "it needs more"));
        assert_eq!(summary.verdict(), Verdict::Inconclusive);
        assert_eq!((summary.count(Verdict::Pass), summary.count(Verdict::Skipped)), (0, 1));
        let passed =
            ScenarioResult { verdict: Verdict::Pass, ..ScenarioResult::undecided("", "", "") };
        summary.scenarios.push(passed);
        assert_eq!(summary.verdict(), Verdict::Pass);
        summary.undecided.push("a trace began by no known request".to_owned());
        assert_eq!(summary.verdict(), Verdict::Inconclusive);
        let failed =
            ScenarioResult { verdict: Verdict::Fail, ..ScenarioResult::undecided("", "", "") };
        summary.scenarios.push(failed);
        assert_eq!(summary.verdict(), Verdict::Fail);
    }
}
