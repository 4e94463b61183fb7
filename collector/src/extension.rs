//! Extensions: components that run beside the pipelines.

pub(crate) mod file_storage;
pub(crate) mod health_check;
pub(crate) mod trace_ledger;

use serde::Serialize;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics, Unsupported, unsupported};

/// The settings of an extension.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum ExtensionConfig {
    FileStorage(file_storage::Config),
    HealthCheck(health_check::Config),
    /// Ours: the Collector has none.
    TraceLedger(trace_ledger::Config),
}

impl Component for ExtensionConfig {
    const SECTION: &'static str = "extensions";
    const NOUN: &'static str = "extension";
    const KINDS: &'static [&'static str] = &["file_storage", "health_check", "trace_ledger"];
    const UNSUPPORTED: Unsupported = unsupported::EXTENSIONS;

    fn decode(kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        match kind {
            "file_storage" => file_storage::Config::decode(diagnostics).map(Self::FileStorage),
            "trace_ledger" => trace_ledger::Config::decode(diagnostics).map(Self::TraceLedger),
            _ => health_check::Config::decode(diagnostics).map(Self::HealthCheck),
        }
    }
}
