//! Workers of a queue: prepare requests, send them until their outcome is known, and report it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::counters::{Counters, Doubt};
use super::gather::{Cut, Gathered};
use super::outage::{Outage, Wait};
use super::storage::{self, Loaded, Restored, Storage};
use super::{Content, Held, Permits};
use crate::exporter::retry::{self, Backoff};
use crate::exporter::{ASKED_FOR, ExportError, Exporter, Outgoing};
use crate::extension::health_check::Health;
use crate::extension::trace_ledger::Handle;
use crate::hold::{Failure, Hold};
use crate::trace_batch::{Part, TraceBatch};

/// The two halves of a request that was too large.
type Halves<R> = (R, R);

pub(super) struct Worker<E> {
    pub(super) exporter: E,
    pub(super) retry: retry::Config,
    pub(super) outage: Arc<Outage>,
    pub(super) counters: Counters,
    pub(super) id: String,
    pub(super) ledger: Handle,
    pub(super) health: Health,
    pub(super) storage: Option<Arc<Storage>>,
}

/// A batch on its way: its requests, and how many spans of whom are in it.
struct InFlight<R> {
    requests: Vec<R>,
    holds: Vec<(Arc<Hold>, usize)>,
}

impl<R: Outgoing> InFlight<R> {
    fn byte_count(&self) -> usize {
        self.requests.iter().map(Outgoing::byte_count).sum()
    }
}

impl<E: Exporter> Worker<E> {
    /// Sends a batch of the queue until its fate is known, and gives its room back then.
    pub(super) async fn work(&self, held: Held) {
        let Held { content, permits, .. } = held;
        let Permits { _room, memory } = permits;
        let Some(storage) = &self.storage else {
            if let Content::Memory(batch) = content {
                self.deliver(self.prepare(batch)).await;
            }
            return;
        };
        // With a storage, memory is bounded by more than the queue: in bytes, whatever is on its way.
        let turn = storage.turns.acquire().await;
        let in_flight = match content {
            Content::Memory(batch) => self.prepare(batch),
            Content::Disk(parts) => self.prepare(self.load(storage, parts).await),
        };
        // From here on there is only what is sent, which is small beside the spans.
        drop(memory);
        let _sent = storage.send(in_flight.byte_count()).await;
        drop(turn);
        self.deliver(in_flight).await;
    }

    /// As [`Self::work`], for batches that were joined; what is on disk is cut when it has been read.
    pub(super) async fn work_together(&self, gathered: Gathered, cut: Cut) {
        let Gathered { memory: mut batch, disk, permits, .. } = gathered;
        let Some(storage) = &self.storage else {
            self.deliver(self.prepare(batch)).await;
            drop(permits);
            return;
        };
        let turn = storage.turns.acquire().await;
        if !disk.is_empty() {
            batch.append(self.load(storage, disk).await);
        }
        let mut in_flight = Vec::new();
        while let Some(front) = cut.front(&mut batch) {
            in_flight.push(self.prepare(front));
        }
        in_flight.push(self.prepare(batch));
        let _sent = storage.send(in_flight.iter().map(InFlight::byte_count).sum()).await;
        drop(turn);
        for in_flight in in_flight {
            self.deliver(in_flight).await;
        }
        drop(permits);
    }

    /// Does what is left to be done for requests that were found at the start.
    pub(super) async fn restore(&self, restored: Restored) {
        let Some(storage) = &self.storage else { return };
        let turn = storage.turns.acquire().await;
        let batch = self.load(storage, restored.parts).await;
        if restored.is_sent {
            return self.exporter.recount(&batch);
        }
        let in_flight = self.prepare(batch);
        let _sent = storage.send(in_flight.byte_count()).await;
        drop(turn);
        self.deliver(in_flight).await;
    }

