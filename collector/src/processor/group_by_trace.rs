//! Holds spans so that all of a trace go on together.

pub(crate) mod config;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use config::Config;
use tokio::task::JoinHandle;

use super::inbox::Inbox;
use super::whole_traces::{self, Bounds, Judge, Over, Trace};
use crate::consumer::Consumer;
use crate::telemetry::{Counter, Registry};
use crate::trace_batch::TraceBatch;

/// Starts the processor in front of `next`.
pub(crate) fn start(
    config: &Config,
    id: &str,
    registry: &Registry,
    next: Arc<dyn Consumer>,
) -> (Inbox, JoinHandle<()>) {
    let counter = |name, help| registry.counter(name, help, &[("processor", id)]);
    let grouped = Grouped {
        spans: counter(
            "otelcol_processor_groupbytrace_spans_released",
            "Spans released to the next consumer.",
        ),
        traces: counter(
            "otelcol_processor_groupbytrace_traces_released",
            "Traces released to the next consumer.",
        ),
        early: counter(
            "otelcol_processor_groupbytrace_early_releases",
            "Traces that went on before their time because too many waited.",
        ),
    };
    let bounds = Bounds {
        wait: config.wait_duration,
        wait_after_root: Duration::ZERO,
        max_traces: config.num_traces,
        max_bytes: config.max_size_mib.saturating_mul(1 << 20),
        max_trace_bytes: 0,
        blocks: false,
        drops_at_end: false,
    };
    whole_traces::start(bounds, grouped, id, registry, next)
}

struct Grouped {
    spans: Counter,
    traces: Counter,
    early: Counter,
}

impl Judge for Grouped {
    fn late(&mut self, _: u128, _: &TraceBatch) -> Option<bool> {
        None
    }

    fn judge(&mut self, _: u128, trace: &Trace, over: Over) -> bool {
        self.spans.add(trace.spans.span_count());
        self.traces.add(1);
        if over == Over::Early {
            self.early.add(1);
        }
        true
    }
}
