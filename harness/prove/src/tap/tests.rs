//! A tap between a client and a server that reports what it got.

use std::sync::Mutex;

use axum::{Router, body::to_bytes};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use libdd_trace_protobuf::pb::{self, AgentPayload};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::*;
use crate::change::{Delivery, On};

/// Most bytes of a body.
const MAX_BODY: usize = 1 << 20;

/// Answers every request, and keeps it.
struct Server {
    address: SocketAddr,
    got: Arc<Mutex<Vec<(HeaderMap, String, Bytes)>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&got);
        let app = Router::new().fallback(move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, MAX_BODY).await.unwrap();
            keep.lock().unwrap().push((parts.headers, parts.uri.to_string(), body));
            (StatusCode::CREATED, [("x-answered", "yes")], "done")
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, got }
    }
}

fn sites() -> Sites {
    let [entry, caller, at] = ["web", "shop", "pay"].map(str::to_owned);
    Sites { entry, caller, at }
}

fn payload(priority: i32) -> AgentPayload {
    let chunk = pb::TraceChunk { priority, ..pb::TraceChunk::default() };
    let tracer = pb::TracerPayload { chunks: vec![chunk], ..pb::TracerPayload::default() };
    AgentPayload { tracer_payloads: vec![tracer], ..AgentPayload::default() }
}

async fn post(url: String, body: Vec<u8>, encoding: &str) -> reqwest::Response {
    let client = harness_core::http::client().build().unwrap();
    let request = client.post(url).header("content-encoding", encoding).header("x-own", "1");
    request.body(body).send().await.unwrap()
}

#[tokio::test]
async fn what_is_not_to_be_changed_is_passed_on_as_it_came() {
    let (server, tap) = (Server::start().await, Tap::start(None, sites()).await.unwrap());
    let body = zstd::encode_all(&*payload(1).encode_to_vec(), 1).unwrap();
    let url = format!("{}/api/v0.2/traces?x=1", tap.instead_of(&server.address.to_string()));
    let answer = post(url, body.clone(), "zstd").await;
    assert_eq!(
        (answer.status(), answer.headers()["x-answered"].to_str().unwrap()),
        (StatusCode::CREATED, "yes")
    );
    assert_eq!(answer.text().await.unwrap(), "done");
    let got = server.got.lock().unwrap();
    let (headers, uri, passed) = &got[0];
    assert_eq!((uri.as_str(), passed), ("/api/v0.2/traces?x=1", &Bytes::from(body)));
    assert_eq!(
        (&headers["x-own"], &headers["content-encoding"]),
        (&"1".parse().unwrap(), &"zstd".parse().unwrap())
    );
    assert_eq!(tap.changed(), 0);
}

#[tokio::test]
async fn a_payload_is_changed_whatever_its_encoding_and_other_kinds_are_not() {
    let server = Server::start().await;
    let unkeep =
        |payload: &mut AgentPayload, _: &On<'_>| payload.tracer_payloads[0].chunks[0].priority = -1;
    let tap = Tap::start(Some(Change::Datadog(unkeep)), sites()).await.unwrap();
    let base = tap.instead_of(&server.address.to_string());
    let body = zstd::encode_all(&*payload(1).encode_to_vec(), 1).unwrap();
    post(format!("{base}/api/v0.2/traces"), body, "zstd").await;
    post(format!("{base}/v1/traces"), vec![1, 2], "identity").await;
    let got = server.got.lock().unwrap();
    assert_eq!(AgentPayload::decode(&*got[0].2).unwrap(), payload(-1));
    assert!(!got[0].0.contains_key("content-encoding"));
    assert_eq!(got[1].2, Bytes::from_static(&[1, 2]));
    assert_eq!(tap.changed(), 1);
}

