//! Keeps a part of the traces, by their ids: each span is judged alone, and all spans of a trace alike.
//!
//! What is dropped was accepted, and is counted by the policy that decided. It stands in front of batching: what is noted of a
//! request on its way is what is left of it.

pub(crate) mod config;
mod threshold;
mod trace_state;

use std::sync::Arc;

use async_trait::async_trait;
pub(crate) use config::Config;
use config::Mode;
use threshold::{ALWAYS, NEVER};
use trace_state::TraceState;

use crate::consumer::{Commit, Consumer, Needs, Refused};
use crate::extension::trace_ledger::Handle;
use crate::hold::Note;
use crate::sender::Sender;
use crate::telemetry::{Counter, Registry};
use crate::trace_batch::wire::{Value, put_bytes, raw_fields};
use crate::trace_batch::{AnyValue, SpanFate, TraceBatch};

/// Buckets that the hash of a trace id falls into, as 14 bits of its randomness.
const BUCKETS: u32 = 1 << 14;
/// The attribute by which an application decides.
const PRIORITY: &[u8] = b"sampling.priority";

/// The stage.
pub(crate) struct Sampler {
    how: How,
    fail_closed: bool,
    counters: Vec<[Counter; 2]>,
    id: Arc<str>,
    ledger: Handle,
    next: Arc<dyn Consumer>,
}

/// How a threshold comes about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Never,
    Hash { seed: u32, threshold: u64 },
    Equalizing { threshold: u64 },
    Proportional { ratio: f64, digits: u32 },
}

/// Basis of a decision, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    MissingRandomness,
    TraceIdHash,
    TraceIdW3c,
    SamplingRandomness,
    SamplingPriority,
}

const POLICIES: [(Policy, &str); 5] = [
    (Policy::MissingRandomness, "missing_randomness"),
    (Policy::TraceIdHash, "trace_id_hash"),
    (Policy::TraceIdW3c, "trace_id_w3c"),
    (Policy::SamplingRandomness, "sampling_randomness"),
    (Policy::SamplingPriority, "sampling_priority"),
];

/// Parts of a span that the sampler looks at.
#[derive(Debug, Default)]
struct Seen<'a> {
    trace_id: &'a [u8],
    trace_state: &'a [u8],
    /// Whether the application wants it kept or dropped.
    wanted: Option<bool>,
}

/// A decision: what made it, whether the span stays, and its new `tracestate` if that changes.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    policy: Policy,
    is_sampled: bool,
    trace_state: Option<Vec<u8>>,
}

/// Decisions on a batch.
#[derive(Debug, Default)]
struct Decided {
    /// How many spans were judged by each policy: dropped and kept.
    counts: [[usize; 2]; POLICIES.len()],
    /// The traces of spans that were dropped, where there is a ledger.
    dropped: Vec<(Policy, u128)>,
}

impl How {
    fn new(config: &Config) -> Self {
        let percentage = config.sampling_percentage.min(100.0);
        if percentage == 0.0 {
            return Self::Never;
        }
        let ratio = f64::from(percentage) / 100.0;
        match config.mode {
            Mode::Equalizing => {
                let threshold = threshold::of_probability(ratio, config.sampling_precision);
                Self::Equalizing { threshold: threshold.unwrap_or(NEVER) }
            }
            Mode::Proportional => Self::Proportional { ratio, digits: config.sampling_precision },
            // In 32 bits, so that every collector that is set up alike draws the line at the same bucket.
            Mode::HashSeed => match (percentage * (BUCKETS as f32 / 100.0)) as u32 {
                0 => Self::Never,
                kept => Self::Hash {
                    seed: config.hash_seed,
                    threshold: u64::from(BUCKETS - kept.min(BUCKETS)) << 42,
                },
            },
        }
    }

