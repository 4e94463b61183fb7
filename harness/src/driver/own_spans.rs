//! The harness's own client spans, exported through the collector.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use tonic::metadata::MetadataMap;

use super::{DriverError, grpc};
use crate::{
    case::{Case, DRIVER_SERVICE, Outcome},
    scenario::Method,
};

/// The header of requests that carry the harness's own spans.
pub(crate) const OWN_HEADER: &str = "x-tracecheck-own";
/// Longest wait for the collector to take one of the harness's own spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// The collector's endpoint for the harness's own spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtlpEndpoint {
    /// OTLP/gRPC at this base URL.
    Grpc(String),
    /// OTLP/HTTP at this base URL.
    Http(String),
}

/// Exporters of the harness's own spans.
#[derive(Debug)]
pub(super) struct OwnSpans {
    run_id: String,
    /// One for each instance of the collector, used in turn.
    exporters: Vec<Path>,
    /// How many spans were to be exported so far.
    turns: AtomicUsize,
}

/// The way to one instance of the collector.
#[derive(Debug)]
struct Path {
    exporter: SpanExporter,
    /// Spans that it said OK to.
    exported: AtomicU64,
    /// Spans that it did not say OK to in time: it may have taken them all the same.
    undecided: AtomicU64,
}

impl OwnSpans {
    /// Sets up an exporter to each endpoint.
    pub(super) fn new(otlp: &[OtlpEndpoint], run_id: String) -> Result<Self, DriverError> {
        let path = |otlp| {
            Ok(Path {
                exporter: exporter(otlp)?,
                exported: AtomicU64::new(0),
                undecided: AtomicU64::new(0),
            })
        };
        let exporters = otlp.iter().map(path).collect::<Result<_, DriverError>>()?;
        Ok(Self { run_id, exporters, turns: AtomicUsize::new(0) })
    }

    /// How many of its own spans each instance of the collector took.
    pub(super) fn exported(&self) -> Vec<u64> {
        self.exporters.iter().map(|path| path.exported.load(Ordering::Relaxed)).collect()
    }

    /// Returns how many spans of its own were exported without an OK in time, so that they may or may not have been taken.
    pub(super) fn undecided(&self) -> u64 {
        self.exporters.iter().map(|path| path.undecided.load(Ordering::Relaxed)).sum()
    }

    /// Exports the client span of a case; returns whether the collector answered OK.
    pub(super) async fn export(
        &self,
        case: &Case,
        url: &str,
        start_time: SystemTime,
        end_time: SystemTime,
    ) -> bool {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let Some(path) = self.exporters.get(turn % self.exporters.len().max(1)) else {
            return false;
        };
        let mut attributes = vec![KeyValue::new("tracecheck.run.id", self.run_id.clone())];
        let mut name = case.method.name().to_owned();
        let is_grpc = case.method == Method::Grpc;
        match rpc_of(url).filter(|_| is_grpc) {
            Some((service, method)) => {
                name = format!("{service}/{method}");
                attributes.extend([
                    KeyValue::new("rpc.system", "grpc"),
                    KeyValue::new("rpc.service", service),
                    KeyValue::new("rpc.method", method),
                ]);
            }
            None => attributes.extend([
                KeyValue::new("http.request.method", case.method.name()),
                KeyValue::new("url.full", url.to_owned()),
            ]),
        }
        if let Ok(url) = reqwest::Url::parse(url) {
            attributes.extend(
                url.host_str().map(|host| KeyValue::new("server.address", host.to_owned())),
            );
            attributes.extend(
                url.port_or_known_default()
                    .map(|port| KeyValue::new("server.port", i64::from(port))),
            );
        }
        // Client spans are errors from 400 up, by OpenTelemetry's HTTP conventions.
        let status = match &case.outcome {
            Outcome::Response { status, .. } if is_grpc => {
                attributes.push(KeyValue::new("rpc.grpc.status_code", i64::from(*status)));
                if *status == 0 { Status::Unset } else { Status::error("") }
            }
            Outcome::Response { status, .. } => {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(*status)));
                if *status >= 400 {
                    attributes.push(KeyValue::new("error.type", status.to_string()));
                    Status::error("")
                } else {
                    Status::Unset
                }
            }
            Outcome::Unobserved { .. } => Status::Unset,
            Outcome::Failed { reason } => {
                attributes.push(KeyValue::new("error.type", "no_answer"));
                Status::error(reason.clone())
            }
        };
        let span = SpanData {
            span_context: SpanContext::new(
                case.trace_id.0.into(),
                case.driver_span.0.into(),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: opentelemetry::trace::SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Client,
            name: name.into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder(DRIVER_SERVICE)
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        };
        let exported = path.exporter.export(vec![span]);
        let exported = tokio::time::timeout(EXPORT_TIMEOUT, exported).await;
        let taken = matches!(exported, Ok(Ok(())));
        let counter = if taken { &path.exported } else { &path.undecided };
        counter.fetch_add(1, Ordering::Relaxed);
        taken
    }
}

fn exporter(otlp: &OtlpEndpoint) -> Result<SpanExporter, DriverError> {
    let (built, endpoint) = match otlp {
        OtlpEndpoint::Grpc(url) => {
            let own = HeaderMap::from_iter([(
                HeaderName::from_static(OWN_HEADER),
                HeaderValue::from_static("1"),
            )]);
            let builder = SpanExporter::builder()
                .with_tonic()
                .with_metadata(MetadataMap::from_headers(own))
                .with_endpoint(url)
                .with_timeout(EXPORT_TIMEOUT);
            (builder.build(), url)
        }
        OtlpEndpoint::Http(url) => {
            let traces = format!("{url}/v1/traces");
            let builder = SpanExporter::builder()
                .with_http()
                .with_headers(HashMap::from([(OWN_HEADER.to_owned(), "1".to_owned())]))
                .with_endpoint(traces)
                .with_timeout(EXPORT_TIMEOUT);
            (builder.build(), url)
        }
    };
    let mut exporter = built.map_err(|error| DriverError::Exporter {
        endpoint: endpoint.clone(),
        reason: crate::chain_of(&error),
    })?;
    exporter.set_resource(&Resource::builder_empty().with_service_name(DRIVER_SERVICE).build());
    Ok(exporter)
}

/// Service and method of the URL of a call.
fn rpc_of(url: &str) -> Option<(String, String)> {
    let url = reqwest::Url::parse(url).ok()?;
    let (service, method) = grpc::parts(url.path()).ok()?;
    Some((service.to_owned(), method.to_owned()))
}
