//! The OpenTelemetry SDK of one app: tracer, propagators, exporter, and the flush at the end.
//!
//! There is no global state: several apps can live in one process, each with its own service name and exporter.
//! The OTLP exporter itself also looks at the process's `OTEL_EXPORTER_OTLP_*` variables where its builder was given
//! nothing; the program passes exactly those in, so only a library user who sets both could see a difference.

mod console;
mod delivery;
mod otlp;
mod xray;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global::BoxedTracer;
use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::trace::noop::NoopTracer;
use opentelemetry::{Context, InstrumentationScope, KeyValue, TraceId};
use opentelemetry_aws::trace::XrayIdGenerator;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, Sampler,
    SdkTracerProvider, SpanExporter,
};
use opentelemetry_semantic_conventions::{SCHEMA_URL, attribute as semconv};
use reqwest::header::HeaderMap;

use crate::StartError;
use crate::ledger::{Ledger, LedgerLimits, LedgerProcessor};
use crate::settings::telemetry::{
    BatchSettings, ExporterSettings, PropagatorName, RootSampler, SamplerSettings,
    TelemetrySettings,
};
use delivery::{Delivery, Watched};

/// One app's tracing.
#[derive(Debug)]
pub(crate) struct Telemetry {
    tracer: BoxedTracer,
    /// `None` where the SDK is disabled.
    provider: Option<SdkTracerProvider>,
    propagator: TextMapCompositePropagator,
    /// Trace ids are shown in X-Ray's form.
    xray_ids: bool,
    delivery: Option<Arc<Delivery>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) service: String,
    pub(crate) instance_id: String,
}

impl Telemetry {
    /// Sets the SDK up; needs a tokio runtime, on which the gRPC exporter's connection lives.
    pub(crate) fn start(
        settings: &TelemetrySettings,
        limits: LedgerLimits,
    ) -> Result<Self, StartError> {
        let ledger = Arc::new(Ledger::new(limits));
        let (resource, service, instance_id) = make_resource(&settings.resource);
        let xray = settings.propagators.contains(&PropagatorName::Xray);
        let propagator = make_propagator(&settings.propagators);
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(SCHEMA_URL)
            .build();

        let mut delivery = None;
        let mut provider = None;
        let tracer = if settings.disabled {
            BoxedTracer::new(Box::new(NoopTracer::new()))
        } else {
            let mut builder = SdkTracerProvider::builder()
                .with_resource(resource)
                .with_sampler(make_sampler(settings.sampler))
                .with_max_attributes_per_span(settings.limits.attributes)
                .with_max_events_per_span(settings.limits.events)
                .with_max_links_per_span(settings.limits.links)
                // First, so that a span is in the ledger before anybody can receive it.
                .with_span_processor(LedgerProcessor(Arc::clone(&ledger)));
            builder = match xray {
                true => builder.with_id_generator(XrayIdGenerator::default()),
                false => builder.with_id_generator(RandomIdGenerator::default()),
            };
            let watch = Arc::new(Delivery::default());
            match &settings.exporter {
                ExporterSettings::Otlp(otlp) => {
                    let exporter = otlp::make_exporter(otlp, settings.batch.export_timeout)?;
                    builder = builder.with_span_processor(make_processor(
                        exporter,
                        settings.batch,
                        &watch,
                    ));
                    delivery = Some(watch);
                }
                ExporterSettings::Console => {
                    let exporter = console::ConsoleExporter::default();
                    builder = builder.with_span_processor(make_processor(
                        exporter,
                        settings.batch,
                        &watch,
                    ));
                    delivery = Some(watch);
                }
                ExporterSettings::None => {}
            }
            let sdk = builder.build();
            let tracer = BoxedTracer::new(Box::new(sdk.tracer_with_scope(scope)));
            provider = Some(sdk);
            tracer
        };
        let xray_ids = xray && !settings.propagators.contains(&PropagatorName::TraceContext);
        Ok(Self { tracer, provider, propagator, xray_ids, delivery, ledger, service, instance_id })
    }

    pub(crate) fn tracer(&self) -> &BoxedTracer {
        &self.tracer
    }

    /// Returns whether spans are created at all.
    pub(crate) fn enabled(&self) -> bool {
        self.provider.is_some()
    }

    /// Reads the caller's context from a request's headers.
    pub(crate) fn extract(&self, headers: &HeaderMap) -> Context {
        self.propagator
            .extract_with_context(&Context::new(), &opentelemetry_http::HeaderExtractor(headers))
    }

    /// Writes the context into the headers of a request to be sent.
    pub(crate) fn inject(&self, context: &Context, headers: &mut HeaderMap) {
        self.propagator.inject_context(context, &mut opentelemetry_http::HeaderInjector(headers));
    }

