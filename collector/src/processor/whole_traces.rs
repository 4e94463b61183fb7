//! Holds spans by trace, for processors that wait for whole traces, until each has had its time, within bounds of number and memory.
//!
//! Senders are answered once their spans are held here, in memory: what is behind keeps them on disk, where it does, from the time at
//! which they go on. When there are too many, the traces that would be over first are over early; nothing is dropped for want of room.

mod store;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use store::Trace;
use store::TraceStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::inbox::{Inbox, Inside};
use crate::consumer::{Consumer, Refused};
use crate::sender::{Peer, Sender};
use crate::telemetry::{Counter, Registry};
use crate::trace_batch::TraceBatch;

/// From how many spans on traces that are over at the same time go on in several batches.
const BATCH_SPANS: usize = 8192;
/// After how long the next stage is asked again that refused.
const PAUSE: Duration = Duration::from_millis(500);

/// How long traces are waited for, and how many.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// From the first span of a trace to its end.
    pub(crate) wait: Duration,
    /// From its root span, if that is earlier; zero does not look at roots.
    pub(crate) wait_after_root: Duration,
    pub(crate) max_traces: usize,
    pub(crate) max_bytes: usize,
    /// Bytes from which on a trace is too large; zero takes any.
    pub(crate) max_trace_bytes: usize,
    /// Whether senders wait while there are too many, rather than that the first traces are over early.
    pub(crate) blocks: bool,
    /// Whether those that still wait are dropped when the collector ends.
    pub(crate) drops_at_end: bool,
}

/// Reason for which a trace is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// It had its time.
    Due,
    /// There are too many others.
    Early,
    TooLarge,
    /// The collector ends, and drops what still waits.
    Abandoned,
}

/// Decides what becomes of traces.
pub(crate) trait Judge: Send + Sync + 'static {
    /// Returns whether more spans of a trace go on that is over already; `None` if they wait.
    fn late(&mut self, id: u128, spans: &TraceBatch) -> Option<bool>;

    /// Returns whether a trace goes on that is over.
    fn judge(&mut self, id: u128, trace: &Trace, over: Over) -> bool;
}

/// Starts a processor that waits for whole traces in front of `next`.
pub(crate) fn start(
    bounds: Bounds,
    judge: impl Judge,
    id: &str,
    registry: &Registry,
    next: Arc<dyn Consumer>,
) -> (Inbox, JoinHandle<()>) {
    let (inbox, waiting) = Inbox::new(id, registry, &next);
    let lost = registry.counter(
        "otelcol_processor_dropped_spans",
        "Number of spans dropped because the next stage had ended.",
        &[("processor", id)],
    );
    let held = registry.gauge(
        "otelcol_processor_waiting_bytes",
        "Current size of the traces that the processor waits for, in bytes.",
        &[("processor", id)],
    );
    let traces = registry.gauge(
        "otelcol_processor_waiting_traces",
        "Current number of traces that the processor waits for.",
        &[("processor", id)],
    );
    let store = TraceStore::new(traces, held);
    let (id, inside, out) = (id.into(), inbox.inside(), TraceBatch::default());
    let gathering = Gathering { bounds, judge, store, next, lost, inside, id, out };
    (inbox.without_notes(), tokio::spawn(gathering.run(waiting)))
}

struct Gathering<J> {
    bounds: Bounds,
    judge: J,
    store: TraceStore,
    next: Arc<dyn Consumer>,
    lost: Counter,
    inside: Inside,
    id: String,
    /// Spans on their way to the next stage.
    out: TraceBatch,
}

impl<J: Judge> Gathering<J> {
    async fn run(mut self, mut waiting: mpsc::Receiver<TraceBatch>) {
        loop {
            let takes = !(self.bounds.blocks && self.is_full());
            let due = self.store.first_due();
            let is_due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = is_due => {
                    let now = Instant::now();
                    while let Some((id, trace)) = self.store.pop_due(now) {
                        self.end(id, trace, Over::Due).await;
                    }
                }
                request = waiting.recv(), if takes => match request {
                    Some(request) => self.take(&request).await,
                    None => break,
                },
            }
            self.hand_on().await;
        }
        let over = if self.bounds.drops_at_end { Over::Abandoned } else { Over::Due };
        while let Some((id, trace)) = self.store.pop_first() {
            self.end(id, trace, over).await;
        }
        self.hand_on().await;
    }

    fn is_full(&self) -> bool {
        self.store.len() > self.bounds.max_traces || self.store.bytes() > self.bounds.max_bytes
    }

    async fn take(&mut self, request: &TraceBatch) {
        let now = Instant::now();
        for (id, spans) in request.by_trace() {
            if !self.store.has(id)
                && let Some(goes_on) = self.judge.late(id, &spans)
            {
                if goes_on {
                    self.out.append(spans);
                } else {
                    self.inside.let_go(spans.span_count());
                }
                continue;
            }
            let has_root = self.bounds.wait_after_root > Duration::ZERO
                && spans
                    .resources()
                    .flat_map(|resource| resource.spans())
                    .any(|(_, span)| span.parent_span_id == 0);
            let bytes = self.store.add(id, spans, now + self.bounds.wait);
            if has_root {
                self.store.hasten(id, now + self.bounds.wait_after_root);
            }
            if (1..bytes).contains(&self.bounds.max_trace_bytes)
                && let Some(trace) = self.store.remove(id)
            {
                self.end(id, trace, Over::TooLarge).await;
            }
            while !self.bounds.blocks
                && self.is_full()
                && let Some((id, trace)) = self.store.pop_first()
            {
                self.end(id, trace, Over::Early).await;
            }
        }
    }

    async fn end(&mut self, id: u128, trace: Trace, over: Over) {
        if self.judge.judge(id, &trace, over) {
            self.out.append(trace.spans);
            if self.out.span_count() >= BATCH_SPANS {
                self.hand_on().await;
            }
        } else {
            self.inside.let_go(trace.spans.span_count());
        }
    }

    /// Hands on what is on its way, waiting for room.
    async fn hand_on(&mut self) {
        let batch = std::mem::take(&mut self.out);
        if batch.is_empty() {
            return;
        }
        let spans = batch.span_count();
        let outcome = match self.next.needs().notes {
            false => self.next.deliver(batch).await,
            true => self.hand_on_with_note(batch).await,
        };
        if outcome.is_err() {
            self.lost.add(spans);
        }
        self.inside.let_go(spans);
    }

    /// As a sender does, so that the batch is noted as a request is.
    async fn hand_on_with_note(&self, batch: TraceBatch) -> Result<(), Refused> {
        let mut was_reported = false;
        loop {
            match self.next.reserve(batch.clone(), &Sender::new(Peer::UNKNOWN)).await {
                Ok(commit) => {
                    // Whoever waits for the result was answered long ago.
                    let _answers = commit();
                    return Ok(());
                }
                Err(Refused::Closed) => return Err(Refused::Closed),
                Err(refused) => {
                    if !was_reported {
                        tracing::warn!(
                            processor = self.id,
                            spans = batch.span_count(),
                            %refused,
                            "traces are held until the next stage takes them"
                        );
                    }
                    was_reported = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
