//! A bounded memory of attempts, and of the spans they brought, by full trace id.
//!
//! The mock intake keeps one, and the harness keeps its own copy of it. Oldest attempts go first, their spans with
//! them, and what went is counted.

mod counts;

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use serde::Serialize;

pub use self::counts::{Counts, Dropped, Kept};
use crate::{
    attempt::{Attempt, Reply},
    decode::{Decoded, OtlpPayload, Route, StatsPayload, TracesPayload},
};
use harness_core::trace::{Span, Trace, TraceId};

/// Bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of bodies, headers and decoded spans together, estimated. The newest attempt is always kept.
    pub max_bytes: usize,
    /// Number of attempts; at least one is kept.
    pub max_attempts: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_attempts: 100_000 }
    }
}

/// Outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The attempt's data, if it had any, was stored.
    Accepted,
    /// The client got no answer that it was accepted, so it counts for nothing.
    NotAccepted,
    /// Bytes that had been accepted before: the data is not stored twice.
    Redelivered,
}

/// A kept attempt, with what is known about it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The attempt as it arrived, with its reply.
    pub attempt: Arc<Attempt>,
    /// Its outcome.
    pub outcome: Outcome,
    /// The reason why it could not be decoded, if so.
    pub undecodable: Option<String>,
    /// The stats it brought, where `outcome` is accepted.
    pub stats: Option<Arc<StatsPayload>>,
    /// Time at which the attempt was put into this store.
    pub received: Instant,
    spans: Vec<Arc<Span>>,
    bytes: usize,
    body_hash: u64,
}

impl Entry {
    /// Returns the spans that the attempt contributed; none unless it was accepted.
    pub fn spans(&self) -> &[Arc<Span>] {
        &self.spans
    }
}

/// The store. See the module.
#[derive(Debug)]
pub struct Store {
    bounds: Bounds,
    entries: VecDeque<Entry>,
    traces: HashMap<TraceId, Vec<Arc<Span>>>,
    /// Kept accepted payloads by the hash of path and body; the bytes decide in the end.
    accepted: HashMap<u64, Vec<Arc<Attempt>>>,
    counts: Counts,
}

impl Store {
    /// Creates an empty store with these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: VecDeque::new(),
            traces: HashMap::new(),
            accepted: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Inserts an attempt, with its decoded data where it was accepted; evicts the oldest attempts beyond the bounds.
    ///
    /// `attempt.seq` must be larger than those before; spans are given it.
    pub fn insert(&mut self, attempt: Attempt, decoded: Decoded, received: Instant) -> Outcome {
        let body_hash = body_hash(&attempt);
        let outcome = self.outcome(&attempt, &decoded, body_hash);
        let undecodable = match &decoded {
            Decoded::Undecodable { reason } if matches!(attempt.reply, Reply::Status(_)) => {
                Some(reason.clone())
            }
            _ => None,
        };
        let attempt = Arc::new(attempt);
        let mut entry = Entry {
            bytes: attempt_bytes(&attempt),
            attempt: Arc::clone(&attempt),
            outcome,
            undecodable,
            stats: None,
            received,
            spans: Vec::new(),
            body_hash,
        };
        if outcome == Outcome::Accepted {
            if can_be_redelivered(&decoded) {
                self.accepted.entry(body_hash).or_default().push(Arc::clone(&attempt));
            }
            match decoded {
                Decoded::Traces(TracesPayload { spans, .. })
                | Decoded::OtlpTraces(OtlpPayload { spans, .. }) => {
                    for mut span in spans {
                        span.attempt = attempt.seq;
                        entry.bytes += span_bytes(&span);
                        let span = Arc::new(span);
                        entry.spans.push(Arc::clone(&span));
                        self.traces.entry(span.trace_id).or_default().push(span);
                    }
                }
                Decoded::Stats(payload) => {
                    // Compression does not matter here: a group is a fixed number of short texts and two sketches.
                    entry.bytes += payload.groups.len() * 1024;
                    entry.stats = Some(Arc::new(payload));
                }
                _ => {}
            }
        }
        self.counts.add(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.entries.len() > self.bounds.max_attempts
                || self.counts.kept.bytes > self.bounds.max_bytes as u64)
        {
            self.drop_oldest();
        }
        self.counts.kept.traces = self.traces.len() as u64;
        outcome
    }

