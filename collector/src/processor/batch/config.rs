//! Settings of the batch processor.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, Unsupported, duration};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[(
    "batches are not kept apart by metadata; remove the key",
    &["metadata_keys", "metadata_cardinality_limit"],
)]);

/// When a batch goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How long the first span of a batch waits at most. Default `200ms`; 0 sends every request on as it is.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) timeout: Duration,
    /// From this many spans on, a batch goes at once. Default 8192; 0 sends every request on as it is.
    pub(crate) send_batch_size: usize,
    /// A batch has at most this many spans; larger ones are cut. Default 0: no limit.
    pub(crate) send_batch_max_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(200), send_batch_size: 8192, send_batch_max_size: 0 }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        let (size, max) = (config.send_batch_size, config.send_batch_max_size);
        if max > 0 && max < size {
            let problem = format!(
                "must not be smaller than `send_batch_size` ({max} < {size}); 0 means no limit"
            );
            diagnostics.add(&["send_batch_max_size"], &problem);
        }
        Some(config)
    }
}
