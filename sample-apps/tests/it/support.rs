//! Shared parts of the tests: apps in this process, a receiver of their spans, requests.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use sample_apps::settings::Settings;
use sample_apps::{RunError, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time;
use tonic::codec::CompressionEncoding;

/// Longer than anything here takes, even on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A trace id and parent of a caller that samples, and its header.
pub(crate) const TRACE_ID: &str = "6920f1a000000000000000000000beef";
pub(crate) const PARENT_ID: &str = "00000000000000aa";
pub(crate) const TRACEPARENT: (&str, &str) =
    ("traceparent", "00-6920f1a000000000000000000000beef-00000000000000aa-01");

/// An app in this process.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

impl App {
    pub(crate) async fn start(vars: &[(&str, &str)]) -> Self {
        Self::start_with(vars, |_| {}).await
    }

    pub(crate) async fn start_with(
        vars: &[(&str, &str)],
        adjust: impl FnOnce(&mut Settings),
    ) -> Self {
        let vars: BTreeMap<_, _> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut settings = Settings::from_vars(&vars).unwrap();
        adjust(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(settings, listener).unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, stop, running }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_get(path, headers).await.unwrap()
    }

    pub(crate) async fn try_get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, reqwest::Error> {
        get(&self.url(path), headers, DEADLINE).await
    }

    /// Sends a request with a fault and the caller's trace context.
    pub(crate) async fn get_with_fault(&self, path: &str, fault: &str) -> Answer {
        self.get_with(path, &[TRACEPARENT, ("x-tracecheck-fault", fault)]).await
    }

    /// Returns the ledger's totals.
    pub(crate) async fn ledger(&self) -> serde_json::Value {
        self.get("/ledger").await.json
    }

    /// Returns the ledger's spans of a trace.
    pub(crate) async fn ledger_spans(&self, trace_id: &str) -> Vec<serde_json::Value> {
        let page = self.get(&format!("/ledger/{trace_id}")).await.json;
        page["spans"].as_array().unwrap().clone()
    }

    /// Stops the app and returns how that went; its spans are exported by then.
    pub(crate) async fn stop(self) -> Result<(), RunError> {
        self.stop.send(()).unwrap();
        time::timeout(DEADLINE, self.running).await.unwrap().unwrap()
    }
}

/// An answer of JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: serde_json::Value,
}

impl Answer {
    pub(crate) fn trace_id(&self) -> &str {
        self.json["traceId"].as_str().unwrap()
    }

    pub(crate) fn error(&self) -> &str {
        self.json["error"].as_str().unwrap()
    }
}

/// Returns the client of all tests: making one reads all root certificates. It keeps no connections, for each belongs
/// to the runtime of the test that opened it.
pub(crate) fn client() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap()
    });
    &CLIENT
}

pub(crate) async fn get(
    url: &str,
    headers: &[(&str, &str)],
    timeout: Duration,
) -> Result<Answer, reqwest::Error> {
    let mut request = client().get(url).timeout(timeout);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await?;
    let status = response.status().as_u16();
    let json = serde_json::from_slice(&response.bytes().await?).unwrap();
    Ok(Answer { status, json })
}

/// A collector's stand-in: takes spans by OTLP over gRPC and HTTP and keeps them.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    pub(crate) grpc: String,
    pub(crate) http: String,
    received: Arc<Mutex<Received>>,
}

#[derive(Default)]
struct Received {
    spans: Vec<ReceivedSpan>,
    headers: Vec<BTreeMap<String, String>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let receiver =
            Self { grpc: url(&listener), http: url(&http_listener), received: Arc::default() };
        let service = TraceServiceServer::new(receiver.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
        );
        let router =
            Router::new().route("/v1/traces", post(receive_http)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(http_listener, router).await });
        receiver
    }

    fn keep(&self, headers: BTreeMap<String, String>, request: ExportTraceServiceRequest) {
        let mut received = self.received.lock().unwrap();
        received.headers.push(headers);
        for resource_spans in request.resource_spans {
            let resource = attributes(&resource_spans.resource.unwrap_or_default().attributes);
            for span in resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                received.spans.push(ReceivedSpan { resource: resource.clone(), span });
            }
        }
    }

    /// Returns all spans received so far, in the order of their start.
    pub(crate) fn spans(&self) -> Vec<ReceivedSpan> {
        let mut spans = self.received.lock().unwrap().spans.clone();
        spans.sort_by_key(|span| span.span.start_time_unix_nano);
        spans
    }

    /// Returns the headers of all exports received so far.
    pub(crate) fn headers(&self) -> Vec<BTreeMap<String, String>> {
        self.received.lock().unwrap().headers.clone()
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = header_map(&request.metadata().clone().into_headers());
        self.keep(headers, request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receive_http(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let mut plain = Vec::new();
    match headers.get("content-encoding").map(|value| value.to_str().unwrap()) {
        None => plain.extend_from_slice(&body),
        Some("gzip") => {
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
        }
        Some(other) => panic!("{other}"),
    }
    receiver.keep(header_map(&headers), ExportTraceServiceRequest::decode(&plain[..]).unwrap());
    (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
}

fn header_map(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers.iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned())).collect()
}

/// A span as it came by OTLP.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedSpan {
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) span: Span,
}

