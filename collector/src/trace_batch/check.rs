//! The one check of received bytes, after which they are read without looking for errors again.

use super::view::{is_behind_head, usual_pair};
use super::wire::{Fields, Value, WireError};

/// How deep arrays and maps may be nested in an attribute's value: prost's limit, so that no peer in Rust refuses what we accept.
pub(crate) const MAX_DEPTH: usize = 100;

/// How much a request may come to when each of its spans has its resource's and its scope's attributes, as it has at Datadog:
/// a few megabytes can be made that would come to a terabyte. No sender in earnest comes near it.
pub(crate) const MAX_UNFOLDED: usize = 256 << 20;
/// Cost of a span by itself, in bytes, however few it has on the wire.
pub(crate) const SPAN_BYTES: usize = 512;

/// Error for a request that is not OTLP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("not an OTLP trace request in protobuf: {0}")]
    Wire(#[from] WireError),
    #[error("{what} has {length} bytes, where OTLP has {expected}")]
    IdLength { what: &'static str, length: usize, expected: usize },
    #[error("an attribute's value is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error(
        "the request comes to more than {} MiB when its resources' attributes are on each of its spans; send fewer spans in one",
        MAX_UNFOLDED >> 20
    )]
    TooMuch,
    #[error("not an OTLP trace request in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not an OTLP trace request in JSON: `{path}` {problem} (line {line}, column {column})")]
    JsonShape { path: String, problem: &'static str, line: usize, column: usize },
}

/// One `ResourceSpans` message that was found whole.
pub(super) struct Checked<'a> {
    pub(super) body: &'a [u8],
    pub(super) spans: usize,
    /// Whether each scope stands before its spans, and once.
    pub(super) scopes_first: bool,
    /// Whether each span is a [`SpanForm::Usual`].
    pub(super) heads_first: bool,
}

/// Properties of a checked request.
#[derive(Default)]
pub(super) struct Found<'a> {
    /// Its `ResourceSpans`, but for those without spans.
    pub(super) resources: Vec<Checked<'a>>,
    /// How many spans have a trace id or a span id of zeros, or none.
    pub(super) without_ids: usize,
    /// Whether there are spans only where OTLP had them before 0.15: see [`LIBRARY_SPANS`].
    pub(super) has_library_spans: bool,
}

/// The field of `ResourceSpans` that had `InstrumentationLibrarySpans`, which are written as `ScopeSpans` are.
pub(super) const LIBRARY_SPANS: u32 = 1000;

/// How a span is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpanForm {
    /// Ids, names and times stand before all else, and no attribute names its service.
    Usual,
    Other,
}

