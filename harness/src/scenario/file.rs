//! The scenario file as it is written: YAML types, with the place of every value that is checked later.
//!
//! Only what serde can tell is checked here (syntax, keys, types); [`super::load`] checks the meaning and resolves
//! defaults. The doc comments are the descriptions in the JSON Schema.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::{CollectorFeature, Naming, Propagation, Protocol};
use crate::{
    expectation::{LinkedTrace, condition::Condition},
    system::INSTANCES,
};

/// Most sample apps in a chain.
pub(super) const MAX_APPS: u32 = 20;
/// Most instances of a workload.
pub(super) const MAX_INSTANCES: u32 = *INSTANCES.end();
/// Most requests of one entry; beyond it a scenario is a load test.
pub(super) const MAX_TIMES: u32 = 100_000;
/// Most requests at once.
pub(super) const MAX_CONCURRENCY: u32 = 1_000;

/// A scenario: the requests that are driven through a system, what breaks on the way, and what must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenarioFile {
    /// Unique among the scenarios of a run; lower-case words joined by hyphens.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// One sentence that a user would say.
    #[schemars(with = "String")]
    pub(super) description: Spanned<String>,
    /// The system that it needs; the built-in chain of two sample apps when left out.
    #[schemars(with = "Option<SystemFile>")]
    pub(super) system: Option<Spanned<SystemFile>>,
    /// What is driven through the entry, one entry after the other.
    #[schemars(with = "Vec<RequestFile>")]
    pub(super) requests: Spanned<Vec<Spanned<RequestFile>>>,
    /// What breaks.
    #[serde(default)]
    #[schemars(with = "Vec<FaultFile>")]
    pub(super) faults: Vec<Spanned<FaultFile>>,
    /// What must hold beyond the rules, which always hold (`tracecheck explain`).
    #[serde(default)]
    pub(super) expect: ExpectFile,
    /// Rules that may fail here, each with its reason.
    #[serde(default)]
    #[schemars(with = "Vec<TolerateFile>")]
    pub(super) tolerate: Vec<Spanned<TolerateFile>>,
    /// What the collector must be able to do for it, each with its reason. With another collector than the built-in one, the
    /// scenario is skipped, and told as skipped, unless the feature is declared for that collector.
    #[serde(default)]
    #[schemars(with = "Vec<RequireFile>")]
    pub(super) requires: Vec<Spanned<RequireFile>>,
}

/// Which system a scenario needs: the built-in chain, or a system file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemFile {
    /// The built-in chain: `sample-app-1` calls `sample-app-2`, and so on.
    pub(super) chain: Option<ChainFile>,
    /// Path of a system file, relative to the scenario.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) file: Option<Spanned<PathBuf>>,
}

/// Parameters of the built-in chain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChainFile {
    /// How many sample apps, 1 to 20; 2 when left out.
    #[schemars(with = "Option<u32>")]
    pub(super) apps: Option<Spanned<Whole<1, MAX_APPS>>>,
    /// `own`: each app is a service of its own name; `shared`: all are one service, as in the article. `own` when left out.
    pub(super) services: Option<Naming>,
    /// How the apps speak OTLP; `grpc` when left out.
    pub(super) protocol: Option<Protocol>,
    /// Environment variables by app name; `all` for every app.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, String>>")]
    pub(super) env: HashMap<Spanned<String>, BTreeMap<String, String>>,
    /// Path of the collector's config, relative to the scenario; passed on unchanged. A small one of the harness's own when left out.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) collector_config: Option<Spanned<PathBuf>>,
    /// How many instances of the collector there are behind its address, 1 to 20; 1 when left out. Only on Kubernetes can there be
    /// more: elsewhere the scenario is inconclusive.
    #[schemars(with = "Option<u32>")]
    pub(super) collector_instances: Option<Spanned<Whole<1, MAX_INSTANCES>>>,
}

