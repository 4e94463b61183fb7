//! Senders that mean harm, or are broken in a way that looks like it: memory and time stay bounded, each gets the right
//! status, and others are still served.

mod child;

use std::time::{Duration, Instant};

use bytes::Bytes;
use child::Child;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::grpc;
use crate::support::{DEADLINE, Rig, answer, intake, recover, request, span_ids, start, until};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
/// First bytes of an HTTP/2 client: the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn rig() -> Rig {
    let intake = intake().await;
    answer(&intake, 202, u64::MAX).await;
    start(intake, &[], DEADLINE).await
}

/// A length-delimited field.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = body.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

/// A request of one span with these fields beside its ids.
fn span_with(fields: &[u8]) -> Vec<u8> {
    let ids = [field(1, &1u128.to_be_bytes()), field(2, &1u64.to_be_bytes())].concat();
    let span = field(2, &[ids, field(5, b"span"), fields.to_vec()].concat());
    field(1, &field(2, &span))
}

/// An attribute whose value is an array in an array, and so on.
fn nested_protobuf(depth: usize) -> Vec<u8> {
    let mut value = field(1, b"x");
    for _ in 0..depth {
        value = field(5, &field(1, &value));
    }
    span_with(&field(9, &[field(1, b"key"), field(2, &value)].concat()))
}

fn nested_json(depth: usize) -> String {
    let open = "{\"arrayValue\":{\"values\":[".repeat(depth);
    let close = "]}}".repeat(depth);
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001","attributes":[{{"key":"key","value":{open}{{"intValue":1}}{close}}}]}}]}}]}}]}}"#
    )
}

