//! Serves the self-metrics to Prometheus.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use super::Registry;
use crate::settings::MetricsEndpoint;

/// Answers a request to the metrics endpoint.
pub(crate) fn answer(
    registry: &Registry,
    endpoint: &MetricsEndpoint,
    method: &Method,
    path: &str,
) -> Response<Full<Bytes>> {
    let (status, body) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let total = !endpoint.without_type_suffix;
            (StatusCode::OK, registry.render(total) + &super::process::render(total))
        }
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into()),
        _ => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
