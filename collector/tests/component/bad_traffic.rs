//! Invalid OTLP gets the right status and a counter, and others are still served.

use std::io::Write as _;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

use crate::grpc;
use crate::support::{DEADLINE, Rig, answer, golden, intake, request, start, until};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Headers, body, and what the answer's status and text are.
type Case = (Vec<(&'static str, &'static str)>, Vec<u8>, u16, &'static str);

async fn rig() -> Rig {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    let settings = [
        "receivers.otlp.protocols.http.max_request_body_size=100000",
        "receivers.otlp.protocols.grpc.max_recv_msg_size_mib=1",
    ];
    start(intake, &settings, DEADLINE).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn snappy_frames(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.into_inner().unwrap()
}

#[tokio::test]
async fn bad_http_requests_are_answered_with_what_is_wrong() {
    let rig = rig().await;
    let zeros = vec![0; 10_000_000];
    let cut = {
        let whole = gzip(&golden());
        whole[..whole.len() / 2].to_vec()
    };
    let gzipped = ("content-encoding", "gzip");
    let cases: Vec<Case> = vec![
        (vec![PROTOBUF], b"\xff\xff\xff".to_vec(), 400, "not an OTLP trace request in protobuf"),
        (vec![PROTOBUF], golden()[..1000].to_vec(), 400, "a message ends in the middle of a field"),
        (vec![JSON], b"{\"resourceSpans\":1}".to_vec(), 400, "`$.resourceSpans` is not an array"),
        (vec![JSON], b"{".to_vec(), 400, "not an OTLP trace request in JSON"),
        (
            vec![("content-type", "text/plain")],
            golden().to_vec(),
            415,
            "the content type is neither",
        ),
        (vec![], golden().to_vec(), 415, "the content type is neither"),
        (vec![PROTOBUF, ("content-encoding", "br")], golden().to_vec(), 415, "none of gzip, zstd"),
        (vec![PROTOBUF, gzipped], cut, 400, "the body is not whole gzip"),
        (vec![PROTOBUF, gzipped], golden().to_vec(), 400, "the body is not whole gzip"),
        (
            vec![PROTOBUF, ("content-encoding", "zstd")],
            golden().to_vec(),
            400,
            "the body is not whole zstd",
        ),
        (
            vec![PROTOBUF, ("content-encoding", "deflate")],
            golden().to_vec(),
            400,
            "the body is not whole deflate",
        ),
        (
            vec![PROTOBUF, ("content-encoding", "snappy")],
            golden().to_vec(),
            400,
            "the body is not whole snappy",
        ),
        (
            vec![PROTOBUF, ("content-encoding", "x-snappy-framed")],
            golden().to_vec(),
            400,
            "the body is not whole snappy",
        ),
        (
            vec![PROTOBUF, ("content-encoding", "lz4")],
            golden().to_vec(),
            400,
            "the body is not whole lz4",
        ),
        (
            vec![PROTOBUF, ("content-encoding", "snappy")],
            snap::raw::Encoder::new().compress_vec(&zeros).unwrap(),
            413,
            "larger than 100000 bytes",
        ),
        (
            vec![PROTOBUF, ("content-encoding", "snappy")],
            snappy_frames(&zeros),
            413,
            "larger than 100000 bytes",
        ),
        (vec![PROTOBUF], vec![0; 100_001], 413, "larger than 100000 bytes"),
        (vec![PROTOBUF, gzipped], gzip(&zeros), 413, "larger than 100000 bytes"),
        (
            vec![PROTOBUF, ("content-encoding", "zstd")],
            zstd::encode_all(&*zeros, 1).unwrap(),
            413,
            "larger than 100000 bytes",
        ),
    ];
    let count = cases.len() as u64;
    for (headers, body, status, message) in cases {
        let reply = rig.post(&headers, Bytes::from(body)).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status, status, "{headers:?}: {text}");
        assert!(text.contains(message), "{headers:?}: {text}");
        let expected = if headers.first() == Some(&JSON) { JSON.1 } else { PROTOBUF.1 };
        assert_eq!(reply.headers["content-type"], expected);
    }
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, count);
    assert_eq!(rig.metric("otelcol_receiver_accepted_spans").await, 0);
    rig.send(request([1])).await;
    until("still serving", async || rig.metric("otelcol_exporter_sent_spans").await == 1).await;
}

