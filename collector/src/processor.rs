//! What happens to batches between receivers and exporters.

pub(crate) mod batch;

use crate::config::node::Node;
use crate::config::{Component, Findings};

/// The settings of a processor.
#[derive(Debug, Clone)]
pub(crate) enum ProcessorConfig {
    Batch(batch::Config),
}

impl Component for ProcessorConfig {
    const SECTION: &'static str = "processors";
    const NOUN: &'static str = "processor";
    const KINDS: &'static [&'static str] = &["batch"];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("memory_limiter", "exporter queues are bounded; remove it"),
        ("resource", "set `OTEL_RESOURCE_ATTRIBUTES` where the spans are made"),
        ("attributes", "set attributes where the spans are made"),
        (
            "k8sattributes",
            "set `k8s.*` resource attributes by the operator's instrumentation or the downward API",
        ),
        (
            "filter",
            "drop spans by the SDK's sampler, or whole traces by the exporter's `traces.ignore_resources`",
        ),
        ("probabilistic_sampler", "sample in the SDK (`OTEL_TRACES_SAMPLER`)"),
        ("tail_sampling", "run another collector behind this one for it"),
        ("resourcedetection", "set `OTEL_RESOURCE_ATTRIBUTES` where the spans are made"),
        ("transform", "set attributes where the spans are made"),
        ("span", "name spans where they are made"),
        ("groupbytrace", "traces are grouped by the Datadog exporter; remove it"),
    ];

    fn decode(_kind: &str, _node: &Node, findings: &mut Findings<'_>) -> Option<Self> {
        batch::Config::decode(findings).map(Self::Batch)
    }
}
