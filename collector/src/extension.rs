//! What runs beside the pipelines.

pub(crate) mod file_storage;
pub(crate) mod health_check;
pub(crate) mod trace_ledger;

use crate::config::node::Node;
use crate::config::{Component, Findings};

/// The settings of an extension.
#[derive(Debug, Clone)]
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
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("pprof", "use the operating system's profilers"),
        ("zpages", "use the self-metrics and the log"),
        ("healthcheckv2", "use `health_check`"),
    ];

    fn decode(kind: &str, _node: &Node, findings: &mut Findings<'_>) -> Option<Self> {
        match kind {
            "file_storage" => file_storage::Config::decode(findings).map(Self::FileStorage),
            "trace_ledger" => trace_ledger::Config::decode(findings).map(Self::TraceLedger),
            _ => health_check::Config::decode(findings).map(Self::HealthCheck),
        }
    }
}
