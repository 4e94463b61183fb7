//! The bounded queue in front of an exporter, and the workers that empty it.
//!
//! What is in the queue, or on its way out of it, counts against its size until its fate is known. A batch that was
//! accepted is sent, dropped for a reason that is counted, or reported as left over when the collector stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use super::queue_watch::State;
use super::queue_watch::Watch;
use super::retry::{self, Backoff};
use super::{ExportError, Exporter, Outgoing};
use crate::config::Findings;
use crate::consumer::{Commit, Consumer, Refused};
use crate::extension::health_check::Health;
use crate::extension::trace_ledger::Handle;
use crate::telemetry::{Counter, Gauge, Registry};
use crate::trace_batch::TraceBatch;

/// The queue, in the Collector's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether batches wait for each other; without it one batch is under way at a time. Default `true`.
    pub(crate) enabled: bool,
    /// How many batches are sent at the same time. Default 10.
    pub(crate) num_consumers: usize,
    /// How much may be held, in units of `sizer`; more is refused. A batch larger than that is taken when nothing else is
    /// held. Default 1000.
    pub(crate) queue_size: usize,
    /// What `queue_size` counts: `requests` are batches, `items` spans, `bytes` those of their OTLP messages. Default
    /// `requests`.
    pub(crate) sizer: Sizer,
}

/// What the size of a queue is measured in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sizer {
    #[default]
    Requests,
    Items,
    Bytes,
}

impl Sizer {
    /// The room that a batch takes in a queue of this capacity.
    fn room(self, batch: &TraceBatch, capacity: usize) -> u32 {
        let size = match self {
            Self::Requests => 1,
            Self::Items => batch.span_count(),
            Self::Bytes => batch.byte_count(),
        };
        // The capacity is below 2^32: checked with the config.
        u32::try_from(size.min(capacity)).unwrap_or(u32::MAX)
    }

    /// The largest queue.
    fn max(self) -> usize {
        match self {
            Self::Requests => 1_000_000,
            Self::Items => 1_000_000_000,
            Self::Bytes => 4_294_967_295,
        }
    }
}

pub(crate) const REFUSED: [(&str, &str); 5] = [
    ("sending_queue.storage", "the queue is in memory; remove the key"),
    (
        "sending_queue.wait_for_result",
        "senders are answered when their spans are held; remove the key",
    ),
    (
        "sending_queue.block_on_overflow",
        "a full queue refuses at once, and senders try again; remove the key",
    ),
    ("sending_queue.batch", "use the `batch` processor"),
    (
        "sending_queue.blocking",
        "a full queue refuses at once, and senders try again; remove the key",
    ),
];

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, num_consumers: 10, queue_size: 1000, sizer: Sizer::Requests }
    }
}

impl Config {
    pub(crate) fn check(&self, findings: &mut Findings<'_>) {
        let limits = [
            ("num_consumers", self.num_consumers, 1_000_000),
            ("queue_size", self.queue_size, self.sizer.max()),
        ];
        for (key, value, max) in limits {
            if !(1..=max).contains(&value) {
                findings.add(&["sending_queue", key], &format!("must be from 1 to {max}"));
            }
        }
    }
}

/// The way into the queue. When the last one is gone, the queue is emptied and its workers end.
pub(crate) struct Input {
    held: mpsc::UnboundedSender<Held>,
    room: Arc<Semaphore>,
    capacity: usize,
    sizer: Sizer,
    counters: Counters,
}

/// A batch in the queue, with the room it takes.
struct Held {
    batch: TraceBatch,
    _room: OwnedSemaphorePermit,
}

/// What became of the spans that an exporter was given.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    accepted: Counter,
    sent: Counter,
    failed: Counter,
    refused: Counter,
    size: Gauge,
    dropped: Dropped,
    watch: Watch,
}

#[derive(Debug, Clone)]
struct Dropped {
    registry: Registry,
    exporter: Arc<str>,
    total: Counter,
    told: Arc<Mutex<HashMap<String, u64>>>,
}

impl Counters {
    fn new(registry: &Registry, id: &str, capacity: usize, retry: &retry::Config) -> Self {
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
            size: registry.gauge(
                "otelcol_exporter_queue_size",
                "Current size of the sending queue, in units of its sizer.",
                &labels,
            ),
            dropped: Dropped {
                registry: registry.clone(),
                exporter: id.into(),
                total: Counter::default(),
                told: Arc::default(),
            },
            watch: Watch::new(retry),
        }
    }

    /// What the queue can say about its own working.
    pub(crate) fn state(&self) -> State {
        self.watch.state(self.left())
    }

    /// Spans that were accepted and are neither sent nor dropped.
    pub(crate) fn left(&self) -> u64 {
        let done = self.sent.value() + self.dropped.total.value();
        self.accepted.value().saturating_sub(done)
    }

    fn drop(&self, reason: &str, spans: usize) {
        self.dropped.total.add(spans);
        let labels = [("exporter", &*self.dropped.exporter), ("reason", reason)];
        let help = "Number of spans that were not sent, by reason.";
        self.dropped.registry.counter("otelcol_exporter_dropped_spans", help, &labels).add(spans);
    }

    /// Whether a message is new: each is logged at its 1st, 10th, 100th, … time.
    fn is_news(&self, message: &str) -> Option<u64> {
        let mut told = self.dropped.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() > 1000 {
            told.clear();
        }
        let times = told.entry(message.into()).or_default();
        *times += 1;
        let times = *times;
        (times == 10u64.pow(times.ilog10())).then_some(times)
    }
}

