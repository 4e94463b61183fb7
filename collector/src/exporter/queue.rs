//! The bounded queue in front of an exporter, and the workers that empty it.
//!
//! What is in the queue, or on its way out of it, counts against its size until its fate is known. A batch that was
//! accepted is sent, dropped for a reason that is counted, or reported as left over when the collector stops. With a storage,
//! requests are on disk before their senders are answered, and what is left over is found there at the next start.

mod config;
mod counters;
mod gather;
mod outage;
mod storage;
mod worker;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
#[cfg(test)]
use config::Batch;
pub(crate) use config::{Config, Sizer, UNSUPPORTED};
pub(crate) use counters::Counters;
use counters::Doubt;
use gather::{Gathered, Gatherer};
use outage::Outage;
use storage::{Restored, Storage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use worker::Worker;

pub(crate) use super::queue_watch::State;
use super::{Exporter, retry};
use crate::consumer::{Commit, Consumer, Needs, Refused};
use crate::extension::health_check::Health;
use crate::extension::trace_ledger::Handle;
use crate::held_senders::HeldSenders;
use crate::hold::Note;
use crate::journal::{AppendError, Appended, Journal, Recovery};
use crate::sender::Sender;
use crate::telemetry::{Gauge, Registry};
use crate::trace_batch::{Part, TraceBatch};

/// The way into the queue. When the last one is gone, the queue is emptied and its workers end.
pub(crate) struct Input {
    id: Arc<str>,
    held: mpsc::UnboundedSender<Held>,
    room: Arc<Semaphore>,
    capacity: usize,
    sizer: Sizer,
    blocks: bool,
    senders: HeldSenders,
    outage: Arc<Outage>,
    waits: bool,
    has_stats: bool,
    storage: Option<Arc<Storage>>,
    counters: Counters,
}

/// A batch in the queue, with the room it takes.
struct Held {
    content: Content,
    permits: Permits,
    spans: usize,
    bytes: usize,
}

/// The room that a batch takes in the queue, and in memory where that is bounded too.
struct Permits {
    _room: OwnedSemaphorePermit,
    memory: Option<OwnedSemaphorePermit>,
}

/// Location of a batch's spans.
enum Content {
    Memory(TraceBatch),
    Disk(Vec<Part>),
}

/// Settings of a queue besides its exporter.
pub(crate) struct Setup<'a> {
    pub(crate) id: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) retry: &'a retry::Config,
    pub(crate) registry: &'a Registry,
    pub(crate) ledger: &'a Handle,
    pub(crate) health: &'a Health,
    /// The journal for its requests, and what it held.
    pub(crate) storage: Option<(Arc<Journal>, Recovery)>,
    /// Notes that the collector ends, so that there is no time for long waits.
    pub(crate) ending: CancellationToken,
}

