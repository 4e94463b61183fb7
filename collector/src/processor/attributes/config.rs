//! Settings of the attributes processor.

use serde::{Deserialize, Serialize};

use crate::processor::actions::{self, Action};
use crate::processor::matching::{self, Chosen, Properties};
use crate::settings::Diagnostics;

/// Changes to spans' attributes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Spans that are changed. Default: all.
    include: Option<Properties>,
    /// Spans among them that are not changed. Default: none.
    exclude: Option<Properties>,
    /// The actions, in this order: `insert`, `update`, `upsert`, `delete`, `hash`, `extract`, `convert`.
    pub(crate) actions: Vec<Action>,
    #[serde(skip)]
    pub(super) chosen: Chosen,
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let unsupported =
            [("include.", matching::UNSUPPORTED), ("exclude.", matching::UNSUPPORTED)];
        let mut config: Self = diagnostics.decode(&[], &unsupported)?;
        let (include, exclude) = (config.include.as_ref(), config.exclude.as_ref());
        matching::check(include, exclude, diagnostics);
        config.chosen = Chosen::new(include, exclude);
        actions::check(&mut config.actions, "actions", diagnostics);
        Some(config)
    }
}
