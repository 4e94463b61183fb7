//! Traces as the page reads them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use harness_core::trace::{PayloadForm, Span, SpanId, Trace, TraceId};
use serde::Serialize;
use serde_json::Value;

use super::sent::Sent;
use crate::attempt::Reply;

/// Most characters of a text: Datadog's own limit of a meta value.
const MAX_TEXT: usize = 25_000;

/// A text without what is beyond the limit, which is counted at its end.
fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{}… ({more} more characters are left out)", &text[..end])
        }
    }
}

/// A trace with everything that is known of its spans.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceView {
    id: TraceId,
    /// Nanoseconds since the Unix epoch that its spans' times count from; as a text, since a double cannot hold it.
    start: String,
    payloads: Vec<PayloadView>,
    spans: Vec<SpanView>,
}

/// A span.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct SpanView {
    id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<SpanId>,
    service: String,
    name: String,
    resource: String,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    span_type: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    error: bool,
    /// Nanoseconds from the trace's start.
    at: i64,
    /// Nanoseconds.
    duration: i64,
    meta: BTreeMap<String, String>,
    metrics: BTreeMap<String, f64>,
    /// `Span.traceID` where it is not the low half of the trace's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    payload: usize,
    /// Fields beyond the model, or the whole OTLP span.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Value>,
}

/// The payload that spans were sent in.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct PayloadView {
    form: PayloadForm,
    /// Number of the attempt; 0 where there is none.
    attempt: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<usize>,
    hostname: String,
    env: String,
    priority: i32,
    /// Payload, tracer payload and chunk, or resource and scope, as they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<Value>,
}

impl TraceView {
    /// Creates the view of a trace whose times count from `base`, nanoseconds since the Unix epoch.
    pub fn new(trace: &Trace, base: i64, sent: &Sent) -> Self {
        let mut payloads = Vec::new();
        let mut known = HashMap::new();
        let spans = trace.spans.iter().map(|span| {
            let attempted = sent.attempt(span);
            let own = attempted.and_then(|attempted| attempted.span(span));
            let shared = own.map(|(shared, _)| *shared);
            let payload = *known.entry((span.attempt, shared)).or_insert_with(|| {
                payloads.push(PayloadView {
                    form: span.form,
                    attempt: span.attempt,
                    path: attempted.map(|attempted| attempted.path.clone()),
                    received_at: attempted.map(|attempted| attempted.received_at.to_string()),
                    reply: attempted.map(|attempted| attempted.reply),
                    body_bytes: attempted.map(|attempted| attempted.bytes),
                    hostname: bounded(&span.hostname),
                    env: bounded(&span.env),
                    priority: span.priority,
                    shared: attempted
                        .zip(shared)
                        .and_then(|(all, one)| all.shared.get(one))
                        .cloned(),
                });
                payloads.len() - 1
            });
            SpanView {
                id: span.id,
                parent: span.parent_id,
                service: bounded(&span.service),
                name: bounded(&span.name),
                resource: bounded(&span.resource),
                span_type: bounded(&span.span_type),
                error: span.error,
                at: span.start.saturating_sub(base),
                duration: span.duration,
                meta: span.meta.iter().map(|(key, text)| (bounded(key), bounded(text))).collect(),
                metrics: span.metrics.clone(),
                trace_id: (span.datadog_trace_id != trace.id.low())
                    .then(|| span.datadog_trace_id.to_string()),
                payload,
                raw: own.map(|(_, value)| value.clone()).filter(|value| !value.is_null()),
            }
        });
        let spans = spans.collect();
        Self { id: trace.id, start: base.to_string(), payloads, spans }
    }
}

/// Names that stand in an index once, by their number.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Names {
    names: Vec<String>,
    #[serde(skip)]
    numbers: HashMap<String, usize>,
}

impl Names {
    /// Returns the number of a name, and assigns the next one to a new name.
    pub fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.names.push(bounded(name));
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

/// A trace's line in the list of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its id.
    pub id: TraceId,
    /// Resource name of the earliest span without a parent in the trace; empty where nothing was captured.
    pub resource: String,
    /// Its services, by their numbers.
    pub services: Vec<usize>,
    /// Number of spans.
    pub spans: usize,
    /// Number of spans that are marked as errors.
    pub errors: usize,
    /// Milliseconds since the Unix epoch.
    pub start: f64,
    /// Nanoseconds from the first start to the last end.
    pub duration: i64,
    /// Index of the scenario to which the trace belongs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<usize>,
    /// The verdict of its request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// The request and how it ended, or what the trace has to do with a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The first failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Place of its spans; `None` where there was no room for them, or they are asked for by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<super::BlockRange>,
}

impl Row {
    /// Creates the row of a trace.
    pub fn new<'a>(
        id: TraceId,
        spans: impl Iterator<Item = &'a Span> + Clone,
        services: &mut Names,
    ) -> Self {
        let ids: BTreeSet<_> = spans.clone().map(|span| span.id).collect();
        let is_top = |span: &&Span| span.parent_id.is_none_or(|id| !ids.contains(&id));
        let top = spans.clone().filter(is_top).min_by_key(|span| span.start);
        let top = top.or_else(|| spans.clone().next());
        let start = spans.clone().map(|span| span.start).min().unwrap_or(0);
        let end = spans.clone().map(Span::end).max().unwrap_or(0);
        let names: BTreeSet<&str> = spans.clone().map(|span| span.service.as_str()).collect();
        Self {
            id,
            resource: top.map(|span| bounded(&span.resource)).unwrap_or_default(),
            services: names.into_iter().map(|name| services.number(name)).collect(),
            spans: spans.clone().count(),
            errors: spans.clone().filter(|span| span.error).count(),
            start: start as f64 / 1e6,
            duration: end.saturating_sub(start),
            scenario: None,
            verdict: None,
            request: None,
            failure: None,
            place: None,
        }
    }
}
