//! The harness's side: reading what was recorded, and scripting replies.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Path, Query, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{Intake, State as IntakeState, control_error::ControlError, events, page};
use crate::{
    attempt::{Attempt, Reply},
    decode::{Decoded, StatsGroup, decode},
    replies::Script,
    store::{Counts, Entry, Outcome},
};
use harness_core::trace::{Span, Trace, TraceId};

/// How many items a list has, by default.
const DEFAULT_LIMIT: usize = 100;

pub(super) fn routes() -> Router<Arc<Intake>> {
    Router::new()
        .merge(page::routes())
        .route("/_intake/health", get(health))
        .route("/_intake/counts", get(counts))
        .route("/_intake/traces", get(traces))
        .route("/_intake/traces/{trace_id}", get(trace))
        .route("/_intake/spans", get(spans))
        .route("/_intake/stats", get(stats))
        .route("/_intake/attempts", get(attempts))
        .route("/_intake/attempts/{seq}", get(attempt))
        .route("/_intake/attempts/{seq}/body", get(attempt_body))
        .route("/_intake/attempts/{seq}/decoded", get(attempt_decoded))
        .route("/_intake/replies", get(replies).post(add_reply).delete(clear_replies))
        .route("/_intake/events", get(events::events))
        .route("/_intake/{*rest}", axum::routing::any(unknown))
}

/// Query parameters; a wrong one is named in JSON.
struct Params<T>(T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ControlError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(ControlError::bad_request(error.body_text())),
        }
    }
}

/// A part of the path; a wrong one is named in JSON.
fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &str,
    text: &str,
) -> Result<T, ControlError> {
    text.parse().map_err(|error| ControlError::bad_request(format!("{name}: {error}")))
}

async fn unknown() -> ControlError {
    ControlError::not_found(
        "there is no such route below /_intake/: try health, counts, traces, spans, stats, attempts, replies or \
         events",
    )
}

async fn health(State(intake): State<Arc<Intake>>) -> impl IntoResponse {
    Json(json!({
        "status": "ok",
        "instance": intake.instance,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": intake.started.elapsed().as_secs(),
    }))
}

/// Answer of `GET /_intake/counts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountsAnswer {
    /// The intake's instance id.
    pub(crate) instance: String,
    /// Number of the newest attempt; 0 before the first.
    pub(crate) seq: u64,
    /// Counts up to it.
    pub(crate) counts: Counts,
}

async fn counts(State(intake): State<Arc<Intake>>) -> impl IntoResponse {
    let state = intake.state();
    Json(CountsAnswer {
        instance: intake.instance.clone(),
        seq: state.store.newest(),
        counts: state.store.counts().clone(),
    })
}

async fn trace(
    State(intake): State<Arc<Intake>>,
    Path(id): Path<String>,
) -> Result<Json<Trace>, ControlError> {
    let id: TraceId = parse("trace_id", &id)?;
    let trace = intake.state().store.trace(id);
    trace.map(Json).ok_or_else(|| {
        ControlError::not_found(format!("no span of trace {id} was accepted, or none is kept"))
    })
}

/// One line of the list of traces.
#[derive(Debug, Serialize)]
struct TraceSummary {
    id: TraceId,
    spans: usize,
    services: BTreeSet<String>,
    /// Resource name of the earliest span without a parent in the trace.
    resource: String,
    error: bool,
    /// Nanoseconds since the Unix epoch.
    start: i64,
    /// Nanoseconds from the first start to the last end.
    duration: i64,
}