    fn decide(self, seen: &Seen<'_>, fail_closed: bool) -> Decision {
        let (mut state, is_valid) = TraceState::read(seen.trace_state);
        let has_id = seen.trace_id.iter().any(|byte| *byte != 0);
        let mut is_failed = !is_valid;
        let (mut policy, mut randomness) = (Policy::MissingRandomness, None);
        // Whether what was decided is written down.
        let mut is_noted = is_valid;
        match self {
            Self::Hash { seed, .. } => {
                if has_id {
                    (policy, randomness) =
                        (Policy::TraceIdHash, Some(hashed_randomness(seen.trace_id, seed)));
                }
                if state.randomness().is_some() || state.threshold().is_some() {
                    // It was sampled consistently before, which a hash would break.
                    (is_failed, is_noted) = (true, false);
                } else if is_valid {
                    state.set_randomness(randomness.unwrap_or(NEVER - 1));
                }
            }
            Self::Never => {
                (policy, randomness) = (Policy::SamplingPriority, Some(NEVER - 1));
                is_noted = true;
            }
            Self::Equalizing { .. } | Self::Proportional { .. } if is_valid => {
                if let Some(explicit) = state.randomness() {
                    (policy, randomness) = (Policy::SamplingRandomness, Some(explicit));
                } else if has_id {
                    (policy, randomness) = (Policy::TraceIdW3c, Some(low_bits(seen.trace_id)));
                }
            }
            Self::Equalizing { .. } | Self::Proportional { .. } => {}
        }
        if !is_failed {
            match randomness {
                None => is_failed = true,
                // It cannot have been sampled with that.
                Some(randomness) if state.threshold().is_some_and(|known| known > randomness) => {
                    state.clear_threshold();
                    is_failed = true;
                }
                Some(_) => {}
            }
        }
        let mut threshold = match (is_failed, fail_closed) {
            (true, true) => NEVER,
            (true, false) => ALWAYS,
            (false, _) => self.threshold(&state),
        };
        if let Some(is_wanted) = seen.wanted {
            policy = Policy::SamplingPriority;
            threshold = if is_wanted { ALWAYS } else { NEVER };
        }
        let is_sampled = threshold <= randomness.unwrap_or(NEVER - 1);
        let trace_state = (is_sampled && is_noted).then(|| {
            state.note_threshold(threshold);
            state.write()
        });
        let trace_state = trace_state.filter(|text| text != seen.trace_state);
        Decision { policy, is_sampled, trace_state }
    }

    fn threshold(self, state: &TraceState<'_>) -> u64 {
        match self {
            Self::Never => NEVER,
            Self::Hash { threshold, .. } => threshold,
            Self::Equalizing { threshold } => threshold.max(state.threshold().unwrap_or(ALWAYS)),
            Self::Proportional { ratio, digits } => {
                let arriving = threshold::probability(state.threshold().unwrap_or(ALWAYS));
                threshold::of_probability(arriving * ratio, digits).unwrap_or(NEVER)
            }
        }
    }
}

