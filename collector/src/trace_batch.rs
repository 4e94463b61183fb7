//! The spans that travel between receiver, processor and exporter.
//!
//! A [`TraceBatch`] is a view over the bytes that were received: [`ResourceSpans`] messages that were checked once, at the
//! door, and are read in place afterwards. Batches are joined and cut without copying spans. What is not UTF-8 is kept
//! as it came. The batch knows OTLP's shape and nothing of what an exporter makes of it.

mod by_trace;
mod check;
pub(crate) mod go_text;
mod held;
mod json;
mod view;
pub(crate) mod wire;

use std::collections::VecDeque;

use bytes::Bytes;

pub(crate) use check::DecodeError;
#[cfg(test)]
pub(crate) use check::{MAX_DEPTH, MAX_UNFOLDED, SPAN_BYTES};
use held::Origin;
pub(crate) use held::Part;
pub(crate) use view::{
    AnyValue, Attributes, Event, Link, Parts, RawValue, Scope, Span, SpanKind, StatusCode,
};
use wire::{checked, first_before, put_bytes, put_message, raw_fields, repeated};

/// Bytes around the message of a usual span: its key and its length.
const SPAN_FRAME: usize = 3;

/// Spans of one or several OTLP requests, grouped by resource as they were sent.
#[derive(Debug, Clone, Default)]
pub struct TraceBatch {
    resources: VecDeque<ResourceSpans>,
    span_count: usize,
    byte_count: usize,
    /// How many spans of the request that this is had a trace id or a span id of zeros, or none.
    without_ids: usize,
}

/// Outcome of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpanFate {
    Stays,
    /// It is this message now.
    Becomes(Vec<u8>),
    Goes,
}

/// The spans of one resource: one `ResourceSpans` message, or a part of it.
#[derive(Debug, Clone)]
pub(crate) struct ResourceSpans {
    body: Bytes,
    /// Which of the message's spans belong to this batch, counted through all its scopes.
    skip: usize,
    take: usize,
    /// Whether each scope stands before its spans, and once, so that no scope is looked for behind them.
    scopes_first: bool,
    /// Whether the ids, names and times of each span stand before all else, and no attribute of a span names its service.
    heads_first: bool,
    /// The requests that the message came with, where somebody must know what becomes of them: one for each such exporter.
    origins: Vec<Origin>,
}

impl TraceBatch {
    /// Reads an `ExportTraceServiceRequest` in protobuf's wire format.
    ///
    /// # Errors
    ///
    /// If the bytes are no such message, nested deeper than [`check::MAX_DEPTH`], or too much for what they say.
    pub(crate) fn from_protobuf(request: Bytes) -> Result<Self, DecodeError> {
        let found = check::resource_spans(&request)?;
        if found.has_library_spans {
            return Self::from_protobuf(with_scope_spans(&request).into());
        }
        let mut batch = Self { without_ids: found.without_ids, ..Self::default() };
        for message in found.resources {
            let check::Checked { body, spans: take, scopes_first, heads_first } = message;
            let (body, origins) = (request.slice_ref(body), Vec::new());
            batch.push(ResourceSpans { body, skip: 0, take, scopes_first, heads_first, origins });
        }
        Ok(batch)
    }

    /// Reads an `ExportTraceServiceRequest` in OTLP's JSON encoding.
    ///
    /// # Errors
    ///
    /// If the bytes are not JSON or not of that shape; unknown fields are ignored, as the OTLP specification asks.
    pub(crate) fn from_json(request: &[u8]) -> Result<Self, DecodeError> {
        Self::from_protobuf(json::to_protobuf(request)?.into())
    }

