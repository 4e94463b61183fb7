//! Makes a trace payload readable that holds strings which are not UTF-8.
//!
//! Go's protobuf takes such strings, on Datadog's own path and in the Collector's OTLP, prost refuses the whole message. Only strings are touched:
//! the field numbers below are those of Datadog's `agent_payload.proto`, `tracer_payload.proto` and `span.proto`, and of OTLP's `trace.proto`, `resource.proto` and
//! `common.proto`.

use bytes::BufMut;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// The messages on the way to a string.
#[derive(Clone, Copy)]
pub(super) enum Message {
    AgentPayload,
    TracerPayload,
    TraceChunk,
    Span,
    /// A `map<string, string>` entry.
    TextEntry,
    /// A map entry of which only the key is a string.
    KeyEntry,
    SpanLink,
    SpanEvent,
    /// A `map<string, AttributeAnyValue>` entry.
    AttributeEntry,
    AttributeValue,
    AttributeArray,
    /// An element of an `AttributeArray`.
    AttributeElement,
    OtlpRequest,
    OtlpResourceSpans,
    OtlpResource,
    OtlpScopeSpans,
    OtlpScope,
    OtlpSpan,
    OtlpEvent,
    OtlpLink,
    OtlpStatus,
    OtlpKeyValue,
    OtlpValue,
    /// An `ArrayValue`.
    OtlpValues,
    /// A `KeyValueList`.
    OtlpKeyValues,
}

/// How deep messages may be nested, as in prost.
const MAX_DEPTH: usize = 100;

/// Content of a length-delimited field.
enum Field {
    Text,
    Nested(Message),
    Opaque,
}

impl Message {
    fn field(self, tag: u32) -> Field {
        use Field::{Nested, Opaque, Text};
        match (self, tag) {
            (Self::AgentPayload, 1 | 2 | 7) => Text,
            (Self::AgentPayload, 5) => Nested(Self::TracerPayload),
            (Self::AgentPayload, 6) => Nested(Self::TextEntry),
            (Self::TracerPayload, 1..=5 | 8..=10) => Text,
            (Self::TracerPayload, 6) => Nested(Self::TraceChunk),
            (Self::TracerPayload, 7) => Nested(Self::TextEntry),
            (Self::TraceChunk, 2) => Text,
            (Self::TraceChunk, 3) => Nested(Self::Span),
            (Self::TraceChunk, 4) => Nested(Self::TextEntry),
            (Self::Span, 1..=3 | 12) => Text,
            (Self::Span, 10) => Nested(Self::TextEntry),
            (Self::Span, 11 | 13) => Nested(Self::KeyEntry),
            (Self::Span, 14) => Nested(Self::SpanLink),
            (Self::Span, 15) => Nested(Self::SpanEvent),
            (Self::TextEntry, 1 | 2) => Text,
            (Self::KeyEntry | Self::AttributeEntry, 1) => Text,
            (Self::SpanLink, 4) => Nested(Self::TextEntry),
            (Self::SpanLink, 5) => Text,
            (Self::SpanEvent, 2) => Text,
            (Self::SpanEvent, 3) => Nested(Self::AttributeEntry),
            (Self::AttributeEntry, 2) => Nested(Self::AttributeValue),
            (Self::AttributeValue | Self::AttributeElement, 2) => Text,
            (Self::AttributeValue, 6) => Nested(Self::AttributeArray),
            (Self::AttributeArray, 1) => Nested(Self::AttributeElement),
            (Self::OtlpRequest, 1) => Nested(Self::OtlpResourceSpans),
            (Self::OtlpResourceSpans, 1) => Nested(Self::OtlpResource),
            (Self::OtlpResourceSpans, 2) => Nested(Self::OtlpScopeSpans),
            (Self::OtlpScopeSpans, 1) => Nested(Self::OtlpScope),
            (Self::OtlpScopeSpans, 2) => Nested(Self::OtlpSpan),
            (Self::OtlpSpan, 11) => Nested(Self::OtlpEvent),
            (Self::OtlpSpan, 13) => Nested(Self::OtlpLink),
            (Self::OtlpSpan, 15) => Nested(Self::OtlpStatus),
            (Self::OtlpResource | Self::OtlpKeyValues, 1)
            | (Self::OtlpScope | Self::OtlpEvent, 3)
            | (Self::OtlpSpan, 9)
            | (Self::OtlpLink, 4) => Nested(Self::OtlpKeyValue),
            (Self::OtlpKeyValue, 2) | (Self::OtlpValues, 1) => Nested(Self::OtlpValue),
            (Self::OtlpValue, 5) => Nested(Self::OtlpValues),
            (Self::OtlpValue, 6) => Nested(Self::OtlpKeyValues),
            (Self::OtlpResourceSpans | Self::OtlpScopeSpans | Self::OtlpLink, 3)
            | (Self::OtlpScope, 1 | 2)
            | (Self::OtlpSpan, 3 | 5)
            | (Self::OtlpEvent | Self::OtlpStatus, 2)
            | (Self::OtlpKeyValue | Self::OtlpValue, 1) => Text,
            _ => Opaque,
        }
    }
}

/// The payload with each byte that is not UTF-8 replaced in its strings, and the number of strings so changed;
/// `None` where it is no protobuf at all, or nested too deep.
pub(super) fn repair(message: Message, payload: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut count = 0;
    let repaired = repair_message(message, payload, MAX_DEPTH, &mut count)?;
    Some((repaired, count))
}

fn repair_message(
    message: Message,
    mut input: &[u8],
    depth: usize,
    count: &mut usize,
) -> Option<Vec<u8>> {
    let below = depth.checked_sub(1)?;
    let mut out = Vec::with_capacity(input.len());
    while !input.is_empty() {
        let (tag, wire_type) = decode_key(&mut input).ok()?;
        encode_key(tag, wire_type, &mut out);
        match wire_type {
            WireType::Varint => encode_varint(decode_varint(&mut input).ok()?, &mut out),
            WireType::SixtyFourBit => out.put_slice(input.split_off(..8)?),
            WireType::ThirtyTwoBit => out.put_slice(input.split_off(..4)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut input).ok()?).ok()?;
                let bytes = input.split_off(..length)?;
                match message.field(tag) {
                    Field::Nested(nested) => {
                        put(&repair_message(nested, bytes, below, count)?, &mut out)
                    }
                    Field::Text => match str::from_utf8(bytes) {
                        Ok(_) => put(bytes, &mut out),
                        Err(_) => {
                            *count += 1;
                            put(String::from_utf8_lossy(bytes).as_bytes(), &mut out);
                        }
                    },
                    Field::Opaque => put(bytes, &mut out),
                }
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        }
    }
    Some(out)
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}
