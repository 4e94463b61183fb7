//! Any OTLP request through the Datadog exporter: payloads and stats are built, and the intake can read them.

#![no_main]

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use collector::internals::{DatadogStages, decode_protobuf};
use harness_intake::{
    attempt::{Attempt, Reply},
    decode::{Decoded, decode},
};
use libfuzzer_sys::fuzz_target;

/// Each set of options that takes another way through the translation.
const SETTINGS: [&str; 3] = [
    "{api: {key: x}, compression: none}",
    "{api: {key: x}, compression: none, traces: {span_name_as_resource_name: true, compute_top_level_by_span_kind: true, ignore_resources: ['^/health']}}",
    "{api: {key: x}, compression: none, traces: {span_name_remappings: {a: b}, compute_stats_by_span_kind: false, peer_tags: [x]}}",
];

static STAGES: LazyLock<[DatadogStages; 3]> =
    LazyLock::new(|| SETTINGS.map(|settings| DatadogStages::new(settings, true).expect("valid")));

fuzz_target!(|request: &[u8]| {
    let Ok(batch) = decode_protobuf(Bytes::copy_from_slice(request)) else { return };
    for stages in &*STAGES {
        let mut sent = 0;
        for (body, spans) in stages.payloads(&batch) {
            match read("/api/v0.2/traces", &[], body) {
                Decoded::Traces(payload) => assert_eq!(payload.spans.len(), spans),
                other => panic!("{other:?}"),
            }
            sent += spans;
        }
        assert!(sent <= batch.span_count());
        for body in stages.stats().expect("stats can be written") {
            let decoded = read("/api/v0.2/stats", &[("content-encoding", "gzip")], body.to_vec());
            assert!(matches!(decoded, Decoded::Stats(_)), "{decoded:?}");
        }
    }
});

fn read(path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Decoded {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let attempt = Attempt {
        seq: 0,
        received_at: 0,
        method: "POST".to_owned(),
        path: path.to_owned(),
        headers: headers.collect::<BTreeMap<_, _>>(),
        body,
        reply: Reply::Status(202),
    };
    decode(&attempt, 64 << 20)
}