/// Starts a queue and its workers in front of an exporter.
pub(crate) fn start<E: Exporter>(
    exporter: E,
    setup: Setup<'_>,
) -> (Input, Counters, JoinHandle<()>) {
    let Setup { id, config, retry, registry, ledger, health, storage, ending } = setup;
    let (capacity, consumers) = match config.enabled {
        true => (config.queue_size, config.num_consumers),
        // Senders wait for the result, so that as many are in progress as there are.
        false => (config.queue_size, config.queue_size),
    };
    let sizer = if config.enabled { config.sizer } else { Sizer::Requests };
    let (held, waiting) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(capacity));
    let counters = Counters::new(registry, id, capacity, retry);
    let name: Arc<str> = id.into();
    let has_stats = exporter.has_stats();
    let mut restored = VecDeque::new();
    let storage = storage.map(|(journal, recovery)| {
        log_recovery(id, registry, &recovery);
        restored = storage::restore(&name, has_stats, &journal, &recovery.found).into();
        Arc::new(Storage::new(journal, id, health))
    });
    let spans: u64 = restored.iter().filter(|group| !group.is_sent).map(|group| group.spans).sum();
    let spans = usize::try_from(spans).unwrap_or(usize::MAX);
    counters.accepted.add(spans);
    counters.doubt(Doubt::Restart, spans);
    let outage = Arc::new(Outage::new(retry.initial_interval, ending));
    let worker = Arc::new(Worker {
        exporter,
        retry: retry.clone(),
        outage: Arc::clone(&outage),
        counters: counters.clone(),
        id: id.into(),
        ledger: ledger.clone(),
        health: health.clone(),
        storage: storage.clone(),
    });
    show(registry, id, &room, capacity, storage.as_ref());
    let in_flight = registry.gauge(
        "otelcol_exporter_in_flight_requests",
        "Number of batches of the sending queue that are being sent.",
        &[("exporter", id), ("data_type", "traces")],
    );
    let gatherer = if config.enabled { Gatherer::new(config) } else { None };
    let queue = Queue { worker, waiting, restored, consumers, in_flight, gatherer };
    let task = tokio::spawn(queue.run());
    let held_requests = registry.counter(
        "otelcol_exporter_held_requests",
        "Number of requests whose senders were held until there was room, or refused after that.",
        &[("exporter", id)],
    );
    let input = Input {
        id: name,
        held,
        room,
        capacity,
        sizer,
        blocks: config.block_on_overflow,
        senders: HeldSenders::new(!config.block_on_overflow, held_requests),
        outage,
        waits: config.wait_for_result || !config.enabled,
        has_stats,
        storage,
        counters: counters.clone(),
    };
    (input, counters, task)
}

/// Reports what was found on disk at the start.
fn log_recovery(exporter: &str, registry: &Registry, recovery: &Recovery) {
    let labels = [("exporter", exporter)];
    let count = |name, help, value| registry.counter(name, help, &labels).add(value);
    let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
    count(
        "otelcol_exporter_storage_damaged_bytes",
        "Number of bytes found in storage that are not a complete entry.",
        number(recovery.damaged_bytes),
    );
    count(
        "otelcol_exporter_storage_lost_requests",
        "Number of requests that were in storage and are gone.",
        number(recovery.lost_records),
    );
    if recovery.damaged_places > 0 {
        tracing::error!(
            exporter,
            places = recovery.damaged_places,
            bytes = recovery.damaged_bytes,
            lost_requests = recovery.lost_records,
            "storage is damaged: what is not whole was left out (a torn end is normal after a crash)"
        );
    }
    if !recovery.found.is_empty() {
        let unsent = recovery.found.iter().filter(|found| !found.is_sent);
        let spans: u64 = unsent.map(|found| u64::from(found.spans)).sum();
        tracing::info!(
            exporter,
            requests = recovery.found.len(),
            spans,
            "storage has spans from an earlier run; they are being sent"
        );
    }
}

impl Input {
    /// Notes a request, where anybody must know what becomes of it.
    async fn note_one(
        &self,
        request: &TraceBatch,
        sender: &Sender,
    ) -> Result<Option<Note>, Refused> {
        if !self.needs().notes {
            return Ok(None);
        }
        let journal = match &self.storage {
            Some(storage) => {
                let appended = self.append(storage, request, sender).await?;
                Some((Arc::clone(&storage.journal), appended))
            }
            None => None,
        };
        let spans = request.span_count();
        Ok(Some(Note::new(Arc::clone(&self.id), spans, self.has_stats, journal, self.waits)))
    }

    /// Makes room for a batch, holding its sender while there is none.
    async fn room(
        &self,
        batch: &TraceBatch,
        sender: &Sender,
    ) -> Result<OwnedSemaphorePermit, Refused> {
        let size = self.sizer.room(batch, self.capacity);
        if self.senders.is_empty()
            && let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(size)
        {
            return Ok(room);
        }
        let room = Arc::clone(&self.room).acquire_many_owned(size);
        self.hold(batch, sender, room).await?.map_err(|_| Refused::Closed)
    }

