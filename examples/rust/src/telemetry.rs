//! OpenTelemetry's SDK, and a span for each request that comes in or goes out.

use std::{env, sync::LazyLock, time::Duration};

use axum::{
    extract::{MatchedPath, Request},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};

/// One for all requests, so that its connections are used again.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);

/// Begins to trace; the standard variables say where the spans go.
///
/// # Errors
///
/// When the exporter cannot be made of these variables.
pub(crate) fn start() -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    global::set_tracer_provider(provider.clone());
    // The SDK for Rust does not read this variable by itself.
    let names = env::var("OTEL_PROPAGATORS").unwrap_or_else(|_| "tracecontext".to_owned());
    if names.contains("tracecontext") {
        global::set_text_map_propagator(TraceContextPropagator::new());
    }
    Ok(provider)
}

/// Answers a request inside a server span.
pub(crate) async fn server_span(request: Request, next: Next) -> Response {
    let parent =
        global::get_text_map_propagator(|p| p.extract(&HeaderExtractor(request.headers())));
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_default();
    let tracer = global::tracer("shop");
    let span = tracer
        .span_builder(format!("{} {route}", request.method()))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", request.method().to_string()),
            KeyValue::new("http.route", route),
        ])
        .start_with_context(&tracer, &parent);
    let context = parent.with_span(span);
    let response = next.run(request).with_context(context.clone()).await;
    end(&context, response.status(), response.status().is_server_error());
    response
}

/// Sends a GET request inside a client span.
///
/// # Errors
///
/// When there is no answer in time.
pub(crate) async fn get(url: &str, timeout: Duration) -> Result<StatusCode, reqwest::Error> {
    let tracer = global::tracer("shop");
    let span = tracer
        .span_builder("GET")
        .with_kind(SpanKind::Client)
        .with_attributes([
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("url.full", url.to_owned()),
        ])
        .start(&tracer);
    let context = Context::current_with_span(span);
    let mut request = reqwest::Request::new(reqwest::Method::GET, url.parse().expect("a URL"));
    *request.timeout_mut() = Some(timeout);
    global::get_text_map_propagator(|p| {
        p.inject_context(&context, &mut HeaderInjector(request.headers_mut()));
    });
    let answer = CLIENT.execute(request).with_context(context.clone()).await;
    match &answer {
        Ok(answer) => end(&context, answer.status(), !answer.status().is_success()),
        Err(error) => {
            context.span().set_status(Status::error(error.to_string()));
            context.span().end();
        }
    }
    answer.map(|answer| answer.status())
}

fn end(context: &Context, status: StatusCode, failed: bool) {
    let span = context.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if failed {
        span.set_status(Status::error(""));
    }
    span.end();
}
