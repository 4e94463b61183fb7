//! Exporters: the end of a pipeline.
//!
//! An [`Exporter`] turns a batch into requests (pure) and sends one (network). Waiting, retrying and splitting are the same
//! for all of them: [`queue`] and [`retry`].

pub(crate) mod compression;
pub(crate) mod datadog;
pub(crate) mod debug;
mod delivery;
pub(crate) mod http_client;
pub(crate) mod otlp;
pub(crate) mod otlphttp;
pub(crate) mod queue;
mod queue_watch;
pub(crate) mod retry;

use std::future::Future;
use std::time::Duration;

use serde::Serialize;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics, Unsupported, unsupported};
use crate::trace_batch::TraceBatch;

/// Sends batches somewhere.
pub(crate) trait Exporter: Send + Sync + 'static {
    /// One request to the destination.
    type Request: Outgoing;

    /// Turns a batch into requests.
    fn requests(&self, batch: &TraceBatch) -> Prepared<Self::Request>;

    /// Returns whether it computes stats of spans, and so notifies the holds of each batch of [`Exporter::requests`] when they are sent.
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

    /// Calls `show` with each span's trace id and message, where they are in Datadog's form.
    fn show_spans(&self, _show: &mut dyn FnMut(u128, &[u8])) {}

    /// About how many bytes of memory it takes.
    fn byte_count(&self) -> usize;

    /// Cuts it into two smaller ones; `None` if it is as small as it gets.
    fn halve(self) -> Option<(Self, Self)>;
}

/// Reasons for which spans are not sent because somebody asked for it, which need not be logged.
pub(crate) const ASKED_FOR: [&str; 2] = ["sampling_priority", "ignored_resource"];

/// A batch as prepared requests.
#[derive(Debug)]
pub(crate) struct Prepared<R> {
    pub(crate) requests: Vec<R>,
    /// Spans that by the mapping's rules are not sent, by the reason's name.
    pub(crate) dropped: Vec<(&'static str, usize)>,
}

/// Response of the destination to a request that it accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Spans that it does not keep; sending them again would not help.
    pub(crate) rejected: usize,
    /// The reason, or a warning.
    pub(crate) message: String,
}

/// Error of an attempt, classified by what is done next.
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
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
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
    const KINDS: &'static [&'static str] =
        &["datadog", "debug", "otlp", "otlp_grpc", "otlp_http", "otlphttp"];
    const UNSUPPORTED: Unsupported = unsupported::EXPORTERS;

    fn decode(kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        match kind {
            "debug" => debug::Config::decode(diagnostics).map(Self::Debug),
            // The Collector knows both names, and writes `otlp_grpc` and `otlp_http` today.
            "otlp" | "otlp_grpc" => otlp::Config::decode(diagnostics).map(Box::new).map(Self::Otlp),
            "otlphttp" | "otlp_http" => {
                otlphttp::Config::decode(diagnostics).map(Box::new).map(Self::OtlpHttp)
            }
            _ => datadog::Config::decode(diagnostics).map(Box::new).map(Self::Datadog),
        }
    }
}
