//! Settings of the sending queue.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::settings::{ComponentId, Diagnostics, Unsupported};
use crate::trace_batch::TraceBatch;

/// The queue, in the Collector's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// What `queue_size` counts: `requests` are batches, `items` spans, `bytes` those of their OTLP messages. Default
    /// `requests`.
    pub(crate) sizer: Sizer,
    /// Whether any number of senders is held while the queue is full. Without it, up to 1024 requests of 32 MiB are, and more
    /// are refused at once. A sender is held for up to 8 s, less than exporters wait, and then told to come again. Default
    /// `false`.
    pub(crate) block_on_overflow: bool,
    /// Whether senders are answered when their spans are sent or dropped, instead of when they are held. Default `false`.
    pub(crate) wait_for_result: bool,
    /// The `file_storage` extension that keeps spans on disk until they are sent. Default: they are kept in memory.
    #[serde(deserialize_with = "storage")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) storage: Option<ComponentId>,
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
    ("use the `batch` processor", &["sending_queue.batch"]),
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
        if self.storage.is_some() && !self.enabled {
            let problem = "needs the queue; remove `enabled: false`";
            diagnostics.add(&["sending_queue", "storage"], problem);
        }
    }
}

fn storage<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ComponentId>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
}
