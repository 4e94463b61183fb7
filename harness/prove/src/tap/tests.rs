//! A tap between a client and a server that tells what it got.

use std::sync::Mutex;

use libdd_trace_protobuf::pb;

use super::*;

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
    let (server, tap) = (Server::start().await, Tap::start(None).await.unwrap());
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
    let unkeep = |payload: &mut AgentPayload, _| payload.tracer_payloads[0].chunks[0].priority = -1;
    let tap = Tap::start(Some(Change::Datadog(unkeep))).await.unwrap();
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
        (|_: &AgentPayload, _| Delivery::Twice, StatusCode::CREATED, 2),
        (|_: &AgentPayload, _| Delivery::Swallow, StatusCode::ACCEPTED, 0),
        (|_: &AgentPayload, _| Delivery::Refuse(StatusCode::FORBIDDEN), StatusCode::FORBIDDEN, 0),
    ]
        as [(fn(&AgentPayload, u64) -> Delivery, StatusCode, usize); 3]
    {
        let server = Server::start().await;
        let tap = Tap::start(Some(Change::DatadogDelivery(delivery))).await.unwrap();
        let url = format!("{}/api/v0.2/traces", tap.instead_of(&server.address.to_string()));
        assert_eq!(post(url, payload(1).encode_to_vec(), "identity").await.status(), status);
        assert_eq!((server.got.lock().unwrap().len(), tap.changed()), (count, 1));
    }
}

#[tokio::test]
async fn headers_of_calls_are_changed_and_a_request_for_nobody_is_told() {
    let server = Server::start().await;
    let drop = |headers: &mut HeaderMap, _| _ = headers.remove("x-own");
    let tap = Tap::start(Some(Change::Headers(drop))).await.unwrap();
    let base = tap.instead_of(&server.address.to_string());
    post(format!("{base}/outgoing"), Vec::new(), "identity").await;
    assert!(!server.got.lock().unwrap()[0].0.contains_key("x-own"));
    assert_eq!(tap.changed(), 1);
    let nobody = post(format!("http://{}/outgoing", tap.address), Vec::new(), "identity").await;
    assert_eq!(nobody.status(), StatusCode::BAD_GATEWAY);
    assert!(nobody.text().await.unwrap().contains("does not begin with an address"));
}
