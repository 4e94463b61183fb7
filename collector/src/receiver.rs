//! Receivers: the start of a pipeline.

pub(crate) mod otlp;

use serde::Serialize;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics, Unsupported, unsupported};

/// The settings of a receiver.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum ReceiverConfig {
    Otlp(otlp::Config),
}

impl Component for ReceiverConfig {
    const SECTION: &'static str = "receivers";
    const NOUN: &'static str = "receiver";
    const KINDS: &'static [&'static str] = &["otlp"];
    const UNSUPPORTED: Unsupported = unsupported::RECEIVERS;

    fn decode(_kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        otlp::Config::decode(diagnostics).map(Self::Otlp)
    }
}