/// Checks an `ExportTraceServiceRequest` and finds what it has.
pub(super) fn resource_spans(request: &[u8]) -> Result<Found<'_>, DecodeError> {
    let (mut found, mut unfolded) = (Found::default(), 0usize);
    messages(request, "ExportTraceServiceRequest", |field, value| {
        if let (1, body) = (field, value) {
            let body = bytes(body, "ExportTraceServiceRequest", 1)?;
            let (mut spans, mut resource) = (0, 0);
            let (mut scopes_first, mut heads_first) = (true, true);
            let (mut has_scopes, mut has_library_spans) = (false, false);
            messages(body, "ResourceSpans", |field, value| match field {
                1 => {
                    let message = bytes(value, "ResourceSpans", 1)?;
                    resource = message.len();
                    attributes(message, "Resource", 1)
                }
                2 => {
                    let scope = scope_spans(bytes(value, "ResourceSpans", 2)?)?;
                    spans += scope.spans;
                    has_scopes = true;
                    found.without_ids += scope.without_ids;
                    scopes_first &= !scope.is_odd;
                    heads_first &= !scope.has_odd_spans;
                    let each = scope.bytes + SPAN_BYTES;
                    unfolded = unfolded.saturating_add(scope.spans.saturating_mul(each));
                    Ok(())
                }
                3 => text(value, "ResourceSpans", 3),
                LIBRARY_SPANS => {
                    has_library_spans = true;
                    bytes(value, "ResourceSpans", LIBRARY_SPANS).map(drop)
                }
                _ => Ok(()),
            })?;
            found.has_library_spans |= has_library_spans && !has_scopes;
            unfolded = unfolded.saturating_add(spans.saturating_mul(resource));
            if unfolded > MAX_UNFOLDED {
                return Err(DecodeError::TooMuch);
            }
            if spans > 0 {
                found.resources.push(Checked { body, spans, scopes_first, heads_first });
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// A `ScopeSpans` message: the length of its scope, and how many spans it has.
#[derive(Default)]
struct Scope {
    bytes: usize,
    spans: usize,
    is_named: bool,
    /// Whether its scope comes behind a span, or more than once.
    is_odd: bool,
    has_odd_spans: bool,
    /// How many spans have a trace id or a span id of zeros, or none.
    without_ids: usize,
}

fn scope_spans(message: &[u8]) -> Result<Scope, DecodeError> {
    let mut found = Scope::default();
    messages(message, "ScopeSpans", |field, value| match field {
        1 => {
            let scope = bytes(value, "ScopeSpans", 1)?;
            found.bytes = scope.len();
            found.is_odd |= found.spans > 0 || std::mem::replace(&mut found.is_named, true);
            messages(scope, "InstrumentationScope", |field, value| match field {
                1 | 2 => text(value, "InstrumentationScope", field),
                3 => key_value(bytes(value, "InstrumentationScope", 3)?, 0),
                4 => varint(value, "InstrumentationScope", 4),
                _ => Ok(()),
            })
        }
        2 => {
            found.spans += 1;
            let (form, has_ids) = span(bytes(value, "ScopeSpans", 2)?)?;
            found.has_odd_spans |= form == SpanForm::Other;
            found.without_ids += usize::from(!has_ids);
            Ok(())
        }
        3 => text(value, "ScopeSpans", 3),
        _ => Ok(()),
    })?;
    Ok(found)
}

/// Checks a span; returns its form, and whether it has both its ids.
fn span(message: &[u8]) -> Result<(SpanForm, bool), DecodeError> {
    let (mut fields, mut is_past_head, mut form) = (Fields::new(message), false, SpanForm::Usual);
    let (mut has_trace_id, mut has_span_id) = (false, false);
    loop {
        // Most of a span is attributes, and most of these are written in the same way.
        while let Some(key) = fields.usual_attribute() {
            is_past_head = true;
            if key == b"service.name" {
                form = SpanForm::Other;
            }
        }
        let (field, value) = match fields.usual() {
            Some(field) => field,
            None => match fields.next() {
                Some(field) => field?,
                None => return Ok((form, has_trace_id && has_span_id)),
            },
        };
        match (field, value) {
            (1, Value::Bytes(id)) => has_trace_id = id.iter().any(|byte| *byte != 0),
            (2, Value::Bytes(id)) => has_span_id = id.iter().any(|byte| *byte != 0),
            _ => {}
        }
        is_past_head |= is_behind_head(field);
        if is_past_head && field < 9 {
            form = SpanForm::Other;
        }
        if let (9, Value::Bytes(pair)) = (field, value)
            && usual_pair(pair).is_none_or(|(key, _)| key == b"service.name")
        {
            form = SpanForm::Other;
        }
        span_field(field, value)?;
    }
}

fn span_field(field: u32, value: Value<'_>) -> Result<(), DecodeError> {
    const NAME: &str = "Span";
    match field {
        1 => id(value, NAME, field, "a trace id", 16),
        2 => id(value, NAME, field, "a span id", 8),
        4 => id(value, NAME, field, "a parent span id", 8),
        3 | 5 => text(value, NAME, field),
        6 | 10 | 12 | 14 => varint(value, NAME, field),
        7 | 8 => fixed64(value, NAME, field),
        9 => key_value(bytes(value, NAME, 9)?, 0),
        11 => messages(bytes(value, NAME, 11)?, "Event", |field, value| match field {
            1 => fixed64(value, "Event", 1),
            2 => text(value, "Event", 2),
            3 => key_value(bytes(value, "Event", 3)?, 0),
            4 => varint(value, "Event", 4),
            _ => Ok(()),
        }),
        13 => messages(bytes(value, NAME, 13)?, "Link", |field, value| match field {
            1 => id(value, "Link", field, "a link's trace id", 16),
            2 => id(value, "Link", field, "a link's span id", 8),
            3 => text(value, "Link", 3),
            4 => key_value(bytes(value, "Link", 4)?, 0),
            5 => varint(value, "Link", 5),
            6 => fixed32(value, "Link", 6),
            _ => Ok(()),
        }),
        15 => messages(bytes(value, NAME, 15)?, "Status", |field, value| match field {
            2 => text(value, "Status", 2),
            3 => varint(value, "Status", 3),
            _ => Ok(()),
        }),
        16 => fixed32(value, NAME, 16),
        _ => Ok(()),
    }
}

fn attributes(message: &[u8], name: &'static str, field: u32) -> Result<(), DecodeError> {
    messages(message, name, |number, value| {
        if number == field { key_value(bytes(value, name, field)?, 0) } else { Ok(()) }
    })
}

fn key_value(message: &[u8], depth: usize) -> Result<(), DecodeError> {
    messages(message, "KeyValue", |field, value| match field {
        1 => text(value, "KeyValue", 1),
        2 => any_value(bytes(value, "KeyValue", 2)?, depth),
        _ => Ok(()),
    })
}

fn any_value(message: &[u8], depth: usize) -> Result<(), DecodeError> {
    const NAME: &str = "AnyValue";
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    messages(message, NAME, |field, value| match field {
        1 | 7 => text(value, NAME, field),
        2 | 3 => varint(value, NAME, field),
        4 => fixed64(value, NAME, 4),
        5 => messages(bytes(value, NAME, 5)?, "ArrayValue", |field, value| match field {
            1 => any_value(bytes(value, "ArrayValue", 1)?, depth + 1),
            _ => Ok(()),
        }),
        6 => messages(bytes(value, NAME, 6)?, "KeyValueList", |field, value| match field {
            1 => key_value(bytes(value, "KeyValueList", 1)?, depth + 1),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

fn messages<'a>(
    message: &'a [u8],
    _name: &'static str,
    mut check: impl FnMut(u32, Value<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut fields = Fields::new(message);
    loop {
        while let Some((field, value)) = fields.usual() {
            check(field, value)?;
        }
        let Some(field) = fields.next() else { return Ok(()) };
        let (field, value) = field?;
        check(field, value)?;
    }
}

fn bytes<'a>(value: Value<'a>, message: &'static str, field: u32) -> Result<&'a [u8], DecodeError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(WireError::Unexpected { message, field }.into()),
    }
}

fn text(value: Value<'_>, message: &'static str, field: u32) -> Result<(), DecodeError> {
    bytes(value, message, field).map(drop)
}

fn varint(value: Value<'_>, message: &'static str, field: u32) -> Result<(), DecodeError> {
    match value {
        Value::Varint(_) => Ok(()),
        _ => Err(WireError::Unexpected { message, field }.into()),
    }
}

fn fixed64(value: Value<'_>, message: &'static str, field: u32) -> Result<(), DecodeError> {
    match value {
        Value::Fixed64(_) => Ok(()),
        _ => Err(WireError::Unexpected { message, field }.into()),
    }
}

fn fixed32(value: Value<'_>, message: &'static str, field: u32) -> Result<(), DecodeError> {
    match value {
        Value::Fixed32(_) => Ok(()),
        _ => Err(WireError::Unexpected { message, field }.into()),
    }
}

fn id(
    value: Value<'_>,
    message: &'static str,
    field: u32,
    what: &'static str,
    expected: usize,
) -> Result<(), DecodeError> {
    let length = bytes(value, message, field)?.len();
    if length == 0 || length == expected {
        Ok(())
    } else {
        Err(DecodeError::IdLength { what, length, expected })
    }
}