    /// Writes the batch as an `ExportTraceServiceRequest` in protobuf's wire format.
    pub(crate) fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_protobuf(&mut out);
        out
    }

    /// As [`Self::to_protobuf`], at the end of `out`.
    pub(crate) fn write_protobuf(&self, out: &mut Vec<u8>) {
        out.reserve(self.byte_count + 16 * self.resources.len());
        for resource in &self.resources {
            if resource.is_whole() {
                put_bytes(out, 1, &resource.body);
            } else {
                put_message(out, 1, |out| resource.write_part(out));
            }
        }
    }

    /// Returns the number of spans in the batch.
    pub fn span_count(&self) -> usize {
        self.span_count
    }

    /// Returns how many spans had a trace id or a span id of zeros, or none, in a request as it came.
    pub(crate) fn without_ids(&self) -> usize {
        self.without_ids
    }

    /// Returns whether the batch has no spans.
    pub fn is_empty(&self) -> bool {
        self.span_count == 0
    }

    /// Returns the length of the batch's messages in bytes, about the memory that it occupies.
    pub fn byte_count(&self) -> usize {
        self.byte_count
    }

    /// As [`Self::byte_count`]; of a message that is here in part, only this part counts.
    pub(crate) fn own_byte_count(&self) -> usize {
        self.resources.iter().map(|resource| resource.head_bytes() + resource.span_bytes()).sum()
    }

    /// How many of the first spans come to no more than so many bytes; one at least.
    pub(crate) fn spans_within(&self, max_bytes: usize) -> usize {
        let (mut bytes, mut spans) = (0, 0);
        for resource in &self.resources {
            bytes += resource.head_bytes();
            for (_, span) in resource.messages() {
                bytes += span.len() + SPAN_FRAME;
                if bytes > max_bytes && spans > 0 {
                    return spans;
                }
                spans += 1;
            }
        }
        spans
    }

    /// The resources with their spans, in the order of arrival.
    pub(crate) fn resources(&self) -> impl ExactSizeIterator<Item = &ResourceSpans> {
        self.resources.iter()
    }

    /// The trace id of each span.
    pub(crate) fn trace_ids(&self) -> impl Iterator<Item = u128> {
        self.resources.iter().flat_map(|resource| resource.spans().map(|(_, span)| span.trace_id))
    }

    /// Adds the spans of `other` behind those already there.
    pub(crate) fn append(&mut self, other: Self) {
        self.span_count += other.span_count;
        self.byte_count += other.byte_count;
        self.resources.extend(other.resources);
    }

    /// Takes the first spans out of the batch, at most `max_spans` of them.
    pub(crate) fn split_front(&mut self, max_spans: usize) -> Self {
        let mut front = Self::default();
        while front.span_count < max_spans
            && let Some(mut resource) = self.pop()
        {
            let room = max_spans - front.span_count;
            if resource.take > room {
                let mut rest = resource.clone();
                rest.skip += room;
                rest.take -= room;
                self.push_front(rest);
                resource.take = room;
            }
            front.push(resource);
        }
        front
    }

    /// Cuts the batch into two that together have its spans, keeping traces whole where it can; `None` for a single span.
    pub(crate) fn halve(mut self) -> Option<(Self, Self)> {
        if self.span_count < 2 {
            return None;
        }
        if self.resources.len() > 1 {
            let mut front = Self::default();
            let half = self.resources.len() / 2;
            for _ in 0..half {
                front.push(self.pop()?);
            }
            if !front.is_empty() && !self.is_empty() {
                return Some((front, self));
            }
            front.append(self);
            self = front;
        }
        let half = self.span_count / 2;
        let front = self.split_front(half);
        Some((front, self))
    }

    /// The batch with each span's message replaced; `change` must give a message of a span.
    pub(crate) fn map_spans(&self, change: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        self.map_bodies(|body| {
            map_messages(body, 2, |scope_spans| map_messages(scope_spans, 2, &change))
        })
    }

    /// The batch with each resource's message replaced; `change` must give a message of a resource.
    pub(crate) fn map_resources(&self, change: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        self.map_bodies(|body| {
            // A resource without a message is an empty one.
            let has_resource = repeated(body, 1).next().is_some();
            let mut out = map_messages(body, 1, &change);
            if !has_resource {
                put_bytes(&mut out, 1, &change(&[]));
            }
            out
        })
    }

    /// The batch with only those of its spans that stay, some of them as other messages; what is left empty is left out.
    pub(crate) fn sift(&self, mut judge: impl FnMut(&[u8]) -> SpanFate) -> Self {
        self.sift_within(|_, _, span| judge(span))
    }

    /// The batch with some of its spans' messages replaced, by what is around them; `change` gives a message of a span, or leaves the
    /// span as it is.
    pub(crate) fn change_spans(
        &self,
        change: impl Fn(&ResourceSpans, Scope<'_>, &[u8]) -> Option<Vec<u8>>,
    ) -> Self {
        self.sift_within(|resource, scope, span| {
            change(resource, scope, span).map_or(SpanFate::Stays, SpanFate::Becomes)
        })
    }

    fn sift_within(
        &self,
        mut judge: impl FnMut(&ResourceSpans, Scope<'_>, &[u8]) -> SpanFate,
    ) -> Self {
        let mut batch = Self::default();
        for resource in &self.resources {
            let fates: Vec<_> =
                resource.messages().map(|(scope, span)| judge(resource, scope, span)).collect();
            let left = fates.iter().filter(|fate| !matches!(fate, SpanFate::Goes)).count();
            if fates.iter().all(|fate| matches!(fate, SpanFate::Stays)) {
                batch.push(resource.clone());
            } else if left > 0 {
                let body = resource.sifted(&fates).into();
                batch.push(ResourceSpans {
                    body,
                    skip: 0,
                    take: left,
                    heads_first: false,
                    ..resource.clone()
                });
            }
        }
        batch
    }

    fn map_bodies(&self, change: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let mut batch = Self::default();
        for resource in &self.resources {
            let body = change(&resource.body).into();
            batch.push(ResourceSpans { body, heads_first: false, ..resource.clone() });
        }
        batch
    }

    fn push(&mut self, resource: ResourceSpans) {
        self.span_count += resource.take;
        self.byte_count += resource.body.len();
        self.resources.push_back(resource);
    }

    fn push_front(&mut self, resource: ResourceSpans) {
        self.span_count += resource.take;
        self.byte_count += resource.body.len();
        self.resources.push_front(resource);
    }

    fn pop(&mut self) -> Option<ResourceSpans> {
        let resource = self.resources.pop_front()?;
        self.span_count -= resource.take;
        self.byte_count -= resource.body.len();
        Some(resource)
    }
}

impl ResourceSpans {
    /// The resource's attributes.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes::new(repeated(&self.body, 1).last().unwrap_or_default(), 1)
    }

    /// The spans, each with the instrumentation scope it belongs to.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Scope<'_>, Span<'_>)> {
        self.messages().map(|(scope, span)| (scope, Span::new(span)))
    }

    /// The spans as far as their places in traces go, each with its scope, and whether it has an attribute
    /// `service.name`; [`Span::read_parts`] reads the rest.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (Scope<'_>, Span<'_>, bool)> {
        self.messages().map(|(scope, message)| {
            if self.heads_first {
                return (scope, Span::head(message), false);
            }
            let mut is_named = false;
            let span = Span::with_attributes(message, |pair| {
                is_named |= view::has_key(pair, b"service.name");
            });
            (scope, span, is_named)
        })
    }

    /// About how many bytes the message has.
    pub(crate) fn byte_count(&self) -> usize {
        self.body.len()
    }

    /// How many spans there are.
    pub(crate) fn span_count(&self) -> usize {
        self.take
    }

    fn messages(&self) -> impl Iterator<Item = (Scope<'_>, &[u8])> {
        repeated(&self.body, 2)
            .flat_map(|scope_spans| {
                let scope = match self.scopes_first {
                    true => first_before(scope_spans, 1, 2),
                    false => repeated(scope_spans, 1).last(),
                };
                let scope = Scope::new(scope.unwrap_or_default());
                repeated(scope_spans, 2).map(move |span| (scope, span))
            })
            .skip(self.skip)
            .take(self.take)
    }

    /// How many bytes of the message are of no span.
    fn head_bytes(&self) -> usize {
        let spans = repeated(&self.body, 2).flat_map(|scope_spans| repeated(scope_spans, 2));
        self.body.len().saturating_sub(spans.map(|span| span.len() + SPAN_FRAME).sum())
    }

    /// How many bytes the spans of this part have.
    fn span_bytes(&self) -> usize {
        self.messages().map(|(_, span)| span.len() + SPAN_FRAME).sum()
    }

    /// Writes the message with what the fates of this part's spans leave of them.
    fn sifted(&self, fates: &[SpanFate]) -> Vec<u8> {
        let mut fates = std::iter::repeat_n(&SpanFate::Goes, self.skip).chain(fates);
        let mut out = Vec::with_capacity(self.body.len());
        for (number, raw, value) in raw_fields(&self.body) {
            let wire::Value::Bytes(scope_spans) = value else { continue };
            if number != 2 {
                out.extend_from_slice(raw);
                continue;
            }
            let (mut scope, mut is_empty) = (Vec::with_capacity(scope_spans.len()), true);
            for (number, raw, value) in raw_fields(scope_spans) {
                match value {
                    wire::Value::Bytes(_) if number == 2 => {
                        let fate = fates.next().unwrap_or(&SpanFate::Goes);
                        is_empty &= matches!(fate, SpanFate::Goes);
                        match fate {
                            SpanFate::Goes => {}
                            SpanFate::Stays => scope.extend_from_slice(raw),
                            SpanFate::Becomes(span) => put_bytes(&mut scope, 2, span),
                        }
                    }
                    _ => scope.extend_from_slice(raw),
                }
            }
            if !is_empty {
                put_bytes(&mut out, 2, &scope);
            }
        }
        out
    }

    fn is_whole(&self) -> bool {
        self.skip == 0 && self.span_count_of_message() == self.take
    }

    fn span_count_of_message(&self) -> usize {
        repeated(&self.body, 2).map(|scope_spans| repeated(scope_spans, 2).count()).sum()
    }

    /// Writes the message with only the spans of this part; scopes without any are left out.
    fn write_part(&self, out: &mut Vec<u8>) {
        let wanted = self.skip..self.skip + self.take;
        let mut index = 0;
        for (field, value) in checked(&self.body) {
            let wire::Value::Bytes(bytes) = value else { continue };
            if field != 2 {
                put_bytes(out, field, bytes);
                continue;
            }
            let count = repeated(bytes, 2).count();
            if index < wanted.end && wanted.start < index + count {
                put_message(out, 2, |out| {
                    let mut index = index;
                    for (field, value) in checked(bytes) {
                        let wire::Value::Bytes(bytes) = value else { continue };
                        if field != 2 || wanted.contains(&index) {
                            put_bytes(out, field, bytes);
                        }
                        index += usize::from(field == 2);
                    }
                });
            }
            index += count;
        }
    }
}

