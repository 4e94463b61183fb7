//! Model to bytes: Datadog's `AgentPayload` in protobuf, cut to a size the intake takes. Pure.

use super::model::{Span, TraceChunk, TracerPayload};
use crate::trace_batch::wire::{
    Value, end_message, put_bytes, put_key, put_message_about, put_uint, raw_fields, repeated,
    varint_len,
};

/// Field numbers of tracer payloads in an `AgentPayload`, of chunks in those, and of spans in chunks.
const TRACER: u32 = 5;
const CHUNK: u32 = 6;
const SPAN: u32 = 3;
pub(super) const META: u32 = 10;
/// About how long a span is, so that most need not be moved when their lengths are known.
const USUAL_SPAN: usize = 1000;

/// How many bytes of chunks a payload may have before the next one is begun: the Datadog agent's `MaxPayloadSize`.
const MAX_PAYLOAD_BYTES: usize = 3_200_000;

/// Sender fields of every payload.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) host_name: String,
    pub(crate) env: String,
    pub(crate) agent_version: String,
}

/// Writes tracer payloads into as few `AgentPayload`s as their size allows; a chunk is never cut.
pub(super) struct Builder<'b> {
    body: &'b mut Vec<u8>,
    sender: &'b Sender,
    done: &'b mut dyn FnMut(&[u8], usize),
    /// The spans of the tracer payloads that are finished, in this `AgentPayload`.
    spans: usize,
    /// About how long a chunk is for each of its spans: as the last one was, so that most need not be moved either.
    bytes_per_span: usize,
    tracer: Open,
    /// `AgentPayload`s that are full, and whose last tracer payload still waits for what it says about itself.
    full: Vec<(Vec<u8>, usize, Open)>,
}

/// A tracer payload that is not finished.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    /// Its start: its key, then its length.
    start: usize,
    /// How many bytes are kept free for its length.
    reserved: usize,
    chunk_bytes: usize,
    spans: usize,
}

impl<'b> Builder<'b> {
    /// Writes into `body`, which it empties; `done` gets each whole payload and its number of spans.
    pub(super) fn new(
        body: &'b mut Vec<u8>,
        sender: &'b Sender,
        done: &'b mut dyn FnMut(&[u8], usize),
    ) -> Self {
        body.clear();
        let (tracer, full) = (Open::default(), Vec::new());
        Self { body, sender, done, spans: 0, bytes_per_span: USUAL_SPAN, tracer, full }
    }

    /// Begins a tracer payload; `about` is a guess at how many bytes the spans have in OTLP.
    pub(super) fn begin_tracer(&mut self, about: usize) {
        // Datadog's spans are longer, for each of them repeats what its resource says.
        let reserved = varint_len(about as u64 * 5 / 2);
        self.tracer = Open { start: self.body.len(), reserved, ..Open::default() };
        put_key(self.body, TRACER, 2);
        self.body.extend_from_slice(&[0; 10][..reserved]);
    }

