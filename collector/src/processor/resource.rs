//! Changes the attributes of resources.

pub(crate) mod config;

pub(crate) use config::Config;

use super::actions::{OF_RESOURCE, apply};
use crate::sender::Sender;
use crate::trace_batch::TraceBatch;

/// Applies the actions to every resource.
pub(crate) fn process(config: &Config, batch: &TraceBatch, sender: Option<&Sender>) -> TraceBatch {
    batch.map_resources(|resource| apply(&config.attributes, resource, OF_RESOURCE, sender))
}
