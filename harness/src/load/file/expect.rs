//! Expectations of a scenario file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    MAX_INSTANCES,
    value::{DurationText, Whole},
};
use crate::expectation::{LinkedTrace, condition::Condition};

/// Expectations of every request's trace.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct ExpectFile {
    /// Time for a trace to become complete after the response; 10s by default.
    pub(in crate::load) within: Option<DurationText>,
    /// The tree of spans below the harness's own span, whole.
    #[schemars(with = "Option<NodeFile>")]
    pub(in crate::load) tree: Option<Spanned<NodeFile>>,
    /// Workloads or services of which each must have a span in the trace.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(in crate::load) services: Vec<Spanned<String>>,
    /// The services leave no span at all.
    #[serde(default)]
    pub(in crate::load) absent: bool,
    /// Numbers of spans of a kind that the trace must have.
    #[serde(default)]
    #[schemars(with = "Vec<SpanCountFile>")]
    pub(in crate::load) spans: Vec<Spanned<SpanCountFile>>,
    /// Numbers of spans of a kind that the traces of all requests of the scenario must have together.
    #[serde(default)]
    #[schemars(with = "Vec<SpanCountFile>")]
    pub(in crate::load) totals: Vec<Spanned<SpanCountFile>>,
    /// Workload or service at which the failure begins: the deepest span that is marked as an error, with no gap from the top of the
    /// trace down to it.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) fails_at: Option<Spanned<String>>,
    /// Traces of their own that are linked with the request's, each a whole tree; others may be there.
    #[serde(default)]
    #[schemars(with = "Vec<NodeFile>")]
    pub(in crate::load) linked: Vec<Spanned<NodeFile>>,
    /// Spans that must begin after others have ended.
    #[serde(default)]
    #[schemars(with = "Vec<OrderFile>")]
    pub(in crate::load) order: Vec<Spanned<OrderFile>>,
    /// Spans that must overlap in time.
    #[serde(default)]
    #[schemars(with = "Vec<OverlapFile>")]
    pub(in crate::load) overlap: Vec<Spanned<OverlapFile>>,
    /// Least number of attempts that the intake must have refused meanwhile: proof that an outage took place; 0 by
    /// default.
    #[serde(default)]
    pub(in crate::load) refused_attempts: u64,
    /// Least number of requests of services that the collectors must have refused meanwhile; 0 by default.
    #[serde(default)]
    pub(in crate::load) refused_exports: u64,
    /// Exact number of spans that services ended and no collector accepted, because their senders gave them up. Not
    /// checked by default.
    pub(in crate::load) lost_by_senders: Option<u64>,
    /// Every stage of the whole system must report the same number of spans, all its instances together: ended by the services and
    /// the harness, accepted by the collectors, taken by the intake.
    #[schemars(with = "Option<BalanceFile>")]
    pub(in crate::load) balance: Option<Spanned<BalanceFile>>,
    /// Expectations of the APM stats of all the scenario's requests together.
    #[serde(default)]
    #[schemars(with = "Vec<StatsCountFile>")]
    pub(in crate::load) stats: Vec<Spanned<StatsCountFile>>,
    /// Whether Datadog will make trace metrics of the requests, for spans that are sent to its OTLP intake: only if they are asked for
    /// (`compute_stats`). Not compared when left out.
    pub(in crate::load) trace_metrics: Option<bool>,
    /// Time for the stats to arrive by themselves before the collector is stopped, which flushes it; for collectors
    /// that send no stats when they end. The collector is stopped at once by default.
    #[schemars(with = "Option<DurationText>")]
    pub(in crate::load) stats_within: Option<Spanned<DurationText>>,
}

/// Expectations of the stages beside their balance.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct BalanceFile {
    /// Least number of instances of the collector that must have had spans of the services; 1 by default.
    #[schemars(with = "Option<u32>")]
    pub(in crate::load) collector_instances: Option<Spanned<Whole<1, MAX_INSTANCES>>>,
}

/// Expectations of the stats groups that fit, all together. What is left out is not compared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct StatsCountFile {
    /// Datadog's service.
    pub(in crate::load) service: Option<String>,
    /// Span kind.
    pub(in crate::load) kind: Option<KindFile>,
    /// Datadog's operation name.
    pub(in crate::load) name: Option<String>,
    /// Datadog's resource name.
    pub(in crate::load) resource: Option<String>,
    /// Spans counted.
    pub(in crate::load) hits: u64,
    /// Those of them with an error.
    pub(in crate::load) errors: Option<u64>,
}

