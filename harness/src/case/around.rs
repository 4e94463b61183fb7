//! All that was captured of the requests that are judged together: what one trace shows by itself, others may clear up.

use std::{collections::HashMap, sync::OnceLock};

use self::clocks::Clocks;
pub(crate) use self::clocks::WrongClock;
use super::{Topology, call_facts::CallFacts};
use crate::trace::{Span, SpanId, Trace, TraceId};

mod clocks;

/// The captured traces of a scenario's requests, with what rules ask of them all, which is looked for once.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    traces: Vec<&'a Trace>,
    calls: OnceLock<HashMap<String, Vec<Call>>>,
    clocks: OnceLock<Clocks>,
}

/// A call for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The workload, or service, that made it.
    pub(crate) caller: String,
    /// Its trace.
    pub(crate) trace: TraceId,
    /// Its span.
    pub(crate) span: SpanId,
    /// Nanoseconds since the Unix epoch.
    pub(crate) start: i64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) end: i64,
}

impl Call {
    /// Returns whether it was in progress at a time, or so near to it as clocks may be apart.
    pub(crate) fn is_at(&self, time: i64, tolerance: i64) -> bool {
        (self.start.saturating_sub(tolerance)..=self.end.saturating_add(tolerance)).contains(&time)
    }

    /// Returns whether it was in progress while a span was.
    pub(crate) fn overlaps(&self, span: &Span) -> bool {
        self.start <= span.end() && span.start <= self.end
    }
}

impl<'a> Around<'a> {
    /// Collects the traces.
    pub fn new(traces: impl IntoIterator<Item = &'a Trace>) -> Self {
        Self { traces: traces.into_iter().collect(), ..Self::default() }
    }

    /// Returns how far the clocks of services are apart.
    pub(crate) fn clocks(&self, topology: &Topology) -> &Clocks {
        self.clocks.get_or_init(|| Clocks::new(&self.traces, topology))
    }

    /// Returns the calls of all traces that asked for a path.
    pub(crate) fn calls_for(&self, topology: &Topology, path: &str) -> &[Call] {
        let calls = self.calls.get_or_init(|| {
            let spans = self.traces.iter().flat_map(|trace| &trace.spans);
            let mut calls: HashMap<String, Vec<Call>> = HashMap::new();
            for span in spans.filter(|span| span.kind() == "client") {
                let Some(path) = CallFacts::of(span).path else { continue };
                calls.entry(path).or_default().push(Call {
                    caller: topology.workload_of(span).unwrap_or(&span.service).to_owned(),
                    trace: span.trace_id,
                    span: span.id,
                    start: span.start,
                    end: span.end(),
                });
            }
            calls
        });
        calls.get(path).map_or(&[], Vec::as_slice)
    }
}