/// A message with the messages at one of its fields replaced.
/// A request with its `InstrumentationLibrarySpans` as the `ScopeSpans` that replaced them, where there are no others: both
/// have the same fields.
fn with_scope_spans(request: &[u8]) -> Vec<u8> {
    map_messages(request, 1, |body| {
        let is_old = repeated(body, 2).next().is_none();
        let mut out = Vec::with_capacity(body.len());
        for (number, raw, value) in raw_fields(body) {
            match value {
                wire::Value::Bytes(spans) if number == check::LIBRARY_SPANS && is_old => {
                    put_bytes(&mut out, 2, spans);
                }
                _ => out.extend_from_slice(raw),
            }
        }
        out
    })
}

fn map_messages(message: &[u8], field: u32, change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for (number, raw, value) in raw_fields(message) {
        match value {
            wire::Value::Bytes(inner) if number == field => {
                put_bytes(&mut out, field, &change(inner))
            }
            _ => out.extend_from_slice(raw),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::TraceBatch;
    use super::wire::put_bytes;

    fn batch(resources: &[&[&[&str]]]) -> TraceBatch {
        let scopes = |scopes: &[&[&str]]| -> Vec<_> {
            let spans = |names: &[&str]| -> Vec<_> {
                names.iter().map(|name| serde_json::json!({ "name": name })).collect()
            };
            scopes.iter().map(|names| serde_json::json!({ "spans": spans(names) })).collect()
        };
        let resources: Vec<_> = resources
            .iter()
            .map(|resource| serde_json::json!({ "scopeSpans": scopes(resource) }))
            .collect();
        let json = serde_json::json!({ "resourceSpans": resources }).to_string();
        TraceBatch::from_json(json.as_bytes()).unwrap()
    }

    fn names(batch: &TraceBatch) -> Vec<String> {
        let spans = batch.resources().flat_map(|resource| resource.spans());
        spans.map(|(_, span)| String::from_utf8_lossy(span.name).into_owned()).collect()
    }

    #[test]
    fn a_batch_is_cut_at_any_span_and_nothing_is_lost() {
        let all = ["a", "b", "c", "d", "e", "f"];
        for size in 1..8 {
            let mut whole = batch(&[&[&["a", "b"], &["c"]], &[], &[&["d", "e", "f"]]]);
            let mut seen = Vec::new();
            while !whole.is_empty() {
                let before = whole.span_count();
                let part = whole.split_front(size);
                assert_eq!(part.span_count(), size.min(before), "{size}");
                assert_eq!(names(&part).len(), part.span_count());
                let again = TraceBatch::from_protobuf(part.to_protobuf().into()).unwrap();
                assert_eq!(names(&again), names(&part));
                seen.extend(names(&part));
            }
            assert_eq!(seen, all, "{size}");
            assert_eq!(whole.span_count(), 0);
        }
    }

    #[test]
    fn a_batch_is_sifted_span_by_span_and_nothing_empty_is_left() {
        let whole = batch(&[&[&["a", "b"], &["c"]], &[], &[&["d", "e", "f"]]]);
        let sift = |batch: &TraceBatch, stay: &str| {
            batch.sift(|span| match super::Span::new(span).name {
                [name] if stay.contains(char::from(*name)) => super::SpanFate::Stays,
                _ => super::SpanFate::Goes,
            })
        };
        for (stay, resources) in [("abcdef", 3), ("bf", 2), ("c", 1), ("de", 1), ("", 0)] {
            let left = sift(&whole, stay);
            let expected: Vec<_> = stay.chars().map(String::from).collect();
            assert_eq!((names(&left), left.span_count()), (expected.clone(), stay.len()));
            assert!(left.resources().len() <= resources.max(1), "{stay}");
            let again = TraceBatch::from_protobuf(left.to_protobuf().into()).unwrap();
            assert_eq!(names(&again), expected);
        }
        // Of a part, only its own.
        let mut rest = whole;
        rest.split_front(1);
        assert_eq!(names(&sift(&rest, "abf")), ["b", "f"]);
        let renamed = rest.sift(|_| super::SpanFate::Becomes(b"\x2a\x01x".to_vec()));
        assert_eq!(names(&renamed), ["x"; 5]);
    }

    #[test]
    fn spans_of_an_old_library_are_those_of_a_scope() {
        let library_spans = b"\x0a\x06\x0a\x01a\x12\x011\x12\x03\x2a\x01n";
        let read = |resource: Vec<u8>| {
            let mut request = Vec::new();
            put_bytes(&mut request, 1, &resource);
            let batch = TraceBatch::from_protobuf(request.into()).unwrap();
            let again = TraceBatch::from_protobuf(batch.to_protobuf().into()).unwrap();
            let spans = again.resources().flat_map(|resource| resource.spans());
            let spans: Vec<_> = spans
                .map(|(scope, span)| [scope.name, scope.version, span.name].map(<[u8]>::to_vec))
                .collect();
            spans
        };
        let mut old = Vec::new();
        put_bytes(&mut old, 1000, library_spans);
        let span = |name: &[u8]| [b"a".to_vec(), b"1".to_vec(), name.to_vec()];
        assert_eq!(read(old.clone()), [span(b"n")]);
        // Who sends both means the same spans.
        put_bytes(&mut old, 2, b"\x0a\x06\x0a\x01a\x12\x011\x12\x03\x2a\x01m");
        assert_eq!(read(old), [span(b"m")]);
        let mut broken = Vec::new();
        put_bytes(&mut broken, 1, b"\xc2\x3e\x02\x12\x05");
        assert!(TraceBatch::from_protobuf(broken.into()).is_err());
    }

    #[test]
    fn the_last_scope_counts_wherever_it_stands() {
        let (a, b, span) =
            (&b"\x0a\x03\x0a\x01a"[..], &b"\x0a\x03\x0a\x01b"[..], &b"\x12\x03\x2a\x01n"[..]);
        for (scope_spans, name) in [
            ([a, span, span].concat(), "a"),
            ([span, a, span].concat(), "a"),
            ([span, span, a].concat(), "a"),
            ([a, b, span, span].concat(), "b"),
            ([a, span, span, b].concat(), "b"),
            ([span, span].concat(), ""),
        ] {
            let (mut resource, mut request) = (Vec::new(), Vec::new());
            put_bytes(&mut resource, 2, &scope_spans);
            put_bytes(&mut request, 1, &resource);
            let mut batch = TraceBatch::from_protobuf(request.into()).unwrap();
            let front = batch.split_front(1);
            for part in [front, batch] {
                let spans = part.resources().flat_map(|resource| resource.spans());
                let names: Vec<_> = spans.map(|(scope, _)| scope.name).collect();
                assert_eq!(names, [name.as_bytes()], "{scope_spans:?}");
            }
        }
    }

    #[test]
    fn halving_ends_at_single_spans() {
        let mut parts = vec![batch(&[&[], &[&["a", "b"], &["c"]], &[&["d"]]])];
        let mut single = Vec::new();
        while let Some(part) = parts.pop() {
            match part.clone().halve() {
                Some((front, back)) => {
                    assert!(!front.is_empty() && !back.is_empty());
                    parts.extend([back, front]);
                }
                None => single.extend(names(&part)),
            }
        }
        assert_eq!(single, ["a", "b", "c", "d"]);
    }
}
