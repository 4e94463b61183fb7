use serde_json::json;
use stub_server::StubServer;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{body_partial_json, header, method, path},
};

use super::*;
use crate::{datadog_api::Site, secret::Secret};

const ID: TraceId = TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
const API_KEY: &str = "api-key-5ecret";
const APP_KEY: &str = "app-key-5ecret";

fn access(url: &str) -> Access {
    Access {
        site: Site::default(),
        url: Some(url.to_owned()),
        api_key: Secret::new(API_KEY),
        app_key: Secret::new(APP_KEY),
    }
}

async fn answered(template: ResponseTemplate) -> Response {
    let server = StubServer::start().await;
    Mock::given(method("GET"))
        .and(path(format!("/api/v2/trace/{ID}")))
        .and(header("dd-api-key", API_KEY))
        .and(header("dd-application-key", APP_KEY))
        .respond_with(template)
        .expect(1)
        .mount(&server)
        .await;
    Client::new(&access(&server.uri())).unwrap().trace(ID).await
}

async fn error(template: ResponseTemplate) -> ApiError {
    answered(template).await.result.unwrap_err()
}

#[tokio::test]
async fn refused_keys_are_reported_with_what_to_set_and_without_the_keys() {
    let body = json!({ "errors": ["Forbidden", format!("key {API_KEY} is unknown")] });
    for status in [401, 403] {
        let error = error(ResponseTemplate::new(status).set_body_json(&body)).await;
        let reported = error.to_string();
        for part in
            ["DD_API_KEY", "DD_APP_KEY", "DD_SITE", "apm_read", "datadoghq.com", "Forbidden", "***"]
        {
            assert!(reported.contains(part), "{part}: {reported}");
        }
        assert!(!format!("{error:?} {reported}").contains("5ecret"), "{reported}");
    }
}

#[tokio::test]
async fn an_exhausted_limit_says_when_it_opens_again() {
    let template = ResponseTemplate::new(429)
        .insert_header("x-ratelimit-limit", "60")
        .insert_header("x-ratelimit-period", "60")
        .insert_header("x-ratelimit-remaining", "0")
        .insert_header("x-ratelimit-reset", "17")
        .insert_header("x-ratelimit-name", "apm_get_trace");
    let Response { limit, result } = answered(template.clone()).await;
    assert_eq!((limit.limit, limit.remaining), (Some(60), Some(0)));
    assert_eq!(limit.period, Some(Duration::from_secs(60)));
    let error = result.unwrap_err();
    assert!(error.to_string().contains("`apm_get_trace`); it opens again in 17s"), "{error}");
    let longer = answered(template.insert_header("retry-after", "40")).await.result.unwrap_err();
    assert!(longer.to_string().contains("opens again in 40s"), "{longer}");
    let silent = self::error(ResponseTemplate::new(429)).await.to_string();
    assert!(silent.contains("a time that the response does not give"), "{silent}");
}

