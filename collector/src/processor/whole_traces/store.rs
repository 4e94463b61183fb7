//! The traces that are waited for, by the time at which each is over.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::telemetry::Gauge;
use crate::trace_batch::TraceBatch;

/// About how many bytes a part of a trace takes beside its message.
const PART_BYTES: usize = 256;

/// A trace as far as it is here.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) spans: TraceBatch,
    due: (Instant, u64),
    bytes: usize,
}

#[cfg(test)]
impl Trace {
    /// A trace of these spans.
    pub(crate) fn of(spans: TraceBatch) -> Self {
        Self { spans, due: (Instant::now(), 0), bytes: 0 }
    }
}

#[derive(Debug)]
pub(super) struct TraceStore {
    traces: HashMap<u128, Trace>,
    /// By when they are over, and by their order.
    due: BTreeMap<(Instant, u64), u128>,
    next: u64,
    bytes: usize,
    gauges: [Gauge; 2],
}

impl TraceStore {
    /// Makes an empty one that shows its number of traces and of bytes.
    pub(super) fn new(traces: Gauge, bytes: Gauge) -> Self {
        Self {
            traces: HashMap::new(),
            due: BTreeMap::new(),
            next: 0,
            bytes: 0,
            gauges: [traces, bytes],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.traces.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has(&self, id: u128) -> bool {
        self.traces.contains_key(&id)
    }

    /// Adds spans of a trace, which is over at `due` if it is new; returns how many bytes its messages have.
    pub(super) fn add(&mut self, id: u128, spans: TraceBatch, due: Instant) -> usize {
        let bytes = spans.byte_count() + PART_BYTES * spans.resources().len();
        self.bytes += bytes;
        let trace = self.traces.entry(id).or_insert_with(|| {
            self.next += 1;
            self.due.insert((due, self.next), id);
            Trace { spans: TraceBatch::default(), due: (due, self.next), bytes: 0 }
        });
        trace.bytes += bytes;
        trace.spans.append(spans);
        let of_messages = trace.spans.byte_count();
        self.show();
        of_messages
    }

    /// Has a trace end at `due`, if that is earlier.
    pub(super) fn hasten(&mut self, id: u128, due: Instant) {
        if let Some(trace) = self.traces.get_mut(&id)
            && due < trace.due.0
        {
            self.due.remove(&trace.due);
            trace.due.0 = due;
            self.due.insert(trace.due, id);
        }
    }

    /// When the next trace is over.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes out a trace that is over now.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(u128, Trace)> {
        if self.first_due()? > now {
            return None;
        }
        self.pop_first()
    }

    /// Takes out the trace that is over first.
    pub(super) fn pop_first(&mut self) -> Option<(u128, Trace)> {
        let id = *self.due.first_key_value()?.1;
        self.remove(id).map(|trace| (id, trace))
    }

    /// Takes out a trace.
    pub(super) fn remove(&mut self, id: u128) -> Option<Trace> {
        let trace = self.traces.remove(&id)?;
        self.due.remove(&trace.due);
        self.bytes -= trace.bytes;
        self.show();
        Some(trace)
    }

    fn show(&self) {
        self.gauges[0].set(self.traces.len() as u64);
        self.gauges[1].set(self.bytes as u64);
    }
}
