//! The queue on disk: requests in a journal, from before their senders are answered until their fate is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::counters::Counters;
use crate::extension::health_check::Health;
use crate::hold::Hold;
use crate::journal::{AppendError, Appended, Found, Journal};
use crate::trace_batch::{Part, TraceBatch};

/// How many bytes of spans that are on disk wait in memory, too; what comes beyond is read again when its turn comes.
const WAITING_BYTES: usize = if cfg!(test) { 500 } else { 6 << 20 };
/// How many bytes of requests are in flight; one that is larger than that goes alone.
const IN_FLIGHT_BYTES: u32 = if cfg!(test) { 1000 } else { 8 << 20 };
/// How many batches are made ready at a time: so many are in memory whole, besides those that wait there.
const PREPARED_AT_A_TIME: usize = 2;
/// How large batches are made of requests that are found at the start.
const RESTORED_SPANS: u64 = 8192;
const RESTORED_BYTES: u64 = 4 << 20;

/// The storage of one exporter's queue.
pub(super) struct Storage {
    pub(super) journal: Arc<Journal>,
    /// Room for spans in memory.
    pub(super) memory: Arc<Semaphore>,
    /// Taken for making a batch ready, until there is room for its requests.
    pub(super) turns: Semaphore,
    in_flight: Semaphore,
    exporter: String,
    health: Health,
    is_failing: AtomicBool,
}

impl Storage {
    pub(super) fn new(journal: Arc<Journal>, exporter: &str, health: &Health) -> Self {
        Self {
            journal,
            memory: Arc::new(Semaphore::new(WAITING_BYTES)),
            turns: Semaphore::new(PREPARED_AT_A_TIME),
            in_flight: Semaphore::new(IN_FLIGHT_BYTES as usize),
            exporter: exporter.into(),
            health: health.clone(),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Waits until so many bytes of requests may be in flight. They are until the permit is dropped.
    pub(super) async fn send(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(IN_FLIGHT_BYTES);
        // It is never closed.
        self.in_flight.acquire_many(bytes).await.ok()
    }

    /// Writes a request down.
    pub(super) async fn append(&self, request: &TraceBatch) -> Result<Appended, AppendError> {
        let spans = u32::try_from(request.span_count()).unwrap_or(u32::MAX);
        let appended = self.journal.append(spans, |out| request.write_protobuf(out)).await?;
        if self.is_failing.swap(false, Ordering::Relaxed) {
            self.health.clear(&self.part());
        }
        Ok(appended)
    }

    /// Writes a request down as soon as there is room.
    pub(super) async fn append_when_there_is_room(
        &self,
        request: &TraceBatch,
    ) -> Result<Appended, AppendError> {
        loop {
            // Before it is tried, so that no room is missed that comes meanwhile.
            let freed = self.journal.freed();
            match self.append(request).await {
                Err(AppendError::Full) => freed.await,
                outcome => return outcome,
            }
        }
    }

    /// Reports why a request is not written.
    pub(super) fn report(&self, error: &AppendError, counters: &Counters) {
        if let Some(times) = counters.is_news(&error.to_string()) {
            tracing::error!(exporter = self.exporter, %error, times, "traces are refused");
        }
        if let AppendError::Io(_) = error {
            self.is_failing.store(true, Ordering::Relaxed);
            self.health.set(&self.part(), &format!("exporter `{}`: {error}", self.exporter));
        }
    }

    fn part(&self) -> String {
        format!("storage of {}", self.exporter)
    }
}

/// Spans that were read again.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) batch: TraceBatch,
    /// Spans that could not be read, with their holds and why.
    pub(super) lost: Vec<(Arc<Hold>, usize, String)>,
}

/// Reads spans again. Blocks.
pub(super) fn load(journal: &Journal, parts: &[Part]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut last: Option<(u64, Result<TraceBatch, String>)> = None;
    for part in parts {
        let Some(number) = part.hold.record() else { continue };
        // Parts of one request mostly follow each other.
        let (_, request) = match &mut last {
            Some(known) if known.0 == number => known,
            last => {
                let bytes = journal.read(number).map_err(|error| error.to_string());
                let request = bytes.and_then(|bytes| {
                    TraceBatch::from_protobuf(bytes).map_err(|error| error.to_string())
                });
                last.insert((number, request))
            }
        };
        match request {
            Ok(request) => loaded.batch.append_part(part, request),
            Err(reason) => {
                let spans = part.span_count().unwrap_or_else(|| part.hold.span_count());
                loaded.lost.push((Arc::clone(&part.hold), spans, reason.clone()));
            }
        }
    }
    loaded
}

/// Requests that were found at the start, and are sent, or only counted, together.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) parts: Vec<Part>,
    /// Whether they were sent before, so that only their stats are missing.
    pub(super) is_sent: bool,
    pub(super) spans: u64,
}

/// Puts requests that were found at the start together.
pub(super) fn restore(
    exporter: &Arc<str>,
    has_stats: bool,
    journal: &Arc<Journal>,
    found: &[Found],
) -> Vec<Restored> {
    let mut groups: Vec<Restored> = Vec::new();
    let (mut bytes, mut alike) = (0, None);
    for found in found {
        let hold = Hold::found(Arc::clone(exporter), has_stats, journal, found);
        let part = Part::whole(hold);
        let spans = u64::from(found.spans);
        let this = Some((found.is_sent, found.counted_until));
        match groups.last_mut() {
            Some(group)
                if alike == this
                    && group.spans + spans <= RESTORED_SPANS
                    && bytes + found.bytes <= RESTORED_BYTES =>
            {
                group.parts.push(part);
                group.spans += spans;
                bytes += found.bytes;
            }
            _ => {
                groups.push(Restored { parts: vec![part], is_sent: found.is_sent, spans });
                (bytes, alike) = (found.bytes, this);
            }
        }
    }
    groups
}
