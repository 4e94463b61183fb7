//! One axum service in the test's own process, judged by the traces that it sends: `cargo test -p harness --example in_process`.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::{collections::HashMap, error::Error};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use harness::{
    expectation::{Expect, Matcher, Node},
    test_system::{Answer, InProcess},
};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global,
    propagation::TextMapPropagator,
    trace::{SpanKind, TraceContextExt, Tracer},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::net::TcpListener;

/// Answers a request inside a server span, below the context that the request carries.
async fn traced(request: Request, next: Next) -> Response {
    let headers = request.headers().iter();
    let headers: HashMap<String, String> = headers
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    respond(TraceContextPropagator::new().extract(&headers), request, next).await
}

/// The same by a service that does not read the context.
async fn traced_apart(request: Request, next: Next) -> Response {
    respond(Context::new(), request, next).await
}

async fn respond(parent: Context, request: Request, next: Next) -> Response {
    let tracer = global::tracer("shop");
    let name = format!("{} {}", request.method(), request.uri().path());
    let span = tracer.span_builder(name).with_kind(SpanKind::Server);
    let span = span.with_attributes([
        KeyValue::new("http.request.method", request.method().to_string()),
        KeyValue::new("http.route", request.uri().path().to_owned()),
    ]);
    let context = parent.with_span(span.start_with_context(&tracer, &parent));
    let response = next.run(request).with_context(context.clone()).await;
    let status = i64::from(response.status().as_u16());
    context.span().set_attribute(KeyValue::new("http.response.status_code", status));
    context.span().end();
    response
}

/// The service under test, with the work of one route as a span below the server's.
fn shop(reads_the_context: bool) -> Router {
    let cart = get(|| async {
        global::tracer("shop").in_span("price the cart", |_| "a book");
        "a book"
    });
    let router = Router::new().route("/cart", cart);
    match reads_the_context {
        true => router.layer(from_fn(traced)),
        false => router.layer(from_fn(traced_apart)),
    }
}

/// Asks the service for the cart, and has the trace of that judged; returns too how many spans were captured of any trace.
async fn ask_for_the_cart(reads_the_context: bool) -> Result<(Answer, u64), Box<dyn Error>> {
    let services = InProcess::start().await?;
    // As in the service's own `main`: its exporter, which sends to the intake here.
    _ = rustls::crypto::ring::default_provider().install_default();
    // The batch processor's own thread needs a client that blocks, which must not be made on a thread of tokio's.
    let client = tokio::task::spawn_blocking(reqwest::blocking::Client::new).await?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(services.traces_url())
        .with_headers(HashMap::from([("dd-api-key".to_owned(), "any".to_owned())]))
        .build()?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("shop").build())
        .with_batch_exporter(exporter)
        .build();
    global::set_tracer_provider(provider.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/cart", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, shop(reads_the_context)).await });

    // The tree that is asked for below the request.
    let server_span = Matcher {
        at: Some("shop".to_owned()),
        kind: Some("server".to_owned()),
        resource: Some("GET /cart".to_owned()),
        ..Matcher::default()
    };
    let work = Matcher { at: Some("shop".to_owned()), ..Matcher::default() };
    let work = Node { span: work, ..Node::default() };
    let tree = Node { span: server_span, children: vec![work], more: false };
    let call = services.call("/cart", Expect { tree: Some(tree), ..Expect::default() });
    let response =
        reqwest::Client::new().get(url).header("traceparent", call.traceparent()).send().await?;
    let status = response.status().as_u16();
    // What the SDK still holds is sent before the trace is judged.
    tokio::task::spawn_blocking(move || provider.force_flush()).await??;
    server.abort();
    let answer = call.answered(status).await?;
    Ok((answer, services.intake().client().counts().spans))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (answer, _) = ask_for_the_cart(true).await?;
    let trace = answer.whole_trace()?;
    println!("trace {} is whole, with {} spans", trace.id, trace.spans.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both in one test, since the SDK's provider is one for the process.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_that_goes_on_with_the_context_is_whole_and_one_that_does_not_is_not() {
        let (answer, captured) = ask_for_the_cart(true).await.unwrap();
        let trace = answer.whole_trace().unwrap();
        assert_eq!((answer.status(), trace.spans.len(), captured), (Some(200), 2, 2));

        let (answer, captured) = ask_for_the_cart(false).await.unwrap();
        let wrong = answer.whole_trace().unwrap_err().to_string();
        assert_eq!(captured, 2);
        assert!(wrong.contains("no span of any service was captured for trace"), "{wrong}");
    }
}