#[tokio::test]
async fn each_other_failure_is_an_outcome_of_its_own() {
    let not_found =
        error(ResponseTemplate::new(404).set_body_json(
            json!({"errors": [{"title": "Not Found", "detail": "trace not found"}]}),
        ))
        .await;
    assert_eq!(
        not_found,
        ApiError::NotFound { endpoint: Endpoint::Trace, reported: ": trace not found".to_owned() }
    );
    let down =
        error(ResponseTemplate::new(503).set_body_string("upstream\n down")).await.to_string();
    assert!(down.contains("answered 503: upstream down; the fault is on its side"), "{down}");
    let malformed = error(ResponseTemplate::new(200).set_body_string("<html>hello</html>")).await;
    assert!(matches!(malformed, ApiError::Malformed { .. }), "{malformed}");
    let elsewhere =
        error(ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:9/")).await;
    assert!(matches!(elsewhere, ApiError::Status { status: 302, .. }), "{elsewhere}");
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    let server = StubServer::start().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    Mock::given(method("GET")).respond_with(slow).mount(&server).await;
    let client =
        Client::new(&access(&server.uri())).unwrap().with_timeout(Duration::from_millis(50));
    let error = client.trace(ID).await.result.unwrap_err();
    assert!(matches!(error, ApiError::Slow { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_and_a_host_that_is_not_there_are_distinguished() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _read = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"data\":";
        stream.write_all(head.as_bytes()).await.unwrap();
    });
    let client = Client::new(&access(&format!("http://{address}"))).unwrap();
    let error = client.trace(ID).await.result.unwrap_err();
    assert!(matches!(error, ApiError::BrokenOff { .. }), "{error}");
    task.await.unwrap();
    let gone = client.trace(ID).await.result.unwrap_err();
    assert!(matches!(gone, ApiError::Unreachable { .. }), "{gone}");
    assert!(gone.to_string().contains(&format!("{address} cannot be reached")), "{gone}");
}

#[tokio::test]
async fn a_search_says_what_it_wants_and_reads_a_page() {
    let server = StubServer::start().await;
    let wanted = json!({"data": {"type": "search_request", "attributes": {
        "filter": {"query": query_of(&[ID]), "from": "2026-11-24T10:00:00.000Z", "to": "2026-11-24T10:15:00.000Z"},
        "page": {"limit": 1000, "cursor": "c2"}, "sort": "timestamp"
    }}});
    Mock::given(method("POST"))
        .and(path("/api/v2/spans/events/search"))
        .and(body_partial_json(wanted))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_json(json!({"data": [], "meta": {"status": "done"}})),
        )
        .expect(1)
        .mount(&server)
        .await;
    let time = |text: &str| humantime::parse_rfc3339(text).unwrap();
    let query = query_of(&[ID]);
    let search = Search {
        query: &query,
        from: time("2026-11-24T10:00:00Z"),
        to: time("2026-11-24T10:15:00Z"),
        cursor: Some("c2"),
        traces: &[ID],
    };
    let answer = Client::new(&access(&server.uri())).unwrap().search(&search).await;
    assert_eq!(answer.result, Ok(Spans::default()));
}

#[tokio::test]
async fn a_64_bit_id_is_asked_for_by_its_decimal_digits() {
    let server = StubServer::start().await;
    let route = Mock::given(method("GET")).and(path("/api/v2/trace/9532127138774266268"));
    route.respond_with(ResponseTemplate::new(404)).expect(1).mount(&server).await;
    let client = Client::new(&access(&server.uri())).unwrap();
    let answer = client.trace(TraceId(u128::from(ID.low()))).await;
    assert!(matches!(answer.result, Err(ApiError::NotFound { .. })));
}

#[test]
fn queries_ask_for_every_spelling() {
    assert_eq!(
        query_of(&[ID]),
        "trace_id:(0af7651916cd43dd8448eb211c80319c OR 9532127138774266268) OR @otel.trace_id:(0af7651916cd43dd8448eb211c80319c)"
    );
    assert_eq!(
        query_of(&[TraceId(u128::from(ID.low()))]),
        "trace_id:(8448eb211c80319c OR 9532127138774266268)"
    );
    assert_eq!(query_of_services(["shop", "a\"b"].into_iter()), "service:(\"shop\" OR \"ab\")");
}

#[test]
fn keys_go_nowhere_in_the_clear_and_must_fit_a_header() {
    let refused = |access: &Access| Client::new(access).unwrap_err().to_string();
    assert!(refused(&access("http://api.example.com")).contains("in plain text"));
    assert!(refused(&access("ftp://api.example.com")).contains("neither https nor http"));
    assert!(refused(&access("nonsense")).contains("cannot be queried"));
    assert_eq!(Client::new(&access("http://[::1]:8080/")).unwrap().host(), "::1:8080");
    let with_line_end =
        Access { api_key: Secret::new("5ecret\n"), ..access("https://api.datadoghq.eu") };
    let reported = refused(&with_line_end);
    assert!(reported.contains("DD_API_KEY") && !reported.contains("5ecret"), "{reported}");
    let client = Client::new(&Access { url: None, ..access("") }).unwrap();
    assert_eq!(client.host(), "api.datadoghq.com");
    assert!(!format!("{client:?}").contains("5ecret"));
}