    /// Writes a request down, holding its sender while the disk has no room.
    async fn append(
        &self,
        storage: &Storage,
        request: &TraceBatch,
        sender: &Sender,
    ) -> Result<Appended, Refused> {
        let at_once = match self.senders.is_empty() {
            true => storage.append(request).await,
            false => Err(AppendError::Full),
        };
        let appended = match at_once {
            Err(AppendError::Full) => {
                let room = storage.append_when_there_is_room(request);
                let held = self.hold(request, sender, room).await;
                held.inspect_err(|_| storage.report(&AppendError::Full, &self.counters))?
            }
            outcome => outcome,
        };
        appended.map_err(|error| {
            self.counters.refused.add(request.span_count());
            storage.report(&error, &self.counters);
            Refused::Storage
        })
    }

    /// Holds the sender of a request until something that it needs is there.
    async fn hold<T>(
        &self,
        request: &TraceBatch,
        sender: &Sender,
        room: impl Future<Output = T>,
    ) -> Result<T, Refused> {
        self.outage.press();
        let held = self.senders.hold(sender, request.byte_count(), room).await;
        if held.is_err() {
            self.counters.refused.add(request.span_count());
            // The exporter hurries for as long as senders are refused.
            self.outage.press();
        }
        held
    }
}

#[async_trait]
impl Consumer for Input {
    async fn reserve(&self, mut batch: TraceBatch, sender: &Sender) -> Result<Commit, Refused> {
        if self.held.is_closed() {
            return Err(Refused::Closed);
        }
        let room = self.room(&batch, sender).await?;
        let note = self.note_one(&batch, sender).await?;
        let (held, accepted) = (self.held.clone(), self.counters.accepted.clone());
        let storage = self.storage.clone();
        Ok(Box::new(move || {
            let mut answers = Vec::new();
            if let Some(note) = note {
                let (hold, answer) = note.keep();
                batch.attach(&hold);
                answers.extend(answer);
            }
            accepted.add(batch.span_count());
            // A queue that ended meanwhile shows in what is left over.
            let _ = held.send(Held::new(batch, room, storage.as_deref()));
            answers
        }))
    }

    fn needs(&self) -> Needs {
        Needs { notes: self.storage.is_some() || self.waits, blocks: self.blocks }
    }

    async fn note(&self, request: &TraceBatch, sender: &Sender) -> Result<Vec<Note>, Refused> {
        if self.held.is_closed() {
            return Err(Refused::Closed);
        }
        Ok(self.note_one(request, sender).await?.into_iter().collect())
    }

    async fn deliver(&self, mut batch: TraceBatch) -> Result<(), Refused> {
        batch.keep_origins(&self.id);
        let size = self.sizer.room(&batch, self.capacity);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await;
        let room = room.map_err(|_| Refused::Closed)?;
        let spans = batch.span_count();
        let held = Held::new(batch, room, self.storage.as_deref());
        self.held.send(held).map_err(|_| Refused::Closed)?;
        self.counters.accepted.add(spans);
        Ok(())
    }

    fn press(&self) {
        self.outage.press();
    }

    fn count_refused(&self, spans: usize) {
        if self.room.available_permits() == 0 {
            self.counters.refused.add(spans);
        }
    }
}

impl Held {
    /// Holds a batch in memory if there is room for it or it is nowhere else, else by what is on disk.
    fn new(batch: TraceBatch, room: OwnedSemaphorePermit, storage: Option<&Storage>) -> Self {
        let (spans, bytes) = (batch.span_count(), batch.byte_count());
        let Some(storage) = storage else {
            let permits = Permits { _room: room, memory: None };
            return Self { content: Content::Memory(batch), permits, spans, bytes };
        };
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        let memory = Arc::clone(&storage.memory).try_acquire_many_owned(size).ok();
        let content = match (&memory, batch.parts()) {
            (None, Some(parts)) => Content::Disk(parts),
            _ => Content::Memory(batch),
        };
        Self { content, permits: Permits { _room: room, memory }, spans, bytes }
    }
}

