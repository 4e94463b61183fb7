//! What a queue's workers do: prepare requests, send them until their fate is known, and say what became of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::counters::{Counters, Doubt};
use super::storage::{self, Loaded, Restored};
use super::{Content, Held};
use crate::exporter::retry::{self, Backoff};
use crate::exporter::{ExportError, Exporter, Outgoing};
use crate::extension::health_check::Health;
use crate::extension::trace_ledger::Handle;
use crate::journal::Journal;
use crate::trace_batch::{Part, TraceBatch};

/// The two halves of a request that was too large.
type Halves<R> = (R, R);

pub(super) struct Worker<E> {
    pub(super) exporter: E,
    pub(super) retry: retry::Config,
    pub(super) counters: Counters,
    pub(super) id: String,
    pub(super) ledger: Handle,
    pub(super) health: Health,
    pub(super) journal: Option<Arc<Journal>>,
}

impl<E: Exporter> Worker<E> {
    /// Sends a batch of the queue until its fate is known, and gives its room back then.
    pub(super) async fn work(&self, held: Held) {
        let Held { content, _room, _memory } = held;
        let batch = match content {
            Content::Memory(batch) => batch,
            Content::Disk(parts) => self.load(parts).await,
        };
        self.deliver(&batch).await;
    }

    /// Does what is left to be done for requests that were found at the start.
    pub(super) async fn restore(&self, restored: Restored) {
        let batch = self.load(restored.parts).await;
        match restored.is_sent {
            true => self.exporter.recount(&batch),
            false => self.deliver(&batch).await,
        }
    }

    /// Reads spans from disk; those that cannot be read are dropped.
    async fn load(&self, parts: Vec<Part>) -> TraceBatch {
        let Some(journal) = self.journal.clone() else { return TraceBatch::default() };
        let read = move || storage::load(&journal, &parts);
        let Loaded { batch, lost } = match tokio::task::spawn_blocking(read).await {
            Ok(loaded) => loaded,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is ending; what is on disk stays there.
            Err(_) => std::future::pending().await,
        };
        for (hold, spans, reason) in lost {
            let unsent = hold.lose(spans, &reason);
            if unsent > 0 {
                self.give_up("damaged", &reason, unsent);
            }
        }
        batch
    }

    async fn deliver(&self, batch: &TraceBatch) {
        let prepared = self.exporter.requests(batch);
        if let (Some(ledger), Some((reason, _))) = (&self.ledger, prepared.dropped.first()) {
            ledger.dropped(&self.id, reason, missing(batch, &prepared.requests));
        }
        for (reason, spans) in prepared.dropped {
            self.counters.drop(reason, spans);
        }
        let mut requests = prepared.requests;
        requests.reverse();
        let mut failure: Option<String> = None;
        while let Some(request) = requests.pop() {
            match self.send(request).await {
                Ok(None) => {}
                Ok(Some((front, back))) => requests.extend([back, front]),
                Err(reason) => {
                    failure.get_or_insert(reason);
                }
            }
        }
        for (hold, spans) in batch.holds() {
            hold.settle(spans, failure.as_deref());
        }
    }

    /// Sends a request until its fate is known; gives its halves if it was too large, and why if it was dropped.
    async fn send(&self, request: E::Request) -> Result<Option<Halves<E::Request>>, String> {
        let spans = request.span_count();
        let begun = Instant::now();
        let mut backoff = Backoff::new(&self.retry);
        loop {
            let outcome = self.exporter.send(&request).await;
            self.counters.watch.moved();
            let error = match outcome {
                Ok(sent) => {
                    self.health.clear(&self.id);
                    let rejected = sent.rejected.min(spans);
                    self.counters.sent.add(spans - rejected);
                    if let Some(ledger) = &self.ledger {
                        // Which spans were rejected is not told; the first ones stand for them.
                        let ids = request.trace_ids();
                        let (dropped, sent) = ids.split_at(rejected.min(ids.len()));
                        ledger.dropped(&self.id, "rejected", dropped.iter().copied());
                        ledger.exported(&self.id, sent.iter().copied());
                    }
                    if rejected > 0 {
                        self.give_up("rejected", &sent.message, rejected);
                        return Err(sent.message);
                    }
                    if !sent.message.is_empty()
                        && let Some(times) = self.counters.is_news(&sent.message)
                    {
                        tracing::warn!(
                            exporter = self.id,
                            message = sent.message,
                            times,
                            "the receiver warns"
                        );
                    }
                    return Ok(None);
                }
                Err(error) => error,
            };
            self.counters.failed.add(spans);
            match error {
                ExportError::Retryable { reason, after, is_doubtful } => {
                    match backoff.next(begun.elapsed(), after, rand::random()) {
                        Some(wait) => {
                            if let Some(times) = self.counters.is_news(&reason) {
                                tracing::warn!(
                                    exporter = self.id,
                                    reason,
                                    times,
                                    ?wait,
                                    "sending failed and will be tried again"
                                );
                            }
                            tokio::time::sleep(wait).await;
                            if is_doubtful {
                                self.counters.doubt(Doubt::NoReply, spans);
                            }
                        }
                        None => {
                            self.enter("retries_exhausted", &request);
                            self.give_up("retries_exhausted", &reason, spans);
                            return Err(reason);
                        }
                    }
                }
                ExportError::TooLarge { reason } => {
                    if spans < 2 {
                        self.enter("too_large", &request);
                    }
                    let Some(halves) = request.halve() else {
                        self.give_up("too_large", &reason, spans);
                        return Err(reason);
                    };
                    return Ok(Some(halves));
                }
                ExportError::Permanent { reason } => {
                    self.health.set(&self.id, &format!("exporter `{}`: {reason}", self.id));
                    self.enter("refused", &request);
                    self.give_up("refused", &reason, spans);
                    return Err(reason);
                }
            }
        }
    }

    /// Enters the spans of a request that is given up into the ledger.
    fn enter(&self, reason: &str, request: &E::Request) {
        if let Some(ledger) = &self.ledger {
            ledger.dropped(&self.id, reason, request.trace_ids());
        }
    }

    fn give_up(&self, name: &str, reason: &str, spans: usize) {
        self.counters.drop(name, spans);
        if let Some(times) = self.counters.is_news(reason) {
            tracing::error!(exporter = self.id, reason, spans, times, "spans were dropped");
        }
    }
}

/// The trace ids of the spans that are in the batch and in none of its requests.
fn missing<R: Outgoing>(batch: &TraceBatch, requests: &[R]) -> Vec<u128> {
    let mut left: HashMap<u128, usize> = HashMap::new();
    for id in requests.iter().flat_map(Outgoing::trace_ids) {
        *left.entry(id).or_default() += 1;
    }
    let is_missing = |id: &u128| match left.get_mut(id) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    batch.trace_ids().filter(is_missing).collect()
}