/// The last 56 bits of a trace id.
fn low_bits(trace_id: &[u8]) -> u64 {
    trace_id.iter().rev().take(7).rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// Randomness of a trace id by its FNV-1a hash, whose first 14 bits decide.
fn hashed_randomness(trace_id: &[u8], seed: u32) -> u64 {
    let hash =
        seed.to_le_bytes().iter().chain(trace_id).fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    let bucket = u64::from(hash % BUCKETS);
    // A low bucket is sampled first, and a high randomness is: so it is turned round.
    let first = u64::from(BUCKETS) - 1 - bucket;
    let rest = u64::from(hash >> 18);
    first << 42 | (rest ^ rest << 10) << 14 | bucket
}

impl<'a> Seen<'a> {
    fn of(span: &'a [u8]) -> Self {
        let mut seen = Self::default();
        for (field, _, value) in raw_fields(span) {
            match (field, value) {
                (1, Value::Bytes(id)) => seen.trace_id = id,
                (3, Value::Bytes(state)) => seen.trace_state = state,
                (9, Value::Bytes(pair)) if seen.wanted.is_none() => seen.wanted = wanted(pair),
                _ => {}
            }
        }
        seen
    }
}

/// Returns the decision that an attribute asks for.
fn wanted(pair: &[u8]) -> Option<bool> {
    let (mut is_priority, mut value) = (false, AnyValue::new(b""));
    for (field, _, part) in raw_fields(pair) {
        match (field, part) {
            (1, Value::Bytes(key)) => is_priority = key == PRIORITY,
            (2, Value::Bytes(message)) => value = AnyValue::new(message),
            _ => {}
        }
    }
    if !is_priority {
        return None;
    }
    let priority = match value {
        AnyValue::Int(value) => value as f64,
        AnyValue::Double(value) => value,
        AnyValue::String(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        _ => return None,
    };
    match priority {
        0.0 => Some(false),
        priority if priority > 0.0 => Some(true),
        _ => None,
    }
}

/// A span with another `tracestate`.
fn with_trace_state(span: &[u8], text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(span.len() + text.len() + 2);
    let mut is_written = false;
    for (field, raw, _) in raw_fields(span) {
        if field >= 3 && !is_written {
            put_bytes(&mut out, 3, text);
            is_written = true;
        }
        if field != 3 {
            out.extend_from_slice(raw);
        }
    }
    if !is_written {
        put_bytes(&mut out, 3, text);
    }
    out
}

impl Sampler {
    pub(crate) fn new(
        config: &Config,
        id: &str,
        registry: &Registry,
        ledger: Handle,
        next: Arc<dyn Consumer>,
    ) -> Self {
        let counters = POLICIES.map(|(_, policy)| {
            ["false", "true"].map(|sampled| {
                registry.counter(
                    "otelcol_processor_probabilistic_sampler_count_spans_processed",
                    "Count of spans that were sampled or not.",
                    &[("processor", id), ("policy", policy), ("sampled", sampled)],
                )
            })
        });
        let fail_closed = config.fail_closed;
        let (how, counters, id) = (How::new(config), counters.into(), id.into());
        Self { how, fail_closed, counters, id, ledger, next }
    }

    /// Returns what is left of a batch, and what was decided.
    fn sample(&self, batch: &TraceBatch) -> (TraceBatch, Decided) {
        let mut decided = Decided::default();
        let left = batch.sift(|span| {
            let seen = Seen::of(span);
            let Decision { policy, is_sampled, trace_state } =
                self.how.decide(&seen, self.fail_closed);
            decided.counts[policy as usize][usize::from(is_sampled)] += 1;
            if !is_sampled && self.ledger.is_some() {
                let id = seen.trace_id.try_into().map(u128::from_be_bytes).unwrap_or_default();
                decided.dropped.push((policy, id));
            }
            match (is_sampled, trace_state) {
                (false, _) => SpanFate::Goes,
                (true, None) => SpanFate::Stays,
                (true, Some(text)) => SpanFate::Becomes(with_trace_state(span, &text)),
            }
        });
        (left, decided)
    }
}

impl Decided {
    fn count(&self, counters: &[[Counter; 2]], id: &str, ledger: &Handle) {
        for (counter, count) in counters.iter().flatten().zip(self.counts.iter().flatten()) {
            if *count > 0 {
                counter.add(*count);
            }
        }
        let Some(ledger) = ledger else { return };
        for (policy, name) in POLICIES {
            let dropped = self.dropped.iter().filter(|(by, _)| *by == policy);
            ledger.sampled_out(id, name, dropped.map(|(_, id)| *id));
        }
    }
}

#[async_trait]
impl Consumer for Sampler {
    async fn reserve(&self, batch: TraceBatch, sender: &Sender) -> Result<Commit, Refused> {
        let (left, decided) = self.sample(&batch);
        let (counters, id, ledger) =
            (self.counters.clone(), Arc::clone(&self.id), self.ledger.clone());
        let next = match left.is_empty() {
            true => None,
            false => Some(self.next.reserve(left, sender).await?),
        };
        Ok(Box::new(move || {
            // Only now: whoever is refused comes again.
            decided.count(&counters, &id, &ledger);
            next.map(|commit| commit()).unwrap_or_default()
        }))
    }

    fn needs(&self) -> Needs {
        self.next.needs()
    }

    async fn note(&self, request: &TraceBatch, sender: &Sender) -> Result<Vec<Note>, Refused> {
        // No batch processor stands in front of it: see `Collector::stages`, and the check of connectors in the config.
        self.next.note(request, sender).await
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        let (left, decided) = self.sample(&batch);
        if !left.is_empty() {
            self.next.deliver(left).await?;
        }
        decided.count(&self.counters, &self.id, &self.ledger);
        Ok(())
    }

    fn press(&self) {
        self.next.press();
    }

    fn count_refused(&self, spans: usize) {
        self.next.count_refused(spans);
    }
}

#[cfg(test)]
mod tests;