#[tokio::test]
async fn wrong_paths_and_methods_are_reported_where_traces_go() {
    let rig = rig().await;
    let base = format!("http://{}", rig.address("otlp-http"));
    let get = rig.http.get(format!("{base}/v1/traces")).send().await.unwrap();
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    for (path, message) in [("/v1/metrics", "traces only"), ("/x", "traces are sent to /v1/traces")]
    {
        let reply = rig
            .http
            .post(format!("{base}{path}"))
            .header(PROTOBUF.0, JSON.1)
            .body("{}")
            .send()
            .await
            .unwrap();
        assert_eq!(reply.status().as_u16(), 404);
        let text = reply.text().await.unwrap();
        assert!(text.contains(message), "{text}");
    }
}

#[tokio::test]
async fn an_endpoint_that_ends_with_a_slash_loses_no_spans() {
    let rig = rig().await;
    let url = format!("http://{}//v1/traces", rig.address("otlp-http"));
    let post = rig.http.post(url).header(PROTOBUF.0, PROTOBUF.1).body(request([1]));
    assert_eq!(post.send().await.unwrap().status().as_u16(), 200);
    until("it is sent on", async || rig.metric("otelcol_exporter_sent_spans").await == 1).await;
}

#[tokio::test]
async fn a_connection_is_of_use_after_a_refusal_or_is_said_to_be_closed() {
    let rig = rig().await;
    for (length, is_closed) in [(100_000, false), (300_000, true)] {
        let mut stream = TcpStream::connect(rig.address("otlp-http")).await.unwrap();
        let head = format!("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        let first = reply(&mut stream).await;
        assert!(first.starts_with("HTTP/1.1 404"), "{first}");
        assert_eq!(first.contains("connection: close"), is_closed, "{first}");
        if !is_closed {
            let next = b"GET /v1/traces HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(next).await.unwrap();
            let second = reply(&mut stream).await;
            assert!(second.starts_with("HTTP/1.1 405"), "{second}");
        }
    }
}

/// Reads an answer to the end of its body.
async fn reply(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = timeout(DEADLINE, async {
        loop {
            assert!(stream.read_buf(&mut text).await.unwrap() > 0, "it ends");
            let text = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                    return text;
                }
            }
        }
    });
    read.await.unwrap()
}

#[tokio::test]
async fn the_type_of_grpc_over_http_1_is_not_answered_like_success() {
    let rig = rig().await;
    let url = format!("http://{}/v1/traces", rig.address("otlp-http"));
    let post = rig.http.post(url).header(PROTOBUF.0, "application/grpc").body(request([1]));
    assert_eq!(post.send().await.unwrap().status().as_u16(), 415);
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 1);
}

