//! Findings of checks: failures, in words for people and as fields for programs, and checks that could not be evaluated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::trace::{Span, SpanId};

/// Something that should hold and does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Name of the rule, or of the kind of expectation.
    pub rule: String,
    /// The finding, its place, and its usual cause.
    pub detail: String,
    /// The workload, or the service where that is not known, that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The link between two of them that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop: Option<Hop>,
    /// The span that it is about; of several, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9a-f]{16}$"))]
    pub span: Option<SpanId>,
    /// The stage at which it happened, where that is proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Cause, or usual cause, of the failure: a part of `detail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Further failures that this one explains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symptoms: Vec<Failure>,
    /// Fields that changed on their way: such a failure explains what other rules find of these fields, and stands beside everything else they find.
    #[serde(skip)]
    pub changed: Option<Changed>,
}

/// Kinds of fields that changed on their way, as far as rules judge them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Changed {
    /// Start, end or duration.
    pub times: bool,
    /// Error flag, or status of a response.
    pub status: bool,
}

/// A link between two workloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// The calling workload.
    pub caller: String,
    /// The called workload.
    pub callee: String,
}

/// A stage that spans pass on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// In the service that created the spans.
    Service,
    /// Between the services and the collector.
    BeforeCollector,
    /// In the collector.
    Collector,
    /// Between the collector and the intake.
    BehindCollector,
}

impl Stage {
    /// Returns the name of the stage as used in YAML and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::BeforeCollector => "before-collector",
            Self::Collector => "collector",
            Self::BehindCollector => "behind-collector",
        }
    }
}

/// Something that fails nothing and that the user should know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Warning {
    /// In words; of many findings, it has the first ones, and counts the others.
    pub text: String,
    /// The findings that the text only counts, each in words.
    pub more: Vec<String>,
}

/// Findings about the run of a system that belong to none of its scenarios.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SystemFindings {
    /// Reasons for an inconclusive run.
    pub undecided: Vec<String>,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
    /// Notes for verbose output.
    pub notes: Vec<String>,
}

impl From<String> for Warning {
    fn from(text: String) -> Self {
        Self { text, more: Vec::new() }
    }
}

/// A check that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotEvaluated {
    /// Name of the rule or expectation.
    pub rule: String,
    /// The missing evidence.
    pub because: String,
    /// Whether a verdict needs it: then the verdict is inconclusive.
    pub required: bool,
}

/// Findings of all rules on one case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// Failures.
    pub failures: Vec<Failure>,
    /// Checks that could not be evaluated.
    pub not_evaluated: Vec<NotEvaluated>,
}

impl Failure {
    /// Creates a failure of `rule`.
    pub fn new(rule: &str, detail: impl Into<String>) -> Self {
        Self { rule: rule.to_owned(), detail: detail.into(), ..Self::default() }
    }

    /// A violation of the rule that is being checked.
    pub(crate) fn found(detail: impl Into<String>) -> Self {
        Self::new("", detail)
    }

    /// Names the rule.
    pub(crate) fn of_rule(self, rule: &str) -> Self {
        Self { rule: rule.to_owned(), ..self }
    }

    /// Sets the workload or service that the failure is about.
    pub(crate) fn about(self, service: &str) -> Self {
        Self { service: Some(service.to_owned()), ..self }
    }

    /// Sets the link that the failure is about.
    pub(crate) fn on_hop(self, caller: &str, callee: &str) -> Self {
        let hop = Hop { caller: caller.to_owned(), callee: callee.to_owned() };
        Self { hop: Some(hop), ..self }
    }

    /// Sets the span that the failure is about.
    pub(crate) fn of_span(self, span: SpanId) -> Self {
        Self { span: Some(span), ..self }
    }

    /// Sets the span that the failure is about: the first of these.
    pub(crate) fn of_spans(self, spans: &[&Span]) -> Self {
        Self { span: spans.first().map(|span| span.id), ..self }
    }

    /// Sets the stage at which it happened, if known.
    pub(crate) fn at_stage(self, stage: Option<Stage>) -> Self {
        Self { stage, ..self }
    }

    /// Records which single fields changed.
    pub(crate) fn of_changed(self, changed: Changed) -> Self {
        Self { changed: Some(changed), ..self }
    }

    /// Sets the cause, in place of the one before.
    pub(crate) fn set_cause(&mut self, cause: String) {
        let old = self.cause.as_deref();
        let rest = old.and_then(|old| self.detail.strip_suffix(old)).unwrap_or(&self.detail);
        let what = rest.trim_end_matches([' ', ':', ';']);
        self.detail = format!("{what}: {cause}");
        self.cause = Some(cause);
    }

    /// Sets the cause, both as the end of the detail and by itself.
    pub(crate) fn because(self, cause: impl Into<String>) -> Self {
        let cause = cause.into();
        Self { detail: format!("{}: {cause}", self.detail), cause: Some(cause), ..self }
    }

    /// Returns the detail without the cause at its end.
    pub fn without_cause(&self) -> &str {
        let cause = self.cause.as_deref().and_then(|cause| self.detail.strip_suffix(cause));
        cause.and_then(|detail| detail.strip_suffix(": ")).unwrap_or(&self.detail)
    }

    /// Lists the failure and all its symptoms, each with its depth: 0 for the failure itself.
    pub fn unfolded(&self) -> Vec<(usize, &Self)> {
        let symptoms = self.symptoms.iter().flat_map(Self::unfolded);
        [(0, self)].into_iter().chain(symptoms.map(|(depth, one)| (depth + 1, one))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_not_known_are_left_out_and_what_was_written_without_them_is_read() {
        let plain = Failure::new("status", "503");
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(text, r#"{"rule":"status","detail":"503"}"#);
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), plain);
        let lost = Failure::new("lost-span", "gone").because("dropped").about("pay");
        let lost = lost.on_hop("shop", "pay").of_span(SpanId(0xb1));
        let lost = lost.at_stage(Some(Stage::BehindCollector));
        let written = serde_json::to_value(&lost).unwrap();
        let expected = serde_json::json!({
            "rule": "lost-span",
            "detail": "gone: dropped",
            "service": "pay",
            "hop": { "caller": "shop", "callee": "pay" },
            "span": "00000000000000b1",
            "stage": "behind-collector",
            "cause": "dropped",
        });
        assert_eq!(written, expected);
        for stage in
            [Stage::Service, Stage::BeforeCollector, Stage::Collector, Stage::BehindCollector]
        {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        }
    }
}
