//! Strays: captured traces that no request claims, and whose they are.

use serde::{Deserialize, Serialize};

use crate::trace::{SpanId, Trace, TraceId};

/// A captured trace that no request claims.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stray {
    /// Captured spans of the stray.
    pub trace: Trace,
    /// The request or cause it belongs to, and the proof.
    pub origin: Origin,
}

/// The origin of a stray trace: the first of these that the evidence proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// The response to the request of a trace named it.
    Answer {
        /// The request's trace.
        of: TraceId,
    },
    /// A link leads from it to a trace, or from that trace to it, perhaps over others: work that goes on in a trace of its own.
    Link {
        /// The request's trace.
        of: TraceId,
        /// Traces of further requests that it continues in the same way, as a batch does.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<TraceId>,
    },
    /// The trace holds a span that was ended in another trace.
    Moved {
        /// The request's trace.
        of: TraceId,
        /// The span.
        span: SpanId,
    },
    /// A span of it names a parent that is a span of another trace.
    Parent {
        /// The request's trace.
        of: TraceId,
        /// The span.
        span: SpanId,
        /// The parent that it names.
        parent: SpanId,
    },
    /// The trace began while a call was in progress that no span of the caller's trace answers, and could be its server side.
    Call {
        /// The request's trace.
        of: TraceId,
        /// The span of the call.
        call: SpanId,
        /// The workload that called.
        caller: String,
        /// The call, as its resource.
        what: String,
    },
    /// Just one like it began upon each of several equal requests, and none at another time.
    Within {
        /// The request's trace.
        of: TraceId,
        /// Number of requests that had one.
        requests: usize,
        /// The workload that may have called, whose calls there leave no spans.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<String>,
    },
    /// The trace began when no other request was in progress, and has services that the request must have and its own trace lacks.
    Lacking {
        /// The request's trace.
        of: TraceId,
        /// The services that the own trace lacks.
        services: Vec<String>,
        /// The workload that may have called, whose calls there leave no spans.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<String>,
    },
    /// The system file declares it as one that its service begins by itself.
    Declared,
    /// The trace began before the first request was sent, or by a service that was started again.
    StartUp,
    /// A health check or a probe of a service.
    Probe,
    /// A third party called the service: no call of the run could have.
    Foreign,
    /// A service was called while another, which is given its address, was at work on a request, or nothing was captured of that one; its
    /// calls there leave no spans.
    Unrecorded {
        /// The workload that may have called.
        caller: String,
    },
    /// A service began it by no known request.
    Unexplained,
}

impl Origin {
    /// Iterates over the trace ids of all requests to which the stray belongs.
    pub fn owners(&self) -> impl Iterator<Item = TraceId> {
        let also = match self {
            Self::Link { also, .. } => also.as_slice(),
            _ => &[],
        };
        self.owner().into_iter().chain(also.iter().copied())
    }

    /// Returns the trace id of the request to which the stray belongs, the first if there are several.
    pub fn owner(&self) -> Option<TraceId> {
        match self {
            Self::Answer { of }
            | Self::Link { of, .. }
            | Self::Moved { of, .. }
            | Self::Parent { of, .. }
            | Self::Call { of, .. }
            | Self::Within { of, .. }
            | Self::Lacking { of, .. } => Some(*of),
            Self::Declared
            | Self::StartUp
            | Self::Probe
            | Self::Foreign
            | Self::Unrecorded { .. }
            | Self::Unexplained => None,
        }
    }

    /// Returns whether the stray is work that may continue in a trace of its own.
    pub fn is_link(&self) -> bool {
        matches!(self, Self::Link { .. })
    }
}

impl Stray {
    /// Returns the start of the trace in nanoseconds since the Unix epoch.
    pub fn start(&self) -> i64 {
        self.trace.spans.first().map_or(i64::MAX, |span| span.start)
    }
}
