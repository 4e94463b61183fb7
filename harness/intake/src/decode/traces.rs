//! Trace payloads: a protobuf `AgentPayload` becomes spans.

use std::collections::{BTreeMap, HashMap};

use libdd_trace_protobuf::pb;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{DecodeError, lossy};
use harness_core::trace::{PayloadForm, Span, SpanId, TraceId};

/// A decoded trace payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesPayload {
    /// `AgentPayload.hostName`.
    pub hostname: String,
    /// `AgentPayload.env`.
    pub env: String,
    /// `AgentPayload.agentVersion`.
    pub agent_version: String,
    /// `AgentPayload.targetTPS`.
    pub target_tps: f64,
    /// `AgentPayload.errorTPS`.
    pub error_tps: f64,
    /// `AgentPayload.tags`.
    pub tags: BTreeMap<String, String>,
    /// Header fields of each tracer payload, in their order.
    pub tracers: Vec<TracerFacts>,
    /// Number of strings that were not UTF-8; their invalid bytes are shown as U+FFFD.
    pub repaired_strings: usize,
    /// All spans, in their order.
    pub spans: Vec<Span>,
}

/// A `TracerPayload` without its spans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracerFacts {
    /// `containerID`.
    pub container_id: String,
    /// `languageName`.
    pub language_name: String,
    /// `tracerVersion`.
    pub tracer_version: String,
    /// `env`.
    pub env: String,
    /// `hostname`.
    pub hostname: String,
    /// `appVersion`.
    pub app_version: String,
    /// `tags`.
    pub tags: BTreeMap<String, String>,
    /// `tags` of each chunk, in their order.
    pub chunk_tags: Vec<BTreeMap<String, String>>,
}

/// Reads a payload, and how many of its strings were not UTF-8.
pub(super) fn payload(body: &[u8]) -> Result<(pb::AgentPayload, usize), DecodeError> {
    let read = match pb::AgentPayload::decode(body) {
        Ok(payload) => (payload, 0),
        // prost refuses a whole message for one string that is not UTF-8; Datadog does not.
        Err(error) => match lossy::repair(lossy::Message::AgentPayload, body) {
            Some((repaired, count)) if count > 0 => {
                let payload = pb::AgentPayload::decode(repaired.as_slice());
                (payload.map_err(DecodeError::Protobuf)?, count)
            }
            _ => return Err(DecodeError::Protobuf(error)),
        },
    };
    Ok(read)
}

pub(super) fn decode(body: &[u8], attempt: u64) -> Result<TracesPayload, DecodeError> {
    let (payload, repaired_strings) = payload(body)?;
    if !payload.idx_tracer_payloads.is_empty() {
        return Err(DecodeError::IndexedPayload(payload.idx_tracer_payloads.len()));
    }
    let mut decoded = TracesPayload {
        hostname: payload.host_name,
        env: payload.env,
        agent_version: payload.agent_version,
        target_tps: payload.target_tps,
        error_tps: payload.error_tps,
        tags: payload.tags.into_iter().collect(),
        tracers: Vec::new(),
        repaired_strings,
        spans: Vec::new(),
    };
    for tracer in payload.tracer_payloads {
        let mut facts = TracerFacts {
            container_id: tracer.container_id,
            language_name: tracer.language_name,
            tracer_version: tracer.tracer_version,
            env: tracer.env,
            hostname: tracer.hostname,
            app_version: tracer.app_version,
            tags: tracer.tags.into_iter().collect(),
            chunk_tags: Vec::new(),
        };
        for chunk in tracer.chunks {
            let upper_halves = upper_halves(&chunk);
            let spans = chunk.spans.into_iter();
            decoded.spans.extend(spans.map(|span| Span {
                trace_id: trace_id(&span, &upper_halves),
                datadog_trace_id: span.trace_id,
                id: SpanId(span.span_id),
                parent_id: (span.parent_id != 0).then_some(SpanId(span.parent_id)),
                service: span.service,
                name: span.name,
                resource: span.resource,
                span_type: span.r#type,
                error: span.error != 0,
                start: span.start,
                duration: span.duration,
                meta: span.meta.into_iter().collect(),
                metrics: span.metrics.into_iter().collect(),
                hostname: facts.hostname.clone(),
                env: facts.env.clone(),
                container_id: facts.container_id.clone(),
                language: facts.language_name.clone(),
                priority: chunk.priority,
                dropped: chunk.dropped_trace,
                form: PayloadForm::Datadog,
                attempt,
            }));
            facts.chunk_tags.push(chunk.tags.into_iter().collect());
        }
        decoded.tracers.push(facts);
    }
    Ok(decoded)
}

/// `_dd.p.tid` stands on one span of a chunk only (Datadog's tracers) or in the chunk's tags, and means them all.
fn upper_halves(chunk: &pb::TraceChunk) -> HashMap<u64, u64> {
    let of_chunk = chunk.tags.get("_dd.p.tid").and_then(|text| upper_half(text));
    let mut halves = HashMap::new();
    for span in &chunk.spans {
        let own = span.meta.get("_dd.p.tid").and_then(|text| upper_half(text));
        if let Some(half) = own.or(of_chunk) {
            halves.entry(span.trace_id).or_insert(half);
        }
    }
    halves
}

fn upper_half(text: &str) -> Option<u64> {
    text.parse::<SpanId>().ok().map(|half| half.0)
}

fn trace_id(span: &pb::Span, upper_halves: &HashMap<u64, u64>) -> TraceId {
    let full = span.meta.get("otel.trace_id").filter(|text| text.len() == 32);
    if let Some(id) = full.and_then(|text| text.parse().ok()) {
        return id;
    }
    let own = span.meta.get("_dd.p.tid").and_then(|text| upper_half(text));
    let high = own.or_else(|| upper_halves.get(&span.trace_id).copied()).unwrap_or(0);
    TraceId(u128::from(high) << 64 | u128::from(span.trace_id))
}
