//! The `console` exporter: a line of JSON per span, for people.
//!
//! On standard error, for standard output is kept for the line with the app's listen address.

use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use opentelemetry::trace::Status;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::{Map, Value, json};

/// Writes spans to standard error.
#[derive(Debug, Default)]
pub(super) struct ConsoleExporter {
    resource: Map<String, Value>,
}

impl SpanExporter for ConsoleExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut text = String::new();
        for span in &batch {
            text.push_str(&self.render(span).to_string());
            text.push('\n');
        }
        io::stderr()
            .write_all(text.as_bytes())
            .map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource
            .iter()
            .map(|(key, value)| (key.to_string(), json!(value.to_string())))
            .collect();
    }
}

impl ConsoleExporter {
    fn render(&self, span: &SpanData) -> Value {
        let micros = |time: std::time::SystemTime| {
            time.duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
        };
        let attributes = |attributes: &[opentelemetry::KeyValue]| {
            attributes
                .iter()
                .map(|pair| (pair.key.to_string(), json!(pair.value.to_string())))
                .collect::<Map<_, _>>()
        };
        let events = span.events.iter();
        json!({
            "trace_id": span.span_context.trace_id().to_string(),
            "span_id": span.span_context.span_id().to_string(),
            "parent_span_id": span.parent_span_id.to_string(),
            "name": span.name,
            "kind": format!("{:?}", span.span_kind).to_lowercase(),
            "start_unix_us": micros(span.start_time),
            "duration_us": micros(span.end_time).saturating_sub(micros(span.start_time)),
            "status": match &span.status {
                Status::Unset => "unset".to_owned(),
                Status::Ok => "ok".to_owned(),
                Status::Error { description } => format!("error: {description}"),
            },
            "attributes": attributes(&span.attributes),
            "events": events
                .map(|event| json!({ "name": event.name, "attributes": attributes(&event.attributes) }))
                .collect::<Vec<_>>(),
            "resource": self.resource,
        })
    }
}
