use std::io::Write;

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::testing::{
    TRACE_ID, TRACE_ID_LOW, attempt, encoded, gzip, payload, stats, text, traces_body,
};
use harness_core::trace::{SpanId, TraceId};

fn decoded(attempt: &Attempt) -> Decoded {
    decode(attempt, 1 << 20)
}

fn traces(attempt: &Attempt) -> TracesPayload {
    match decoded(attempt) {
        Decoded::Traces(payload) => payload,
        other => panic!("{other:?}"),
    }
}

fn reason(attempt: &Attempt) -> String {
    match decoded(attempt) {
        Decoded::Undecodable { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trace_payload_becomes_spans_with_its_facts_beside_them() {
    let payload = traces(&attempt(7, "/api/v0.2/traces", payload().encode_to_vec()));
    assert_eq!(payload.agent_version, "datadogexporter-otelcol-0.155.0");
    assert_eq!(payload.repaired_strings, 0);
    assert_eq!(payload.tracers[0].app_version, "2.0.0");
    assert_eq!(payload.tracers[0].chunk_tags[0]["_dd.p.dm"], "-9");
    let [parent, child] = payload.spans.as_slice() else { panic!("{:?}", payload.spans) };
    assert_eq!(parent.trace_id.to_string(), TRACE_ID);
    assert_eq!(parent.datadog_trace_id, TRACE_ID_LOW);
    assert_eq!((parent.id, parent.parent_id), (SpanId(1), None));
    assert_eq!((child.id, child.parent_id), (SpanId(2), Some(SpanId(1))));
    assert_eq!((parent.kind(), parent.instance()), ("server", Some("inst-7")));
    assert_eq!((parent.service.as_str(), parent.resource.as_str()), ("frontend", "GET /cart"));
    assert_eq!((parent.name.as_str(), parent.span_type.as_str()), ("http.server.request", "web"));
    assert_eq!((parent.hostname.as_str(), parent.env.as_str()), ("node-1", "staging"));
    assert_eq!((parent.container_id.as_str(), parent.priority), ("aaaa", 1));
    assert_eq!((parent.start, parent.duration), (1_750_000_000_001_000_000, 90_000_000));
    assert!(parent.error);
    assert_eq!(parent.metrics["http.status_code"], 500.0);
    assert_eq!(parent.attempt, 7);
}

#[test]
fn every_encoding_of_a_body_is_read() {
    let plain = payload().encode_to_vec();
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    deflate.write_all(&plain).unwrap();
    for (encoding, body) in [
        ("identity", plain.clone()),
        ("gzip", gzip(&plain)),
        ("GZIP", gzip(&plain)),
        ("deflate", deflate.finish().unwrap()),
        ("zstd", zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ] {
        let payload = traces(&encoded("/api/v0.2/traces/", encoding, body));
        assert_eq!(payload.spans.len(), 2, "{encoding}");
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let path = "/api/v0.2/traces";
    let body = traces_body(TRACE_ID, 1);
    let truncated = reason(&encoded(path, "gzip", body[..body.len() / 2].to_vec()));
    assert!(truncated.contains("gzip"), "{truncated}");
    let zstd = zstd::encode_all(payload().encode_to_vec().as_slice(), 1).unwrap();
    let truncated = reason(&encoded(path, "zstd", zstd[..zstd.len() - 5].to_vec()));
    assert!(truncated.contains("zstd"), "{truncated}");
    assert!(reason(&encoded(path, "br", body)).contains("`br`"));
    assert!(reason(&attempt(1, path, b"\xff\xff\xff".to_vec())).contains("AgentPayload"));
    assert!(reason(&attempt(1, "/api/v0.2/stats", b"{}".to_vec())).contains("StatsPayload"));
    assert!(reason(&attempt(1, "/api/v2/series", b"{".to_vec())).contains("JSON"));
    assert!(reason(&attempt(1, "/intake/", Vec::new())).contains("JSON"));
}

#[test]
fn a_decompression_bomb_is_not_read() {
    let zeros = vec![0; 4 << 20];
    for (encoding, body) in [
        ("gzip", gzip(&zeros)),
        ("zstd", zstd::encode_all(zeros.as_slice(), 1).unwrap()),
        ("identity", zeros),
    ] {
        let reason = reason(&encoded("/api/v0.2/traces", encoding, body));
        assert!(reason.contains("larger than 1048576 bytes"), "{encoding}: {reason}");
    }
}

#[test]
fn a_string_that_is_not_utf8_loses_nothing_else() {
    let mut broken = payload();
    broken.tracer_payloads[0].chunks[0].spans[0].resource = "GET /caf?".to_owned();
    let mut body = broken.encode_to_vec();
    let at = body.windows(9).position(|bytes| bytes == b"GET /caf?").unwrap() + 8;
    body[at] = 0xe9;

    let payload = traces(&attempt(1, "/api/v0.2/traces", body));
    assert_eq!(payload.repaired_strings, 1);
    assert_eq!(payload.spans.len(), 2);
    assert_eq!(payload.spans[0].resource, "GET /caf\u{fffd}");
    assert_eq!(payload.spans[0].meta["otel.trace_id"], TRACE_ID);
    assert_eq!(payload.spans[0].metrics["http.status_code"], 500.0);
    assert_eq!(payload.tracers[0].tags["_dd.tags.container"], "container_id:aaaa");
}

#[test]
fn the_full_trace_id_comes_from_the_best_place_that_has_it() {
    let id_of = |meta: &[(&str, &str)], other: &[(&str, &str)], chunk: &[(&str, &str)]| {
        let mut payload = payload();
        let sent = &mut payload.tracer_payloads[0].chunks[0];
        sent.spans[0].meta = text(meta);
        sent.spans[1].meta = text(other);
        sent.tags = text(chunk);
        traces(&attempt(1, "/api/v0.2/traces", payload.encode_to_vec())).spans[0].trace_id
    };
    let full: TraceId = TRACE_ID.parse().unwrap();
    let low_only = TraceId(u128::from(TRACE_ID_LOW));
    let tid = ("_dd.p.tid", "0af7651916cd43dd");
    assert_eq!(id_of(&[("otel.trace_id", TRACE_ID), ("_dd.p.tid", "1")], &[], &[]), full);
    assert_eq!(id_of(&[("otel.trace_id", "nonsense"), tid], &[], &[]), full);
    assert_eq!(id_of(&[], &[tid], &[]), full, "it stands on one span of the chunk only");
    assert_eq!(id_of(&[], &[], &[tid]), full);
    assert_eq!(id_of(&[("_dd.p.tid", "nonsense")], &[], &[]), low_only);
    // A full id whose low half disagrees is shown as it is: a rule judges it.
    let other = "0af7651916cd43dd0000000000000001";
    assert_eq!(id_of(&[("otel.trace_id", other)], &[], &[]), other.parse().unwrap());
}

#[test]
fn a_newer_payload_form_is_reported_and_not_taken_for_an_empty_one() {
    let mut newer = payload();
    newer.idx_tracer_payloads.push(Default::default());
    let reason = reason(&attempt(1, "/api/v0.2/traces", newer.encode_to_vec()));
    assert!(reason.contains("idxTracerPayloads"), "{reason}");
}

#[test]
fn stats_become_groups_with_their_sketches() {
    let body = gzip(&rmp_serde::to_vec_named(&stats()).unwrap());
    let Decoded::Stats(payload) = decoded(&encoded("/api/v0.2/stats", "gzip", body)) else {
        panic!("no stats")
    };
    let [group] = payload.groups.as_slice() else { panic!("{:?}", payload.groups) };
    assert_eq!((group.service.as_str(), group.http_status_code), ("checkout", 500));
    assert_eq!((group.hits, group.errors, group.top_level_hits), (1, 1, 1));
    assert_eq!(group.is_trace_root, Some(false));
    assert_eq!(group.error_summary, Sketch(vec![0x0a, 0x0a]));
    assert_eq!((group.env.as_str(), group.start), ("staging", 1_795_376_280_000_000_000));
    let json = serde_json::to_value(Decoded::Stats(payload.clone())).unwrap();
    assert_eq!(serde_json::from_value::<Decoded>(json).unwrap(), Decoded::Stats(payload));
}

#[test]
fn the_other_routes_are_distinguished() {
    assert_eq!(decoded(&attempt(1, "/api/v1/validate", Vec::new())), Decoded::Validate);
    assert_eq!(decoded(&attempt(1, "/api/v9/other", Vec::new())), Decoded::UnknownPath);
    let json = br#"{"series":[]}"#.to_vec();
    assert!(matches!(decoded(&attempt(1, "/api/v2/series", json.clone())), Decoded::Series(_)));
    assert!(matches!(decoded(&attempt(1, "/intake", json)), Decoded::HostMetadata(_)));
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(
        route in 0..Route::ALL.len(),
        encoding in prop::sample::select(vec!["", "gzip", "deflate", "zstd"]),
        body in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        decoded(&encoded(Route::ALL[route].path(), encoding, body));
    }

    #[test]
    fn no_damage_to_a_payload_makes_decoding_panic(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut traces = payload().encode_to_vec();
        let mut apm_stats = rmp_serde::to_vec_named(&stats()).unwrap();
        for body in [&mut traces, &mut apm_stats] {
            let place = at.index(body.len());
            body[place] = byte;
        }
        decoded(&attempt(1, "/api/v0.2/traces", traces.clone()));
        decoded(&attempt(1, "/api/v0.2/stats", apm_stats));
        traces.truncate(cut.index(traces.len()));
        decoded(&attempt(1, "/api/v0.2/traces", traces));
    }
}
