//! Processors: the stages between receivers and exporters.

pub(crate) mod actions;
pub(crate) mod attributes;
pub(crate) mod batch;
pub(crate) mod group_by_trace;
pub(crate) mod inbox;
#[cfg_attr(
    all(not(feature = "kubernetes"), not(test)),
    expect(dead_code, reason = "without a client nothing is known of a cluster")
)]
pub(crate) mod k8s_attributes;
pub(crate) mod matching;
pub(crate) mod memory_limiter;
pub(crate) mod probabilistic_sampler;
pub(crate) mod resource;
pub(crate) mod resource_detection;
pub(crate) mod span;
pub(crate) mod tail_sampling;
mod whole_traces;

use serde::Serialize;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics, Unsupported, unsupported};

/// The settings of a processor.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum ProcessorConfig {
    Attributes(Box<attributes::Config>),
    Batch(batch::Config),
    GroupByTrace(group_by_trace::Config),
    K8sAttributes(Box<k8s_attributes::Config>),
    MemoryLimiter(memory_limiter::Config),
    ProbabilisticSampler(probabilistic_sampler::Config),
    Resource(resource::Config),
    ResourceDetection(Box<resource_detection::Config>),
    Span(Box<span::Config>),
    TailSampling(Box<tail_sampling::Config>),
}

impl ProcessorConfig {
    /// The actions on attributes, of the processors that have such.
    pub(crate) fn actions(&self) -> &[actions::Action] {
        match self {
            Self::Attributes(config) => &config.actions,
            Self::Resource(config) => &config.attributes,
            _ => &[],
        }
    }
}

impl Component for ProcessorConfig {
    const SECTION: &'static str = "processors";
    const NOUN: &'static str = "processor";
    const KINDS: &'static [&'static str] = &[
        "attributes",
        "batch",
        "groupbytrace",
        "k8s_attributes",
        "k8sattributes",
        "memory_limiter",
        "probabilistic_sampler",
        "resource",
        "resource_detection",
        "resourcedetection",
        "span",
        "tail_sampling",
        "tailsampling",
    ];
    const UNSUPPORTED: Unsupported = unsupported::PROCESSORS;

    fn decode(kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        match kind {
            "attributes" => attributes::Config::decode(diagnostics)
                .map(|config| Self::Attributes(Box::new(config))),
            "groupbytrace" => group_by_trace::Config::decode(diagnostics).map(Self::GroupByTrace),
            "k8s_attributes" | "k8sattributes" => k8s_attributes::Config::decode(diagnostics)
                .map(|config| Self::K8sAttributes(Box::new(config))),
            "memory_limiter" => {
                memory_limiter::Config::decode(diagnostics).map(Self::MemoryLimiter)
            }
            "probabilistic_sampler" => {
                probabilistic_sampler::Config::decode(diagnostics).map(Self::ProbabilisticSampler)
            }
            "resource" => resource::Config::decode(diagnostics).map(Self::Resource),
            "resource_detection" | "resourcedetection" => {
                resource_detection::Config::decode(diagnostics)
                    .map(|config| Self::ResourceDetection(Box::new(config)))
            }
            "span" => span::Config::decode(diagnostics).map(|config| Self::Span(Box::new(config))),
            "tail_sampling" | "tailsampling" => tail_sampling::Config::decode(diagnostics)
                .map(|config| Self::TailSampling(Box::new(config))),
            _ => batch::Config::decode(diagnostics).map(Self::Batch),
        }
    }
}
