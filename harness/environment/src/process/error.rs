//! Errors that only processes of this machine have.

use std::io;

/// Error of a process that has no counterpart in other environments.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A program could not be started at all.
    #[error(
        "`{workload}`: cannot start `{program}`: {source}; check its path and that it may be executed"
    )]
    Spawn {
        /// Name of the workload.
        workload: String,
        /// Program as it was to be started, without its arguments.
        program: String,
        /// The cause.
        source: io::Error,
    },
}