    fn outcome(&self, attempt: &Attempt, decoded: &Decoded, body_hash: u64) -> Outcome {
        if !attempt.reply.accepted() {
            return Outcome::NotAccepted;
        }
        let mut same = self.accepted.get(&body_hash).into_iter().flatten().filter(|before| {
            Route::of(&before.path) == Route::of(&attempt.path) && before.body == attempt.body
        });
        match can_be_redelivered(decoded) && same.next().is_some() {
            true => Outcome::Redelivered,
            false => Outcome::Accepted,
        }
    }

    fn drop_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        let ids: HashSet<TraceId> = entry.spans.iter().map(|span| span.trace_id).collect();
        for id in ids {
            if let Some(spans) = self.traces.get_mut(&id) {
                spans.retain(|span| span.attempt != entry.attempt.seq);
                if spans.is_empty() {
                    self.traces.remove(&id);
                }
            }
        }
        if let Some(same) = self.accepted.get_mut(&entry.body_hash) {
            same.retain(|attempt| !Arc::ptr_eq(attempt, &entry.attempt));
            if same.is_empty() {
                self.accepted.remove(&entry.body_hash);
            }
        }
        self.counts.drop(&entry);
    }

    /// Assembles the trace from the spans accepted for `id`; `None` if there are none.
    pub fn trace(&self, id: TraceId) -> Option<Trace> {
        let spans = self.traces.get(&id)?;
        Some(Trace::new(id, spans.iter().map(|span| Span::clone(span)).collect()))
    }

    /// Returns the kept spans of one trace, in order of arrival.
    pub fn spans(&self, id: TraceId) -> &[Arc<Span>] {
        self.traces.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Iterates over the ids of all kept traces, in no particular order.
    pub fn trace_ids(&self) -> impl Iterator<Item = TraceId> {
        self.traces.keys().copied()
    }

    /// Iterates over all kept traces, in no particular order, each with its spans in order of arrival.
    pub fn traces(&self) -> impl Iterator<Item = (TraceId, &[Arc<Span>])> {
        self.traces.iter().map(|(id, spans)| (*id, spans.as_slice()))
    }

    /// Iterates over the kept attempts, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// Looks up a kept attempt by its number.
    pub fn entry(&self, seq: u64) -> Option<&Entry> {
        // Numbers have no gaps, but for a copy whose stream had one.
        let first = self.entries.front()?.attempt.seq;
        let at = usize::try_from(seq.checked_sub(first)?).ok()?;
        match self.entries.get(at) {
            Some(entry) if entry.attempt.seq == seq => Some(entry),
            _ => self.entries.iter().rev().find(|entry| entry.attempt.seq == seq),
        }
    }

    /// Iterates over the kept attempts with numbers above `seq`, oldest first.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        let from = self.entries.partition_point(|entry| entry.attempt.seq <= seq);
        self.entries.range(from..)
    }

    /// Returns the number of the oldest kept attempt.
    pub fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.attempt.seq)
    }

    /// Returns the number of the newest attempt; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.entries.back().map_or(0, |entry| entry.attempt.seq)
    }

    /// Returns the counts of everything that the store was given.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Two equal questions or metrics are no redelivery.
fn can_be_redelivered(decoded: &Decoded) -> bool {
    matches!(decoded, Decoded::Traces(_) | Decoded::OtlpTraces(_) | Decoded::Stats(_))
}

fn body_hash(attempt: &Attempt) -> u64 {
    let mut hasher = DefaultHasher::new();
    Route::of(&attempt.path).hash(&mut hasher);
    attempt.body.hash(&mut hasher);
    hasher.finish()
}

fn attempt_bytes(attempt: &Attempt) -> usize {
    let headers = attempt.headers.iter().map(|(name, value)| name.len() + value.len() + 64);
    size_of::<Entry>() + size_of::<Attempt>() + attempt.body.len() + headers.sum::<usize>()
}

/// Text, and about what a map's node and an allocation cost beside it.
fn span_bytes(span: &Span) -> usize {
    let meta = span.meta.iter().map(|(key, value)| key.len() + value.len() + 64);
    let metrics = span.metrics.keys().map(|key| key.len() + 48);
    let texts = [
        &span.service,
        &span.name,
        &span.resource,
        &span.span_type,
        &span.hostname,
        &span.env,
        &span.container_id,
        &span.language,
    ];
    size_of::<Span>()
        + 32
        + texts.into_iter().map(String::len).sum::<usize>()
        + meta.sum::<usize>()
        + metrics.sum::<usize>()
}

#[cfg(test)]
mod tests;
