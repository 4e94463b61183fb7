//! Model to bytes: Datadog's `AgentPayload` in protobuf, cut to a size the intake takes. Pure.

use super::model::{Entries, Span, Text, TraceChunk, TracerPayload};
use crate::trace_batch::wire::{
    Value, put_bytes, put_key, put_message, put_uint, raw_fields, repeated,
};

/// Where an `AgentPayload` has its tracer payloads, those their chunks, and those their spans.
const TRACER: u32 = 5;
const CHUNK: u32 = 6;
const SPAN: u32 = 3;
const META: u32 = 10;

/// How many bytes of chunks a payload may have before the next one is begun: the Datadog agent's `MaxPayloadSize`.
const MAX_PAYLOAD_BYTES: usize = 3_200_000;

/// What every payload says about its sender.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) host_name: String,
    pub(crate) env: String,
    pub(crate) agent_version: String,
}

/// The tracer payloads of one request to the intake, written, but for what the sender says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    body: Vec<u8>,
    pub(crate) spans: usize,
}

impl Payload {
    /// The whole `AgentPayload`, not yet compressed.
    pub(crate) fn body_for(&self, sender: &Sender) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body.len() + 256);
        body.extend_from_slice(&self.body);
        put_sender(&mut body, sender);
        body
    }
}

