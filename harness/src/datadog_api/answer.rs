//! Responses of Datadog's API, and the spans in them. Pure: bytes in, values out.
//!
//! Ids come as numbers or text, since the reference calls them unsigned 64-bit integers, which not every JSON writer can write as
//! numbers; names of fields come in two spellings, since the preview's reference and its clients differ. Unknown fields are passed
//! over: the answer may grow.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use crate::trace::{PayloadForm, Span, SpanId, TraceId};

/// An answer that could be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spans {
    /// The spans, in the order of the answer.
    pub spans: Vec<Span>,
    /// Reasons why there may be more spans, in words; empty where these are all.
    pub partial: Vec<String>,
    /// Cursor of the next page.
    pub next: Option<String>,
}

/// Error for a response that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not what Datadog's API reference describes, at `{path}`: {reason}")]
pub struct Malformed {
    /// Path in the JSON.
    pub path: String,
    /// The problem at that path.
    pub reason: String,
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Malformed> {
    // A list would do for a record of which every field may be missing.
    if body.trim_ascii_start().first() != Some(&b'{') {
        let reason = "it is not a JSON object".to_owned();
        return Err(Malformed { path: ".".to_owned(), reason });
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| Malformed {
        path: error.path().to_string(),
        reason: error.into_inner().to_string(),
    })
}

#[derive(Deserialize)]
struct TraceAnswer {
    data: TraceData,
}

#[derive(Deserialize)]
struct TraceData {
    attributes: TraceAttributes,
}

#[derive(Deserialize)]
struct TraceAttributes {
    #[serde(default, alias = "isTruncated")]
    is_truncated: bool,
    spans: Vec<TraceSpan>,
}

#[derive(Deserialize)]
struct TraceSpan {
    #[serde(rename = "traceID", alias = "trace_id", deserialize_with = "number")]
    trace_id: u64,
    #[serde(rename = "traceIDFull", alias = "trace_id_full")]
    trace_id_full: Option<String>,
    #[serde(rename = "spanID", alias = "span_id", deserialize_with = "number")]
    span_id: u64,
    #[serde(rename = "parentID", alias = "parent_id", default, deserialize_with = "number")]
    parent_id: u64,
    service: String,
    name: String,
    resource: String,
    #[serde(rename = "type", default)]
    span_type: String,
    #[serde(default)]
    error: i64,
    #[serde(rename = "startTime", alias = "start_time", alias = "start")]
    start: i64,
    #[serde(rename = "endTime", alias = "end_time")]
    end: Option<i64>,
    duration: Option<i64>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
    #[serde(default)]
    restricted: bool,
}

/// An id as a number or as its digits.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let given = Value::deserialize(deserializer)?;
    let id = match &given {
        Value::Null => Some(0),
        // A client that knows signed numbers alone writes the upper half as negative ones.
        Value::Number(number) => number.as_u64().or_else(|| number.as_i64().map(|id| id as u64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    id.ok_or_else(|| D::Error::custom(format!("{given} is not a 64-bit id")))
}

/// Reads the answer to *Get a trace by ID*; `asked` is the trace.
///
/// # Errors
///
/// When it is not of the form that the reference describes.
pub(super) fn trace(body: &[u8], asked: TraceId) -> Result<Spans, Malformed> {
    let TraceAnswer { data: TraceData { attributes } } = read(body)?;
    let mut partial = Vec::new();
    if attributes.is_truncated {
        partial.push(
            "Datadog truncated the trace, since it is too large to be returned whole (`is_truncated`)"
                .to_owned(),
        );
    }
    if attributes.spans.iter().any(|span| span.restricted) {
        partial.push("some spans are hidden from these keys (`restricted`): your organization's data access policies keep them from the application key's owner".to_owned());
    }
    let spans = attributes.spans.into_iter().map(|span| span.into_span(asked)).collect();
    Ok(Spans { spans, partial, next: None })
}

impl TraceSpan {
    fn into_span(self, asked: TraceId) -> Span {
        let full = self.trace_id_full.as_deref().and_then(|id| id.parse().ok());
        let end = self.end.unwrap_or(self.start);
        Span {
            trace_id: full.unwrap_or_else(|| full_id(self.trace_id, &self.meta, asked)),
            datadog_trace_id: self.trace_id,
            id: SpanId(self.span_id),
            parent_id: (self.parent_id != 0).then_some(SpanId(self.parent_id)),
            service: self.service,
            name: self.name,
            resource: self.resource,
            span_type: self.span_type,
            error: self.error != 0,
            start: self.start,
            duration: self.duration.unwrap_or(end - self.start).max(0),
            hostname: text(&self.meta, &["host", "_dd.hostname"]),
            env: text(&self.meta, &["env"]),
            container_id: text(&self.meta, &["container_id", "container.id"]),
            language: String::new(),
            meta: self.meta,
            metrics: self.metrics,
            priority: 1,
            dropped: false,
            form: PayloadForm::Api,
            attempt: 0,
        }
    }
}

fn text(meta: &BTreeMap<String, String>, keys: &[&str]) -> String {
    keys.iter().find_map(|key| meta.get(*key)).cloned().unwrap_or_default()
}

/// The 128 bits of a trace of which only the low half is known: those in a tag, else those that were asked for.
fn full_id(low: u64, meta: &BTreeMap<String, String>, asked: TraceId) -> TraceId {
    let reported = meta.get("otel.trace_id").and_then(|id| id.parse::<TraceId>().ok());
    match reported {
        Some(reported) => reported,
        None if asked.low() == low => asked,
        None => TraceId(u128::from(low)),
    }
}

#[derive(Deserialize)]
struct SearchAnswer {
    #[serde(default)]
    data: Vec<FoundSpan>,
    #[serde(default)]
    meta: SearchMeta,
}

#[derive(Deserialize, Default)]
struct SearchMeta {
    #[serde(default)]
    page: SearchPage,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

#[derive(Deserialize, Default)]
struct SearchPage {
    #[serde(default)]
    after: Option<String>,
}

#[derive(Deserialize)]
struct Warning {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct FoundSpan {
    attributes: FoundAttributes,
}

#[derive(Deserialize)]
struct FoundAttributes {
    trace_id: Value,
    #[serde(deserialize_with = "number")]
    span_id: u64,
    #[serde(default, deserialize_with = "number")]
    parent_id: u64,
    #[serde(default)]
    service: String,
    #[serde(default)]
    resource_name: String,
    #[serde(default)]
    operation_name: String,
    #[serde(rename = "type", default)]
    span_type: String,
    #[serde(default)]
    env: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    status: String,
    start_timestamp: String,
    end_timestamp: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    attributes: Value,
    #[serde(default)]
    custom: Value,
}

/// Reads a page of *Search spans*; `asked` are the traces that were searched for.
///
/// # Errors
///
/// When it is not of the form that the reference describes.
pub(super) fn search(body: &[u8], asked: &[TraceId]) -> Result<Spans, Malformed> {
    let SearchAnswer { data, meta } = read(body)?;
    let mut partial: Vec<String> = meta
        .warnings
        .iter()
        .map(|warning| {
            format!("Datadog's search warns: {} {}", warning.title, warning.detail)
                .trim_end()
                .to_owned()
        })
        .collect();
    if meta.status.as_deref().is_some_and(|status| status != "done") {
        partial.push("Datadog's search timed out and returned only part of the spans".to_owned());
    }
    let spans = data.into_iter().enumerate().map(|(index, found)| {
        found
            .attributes
            .into_span(asked)
            .map_err(|reason| Malformed { path: format!("data[{index}].attributes"), reason })
    });
    let next = meta.page.after.filter(|cursor| !cursor.is_empty());
    Ok(Spans { spans: spans.collect::<Result<_, _>>()?, partial, next })
}

impl FoundAttributes {
    fn into_span(self, asked: &[TraceId]) -> Result<Span, String> {
        let (mut meta, mut metrics) = (BTreeMap::new(), BTreeMap::new());
        // Tags are about where a span ran; a span's own attributes come after them and win.
        for tag in &self.tags {
            if let Some((key, value)) = tag.split_once(':') {
                meta.insert(key.to_owned(), value.to_owned());
            }
        }
        flatten("", &self.attributes, &mut meta, &mut metrics);
        flatten("", &self.custom, &mut meta, &mut metrics);
        let (trace_id, low) = searched_id(&self.trace_id, &meta, asked)?;
        let start = nanos(&self.start_timestamp)?;
        let end = self.end_timestamp.as_deref().map(nanos).transpose()?;
        let duration = metrics.get("duration").map(|nanos| *nanos as i64);
        let error = self.status == "error"
            || meta.get("status").is_some_and(|status| status == "error")
            || metrics.get("error").is_some_and(|error| *error != 0.0)
            || meta.get("error").is_some_and(|error| error == "1" || error == "true");
        let name = match self.operation_name.is_empty() {
            true => text(&meta, &["operation_name"]),
            false => self.operation_name,
        };
        Ok(Span {
            trace_id,
            datadog_trace_id: low,
            id: SpanId(self.span_id),
            parent_id: (self.parent_id != 0).then_some(SpanId(self.parent_id)),
            service: self.service,
            name,
            resource: self.resource_name,
            span_type: self.span_type,
            error,
            start,
            duration: end.map(|end| end - start).or(duration).unwrap_or(0).max(0),
            hostname: self.host,
            env: self.env,
            container_id: text(&meta, &["container_id"]),
            language: String::new(),
            meta,
            metrics,
            priority: 1,
            dropped: false,
            form: PayloadForm::Api,
            attempt: 0,
        })
    }
}

/// A trace id of the search: decimal digits of the low half, or 32 hex digits; with the low half.
fn searched_id(
    given: &Value,
    meta: &BTreeMap<String, String>,
    asked: &[TraceId],
) -> Result<(TraceId, u64), String> {
    let text = match given {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let full = text.parse::<TraceId>().ok();
    let low = full.map(TraceId::low).or_else(|| text.parse().ok());
    let low = low.ok_or_else(|| {
        format!("its `trace_id` {given} is neither 32 hex digits nor a 64-bit number")
    })?;
    let known = asked.iter().find(|asked| asked.low() == low);
    let full = full.unwrap_or_else(|| full_id(low, meta, known.copied().unwrap_or(TraceId(0))));
    Ok((full, low))
}

/// Nested attributes become meta and metrics with dots in their names, as they were before Datadog took them apart.
fn flatten(
    prefix: &str,
    value: &Value,
    meta: &mut BTreeMap<String, String>,
    metrics: &mut BTreeMap<String, f64>,
) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, meta, metrics);
            }
        }
        Value::Null => {}
        Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                meta.remove(prefix);
                metrics.insert(prefix.to_owned(), number);
            }
        }
        Value::String(text) => {
            meta.insert(prefix.to_owned(), text.clone());
        }
        Value::Bool(_) | Value::Array(_) => {
            meta.insert(prefix.to_owned(), value.to_string());
        }
    }
}

/// RFC 3339 as nanoseconds since the Unix epoch.
fn nanos(text: &str) -> Result<i64, String> {
    humantime::parse_rfc3339_weak(text)
        .map(crate::trace::unix_nanos)
        .map_err(|error| format!("`{text}` is not a time: {error}"))
}

#[cfg(test)]
mod tests;