/// One kind of request: exactly one of `get`, `head`, `post`, `put`, `patch` and `delete` gives its path, or `grpc` its
/// method.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestFile {
    /// Path with its leading `/`, which is asked for by GET.
    #[schemars(with = "Option<String>")]
    pub(super) get: Option<Spanned<String>>,
    /// The same by HEAD.
    #[schemars(with = "Option<String>")]
    pub(super) head: Option<Spanned<String>>,
    /// The same by POST.
    #[schemars(with = "Option<String>")]
    pub(super) post: Option<Spanned<String>>,
    /// The same by PUT.
    #[schemars(with = "Option<String>")]
    pub(super) put: Option<Spanned<String>>,
    /// The same by PATCH.
    #[schemars(with = "Option<String>")]
    pub(super) patch: Option<Spanned<String>>,
    /// The same by DELETE.
    #[schemars(with = "Option<String>")]
    pub(super) delete: Option<Spanned<String>>,
    /// A gRPC method that is called, `package.Service/Method`; `body: { json: … }` is its message, and `status` gRPC's number (0, OK, when
    /// left out).
    #[schemars(with = "Option<String>")]
    pub(super) grpc: Option<Spanned<String>>,
    /// Path of a descriptor set that describes the gRPC method, relative to the scenario; the server's reflection does when left out.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) descriptor_set: Option<Spanned<PathBuf>>,
    /// The workload that it is sent to, at its port `http`, by gRPC at its port `grpc` where it has one; the system's entry when left out.
    #[schemars(with = "Option<String>")]
    pub(super) entry: Option<Spanned<String>>,
    /// What it carries; not with `get` and `head`.
    #[schemars(with = "Option<BodyFile>")]
    pub(super) body: Option<Spanned<BodyFile>>,
    /// What the body is, as HTTP's `Content-Type` tells it; by the form of the body when left out.
    #[schemars(with = "Option<String>")]
    pub(super) content_type: Option<Spanned<String>>,
    /// How often; 1 when left out.
    #[schemars(with = "Option<u32>")]
    pub(super) times: Option<Spanned<Whole<1, MAX_TIMES>>>,
    /// How many at once; 1 when left out.
    #[schemars(with = "Option<u32>")]
    pub(super) concurrency: Option<Spanned<Whole<1, MAX_CONCURRENCY>>>,
    /// The HTTP status it must be answered with; 200 when left out.
    #[schemars(with = "Option<u16>")]
    pub(super) status: Option<Spanned<u16>>,
    /// Takes any status, or none: for faults that strike by chance.
    #[serde(default)]
    pub(super) any_status: bool,
    /// What else the answer must be.
    #[schemars(with = "Option<AnswerFile>")]
    pub(super) answer: Option<Spanned<AnswerFile>>,
    /// Values of the answer that later requests use as `${saved:NAME}`: by name, the path in its JSON body.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) save: HashMap<Spanned<String>, String>,
    /// How the trace context is sent; `w3c` when left out.
    pub(super) propagation: Option<Propagation>,
    /// Whether the context says *sampled*; true when left out.
    pub(super) sampled: Option<bool>,
    /// Where the answer tells its trace id, for services that choose it themselves.
    #[schemars(with = "Option<TraceIdFromFile>")]
    pub(super) trace_id_from: Option<Spanned<TraceIdFromFile>>,
    /// Longest wait for the answer; 10s when left out.
    pub(super) timeout: Option<DurationText>,
    /// Further headers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) headers: HashMap<Spanned<String>, String>,
}

/// What a request carries: exactly one of the three.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BodyFile {
    /// A text.
    pub(super) text: Option<String>,
    /// A JSON document, written as YAML.
    pub(super) json: Option<serde_json::Value>,
    /// Path of a file, relative to the scenario; it is sent as it is.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) file: Option<Spanned<PathBuf>>,
}

/// What an answer must be beside its status: each a value that it must be, or conditions on it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerFile {
    /// Of its body as JSON, by path: keys and positions joined by dots, or a JSON Pointer.
    #[serde(default)]
    pub(super) json: BTreeMap<String, Condition>,
    /// Of its body as a text.
    pub(super) text: Option<Condition>,
    /// Of its headers, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Condition>")]
    pub(super) headers: HashMap<Spanned<String>, Condition>,
}

/// Where an answer tells its trace id: exactly one of the two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceIdFromFile {
    /// Name of a response header.
    pub(super) header: Option<String>,
    /// Name of a top-level field of the JSON body.
    pub(super) json: Option<String>,
}