/// Writes the tracer payloads into as few `AgentPayload`s as their size allows; a chunk is never cut.
pub(crate) fn build(tracers: &[TracerPayload<'_>]) -> Vec<Payload> {
    let mut payloads = Vec::new();
    let mut current = Payload::default();
    let mut chunks = Vec::new();
    for tracer in tracers {
        let (mut bytes, mut spans) = (0, 0);
        chunks.clear();
        for chunk in &tracer.chunks {
            let start = chunks.len();
            put_message(&mut chunks, CHUNK, |out| write_chunk(out, chunk));
            let size = chunks.len() - start;
            if spans + current.spans > 0 && current.body.len() + bytes + size > MAX_PAYLOAD_BYTES {
                let rest = chunks.split_off(start);
                if spans > 0 {
                    put_tracer(&mut current, tracer, &chunks, spans);
                }
                payloads.push(std::mem::take(&mut current));
                chunks = rest;
                (bytes, spans) = (0, 0);
            }
            bytes += size;
            spans += chunk.spans.len();
        }
        if spans > 0 {
            put_tracer(&mut current, tracer, &chunks, spans);
        }
    }
    if current.spans > 0 {
        payloads.push(current);
    }
    payloads
}

fn put_sender(out: &mut Vec<u8>, sender: &Sender) {
    put_text(out, 1, sender.host_name.as_bytes());
    put_text(out, 2, sender.env.as_bytes());
    put_text(out, 7, sender.agent_version.as_bytes());
    // The agent's target rates, ten traces and ten errors a second by default.
    put_double(out, 8, 10.0);
    put_double(out, 9, 10.0);
}

fn put_tracer(payload: &mut Payload, tracer: &TracerPayload<'_>, chunks: &[u8], spans: usize) {
    payload.spans += spans;
    payload.body.reserve(chunks.len() + 512);
    put_message(&mut payload.body, TRACER, |out| {
        put_text(out, 1, &tracer.container_id);
        put_text(out, 2, &tracer.language_name);
        put_text(out, 4, &tracer.tracer_version);
        out.extend_from_slice(chunks);
        for (key, value) in &tracer.tags {
            put_entry(out, 7, key.as_bytes(), value);
        }
        put_text(out, 8, &tracer.env);
        put_text(out, 9, &tracer.hostname);
        put_text(out, 10, &tracer.app_version);
    });
}

fn write_chunk(out: &mut Vec<u8>, chunk: &TraceChunk<'_>) {
    put_uint(out, 1, i64::from(chunk.priority) as u64);
    put_text(out, 2, &chunk.origin);
    for span in &chunk.spans {
        put_message(out, SPAN, |out| write_span(out, span));
    }
    for (key, value) in &chunk.tags {
        put_entry(out, 4, key.as_bytes(), value);
    }
    put_uint(out, 5, u64::from(chunk.is_dropped));
}

fn write_span(out: &mut Vec<u8>, span: &Span<'_>) {
    put_text(out, 1, &span.service);
    put_text(out, 2, &span.name);
    put_text(out, 3, &span.resource);
    put_uint(out, 4, span.trace_id);
    put_uint(out, 5, span.span_id);
    put_uint(out, 6, span.parent_id);
    put_uint(out, 7, span.start as u64);
    put_uint(out, 8, span.duration as u64);
    put_uint(out, 9, i64::from(span.error) as u64);
    put_meta(out, &span.meta);
    for (key, value) in span.metrics.iter() {
        put_message(out, 11, |out| {
            put_bytes(out, 1, key);
            put_key(out, 2, 1);
            out.extend_from_slice(&value.to_le_bytes());
        });
    }
    put_text(out, 12, &span.span_type);
}

fn put_meta(out: &mut Vec<u8>, meta: &Entries<'_, Text<'_>>) {
    for (key, value) in meta.iter() {
        put_entry(out, META, key, value);
    }
}

fn put_entry(out: &mut Vec<u8>, field: u32, key: &[u8], value: &[u8]) {
    put_message(out, field, |out| {
        put_bytes(out, 1, key);
        put_bytes(out, 2, value);
    });
}

fn put_text(out: &mut Vec<u8>, field: u32, text: &[u8]) {
    if !text.is_empty() {
        put_bytes(out, field, text);
    }
}

fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    put_key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Cuts a payload into two that together have its spans: between resources or between traces if that is possible, else
/// within a trace; `None` for a single span.
pub(crate) fn halve(payload: &Payload) -> Option<(Payload, Payload)> {
    if payload.spans < 2 {
        return None;
    }
    let mut cut = Cut { room: payload.spans / 2, front_spans: 0 };
    let (mut front, mut back) = (Vec::new(), Vec::new());
    cut.split(&payload.body, &[TRACER, CHUNK, SPAN], &mut front, &mut back);
    let back_spans = payload.spans - cut.front_spans;
    Some((
        Payload { body: front, spans: cut.front_spans },
        Payload { body: back, spans: back_spans },
    ))
}

/// The full trace id of each span, which its meta `otel.trace_id` tells.
pub(crate) fn trace_ids(payload: &Payload) -> Vec<u128> {
    let chunks = repeated(&payload.body, TRACER).flat_map(|tracer| repeated(tracer, CHUNK));
    let spans = chunks.flat_map(|chunk| repeated(chunk, SPAN));
    let id = |span| {
        let id = repeated(span, META).find_map(|entry| {
            let is_id = repeated(entry, 1).next() == Some(b"otel.trace_id");
            is_id.then(|| repeated(entry, 2).next()).flatten()
        });
        let id = id.and_then(|id| std::str::from_utf8(id).ok());
        id.and_then(|id| u128::from_str_radix(id, 16).ok()).unwrap_or_default()
    };
    spans.map(id).collect()
}

struct Cut {
    /// How many more spans the front takes.
    room: usize,
    front_spans: usize,
}

impl Cut {
    /// Shares out the parts of a message, which are at the first of these levels; what is no part goes to both sides.
    fn split(&mut self, message: &[u8], levels: &[u32], front: &mut Vec<u8>, back: &mut Vec<u8>) {
        for (field, raw, value) in raw_fields(message) {
            let (Value::Bytes(part), true) = (value, field == levels[0]) else {
                front.extend_from_slice(raw);
                back.extend_from_slice(raw);
                continue;
            };
            let spans = count(part, &levels[1..]);
            if spans <= self.room {
                self.room -= spans;
                self.front_spans += spans;
                front.extend_from_slice(raw);
            } else if self.front_spans > 0 {
                self.room = 0;
                back.extend_from_slice(raw);
            } else {
                let (mut first, mut second) = (Vec::new(), Vec::new());
                self.split(part, &levels[1..], &mut first, &mut second);
                put_bytes(front, field, &first);
                put_bytes(back, field, &second);
            }
        }
    }
}

/// The spans in a message whose parts are at these levels.
fn count(message: &[u8], levels: &[u32]) -> usize {
    match levels {
        [] => 1,
        [level, rest @ ..] => repeated(message, *level).map(|part| count(part, rest)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use libdd_trace_protobuf::pb;
    use prost::Message as _;

    use super::{MAX_PAYLOAD_BYTES, Payload, Sender, build, halve};
    use crate::exporter::datadog::model::{Span, TraceChunk, TracerPayload};

    fn sender() -> Sender {
        Sender { host_name: "h".into(), env: "none".into(), agent_version: "v".into() }
    }

    fn chunk(ids: impl IntoIterator<Item = u64>, filler: usize) -> TraceChunk<'static> {
        let span = |span_id| {
            let mut span = Span { span_id, trace_id: 1, start: -1, ..Span::default() };
            span.meta.set(&b"filler"[..], vec![b'x'; filler].into());
            span.metrics.set(&b"n"[..], 0.0);
            span
        };
        let spans = ids.into_iter().map(span).collect();
        TraceChunk { priority: 1, spans, tags: vec![("t", b"1".into())], ..TraceChunk::default() }
    }

    fn tracer(env: &'static str, chunks: Vec<TraceChunk<'static>>) -> TracerPayload<'static> {
        TracerPayload { env: env.as_bytes().into(), chunks, ..TracerPayload::default() }
    }

    /// The span ids by environment and chunk.
    fn ids(payload: &Payload) -> Vec<(String, Vec<Vec<u64>>)> {
        let decoded = pb::AgentPayload::decode(&*payload.body_for(&sender())).unwrap();
        assert_eq!((decoded.host_name.as_str(), decoded.target_tps), ("h", 10.0));
        let chunk = |chunk: &pb::TraceChunk| {
            assert_eq!((chunk.priority, chunk.tags["t"].as_str()), (1, "1"));
            chunk.spans.iter().map(|span| span.span_id).collect()
        };
        let tracers = decoded.tracer_payloads.iter();
        tracers
            .map(|tracer| (tracer.env.clone(), tracer.chunks.iter().map(chunk).collect()))
            .collect()
    }

    #[test]
    fn spans_are_written_as_datadogs_own_types_read_them() {
        let payloads = build(&tracer_list());
        assert_eq!(payloads.len(), 1);
        assert_eq!(payloads[0].spans, 6);
        let body = payloads[0].body_for(&sender());
        let decoded = pb::AgentPayload::decode(&*body).unwrap();
        let span = &decoded.tracer_payloads[0].chunks[0].spans[0];
        assert_eq!((span.start, span.span_id, span.metrics["n"]), (-1, 1, 0.0));
        assert_eq!(span.meta["filler"], "xxx");
    }

    fn tracer_list() -> Vec<TracerPayload<'static>> {
        vec![
            tracer("a", vec![chunk([1, 2], 3), chunk([3], 3)]),
            tracer("b", vec![chunk([4, 5, 6], 3)]),
        ]
    }

    #[test]
    fn a_payload_is_halved_down_to_single_spans_and_none_is_lost() {
        let mut parts = build(&tracer_list());
        let mut seen = Vec::new();
        while let Some(part) = parts.pop() {
            match halve(&part) {
                Some((front, back)) => {
                    assert_eq!(front.spans + back.spans, part.spans);
                    assert!(front.spans > 0 && back.spans > 0);
                    parts.extend([back, front]);
                }
                None => seen.extend(ids(&part)),
            }
        }
        let ids: Vec<_> = seen.iter().flat_map(|(_, chunks)| chunks.concat()).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
        assert_eq!(seen[5].0, "b");
    }

    #[test]
    fn the_first_cut_keeps_traces_whole() {
        let (front, back) = halve(&build(&tracer_list())[0]).unwrap();
        assert_eq!(ids(&front), [("a".to_owned(), vec![vec![1, 2], vec![3]])]);
        assert_eq!(ids(&back), [("b".to_owned(), vec![vec![4, 5, 6]])]);
    }

    #[test]
    fn payloads_stay_below_the_agents_limit_unless_one_trace_is_larger() {
        let big = MAX_PAYLOAD_BYTES / 2;
        let tracers = [
            tracer("a", vec![chunk([1], big), chunk([2], big), chunk([3], 10)]),
            tracer("b", vec![chunk([4], 2 * big), chunk([5], 10)]),
        ];
        let payloads = build(&tracers);
        let all: Vec<_> = payloads.iter().map(ids).collect();
        let spans: Vec<Vec<u64>> = (all.iter())
            .map(|tracers| tracers.iter().flat_map(|(_, chunks)| chunks.concat()).collect())
            .collect();
        assert_eq!(spans, [vec![1], vec![2, 3], vec![4], vec![5]]);
        assert_eq!(payloads.iter().map(|payload| payload.spans).collect::<Vec<_>>(), [1, 2, 1, 1]);
    }
}