#[tokio::test]
async fn a_request_without_spans_is_taken_with_a_warning_and_counted() {
    let rig = rig().await;
    let empty = [
        (JSON, "{}"),
        (JSON, r#"{"spans":[{"traceId":"01"}]}"#),
        (JSON, r#"{"resourceSpans":[{"scopeSpans":[]}]}"#),
        (PROTOBUF, ""),
    ];
    for (kind, body) in empty {
        let reply = rig.post(&[kind], body).await;
        assert_eq!(reply.status, 200);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(text.contains("the request has no spans"), "{body}: {text}");
        assert_eq!(text.contains("partialSuccess"), kind == JSON, "{text}");
    }
    let reply = grpc::export(&rig.address("otlp-grpc"), Bytes::new(), None).await.unwrap();
    assert!(String::from_utf8_lossy(&reply).contains("the request has no spans"), "{reply:?}");
    assert_eq!(rig.metric("otelcol_receiver_empty_requests").await, 5);
    rig.send(request([1])).await;
    assert_eq!(rig.metric("otelcol_receiver_empty_requests").await, 5);
}

#[tokio::test]
async fn spans_without_ids_are_taken_with_a_warning() {
    let rig = rig().await;
    let span = |trace_id: &str, span_id: &str| serde_json::json!({ "traceId": trace_id, "spanId": span_id, "name": "n" });
    let (trace_id, span_id) = ("1".repeat(32), "1".repeat(16));
    let spans = [
        span(&trace_id, &span_id),
        span(&"0".repeat(32), &span_id),
        span(&trace_id, &"0".repeat(16)),
        span("", ""),
    ];
    let body = serde_json::json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] });
    let reply = rig.post(&[JSON], body.to_string()).await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, 200);
    assert!(text.contains("3 of 4 spans have a trace id or a span id of zeros"), "{text}");
    // So they are where the same comes as protobuf.
    let mut sound = request([1]).to_vec();
    let reply = grpc::export(&rig.address("otlp-grpc"), sound.clone().into(), None).await.unwrap();
    assert!(reply.is_empty(), "{reply:?}");
    sound.extend_from_slice(b"\x0a\x07\x12\x05\x12\x03\x2a\x01n");
    let reply = grpc::export(&rig.address("otlp-grpc"), sound.into(), None).await.unwrap();
    let text = String::from_utf8_lossy(&reply).into_owned();
    assert!(text.contains("1 of 2 spans have a trace id or a span id of zeros"), "{text}");
}

#[tokio::test]
async fn http_that_is_sent_to_the_grpc_port_is_refused_and_counted() {
    let rig = rig().await;
    let url = format!("http://{}/v1/traces", rig.address("otlp-grpc"));
    let http_port = rig.ports["otlp-http"].port();
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let clients = [rig.http.clone(), http2];
    for (client, kind) in clients.iter().flat_map(|client| [(client, PROTOBUF), (client, JSON)]) {
        let post = client.post(&url).header(kind.0, kind.1).body(request([1]));
        let reply = post.send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 415);
        let text = reply.text().await.unwrap();
        let advice = format!(
            "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc where the spans are made, or send OTLP over HTTP to port {http_port}"
        );
        assert!(text.contains(&advice), "{text}");
    }
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 4);
    assert_eq!(rig.metric("otelcol_receiver_accepted_spans").await, 0);
}

#[tokio::test]
async fn grpc_that_is_sent_to_the_http_port_is_refused_and_counted() {
    let rig = rig().await;
    let grpc_port = rig.ports["otlp-grpc"].port();
    let status = grpc::export(&rig.address("otlp-http"), request([1]), None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let advice = format!(
        "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf where the spans are made, or send gRPC to port {grpc_port}"
    );
    assert!(status.message().contains(&advice), "{status:?}");
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 1);
}

#[tokio::test]
async fn bad_grpc_requests_get_the_right_status() {
    let rig = rig().await;
    let address = rig.address("otlp-grpc");
    let status = grpc::export(&address, Bytes::from_static(b"\xff"), None).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("not an OTLP trace request"), "{status:?}");
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    let status = grpc::export(&address, large, None).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let bomb = Bytes::from(vec![0; 50 << 20]);
    let compression = Some(tonic::codec::CompressionEncoding::Gzip);
    let status = grpc::export(&address, bomb, compression).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(rig.metric("otelcol_receiver_malformed_requests").await, 3);
    let metrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    let status = grpc::call(&address, metrics, Bytes::new(), None).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "this collector carries traces only")
    );
    grpc::export(&address, request([1]), None).await.unwrap();
    until("still serving", async || rig.metric("otelcol_exporter_sent_spans").await == 1).await;
}