/// Something that breaks: where, and exactly one way. At a service: `status`, `delay`, `abort`, `hang`, `panic` or
/// `error_rate` travel with each request; `stop`, `pause`, `kill`, `restart` and `scale` act on the workload. At `intake`: `status`, `reset` or `delay`,
/// and at `collector`: `status`, for the `next` requests or `for` a time, else for good. `between` two workloads: `drop_header`, `set_header`, `upper_case_header`,
/// `double_header`, `duplicate`, `swallow`, `status` or `delay`, for the `next` requests, else for good.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultFile {
    /// Name of the workload.
    #[schemars(with = "Option<String>")]
    pub(super) at: Option<Spanned<String>>,
    /// Two workloads, the one that calls first: something is done to what passes between them.
    #[schemars(with = "Option<Vec<String>>")]
    pub(super) between: Option<Spanned<Vec<String>>>,
    /// A header that is taken out of what passes.
    #[schemars(with = "Option<String>")]
    pub(super) drop_header: Option<Spanned<String>>,
    /// A header that is put into what passes, in place of one of that name: its name and value.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub(super) set_header: Option<Spanned<BTreeMap<String, String>>>,
    /// A header whose value is put into upper case.
    #[schemars(with = "Option<String>")]
    pub(super) upper_case_header: Option<Spanned<String>>,
    /// A header that is sent twice.
    #[schemars(with = "Option<String>")]
    pub(super) double_header: Option<Spanned<String>>,
    /// What passes is delivered twice.
    #[serde(default)]
    pub(super) duplicate: bool,
    /// What passes is not delivered, and answered as if it were.
    #[serde(default)]
    pub(super) swallow: bool,
    /// Answers this HTTP status. At `collector`, services are answered so instead of having their spans taken; over gRPC by the code that
    /// stands for it there.
    #[schemars(with = "Option<u16>")]
    pub(super) status: Option<Spanned<u16>>,
    /// The collector asks services to wait so long before they come again, in whole seconds; says nothing of that when left out.
    #[schemars(with = "Option<DurationText>")]
    pub(super) retry_after: Option<Spanned<DurationText>>,
    /// Waits this long first.
    pub(super) delay: Option<DurationText>,
    /// Resets the connection instead of answering.
    #[serde(default)]
    pub(super) abort: bool,
    /// Does not answer until the caller gives up.
    #[serde(default)]
    pub(super) hang: bool,
    /// Panics in the handler.
    #[serde(default)]
    pub(super) panic: bool,
    /// Fails a share of the requests with status 500.
    #[schemars(with = "Option<ErrorRateFile>")]
    pub(super) error_rate: Option<Spanned<ErrorRateFile>>,
    /// Only the first so many tries of a request.
    pub(super) first: Option<u32>,
    /// The workload is stopped before the requests, and started again when all are judged.
    #[serde(default)]
    pub(super) stop: bool,
    /// The workload is frozen before the requests, and goes on when all are answered.
    #[serde(default)]
    pub(super) pause: bool,
    /// The workload is killed, without time to end well, after a first request has gone through it, and is up again before the
    /// scenario's own requests.
    #[serde(default)]
    pub(super) kill: bool,
    /// The workload is stopped and started again, after a first request has gone through it, before the scenario's own requests.
    #[serde(default)]
    pub(super) restart: bool,
    /// The workload has so many instances from before the requests until all are judged; only 0 can be asked for.
    #[schemars(with = "Option<u32>")]
    pub(super) scale: Option<Spanned<Whole<0, 0>>>,
    /// What acts on the workload happens when so many of the scenario's requests have been answered, while the others go on, instead of
    /// before all of them.
    #[schemars(with = "Option<u32>")]
    pub(super) after: Option<Spanned<u32>>,
    /// The intake resets the connection.
    #[serde(default)]
    pub(super) reset: bool,
    /// The intake, the collector, or what stands between two workloads, does so for the next so many requests.
    pub(super) next: Option<u32>,
    /// The intake, or the collector, does so for this long.
    #[serde(rename = "for")]
    pub(super) lasting: Option<DurationText>,
}

/// A share of requests that fail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorRateFile {
    /// 0 to 1.
    pub(super) rate: f64,
    /// Makes the choice repeatable; 0 when left out.
    #[serde(default)]
    pub(super) seed: u64,
}

