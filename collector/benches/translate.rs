//! Measures the cost of a span from wire to wire: `cargo bench -p collector`.
//!
//! Requests of 1000 spans, ten attributes each, ten spans in a trace.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says so by ending")]

use bytes::Bytes;
use collector::internals::{
    DatadogStages, compressor, decode_json, decode_protobuf, encode_protobuf,
};
use divan::Bencher;
use divan::counter::ItemsCount;
use serde_json::json;

const SPANS: u64 = 1000;

fn main() {
    divan::main();
}

fn request() -> Vec<u8> {
    let attribute =
        |key: &str, value: String| json!({ "key": key, "value": { "stringValue": value } });
    let span = |index: u64| {
        let parent = if index.is_multiple_of(10) { 0 } else { index - 1 };
        json!({
            "traceId": format!("{:032x}", (1u128 << 100) + u128::from(index / 10 + 1)),
            "spanId": format!("{:016x}", index + 1),
            "parentSpanId": if index.is_multiple_of(10) { String::new() } else { format!("{:016x}", parent + 1) },
            "name": "GET /products/{id}",
            "kind": if index.is_multiple_of(2) { 2 } else { 3 },
            "startTimeUnixNano": (1_750_000_000_000_000_000u64 + index).to_string(),
            "endTimeUnixNano": (1_750_000_000_050_000_000u64 + index).to_string(),
            "attributes": [
                attribute("http.request.method", "GET".into()),
                attribute("http.route", "/products/{id}".into()),
                attribute("url.path", format!("/products/{index}")),
                attribute("url.scheme", "https".into()),
                attribute("server.address", "shop.example".into()),
                attribute("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)".into()),
                attribute("client.address", "203.0.113.9".into()),
                attribute("network.protocol.version", "1.1".into()),
                attribute("app.user", format!("user-{}", index % 97)),
                { "key": "http.response.status_code", "value": { "intValue": "200" } },
            ],
        })
    };
    let resource = [
        attribute("service.name", "checkout".into()),
        attribute("service.version", "1.4.2".into()),
        attribute("deployment.environment.name", "staging".into()),
        attribute("host.name", "node-1".into()),
        attribute("telemetry.sdk.language", "rust".into()),
        attribute("k8s.pod.name", "checkout-6d5f-abcde".into()),
    ];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "bench" }, "spans": (0..SPANS).map(span).collect::<Vec<_>>() }],
    }] })
    .to_string()
    .into_bytes()
}

fn protobuf() -> Bytes {
    encode_protobuf(&decode_json(&request()).unwrap())
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let request = protobuf();
    bencher.counter(ItemsCount::new(SPANS)).bench(|| decode_protobuf(request.clone()).unwrap());
}

#[divan::bench]
fn decode_from_json(bencher: Bencher<'_, '_>) {
    let request = request();
    bencher.counter(ItemsCount::new(SPANS)).bench(|| decode_json(&request).unwrap());
}

#[divan::bench(args = ["none", "zstd", "gzip"])]
fn translate_and_encode(bencher: Bencher<'_, '_>, compression: &str) {
    run(bencher, compression, false);
}

#[divan::bench(args = ["none", "zstd"])]
fn translate_encode_and_count(bencher: Bencher<'_, '_>, compression: &str) {
    run(bencher, compression, true);
}

fn run(bencher: Bencher<'_, '_>, compression: &str, stats: bool) {
    let settings = format!("{{api: {{key: x}}, compression: {compression}}}");
    let stages = DatadogStages::new(&settings, stats).unwrap();
    let batch = decode_protobuf(protobuf()).unwrap();
    bencher.counter(ItemsCount::new(SPANS)).bench(|| {
        assert_eq!(stages.requests(&batch), SPANS as usize);
    });
}

#[divan::bench(args = ["zstd", "gzip"])]
fn compress(bencher: Bencher<'_, '_>, compression: &str) {
    let stages = DatadogStages::new("{api: {key: x}, compression: none}", false).unwrap();
    let (payload, spans) = stages.payloads(&decode_protobuf(protobuf()).unwrap()).remove(0);
    let mut compress = compressor(compression).unwrap();
    bencher.counter(ItemsCount::new(spans)).bench_local(|| assert!(compress(&payload) > 0));
}