/// What a queue is started with, besides its exporter.
pub(crate) struct Setup<'a> {
    pub(crate) id: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) retry: &'a retry::Config,
    pub(crate) registry: &'a Registry,
    pub(crate) ledger: &'a Handle,
    pub(crate) health: &'a Health,
}

/// Starts a queue and its workers in front of an exporter.
pub(crate) fn start<E: Exporter>(
    exporter: E,
    setup: Setup<'_>,
) -> (Input, Counters, JoinHandle<()>) {
    let Setup { id, config, retry, registry, ledger, health } = setup;
    let (capacity, consumers) = match config.enabled {
        true => (config.queue_size, config.num_consumers),
        false => (1, 1),
    };
    let sizer = if config.enabled { config.sizer } else { Sizer::Requests };
    let (held, waiting) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(capacity));
    let counters = Counters::new(registry, id, capacity, retry);
    let worker = Arc::new(Worker {
        exporter,
        retry: retry.clone(),
        counters: counters.clone(),
        id: id.into(),
        ledger: ledger.clone(),
        health: health.clone(),
    });
    let task = tokio::spawn(run(worker, waiting, consumers, Arc::clone(&room), capacity));
    (Input { held, room, capacity, sizer, counters: counters.clone() }, counters, task)
}

impl Input {
    fn hold(&self, batch: TraceBatch, room: OwnedSemaphorePermit) -> Result<(), Refused> {
        let spans = batch.span_count();
        self.held.send(Held { batch, _room: room }).map_err(|_| Refused::Closed)?;
        self.counters.accepted.add(spans);
        Ok(())
    }
}

#[async_trait]
impl Consumer for Input {
    async fn reserve(&self, batch: TraceBatch) -> Result<Commit, Refused> {
        if self.held.is_closed() {
            return Err(Refused::Closed);
        }
        let room = self.sizer.room(&batch, self.capacity);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(room) else {
            self.counters.refused.add(batch.span_count());
            return Err(Refused::Full);
        };
        let (held, accepted) = (self.held.clone(), self.counters.accepted.clone());
        Ok(Box::new(move || {
            accepted.add(batch.span_count());
            // A queue that ended meanwhile shows in what is left over.
            let _ = held.send(Held { batch, _room: room });
        }))
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        let room = self.sizer.room(&batch, self.capacity);
        let room =
            Arc::clone(&self.room).acquire_many_owned(room).await.map_err(|_| Refused::Closed)?;
        self.hold(batch, room)
    }
}

/// Gives batches to workers until the queue is closed and empty, and waits for the last of them.
async fn run<E: Exporter>(
    worker: Arc<Worker<E>>,
    mut waiting: mpsc::UnboundedReceiver<Held>,
    consumers: usize,
    room: Arc<Semaphore>,
    capacity: usize,
) {
    let mut busy = JoinSet::new();
    loop {
        worker.counters.size.set((capacity - room.available_permits().min(capacity)) as u64);
        tokio::select! {
            held = waiting.recv(), if busy.len() < consumers => match held {
                Some(held) => {
                    let worker = Arc::clone(&worker);
                    busy.spawn(async move {
                        worker.deliver(&held.batch).await;
                        drop(held);
                    });
                }
                None => break,
            },
            Some(ended) = busy.join_next(), if !busy.is_empty() => worker.counters.watch.ended(&ended),
        }
    }
    while let Some(ended) = busy.join_next().await {
        worker.counters.watch.ended(&ended);
    }
}

struct Worker<E> {
    exporter: E,
    retry: retry::Config,
    counters: Counters,
    id: String,
    ledger: Handle,
    health: Health,
}

impl<E: Exporter> Worker<E> {
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
        while let Some(request) = requests.pop() {
            if let Some((front, back)) = self.send(request).await {
                requests.extend([back, front]);
            }
        }
    }

    /// Sends a request until its fate is known; gives its halves if it was too large.
    async fn send(&self, request: E::Request) -> Option<(E::Request, E::Request)> {
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
                    } else if !sent.message.is_empty()
                        && let Some(times) = self.counters.is_news(&sent.message)
                    {
                        tracing::warn!(
                            exporter = self.id,
                            message = sent.message,
                            times,
                            "the receiver warns"
                        );
                    }
                    return None;
                }
                Err(error) => error,
            };
            self.counters.failed.add(spans);
            match &error {
                ExportError::Retryable { reason, after } => {
                    match backoff.next(begun.elapsed(), *after, rand::random()) {
                        Some(wait) => {
                            if let Some(times) = self.counters.is_news(reason) {
                                tracing::warn!(
                                    exporter = self.id,
                                    reason,
                                    times,
                                    ?wait,
                                    "sending failed and will be tried again"
                                );
                            }
                            tokio::time::sleep(wait).await;
                        }
                        None => {
                            self.enter("retries_exhausted", &request);
                            self.give_up("retries_exhausted", reason, spans);
                            return None;
                        }
                    }
                }
                ExportError::TooLarge { reason } => {
                    if spans < 2 {
                        self.enter("too_large", &request);
                    }
                    let halves = request.halve();
                    if halves.is_none() {
                        self.give_up("too_large", reason, spans);
                    }
                    return halves;
                }
                ExportError::Permanent { reason } => {
                    self.health.set(&self.id, &format!("exporter `{}`: {reason}", self.id));
                    self.enter("refused", &request);
                    self.give_up("refused", reason, spans);
                    return None;
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

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