/// Shows how much a queue holds, in memory and on disk, whenever it is asked for: in an outage nothing else moves.
fn show(
    registry: &Registry,
    id: &str,
    room: &Arc<Semaphore>,
    capacity: usize,
    storage: Option<&Arc<Storage>>,
) {
    let labels = [("exporter", id), ("data_type", "traces")];
    let room = Arc::clone(room);
    registry.gauge_of(
        "otelcol_exporter_queue_size",
        "Current size of the sending queue, in units of its sizer.",
        &labels,
        move || capacity.saturating_sub(room.available_permits()) as u64,
    );
    let Some(storage) = storage else { return };
    // A journal ends when nobody uses it any more, which looking at it must not delay.
    let journal = Arc::downgrade(&storage.journal);
    let of_journal = move |read: fn(&Journal) -> u64| {
        let journal = Weak::clone(&journal);
        move || journal.upgrade().map_or(0, |journal| read(&journal))
    };
    registry.gauge_of(
        "otelcol_exporter_storage_bytes",
        "Current size of the sending queue's files, in bytes.",
        &labels,
        of_journal(Journal::bytes),
    );
    registry.gauge_of(
        "otelcol_exporter_storage_uncountable_spans",
        "Number of sent spans that left storage before their APM stats were sent, because it was full.",
        &labels,
        of_journal(Journal::given_up_spans),
    );
}

/// The queue behind its inputs.
struct Queue<E> {
    worker: Arc<Worker<E>>,
    waiting: mpsc::UnboundedReceiver<Held>,
    /// Requests of before the start, which are older than any other.
    restored: VecDeque<Restored>,
    consumers: usize,
    in_flight: Gauge,
    gatherer: Option<Gatherer>,
}

impl<E: Exporter> Queue<E> {
    /// Gives batches to workers until the queue is closed and empty, and waits for the last of them.
    async fn run(mut self) {
        if let Some(gatherer) = self.gatherer.take() {
            return self.run_gathering(gatherer).await;
        }
        let mut busy = JoinSet::new();
        loop {
            self.in_flight.set(busy.len() as u64);
            if busy.len() < self.consumers
                && let Some(restored) = self.restored.pop_front()
            {
                let worker = Arc::clone(&self.worker);
                busy.spawn(async move { worker.restore(restored).await });
                continue;
            }
            tokio::select! {
                held = self.waiting.recv(), if busy.len() < self.consumers => match held {
                    Some(held) => {
                        let worker = Arc::clone(&self.worker);
                        busy.spawn(async move { worker.work(held).await });
                    }
                    None => break,
                },
                Some(ended) = busy.join_next(), if !busy.is_empty() => {
                    self.worker.counters.watch.ended(&ended);
                }
            }
        }
        while let Some(ended) = busy.join_next().await {
            self.worker.counters.watch.ended(&ended);
        }
    }

    /// As [`Self::run`], joining batches on their way to the workers.
    async fn run_gathering(mut self, mut gatherer: Gatherer) {
        let (mut busy, mut ready) = (JoinSet::new(), VecDeque::<Gathered>::new());
        let (mut is_open, cut) = (true, gatherer.cut());
        loop {
            self.in_flight.set(busy.len() as u64);
            if busy.len() < self.consumers {
                let worker = Arc::clone(&self.worker);
                if let Some(restored) = self.restored.pop_front() {
                    busy.spawn(async move { worker.restore(restored).await });
                    continue;
                }
                if let Some(gathered) = ready.pop_front() {
                    busy.spawn(async move { worker.work_together(gathered, cut).await });
                    continue;
                }
            }
            if !is_open && ready.is_empty() && busy.is_empty() {
                break;
            }
            let deadline = gatherer.deadline();
            let flush = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What is ready goes first, so that no more is taken out of the queue than is sent.
                held = self.waiting.recv(), if is_open && ready.is_empty() => match held {
                    Some(held) => ready.extend(gatherer.add(held)),
                    None => {
                        is_open = false;
                        ready.extend(gatherer.flush());
                    }
                },
                () = flush, if deadline.is_some() => ready.extend(gatherer.flush()),
                Some(ended) = busy.join_next(), if !busy.is_empty() => {
                    self.worker.counters.watch.ended(&ended);
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
