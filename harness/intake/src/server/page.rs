//! The intake's own page, and what it asks for.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    response::{Html, IntoResponse},
    routing::get,
};
use serde::Serialize;

use super::{Intake, control_error::ControlError};
use crate::{
    page::{self, Names, Row, Sent, TraceView},
    store::{Counts, Entry},
};
use harness_core::{
    service_map::{ServiceMap, Written},
    trace::{Span, TraceId},
};

/// How many traces the page lists.
const TRACES: usize = 10_000;
/// How many groups of stats the page shows.
const GROUPS: usize = 1_000;

pub(super) fn routes() -> Router<Arc<Intake>> {
    Router::new()
        .route("/", get(async || Html(page::live())))
        .route("/_intake/page", get(index))
        .route("/_intake/page/{trace_id}", get(trace))
}

/// All that the page reads at once.
#[derive(Serialize)]
struct Index {
    kind: &'static str,
    version: &'static str,
    counts: Counts,
    services: Names,
    /// Newest first, by the attempt that brought the last span.
    traces: Vec<Row>,
    map: Written,
    stats: Vec<Group>,
}

/// A group's service, operation name, resource name and kind; its hits and errors.
type Group = ([String; 4], [u64; 2]);

async fn index(State(intake): State<Arc<Intake>>) -> impl IntoResponse {
    let state = intake.state();
    let store = &state.store;
    let mut traces: Vec<_> = store.traces().collect();
    traces.sort_unstable_by_key(|(id, spans)| {
        let last = spans.last().map_or((0, 0), |span| (span.attempt, span.start));
        (std::cmp::Reverse(last), *id)
    });
    traces.truncate(TRACES);
    let (mut services, mut map) = (Names::default(), ServiceMap::default());
    let rows = traces.iter().map(|(id, spans)| {
        map.add(spans.iter().map(AsRef::as_ref), |span| &span.service);
        Row::new(*id, spans.iter().map(AsRef::as_ref), &mut services)
    });
    let rows = rows.collect();
    let mut groups = std::collections::BTreeMap::new();
    for group in store.entries().filter_map(|entry| entry.stats.as_ref()).flat_map(|of| &of.groups)
    {
        let texts = [&group.service, &group.name, &group.resource, &group.span_kind];
        let [hits, errors] = groups.entry(texts.map(String::clone)).or_insert([0; 2]);
        *hits += group.hits;
        *errors += group.errors;
    }
    Json(Index {
        kind: "live",
        version: env!("CARGO_PKG_VERSION"),
        counts: store.counts().clone(),
        services,
        traces: rows,
        map: map.written(),
        stats: groups.into_iter().take(GROUPS).collect(),
    })
}

/// A trace as the page reads it.
#[derive(Serialize)]
struct Detail {
    trace: TraceView,
}

async fn trace(
    State(intake): State<Arc<Intake>>,
    Path(id): Path<String>,
) -> Result<Json<Detail>, ControlError> {
    let id: TraceId =
        id.parse().map_err(|error| ControlError::bad_request(format!("trace_id: {error}")))?;
    let (trace, entries) = {
        let state = intake.state();
        let Some(trace) = state.store.trace(id) else {
            let text = format!("no span of trace {id} was accepted, or none is kept");
            return Err(ControlError::not_found(text));
        };
        let mut attempts: Vec<u64> = trace.spans.iter().map(|span: &Span| span.attempt).collect();
        attempts.sort_unstable();
        attempts.dedup();
        let entries = attempts.into_iter().filter_map(|seq| state.store.entry(seq));
        (trace, entries.map(|entry: &Entry| Arc::clone(&entry.attempt)).collect::<Vec<_>>())
    };
    let mut sent = Sent::default();
    for attempt in &entries {
        sent.add(attempt);
    }
    let base = trace.spans.iter().map(|span| span.start).min().unwrap_or(0);
    Ok(Json(Detail { trace: TraceView::new(&trace, base, &sent) }))
}
