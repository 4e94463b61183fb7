//! The HTTP side of an app: its routes, and what wraps them.

mod connection;
mod inject;
mod routes;
mod trace;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use opentelemetry::TraceId;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::settings::Settings;
use crate::telemetry::Telemetry;
use connection::{Incoming, Peer};

/// State that the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) telemetry: Telemetry,
    pub(crate) client: Client,
    /// Cancelled when requests in flight have to end at once.
    pub(crate) stop_now: CancellationToken,
}

/// Serves until `stopping` is cancelled and the requests in flight have ended.
pub(crate) async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let service = router(app).into_make_service_with_connect_info::<Peer>();
    axum::serve(Incoming(listener), service)
        .with_graceful_shutdown(stopping.cancelled_owned())
        .await
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", any(routes::root))
        .route("/outgoing-http-call", any(routes::outgoing_http_call))
        .route("/outgoing-sampleapp", any(routes::outgoing_sampleapp))
        .route("/later", any(routes::later))
        .fallback(routes::not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), trace::trace))
        // What is added from here on is outside of the layer: not traced.
        .route("/health", get(health))
        .route("/ledger", get(ledger))
        .route("/ledger/{trace_id}", get(ledger_page))
        .with_state(app)
}

async fn health(State(app): State<Arc<App>>) -> Response {
    Json(json!({ "status": "ok", "name": app.settings.name })).into_response()
}

async fn ledger(State(app): State<Arc<App>>) -> Response {
    let totals = app.telemetry.ledger.totals();
    Json(json!({
        "name": app.settings.name,
        "service": app.telemetry.service,
        "instance_id": app.telemetry.instance_id,
        "spans_ended": totals.spans_ended,
        "traces": totals.traces,
        "spans_evicted": totals.spans_evicted,
        "open_spans": totals.open_spans,
    }))
    .into_response()
}

async fn ledger_page(State(app): State<Arc<App>>, Path(text): Path<String>) -> Response {
    match parse_trace_id(&text) {
        Some(trace_id) => Json(app.telemetry.ledger.page(trace_id)).into_response(),
        None => {
            let error =
                format!("`{text}` is not a trace id; write 32 hex digits, or X-Ray's 1-8-24 form");
            (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
        }
    }
}

/// Parses a trace id of 32 hex digits or in X-Ray's form, as responses show it.
fn parse_trace_id(text: &str) -> Option<TraceId> {
    let hex = match text.split('-').collect::<Vec<_>>()[..] {
        [hex] => hex.to_owned(),
        ["1", seconds, rest] if seconds.len() == 8 => format!("{seconds}{rest}"),
        _ => return None,
    };
    let well_formed = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    well_formed.then(|| TraceId::from_hex(&hex).ok()).flatten().filter(|id| *id != TraceId::INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_read_in_both_forms() {
        let id = TraceId::from_hex("58406520a006649127e371903a2de979").unwrap();
        assert_eq!(parse_trace_id("58406520a006649127e371903a2de979"), Some(id));
        assert_eq!(parse_trace_id("1-58406520-a006649127e371903a2de979"), Some(id));
        for wrong in [
            "",
            "1",
            "+8406520a006649127e371903a2de979",
            "2-58406520-a006649127e371903a2de979",
            "1-5840652-0a006649127e371903a2de979",
        ] {
            assert_eq!(parse_trace_id(wrong), None, "{wrong}");
        }
        assert_eq!(parse_trace_id(&"0".repeat(32)), None);
    }
}