/// What must hold for every request's trace.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectFile {
    /// How long after its answer a trace may take to be complete; 10s when left out.
    pub(super) within: Option<DurationText>,
    /// The tree of spans below the harness's own span, whole.
    #[schemars(with = "Option<NodeFile>")]
    pub(super) tree: Option<Spanned<NodeFile>>,
    /// Workloads or services of which each must have a span in the trace.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) services: Vec<Spanned<String>>,
    /// The services leave no span at all.
    #[serde(default)]
    pub(super) absent: bool,
    /// How many spans of a kind the trace has.
    #[serde(default)]
    #[schemars(with = "Vec<SpanCountFile>")]
    pub(super) spans: Vec<Spanned<SpanCountFile>>,
    /// How many spans of a kind the traces of all requests of the scenario have together.
    #[serde(default)]
    #[schemars(with = "Vec<SpanCountFile>")]
    pub(super) totals: Vec<Spanned<SpanCountFile>>,
    /// Workload or service at which the failure begins: the deepest span that is marked as an error, with no gap from the top of the
    /// trace down to it.
    #[schemars(with = "Option<String>")]
    pub(super) fails_at: Option<Spanned<String>>,
    /// Traces of their own that are linked with the request's, each a whole tree; others may be there.
    #[serde(default)]
    #[schemars(with = "Vec<NodeFile>")]
    pub(super) linked: Vec<Spanned<NodeFile>>,
    /// Which spans begin when others have ended.
    #[serde(default)]
    #[schemars(with = "Vec<OrderFile>")]
    pub(super) order: Vec<Spanned<OrderFile>>,
    /// Which spans run at the same time.
    #[serde(default)]
    #[schemars(with = "Vec<OverlapFile>")]
    pub(super) overlap: Vec<Spanned<OverlapFile>>,
    /// How many attempts the intake must at least have refused meanwhile: proof that an outage took place; 0 when left out.
    #[serde(default)]
    pub(super) refused_attempts: u64,
    /// How many requests of services the collectors must at least have refused meanwhile; 0 when left out.
    #[serde(default)]
    pub(super) refused_exports: u64,
    /// How many spans of all that the services ended no collector may have taken, because their senders gave them up: just so many. Not
    /// compared when left out.
    pub(super) lost_by_senders: Option<u64>,
    /// Every stage of the whole system must tell of the same number of spans, all its instances together: ended by the services and
    /// the harness, accepted by the collectors, taken by the intake.
    #[schemars(with = "Option<BalanceFile>")]
    pub(super) balance: Option<Spanned<BalanceFile>>,
    /// What the APM stats of all the scenario's requests together must say.
    #[serde(default)]
    #[schemars(with = "Vec<StatsCountFile>")]
    pub(super) stats: Vec<Spanned<StatsCountFile>>,
    /// Whether Datadog will make trace metrics of the requests, for spans that are sent to its OTLP intake: only if they are asked for
    /// (`compute_stats`). Not compared when left out.
    pub(super) trace_metrics: Option<bool>,
    /// How long the stats may take to come by themselves before the collector is stopped, which makes it send what it has;
    /// for collectors that send none when they end. No time at all when left out.
    #[schemars(with = "Option<DurationText>")]
    pub(super) stats_within: Option<Spanned<DurationText>>,
}

/// What must hold of the stages beside their balance.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BalanceFile {
    /// How many instances of the collector must at least have had spans of the services; 1 when left out.
    #[schemars(with = "Option<u32>")]
    pub(super) collector_instances: Option<Spanned<Whole<1, MAX_INSTANCES>>>,
}

/// What the stats groups that fit say together. What is left out is not compared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsCountFile {
    /// Datadog's service.
    pub(super) service: Option<String>,
    /// Span kind.
    pub(super) kind: Option<KindFile>,
    /// Datadog's operation name.
    pub(super) name: Option<String>,
    /// Datadog's resource name.
    pub(super) resource: Option<String>,
    /// Spans counted.
    pub(super) hits: u64,
    /// Those of them with an error.
    pub(super) errors: Option<u64>,
}

/// One span of the tree: exactly one of `server`, `client`, `internal`, `producer`, `consumer` says which, by workload or
/// service name. What is left out is not compared, save children: those must be listed, unless `more` is true.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeFile {
    /// A server span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(super) server: Option<Spanned<String>>,
    /// A client span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(super) client: Option<Spanned<String>>,
    /// An internal span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(super) internal: Option<Spanned<String>>,
    /// A producer span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(super) producer: Option<Spanned<String>>,
    /// A consumer span of this workload or service.
    #[schemars(with = "Option<String>")]
    pub(super) consumer: Option<Spanned<String>>,
    /// What else the span must be.
    #[serde(default)]
    pub(super) is: SpanFile,
    /// The spans below it.
    #[serde(default)]
    #[schemars(with = "Vec<NodeFile>")]
    pub(super) children: Vec<Spanned<NodeFile>>,
    /// Whether it may have children that are not listed; as the node above it when left out, and false at the top.
    pub(super) more: Option<bool>,
}

/// What a span must be, as the intake sees it. What is left out is not compared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpanFile {
    /// Datadog's operation name.
    pub(super) name: Option<String>,
    /// Datadog's resource name.
    pub(super) resource: Option<String>,
    /// Datadog's type.
    #[serde(rename = "type")]
    pub(super) span_type: Option<String>,
    /// Whether it is marked as an error.
    pub(super) error: Option<bool>,
    /// Its HTTP status code.
    pub(super) status: Option<u16>,
    /// Meta that it must have, among others: by key, the text that it must be, or conditions on it.
    #[serde(default)]
    pub(super) meta: BTreeMap<String, Condition>,
    /// Metrics that it must have, among others: by key, the number that it must be, or conditions on it.
    #[serde(default)]
    pub(super) metrics: BTreeMap<String, Condition>,
    /// Events that it must have, or must not, among others.
    #[serde(default)]
    #[schemars(with = "Vec<EventFile>")]
    pub(super) events: Vec<EventFile>,
    /// Links that it must have, or must not, among others.
    #[serde(default)]
    #[schemars(with = "Vec<LinkFile>")]
    pub(super) links: Vec<LinkFile>,
    /// Shortest duration.
    pub(super) at_least: Option<DurationText>,
    /// Longest duration.
    pub(super) at_most: Option<DurationText>,
}