impl TraceSummary {
    fn new(id: TraceId, spans: &[Arc<Span>]) -> Self {
        let ids: BTreeSet<_> = spans.iter().map(|span| span.id).collect();
        let roots = spans.iter().filter(|span| span.parent_id.is_none_or(|id| !ids.contains(&id)));
        let root = roots.min_by_key(|span| span.start).or(spans.first());
        let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end()).max().unwrap_or(0);
        Self {
            id,
            spans: spans.len(),
            services: spans.iter().map(|span| span.service.clone()).collect(),
            resource: root.map(|span| span.resource.clone()).unwrap_or_default(),
            error: spans.iter().any(|span| span.error),
            start,
            duration: end.saturating_sub(start),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<usize>,
}

/// Newest first, by the attempt that brought the last span.
async fn traces(
    State(intake): State<Arc<Intake>>,
    Params(Limit { limit }): Params<Limit>,
) -> impl IntoResponse {
    let state = intake.state();
    let mut traces: Vec<_> = state.store.traces().collect();
    traces.sort_unstable_by_key(|(id, spans)| {
        let last = spans.last().map_or((0, 0), |span| (span.attempt, span.start));
        (std::cmp::Reverse(last), *id)
    });
    let shown = traces.into_iter().take(limit.unwrap_or(DEFAULT_LIMIT));
    Json(shown.map(|(id, spans)| TraceSummary::new(id, spans)).collect::<Vec<_>>())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpanFilter {
    trace_id: Option<String>,
    service: Option<String>,
    resource: Option<String>,
    error: Option<bool>,
    limit: Option<usize>,
}

/// Newest first, by the attempt that brought them.
async fn spans(
    State(intake): State<Arc<Intake>>,
    Params(filter): Params<SpanFilter>,
) -> Result<impl IntoResponse, ControlError> {
    let trace_id: Option<TraceId> =
        filter.trace_id.as_deref().map(|text| parse("trace_id", text)).transpose()?;
    let state = intake.state();
    let spans = state.store.entries().rev().flat_map(Entry::spans).filter(|span| {
        trace_id.is_none_or(|id| span.trace_id == id)
            && filter.service.as_ref().is_none_or(|service| span.service == *service)
            && filter.resource.as_ref().is_none_or(|resource| span.resource == *resource)
            && filter.error.is_none_or(|error| span.error == error)
    });
    let shown: Vec<Span> =
        spans.take(filter.limit.unwrap_or(DEFAULT_LIMIT)).map(|span| Span::clone(span)).collect();
    Ok(Json(shown))
}

/// Of the kept attempts, oldest first.
async fn stats(State(intake): State<Arc<Intake>>) -> Json<Vec<StatsGroup>> {
    let state = intake.state();
    let payloads = state.store.entries().filter_map(|entry| entry.stats.as_ref());
    Json(payloads.flat_map(|payload| payload.groups.iter().cloned()).collect())
}

/// An attempt without its body.
#[derive(Debug, Serialize)]
struct AttemptSummary<'a> {
    seq: u64,
    received_at: i64,
    method: &'a str,
    path: &'a str,
    headers: &'a std::collections::BTreeMap<String, String>,
    body_bytes: usize,
    reply: Reply,
    outcome: Outcome,
    spans: usize,
    undecodable: Option<&'a str>,
}

impl<'a> AttemptSummary<'a> {
    fn new(entry: &'a Entry) -> Self {
        let attempt: &Attempt = &entry.attempt;
        Self {
            seq: attempt.seq,
            received_at: attempt.received_at,
            method: &attempt.method,
            path: &attempt.path,
            headers: &attempt.headers,
            body_bytes: attempt.body.len(),
            reply: attempt.reply,
            outcome: entry.outcome,
            spans: entry.spans().len(),
            undecodable: entry.undecodable.as_deref(),
        }
    }
}

/// All kept ones, oldest first; with `limit`, the newest so many.
async fn attempts(
    State(intake): State<Arc<Intake>>,
    Params(Limit { limit }): Params<Limit>,
) -> Response {
    let state = intake.state();
    let entries = state.store.entries();
    let skipped = entries.len().saturating_sub(limit.unwrap_or(usize::MAX));
    Json(entries.skip(skipped).map(AttemptSummary::new).collect::<Vec<_>>()).into_response()
}

fn find(state: &IntakeState, seq: &str) -> Result<Entry, ControlError> {
    let seq: u64 = parse("seq", seq)?;
    state.store.entry(seq).cloned().ok_or_else(|| {
        let oldest = state.store.oldest().unwrap_or(0);
        let newest = state.store.newest();
        ControlError::not_found(format!(
            "there is no attempt {seq}: those from {oldest} to {newest} are kept"
        ))
    })
}

async fn attempt(
    State(intake): State<Arc<Intake>>,
    Path(seq): Path<String>,
) -> Result<Response, ControlError> {
    let entry = find(&intake.state(), &seq)?;
    Ok(Json(AttemptSummary::new(&entry)).into_response())
}

/// As received, whatever its encoding.
async fn attempt_body(
    State(intake): State<Arc<Intake>>,
    Path(seq): Path<String>,
) -> Result<Response, ControlError> {
    let entry = find(&intake.state(), &seq)?;
    let bytes = ([(header::CONTENT_TYPE, "application/octet-stream")], entry.attempt.body.clone());
    Ok(bytes.into_response())
}

async fn attempt_decoded(
    State(intake): State<Arc<Intake>>,
    Path(seq): Path<String>,
) -> Result<Json<Decoded>, ControlError> {
    let entry = find(&intake.state(), &seq)?;
    Ok(Json(decode(&entry.attempt, intake.settings.max_decoded)))
}

async fn replies(State(intake): State<Arc<Intake>>) -> Json<Vec<Script>> {
    Json(intake.state().replies.left(Instant::now()))
}

async fn add_reply(
    State(intake): State<Arc<Intake>>,
    body: Bytes,
) -> Result<impl IntoResponse, ControlError> {
    let json = &mut serde_json::Deserializer::from_slice(&body);
    let script: Script = serde_path_to_error::deserialize(json)
        .map_err(|error| ControlError::bad_request(error.to_string()))?;
    let now = Instant::now();
    let mut state = intake.state();
    state
        .replies
        .push(script, now)
        .map_err(|error| ControlError::bad_request(error.to_string()))?;
    Ok((StatusCode::CREATED, Json(state.replies.left(now))))
}

async fn clear_replies(State(intake): State<Arc<Intake>>) -> StatusCode {
    intake.state().replies.clear();
    StatusCode::NO_CONTENT
}
