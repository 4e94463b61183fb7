//! Changes the attributes of spans.

pub(crate) mod config;

pub(crate) use config::Config;

use super::actions::{OF_SPAN, apply};
use crate::sender::Sender;
use crate::trace_batch::TraceBatch;

/// Applies the actions to every span that is chosen.
pub(crate) fn process(config: &Config, batch: &TraceBatch, sender: Option<&Sender>) -> TraceBatch {
    if config.chosen.is_all() {
        return batch.map_spans(|span| apply(&config.actions, span, OF_SPAN, sender));
    }
    batch.change_spans(|resource, scope, span| {
        let is_chosen = config.chosen.has(resource, scope, span);
        is_chosen.then(|| apply(&config.actions, span, OF_SPAN, sender))
    })
}
