//! Connectors between pipelines: the `datadog` connector, as users of the reference's exporter wire it for APM stats.
//!
//! Here the exporter computes them, so that the connector has nothing to count: traces go through it to the pipelines behind
//! it, and pipelines for its metrics carry nothing.

pub(crate) mod config;

pub(crate) use config::Config;

use serde::Serialize;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics, Unsupported, unsupported};

/// The settings of a connector.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum ConnectorConfig {
    /// Its settings are only checked: what it would do, the exporter does.
    Datadog(Config),
}

impl Component for ConnectorConfig {
    const SECTION: &'static str = "connectors";
    const NOUN: &'static str = "connector";
    const KINDS: &'static [&'static str] = &["datadog"];
    const UNSUPPORTED: Unsupported = unsupported::CONNECTORS;

    fn decode(_kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        Config::decode(diagnostics).map(Self::Datadog)
    }
}
