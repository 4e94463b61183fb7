//! Routes of Datadog's API that traces are read by.

use std::fmt;

/// The two questions, each with a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// *Get a trace by ID*, a preview: the whole trace, from live or longer-term storage.
    Trace,
    /// *Search spans*: spans that are live (15 minutes) or retained.
    Spans,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace API",
            Self::Spans => "spans search",
        })
    }
}
