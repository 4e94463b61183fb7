//! What runs beside the pipelines.

pub(crate) mod health_check;

use crate::config::node::Node;
use crate::config::{Component, Findings};

/// The settings of an extension.
#[derive(Debug, Clone)]
pub(crate) enum ExtensionConfig {
    HealthCheck(health_check::Config),
}

impl Component for ExtensionConfig {
    const SECTION: &'static str = "extensions";
    const NOUN: &'static str = "extension";
    const KINDS: &'static [&'static str] = &["health_check"];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("pprof", "use the operating system's profilers"),
        ("zpages", "use the self-metrics and the log"),
        ("file_storage", "the queue is in memory; remove it"),
        ("healthcheckv2", "use `health_check`"),
    ];

    fn decode(_kind: &str, _node: &Node, findings: &mut Findings<'_>) -> Option<Self> {
        health_check::Config::decode(findings).map(Self::HealthCheck)
    }
}
