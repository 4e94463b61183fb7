//! The page over HTTP, of whatever can say what is on it: the same program in the browser that the intake serves.

use std::{convert::Infallible, future::IntoFuture, io, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{
        Html, IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures_util::stream;
use harness_core::trace::TraceId;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Source of what is on the page.
pub trait Shown: Send + Sync + 'static {
    /// Returns all that the page reads at once, as JSON.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    fn index(&self) -> io::Result<Vec<u8>>;

    /// Returns a trace with all that is known of it, as JSON; `None` where it is not known.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    fn trace(&self, id: TraceId) -> io::Result<Option<Vec<u8>>>;

    /// Wakes whenever there is more to show.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// Serves the page until `stop` is cancelled.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    shown: Arc<dyn Shown>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/", get(async || Html(super::live())))
        .route("/_intake/page", get(index))
        .route("/_intake/page/{trace_id}", get(trace))
        .route("/_intake/events", get(events))
        .with_state(shown);
    // A page that is open would keep its stream for good, so there is nothing to wait for.
    tokio::select! {
        served = axum::serve(listener, routes).into_future() => served,
        () = stop.cancelled() => Ok(()),
    }
}

async fn index(State(shown): State<Arc<dyn Shown>>) -> Response {
    answer(shown.index().map(Some), "")
}

async fn trace(State(shown): State<Arc<dyn Shown>>, Path(id): Path<String>) -> Response {
    match id.parse() {
        Ok(trace) => answer(shown.trace(trace), &id),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &format!("trace_id: {error}")),
    }
}

fn answer(json: io::Result<Option<Vec<u8>>>, id: &str) -> Response {
    match json {
        Ok(Some(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(None) => refuse(StatusCode::NOT_FOUND, &format!("no span of trace {id} was captured")),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn refuse(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

/// An event whenever there is more to show. A slow reader finds several changes in one.
async fn events(State(shown): State<Arc<dyn Shown>>) -> Response {
    let mut changed = shown.changed();
    // Something may have come between the page's first question and this one.
    changed.mark_changed();
    let events = stream::unfold(changed, async |mut changed| {
        changed.changed().await.ok()?;
        let number = *changed.borrow_and_update();
        let event = Event::default().event("attempt").data(number.to_string());
        Some((Ok::<_, Infallible>(event), changed))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