    /// Writes a chunk of so many spans, unless `write` says `false`.
    pub(super) fn chunk(
        &mut self,
        spans: usize,
        tracer: &TracerPayload<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> bool {
        let at = self.body.len();
        if !put_message_about(self.body, CHUNK, spans * self.bytes_per_span, write) {
            return false;
        }
        let size = self.body.len() - at;
        self.bytes_per_span = size / spans.max(1);
        let is_first = self.tracer.spans + self.spans == 0;
        if !is_first && self.tracer.start + self.tracer.chunk_bytes + size > MAX_PAYLOAD_BYTES {
            self.split(at, tracer);
        }
        self.tracer.chunk_bytes += size;
        self.tracer.spans += spans;
        true
    }

    /// Begins another payload with the chunk at `at`.
    fn split(&mut self, at: usize, tracer: &TracerPayload<'_>) {
        let chunk = self.body.split_off(at);
        let (open, spans) = (self.tracer, std::mem::take(&mut self.spans));
        let says_all = [&tracer.env, &tracer.hostname, &tracer.app_version];
        if open.spans == 0 {
            self.body.truncate(open.start);
            finish(self.body, spans, self.sender, self.done);
        } else if says_all.iter().all(|text| !text.is_empty()) {
            end_tracer(self.body, open, tracer);
            finish(self.body, spans + open.spans, self.sender, self.done);
        } else {
            // A later chunk may report what is missing.
            self.full.push((std::mem::take(self.body), spans, open));
        }
        self.body.clear();
        self.begin_tracer(MAX_PAYLOAD_BYTES / 2);
        self.body.extend_from_slice(&chunk);
    }

    /// Ends a tracer payload; one without chunks is left out.
    pub(super) fn end_tracer(&mut self, tracer: &TracerPayload<'_>) {
        for (mut body, spans, open) in self.full.drain(..) {
            end_tracer(&mut body, open, tracer);
            finish(&mut body, spans + open.spans, self.sender, self.done);
        }
        if self.tracer.spans == 0 {
            self.body.truncate(self.tracer.start);
        } else {
            end_tracer(self.body, self.tracer, tracer);
            self.spans += self.tracer.spans;
        }
        self.tracer = Open::default();
    }

    /// Ends the last payload.
    pub(super) fn finish(self) {
        if self.spans > 0 {
            finish(self.body, self.spans, self.sender, self.done);
        }
    }
}

fn end_tracer(body: &mut Vec<u8>, open: Open, tracer: &TracerPayload<'_>) {
    put_text(body, 1, &tracer.container_id);
    put_text(body, 2, &tracer.language_name);
    put_text(body, 4, &tracer.tracer_version);
    for (key, value) in &tracer.tags {
        put_entry(body, 7, key.as_bytes(), value);
    }
    put_text(body, 8, &tracer.env);
    put_text(body, 9, &tracer.hostname);
    put_text(body, 10, &tracer.app_version);
    // The key of a tracer payload has one byte.
    end_message(body, open.start + 1, open.reserved);
}

fn finish(body: &mut Vec<u8>, spans: usize, sender: &Sender, done: &mut dyn FnMut(&[u8], usize)) {
    put_sender(body, sender);
    done(body, spans);
}

/// Writes tracer payloads from their model; gives the body of each payload with its number of spans.
#[cfg(any(test, fuzzing))]
pub(super) fn build(tracers: &[TracerPayload<'_>], sender: &Sender) -> Vec<(Vec<u8>, usize)> {
    let (mut body, mut payloads) = (Vec::new(), Vec::new());
    let mut done = |body: &[u8], spans: usize| payloads.push((body.to_vec(), spans));
    let mut builder = Builder::new(&mut body, sender, &mut done);
    for tracer in tracers {
        builder.begin_tracer(0);
        for chunk in &tracer.chunks {
            builder.chunk(chunk.spans.len(), tracer, |out| {
                write_chunk(out, chunk);
                true
            });
        }
        builder.end_tracer(tracer);
    }
    builder.finish();
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

/// Writes a chunk from its model.
pub(super) fn write_chunk(out: &mut Vec<u8>, chunk: &TraceChunk<'_>) {
    put_chunk_head(out, chunk.priority, &chunk.origin);
    for span in &chunk.spans {
        put_span(out, |out| {
            write_span(out, span);
            true
        });
    }
    for (key, value) in &chunk.tags {
        put_chunk_tag(out, key.as_bytes(), value);
    }
    put_uint(out, 5, u64::from(chunk.is_dropped));
}

/// Writes what a chunk has in front of its spans.
pub(super) fn put_chunk_head(out: &mut Vec<u8>, priority: i32, origin: &[u8]) {
    put_uint(out, 1, i64::from(priority) as u64);
    put_text(out, 2, origin);
}

/// Writes a tag of a chunk, behind its spans.
pub(super) fn put_chunk_tag(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_entry(out, 4, key, value);
}

/// Writes a span, unless `write` says `false`.
pub(super) fn put_span(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    put_message_about(out, SPAN, USUAL_SPAN, write)
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
    for (key, value) in span.meta.iter() {
        put_entry(out, META, key, value);
    }
    for (key, value) in span.metrics.iter() {
        put_metric(out, key, *value);
    }
    put_text(out, 12, &span.span_type);
}

/// Writes an entry of a map from text to text.
#[inline]
pub(super) fn put_entry(out: &mut Vec<u8>, field: u32, key: &[u8], value: &[u8]) {
    let size = 4 + key.len() + value.len();
    if size < 0x80 {
        // All lengths have one byte.
        let head = [(field << 3) as u8 | 2, size as u8, 0x0a, key.len() as u8];
        out.extend_from_slice(&head);
        out.extend_from_slice(key);
        out.extend_from_slice(&[0x12, value.len() as u8]);
        out.extend_from_slice(value);
        return;
    }
    put_message_about(out, field, size, |out| {
        put_bytes(out, 1, key);
        put_bytes(out, 2, value);
        true
    });
}

/// Writes a metric of a span.
pub(super) fn put_metric(out: &mut Vec<u8>, key: &[u8], value: f64) {
    let size = 11 + key.len();
    if size < 0x80 {
        // All lengths have one byte.
        out.extend_from_slice(&[11 << 3 | 2, size as u8, 0x0a, key.len() as u8]);
        out.extend_from_slice(key);
        out.push(2 << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
        return;
    }
    put_message_about(out, 11, key.len() + 12, |out| {
        put_bytes(out, 1, key);
        put_double(out, 2, value);
        true
    });
}

/// Writes a text, unless it is empty.
pub(super) fn put_text(out: &mut Vec<u8>, field: u32, text: &[u8]) {
    if !text.is_empty() {
        put_bytes(out, field, text);
    }
}

fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    put_key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Cuts a payload into two that together have its spans, each with its number of them: between resources or between
/// traces if that is possible, else within a trace; `None` for a single span.
pub(super) fn halve(body: &[u8], spans: usize) -> Option<[(Vec<u8>, usize); 2]> {
    if spans < 2 {
        return None;
    }
    let mut cut = Cut { room: spans / 2, front_spans: 0 };
    let (mut front, mut back) = (Vec::new(), Vec::new());
    cut.split(body, &[TRACER, CHUNK, SPAN], &mut front, &mut back);
    Some([(front, cut.front_spans), (back, spans - cut.front_spans)])
}

/// The full trace id of each span of a payload, from its meta `otel.trace_id`.
pub(super) fn trace_ids(body: &[u8]) -> Vec<u128> {
    spans(body).map(|(id, _)| id).collect()
}

/// The spans of a payload as messages, each with its full trace id.
pub(super) fn spans(body: &[u8]) -> impl Iterator<Item = (u128, &[u8])> {
    let chunks = repeated(body, TRACER).flat_map(|tracer| repeated(tracer, CHUNK));
    let spans = chunks.flat_map(|chunk| repeated(chunk, SPAN));
    let id = |span| {
        let id = repeated(span, META).find_map(|entry| {
            let is_id = repeated(entry, 1).next() == Some(b"otel.trace_id");
            is_id.then(|| repeated(entry, 2).next()).flatten()
        });
        let id = id.and_then(|id| std::str::from_utf8(id).ok());
        id.and_then(|id| u128::from_str_radix(id, 16).ok()).unwrap_or_default()
    };
    spans.map(move |span| (id(span), span))
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

    use super::{MAX_PAYLOAD_BYTES, Sender, build, halve};
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
    fn ids(body: &[u8]) -> Vec<(String, Vec<Vec<u64>>)> {
        let decoded = pb::AgentPayload::decode(body).unwrap();
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
        let payloads = build(&tracer_list(), &sender());
        assert_eq!(payloads.len(), 1);
        let (body, spans) = &payloads[0];
        assert_eq!(*spans, 6);
        let decoded = pb::AgentPayload::decode(&**body).unwrap();
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
        let mut parts = build(&tracer_list(), &sender());
        let mut seen = Vec::new();
        while let Some((body, spans)) = parts.pop() {
            match halve(&body, spans) {
                Some([front, back]) => {
                    assert_eq!(front.1 + back.1, spans);
                    assert!(front.1 > 0 && back.1 > 0);
                    parts.extend([back, front]);
                }
                None => seen.extend(ids(&body)),
            }
        }
        let ids: Vec<_> = seen.iter().flat_map(|(_, chunks)| chunks.concat()).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
        assert_eq!(seen[5].0, "b");
    }

    #[test]
    fn the_first_cut_keeps_traces_whole() {
        let (body, spans) = &build(&tracer_list(), &sender())[0];
        let [(front, _), (back, _)] = halve(body, *spans).unwrap();
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
        let payloads = build(&tracers, &sender());
        let all: Vec<_> = payloads.iter().map(|(body, _)| ids(body)).collect();
        let spans: Vec<Vec<u64>> = (all.iter())
            .map(|tracers| tracers.iter().flat_map(|(_, chunks)| chunks.concat()).collect())
            .collect();
        assert_eq!(spans, [vec![1], vec![2, 3], vec![4], vec![5]]);
        assert_eq!(payloads.iter().map(|(_, spans)| *spans).collect::<Vec<_>>(), [1, 2, 1, 1]);
    }
}
