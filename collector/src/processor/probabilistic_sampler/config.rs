//! Settings of the probabilistic sampler, in the words of contrib's `probabilisticsamplerprocessor`.

use serde::{Deserialize, Serialize};

use super::threshold::{HEX_DIGITS, MIN_PROBABILITY};
use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[(
    "it is for logs, and this collector handles traces only; remove the key",
    &["attribute_source", "from_attribute", "sampling_priority"],
)]);

/// Keeps a part of the traces: of each trace all spans or none, in every collector that is set up in the same way. Spans with the
/// attribute `sampling.priority` are kept if it is more than zero, and dropped if it is zero. The exporter counts APM stats of what is
/// left.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How many of a hundred traces are kept; 100 and more are all of them. Default 0: none.
    pub(crate) sampling_percentage: f32,
    /// With the mode `hash_seed`: what is hashed with the trace id. Collectors behind each other need different ones. Default 0.
    pub(crate) hash_seed: u32,
    /// Basis of the decision. Default `hash_seed`.
    pub(crate) mode: Mode,
    /// Drops spans whose sampling cannot be determined: with a `tracestate` that is not valid, or that contradicts the mode or
    /// the trace id, or without a trace id. Default `true`.
    pub(crate) fail_closed: bool,
    /// How many hexadecimal digits a threshold has that is written into `tracestate`, from 1 to 14. Default 4.
    pub(crate) sampling_precision: u32,
}

/// Ways to decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// A hash of the trace id; what was sampled before does not count.
    #[default]
    #[serde(alias = "")]
    HashSeed,
    /// The randomness of OpenTelemetry's `tracestate` or of the trace id: as much is kept of all that arrives, whatever was sampled
    /// before.
    Equalizing,
    /// As `equalizing`: this part is kept of what arrives.
    Proportional,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sampling_percentage: 0.0,
            hash_seed: 0,
            mode: Mode::default(),
            fail_closed: true,
            sampling_precision: 4,
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        let ratio = f64::from(config.sampling_percentage) / 100.0;
        if !ratio.is_finite() || ratio < 0.0 {
            diagnostics.add(&["sampling_percentage"], "is not a percentage; write 0 or more");
        } else if ratio > 0.0 && ratio < MIN_PROBABILITY {
            diagnostics.add(&["sampling_percentage"], "is too small; write 1.4e-15 or more, or 0");
        }
        if !(1..=HEX_DIGITS).contains(&config.sampling_precision) {
            diagnostics.add(&["sampling_precision"], "must be from 1 to 14");
        }
        Some(config)
    }
}
