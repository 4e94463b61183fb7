//! What happens to batches at the end of a pipeline.
//!
//! An [`Exporter`] turns a batch into requests (pure) and sends one (network). Waiting, retrying and splitting are the same
//! for all of them: [`queue`] and [`retry`].

pub(crate) mod compression;
pub(crate) mod datadog;
pub(crate) mod debug;
pub(crate) mod http_client;
pub(crate) mod otlp;
pub(crate) mod otlphttp;
pub(crate) mod queue;
mod queue_watch;
pub(crate) mod retry;

use std::future::Future;
use std::time::Duration;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics};
use crate::trace_batch::TraceBatch;

/// Sends batches somewhere.
pub(crate) trait Exporter: Send + Sync + 'static {
    /// What is sent at once.
    type Request: Outgoing;

    /// Turns a batch into requests.
    fn requests(&self, batch: &TraceBatch) -> Prepared<Self::Request>;

    /// Whether it computes stats of spans, and so tells the holds of each batch of [`Exporter::requests`] when they are sent.
    fn has_stats(&self) -> bool {
        false
    }

    /// Computes stats of spans that were sent before, as [`Exporter::requests`] does.
    fn recount(&self, _batch: &TraceBatch) {}

    /// Makes one attempt.
    fn send(
        &self,
        request: &Self::Request,
    ) -> impl Future<Output = Result<Sent, ExportError>> + Send;
}

/// A request of an exporter, ready to be sent any number of times.
pub(crate) trait Outgoing: Sized + Send + Sync + 'static {
    /// How many spans it carries.
    fn span_count(&self) -> usize;

    /// The trace id of each span.
    fn trace_ids(&self) -> Vec<u128>;

    /// About how many bytes of memory it takes.
    fn byte_count(&self) -> usize;

    /// Cuts it into two smaller ones; `None` if it is as small as it gets.
    fn halve(self) -> Option<(Self, Self)>;
}

/// Reasons for which spans are not sent because somebody asked for it, who need not be told in the log.
pub(crate) const ASKED_FOR: [&str; 2] = ["sampling_priority", "ignored_resource"];

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Prepared<R> {
    pub(crate) requests: Vec<R>,
    /// Spans that by the mapping's rules are not sent, by the reason's name.
    pub(crate) dropped: Vec<(&'static str, usize)>,
}

/// What the receiver says about a request that it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Spans that it does not keep; sending them again would not help.
    pub(crate) rejected: usize,
    /// Why, or a warning.
    pub(crate) message: String,
}

/// Why an attempt failed, as far as it matters to what is done next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExportError {
    /// It may work later, but not before `after`.
    #[error("{reason}")]
    Retryable {
        reason: String,
        after: Option<Duration>,
        /// Whether the receiver may have the spans all the same: it did not answer, or a gateway did instead.
        is_doubtful: bool,
    },
    /// A smaller request may work.
    #[error("{reason}")]
    TooLarge { reason: String },
    /// It will not work, and the reason says what to do.
    #[error("{reason}")]
    Permanent { reason: String },
}

/// The settings of an exporter.
#[derive(Debug, Clone)]
pub(crate) enum ExporterConfig {
    Datadog(Box<datadog::Config>),
    Debug(debug::Config),
    Otlp(Box<otlp::Config>),
    OtlpHttp(Box<otlphttp::Config>),
}

impl ExporterConfig {
    /// The settings of its queue, if it has any.
    pub(crate) fn sending_queue(&self) -> Option<&queue::Config> {
        match self {
            Self::Datadog(config) => Some(&config.sending_queue),
            Self::Otlp(config) => Some(&config.sending_queue),
            Self::OtlpHttp(config) => Some(&config.sending_queue),
            Self::Debug(_) => None,
        }
    }
}

impl Component for ExporterConfig {
    const SECTION: &'static str = "exporters";
    const NOUN: &'static str = "exporter";
    const KINDS: &'static [&'static str] = &["datadog", "debug", "otlp", "otlphttp"];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("otlp_grpc", "use `otlp`"),
        ("otlp_http", "use `otlphttp`"),
        ("awsxray", "this collector sends to Datadog; run another one beside it for X-Ray"),
        ("logging", "it was renamed; use `debug`"),
        ("nop", "leave it out"),
        ("file", "use `debug`, or send to another collector by `otlp` for it"),
        ("loadbalancing", "put a load balancer in front of the receivers and name it in `otlp`"),
        (
            "prometheus",
            "this collector carries traces only; the collector's own metrics are served by `service.telemetry.metrics`",
        ),
        (
            "prometheusremotewrite",
            "this collector carries traces only; the collector's own metrics are served by `service.telemetry.metrics`",
        ),
        (
            "awsemf",
            "this collector carries traces only; the collector's own metrics are served by `service.telemetry.metrics`",
        ),
        (
            "carbon",
            "this collector carries traces only; the collector's own metrics are served by `service.telemetry.metrics`",
        ),
        (
            "influxdb",
            "this collector carries traces only; the collector's own metrics are served by `service.telemetry.metrics`",
        ),
        (
            "signalfx",
            "this collector carries traces only; the collector's own metrics are served by `service.telemetry.metrics`",
        ),
        ("loki", "this collector carries traces only; run another one for logs"),
        ("awscloudwatchlogs", "this collector carries traces only; run another one for logs"),
        ("syslog", "this collector carries traces only; run another one for logs"),
        ("splunk_hec", "this collector carries traces only; run another one for logs"),
        ("jaeger", "it speaks OTLP itself; use `otlp` or `otlphttp`"),
        ("zipkin", "it speaks OTLP itself; use `otlp` or `otlphttp`"),
        ("opencensus", "it speaks OTLP itself; use `otlp` or `otlphttp`"),
        (
            "honeycombmarker",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "sentry",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "kafka",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "pulsar",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "rabbitmq",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "awss3",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "awskinesis",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "elasticsearch",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "opensearch",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "clickhouse",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "cassandra",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "googlecloud",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "googlecloudpubsub",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "azuremonitor",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "azuredataexplorer",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "azureblob",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "logzio",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "coralogix",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "sumologic",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "dataset",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "mezmo",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "tinybird",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "otelarrow",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "stef",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "sapm",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "alibabacloud_logservice",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "tencentcloud_logservice",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
        (
            "logicmonitor",
            "this collector sends to Datadog and by OTLP; send to another one by `otlp` for it",
        ),
    ];

    fn decode(kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        match kind {
            "debug" => debug::Config::decode(diagnostics).map(Self::Debug),
            "otlp" => otlp::Config::decode(diagnostics).map(Box::new).map(Self::Otlp),
            "otlphttp" => otlphttp::Config::decode(diagnostics).map(Box::new).map(Self::OtlpHttp),
            _ => datadog::Config::decode(diagnostics).map(Box::new).map(Self::Datadog),
        }
    }
}
