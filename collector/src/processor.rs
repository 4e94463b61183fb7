//! Processors: the stages between receivers and exporters.

pub(crate) mod actions;
pub(crate) mod attributes;
pub(crate) mod batch;
pub(crate) mod memory_limiter;
pub(crate) mod resource;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics, Unsupported, unsupported};

/// The settings of a processor.
#[derive(Debug, Clone)]
pub(crate) enum ProcessorConfig {
    Attributes(attributes::Config),
    Batch(batch::Config),
    MemoryLimiter(memory_limiter::Config),
    Resource(resource::Config),
}

impl Component for ProcessorConfig {
    const SECTION: &'static str = "processors";
    const NOUN: &'static str = "processor";
    const KINDS: &'static [&'static str] = &["attributes", "batch", "memory_limiter", "resource"];
    const UNSUPPORTED: Unsupported = unsupported::PROCESSORS;

    fn decode(kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        match kind {
            "attributes" => attributes::Config::decode(diagnostics).map(Self::Attributes),
            "memory_limiter" => {
                memory_limiter::Config::decode(diagnostics).map(Self::MemoryLimiter)
            }
            "resource" => resource::Config::decode(diagnostics).map(Self::Resource),
            _ => batch::Config::decode(diagnostics).map(Self::Batch),
        }
    }
}
