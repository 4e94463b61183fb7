//! Settings of the processor that groups by trace, in the words of contrib's `groupbytraceprocessor`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, Unsupported, duration};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    (
        "not implemented by the Collector either; remove the key",
        &["discard_orphans", "store_on_disk"],
    ),
    ("traces are kept together as a whole; remove the key, or write `trace`", &["emit_strategy"]),
]);

/// Holds spans so that all of a trace go on together. The Datadog exporter needs no such processor; others behind it may. Senders are
/// answered when their spans are in this collector's memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Time from a trace's first span to when it goes on. Default `1s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) wait_duration: Duration,
    /// How many traces wait at a time. Beyond that the first ones go on early; the Collector drops them. Default 1000000.
    pub(crate) num_traces: usize,
    /// How many MiB the waiting traces may have; beyond that it is as with `num_traces`. The Collector has no such key. Default 256.
    pub(crate) max_size_mib: usize,
    /// Taken, and of no effect: one task groups all traces.
    #[serde(skip_serializing)]
    num_workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            wait_duration: Duration::from_secs(1),
            num_traces: 1_000_000,
            max_size_mib: 256,
            num_workers: 1,
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        for (key, number) in
            [("num_traces", config.num_traces), ("max_size_mib", config.max_size_mib)]
        {
            if number == 0 {
                diagnostics.add(&[key], "must be more than zero");
            }
        }
        if config.num_workers > 1 {
            let note = "changes nothing here: one task groups all traces, and does not wait for them; remove it";
            diagnostics.note(&["num_workers"], note);
        }
        Some(config)
    }
}
