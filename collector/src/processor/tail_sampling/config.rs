//! Settings of the tail sampler, in the words of contrib's `tailsamplingprocessor`.

mod policy;

use std::time::Duration;

use policy::check;
pub(super) use policy::{Code, Composite, Kind, Policy};
use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, Unsupported, duration};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    (
        "traces are judged after `decision_wait`; remove the key, or write `trace-complete`",
        &["sampling_strategy"],
    ),
    ("traces wait in memory; remove the key", &["tail_storage"]),
    ("one task judges all traces; remove the key", &["num_shards"]),
]);

/// Keeps or drops whole traces by what is in them, once each had its time. A trace is kept if a policy samples it and no `drop` policy
/// applies. Spans that come later follow the decision. All spans of a trace must come to the same collector; senders are answered
/// when their spans are in its memory. The exporter counts APM stats of what is kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Time from a trace's first span to its decision. Default `30s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) decision_wait: Duration,
    /// Time from a trace's root span to its decision, if that is earlier. Default 0: roots make no difference.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) decision_wait_after_root_received: Duration,
    /// How many traces wait at a time. Beyond that the first ones are judged early by what there is of them; the Collector drops them.
    /// Default 50000.
    pub(crate) num_traces: usize,
    /// How many MiB the waiting traces may have; beyond that it is as with `num_traces`. The Collector has no such key. Default 256.
    pub(crate) max_size_mib: usize,
    /// Holds senders while there are too many traces, rather than judging the first ones early. Default `false`.
    pub(crate) block_on_overflow: bool,
    /// Taken, and of no effect: memory is taken when it is needed.
    pub(crate) expected_new_traces_per_sec: u64,
    /// Drops traces with more bytes. Default 0: none.
    pub(crate) maximum_trace_size_bytes: usize,
    /// Asks no more policies once one samples a trace. Default `false`.
    pub(crate) sample_on_first_match: bool,
    /// Drops the traces that still wait when the collector ends, rather than judging them. Default `false`.
    pub(crate) drop_pending_traces_on_shutdown: bool,
    /// How many decisions are remembered for spans that come later.
    pub(crate) decision_cache: DecisionCache,
    /// The policies; all of them are asked, `drop` policies first.
    pub(crate) policies: Vec<Policy>,
}

/// Numbers of decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DecisionCache {
    /// Traces that were kept. Default 0: as many as `num_traces`.
    pub(crate) sampled_cache_size: usize,
    /// Traces that were dropped. Default 0: as many as `num_traces`.
    pub(crate) non_sampled_cache_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            decision_wait: Duration::from_secs(30),
            decision_wait_after_root_received: Duration::ZERO,
            num_traces: 50_000,
            max_size_mib: 256,
            block_on_overflow: false,
            expected_new_traces_per_sec: 0,
            maximum_trace_size_bytes: 0,
            sample_on_first_match: false,
            drop_pending_traces_on_shutdown: false,
            decision_cache: DecisionCache::default(),
            policies: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        if config.policies.is_empty() {
            diagnostics.add(
                &["policies"],
                "is empty, so that all traces would be dropped; name at least one policy",
            );
        } else if config.policies.iter().all(|policy| policy.kind == Kind::Drop) {
            diagnostics.add(&["policies"], "has `drop` policies only, so that all traces would be dropped; add one that samples, such as `always_sample`");
        }
        for (key, number) in
            [("num_traces", config.num_traces), ("max_size_mib", config.max_size_mib)]
        {
            if number == 0 {
                diagnostics.add(&[key], "must be more than zero");
            }
        }
        check(&config.policies, diagnostics);
        Some(config)
    }
}
