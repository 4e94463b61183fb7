//! Settings of the sending queue.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{ComponentId, Diagnostics, Unsupported, component_id, duration};
use crate::trace_batch::TraceBatch;

/// The queue, in the Collector's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether batches wait in a queue. Without it each is sent at once, up to `queue_size` at a time, and its sender answered
    /// with what became of it. Default `true`.
    pub(crate) enabled: bool,
    /// How many batches are sent at the same time. Default 10.
    pub(crate) num_consumers: usize,
    /// How much may be held, in units of `sizer`; more is refused. A batch larger than that is taken when nothing else is
    /// held. Default 1000.
    pub(crate) queue_size: usize,
    /// Unit of `queue_size`: `requests` are batches, `items` spans, `bytes` those of their OTLP messages. Default
    /// `requests`.
    pub(crate) sizer: Sizer,
    /// Whether any number of senders is held while the queue is full. Without it, up to 1024 requests of 32 MiB are, and more
    /// are refused at once. A sender is held for up to 8 s, less than exporters wait, and then asked to come again. Default
    /// `false`.
    pub(crate) block_on_overflow: bool,
    /// Whether senders are answered when their spans are sent or dropped, instead of when they are held. Default `false`.
    pub(crate) wait_for_result: bool,
    /// The `file_storage` extension that keeps spans on disk until they are sent. Default: they are kept in memory.
    #[serde(deserialize_with = "component_id::referred")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) storage: Option<ComponentId>,
    /// If set, batches are joined behind the queue, and cut, by size; the `batch` processor is not needed then. Default: they are
    /// sent as they come.
    pub(crate) batch: Option<Batch>,
}

/// How batches of the queue are joined and cut.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Batch {
    /// How long a batch waits for more, however small it is. Default `200ms`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) flush_timeout: Duration,
    /// Unit of sizes: `items` are spans, `bytes` those of their OTLP messages. Default: what the queue's `sizer` counts, `items`
    /// where that is `requests`.
    pub(crate) sizer: Option<Sizer>,
    /// The size from which on a batch goes at once. Default 8192.
    pub(crate) min_size: usize,
    /// The size beyond which a batch is cut; a single span is not. Default 0: none is.
    pub(crate) max_size: usize,
}

impl Default for Batch {
    fn default() -> Self {
        let flush_timeout = Duration::from_millis(200);
        Self { flush_timeout, sizer: None, min_size: 8192, max_size: 0 }
    }
}

impl Batch {
    /// Returns the unit of sizes, in a queue whose own is this.
    pub(crate) fn sizer(&self, of_queue: Sizer) -> Sizer {
        match (self.sizer, of_queue) {
            (Some(sizer), _) => sizer,
            (None, Sizer::Bytes) => Sizer::Bytes,
            (None, Sizer::Requests | Sizer::Items) => Sizer::Items,
        }
    }

    fn check(&self, queue: &Config, diagnostics: &mut Diagnostics<'_>) {
        let mut wrong = |key: &str, problem: &str| {
            diagnostics.add(&["sending_queue", "batch", key], problem);
        };
        let sizer = self.sizer(queue.sizer);
        if sizer == Sizer::Requests {
            wrong("sizer", "counts spans or bytes; write `items` or `bytes`");
        }
        if self.flush_timeout.is_zero() {
            wrong("flush_timeout", "must be more than zero");
        }
        if self.max_size > 0 && self.max_size < self.min_size {
            let problem = format!(
                "must not be smaller than `min_size` ({} < {})",
                self.max_size, self.min_size
            );
            wrong("max_size", &problem);
        }
        if sizer == queue.sizer && self.min_size > queue.queue_size {
            let problem = format!(
                "must not be larger than `queue_size` ({} > {}), which can never hold as much",
                self.min_size, queue.queue_size
            );
            wrong("min_size", &problem);
        }
    }
}

/// Unit in which the size of a queue is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
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
    pub(super) fn room(self, batch: &TraceBatch, capacity: usize) -> u32 {
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

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("request metadata is not kept; remove the key", &["sending_queue.batch.partition"]),
    ("it was renamed; use `block_on_overflow`", &["sending_queue.blocking"]),
]);

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            block_on_overflow: false,
            wait_for_result: false,
            storage: None,
            batch: None,
        }
    }
}

impl Config {
    pub(crate) fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        let limits = [
            ("num_consumers", self.num_consumers, 1_000_000),
            ("queue_size", self.queue_size, self.sizer.max()),
        ];
        for (key, value, max) in limits {
            if !(1..=max).contains(&value) {
                diagnostics.add(&["sending_queue", key], &format!("must be from 1 to {max}"));
            }
        }
        if let Some(batch) = &self.batch {
            batch.check(self, diagnostics);
        }
        if self.storage.is_some() && !self.enabled {
            let problem = "needs the queue; remove `enabled: false`";
            diagnostics.add(&["sending_queue", "storage"], problem);
        }
    }
}
