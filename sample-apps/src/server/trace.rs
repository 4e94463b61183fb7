//! The layer around every traced route: the server span, by the HTTP semantic conventions, and whatever ends it.
//!
//! A span ends by an answer, by a panic, by a reset asked for, or by the caller's going away: then the server drops
//! the handler's future, and with it the span.

use std::any::Any;
use std::borrow::Cow;
use std::future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use opentelemetry_semantic_conventions::attribute as semconv;
use serde_json::json;

use super::App;
use super::connection::Peer;
use super::inject::{self, Asked, Verdict};
use super::routes::Traced;
use crate::client::version_text;
use crate::span::OpenSpan;

/// Traces one request and carries out its faults.
pub(super) async fn trace(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let span = start_span(&app, &peer, &request);
    let traced = Traced {
        context: span.context().clone(),
        trace_id: app.telemetry.trace_id_text(span.trace_id()),
    };
    let reply = AssertUnwindSafe(reply(&app, &span, &traced, request, next)).catch_unwind();
    let reply = tokio::select! {
        reply = reply => reply,
        () = app.stop_now.cancelled() => {
            let error = json!({ "error": "the service is shutting down" });
            Ok(Some(traced.answer(&app, StatusCode::SERVICE_UNAVAILABLE, error)))
        }
    };
    let response = match reply {
        Ok(Some(response)) => {
            // A server is not to blame for a 4xx: no error (HTTP semantic conventions, "Status").
            if response.status().is_server_error() {
                span.fail(response.status().as_u16().to_string(), "");
            }
            response
        }
        Ok(None) => {
            span.fail("connection_aborted", "the connection was reset without an answer");
            span.end();
            peer.cut_off();
            // The connection's task now drops this future.
            return future::pending().await;
        }
        Err(panic) => {
            let message = panic_message(panic.as_ref());
            span.record_exception("panic", message.clone());
            span.fail("panic", message.clone());
            let error = json!({ "error": format!("panic: {message}") });
            traced.answer(&app, StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    };
    let status = i64::from(response.status().as_u16());
    span.set(KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, status));
    span.end();
    response
}

/// Returns the answer, or `None` if there shall be none.
async fn reply(
    app: &Arc<App>,
    span: &OpenSpan,
    traced: &Traced,
    mut request: Request,
    next: Next,
) -> Option<Response> {
    // No route reads a body. One that nobody reads would keep the server from seeing that the caller went away.
    *request.body_mut() = Body::empty();
    let asked = match Asked::from_headers(request.headers()) {
        Ok(asked) => asked,
        Err(error) => {
            return Some(traced.answer(app, StatusCode::BAD_REQUEST, json!({ "error": error })));
        }
    };
    match inject::carry_out(&asked, &app.settings, span).await {
        Verdict::GoOn => {
            request.extensions_mut().insert(traced.clone());
            Some(next.run(request).await)
        }
        Verdict::Answer(status, error) => {
            Some(traced.answer(app, status, json!({ "error": error })))
        }
        Verdict::CutOff => None,
    }
}

/// Starts the server span of a request.
fn start_span(app: &App, peer: &Peer, request: &Request) -> OpenSpan {
    let (method, original) = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut attributes = vec![
        KeyValue::new(semconv::HTTP_REQUEST_METHOD, method),
        KeyValue::new(semconv::URL_PATH, request.uri().path().to_owned()),
        KeyValue::new(semconv::URL_SCHEME, "http"),
        KeyValue::new(semconv::CLIENT_ADDRESS, client_address(request.headers(), peer)),
        KeyValue::new(semconv::NETWORK_PEER_ADDRESS, peer.address.ip().to_string()),
        KeyValue::new(semconv::NETWORK_PEER_PORT, i64::from(peer.address.port())),
    ];
    let mut add = |key: &'static str, value: Option<String>| {
        attributes.extend(value.map(|value| KeyValue::new(key, value)));
    };
    add(semconv::HTTP_REQUEST_METHOD_ORIGINAL, original);
    add(semconv::HTTP_ROUTE, route.clone());
    add(semconv::URL_QUERY, request.uri().query().map(str::to_owned));
    add(
        semconv::USER_AGENT_ORIGINAL,
        text(request.headers(), header::USER_AGENT).map(str::to_owned),
    );
    add(semconv::NETWORK_PROTOCOL_VERSION, version_text(request.version()).map(str::to_owned));
    if let Some((host, port)) = server_address(request.headers()) {
        attributes.push(KeyValue::new(semconv::SERVER_ADDRESS, host));
        attributes.extend(port.map(|port| KeyValue::new(semconv::SERVER_PORT, i64::from(port))));
    }
    // "HTTP", not "_OTHER", stands for an unknown method in a name.
    let method = if method == OTHER_METHOD { "HTTP" } else { method };
    let name = match route {
        Some(route) => Cow::Owned(format!("{method} {route}")),
        None => Cow::Borrowed(method),
    };
    let parent = app.telemetry.extract(request.headers());
    OpenSpan::start(&app.telemetry, &parent, name, SpanKind::Server, attributes)
}

const OTHER_METHOD: &str = "_OTHER";

/// Returns the method as the conventions know it, and as it came where they do not.
fn known_method(method: &Method) -> (&'static str, Option<String>) {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    match known.into_iter().find(|known| *known == method.as_str()) {
        Some(known) => (known, None),
        None => (OTHER_METHOD, Some(method.to_string())),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The first address that a proxy reports, else the peer's.
fn client_address(headers: &HeaderMap, peer: &Peer) -> String {
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    match forwarded
        .and_then(|list| list.split(',').next())
        .map(str::trim)
        .filter(|first| !first.is_empty())
    {
        Some(first) => first.to_owned(),
        None => peer.address.ip().to_string(),
    }
}

/// The host and port by which the caller addressed this service.
fn server_address(headers: &HeaderMap) -> Option<(String, Option<u16>)> {
    let authority: axum::http::uri::Authority = text(headers, header::HOST)?.parse().ok()?;
    Some((authority.host().trim_matches(['[', ']']).to_owned(), authority.port_u16()))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "of unknown cause".to_owned(),
    }
}
