//! The driver: sends a scenario's requests, each in a trace whose id it chose, and exports its own client spans.
//!
//! It decides nothing about the answers; a [`Case`] holds what was sent and how it ended.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    case::{Case, Outcome, ResponseParts},
    scenario::{Method, Propagation, Request, request},
    trace::{SpanId, TraceId, unix_nanos},
};

mod answer;
pub(crate) mod grpc;
mod own_spans;

pub(crate) use self::own_spans::OWN_HEADER;
pub use self::own_spans::OtlpEndpoint;
use self::own_spans::OwnSpans;

/// The header that carries faults to the sample apps, which read and forward it themselves.
pub const FAULT_HEADER: &str = "x-tracecheck-fault";

/// Key of the harness's own entry in the `tracestate` that it sends.
pub(crate) const STATE_KEY: &str = "tracecheck";
/// Value of the header `tracestate`.
const STATE: &str = "tracecheck=1";

/// Longest wait for a connection to the entry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Error for a driver that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The HTTP client could not be made.
    #[error("no HTTP client for the requests: {0}")]
    Client(String),
    /// The exporter for the harness's own spans could not be made.
    #[error("no OTLP exporter to {endpoint} for the harness's own spans: {reason}")]
    Exporter {
        /// The collector's endpoint.
        endpoint: String,
        /// The cause.
        reason: String,
    },
}

/// Sends requests to one entry.
#[derive(Debug, Clone)]
pub struct Driver {
    client: reqwest::Client,
    grpc: Arc<grpc::Caller>,
    entry_url: String,
    own_spans: Arc<OwnSpans>,
}

/// The ids of a request that is about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The trace.
    pub trace_id: TraceId,
    /// The harness's own client span.
    pub span_id: SpanId,
}

impl Ids {
    /// Generates random ids; the trace id begins with the current time in seconds, as X-Ray requires.
    pub fn generate() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let random = rand::random::<u128>() & ((1 << 96) - 1);
        let trace_id = TraceId((u128::from(now.as_secs() as u32) << 96) | random);
        // Zero is no span id.
        Self { trace_id, span_id: SpanId(rand::random_range(1..=u64::MAX)) }
    }

    /// Returns the header that carries these ids as trace context; `None` for [`Propagation::None`].
    pub fn headers(
        self,
        propagation: Propagation,
        sampled: bool,
    ) -> Option<(&'static str, String)> {
        let Self { trace_id, span_id } = self;
        let flag = u8::from(sampled);
        match propagation {
            Propagation::W3c => Some(("traceparent", format!("00-{trace_id}-{span_id}-0{flag}"))),
            Propagation::Xray => {
                let root = trace_id.to_xray();
                Some(("x-amzn-trace-id", format!("Root={root};Parent={span_id};Sampled={flag}")))
            }
            Propagation::B3 => Some(("b3", format!("{trace_id}-{span_id}-{flag}"))),
            Propagation::None => None,
        }
    }
}

/// The header beside the context that shows whether it is handed on whole, unless a request sets it itself.
fn state(request: &Request) -> Option<(&'static str, &'static str)> {
    let is_set = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("tracestate"));
    (request.propagation == Propagation::W3c && !is_set).then_some(("tracestate", STATE))
}

