//! Settings of the attributes processor.

use serde::Deserialize;

use crate::processor::actions::{Action, check};
use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported =
    Unsupported(&[("all spans are changed; remove the key", &["include", "exclude"])]);

/// Changes to spans' attributes.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The actions, in this order: `insert`, `update`, `upsert`, `delete`, `extract`, `convert`.
    pub(crate) actions: Vec<Action>,
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let mut config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        check(&mut config.actions, "actions", diagnostics);
        Some(config)
    }
}
