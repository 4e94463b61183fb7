//! Settings of the resource processor.

use serde::{Deserialize, Serialize};

use crate::processor::actions::{Action, check};
use crate::settings::Diagnostics;

/// Changes to resources' attributes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The actions, in this order: `insert`, `update`, `upsert`, `delete`, `hash`, `extract`, `convert`.
    pub(crate) attributes: Vec<Action>,
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let mut config: Self = diagnostics.decode(&[], &[])?;
        check(&mut config.attributes, "attributes", diagnostics);
        Some(config)
    }
}