/// One span of the tree: exactly one of `server`, `client`, `internal`, `producer`, `consumer` says which, by workload or
/// service name. What is left out is not compared, save children: those must be listed, unless `more` is true.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct NodeFile {
    /// A server span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) server: Option<Spanned<String>>,
    /// A client span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) client: Option<Spanned<String>>,
    /// An internal span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) internal: Option<Spanned<String>>,
    /// A producer span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) producer: Option<Spanned<String>>,
    /// A consumer span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) consumer: Option<Spanned<String>>,
    /// Further expectations of the span.
    #[serde(default)]
    pub(in crate::load) is: SpanFile,
    /// The spans below it.
    #[serde(default)]
    #[schemars(with = "Vec<NodeFile>")]
    pub(in crate::load) children: Vec<Spanned<NodeFile>>,
    /// Whether it may have children that are not listed; as the node above it when left out, and false at the top.
    pub(in crate::load) more: Option<bool>,
}

/// Expectations of a span, as the intake sees it. What is left out is not compared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct SpanFile {
    /// Datadog's operation name.
    pub(in crate::load) name: Option<String>,
    /// Datadog's resource name.
    pub(in crate::load) resource: Option<String>,
    /// Datadog's type.
    #[serde(rename = "type")]
    pub(in crate::load) span_type: Option<String>,
    /// Whether it is marked as an error.
    pub(in crate::load) error: Option<bool>,
    /// Its HTTP status code.
    pub(in crate::load) status: Option<u16>,
    /// Meta that it must have, among others: by key, the text that it must be, or conditions on it.
    #[serde(default)]
    pub(in crate::load) meta: BTreeMap<String, Condition>,
    /// Metrics that it must have, among others: by key, the number that it must be, or conditions on it.
    #[serde(default)]
    pub(in crate::load) metrics: BTreeMap<String, Condition>,
    /// Events that it must have, or must not, among others.
    #[serde(default)]
    #[schemars(with = "Vec<EventFile>")]
    pub(in crate::load) events: Vec<EventFile>,
    /// Links that it must have, or must not, among others.
    #[serde(default)]
    #[schemars(with = "Vec<LinkFile>")]
    pub(in crate::load) links: Vec<LinkFile>,
    /// Shortest duration.
    pub(in crate::load) at_least: Option<DurationText>,
    /// Longest duration.
    pub(in crate::load) at_most: Option<DurationText>,
}

/// Events of a span. What is left out is not compared.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct EventFile {
    /// The event's name.
    pub(in crate::load) name: Option<Condition>,
    /// Expectations of its attributes, by key.
    #[serde(default)]
    pub(in crate::load) attributes: BTreeMap<String, Condition>,
    /// Exactly so many such events; at least one when left out.
    pub(in crate::load) count: Option<usize>,
}

/// Links of a span. What is left out is not compared.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct LinkFile {
    /// Trace that it leads into: the same, or another.
    pub(in crate::load) trace: Option<LinkedTrace>,
    /// Expectations of its attributes, by key.
    #[serde(default)]
    pub(in crate::load) attributes: BTreeMap<String, Condition>,
    /// Exactly so many such links; at least one when left out.
    pub(in crate::load) count: Option<usize>,
}

/// A number of spans.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct SpanCountFile {
    /// Workload or service; any when left out.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) at: Option<Spanned<String>>,
    /// Span kind; any when left out.
    pub(in crate::load) kind: Option<KindFile>,
    /// Further expectations of the spans.
    #[serde(default)]
    pub(in crate::load) is: SpanFile,
    /// Exactly so many.
    pub(in crate::load) count: Option<usize>,
    /// At least so many.
    pub(in crate::load) at_least: Option<usize>,
    /// At most so many.
    pub(in crate::load) at_most: Option<usize>,
}

/// Spans, of the request's own trace or of one that is linked with it. At least one key is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct SelectFile {
    /// Workload or service; any when left out.
    #[schemars(with = "Option<String>")]
    pub(in crate::load) at: Option<Spanned<String>>,
    /// Span kind; any when left out.
    pub(in crate::load) kind: Option<KindFile>,
    /// Further expectations of the spans.
    #[serde(default)]
    pub(in crate::load) is: SpanFile,
}

/// Spans that begin when others have ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct OrderFile {
    /// Those that end first, all of them.
    #[schemars(with = "SelectFile")]
    pub(in crate::load) first: Spanned<SelectFile>,
    /// Those that begin then, all of them.
    #[schemars(with = "SelectFile")]
    pub(in crate::load) then: Spanned<SelectFile>,
    /// Shortest time from the last end to the first beginning.
    pub(in crate::load) at_least: Option<DurationText>,
    /// Longest time between them.
    pub(in crate::load) at_most: Option<DurationText>,
}

/// Spans that run at the same time, each of `one` for a while together with each of `other`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct OverlapFile {
    /// Some of them.
    #[schemars(with = "SelectFile")]
    pub(in crate::load) one: Spanned<SelectFile>,
    /// The others; the same as `one` where all of a kind run together.
    #[schemars(with = "SelectFile")]
    pub(in crate::load) other: Spanned<SelectFile>,
}

/// OpenTelemetry's span kinds.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::load) enum KindFile {
    Server,
    Client,
    Internal,
    Producer,
    Consumer,
}

impl KindFile {
    /// As Datadog's `span.kind` spells it.
    pub(in crate::load) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Internal => "internal",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}
