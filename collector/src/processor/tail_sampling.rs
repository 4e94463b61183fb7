//! Keeps or drops whole traces by what is in them.
//!
//! A trace is judged once, when it had its time; what comes later follows. What is dropped was accepted, and is counted by its reason, in
//! the self-metrics and in the ledger.

pub(crate) mod config;
mod decisions;
mod rule;

use std::sync::Arc;

pub(crate) use config::Config;
use config::Kind;
use decisions::Decisions;
use rule::{Clock, Judged, Rule};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::inbox::Inbox;
use super::whole_traces::{self, Bounds, Judge, Over, Trace};
use crate::consumer::Consumer;
use crate::extension::trace_ledger::Handle;
use crate::telemetry::{Counter, Histogram, Registry};
use crate::trace_batch::TraceBatch;

/// Ends of the buckets of how many seconds spans are late.
const LATENESS: &[u64] = &[1, 2, 5, 10, 20, 30, 60, 120, 300, 600];

/// Starts the processor in front of `next`.
pub(crate) fn start(
    config: &Config,
    id: &str,
    registry: &Registry,
    ledger: &Handle,
    next: Arc<dyn Consumer>,
) -> (Inbox, JoinHandle<()>) {
    let bounds = Bounds {
        wait: config.decision_wait,
        wait_after_root: config.decision_wait_after_root_received,
        max_traces: config.num_traces,
        max_bytes: config.max_size_mib.saturating_mul(1 << 20),
        max_trace_bytes: config.maximum_trace_size_bytes,
        blocks: config.block_on_overflow,
        drops_at_end: config.drop_pending_traces_on_shutdown,
    };
    let sampler = Sampler::new(config, id, registry, ledger);
    whole_traces::start(bounds, sampler, id, registry, next)
}

/// Reason for which spans are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    NotSampled,
    /// A `drop` policy applied.
    DropPolicy,
    /// Their trace was dropped before they came.
    Late,
    TooLarge,
    /// The collector ended.
    Shutdown,
}

const REASONS: [(Reason, &str); 5] = [
    (Reason::NotSampled, "not_sampled"),
    (Reason::DropPolicy, "drop_policy"),
    (Reason::Late, "late"),
    (Reason::TooLarge, "too_large"),
    (Reason::Shutdown, "shutdown"),
];

struct Sampler {
    id: String,
    /// `drop` policies first.
    policies: Vec<Named>,
    sample_on_first_match: bool,
    kept: Decisions,
    dropped: Decisions,
    ledger: Handle,
    counters: Counters,
}

/// A policy with what is counted of it.
struct Named {
    is_drop: bool,
    rule: Rule,
    /// How many traces it did not apply to, and to how many it did.
    judged: [Counter; 2],
}

struct Counters {
    /// By reason, in the order of [`REASONS`].
    dropped_spans: Vec<Counter>,
    kept: Counter,
    not_sampled: Counter,
    dropped: Counter,
    new: Counter,
    early: Counter,
    too_large: Counter,
    /// Spans of traces that were dropped, and kept.
    late: [Counter; 2],
    lateness: Histogram,
}

impl Counters {
    fn new(id: &str, registry: &Registry) -> Self {
        let processor = ("processor", id);
        let counter = |name, help| registry.counter(name, help, &[processor]);
        let judged = |sampled, decision| {
            registry.counter(
                "otelcol_processor_tail_sampling_global_count_traces_sampled",
                "Count of traces that were sampled or not by at least one policy.",
                &[processor, ("sampled", sampled), ("decision", decision)],
            )
        };
        Self {
            dropped_spans: REASONS
                .iter()
                .map(|(_, reason)| {
                    registry.counter(
                        "otelcol_processor_tail_sampling_dropped_spans",
                        "Number of spans that were dropped, by reason.",
                        &[processor, ("reason", reason)],
                    )
                })
                .collect(),
            kept: judged("true", "sampled"),
            not_sampled: judged("false", "not_sampled"),
            dropped: judged("false", "dropped"),
            new: counter(
                "otelcol_processor_tail_sampling_new_trace_id_received",
                "Counts the arrival of new traces.",
            ),
            early: counter(
                "otelcol_processor_tail_sampling_early_decisions",
                "Number of traces that were judged before their time because too many waited.",
            ),
            too_large: counter(
                "otelcol_processor_tail_sampling_traces_dropped_too_large",
                "Count of traces that were dropped because they were too large.",
            ),
            late: ["false", "true"].map(|sampled| {
                registry.counter(
                    "otelcol_processor_tail_sampling_early_releases_from_cache_decision",
                    "Number of spans that were able to be immediately released due to a decision cache hit.",
                    &[processor, ("sampled", sampled)],
                )
            }),
            lateness: registry.histogram(
                "otelcol_processor_tail_sampling_sampling_late_span_age",
                "Time (in seconds) from the sampling decision was taken and the arrival of a late span.",
                LATENESS,
                &[processor],
            ),
        }
    }
}

