//! Settings of the trace ledger.

use serde::{Deserialize, Serialize};

use crate::settings::Diagnostics;
use crate::settings::check_endpoint;

/// Endpoint of the ledger, and how much it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The address to bind; a trace's line is at `/debug/traces/` and its id in 32 hexadecimal digits. Default `localhost:13134`.
    pub(crate) endpoint: String,
    /// How many traces are remembered. Default 10000.
    pub(crate) max_traces: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { endpoint: "localhost:13134".into(), max_traces: 10_000 }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[])?;
        check_endpoint(diagnostics, &["endpoint"], &config.endpoint);
        if !(1..=10_000_000).contains(&config.max_traces) {
            diagnostics.add(&["max_traces"], "must be from 1 to 10000000");
        }
        Some(config)
    }
}
