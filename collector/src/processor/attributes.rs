//! Changes the attributes of spans.

pub(crate) mod config;

pub(crate) use config::Config;

use super::actions::{OF_SPAN, apply};
use crate::trace_batch::TraceBatch;

/// Applies the actions to every span.
pub(crate) fn process(config: &Config, batch: &TraceBatch) -> TraceBatch {
    batch.map_spans(|span| apply(&config.actions, span, OF_SPAN))
}
