//! Faults that hold for every request of a service, set by its environment in fake-service's words.

use std::time::Duration;

use opentelemetry::TraceId;

use super::{FaultKind, Rate};

/// Faults that a service applies to every request, before those that the request itself asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StandingFaults {
    /// Added to every request (`TIMING_50_PERCENTILE`); zero adds nothing.
    pub latency: Duration,
    /// The share of traces that fail (`ERROR_RATE`); 0 = none.
    pub error_rate: Rate,
    /// Kind of failure (`ERROR_TYPE` with `ERROR_CODE` or `ERROR_DELAY`); `None` = no failure.
    pub error: Option<FaultKind>,
    /// Selects which traces fail (`RAND_SEED`).
    pub seed: u64,
}

impl StandingFaults {
    /// Returns the standing fault of a trace; `None` if the trace does not fail.
    pub fn of(&self, trace_id: TraceId) -> Option<&FaultKind> {
        self.error.as_ref().filter(|_| self.error_rate.hits(self.seed, trace_id))
    }
}
