//! The traced routes, in the manner of the AWS OpenTelemetry sample apps.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use reqwest::Url;
use serde_json::{Map, Value, json};
use tokio::time;

use super::{App, inject};
use crate::client::{Answered, CallError, without_credentials};
use crate::fault::FAULT_HEADER;
use crate::span::OpenSpan;

/// How long `/later` leaves what it was given.
const LATER: Duration = Duration::from_millis(100);

/// The context of the request's server span.
#[derive(Clone, Debug)]
pub(super) struct Traced {
    pub(super) context: Context,
    pub(super) trace_id: Option<String>,
}

impl Traced {
    /// Makes the JSON answer that every traced route gives.
    pub(super) fn answer(&self, app: &App, status: StatusCode, extra: Value) -> Response {
        let mut body = Map::from_iter([
            ("traceId".to_owned(), json!(self.trace_id)),
            ("name".to_owned(), json!(app.settings.name)),
        ]);
        if let Value::Object(extra) = extra {
            body.extend(extra);
        }
        (status, Json(body)).into_response()
    }

    fn failed(&self, app: &App, error: &CallError) -> Response {
        let status = match error {
            CallError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            CallError::Status { .. } | CallError::Failed { .. } => StatusCode::BAD_GATEWAY,
        };
        self.answer(app, status, json!({ "error": error.to_string() }))
    }
}

pub(super) async fn root(
    State(app): State<Arc<App>>,
    Extension(traced): Extension<Traced>,
) -> Response {
    traced.answer(&app, StatusCode::OK, json!({}))
}

/// Calls the URL of `OUTGOING_HTTP_CALL_URL`, a third party: it gets trace headers, but no faults.
pub(super) async fn outgoing_http_call(
    State(app): State<Arc<App>>,
    Extension(traced): Extension<Traced>,
) -> Response {
    let Some(url) = &app.settings.outgoing_http_call_url else {
        let error = "there is nothing to call; set OUTGOING_HTTP_CALL_URL";
        return traced.answer(&app, StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error }));
    };
    match app.client.get(&app.telemetry, &traced.context, url, &HeaderMap::new()).await {
        Ok(answered) => {
            traced.answer(&app, StatusCode::OK, json!({ "outgoing": described(url, &answered) }))
        }
        Err(error) => traced.failed(&app, &error),
    }
}

/// Calls the same route of every upstream, one after the other; the end of the chain just answers.
pub(super) async fn outgoing_sampleapp(
    State(app): State<Arc<App>>,
    Extension(traced): Extension<Traced>,
    request_headers: HeaderMap,
) -> Response {
    let mut headers = HeaderMap::new();
    if let Some(Ok(faults)) = inject::forwarded_faults(&request_headers)
        && let Ok(faults) = HeaderValue::try_from(faults)
    {
        headers.insert(FAULT_HEADER, faults);
    }
    let mut upstreams = Vec::new();
    for upstream in &app.settings.upstreams {
        let url = route_of(upstream, "outgoing-sampleapp");
        match app.client.get(&app.telemetry, &traced.context, &url, &headers).await {
            Ok(answered) => upstreams.push(described(&url, &answered)),
            Err(error) => return traced.failed(&app, &error),
        }
    }
    traced.answer(&app, StatusCode::OK, json!({ "upstreams": upstreams }))
}

/// Answers at once, and takes what it was given up later, in a trace of its own: one that is linked to this one, or, with `?linked=false`,
/// one to which nothing of this one was handed on.
pub(super) async fn later(
    State(app): State<Arc<App>>,
    Extension(traced): Extension<Traced>,
    uri: Uri,
) -> Response {
    let is_linked = !uri.query().unwrap_or_default().split('&').any(|one| one == "linked=false");
    let link = is_linked.then(|| traced.context.span().span_context().clone());
    let worker = Arc::clone(&app);
    tokio::spawn(async move {
        time::sleep(LATER).await;
        OpenSpan::start_apart(&worker.telemetry, "process later", link).end();
    });
    traced.answer(&app, StatusCode::OK, json!({}))
}

pub(super) async fn not_found(
    State(app): State<Arc<App>>,
    Extension(traced): Extension<Traced>,
    uri: Uri,
) -> Response {
    let error = format!("no route {}; try /outgoing-sampleapp", uri.path());
    traced.answer(&app, StatusCode::NOT_FOUND, json!({ "error": error }))
}

fn described(url: &Url, answered: &Answered) -> Value {
    json!({ "url": without_credentials(url), "status": answered.status, "tries": answered.tries })
}

/// Appends a route to a base URL, which may have a path of its own.
fn route_of(base: &Url, route: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push(route);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_appended_to_any_base() {
        for (base, url) in [
            ("http://a:1", "http://a:1/leaf"),
            ("http://a:1/", "http://a:1/leaf"),
            ("http://a:1/app", "http://a:1/app/leaf"),
            ("http://a:1/app/", "http://a:1/app/leaf"),
        ] {
            assert_eq!(route_of(&base.parse().unwrap(), "leaf").as_str(), url);
        }
    }
}