impl ReceivedSpan {
    pub(crate) fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// Empty where there is none.
    pub(crate) fn parent_id(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    pub(crate) fn is_server(&self) -> bool {
        self.span.kind == SpanKind::Server as i32
    }

    pub(crate) fn is_client(&self) -> bool {
        self.span.kind == SpanKind::Client as i32
    }

    /// Returns an attribute as text; empty where there is none.
    pub(crate) fn attribute(&self, key: &str) -> String {
        attributes(&self.span.attributes).remove(key).unwrap_or_default()
    }

    /// Returns the attributes with these keys as `key=value`, those that are there.
    pub(crate) fn described(&self, keys: &[&str]) -> Vec<String> {
        let attributes = attributes(&self.span.attributes);
        keys.iter()
            .filter_map(|key| attributes.get(*key).map(|value| format!("{key}={value}")))
            .collect()
    }

    pub(crate) fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == SpanStatus::Error as i32)
    }

    pub(crate) fn status_message(&self) -> &str {
        self.span.status.as_ref().map_or("", |status| &status.message)
    }

    /// Returns type and message of each `exception` event.
    pub(crate) fn exceptions(&self) -> Vec<(String, String)> {
        let events = self.span.events.iter().filter(|event| event.name == "exception");
        events
            .map(|event| {
                let mut reported = attributes(&event.attributes);
                (
                    reported.remove("exception.type").unwrap(),
                    reported.remove("exception.message").unwrap(),
                )
            })
            .collect()
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| {
        pair.value.clone().and_then(|value| value.value).map(text).unwrap_or_default()
    };
    pairs.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two apps, `sample-app-1` calling `sample-app-2`, and the receiver of their spans.
pub(crate) struct Chain {
    pub(crate) receiver: Receiver,
    pub(crate) first: App,
    pub(crate) second: App,
}

impl Chain {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[], &[]).await
    }

    /// Starts a chain with variables of the first app and of both.
    pub(crate) async fn start_with(of_first: &[(&str, &str)], of_both: &[(&str, &str)]) -> Self {
        let receiver = Receiver::start().await;
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str())];
        let vars = |own: &[(&'static str, &'static str)]| [&endpoint, own].concat();
        let second = vars(&[("NAME", "sample-app-2"), ("OTEL_SERVICE_NAME", "second")]);
        let second = App::start(&[&second[..], of_both].concat()).await;
        let upstream = second.url("");
        let first = vars(&[("NAME", "sample-app-1"), ("OTEL_SERVICE_NAME", "first")]);
        let upstream = [("UPSTREAM_URIS", upstream.as_str())];
        let first = App::start(&[&first[..], &upstream, of_both, of_first].concat()).await;
        Self { receiver, first, second }
    }

    /// Stops both apps and returns all spans that they exported.
    pub(crate) async fn spans(self) -> Vec<ReceivedSpan> {
        self.first.stop().await.unwrap();
        self.second.stop().await.unwrap();
        self.receiver.spans()
    }
}

/// Polls until the check gives a value; shows what it last said at the deadline.
pub(crate) async fn eventually<T>(mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut ticks = time::interval(Duration::from_millis(5));
    let mut last = String::new();
    let holds = async {
        loop {
            match check().await {
                Ok(value) => return value,
                Err(now) => last = now,
            }
            ticks.tick().await;
        }
    };
    let value = time::timeout(DEADLINE, holds).await;
    value.unwrap_or_else(|_| panic!("never came true, last: {last}"))
}
