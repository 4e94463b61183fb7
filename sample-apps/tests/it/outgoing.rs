//! Outgoing calls: what is sent, retried, and answered when it fails.

use std::time::Duration;

use stub_server::StubServer;
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::support::{App, Chain, Receiver, TRACE_ID, TRACEPARENT};

async fn start(receiver: &Receiver, vars: &[(&str, &str)]) -> App {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.grpc.as_str());
    App::start(&[&[endpoint], vars].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_party_gets_the_trace_context_and_no_faults() {
    let party = StubServer::start().await;
    let answer = ResponseTemplate::new(204);
    Mock::given(method("GET")).and(path("/api")).respond_with(answer).expect(1).mount(&party).await;
    let receiver = Receiver::start().await;
    let app =
        start(&receiver, &[("OUTGOING_HTTP_CALL_URL", &format!("{}/api", party.uri()))]).await;
    let fault = ("x-tracecheck-fault", "other=status:503");
    let headers = [TRACEPARENT, ("tracestate", "vendor=1"), ("baggage", "tenant=a"), fault];
    let answer = app.get_with("/outgoing-http-call", &headers).await;
    assert_eq!((answer.status, &answer.json["outgoing"]["status"]), (200, &204.into()));
    app.stop().await.unwrap();

    let requests = party.received_requests().await.unwrap();
    let spans = receiver.spans();
    assert!(spans[1].is_client());
    let expected = format!("00-{TRACE_ID}-{}-01", spans[1].id());
    assert_eq!(requests[0].headers["traceparent"], expected.as_str());
    assert_eq!(requests[0].headers["tracestate"], "vendor=1");
    assert_eq!(requests[0].headers["baggage"], "tenant=a");
    assert!(!requests[0].headers.contains_key("x-tracecheck-fault"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_party_that_fails_is_answered_502() {
    let party = StubServer::start().await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(500)).mount(&party).await;
    let receiver = Receiver::start().await;
    let app = start(&receiver, &[("OUTGOING_HTTP_CALL_URL", &party.uri())]).await;
    let answer = app.get_with("/outgoing-http-call", &[TRACEPARENT]).await;
    assert_eq!((answer.status, answer.trace_id()), (502, TRACE_ID));
    assert!(answer.error().ends_with("answered 500"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_party_that_is_too_slow_is_answered_504() {
    let party = StubServer::start().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    Mock::given(method("GET")).respond_with(slow).mount(&party).await;
    let receiver = Receiver::start().await;
    let vars = [
        ("OUTGOING_HTTP_CALL_URL", party.uri()),
        ("HTTP_CLIENT_REQUEST_TIMEOUT", "100ms".to_owned()),
    ];
    let app = start(&receiver, &vars.each_ref().map(|(k, v)| (*k, v.as_str()))).await;
    let answer = app.get("/outgoing-http-call").await;
    assert_eq!(answer.status, 504);
    assert!(answer.error().ends_with("did not answer within 100ms"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_upstream_is_answered_502_and_named() {
    let receiver = Receiver::start().await;
    // Port 9 (discard) is served by nobody here.
    let app = start(&receiver, &[("UPSTREAM_URIS", "http://user:secret@127.0.0.1:9")]).await;
    let answer = app.get_with("/outgoing-sampleapp", &[TRACEPARENT]).await;
    assert_eq!((answer.status, answer.trace_id()), (502, TRACE_ID));
    assert!(answer.error().contains("Connection refused"), "{answer:?}");
    assert!(!answer.error().contains("secret"), "{answer:?}");
    app.stop().await.unwrap();
    let spans = receiver.spans();
    assert_eq!(spans[1].attribute("error.type"), "connection_refused");
    assert_eq!(
        spans[1].attribute("url.full"),
        "http://REDACTED:REDACTED@127.0.0.1:9/outgoing-sampleapp"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_call_is_said_with_its_remedy() {
    let receiver = Receiver::start().await;
    let app = start(&receiver, &[]).await;
    let answer = app.get("/outgoing-http-call").await;
    assert_eq!(answer.status, 500);
    assert!(answer.error().contains("set OUTGOING_HTTP_CALL_URL"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_succeeds_shows_as_a_second_client_span() {
    let chain = Chain::start_with(&[("HTTP_CLIENT_RETRIES", "1")], &[]).await;
    let answer =
        chain.first.get_with_fault("/outgoing-sampleapp", "sample-app-2=status:503*1").await;
    assert_eq!((answer.status, &answer.json["upstreams"][0]["tries"]), (200, &2.into()));
    let spans = chain.spans().await;
    let clients: Vec<_> = spans.iter().filter(|span| span.is_client()).collect();
    let described = |index: usize| {
        clients[index].described(&["http.request.resend_count", "http.response.status_code"])
    };
    assert_eq!(described(0), ["http.response.status_code=503"]);
    assert_eq!(described(1), ["http.request.resend_count=1", "http.response.status_code=200"]);
    assert_eq!((clients.len(), clients[0].is_error(), clients[1].is_error()), (2, true, false));
    let server = spans.iter().find(|span| span.is_server() && span.parent_id() == clients[1].id());
    assert!(!server.unwrap().is_error());
    assert!(!spans[0].is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_sent_twice_at_most() {
    let chain = Chain::start_with(&[("HTTP_CLIENT_RETRIES", "1")], &[]).await;
    let answer = chain.first.get_with_fault("/outgoing-sampleapp", "sample-app-2=abort").await;
    assert_eq!(answer.status, 502);
    let spans = chain.spans().await;
    assert_eq!(spans.iter().filter(|span| span.is_client()).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_is_sent_to_the_direct_callee_only_and_faults_are_forwarded_unchanged() {
    let last = StubServer::start().await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(200)).mount(&last).await;
    let receiver = Receiver::start().await;
    let middle = start(&receiver, &[("NAME", "middle"), ("UPSTREAM_URIS", &last.uri())]).await;
    let first =
        start(&receiver, &[("UPSTREAM_URIS", &middle.url("")), ("HTTP_CLIENT_RETRIES", "1")]).await;
    let fault = "middle=status:500*1, other=delay:1s";
    assert_eq!(first.get_with_fault("/outgoing-sampleapp", fault).await.status, 200);
    let requests = last.received_requests().await.unwrap();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].headers["x-tracecheck-fault"], fault);
    assert!(!requests[0].headers.contains_key("x-tracecheck-resend"));
}
