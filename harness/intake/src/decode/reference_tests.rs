//! The reference collector's own bytes: what keeps the decoder honest is traffic that we did not make.
//!
//! Recorded from the OpenTelemetry Collector v0.155.0 with contrib's `datadog` exporter, which was sent the request of
//! `collector/testdata/golden/01-chain`; compared with the canonical form that was recorded beside it.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::*;
use crate::testing::encoded;

fn recorded(path: &str, file: &str) -> Decoded {
    let body =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/reference").join(file))
            .unwrap();
    decode(&encoded(path, "gzip", body), 1 << 20)
}

#[test]
fn the_references_trace_payload_decodes_field_for_field() {
    let Decoded::Traces(payload) = recorded("/api/v0.2/traces", "traces.pb.gz") else {
        panic!("no traces")
    };
    assert_eq!(payload.repaired_strings, 0);
    let canonical = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../collector/testdata/golden/01-chain/canonical.json");
    let canonical: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(canonical).unwrap()).unwrap();
    assert_eq!(payload.spans.len(), canonical.len());
    for entry in &canonical {
        let expected = &entry["span"];
        let text = |key: &str| expected[key].as_str().unwrap_or_default().to_owned();
        let id: u64 = text("spanID").parse().unwrap();
        let span = payload
            .spans
            .iter()
            .find(|span| span.id.0 == id)
            .unwrap_or_else(|| panic!("no span {id}"));
        assert_eq!(span.datadog_trace_id.to_string(), text("traceID"));
        assert_eq!(span.parent_id.map(|parent| parent.0), text("parentID").parse().ok());
        assert_eq!(
            (&span.service, &span.name, &span.resource),
            (&text("service"), &text("name"), &text("resource"))
        );
        assert_eq!(span.span_type, text("type"));
        assert_eq!(span.error, expected["error"].as_i64().unwrap_or(0) != 0);
        assert_eq!(span.start.to_string(), text("start"));
        assert_eq!(span.duration.to_string(), text("duration"));
        let meta: BTreeMap<String, String> =
            serde_json::from_value(expected["meta"].clone()).unwrap();
        assert_eq!(span.meta, meta);
        let metrics: BTreeMap<String, f64> =
            serde_json::from_value(expected["metrics"].clone()).unwrap();
        assert_eq!(span.metrics, metrics);
        assert_eq!(span.trace_id.to_string(), meta["otel.trace_id"]);
        assert_eq!(span.hostname, entry["tracer_payload"]["hostname"].as_str().unwrap_or_default());
        assert_eq!(
            span.container_id,
            entry["tracer_payload"]["containerID"].as_str().unwrap_or_default()
        );
    }
}

#[test]
fn the_references_stats_payload_decodes_with_every_hit() {
    let Decoded::Stats(payload) = recorded("/api/v0.2/stats", "stats.msgpack.gz") else {
        panic!("no stats")
    };
    let groups = &payload.groups;
    assert_eq!(groups.len(), 7);
    // The eight spans of the request, but for the one that is neither top level nor of a kind that is counted.
    assert_eq!(groups.iter().map(|group| group.hits).sum::<u64>(), 7);
    assert!(groups.iter().all(|group| !group.service.is_empty() && !group.resource.is_empty()));
}
