//! A chain of two gives one linked trace by the semantic conventions.

use crate::support::{Chain, PARENT_ID, TRACE_ID, TRACEPARENT};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_through_two_apps_makes_one_linked_trace() {
    let chain = Chain::start().await;
    let answer = chain.first.get_with("/outgoing-sampleapp", &[TRACEPARENT]).await;
    assert_eq!((answer.status, answer.trace_id()), (200, TRACE_ID));

    let spans = chain.spans().await;
    let reported: Vec<_> =
        spans.iter().map(|s| (s.resource["service.name"].as_str(), s.span.name.as_str())).collect();
    assert_eq!(
        reported,
        [
            ("first", "GET /outgoing-sampleapp"),
            ("first", "GET"),
            ("second", "GET /outgoing-sampleapp")
        ]
    );
    assert!(spans[0].is_server() && spans[1].is_client() && spans[2].is_server());
    assert!(spans.iter().all(|span| span.trace_id() == TRACE_ID && !span.is_error()));
    let parents: Vec<_> = spans.iter().map(|span| span.parent_id()).collect();
    assert_eq!(parents, [PARENT_ID, &spans[0].id(), &spans[1].id()]);
    assert_ne!(spans[0].resource["service.instance.id"], spans[2].resource["service.instance.id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_carry_the_attributes_of_the_http_conventions() {
    let chain = Chain::start().await;
    let (first, second) = (chain.first.address.port(), chain.second.address.port());
    let headers = [TRACEPARENT, ("user-agent", "test/1")];
    chain.first.get_with("/outgoing-sampleapp?a=b", &headers).await;

    let spans = chain.spans().await;
    let server = [
        "http.request.method",
        "http.route",
        "url.path",
        "url.query",
        "url.scheme",
        "server.address",
        "server.port",
        "client.address",
        "user_agent.original",
        "http.response.status_code",
        "network.protocol.version",
        "error.type",
    ];
    assert_eq!(
        spans[0].described(&server),
        [
            "http.request.method=GET",
            "http.route=/outgoing-sampleapp",
            "url.path=/outgoing-sampleapp",
            "url.query=a=b",
            "url.scheme=http",
            "server.address=127.0.0.1",
            &format!("server.port={first}"),
            "client.address=127.0.0.1",
            "user_agent.original=test/1",
            "http.response.status_code=200",
            "network.protocol.version=1.1",
        ]
    );
    let client = [
        "http.request.method",
        "url.full",
        "server.address",
        "server.port",
        "http.response.status_code",
        "network.protocol.version",
        "http.request.resend_count",
        "error.type",
    ];
    assert_eq!(
        spans[1].described(&client),
        [
            "http.request.method=GET",
            &format!("url.full=http://127.0.0.1:{second}/outgoing-sampleapp"),
            "server.address=127.0.0.1",
            &format!("server.port={second}"),
            "http.response.status_code=200",
            "network.protocol.version=1.1",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_context_starts_a_trace() {
    let chain = Chain::start().await;
    let answer = chain.first.get("/").await;
    let spans = chain.spans().await;
    assert_eq!(spans.len(), 1);
    assert_eq!(
        (spans[0].trace_id().as_str(), spans[0].parent_id().as_str()),
        (answer.trace_id(), "")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_is_traced_under_its_method_alone_and_is_no_error() {
    let chain = Chain::start().await;
    let answer = chain.first.get_with("/nowhere", &[TRACEPARENT]).await;
    assert_eq!((answer.status, answer.trace_id()), (404, TRACE_ID));
    let spans = chain.spans().await;
    assert_eq!(spans[0].span.name, "GET");
    assert_eq!(
        spans[0].described(&["http.route", "url.path", "error.type"]),
        ["url.path=/nowhere"]
    );
    assert!(!spans[0].is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_ledger_are_not_traced() {
    let chain = Chain::start().await;
    for path in ["/health", "/ledger", "/ledger/6920f1a000000000000000000000beef"] {
        assert_eq!(chain.first.get_with(path, &[TRACEPARENT]).await.status, 200, "{path}");
    }
    assert_eq!(chain.first.ledger().await["spans_ended"], 0);
    assert!(chain.spans().await.is_empty());
}
