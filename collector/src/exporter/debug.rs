//! Writes batches to the log, for people.

pub(crate) mod config;

pub(crate) use config::{Config, Verbosity};

use super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use crate::trace_batch::{AnyValue, TraceBatch};

/// The exporter.
pub(crate) struct Debug {
    config: Config,
    id: String,
}

impl Debug {
    pub(crate) fn new(config: Config, id: &str) -> Self {
        Self { config, id: id.into() }
    }
}

/// Log lines of one batch.
pub(crate) struct Lines {
    spans: usize,
    resources: usize,
    lines: Vec<String>,
    trace_ids: Vec<u128>,
}

impl Outgoing for Lines {
    fn span_count(&self) -> usize {
        self.spans
    }

    fn trace_ids(&self) -> Vec<u128> {
        self.trace_ids.clone()
    }

    fn byte_count(&self) -> usize {
        self.lines.iter().map(String::len).sum()
    }

    fn halve(self) -> Option<(Self, Self)> {
        None
    }
}

impl Exporter for Debug {
    type Request = Lines;

    fn requests(&self, batch: &TraceBatch) -> Prepared<Lines> {
        let mut lines = Vec::new();
        if self.config.verbosity != Verbosity::Basic {
            for resource in batch.resources() {
                let detailed = self.config.verbosity == Verbosity::Detailed;
                let attributes = pairs(resource.attributes().iter());
                lines.push(format!("resource {attributes}"));
                for (scope, span) in resource.spans() {
                    let mut line = format!(
                        "span {:?} trace_id={:032x} span_id={:016x} parent_span_id={:016x} kind={:?} status={:?} duration={:?} scope={:?}",
                        String::from_utf8_lossy(span.name),
                        span.trace_id,
                        span.span_id,
                        span.parent_span_id,
                        span.kind,
                        span.status.code,
                        std::time::Duration::from_nanos(span.end.saturating_sub(span.start)),
                        String::from_utf8_lossy(scope.name),
                    );
                    if detailed {
                        line.push(' ');
                        line.push_str(&pairs(span.attributes().iter()));
                        for event in span.events() {
                            let name = String::from_utf8_lossy(event.name);
                            line.push_str(&format!(" event={name:?}"));
                        }
                        for link in span.links() {
                            line.push_str(&format!(
                                " link={:032x}:{:016x}",
                                link.trace_id, link.span_id
                            ));
                        }
                    }
                    lines.push(line);
                }
            }
        }
        let lines = Lines {
            spans: batch.span_count(),
            resources: batch.resources().len(),
            lines,
            trace_ids: batch.trace_ids().collect(),
        };
        Prepared { requests: vec![lines], dropped: Vec::new() }
    }

    async fn send(&self, lines: &Lines) -> Result<Sent, ExportError> {
        tracing::info!(
            exporter = self.id,
            resources = lines.resources,
            spans = lines.spans,
            "traces"
        );
        for line in &lines.lines {
            tracing::info!(exporter = self.id, "{line}");
        }
        Ok(Sent::default())
    }
}

fn pairs<'a>(attributes: impl Iterator<Item = (&'a [u8], AnyValue<'a>)>) -> String {
    let pair = |(key, value): (&[u8], AnyValue<'_>)| {
        format!("{}={}", String::from_utf8_lossy(key), text(&value))
    };
    attributes.map(pair).collect::<Vec<_>>().join(" ")
}

fn text(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::Empty => "null".into(),
        AnyValue::String(text) => format!("{:?}", String::from_utf8_lossy(text)),
        AnyValue::Bool(value) => value.to_string(),
        AnyValue::Int(value) => value.to_string(),
        AnyValue::Double(value) => value.to_string(),
        AnyValue::Bytes(bytes) => format!("{} bytes", bytes.len()),
        AnyValue::Array(_) => {
            let elements: Vec<_> = value.elements().map(|element| text(&element)).collect();
            format!("[{}]", elements.join(", "))
        }
        AnyValue::Map(map) => format!("{{{}}}", pairs(map.iter())),
    }
}
