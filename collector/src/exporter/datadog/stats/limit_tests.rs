//! The bounds of stats: groups at a time, and groups in a payload.

use std::collections::BTreeSet;

use super::{BUCKET_NANOS, Concentrator, Counting, MAX_GROUPS, MAX_GROUPS_PER_PAYLOAD, Sender};
use crate::exporter::datadog::model::{Span, TraceChunk, TracerPayload};

/// Spans of so many groups.
fn tracer(groups: usize) -> TracerPayload<'static> {
    let span = |number| {
        let resource = format!("operation {number}").into_bytes();
        let mut span = Span { resource: resource.into(), duration: 5, ..Span::default() };
        span.metrics.set(&b"_top_level"[..], 1.0);
        span
    };
    let chunk = TraceChunk { spans: (0..groups).map(span).collect(), ..TraceChunk::default() };
    TracerPayload { chunks: vec![chunk], ..TracerPayload::default() }
}

#[test]
fn groups_are_bounded_and_their_payloads_take_no_more_memory_than_they_need() {
    let sender = Sender { host_name: "h".into(), env: "none".into(), agent_version: "v".into() };
    let stats = Concentrator::new(Counting::new(false, Vec::new()), 10 * BUCKET_NANOS);
    stats.add(&tracer(MAX_GROUPS + 7), &sender, 0);
    let (payloads, _) = stats.flush(&sender, 0, true);
    assert_eq!(stats.take_left_out(), 7);
    assert_eq!(payloads.len(), MAX_GROUPS.div_ceil(MAX_GROUPS_PER_PAYLOAD));
    assert!(payloads.iter().all(|payload| payload.split_payload));
    let clients = payloads.iter().flat_map(|payload| &payload.stats);
    let parts: Vec<_> = clients.flat_map(|client| &client.stats).collect();
    assert!(parts.iter().all(|part| part.stats.capacity() <= MAX_GROUPS_PER_PAYLOAD));
    let names: BTreeSet<_> =
        parts.iter().flat_map(|part| &part.stats).map(|group| &group.resource).collect();
    assert_eq!(names.len(), MAX_GROUPS);
    // There is room again.
    stats.add(&tracer(1), &sender, 0);
    assert_eq!((stats.take_left_out(), stats.flush(&sender, 0, true).0.len()), (0, 1));
}