    /// Writes a trace id as responses show it: 32 hex digits, or X-Ray's `1-8-24` where only X-Ray's header travels;
    /// `None` where there is no trace.
    pub(crate) fn trace_id_text(&self, trace_id: TraceId) -> Option<String> {
        let text = (trace_id != TraceId::INVALID).then(|| trace_id.to_string())?;
        Some(match self.xray_ids {
            true => format!("1-{}-{}", &text[..8], &text[8..]),
            false => text,
        })
    }

    /// Exports what is left and ends the SDK. Blocks for at most about `timeout`.
    ///
    /// # Errors
    ///
    /// Spans that ended and that the exporter could not deliver, now or at any time before.
    pub(crate) fn shut_down(&self, timeout: Duration) -> Result<(), FlushError> {
        let Some(provider) = &self.provider else { return Ok(()) };
        let outcome = provider.shutdown_with_timeout(timeout);
        let Some(delivery) = &self.delivery else { return Ok(()) };
        match outcome {
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => {}
            Err(OTelSdkError::Timeout(_)) => return Err(FlushError::TimedOut(timeout)),
            Err(OTelSdkError::InternalFailure(reason)) => return Err(FlushError::Failed(reason)),
        }
        let of = self.ledger.totals().sampled_ended;
        match of.saturating_sub(delivery.accepted()) {
            0 => Ok(()),
            lost => Err(FlushError::Lost { lost, of, reason: delivery.last_error() }),
        }
    }
}

/// Spans that were not delivered.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The exporter was still busy at the deadline.
    #[error("the last spans were not exported within {0:?}; is the collector reachable?")]
    TimedOut(Duration),
    /// The SDK could not be shut down.
    #[error("the last spans were not exported: {0}")]
    Failed(String),
    /// The exporter gave up on some, or its queue was full.
    #[error("{lost} of {of} sampled spans were not delivered: {reason}")]
    Lost {
        /// Spans lost since the start.
        lost: u64,
        /// Sampled spans ended since the start.
        of: u64,
        /// The last thing that went wrong.
        reason: String,
    },
}

fn make_processor<E>(
    exporter: E,
    settings: BatchSettings,
    delivery: &Arc<Delivery>,
) -> BatchSpanProcessor
where
    E: SpanExporter + 'static,
{
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(settings.max_queue_size)
        .with_max_export_batch_size(settings.max_export_batch_size)
        .with_scheduled_delay(settings.schedule_delay)
        .build();
    BatchSpanProcessor::builder(Watched::new(exporter, Arc::clone(delivery)))
        .with_batch_config(config)
        .build()
}

fn make_sampler(settings: SamplerSettings) -> Sampler {
    let root = match settings.root {
        RootSampler::AlwaysOn => Sampler::AlwaysOn,
        RootSampler::AlwaysOff => Sampler::AlwaysOff,
        RootSampler::TraceIdRatio(ratio) => Sampler::TraceIdRatioBased(ratio),
    };
    if settings.parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
}

fn make_propagator(names: &[PropagatorName]) -> TextMapCompositePropagator {
    TextMapCompositePropagator::new(
        names
            .iter()
            .map(|name| -> Box<dyn TextMapPropagator + Send + Sync> {
                match name {
                    PropagatorName::TraceContext => Box::new(TraceContextPropagator::new()),
                    PropagatorName::Baggage => Box::new(BaggagePropagator::new()),
                    PropagatorName::Xray => Box::new(xray::Xray::default()),
                }
            })
            .collect(),
    )
}

/// Returns the resource with its service name and instance id; both have a fallback.
fn make_resource(attributes: &[(String, String)]) -> (Resource, String, String) {
    let value = |key: &str| {
        attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    };
    // The fallback that the resource semantic conventions prescribe.
    let service =
        value(semconv::SERVICE_NAME).unwrap_or_else(|| "unknown_service:sample-app".to_owned());
    let instance_id = value(semconv::SERVICE_INSTANCE_ID).unwrap_or_else(random_instance_id);
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(
            attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
        )
        .with_attribute(KeyValue::new(semconv::SERVICE_NAME, service.clone()))
        .with_attribute(KeyValue::new(semconv::SERVICE_INSTANCE_ID, instance_id.clone()))
        .build();
    (resource, service, instance_id)
}

/// Makes a version 4 UUID (RFC 9562) from the SDK's source of random ids.
fn random_instance_id() -> String {
    let mut bytes = RandomIdGenerator::default().new_trace_id().to_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = TraceId::from_bytes(bytes).to_string();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_a_random_uuid() {
        let id = random_instance_id();
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, random_instance_id());
    }

    #[test]
    fn a_given_instance_id_and_service_name_are_kept() {
        let given = [("service.instance.id", "i-1"), ("service.name", "shop")];
        let (resource, service, instance_id) =
            make_resource(&given.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!((service.as_str(), instance_id.as_str()), ("shop", "i-1"));
        assert_eq!(resource.get(&"service.name".into()), Some("shop".into()));
        assert_eq!(resource.get(&"telemetry.sdk.language".into()), Some("rust".into()));
    }
}