#[tokio::test]
async fn a_delivery_is_doubled_swallowed_or_refused_and_the_sender_sees_what_it_is_to_see() {
    for (delivery, status, count) in [
        (|_: &AgentPayload, _: &On<'_>| Delivery::Twice, StatusCode::CREATED, 2),
        (|_: &AgentPayload, _: &On<'_>| Delivery::Swallow, StatusCode::ACCEPTED, 0),
        (
            |_: &AgentPayload, _: &On<'_>| Delivery::Refuse(StatusCode::FORBIDDEN),
            StatusCode::FORBIDDEN,
            0,
        ),
    ]
        as [(fn(&AgentPayload, &On<'_>) -> Delivery, StatusCode, usize); 3]
    {
        let server = Server::start().await;
        let tap = Tap::start(Some(Change::DatadogDelivery(delivery)), sites()).await.unwrap();
        let url = format!("{}/api/v0.2/traces", tap.instead_of(&server.address.to_string()));
        assert_eq!(post(url, payload(1).encode_to_vec(), "identity").await.status(), status);
        assert_eq!((server.got.lock().unwrap().len(), tap.changed()), (count, 1));
    }
}

#[tokio::test]
async fn headers_of_calls_are_changed_and_a_request_for_nobody_is_reported() {
    let server = Server::start().await;
    let drop = |headers: &mut HeaderMap, _: &On<'_>| _ = headers.remove("x-own");
    let tap = Tap::start(Some(Change::Headers(drop)), sites()).await.unwrap();
    let base = tap.instead_of(&server.address.to_string());
    post(format!("{base}/outgoing"), Vec::new(), "identity").await;
    assert!(!server.got.lock().unwrap()[0].0.contains_key("x-own"));
    assert_eq!(tap.changed(), 1);
    let nobody = post(format!("http://{}/outgoing", tap.address), Vec::new(), "identity").await;
    assert_eq!(nobody.status(), StatusCode::BAD_GATEWAY);
    assert!(nobody.text().await.unwrap().contains("does not begin with an address"));
}

/// A tap as a workload is given its faults, and asked, by these.
mod workload {
    use harness_core::wire::{Passed, WireAction, WireFault};

    use super::*;
    use crate::tap::line::{Line, Orders};

    fn orders(does: WireAction, next: Option<u32>) -> Orders {
        Orders::from_faults(vec![WireFault { does, next }]).unwrap()
    }

    async fn pass(line: &Line, server: &Server, request: http::request::Builder) -> Response {
        let request = request.body(axum::body::Body::from("body")).unwrap();
        line.pass(&server.address.to_string(), request).await
    }

    fn call() -> http::request::Builder {
        http::Request::get("/pay?x=1").header("traceparent", "00-ab-cd-01")
    }

    use axum::response::Response;

    #[tokio::test]
    async fn headers_are_dropped_set_doubled_and_put_into_upper_case() {
        let name = || "traceparent".to_owned();
        let set = WireAction::SetHeader { name: name(), value: "x".to_owned() };
        for (does, expected) in [
            (WireAction::DropHeader(name()), &[] as &[&str]),
            (set, &["x"]),
            (WireAction::DoubleHeader(name()), &["00-ab-cd-01", "00-ab-cd-01"]),
            (WireAction::UpperCaseHeader(name()), &["00-AB-CD-01"]),
        ] {
            let server = Server::start().await;
            let line = Line::new(orders(does, Some(1)));
            for _ in 0..2 {
                assert_eq!(pass(&line, &server, call()).await.status(), StatusCode::CREATED);
            }
            let got = server.got.lock().unwrap();
            let values = |nth: usize| -> Vec<String> {
                let all = got[nth].0.get_all("traceparent").into_iter();
                all.map(|value| value.to_str().unwrap().to_owned()).collect()
            };
            assert_eq!(
                (values(0), values(1)),
                (
                    expected.iter().map(|value| (*value).to_owned()).collect(),
                    vec!["00-ab-cd-01".to_owned()],
                )
            );
            assert_eq!(got[0].1, "/pay?x=1");
            assert_eq!(line.passed(), Passed { passed: 2, changed: 1 });
        }
    }

    #[tokio::test]
    async fn requests_are_refused_swallowed_and_doubled_and_questions_of_health_are_not() {
        for (does, status, count) in [
            (WireAction::Status(418), StatusCode::IM_A_TEAPOT, 0),
            (WireAction::Swallow, StatusCode::OK, 0),
            (WireAction::Duplicate, StatusCode::CREATED, 2),
            (WireAction::Pass, StatusCode::CREATED, 1),
        ] {
            let server = Server::start().await;
            let line = Line::new(orders(does.clone(), None));
            assert_eq!(pass(&line, &server, call()).await.status(), status);
            assert_eq!(server.got.lock().unwrap().len(), count);
            let changed = u64::from(does != WireAction::Pass);
            assert_eq!(line.passed(), Passed { passed: 1, changed });
            let health = http::Request::get("/health");
            assert_eq!(pass(&line, &server, health).await.status(), StatusCode::CREATED);
            assert_eq!(line.passed(), Passed { passed: 1, changed });
        }
    }

    #[tokio::test]
    async fn what_it_cannot_do_is_refused_and_a_new_order_counts_anew() {
        let breakage = |name: &str| WireAction::Breakage {
            name: name.to_owned(),
            entry: "web".to_owned(),
            caller: "shop".to_owned(),
            at: "pay".to_owned(),
        };
        let wrong = |does| Orders::from_faults(vec![WireFault { does, next: None }]).unwrap_err();
        assert!(wrong(breakage("no-such-thing")).contains("no-such-thing"));
        let bad = WireAction::SetHeader { name: "a b".to_owned(), value: String::new() };
        assert!(wrong(bad).contains("no header `a b`"));
        let server = Server::start().await;
        let line = Line::new(orders(breakage("traceparent-dropped"), None));
        pass(&line, &server, call()).await;
        assert!(!server.got.lock().unwrap()[0].0.contains_key("traceparent"));
        assert_eq!(line.passed(), Passed { passed: 1, changed: 1 });
        line.obey(Orders::default());
        assert_eq!(line.passed(), Passed::default());
    }
}

/// gRPC from a client through a tap: HTTP/2 from the first byte, a frame around each message, and trailers behind the answer.
mod over_grpc {
    use http::Version;
    use http_body_util::{BodyExt, Full};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use opentelemetry_proto::tonic::{resource::v1::Resource, trace::v1::ResourceSpans};

    use super::*;
    use crate::tap::{grpc, serve};

    const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    fn spans() -> ExportTraceServiceRequest {
        let spans =
            ResourceSpans { resource: Some(Resource::default()), ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }

    /// A server of gRPC that keeps what it was sent.
    async fn server() -> (SocketAddr, Arc<Mutex<Vec<Bytes>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, got) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let keep = Arc::clone(&got);
        tokio::spawn(serve::serve(listener, move |request: Request| {
            let keep = Arc::clone(&keep);
            async move {
                assert_eq!(request.version(), Version::HTTP_2);
                let body = to_bytes(request.into_body(), MAX_BODY).await.unwrap();
                keep.lock().unwrap().push(body);
                grpc::done()
            }
        }));
        (address, got)
    }

    /// The status in the trailers, or in the headers where there is no body.
    async fn export(tap: &Tap, to: SocketAddr) -> String {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let url = format!("{}{EXPORT}", tap.instead_of(&to.to_string()));
        let body = Full::new(grpc::framed(&spans().encode_to_vec()));
        let request = http::Request::post(url).header("content-type", "application/grpc");
        let answer = client.request(request.body(body).unwrap()).await.unwrap();
        let of_headers = answer.headers().get("grpc-status").cloned();
        let whole = answer.into_body().collect().await.unwrap();
        let status = whole.trailers().and_then(|all| all.get("grpc-status")).cloned();
        status.or(of_headers).unwrap().to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn spans_are_passed_on_changed_swallowed_and_refused() {
        let (to, got) = server().await;
        let tap = Tap::start(None, sites()).await.unwrap();
        assert_eq!(export(&tap, to).await, "0");
        let change = |request: &mut ExportTraceServiceRequest, _: &On<'_>| {
            request.resource_spans.clear();
        };
        let tap = Tap::start(Some(Change::Otlp(change)), sites()).await.unwrap();
        assert_eq!((export(&tap, to).await.as_str(), tap.changed()), ("0", 1));
        let swallow = |_: &ExportTraceServiceRequest, _: &On<'_>| Delivery::Swallow;
        let tap = Tap::start(Some(Change::OtlpDelivery(swallow)), sites()).await.unwrap();
        assert_eq!((export(&tap, to).await.as_str(), tap.changed()), ("0", 1));
        let refuse = |_: &ExportTraceServiceRequest, _: &On<'_>| {
            Delivery::Refuse(StatusCode::SERVICE_UNAVAILABLE)
        };
        let tap = Tap::start(Some(Change::OtlpDelivery(refuse)), sites()).await.unwrap();
        assert_eq!((export(&tap, to).await.as_str(), tap.changed()), ("14", 1));
        let got = got.lock().unwrap();
        let read = |body: &Bytes| {
            ExportTraceServiceRequest::decode(grpc::unframed(body).unwrap().1).unwrap()
        };
        let got: Vec<_> = got.iter().map(read).collect();
        assert_eq!(got, [spans(), ExportTraceServiceRequest::default()]);
    }
}

#[tokio::test]
async fn what_a_collector_reports_datadog_beside_traces_is_no_call_and_a_service_s_own_api_is_one()
{
    let server = Server::start().await;
    // As in the breakage that strikes the second call: whatever is taken for a call before it moves the strike elsewhere.
    let second = |headers: &mut HeaderMap, on: &On<'_>| {
        if on.nth == 1 {
            headers.remove("traceparent");
        }
    };
    let tap = Tap::start(Some(Change::Headers(second)), sites()).await.unwrap();
    let base = tap.instead_of(&server.address.to_string());
    let client = harness_core::http::client().build().unwrap();
    let call = |path: &str| client.post(format!("{base}{path}")).header("traceparent", "00-1-2-01");
    let send = async |request: reqwest::RequestBuilder| drop(request.send().await.unwrap());
    let key = "dd-api-key";
    send(client.post(format!("{base}/intake")).header(key, "k")).await;
    send(call("/api/v1/orders")).await;
    send(client.post(format!("{base}/api/v2/series")).header(key, "k")).await;
    send(client.get(format!("{base}/api/v1/validate")).header(key, "k")).await;
    let metrics = client.post(format!("{base}/v1/metrics"));
    send(metrics.header("content-type", "application/x-protobuf")).await;
    assert_eq!(tap.changed(), 0);
    send(call("/intake")).await;
    assert_eq!(tap.changed(), 1);
    let got = server.got.lock().unwrap();
    let reported = got.iter().filter(|(headers, ..)| headers.contains_key("traceparent")).count();
    assert_eq!((got.len(), reported), (6, 1));
}
