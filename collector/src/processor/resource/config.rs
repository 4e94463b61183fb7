//! Settings of the resource processor.

use serde::Deserialize;

use crate::config::Findings;
use crate::processor::actions::{Action, check};

/// What is changed.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The actions, in this order: `insert`, `update`, `upsert`, `delete`, `extract`, `convert`.
    pub(crate) attributes: Vec<Action>,
}

impl Config {
    pub(crate) fn decode(findings: &mut Findings<'_>) -> Option<Self> {
        let mut config: Self = findings.decode(&[], &[])?;
        check(&mut config.attributes, "attributes", findings);
        Some(config)
    }
}
