//! Features that a collector may have, and a scenario may need.

use serde::{Deserialize, Serialize};

/// Something that not every collector can do, and a scenario may need. The built-in one can do all of it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CollectorFeature {
    /// Computes APM stats, and sends them to Datadog.
    ApmStats,
    /// Has the exporter `otlphttp`.
    OtlphttpExporter,
    /// Exports within a second, and keeps what the intake did not take until it does.
    OutageSurvival,
    /// Sends what it has of APM stats when it ends, instead of losing its last buckets.
    StatsAtEnd,
    /// Refuses services on demand, by scripts that its ledger takes.
    ScriptedRefusals,
}

impl CollectorFeature {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ApmStats,
        Self::OtlphttpExporter,
        Self::OutageSurvival,
        Self::StatsAtEnd,
        Self::ScriptedRefusals,
    ];

    /// Returns the feature's name as in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApmStats => "apm-stats",
            Self::OtlphttpExporter => "otlphttp-exporter",
            Self::OutageSurvival => "outage-survival",
            Self::StatsAtEnd => "stats-at-end",
            Self::ScriptedRefusals => "scripted-refusals",
        }
    }
}

/// Error of a text that is no [`CollectorFeature`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a collector feature; {remedy}")]
pub struct ParseFeatureError {
    given: String,
    remedy: String,
}

impl std::str::FromStr for CollectorFeature {
    type Err = ParseFeatureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|feature| feature.name() == text).ok_or_else(|| {
            let known = Self::ALL.into_iter().map(Self::name);
            ParseFeatureError {
                given: text.to_owned(),
                remedy: harness_core::source::nearest_or_known(text, known).unwrap_or_default(),
            }
        })
    }
}
