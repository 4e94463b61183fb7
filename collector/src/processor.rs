//! What happens to batches between receivers and exporters.

pub(crate) mod actions;
pub(crate) mod attributes;
pub(crate) mod batch;
pub(crate) mod memory_limiter;
pub(crate) mod resource;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics};

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
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        (
            "k8sattributes",
            "set `k8s.*` resource attributes by the operator's instrumentation or the downward API",
        ),
        (
            "k8s_attributes",
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
        (
            "redaction",
            "delete or replace attributes by `attributes`, or keep secrets out of spans where they are made",
        ),
        ("groupbyattrs", "resources are kept as they were sent; remove it"),
        ("geoip", "set attributes where the spans are made"),
        ("dns_lookup", "set attributes where the spans are made"),
        ("schema", "old and current semantic conventions are both understood; remove it"),
        ("remotetap", "use the exporter `debug`"),
        ("metricstransform", "this collector carries traces only; run another one for metrics"),
        ("cumulativetodelta", "this collector carries traces only; run another one for metrics"),
        ("deltatocumulative", "this collector carries traces only; run another one for metrics"),
        ("deltatorate", "this collector carries traces only; run another one for metrics"),
        ("interval", "this collector carries traces only; run another one for metrics"),
        ("metricsgeneration", "this collector carries traces only; run another one for metrics"),
        (
            "experimental_metricsgeneration",
            "this collector carries traces only; run another one for metrics",
        ),
        ("metricstarttime", "this collector carries traces only; run another one for metrics"),
        ("logstransform", "this collector carries traces only; run another one for logs"),
        ("logdedup", "this collector carries traces only; run another one for logs"),
        ("sumologic", "this collector sends to Datadog and by OTLP; run another one behind it"),
        ("coralogix", "this collector sends to Datadog and by OTLP; run another one behind it"),
        ("groupbytrace", "traces are grouped by the Datadog exporter; remove it"),
    ];

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
