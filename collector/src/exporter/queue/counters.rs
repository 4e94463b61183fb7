//! Counters of a queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::queue_watch::{State, Watch};
use super::super::retry;
use crate::telemetry::{Counter, Histogram, Registry, histogram};

/// Counters of the spans that an exporter was given.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    pub(super) accepted: Counter,
    pub(super) sent: Counter,
    pub(super) failed: Counter,
    pub(super) refused: Counter,
    /// The sizes of batches that are made ready to be sent.
    pub(super) batch_spans: Histogram,
    pub(super) batch_bytes: Histogram,
    /// Spans that are sent again though the receiver may have them.
    pub(super) doubtful: [Counter; 2],
    pub(super) dropped: Dropped,
    pub(super) watch: Watch,
}

/// Reason for which it is unknown whether the destination has spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It did not answer, or what stands before it answered instead.
    NoReply,
    /// The collector ended before it noted the answer, or before it sent them.
    Restart,
}

#[derive(Debug, Clone)]
pub(super) struct Dropped {
    registry: Registry,
    exporter: Arc<str>,
    pub(super) total: Counter,
    reported: Arc<Mutex<HashMap<String, u64>>>,
}

impl Counters {
    pub(super) fn new(
        registry: &Registry,
        id: &str,
        capacity: usize,
        retry: &retry::Config,
    ) -> Self {
        let labels = [("exporter", id), ("data_type", "traces")];
        let exporter = [("exporter", id)];
        registry
            .gauge(
                "otelcol_exporter_queue_capacity",
                "Fixed capacity of the sending queue, in units of its sizer.",
                &labels,
            )
            .set(capacity as u64);
        Self {
            accepted: registry.counter(
                "otelcol_exporter_enqueued_spans",
                "Number of spans that the exporter holds or has held.",
                &exporter,
            ),
            sent: registry.counter(
                "otelcol_exporter_sent_spans",
                "Number of spans successfully sent to destination.",
                &exporter,
            ),
            failed: registry.counter(
                "otelcol_exporter_send_failed_spans",
                "Number of spans in failed attempts to send to destination.",
                &exporter,
            ),
            refused: registry.counter(
                "otelcol_exporter_enqueue_failed_spans",
                "Number of spans refused because the sending queue was full.",
                &exporter,
            ),
            batch_spans: registry.histogram(
                "otelcol_exporter_queue_batch_send_size",
                "Number of units in the batch.",
                histogram::SPANS,
                &exporter,
            ),
            batch_bytes: registry.histogram(
                "otelcol_exporter_queue_batch_send_size_bytes",
                "Number of bytes in batch that was sent.",
                histogram::BYTES,
                &exporter,
            ),
            doubtful: ["no_reply", "restart"].map(|reason| {
                registry.counter(
                    "otelcol_exporter_possible_duplicate_spans",
                    "Number of spans sent again though the destination may have them, by reason.",
                    &[("exporter", id), ("reason", reason)],
                )
            }),
            dropped: Dropped {
                registry: registry.clone(),
                exporter: id.into(),
                total: Counter::default(),
                reported: Arc::default(),
            },
            watch: Watch::new(retry),
        }
    }

    /// Returns the state of the queue for its watch.
    pub(crate) fn state(&self) -> State {
        self.watch.state(self.left())
    }

    #[cfg(test)]
    pub(crate) fn sent_spans(&self) -> u64 {
        self.sent.value()
    }

    #[cfg(test)]
    pub(crate) fn dropped_spans(&self) -> u64 {
        self.dropped.total.value()
    }

    /// Spans that were accepted and are neither sent nor dropped.
    pub(crate) fn left(&self) -> u64 {
        let done = self.sent.value() + self.dropped.total.value();
        self.accepted.value().saturating_sub(done)
    }

    /// So many spans are sent again though the receiver may have them.
    pub(super) fn doubt(&self, doubt: Doubt, spans: usize) {
        self.doubtful[doubt as usize].add(spans);
    }

    pub(super) fn drop(&self, reason: &str, spans: usize) {
        self.dropped.total.add(spans);
        let labels = [("exporter", &*self.dropped.exporter), ("reason", reason)];
        let help = "Number of spans that were not sent, by reason.";
        self.dropped.registry.counter("otelcol_exporter_dropped_spans", help, &labels).add(spans);
    }

    /// Returns the count of a message that is to be logged: each is logged at its 1st, 10th, 100th, … time.
    pub(super) fn is_news(&self, message: &str) -> Option<u64> {
        let mut reported = self.dropped.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() > 1000 {
            reported.clear();
        }
        let times = reported.entry(message.into()).or_default();
        *times += 1;
        let times = *times;
        (times == 10u64.pow(times.ilog10())).then_some(times)
    }
}