impl Sampler {
    fn new(config: &Config, id: &str, registry: &Registry, ledger: &Handle) -> Self {
        let now = Clock::now();
        // As the reference writes it: `NAME.POLICY` for `tail_sampling/NAME`.
        let of = id.split_once('/').map(|(_, name)| format!("{name}.")).unwrap_or_default();
        let mut policies: Vec<_> = config
            .policies
            .iter()
            .map(|policy| {
                let is_drop = policy.kind == Kind::Drop;
                let name = format!("{of}{}", policy.name);
                let judged = |applies: bool| {
                    let (sampled, decision) = match (applies, is_drop) {
                        (false, _) => ("false", "not_sampled"),
                        (true, true) => ("false", "dropped"),
                        (true, false) => ("true", "sampled"),
                    };
                    registry.counter(
                        "otelcol_processor_tail_sampling_count_traces_sampled",
                        "Count of traces that were sampled or not per sampling policy.",
                        &[
                            ("processor", id),
                            ("policy", &name),
                            ("sampled", sampled),
                            ("decision", decision),
                        ],
                    )
                };
                Named {
                    is_drop,
                    rule: Rule::new(policy, now),
                    judged: [judged(false), judged(true)],
                }
            })
            .collect();
        policies.sort_by_key(|policy| !policy.is_drop);
        let cache = &config.decision_cache;
        let size = |size: usize| if size == 0 { config.num_traces } else { size };
        Self {
            id: id.into(),
            policies,
            sample_on_first_match: config.sample_on_first_match,
            kept: Decisions::new(size(cache.sampled_cache_size)),
            dropped: Decisions::new(size(cache.non_sampled_cache_size)),
            ledger: ledger.clone(),
            counters: Counters::new(id, registry),
        }
    }

    /// Returns the reason for which the policies drop a trace; `None` keeps it.
    fn ask(&mut self, trace: Judged<'_>, now: Clock) -> Option<Reason> {
        let mut is_sampled = false;
        for Named { is_drop, rule, judged } in &mut self.policies {
            let applies = rule.applies(trace, now);
            judged[usize::from(applies)].add(1);
            if *is_drop && applies {
                return Some(Reason::DropPolicy);
            }
            is_sampled |= !*is_drop && applies;
            if is_sampled && self.sample_on_first_match {
                break;
            }
        }
        (!is_sampled).then_some(Reason::NotSampled)
    }

    fn drop_spans(&self, spans: &TraceBatch, reason: Reason) {
        for ((known, name), counter) in REASONS.iter().zip(&self.counters.dropped_spans) {
            if *known == reason {
                counter.add(spans.span_count());
                if let Some(ledger) = &self.ledger {
                    ledger.sampled_out(&self.id, name, spans.trace_ids());
                }
            }
        }
    }
}

impl Judge for Sampler {
    fn late(&mut self, id: u128, spans: &TraceBatch) -> Option<bool> {
        let kept = self.kept.get(id);
        let made = kept.or_else(|| self.dropped.get(id));
        let Some(made) = made else {
            self.counters.new.add(1);
            return None;
        };
        let is_kept = kept.is_some();
        self.counters.late[usize::from(is_kept)].add(spans.span_count());
        let seconds = usize::try_from(made.elapsed().as_secs()).unwrap_or(usize::MAX);
        self.counters.lateness.record(seconds);
        if !is_kept {
            self.drop_spans(spans, Reason::Late);
        }
        Some(is_kept)
    }

    fn judge(&mut self, id: u128, trace: &Trace, over: Over) -> bool {
        let counters = &self.counters;
        let dropped = match over {
            Over::TooLarge => {
                counters.too_large.add(1);
                Some(Reason::TooLarge)
            }
            Over::Abandoned => Some(Reason::Shutdown),
            Over::Due | Over::Early => {
                if over == Over::Early {
                    counters.early.add(1);
                }
                let reason = self.ask(Judged { id, spans: &trace.spans }, Clock::now());
                let counters = &self.counters;
                match reason {
                    None => counters.kept.add(1),
                    Some(Reason::DropPolicy) => counters.dropped.add(1),
                    Some(_) => counters.not_sampled.add(1),
                }
                reason
            }
        };
        match dropped {
            None => self.kept.put(id, Instant::now()),
            Some(reason) => {
                self.dropped.put(id, Instant::now());
                self.drop_spans(&trace.spans, reason);
            }
        }
        dropped.is_none()
    }
}

#[cfg(test)]
mod tests;
