use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::testing::{TRACE_ID, gzip, otlp_of, payload, stats, traces_body};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const TRACES: &str = "/api/v0.2/traces";
const LONG: Duration = Duration::from_secs(10);

struct Rig {
    server: RunningServer,
    http: reqwest::Client,
    /// Body that `send_traces` sends. Made once: maps have no order, so no two encodings are alike.
    body: Vec<u8>,
}

impl Rig {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            listen: "127.0.0.1:0".to_owned(),
            api_key: Some(KEY.parse().unwrap()),
            heartbeat: Duration::from_millis(20),
            ..Settings::default()
        };
        change(&mut settings);
        let server = Server::bind(settings).await.unwrap().spawn();
        let http = harness_core::http::client().timeout(LONG).build().unwrap();
        Self { server, http, body: traces_body(TRACE_ID, 1) }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    fn post(&self, path: &str, encoding: &str, body: Vec<u8>) -> reqwest::RequestBuilder {
        let request = self.http.post(self.url(path)).header("dd-api-key", KEY);
        request.header("content-encoding", encoding).body(body)
    }

    async fn send_traces(&self) -> u16 {
        let sent = self.post(TRACES, "gzip", self.body.clone()).send().await;
        sent.unwrap().status().as_u16()
    }

    async fn script(&self, script: Value) -> u16 {
        let posted = self.http.post(self.url("/_intake/replies")).json(&script).send().await;
        posted.unwrap().status().as_u16()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(self.url(path)).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// Waits until `path` reports what `holds` asks for.
    async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = timeout(LONG, async {
            loop {
                last = self.get(path).await.1;
                if holds(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("{path} never reported it; last was {last}"));
        last
    }
}

#[tokio::test]
async fn the_page_asks_for_an_index_and_for_a_trace() {
    let rig = Rig::start().await;
    let (_, empty) = rig.get("/_intake/page").await;
    assert_eq!((&empty["kind"], &empty["traces"]), (&json!("live"), &json!([])));
    assert_eq!(rig.send_traces().await, 202);
    let stats = gzip(&rmp_serde::to_vec_named(&stats()).unwrap());
    rig.post("/api/v0.2/stats", "gzip", stats).send().await.unwrap();
    let (_, index) = rig.get("/_intake/page").await;
    let row = &index["traces"][0];
    assert_eq!(
        (&row["id"], &row["spans"], &row["errors"]),
        (&json!(TRACE_ID), &json!(2), &json!(2))
    );
    assert_eq!((&row["resource"], &index["services"]), (&json!("GET /cart"), &json!(["frontend"])));
    assert_eq!(index["map"], json!({ "nodes": [["frontend", 2, 2]], "edges": [] }));
    let group = json!([[["checkout", "http.server.request", "POST /pay/{id}", "server"], [1, 1]]]);
    assert_eq!(index["stats"], group);
    let (_, detail) = rig.get(&format!("/_intake/page/{TRACE_ID}")).await;
    let trace = &detail["trace"];
    assert_eq!(trace["payloads"][0]["shared"]["chunk"]["tags"]["_dd.p.dm"], "-9");
    assert_eq!(trace["spans"][1]["meta"]["span.kind"], "client");
    assert_eq!(rig.get("/_intake/page/7").await.0, 400);
    let unknown = "/_intake/page/00000000000000000000000000000001";
    assert_eq!(rig.get(unknown).await.0, 404);
    let page = rig.http.get(rig.url("/")).send().await.unwrap().text().await.unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("connect-src 'self'"), "{page}");
}

#[tokio::test]
async fn each_route_answers_as_datadog_does() {
    let rig = Rig::start().await;
    let stats = gzip(&rmp_serde::to_vec_named(&stats()).unwrap());
    let json = gzip(br#"{"series":[]}"#);
    for (path, body, reply) in [
        (TRACES, traces_body(TRACE_ID, 1), json!({"rate_by_service": {}})),
        ("/api/v0.2/traces/", traces_body(TRACE_ID, 5), json!({"rate_by_service": {}})),
        ("/api/v0.2/stats", stats, json!({"status": "ok", "errors": []})),
        ("/api/v2/series", json.clone(), json!({"status": "ok", "errors": []})),
        ("/intake/", json, json!({"status": "ok", "errors": []})),
    ] {
        let response = rig.post(path, "gzip", body).send().await.unwrap();
        assert_eq!(response.status(), 202, "{path}");
        assert_eq!(response.json::<Value>().await.unwrap(), reply, "{path}");
    }
    let validate = rig.http.get(rig.url("/api/v1/validate")).header("dd-api-key", KEY);
    let response = validate.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"valid": true}));

    let (_, stats) = rig.get("/_intake/stats").await;
    assert_eq!((&stats[0]["service"], &stats[0]["hits"]), (&json!("checkout"), &json!(1)));
    let (_, counts) = rig.get("/_intake/counts").await;
    assert_eq!(counts["counts"]["attempts"][TRACES]["202"], 2);
    assert_eq!((&counts["seq"], &counts["counts"]["spans"]), (&json!(6), &json!(4)));
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_refused_and_on_record_without_it() {
    let rig = Rig::start().await;
    let body = traces_body(TRACE_ID, 1);
    let wrong = rig.http.post(rig.url(TRACES)).header("dd-api-key", "not-the-key-at-all");
    let response = wrong.body(body.clone()).send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"errors": ["Forbidden"]}));
    let missing = rig.http.post(rig.url(TRACES)).body(body);
    assert_eq!(missing.send().await.unwrap().status(), 403);
    assert_eq!(rig.send_traces().await, 202);

    let mut seen = String::new();
    for path in [
        "attempts",
        "attempts/1",
        "attempts/2",
        "attempts/3",
        "attempts/3/decoded",
        "traces",
        "spans",
        "stats",
        "counts",
        "replies",
        "health",
    ] {
        let response = rig.http.get(rig.url(&format!("/_intake/{path}"))).send().await.unwrap();
        seen += &response.error_for_status().unwrap().text().await.unwrap();
    }
    let mut events = Events::open(&rig, None).await;
    for _ in 0..4 {
        let event = events.next().await;
        seen += &event.data.unwrap();
    }
    assert!(seen.contains(r#""dd-api-key":"***""#), "{seen}");
    assert!(!seen.contains(KEY) && !seen.contains("not-the-key-at-all"), "{seen}");
    let (_, counts) = rig.get("/_intake/counts").await;
    assert_eq!(counts["counts"]["attempts"][TRACES], json!({"202": 1, "403": 2}));
}

#[tokio::test]
async fn without_a_key_of_its_own_it_accepts_any_that_is_not_empty() {
    let rig = Rig::with(|settings| settings.api_key = None).await;
    assert_eq!(rig.send_traces().await, 202);
    let keyless = rig.http.post(rig.url(TRACES)).body(traces_body(TRACE_ID, 1));
    assert_eq!(keyless.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn traces_and_spans_can_be_read_by_their_full_id() {
    let rig = Rig::start().await;
    assert_eq!(rig.send_traces().await, 202);
    let (status, trace) = rig.get(&format!("/_intake/traces/{TRACE_ID}")).await;
    assert_eq!((status, trace["spans"].as_array().unwrap().len()), (200, 2));
    let trace: harness_core::trace::Trace = serde_json::from_value(trace).unwrap();
    assert_eq!(trace.id.to_string(), TRACE_ID);

    let (_, traces) = rig.get("/_intake/traces?limit=5").await;
    assert_eq!(traces[0]["resource"], "GET /cart");
    assert_eq!(traces[0]["services"], json!(["frontend"]));
    assert_eq!(
        (&traces[0]["spans"], &traces[0]["error"], &traces[0]["duration"]),
        (&json!(2), &json!(true), &json!(91_000_000))
    );
    let count = async |query: &str| {
        rig.get(&format!("/_intake/spans?{query}")).await.1.as_array().unwrap().len()
    };
    assert_eq!(count(&format!("trace_id={TRACE_ID}&service=frontend&error=true")).await, 2);
    assert_eq!(count("resource=GET%20%2Fcart").await, 1);
    assert_eq!(count("limit=1").await, 1);
    assert_eq!(count("error=false").await, 0);
    assert_eq!(count("service=other").await, 0);

    let unknown = "/_intake/traces/0af7651916cd43dd8448eb2100000000";
    for (path, status, word) in [
        (unknown, 404, "0af7651916cd43dd8448eb2100000000"),
        ("/_intake/traces/xyz", 400, "trace_id"),
        ("/_intake/spans?trace_id=xyz", 400, "trace_id"),
        ("/_intake/spans?servic=a", 400, "servic"),
        ("/_intake/attempts/99", 404, "99"),
        ("/_intake/attempts/first", 400, "seq"),
        ("/_intake/nothing", 404, "no such route"),
    ] {
        let (got, error) = rig.get(path).await;
        assert_eq!(got, status, "{path}");
        assert!(error["error"].as_str().unwrap().contains(word), "{path}: {error}");
    }
    let (_, counts) = rig.get("/_intake/counts").await;
    assert_eq!(counts["seq"], 1, "reading leaves no attempts");
}

#[tokio::test]
async fn unreadable_bodies_are_answered_400_kept_and_counted() {
    let rig = Rig::with(|settings| settings.max_decoded = 1 << 20).await;
    let truncated = traces_body(TRACE_ID, 1)[..40].to_vec();
    let bomb = gzip(&vec![0; 4 << 20]);
    for (encoding, body) in
        [("gzip", truncated.clone()), ("identity", b"\xff\xff".to_vec()), ("gzip", bomb)]
    {
        let response = rig.post(TRACES, encoding, body).send().await.unwrap();
        assert_eq!(response.status(), 400);
        let error = response.json::<Value>().await.unwrap();
        assert!(error["errors"][0].as_str().unwrap().contains("cannot read the body"), "{error}");
    }
    let body = rig.http.get(rig.url("/_intake/attempts/1/body")).send().await.unwrap();
    assert_eq!(body.bytes().await.unwrap(), truncated);
    let (_, attempt) = rig.get("/_intake/attempts/3").await;
    assert!(attempt["undecodable"].as_str().unwrap().contains("larger than"), "{attempt}");
    let (_, decoded) = rig.get("/_intake/attempts/1/decoded").await;
    assert!(decoded["undecodable"]["reason"].is_string(), "{decoded}");
    let (_, counts) = rig.get("/_intake/counts").await;
    assert_eq!(counts["counts"]["undecodable"], 3);
    assert_eq!(rig.send_traces().await, 202);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_answered_413_and_not_kept() {
    let rig = Rig::with(|settings| settings.max_body = 1000).await;
    let response = rig.post(TRACES, "identity", vec![0; 4000]).send().await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(response.text().await.unwrap().contains("1000 bytes"));
    let (_, attempt) = rig.get("/_intake/attempts/1").await;
    assert_eq!((&attempt["reply"], &attempt["body_bytes"]), (&json!({"status": 413}), &json!(0)));
}

#[tokio::test]
async fn the_otlp_intake_takes_spans_and_refuses_as_datadogs_does() {
    const OTLP: &str = "/v1/traces";
    let rig = Rig::with(|settings| settings.max_body = 2000).await;
    let body = gzip(&otlp_of(TRACE_ID, 1));
    let post = async |key: &str, kind: &str, encoding: &str, body: Vec<u8>| {
        let request = rig.http.post(rig.url(OTLP)).header("dd-api-key", key);
        let request = request.header("content-type", kind).header("content-encoding", encoding);
        request.header("compute_stats", "true").body(body).send().await.unwrap()
    };
    let protobuf = "application/x-protobuf";
    let taken = post(KEY, protobuf, "gzip", body.clone()).await;
    assert_eq!(taken.status(), 202);
    assert_eq!(taken.json::<Value>().await.unwrap(), json!({}));
    assert_eq!(post(KEY, protobuf, "gzip", body.clone()).await.status(), 202);
    assert_eq!(post("another-key", protobuf, "gzip", body.clone()).await.status(), 403);
    assert_eq!(post(KEY, protobuf, "identity", vec![0; 4000]).await.status(), 413);
    assert_eq!(post(KEY, "text/plain", "gzip", body).await.status(), 400);

    let (_, trace) = rig.get(&format!("/_intake/traces/{TRACE_ID}")).await;
    assert_eq!(trace["spans"].as_array().unwrap().len(), 2, "a redelivery counts once: {trace}");
    assert_eq!(trace["spans"][0]["form"], "otlp");
    let (_, decoded) = rig.get("/_intake/attempts/1/decoded").await;
    assert_eq!(decoded["otlp-traces"]["compute_stats"], true);
    let (_, counts) = rig.get("/_intake/counts").await;
    let attempts = json!({"202": 2, "400": 1, "403": 1, "413": 1});
    assert_eq!(counts["counts"]["attempts"][OTLP], attempts);
    assert_eq!(
        (&counts["counts"]["spans"], &counts["counts"]["redelivered"]),
        (&json!(2), &json!(1))
    );
}

#[tokio::test]
async fn an_unknown_path_or_method_is_refused_and_on_record() {
    let rig = Rig::start().await;
    assert_eq!(rig.post("/api/v9/x", "", Vec::new()).send().await.unwrap().status(), 404);
    let get = rig.http.get(rig.url(TRACES)).header("dd-api-key", KEY);
    assert_eq!(get.send().await.unwrap().status(), 405);
    let (_, counts) = rig.get("/_intake/counts").await;
    assert_eq!(counts["counts"]["attempts"]["other"]["404"], 1);
    assert_eq!(counts["counts"]["attempts"][TRACES]["405"], 1);
}

#[tokio::test]
async fn scripted_statuses_hold_for_the_next_n_and_then_the_usual_reply_is_back() {
    let rig = Rig::start().await;
    let script = json!({"reply": {"status": 429}, "retry_after": "2s", "next": 2});
    assert_eq!(rig.script(script).await, 201);
    let first = rig.post(TRACES, "gzip", rig.body.clone()).send().await.unwrap();
    assert_eq!(
        (first.status().as_u16(), first.headers()["retry-after"].as_bytes()),
        (429, b"2".as_slice())
    );
    assert_eq!(rig.get("/_intake/replies").await.1[0]["next"], 1);
    assert_eq!([rig.send_traces().await, rig.send_traces().await], [429, 202]);
    let (_, counts) = rig.get("/_intake/counts").await;
    assert_eq!(counts["counts"]["attempts"][TRACES], json!({"202": 1, "429": 2}));
    assert_eq!(
        (&counts["counts"]["spans"], &counts["counts"]["redelivered"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(rig.send_traces().await, 202);
    assert_eq!(rig.get("/_intake/counts").await.1["counts"]["redelivered"], 1);
}

#[tokio::test]
async fn scripted_replies_hold_for_a_time_or_until_cleared_and_for_their_path_only() {
    let rig = Rig::start().await;
    rig.script(json!({"reply": {"status": 503}, "for": "100ms"})).await;
    let stats = gzip(&rmp_serde::to_vec_named(&stats()).unwrap());
    assert_eq!(rig.post("/api/v0.2/stats", "gzip", stats).send().await.unwrap().status(), 202);
    assert_eq!(rig.send_traces().await, 503);
    rig.until("/_intake/replies", |left| *left == json!([])).await;
    assert_eq!(rig.send_traces().await, 202);

    rig.script(json!({"path": "/api/v1/validate", "reply": {"status": 500}})).await;
    let validate = async || {
        let asked = rig.http.get(rig.url("/api/v1/validate")).header("dd-api-key", KEY);
        asked.send().await.unwrap().status().as_u16()
    };
    assert_eq!([validate().await, validate().await], [500, 500]);
    let cleared = rig.http.delete(rig.url("/_intake/replies")).send().await.unwrap();
    assert_eq!((cleared.status().as_u16(), validate().await), (204, 200));

    let bad = json!({"reply": {"status": "503"}});
    let refused = rig.http.post(rig.url("/_intake/replies")).json(&bad).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("reply.status"));
}

/// A request by hand, so that one sees what becomes of the connection.
async fn by_hand(rig: &Rig, body: &[u8], declared: usize) -> TcpStream {
    let mut connection = TcpStream::connect(rig.server.address).await.unwrap();
    let head = format!(
        "POST {TRACES} HTTP/1.1\r\nhost: intake\r\ndd-api-key: {KEY}\r\ncontent-encoding: gzip\r\n\
         content-length: {declared}\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body).await.unwrap();
    connection
}

#[tokio::test]
async fn a_scripted_reset_resets_the_connection() {
    let rig = Rig::start().await;
    rig.script(json!({"reply": {"reset": true}, "next": 1})).await;
    let body = traces_body(TRACE_ID, 1);
    let mut connection = by_hand(&rig, &body, body.len()).await;
    let read = timeout(LONG, connection.read(&mut [0; 64])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (_, counts) = rig.get("/_intake/counts").await;
    assert_eq!(counts["counts"]["attempts"][TRACES], json!({"reset": 1}));
    assert_eq!(rig.get(&format!("/_intake/traces/{TRACE_ID}")).await.0, 404);
    assert_eq!(rig.send_traces().await, 202);
}

#[tokio::test]
async fn a_client_that_goes_away_is_on_record_and_its_spans_are_not() {
    let rig = Rig::start().await;
    let body = traces_body(TRACE_ID, 1);
    drop(by_hand(&rig, &body[..20], body.len()).await);
    let gone = |counts: &Value, times: u64| {
        counts["counts"]["attempts"][TRACES] == json!({"client-gone": times})
    };
    rig.until("/_intake/counts", |counts| gone(counts, 1)).await;

    rig.script(json!({"delay": "1m", "next": 1})).await;
    drop(by_hand(&rig, &body, body.len()).await);
    rig.until("/_intake/counts", |counts| gone(counts, 2)).await;
    assert_eq!(rig.get("/_intake/attempts/2").await.1["body_bytes"], body.len());
    assert_eq!(rig.get(&format!("/_intake/traces/{TRACE_ID}")).await.0, 404);
}

#[tokio::test]
async fn a_delay_delays_and_a_body_that_never_ends_is_given_up() {
    let rig = Rig::with(|settings| settings.body_timeout = Duration::from_millis(50)).await;
    rig.script(json!({"delay": "200ms", "next": 1})).await;
    let began = Instant::now();
    assert_eq!(rig.send_traces().await, 202);
    assert!(began.elapsed() >= Duration::from_millis(200));

    let _slow = by_hand(&rig, b"some", 1000).await;
    rig.until("/_intake/counts", |counts| counts["counts"]["attempts"][TRACES]["408"] == 1).await;
}

/// Reads the event stream.
struct Events(
    std::pin::Pin<
        Box<dyn futures_util::Stream<Item = Result<sse_stream::Sse, sse_stream::Error>> + Send>,
    >,
);

impl Events {
    async fn open(rig: &Rig, last: Option<&str>) -> Self {
        let mut request = rig.http.get(rig.url("/_intake/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap().error_for_status().unwrap();
        Self(Box::pin(sse_stream::SseStream::from_bytes_stream(response.bytes_stream())))
    }

    /// The next one that is no heartbeat.
    async fn next(&mut self) -> sse_stream::Sse {
        let next = async {
            loop {
                let event = futures_util::StreamExt::next(&mut self.0).await.unwrap().unwrap();
                if event.event.as_deref() != Some("heartbeat") {
                    return event;
                }
            }
        };
        timeout(LONG, next).await.unwrap()
    }

    /// Name of the next event and its data.
    async fn named(&mut self) -> (String, Value) {
        let event = self.next().await;
        let data = serde_json::from_str(&event.data.unwrap()).unwrap();
        (event.event.unwrap(), data)
    }
}

#[tokio::test]
async fn the_stream_reports_every_attempt_with_its_body_and_resumes_where_it_was_left() {
    let rig = Rig::start().await;
    let mut events = Events::open(&rig, None).await;
    let (name, hello) = events.named().await;
    let instance = hello["instance"].as_str().unwrap().to_owned();
    assert_eq!((name.as_str(), &hello["seq"]), ("hello", &json!(0)));
    rig.send_traces().await;
    let event = events.next().await;
    assert_eq!(event.id, Some(format!("{instance}:1")));
    let attempt: Attempt = serde_json::from_str(&event.data.unwrap()).unwrap();
    assert_eq!((attempt.seq, attempt.body), (1, rig.body.clone()));
    drop(events);

    rig.send_traces().await;
    let mut events = Events::open(&rig, event.id.as_deref()).await;
    assert_eq!(events.named().await.0, "hello");
    let (name, attempt) = events.named().await;
    assert_eq!((name.as_str(), &attempt["seq"]), ("attempt", &json!(2)));

    for bad in ["nonsense".to_owned(), format!("{instance}:99")] {
        let request = rig.http.get(rig.url("/_intake/events")).header("last-event-id", bad);
        assert_eq!(request.send().await.unwrap().status(), 400);
    }
}

#[tokio::test]
async fn the_stream_says_what_it_cannot_send() {
    let rig = Rig::with(|settings| settings.bounds.max_attempts = 2).await;
    for _ in 0..5 {
        rig.send_traces().await;
    }
    let mut events = Events::open(&rig, None).await;
    events.named().await;
    let (name, gap) = events.named().await;
    assert_eq!((name.as_str(), &gap["from"], &gap["to"]), ("gap", &json!(1), &json!(3)));
    assert_eq!((&gap["reason"], &events.named().await.1["seq"]), (&json!("not-kept"), &json!(4)));

    let mut events = Events::open(&rig, Some("another:7")).await;
    events.named().await;
    let (name, gap) = events.named().await;
    assert_eq!(name, "gap");
    assert_eq!(
        gap,
        json!({"instance": "another", "from": 8, "to": null, "reason": "instance-changed"})
    );
}

#[tokio::test]
async fn heartbeats_report_the_newest_number() {
    let rig = Rig::start().await;
    rig.send_traces().await;
    let mut events = Events::open(&rig, None).await;
    for _ in 0..2 {
        events.next().await;
    }
    let event = timeout(LONG, futures_util::StreamExt::next(&mut events.0)).await.unwrap();
    let event = event.unwrap().unwrap();
    assert_eq!(event.event.as_deref(), Some("heartbeat"));
    assert_eq!(event.data.as_deref(), Some(r#"{"seq":1}"#));
}

#[tokio::test]
async fn it_stops_with_readers_of_its_stream_and_slow_requests_in_progress() {
    let rig = Rig::with(|settings| settings.drain = Duration::from_millis(100)).await;
    rig.script(json!({"delay": "1m"})).await;
    let mut events = Events::open(&rig, None).await;
    events.named().await;
    let body = traces_body(TRACE_ID, 1);
    let _connection = by_hand(&rig, &body, body.len()).await;
    let stopped = timeout(LONG, rig.server.stop()).await;
    assert!(stopped.unwrap().is_ok());
}

#[tokio::test]
async fn a_taken_port_is_named_with_a_remedy() {
    let rig = Rig::start().await;
    let listen = rig.server.address.to_string();
    let taken = Server::bind(Settings { listen: listen.clone(), ..Settings::default() }).await;
    let message = taken.unwrap_err().to_string();
    assert!(message.contains(&listen) && message.contains("--listen"), "{message}");
    let nonsense = Server::bind(Settings { listen: "nowhere".to_owned(), ..Settings::default() });
    assert!(nonsense.await.unwrap_err().to_string().contains("`host:port`"));
}

#[tokio::test]
async fn large_payloads_are_decoded_aside() {
    let mut large = payload();
    let chunk = &mut large.tracer_payloads[0].chunks[0];
    chunk.spans = vec![chunk.spans[0].clone(); 1000];
    let rig = Rig::start().await;
    let sent = rig.post(TRACES, "identity", large.encode_to_vec()).send().await.unwrap();
    assert_eq!(sent.status(), 202);
    assert_eq!(rig.get("/_intake/counts").await.1["counts"]["spans"], 1000);
}