#[tokio::test]
async fn values_that_are_nested_too_deep_are_refused_at_any_depth() {
    let rig = rig().await;
    let status = async |headers, body: Vec<u8>| rig.post(&[headers], body).await.status;
    assert_eq!(status(PROTOBUF, nested_protobuf(100)).await, 200);
    assert_eq!(status(JSON, nested_json(100).into_bytes()).await, 200);
    for depth in [101, 1_000, 30_000] {
        assert_eq!(status(PROTOBUF, nested_protobuf(depth)).await, 400, "{depth} levels");
        assert_eq!(status(JSON, nested_json(depth).into_bytes()).await, 400, "{depth} levels");
        let nested = nested_protobuf(depth).into();
        let refused = grpc::export(&rig.address("otlp-grpc"), nested, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{depth} levels: {refused:?}");
    }
    // What has no place in OTLP is passed over at any depth: that takes a byte for each level, and no stack.
    let unknown = format!("{{\"x\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(status(JSON, unknown.into_bytes()).await, 200);
    until("both are sent", async || rig.metric("otelcol_exporter_sent_spans").await == 2).await;
}

#[tokio::test]
async fn times_and_ids_at_their_extremes_are_carried() {
    let rig = rig().await;
    let mut sent = 0;
    let fixed = |number: u8, value: u64| [&[number << 3 | 1][..], &value.to_le_bytes()].concat();
    let extremes = [0, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX];
    for start in extremes {
        for end in extremes {
            rig.send(span_with(&[fixed(7, start), fixed(8, end)].concat()).into()).await;
            sent += 1;
        }
    }
    let name = [field(5, &[0xff; 100_000]), vec![6 << 3, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    rig.send(span_with(&name).into()).await;
    let ids = |trace: &[u8], span: &[u8]| {
        field(1, &field(2, &field(2, &[field(1, trace), field(2, span)].concat())))
    };
    rig.send(ids(&[0xff; 16], &[0xff; 8]).into()).await;
    sent += 2;
    until("all are sent", async || rig.metric("otelcol_exporter_sent_spans").await == sent).await;
    // An id of zeros is none; the exporter drops such spans, as the reference does.
    rig.send(ids(&[0; 16], &[0; 8]).into()).await;
    rig.send(ids(&[], &[]).into()).await;
    until("both are dropped", async || rig.metric("otelcol_exporter_dropped_spans").await == 2)
        .await;
}

#[tokio::test]
async fn garbage_on_both_ports_is_no_request() {
    let rig = rig().await;
    let bytes: Vec<u8> =
        (0..100_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases: [&[u8]; 6] = [
        &bytes,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        &[PREFACE, &bytes].concat(),
        &[0; 1000],
    ];
    for port in ["otlp-grpc", "otlp-http"] {
        for garbage in cases {
            let mut stream = TcpStream::connect(rig.address(port)).await.unwrap();
            // It may be closed before all is read.
            let _ = stream.write_all(garbage).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer);
            let _ = tokio::time::timeout(DEADLINE, read).await.expect("it is closed");
        }
    }
    grpc::export(&rig.address("otlp-grpc"), request([1]), None).await.unwrap();
    rig.send(request([2])).await;
    until("others are served", async || rig.metric("otelcol_exporter_sent_spans").await == 2).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_counted() {
    let rig = rig().await;
    let many: String = (0..101).map(|number| format!("x-{number}: x\r\n")).collect();
    let large = format!("x: {}\r\n", "x".repeat(200_000));
    for (port, headers) in
        ["otlp-grpc", "otlp-http"].into_iter().flat_map(|port| [(port, &many), (port, &large)])
    {
        let mut stream = TcpStream::connect(rig.address(port)).await.unwrap();
        let head = format!("POST /v1/traces HTTP/1.1\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end");
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    }
    let counted = async || rig.metric("otelcol_receiver_malformed_requests").await == 4;
    until("all are counted", counted).await;
    // In HTTP/2, whose headers are read apart.
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/v1/traces", rig.address("otlp-http"));
    let post = http2.post(url).header(PROTOBUF.0, PROTOBUF.1).header("x", "x".repeat(70_000));
    assert_eq!(post.body(request([1])).send().await.unwrap().status().as_u16(), 431);
}

/// Streams opened and reset at once, again and again, on one connection.
#[tokio::test]
async fn a_client_that_resets_in_bulk_is_sent_away() {
    let rig = rig().await;
    let mut stream = TcpStream::connect(rig.address("otlp-grpc")).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    // `:method POST`, `:scheme http` and `:path /`, from HPACK's static table.
    let head = [0x83, 0x86, 0x84];
    let mut was_sent_away = false;
    for number in 0..100_000u32 {
        let id = (number * 2 + 1).to_be_bytes();
        let headers = [&[0, 0, head.len() as u8, 1, 4][..], &id, &head].concat();
        let reset = [&[0, 0, 4, 3, 0][..], &id, &8u32.to_be_bytes()].concat();
        if stream.write_all(&[headers, reset].concat()).await.is_err() {
            was_sent_away = true;
            break;
        }
    }
    if !was_sent_away {
        let mut answer = Vec::new();
        // GOAWAY is frame type 7; then the connection is closed.
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "100,000 resets were taken");
    }
    grpc::export(&rig.address("otlp-grpc"), request([1]), None).await.unwrap();
    until("others are served", async || rig.metric("otelcol_exporter_sent_spans").await == 1).await;
}

#[tokio::test]
async fn what_grows_when_it_is_decompressed_is_refused_before_it_has_grown() {
    let child = Child::start(&[]).await;
    let before = child.resident();
    let zeros = vec![0; 200 << 20];
    let gzip = {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&zeros).unwrap();
        encoder.finish().unwrap()
    };
    // More than the sixteen megabytes of a window are no matter, but what they are to hold.
    let zstd = zstd::encode_all(&*zeros, 1).unwrap();
    let zeros = Bytes::from(zeros);
    for _ in 0..4 {
        for (encoding, body) in [("gzip", &gzip), ("zstd", &zstd)] {
            let headers = [PROTOBUF, ("content-encoding", encoding)];
            assert_eq!(child.post(&headers, body.clone()).await, 413, "{encoding}");
        }
    }
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let address = child.address("otlp-grpc");
        let refused = grpc::export(&address, zeros.clone(), Some(encoding)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    }
    assert_eq!(child.post(&[PROTOBUF], request([1])).await, 200);
    child.expect_growth_below(before, 100 << 20, "bombs of 200 MiB");
    child.stop().await;
}

#[tokio::test]
async fn ten_thousand_connections_keep_nobody_out() {
    const MANY: usize = 10_000;
    child::raise_file_limit();
    let child = Child::start(&[]).await;
    let before = child.resident();
    let mut held = Vec::with_capacity(MANY);
    for number in 0..MANY {
        let port = if number % 2 == 0 { "otlp-grpc" } else { "otlp-http" };
        let mut stream = TcpStream::connect(child.address(port)).await.unwrap();
        match number % 4 {
            0 => stream.write_all(PREFACE).await.unwrap(),
            1 => stream.write_all(b"POST /v1/traces HTTP/1.1\r\n").await.unwrap(),
            _ => {}
        }
        held.push(stream);
    }
    for id in 1..=20 {
        assert_eq!(child.post(&[PROTOBUF], request([id])).await, 200);
        grpc::export(&child.address("otlp-grpc"), request([id]), None).await.unwrap();
    }
    child.expect_growth_below(before, 400 << 20, "10,000 connections");
    drop(held);
    child.stop().await;
}

/// Bodies that come a byte at a time, and ones that stop in the middle, beside the same on gRPC.
#[tokio::test]
async fn slow_senders_hold_bounded_memory_and_keep_nobody_out() {
    let child = Child::start(&[]).await;
    let before = child.resident();
    let mut slow = Vec::new();
    let (length, part) = (16 << 20, vec![0; 15 << 20]);
    for number in 0..40 {
        let mut stream = TcpStream::connect(child.address("otlp-http")).await.unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // 40 of these are 600 MiB. Some are refused; the others stay open for 30 seconds.
        let whole = if number % 2 == 0 { &part[..] } else { &part[..1] };
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.write_all(whole)).await;
        slow.push(stream);
        // As long as it takes to recognize a slow one.
        let begun = Instant::now();
        while child.post(&[PROTOBUF], request([number + 1])).await != 200 {
            assert!(begun.elapsed() < DEADLINE, "others are kept out");
        }
    }
    child.expect_growth_below(before, 250 << 20, "600 MiB of requests that never end");
    drop(slow);
    child.stop().await;
}

/// Few bytes that would become very many: a resource's attributes are on each of its spans at Datadog.
#[tokio::test]
async fn a_request_that_would_grow_beyond_measure_is_refused() {
    let child = Child::start(&[]).await;
    let before = child.resident();
    let attribute = |name: String| {
        field(1, &[field(1, name.as_bytes()), field(2, &field(1, &[b'x'; 20_000]))].concat())
    };
    let resource: Vec<u8> = (0..100).flat_map(|index| attribute(format!("key{index}"))).collect();
    let spans: Vec<u8> = (1..=50_000u64)
        .flat_map(|id| {
            field(2, &[field(1, &1u128.to_be_bytes()), field(2, &id.to_be_bytes())].concat())
        })
        .collect();
    let body = field(1, &[field(1, &resource), field(2, &spans)].concat());
    assert!(body.len() < 4 << 20, "{} bytes", body.len());
    assert_eq!(child.post(&[PROTOBUF], body.clone()).await, 413);
    let refused = grpc::export(&child.address("otlp-grpc"), body.into(), None).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("send fewer spans in one"), "{refused:?}");
    // A request may have very many resources that have nothing.
    let empty = field(1, &[]).repeat(2_000_000);
    assert_eq!(child.post(&[PROTOBUF], empty).await, 200);
    assert_eq!(child.post(&[PROTOBUF], request([1])).await, 200);
    child.expect_growth_below(before, 150 << 20, "100 GB on the way out");
    child.stop().await;
}

#[tokio::test]
async fn a_flood_in_front_of_a_full_queue_takes_no_place_and_no_turn_from_others() {
    let intake = intake().await;
    answer(&intake, 503, u64::MAX).await;
    let settings = [
        "exporters.datadog.sending_queue={queue_size: 1, num_consumers: 1}",
        "service.pipelines.traces.processors=[]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    rig.send(request([1])).await;
    let url = format!("http://{}/v1/traces", rig.address("otlp-http"));
    let from = |host: [u8; 4]| {
        let client = reqwest::Client::builder().http2_prior_knowledge();
        client.local_address(std::net::IpAddr::from(host)).build().unwrap()
    };
    let post = |http: &reqwest::Client, id: u64| {
        let post = http.post(&url).header(PROTOBUF.0, PROTOBUF.1).body(request([id])).send();
        tokio::spawn(async move {
            let response = post.await.unwrap();
            (response.status().as_u16(), response.headers().get("retry-after").cloned())
        })
    };
    let held = async |requests| {
        let reported = format!("{requests} requests are held");
        until(&reported, async || rig.metric("otelcol_exporter_held_requests").await == requests)
            .await;
    };
    // Over two connections, each of which may have fewer requests in flight than are held.
    let hosts = [from([127, 0, 0, 1]), from([127, 0, 0, 1])];
    let mut flood = Vec::new();
    for id in 2..1200 {
        flood.push(post(&hosts[id as usize % 2], id));
    }
    held(1024).await;
    let begun = Instant::now();
    let status = grpc::export(&rig.address("otlp-grpc"), request([1200]), None).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "it was held: {:?}", begun.elapsed());
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    grpc::expect_delay(&status, 3);
    let honest = post(&from([127, 0, 0, 2]), 5000);
    held(1025).await;
    assert!(flood.iter().filter(|one| one.is_finished()).count() > 100, "beyond the bounds");
    let recovered = recover(&rig.intake).await;
    assert_eq!(honest.await.unwrap(), (200, None));
    let place = || {
        let arrived = span_ids_in_order(&recovered.payloads());
        arrived.iter().position(|id| *id == 5000)
    };
    until("it is sent", async || place().is_some()).await;
    assert!(place().unwrap() < 5, "{:?}: it waits for the flood", place());
    // Those who had no place were not held, and those who lost it no longer.
    let at_once = (503, Some("3".parse().unwrap()));
    for one in flood {
        let answer = one.await.unwrap();
        assert!([(200, None), at_once.clone()].contains(&answer), "{answer:?}");
    }
}

/// The ids of the spans in payloads of one span each, in the order in which they came.
fn span_ids_in_order(payloads: &[libdd_trace_protobuf::pb::AgentPayload]) -> Vec<u64> {
    payloads.iter().flat_map(|one| span_ids(std::slice::from_ref(one))).collect()
}
