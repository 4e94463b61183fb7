//! Errors that only clusters have.

use crate::lines;

/// Error of a cluster that has no counterpart in other environments.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The collector was to be created by the OpenTelemetry operator, which cannot do it.
    #[error(
        "the `{environment}` environment cannot have the OpenTelemetry operator make the collector:{}",
        lines(findings)
    )]
    NoOperator {
        /// Backend's name.
        environment: &'static str,
        /// All that is missing, each with what helps.
        findings: Vec<String>,
    },
    /// The cluster does not start a workload, and waiting would not change that.
    #[error(
        "`{workload}` does not start: {problem}; {remedy}; the last events:{}; its last log lines:{}",
        lines(events),
        lines(log_tail)
    )]
    DoesNotStart {
        /// Name of the workload.
        workload: String,
        /// The problem that keeps it from starting.
        problem: String,
        /// The remedy.
        remedy: String,
        /// Its last events in the cluster.
        events: Vec<String>,
        /// The end of its log.
        log_tail: Vec<String>,
    },
}