    /// Reads spans from disk; those that cannot be read are dropped.
    async fn load(&self, storage: &Storage, parts: Vec<Part>) -> TraceBatch {
        let journal = Arc::clone(&storage.journal);
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

    /// Makes requests of a batch, which is not needed any more then.
    fn prepare(&self, batch: TraceBatch) -> InFlight<E::Request> {
        self.counters.batch_spans.record(batch.span_count());
        self.counters.batch_bytes.record(batch.byte_count());
        let prepared = self.exporter.requests(&batch);
        if let (Some(ledger), Some((reason, _))) = (&self.ledger, prepared.dropped.first()) {
            ledger.dropped(&self.id, reason, missing(&batch, &prepared.requests));
        }
        for (reason, spans) in prepared.dropped {
            self.counters.drop(reason, spans);
            if !ASKED_FOR.contains(&reason)
                && let Some(times) = self.counters.is_news(reason)
            {
                tracing::warn!(
                    exporter = self.id,
                    reason,
                    spans,
                    times,
                    "spans were dropped: the destination rejects traces that contain such a span"
                );
            }
        }
        let mut holds: Vec<(Arc<Hold>, usize)> = Vec::new();
        for (hold, spans) in batch.holds() {
            match holds.last_mut() {
                Some((last, count)) if Arc::ptr_eq(last, hold) => *count += spans,
                _ => holds.push((Arc::clone(hold), spans)),
            }
        }
        InFlight { requests: prepared.requests, holds }
    }

    /// Sends requests until their fate is known, and settles the spans.
    async fn deliver(&self, in_flight: InFlight<E::Request>) {
        let InFlight { mut requests, holds } = in_flight;
        requests.reverse();
        let mut failure: Option<Failure> = None;
        while let Some(request) = requests.pop() {
            match self.send(request).await {
                Ok(None) => {}
                Ok(Some((front, back))) => requests.extend([back, front]),
                Err(why) => {
                    if failure.as_ref().is_none_or(|known| known.may_come_again) {
                        failure = Some(why);
                    }
                }
            }
        }
        for (hold, spans) in holds {
            hold.settle(spans, failure.as_ref());
        }
    }

    /// Sends a request until its fate is known; gives its halves if it was too large, and why if it was dropped.
    async fn send(&self, request: E::Request) -> Result<Option<Halves<E::Request>>, Failure> {
        let spans = request.span_count();
        let begun = Instant::now();
        let (mut backoff, mut may_be_cut) = (Backoff::new(&self.retry), true);
        loop {
            let outcome = self.exporter.send(&request).await;
            self.counters.watch.moved();
            let error = match outcome {
                Ok(sent) => {
                    self.outage.succeeded();
                    self.health.clear(&self.id);
                    let rejected = sent.rejected.min(spans);
                    self.counters.sent.add(spans - rejected);
                    if let Some(ledger) = &self.ledger {
                        // It is unknown which spans were rejected; the first ones stand for them.
                        let ids = request.trace_ids();
                        let (dropped, sent) = ids.split_at(rejected.min(ids.len()));
                        ledger.dropped(&self.id, "rejected", dropped.iter().copied());
                        ledger.exported(&self.id, sent.iter().copied());
                        request.show_spans(&mut |id, span| ledger.sent(&self.id, id, span));
                    }
                    if rejected > 0 {
                        self.give_up("rejected", &sent.message, rejected);
                        return Err(Failure::for_good(sent.message));
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
                            if let Some(ledger) = &self.ledger {
                                ledger.retried(&self.id, &reason, request.trace_ids());
                            }
                            if let Some(times) = self.counters.is_news(&reason) {
                                tracing::warn!(
                                    exporter = self.id,
                                    reason,
                                    times,
                                    ?wait,
                                    "sending failed and will be tried again"
                                );
                            }
                            let wait = Wait { time: wait, after, may_be_cut };
                            may_be_cut = self.outage.wait(wait).await;
                            if is_doubtful {
                                self.counters.doubt(Doubt::NoReply, spans);
                            }
                        }
                        None => {
                            self.enter("retries_exhausted", &request);
                            self.give_up("retries_exhausted", &reason, spans);
                            return Err(Failure::for_now(reason));
                        }
                    }
                }
                ExportError::TooLarge { reason } => {
                    if spans < 2 {
                        self.enter("too_large", &request);
                    }
                    let Some(halves) = request.halve() else {
                        self.give_up("too_large", &reason, spans);
                        return Err(Failure::for_good(reason));
                    };
                    return Ok(Some(halves));
                }
                ExportError::Permanent { reason } => {
                    self.health.set(&self.id, &format!("exporter `{}`: {reason}", self.id));
                    self.enter("refused", &request);
                    self.give_up("refused", &reason, spans);
                    return Err(Failure::for_good(reason));
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
