//! Settings of the debug exporter.

use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("lines are not sampled; remove the key", &["sampling_initial", "sampling_thereafter"]),
    ("lines go to the collector's log; remove the key", &["use_internal_logger", "output_paths"]),
    ("nothing is sent; remove the key", &["sending_queue"]),
]);

/// Settings of the debug exporter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `basic` (default): one line for each batch; `normal`: one for each span; `detailed`: with attributes too.
    pub(crate) verbosity: Verbosity,
}

/// How much is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verbosity {
    #[default]
    Basic,
    Normal,
    Detailed,
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        diagnostics.decode(&[], &[("", UNSUPPORTED)])
    }
}
