//! Any OTLP request, translated straight into payloads' bytes and in the plain way through a model: both make the same bytes,
//! leave out the same spans and count the same stats.

#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use collector::internals::{DatadogStages, decode_protobuf};
use libfuzzer_sys::fuzz_target;

/// When requests are taken to arrive, in nanoseconds since the epoch: what is made of a time that is unset follows it.
const NOW: i64 = 1_800_000_000_000_000_000;

/// The options that the direct way knows of, and those that send every trace the plain way.
const SETTINGS: [(&str, bool); 4] = [
    ("{api: {key: x}}", true),
    ("{api: {key: x}, hostname: h}", false),
    (
        "{api: {key: x}, traces: {compute_top_level_by_span_kind: true, ignore_resources: ['^/health'], peer_tags: [x]}}",
        true,
    ),
    (
        "{api: {key: x}, traces: {span_name_remappings: {a: b}, compute_stats_by_span_kind: false}}",
        true,
    ),
];

static STAGES: LazyLock<[DatadogStages; 4]> = LazyLock::new(|| {
    SETTINGS.map(|(settings, stats)| DatadogStages::new(settings, stats).expect("valid"))
});

fuzz_target!(|request: &[u8]| {
    let Ok(batch) = decode_protobuf(Bytes::copy_from_slice(request)) else { return };
    for stages in &*STAGES {
        assert!(stages.compare(&batch, NOW) <= batch.span_count());
    }
});
