//! Payloads for this module's tests, with the field names and values that were measured on the reference exporter
//! v0.155.0.

use std::{collections::BTreeMap, io::Write};

use libdd_trace_protobuf::pb;
use prost::Message;

use crate::attempt::{Attempt, Reply};

pub(super) const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
pub(super) const TRACE_ID_LOW: u64 = 0x8448_eb21_1c80_319c;

/// A client span in a service `frontend` and its parent, as they are in a payload.
pub(super) fn payload() -> pb::AgentPayload {
    payload_of(TRACE_ID, 1)
}

/// The same for another trace id; `first` is the parent's span id, `first + 1` the child's.
pub(super) fn payload_of(trace_id: &str, first: u64) -> pb::AgentPayload {
    let low = u64::from_str_radix(&trace_id[16..], 16).unwrap();
    let span = |id, parent_id, name: &str, resource: &str, kind: &str| pb::Span {
        service: "frontend".to_owned(),
        name: name.to_owned(),
        resource: resource.to_owned(),
        trace_id: low,
        span_id: id,
        parent_id,
        start: 1_750_000_000_000_000_000 + id as i64 * 1_000_000,
        duration: 90_000_000,
        error: 1,
        meta: text(&[
            ("otel.trace_id", trace_id),
            ("span.kind", kind),
            ("service.instance.id", "inst-7"),
        ]),
        metrics: [("_top_level".to_owned(), 1.0), ("http.status_code".to_owned(), 500.0)].into(),
        r#type: "web".to_owned(),
        ..pb::Span::default()
    };
    pb::AgentPayload {
        host_name: "cfg-host".to_owned(),
        env: "none".to_owned(),
        agent_version: "datadogexporter-otelcol-0.155.0".to_owned(),
        target_tps: 10.0,
        error_tps: 10.0,
        tracer_payloads: vec![pb::TracerPayload {
            container_id: "aaaa".to_owned(),
            language_name: "nodejs".to_owned(),
            tracer_version: "otlp-1.40.0".to_owned(),
            env: "staging".to_owned(),
            hostname: "node-1".to_owned(),
            app_version: "2.0.0".to_owned(),
            tags: text(&[("_dd.tags.container", "container_id:aaaa")]),
            chunks: vec![pb::TraceChunk {
                priority: 1,
                spans: vec![
                    span(first, 0, "http.server.request", "GET /cart", "server"),
                    span(first + 1, first, "http.client.request", "GET", "client"),
                ],
                tags: text(&[("_dd.otlp_sr", "1.00"), ("_dd.p.dm", "-9")]),
                ..pb::TraceChunk::default()
            }],
            ..pb::TracerPayload::default()
        }],
        ..pb::AgentPayload::default()
    }
}

pub(super) fn text(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn stats() -> pb::StatsPayload {
    pb::StatsPayload {
        agent_hostname: "cfg-host".to_owned(),
        agent_env: "none".to_owned(),
        agent_version: "datadogexporter-otelcol-0.155.0".to_owned(),
        stats: vec![pb::ClientStatsPayload {
            hostname: "cfg-host".to_owned(),
            env: "staging".to_owned(),
            version: "1.4.2".to_owned(),
            lang: "java".to_owned(),
            stats: vec![pb::ClientStatsBucket {
                start: 1_795_376_280_000_000_000,
                duration: 10_000_000_000,
                stats: vec![pb::ClientGroupedStats {
                    service: "checkout".to_owned(),
                    name: "http.server.request".to_owned(),
                    resource: "POST /pay/{id}".to_owned(),
                    http_status_code: 500,
                    r#type: "web".to_owned(),
                    hits: 1,
                    errors: 1,
                    duration: 70_000_000,
                    ok_summary: vec![0x0a, 0x09],
                    error_summary: vec![0x0a, 0x0a],
                    top_level_hits: 1,
                    span_kind: "server".to_owned(),
                    is_trace_root: 2,
                    ..pb::ClientGroupedStats::default()
                }],
                agent_time_shift: 0,
            }],
            ..pb::ClientStatsPayload::default()
        }],
        ..pb::StatsPayload::default()
    }
}

/// The same trace as [`payload_of`] gives, as OTLP; protobuf.
pub(super) fn otlp_of(trace_id: &str, first: u64) -> Vec<u8> {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };
    let trace_id = u128::from_str_radix(trace_id, 16).unwrap().to_be_bytes().to_vec();
    let span = |id: u64, parent_span_id| Span {
        trace_id: trace_id.clone(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id,
        name: "GET /cart".to_owned(),
        start_time_unix_nano: 1_750_000_000_000_000_000,
        end_time_unix_nano: 1_750_000_000_090_000_000,
        ..Span::default()
    };
    let spans = vec![span(first, Vec::new()), span(first + 1, first.to_be_bytes().to_vec())];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// An attempt with this body, not compressed, that was answered 202.
pub(super) fn attempt(seq: u64, path: &str, body: Vec<u8>) -> Attempt {
    Attempt {
        seq,
        received_at: 0,
        method: "POST".to_owned(),
        path: path.to_owned(),
        headers: BTreeMap::new(),
        body,
        reply: Reply::Status(202),
    }
}

/// The same with a content encoding.
pub(super) fn encoded(path: &str, encoding: &str, body: Vec<u8>) -> Attempt {
    let mut attempt = attempt(1, path, body);
    attempt.headers.insert("content-encoding".to_owned(), encoding.to_owned());
    attempt
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A gzip'd body of the traces path.
pub(super) fn traces_body(trace_id: &str, first: u64) -> Vec<u8> {
    gzip(&payload_of(trace_id, first).encode_to_vec())
}