/// Events of a span. What is left out is not compared.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventFile {
    /// The event's name.
    pub(super) name: Option<Condition>,
    /// What its attributes must be, by key.
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, Condition>,
    /// Exactly so many such events; at least one when left out.
    pub(super) count: Option<usize>,
}

/// Links of a span. What is left out is not compared.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkFile {
    /// Whether it leads into the same trace, or into another.
    pub(super) trace: Option<LinkedTrace>,
    /// What its attributes must be, by key.
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, Condition>,
    /// Exactly so many such links; at least one when left out.
    pub(super) count: Option<usize>,
}

/// A number of spans.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpanCountFile {
    /// Workload or service; any when left out.
    #[schemars(with = "Option<String>")]
    pub(super) at: Option<Spanned<String>>,
    /// Span kind; any when left out.
    pub(super) kind: Option<KindFile>,
    /// What else the spans must be.
    #[serde(default)]
    pub(super) is: SpanFile,
    /// Exactly so many.
    pub(super) count: Option<usize>,
    /// At least so many.
    pub(super) at_least: Option<usize>,
    /// At most so many.
    pub(super) at_most: Option<usize>,
}

/// Spans, of the request's own trace or of one that is linked with it. At least one key is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectFile {
    /// Workload or service; any when left out.
    #[schemars(with = "Option<String>")]
    pub(super) at: Option<Spanned<String>>,
    /// Span kind; any when left out.
    pub(super) kind: Option<KindFile>,
    /// What else the spans must be.
    #[serde(default)]
    pub(super) is: SpanFile,
}

/// Spans that begin when others have ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderFile {
    /// Those that end first, all of them.
    #[schemars(with = "SelectFile")]
    pub(super) first: Spanned<SelectFile>,
    /// Those that begin then, all of them.
    #[schemars(with = "SelectFile")]
    pub(super) then: Spanned<SelectFile>,
    /// Shortest time from the last end to the first beginning.
    pub(super) at_least: Option<DurationText>,
    /// Longest time between them.
    pub(super) at_most: Option<DurationText>,
}

/// Spans that run at the same time, each of `one` for a while together with each of `other`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OverlapFile {
    /// Some of them.
    #[schemars(with = "SelectFile")]
    pub(super) one: Spanned<SelectFile>,
    /// The others; the same as `one` where all of a kind run together.
    #[schemars(with = "SelectFile")]
    pub(super) other: Spanned<SelectFile>,
}

/// OpenTelemetry's span kinds.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KindFile {
    Server,
    Client,
    Internal,
    Producer,
    Consumer,
}

impl KindFile {
    /// As Datadog's `span.kind` spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Internal => "internal",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// A feature that a scenario needs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RequireFile {
    /// The feature of the collector: `apm-stats` (computes APM stats, and sends them to Datadog), `otlphttp-exporter` (has that
    /// exporter), `outage-survival` (exports within a second, and keeps what the intake did not take until it does),
    /// `stats-at-end` (sends what it has of APM stats when it ends), `scripted-refusals` (refuses services on demand).
    pub(super) collector: CollectorFeature,
    /// Why it is needed here.
    pub(super) because: String,
}

/// A rule that may fail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TolerateFile {
    /// Name of the rule.
    #[schemars(with = "String")]
    pub(super) rule: Spanned<String>,
    /// Why it may fail here.
    pub(super) because: String,
}

/// A duration such as `250ms` or `1m 30s`.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(with = "String")]
pub(super) struct DurationText(pub(super) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|error| {
            serde::de::Error::custom(format!(
                "`{text}` is not a duration ({error}); write for example 250ms, 5s or 1m"
            ))
        })
    }
}

/// A whole number that should be within bounds. What is no number is refused here, with the bounds; a number out of them by
/// [`super::load`], together with all else that is wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<const LEAST: u32, const MOST: u32>(pub(super) u32);

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self).map_err(|_| {
            serde::de::Error::custom(format!("should be a whole number from {LEAST} to {MOST}"))
        })
    }
}
