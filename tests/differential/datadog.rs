//! Datadog's trace payload in an order-free form: for each span a flat map from field to value, with the fields of
//! the chunk, tracer payload and agent payload around it.
//!
//! The messages have bytes in place of strings, since the reference sends text that is not UTF-8. The tags are those
//! of Datadog's `agent_payload.proto`, `tracer_payload.proto` and `span.proto`. Empty and zero fields are left out, as
//! protobuf does; the sender's version is never compared.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};

use harness::intake::attempt::Attempt;
use prost::Message;

/// The attribute that distinguishes a span from all others of a run.
pub(crate) const MARKER: &str = "differential.marker";

/// Returns whether a key of meta or metrics is one that the translation makes.
pub(crate) fn is_ours(key: &str) -> bool {
    key.starts_with('_')
        || ["otel.", "http.", "error.", "w3c.", "sql.", "db."]
            .iter()
            .any(|part| key.starts_with(part))
}

/// One span, with what surrounds it.
pub(crate) type Fields = BTreeMap<String, Value>;

/// The value of a field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Text(Vec<u8>),
    Int(i128),
    /// The bits of a double; one pattern for all NaNs.
    Double(u64),
}

impl Value {
    pub(crate) fn double(value: f64) -> Self {
        Self::Double(if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", readable(text)),
            Self::Int(value) => write!(f, "{value}"),
            Self::Double(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct AgentPayload {
    #[prost(bytes = "vec", tag = "1")]
    host_name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    env: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    tracer_payloads: Vec<TracerPayload>,
    #[prost(message, repeated, tag = "6")]
    tags: Vec<TextEntry>,
    #[prost(double, tag = "8")]
    target_tps: f64,
    #[prost(double, tag = "9")]
    error_tps: f64,
    #[prost(bool, tag = "10")]
    rare_sampler_enabled: bool,
    #[prost(bytes = "vec", repeated, tag = "11")]
    idx_tracer_payloads: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct TracerPayload {
    #[prost(bytes = "vec", tag = "1")]
    container_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    language_name: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    language_version: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    tracer_version: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    runtime_id: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    chunks: Vec<TraceChunk>,
    #[prost(message, repeated, tag = "7")]
    tags: Vec<TextEntry>,
    #[prost(bytes = "vec", tag = "8")]
    env: Vec<u8>,
    #[prost(bytes = "vec", tag = "9")]
    hostname: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    app_version: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TraceChunk {
    #[prost(int32, tag = "1")]
    priority: i32,
    #[prost(bytes = "vec", tag = "2")]
    origin: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    spans: Vec<Span>,
    #[prost(message, repeated, tag = "4")]
    tags: Vec<TextEntry>,
    #[prost(bool, tag = "5")]
    dropped_trace: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    service: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    resource: Vec<u8>,
    #[prost(uint64, tag = "4")]
    trace_id: u64,
    #[prost(uint64, tag = "5")]
    span_id: u64,
    #[prost(uint64, tag = "6")]
    parent_id: u64,
    #[prost(int64, tag = "7")]
    start: i64,
    #[prost(int64, tag = "8")]
    duration: i64,
    #[prost(int32, tag = "9")]
    error: i32,
    #[prost(message, repeated, tag = "10")]
    meta: Vec<TextEntry>,
    #[prost(message, repeated, tag = "11")]
    metrics: Vec<NumberEntry>,
    #[prost(bytes = "vec", tag = "12")]
    span_type: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    meta_struct: Vec<TextEntry>,
    #[prost(bytes = "vec", repeated, tag = "14")]
    links: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "15")]
    events: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct TextEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct NumberEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(double, tag = "2")]
    value: f64,
}

/// The spans of a trace payload, by their marker; empty where they have none.
///
/// # Errors
///
/// When the body is no gzip'd, zstd'd or plain `AgentPayload`.
pub(crate) fn spans(attempt: &Attempt) -> io::Result<Vec<(String, Fields)>> {
    let payload = AgentPayload::decode(&*decompress(attempt)?).map_err(io::Error::other)?;
    let mut spans = Vec::new();
    let mut agent = Writer::default();
    agent.text("agent_payload.hostName", &payload.host_name);
    agent.text("agent_payload.env", &payload.env);
    agent.double("agent_payload.targetTPS", payload.target_tps);
    agent.double("agent_payload.errorTPS", payload.error_tps);
    agent.int("agent_payload.rareSamplerEnabled", payload.rare_sampler_enabled.into());
    agent.int("agent_payload.idxTracerPayloads", payload.idx_tracer_payloads.len() as i128);
    agent.entries("agent_payload.tags", &payload.tags);
    for tracer_payload in payload.tracer_payloads {
        let mut tracer = agent.clone();
        tracer.text("tracer_payload.containerID", &tracer_payload.container_id);
        tracer.text("tracer_payload.languageName", &tracer_payload.language_name);
        tracer.text("tracer_payload.languageVersion", &tracer_payload.language_version);
        tracer.text("tracer_payload.tracerVersion", &tracer_payload.tracer_version);
        tracer.text("tracer_payload.runtimeID", &tracer_payload.runtime_id);
        tracer.text("tracer_payload.env", &tracer_payload.env);
        tracer.text("tracer_payload.hostname", &tracer_payload.hostname);
        tracer.text("tracer_payload.appVersion", &tracer_payload.app_version);
        tracer.entries("tracer_payload.tags", &tracer_payload.tags);
        for trace_chunk in tracer_payload.chunks {
            let mut chunk = tracer.clone();
            chunk.int("chunk.priority", trace_chunk.priority.into());
            chunk.text("chunk.origin", &trace_chunk.origin);
            chunk.int("chunk.droppedTrace", trace_chunk.dropped_trace.into());
            chunk.entries("chunk.tags", &trace_chunk.tags);
            let mut others: Vec<_> = trace_chunk.spans.iter().map(Span::place).collect();
            others.sort_unstable();
            chunk.text("chunk_spans", others.join(",").as_bytes());
            let chunk_spans = trace_chunk.spans.iter();
            spans.extend(chunk_spans.map(|span| (span.marker(), span.fields(chunk.clone()))));
        }
    }
    Ok(spans)
}

impl Span {
    fn marker(&self) -> String {
        let marker = self.meta.iter().find(|entry| entry.key == MARKER.as_bytes());
        marker.map_or_else(String::new, |entry| readable(&entry.value))
    }

    /// Names the span within its chunk.
    fn place(&self) -> String {
        let marker = self.marker();
        if marker.is_empty() { self.span_id.to_string() } else { marker }
    }

    fn fields(&self, mut fields: Writer) -> Fields {
        fields.text("span.service", &self.service);
        fields.text("span.name", &self.name);
        fields.text("span.resource", &self.resource);
        fields.int("span.traceID", self.trace_id.into());
        fields.int("span.spanID", self.span_id.into());
        fields.int("span.parentID", self.parent_id.into());
        fields.int("span.start", self.start.into());
        fields.int("span.duration", self.duration.into());
        fields.int("span.error", self.error.into());
        fields.text("span.type", &self.span_type);
        fields.entries("span.meta", &self.meta);
        for entry in &self.metrics {
            let path = format!("span.metrics.{}", readable(&entry.key));
            fields.0.insert(path, Value::double(entry.value));
        }
        fields.entries("span.meta_struct", &self.meta_struct);
        fields.int("span.spanLinks", self.links.len() as i128);
        fields.int("span.spanEvents", self.events.len() as i128);
        fields.0
    }
}

#[derive(Clone, Default)]
struct Writer(Fields);

impl Writer {
    fn text(&mut self, path: &str, text: &[u8]) {
        if !text.is_empty() {
            self.0.insert(path.to_owned(), Value::Text(text.to_vec()));
        }
    }

    fn int(&mut self, path: &str, value: i128) {
        if value != 0 {
            self.0.insert(path.to_owned(), Value::Int(value));
        }
    }

    fn double(&mut self, path: &str, value: f64) {
        if value != 0.0 {
            self.0.insert(path.to_owned(), Value::double(value));
        }
    }

    fn entries(&mut self, path: &str, entries: &[TextEntry]) {
        for entry in entries {
            let mut value = entry.value.clone();
            if entry.key == b"_dd.tags.container" {
                // The order of these is random in the reference.
                let mut tags: Vec<_> = value.split(|byte| *byte == b',').collect();
                tags.sort_unstable();
                value = tags.join(&b","[..]);
            }
            self.0.insert(format!("{path}.{}", readable(&entry.key)), Value::Text(value));
        }
    }
}

/// The body of an attempt without its content encoding.
pub(crate) fn decompress(attempt: &Attempt) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match attempt.headers.get("content-encoding").map_or("", String::as_str) {
        "gzip" => flate2::read::GzDecoder::new(&*attempt.body).read_to_end(&mut body)?,
        "zstd" => zstd::Decoder::new(&*attempt.body)?.read_to_end(&mut body)?,
        "" | "identity" => return Ok(attempt.body.clone()),
        other => return Err(io::Error::other(format!("content encoding {other}"))),
    };
    Ok(body)
}

/// Text as it is; what is not UTF-8 as `\xNN`.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