impl Driver {
    /// Creates a driver for the entry at `entry_url`, which exports its own spans to each of `otlp`, the reachable
    /// instances of the collector, in turn.
    ///
    /// # Errors
    ///
    /// When the HTTP client or the exporter cannot be set up.
    pub fn new(
        entry_url: String,
        otlp: &[OtlpEndpoint],
        run_id: String,
    ) -> Result<Self, DriverError> {
        let client = crate::http::client()
            .user_agent(concat!("tracecheck/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| DriverError::Client(crate::chain_of(&error)))?;
        let own_spans = Arc::new(OwnSpans::new(otlp, run_id)?);
        Ok(Self { client, grpc: Arc::default(), entry_url, own_spans })
    }

    /// Returns how many of the harness's own spans each instance of the collector accepted.
    pub fn exported(&self) -> Vec<u64> {
        self.own_spans.exported()
    }

    /// Returns how many of the harness's own spans got no OK in time, so that they may or may not have been accepted.
    pub fn undecided(&self) -> u64 {
        self.own_spans.undecided()
    }

    /// Sends one request, to `entry_url` unless it is for the system's entry, and exports the harness's own span of
    /// the request.
    pub async fn send(
        &self,
        request: &Request,
        entry_url: Option<&str>,
        place: (usize, u32),
        ids: Ids,
        fault: Option<&str>,
    ) -> Case {
        let base = entry_url.unwrap_or(&self.entry_url);
        let url = format!("{base}{}", request.path);
        let mut builder =
            self.client.request(method(request.method), &url).timeout(request.timeout);
        if let Some(body) = &request.body {
            builder = builder
                .header(reqwest::header::CONTENT_TYPE, &body.content_type)
                .body(body.content.bytes());
        }
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let context = ids.headers(request.propagation, request.sampled);
        let context_sent = context.is_some();
        if let Some((name, value)) = context {
            builder = builder.header(name, value);
        }
        if let Some((name, value)) = state(request) {
            builder = builder.header(name, value);
        }
        if let Some(fault) = fault {
            builder = builder.header(FAULT_HEADER, fault);
        }
        let started = SystemTime::now();
        let (outcome, answer) = if request.method == Method::Grpc {
            self.call(request, base, ids).await
        } else {
            match builder.send().await {
                Ok(response) => answer::of_response(request, response).await,
                Err(error) => answer::failed(crate::chain_of(&error.without_url())),
            }
        };
        let ended = SystemTime::now();
        let mut case = Case {
            sent_at: unix_nanos(started),
            ended_at: unix_nanos(ended),
            outcome,
            answer,
            ..not_sent(request, place, ids, String::new())
        };
        if !context_sent && let Outcome::Response { trace_id: Some(reported), .. } = &case.outcome {
            case.trace_id = *reported;
        }
        if context_sent && request.sampled {
            case.driver_exported = self.own_spans.export(&case, &url, started, ended).await;
        }
        case
    }

    /// Calls the gRPC method of a request.
    async fn call(&self, request: &Request, base: &str, ids: Ids) -> (Outcome, ResponseParts) {
        let nothing = serde_json::Value::Object(serde_json::Map::new());
        let message = match request.body.as_ref().map(|body| &body.content) {
            Some(request::Content::Json(json)) => json,
            _ => &nothing,
        };
        let headers =
            request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
        let context = ids.headers(request.propagation, request.sampled);
        let context = context.map(|(name, value)| (name.to_owned(), value));
        let state = state(request).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let called = self.grpc.call(grpc::Call {
            url: base,
            path: &request.path,
            message,
            metadata: headers.chain(context).chain(state).collect(),
            timeout: request.timeout,
            descriptors: request.descriptors.as_ref().map(|set| set.bytes.as_ref()),
        });
        match called.await {
            Ok(called) => answer::of_call(request, called),
            Err(error) => answer::failed(error.to_string()),
        }
    }
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
        // HTTP/2's, which a call of gRPC uses; it is not sent by this client.
        Method::Grpc => reqwest::Method::POST,
    }
}

/// The case of a request that could not even be sent.
pub(crate) fn not_sent(request: &Request, place: (usize, u32), ids: Ids, reason: String) -> Case {
    let now = unix_nanos(SystemTime::now());
    Case {
        request: place.0,
        ordinal: place.1,
        trace_id: ids.trace_id,
        driver_span: ids.span_id,
        driver_exported: false,
        context_sent: request.propagation != Propagation::None,
        sampled: request.sampled,
        sent_at: now,
        ended_at: now,
        outcome: Outcome::Failed { reason },
        method: request.method,
        entry: request.entry.clone(),
        answer: ResponseParts::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stub_server::StubServer;
    use wiremock::{
        Mock, ResponseTemplate,
        matchers::{body_json, header, method, path},
    };

    use super::*;
    use crate::scenario::request::{Body, Content};

    async fn sent(request: &Request, answers: ResponseTemplate) -> (Case, Vec<wiremock::Request>) {
        let server = StubServer::start().await;
        Mock::given(path("/orders")).respond_with(answers).mount(&server).await;
        let driver = Driver::new(server.uri(), &[], "run".to_owned()).unwrap();
        let case = driver.send(request, None, (0, 0), Ids::generate(), None).await;
        (case, server.received_requests().await.unwrap())
    }

    #[tokio::test]
    async fn a_body_is_sent_by_the_method_that_was_asked_for_with_its_type() {
        let content = Content::Json(json!({ "item": 7 }));
        let body = Body { content_type: "application/json".to_owned(), content };
        let methods = [Method::Post, Method::Put, Method::Patch, Method::Delete];
        for of in methods {
            let request =
                Request { method: of, body: Some(body.clone()), ..Request::get("/orders") };
            let server = StubServer::start().await;
            Mock::given(method(of.name()))
                .and(path("/orders"))
                .and(header("content-type", "application/json"))
                .and(body_json(json!({ "item": 7 })))
                .respond_with(ResponseTemplate::new(201))
                .mount(&server)
                .await;
            let driver =
                Driver::new("http://127.0.0.1:1".to_owned(), &[], "run".to_owned()).unwrap();
            let case =
                driver.send(&request, Some(&server.uri()), (0, 0), Ids::generate(), None).await;
            assert_eq!(case.outcome, Outcome::Response { status: 201, trace_id: None }, "{of:?}");
            assert_eq!(case.method, of);
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_only_where_the_scenario_looks() {
        let answers = || {
            ResponseTemplate::new(200)
                .set_body_json(json!({ "order": { "id": 7 }, "secret": "x" }))
                .insert_header("location", "/orders/7")
        };
        let (case, _) = sent(&Request::get("/orders"), answers()).await;
        assert_eq!(case.answer, ResponseParts::default());
        let asked = Request { status: Some(201), ..Request::get("/orders") };
        let (case, _) = sent(&asked, answers()).await;
        assert!(case.answer.excerpt.starts_with("{\"order\""), "why it is none: {case:?}");
        let mut request = Request::get("/orders");
        request.save = [("id".to_owned(), "order.id".to_owned())].into();
        let condition = serde_json::from_value(json!("/orders/7")).unwrap();
        request.answer.headers = [("Location".to_owned(), condition)].into();
        let (case, received) = sent(&request, answers()).await;
        assert_eq!(case.answer.json, [("order.id".to_owned(), json!(7))].into());
        assert_eq!(case.answer.headers, [("Location".to_owned(), "/orders/7".to_owned())].into());
        assert_eq!((received[0].method.as_str(), case.answer.text), ("GET", None));
    }

    #[tokio::test]
    async fn an_answer_that_is_no_json_is_reported_as_such() {
        let mut request = Request::get("/orders");
        request.save = [("id".to_owned(), "id".to_owned())].into();
        let (case, _) = sent(&request, ResponseTemplate::new(200).set_body_string("<html>")).await;
        let reason = case.answer.no_json.expect("a reason");
        assert!(reason.contains("expected value"), "{reason}");
        assert_eq!(case.answer.excerpt, "<html>");
    }

    #[test]
    fn ids_are_handed_on_in_each_spelling() {
        let ids = Ids {
            trace_id: TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
            span_id: SpanId(0xb7),
        };
        assert_eq!(
            ids.headers(Propagation::W3c, true),
            Some((
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-00000000000000b7-01".to_owned()
            ))
        );
        assert_eq!(
            ids.headers(Propagation::Xray, false),
            Some((
                "x-amzn-trace-id",
                "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=00000000000000b7;Sampled=0"
                    .to_owned()
            ))
        );
        assert_eq!(
            ids.headers(Propagation::B3, true),
            Some(("b3", "0af7651916cd43dd8448eb211c80319c-00000000000000b7-1".to_owned()))
        );
        assert_eq!(ids.headers(Propagation::None, true), None);
    }

    #[test]
    fn a_trace_id_begins_with_the_time() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let seconds = (Ids::generate().trace_id.0 >> 96) as u64;
        assert!(now.abs_diff(seconds) <= 1, "{now} {seconds}");
    }
}
