//! The expected look of a trace, as far as it is known beforehand.

use serde::{Deserialize, Serialize};

/// Answer to a yes-or-no question, as far as it is known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// The condition must hold.
    Yes,
    /// The condition must not hold.
    No,
    /// Either is fine.
    Either,
}

impl Expected {
    fn is_no(&self) -> bool {
        *self == Self::No
    }
}

/// Expected look of one hop of a chain in the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HopShape {
    /// The workload.
    pub workload: String,
    /// Whether it has a server span in the trace.
    pub reached: Expected,
    /// Whether the last of its server spans is marked as an error.
    pub server_error: Expected,
    /// Whether the last of its client spans, if it has any, is marked as an error.
    pub client_error: Expected,
    /// Number of its client spans that must be errors before that last one (failed tries).
    pub failed_tries: u32,
    /// Shortest duration of its server span, in nanoseconds.
    pub at_least: i64,
    /// Whether it begins a trace of its own, since the caller's is not propagated to it.
    #[serde(default = "no", skip_serializing_if = "Expected::is_no")]
    pub apart: Expected,
}

fn no() -> Expected {
    Expected::No
}

/// Expected look of a chain's trace, entry first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// One entry a hop; empty where the system does not say which workload calls which.
    pub hops: Vec<HopShape>,
}
