//! OTLP's messages as borrowed views. They are made from bytes that were checked at the door.

use super::wire::{Fields, Value, checked, repeated};

/// A span as it was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    message: &'a [u8],
    /// The part of the message that has attributes, events, links and the status.
    rest: &'a [u8],
    /// All 128 bits; zero if the sender left it out.
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    /// Zero if the span has no parent.
    pub(crate) parent_span_id: u64,
    pub(crate) trace_state: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) kind: SpanKind,
    /// Nanoseconds since the epoch.
    pub(crate) start: u64,
    /// Nanoseconds since the epoch.
    pub(crate) end: u64,
    pub(crate) status: Status<'a>,
}

/// How a span's work ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status<'a> {
    pub(crate) code: StatusCode,
    pub(crate) message: &'a [u8],
}

impl Default for Status<'_> {
    fn default() -> Self {
        Self { code: StatusCode::Unset, message: &[] }
    }
}

impl<'a> Status<'a> {
    fn read(&mut self, message: &'a [u8]) {
        for (field, value) in checked(message) {
            match (field, value) {
                (2, Value::Bytes(message)) => self.message = message,
                (3, Value::Varint(code)) => self.code = StatusCode::new(code),
                _ => {}
            }
        }
    }
}

/// OTLP's span kinds; a number that is none of them is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
    Unknown,
}

/// OTLP's status codes; a number that is none of them is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusCode {
    Unset,
    Ok,
    Error,
    Unknown,
}

impl<'a> Span<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self::with_attributes(message, |_| {})
    }

    /// As [`Span::new`]; `attribute` sees each attribute's message on the way.
    pub(super) fn with_attributes(message: &'a [u8], mut attribute: impl FnMut(&'a [u8])) -> Self {
        let mut span = Self::empty(message);
        for (field, value) in checked(message) {
            match (field, value) {
                (9, Value::Bytes(pair)) => attribute(pair),
                (15, Value::Bytes(status)) => span.status.read(status),
                _ => span.set(field, value),
            }
        }
        span
    }

    /// Of a message whose ids, names and times stand before all else: these alone, so not the status.
    pub(super) fn head(message: &'a [u8]) -> Self {
        let (mut span, mut fields) = (Self::empty(message), Fields::new(message));
        loop {
            let rest = fields.rest();
            match fields.next_checked() {
                Some((field, value)) if !is_behind_head(field) => span.set(field, value),
                _ => {
                    span.rest = rest;
                    return span;
                }
            }
        }
    }

    fn empty(message: &'a [u8]) -> Self {
        Self {
            message,
            rest: message,
            trace_id: 0,
            span_id: 0,
            parent_span_id: 0,
            trace_state: &[],
            name: &[],
            kind: SpanKind::Unspecified,
            start: 0,
            end: 0,
            status: Status::default(),
        }
    }

    /// Sets what a field of the head says.
    #[inline(always)]
    fn set(&mut self, field: u32, value: Value<'a>) {
        match (field, value) {
            (1, Value::Bytes(id)) => self.trace_id = trace_id(id),
            (2, Value::Bytes(id)) => self.span_id = span_id(id),
            (3, Value::Bytes(state)) => self.trace_state = state,
            (4, Value::Bytes(id)) => self.parent_span_id = span_id(id),
            (5, Value::Bytes(name)) => self.name = name,
            (6, Value::Varint(kind)) => self.kind = SpanKind::new(kind),
            (7, Value::Fixed64(time)) => self.start = time,
            (8, Value::Fixed64(time)) => self.end = time,
            _ => {}
        }
    }

    /// The message it was read from.
    pub(crate) fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The span with all that its message says, where only its head was read.
    pub(crate) fn whole(&self) -> Self {
        Self::new(self.message)
    }

    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.rest, 9)
    }

    /// W3C's trace flags, and above them what OTLP says of the parent.
    pub(crate) fn flags(&self) -> u32 {
        let flags = checked(self.message).filter_map(|(field, value)| match (field, value) {
            (16, Value::Fixed32(flags)) => Some(flags),
            _ => None,
        });
        flags.last().unwrap_or_default()
    }

    /// Reads what a span has any number of, in one pass over its message. `attribute` gets each attribute; `None` if it says `false`.
    #[inline]
    pub(crate) fn read_parts(
        &self,
        mut attribute: impl FnMut(&'a [u8], RawValue<'a>) -> bool,
    ) -> Option<Parts<'a>> {
        let mut parts = Parts::default();
        for (field, value) in checked(self.rest) {
            match (field, value) {
                (9, Value::Bytes(pair)) => {
                    let (key, value) = raw_pair(pair);
                    if !attribute(key, value) {
                        return None;
                    }
                }
                (11, Value::Bytes(_)) => parts.has_events = true,
                (13, Value::Bytes(_)) => parts.has_links = true,
                (15, Value::Bytes(status)) => parts.status.read(status),
                _ => {}
            }
        }
        Some(parts)
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Event<'a>> + Clone {
        repeated(self.rest, 11).map(Event::new)
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = Link<'a>> + Clone {
        repeated(self.rest, 13).map(Link::new)
    }
}

/// Fields of a span besides its attributes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parts<'a> {
    pub(crate) status: Status<'a>,
    /// [`Span::events`] reads them.
    pub(crate) has_events: bool,
    /// [`Span::links`] reads them.
    pub(crate) has_links: bool,
}

impl SpanKind {
    fn new(number: u64) -> Self {
        match number {
            0 => Self::Unspecified,
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unknown,
        }
    }
}

impl StatusCode {
    fn new(number: u64) -> Self {
        match number {
            0 => Self::Unset,
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unknown,
        }
    }
}

/// Something that happened within a span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    message: &'a [u8],
    /// Nanoseconds since the epoch.
    pub(crate) time: u64,
    pub(crate) name: &'a [u8],
    pub(crate) dropped_attributes: u32,
}

impl<'a> Event<'a> {
    fn new(message: &'a [u8]) -> Self {
        let mut event = Self { message, time: 0, name: &[], dropped_attributes: 0 };
        for (field, value) in checked(message) {
            match (field, value) {
                (1, Value::Fixed64(time)) => event.time = time,
                (2, Value::Bytes(name)) => event.name = name,
                (4, Value::Varint(count)) => event.dropped_attributes = count as u32,
                _ => {}
            }
        }
        event
    }

    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.message, 3)
    }
}

/// A reference from a span to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    message: &'a [u8],
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) trace_state: &'a [u8],
    pub(crate) dropped_attributes: u32,
}

impl<'a> Link<'a> {
    fn new(message: &'a [u8]) -> Self {
        let mut link =
            Self { message, trace_id: 0, span_id: 0, trace_state: &[], dropped_attributes: 0 };
        for (field, value) in checked(message) {
            match (field, value) {
                (1, Value::Bytes(id)) => link.trace_id = trace_id(id),
                (2, Value::Bytes(id)) => link.span_id = span_id(id),
                (3, Value::Bytes(state)) => link.trace_state = state,
                (5, Value::Varint(count)) => link.dropped_attributes = count as u32,
                _ => {}
            }
        }
        link
    }

    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.message, 4)
    }
}

/// The library that made a span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    message: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) version: &'a [u8],
}

impl<'a> Scope<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        let mut scope = Self { message, name: &[], version: &[] };
        for (field, value) in checked(message) {
            match (field, value) {
                (1, Value::Bytes(name)) => scope.name = name,
                (2, Value::Bytes(version)) => scope.version = version,
                _ => {}
            }
        }
        scope
    }

    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.message, 3)
    }
}

/// Key-value pairs, in the order of the wire; a key may come twice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    message: &'a [u8],
    field: u32,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(message: &'a [u8], field: u32) -> Self {
        Self { message, field }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a [u8], AnyValue<'a>)> + Clone + use<'a> {
        repeated(self.message, self.field).map(key_value)
    }

    /// As [`Attributes::iter`], with values that are not read yet.
    pub(crate) fn raw(&self) -> impl Iterator<Item = (&'a [u8], RawValue<'a>)> + use<'a> {
        repeated(self.message, self.field).map(raw_pair)
    }

    pub(crate) fn is_empty(&self) -> bool {
        repeated(self.message, self.field).next().is_none()
    }
}

/// The value of an attribute as it stands on the wire: an `AnyValue` message. Small, and read no earlier than it is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawValue<'a>(&'a [u8]);

impl<'a> RawValue<'a> {
    /// Reads it.
    #[inline]
    pub(crate) fn get(self) -> AnyValue<'a> {
        match self.0 {
            [0x18, value @ 0..0x80] => AnyValue::Int(i64::from(*value)),
            [0x18, low @ 0x80..=0xff, high @ 0..0x80] => {
                AnyValue::Int(i64::from(*low & 0x7f) | i64::from(*high) << 7)
            }
            other => AnyValue::new(other),
        }
    }

    /// The text of a string that is written as nearly all are; `None` says nothing.
    #[inline]
    pub(crate) fn text(self) -> Option<&'a [u8]> {
        match self.0 {
            [0x0a, text @ ..] => usual_bytes(text),
            _ => None,
        }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnyValue<'a> {
    Empty,
    String(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// An `ArrayValue` message; [`elements`](AnyValue::elements) reads it.
    Array(&'a [u8]),
    Map(Attributes<'a>),
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    /// Reads an `AnyValue` message.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        // A oneof: the last field on the wire wins.
        let mut found = Self::Empty;
        for (field, value) in checked(message) {
            found = match (field, value) {
                (1, Value::Bytes(text)) => Self::String(text),
                (2, Value::Varint(value)) => Self::Bool(value != 0),
                (3, Value::Varint(value)) => Self::Int(value as i64),
                (4, Value::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
                (5, Value::Bytes(array)) => Self::Array(array),
                (6, Value::Bytes(map)) => Self::Map(Attributes::new(map, 1)),
                (7, Value::Bytes(bytes)) => Self::Bytes(bytes),
                _ => found,
            };
        }
        found
    }

    /// The elements of an array; of anything else, none.
    pub(crate) fn elements(&self) -> impl Iterator<Item = AnyValue<'a>> + Clone + use<'a> {
        let message = match self {
            Self::Array(message) => message,
            _ => &[][..],
        };
        repeated(message, 1).map(AnyValue::new)
    }
}

fn key_value(message: &[u8]) -> (&[u8], AnyValue<'_>) {
    let (key, value) = raw_pair(message);
    (key, value.get())
}

#[inline]
fn raw_pair(message: &[u8]) -> (&[u8], RawValue<'_>) {
    if let [0x0a, length, rest @ ..] = message
        && *length < 0x80
        && let Some((key, [0x12, value @ ..])) = rest.split_at_checked(usize::from(*length))
        && let Some(value) = usual_bytes(value)
    {
        // One key and one value, to the end.
        return (key, RawValue(value));
    }
    other_pair(message)
}

#[cold]
fn other_pair(message: &[u8]) -> (&[u8], RawValue<'_>) {
    let (mut key, mut found) = (&[][..], RawValue(&[]));
    for (field, value) in checked(message) {
        match (field, value) {
            (1, Value::Bytes(text)) => key = text,
            (2, Value::Bytes(value)) => found = RawValue(value),
            _ => {}
        }
    }
    (key, found)
}

/// Returns whether a pair has this key.
#[inline]
pub(super) fn has_key(message: &[u8], key: &[u8]) -> bool {
    if let [0x0a, length, rest @ ..] = message
        && usize::from(*length) != key.len()
        && let Some([0x12, size, value @ ..]) = rest.get(usize::from(*length)..)
        && *length < 0x80
        && *size < 0x80
        && value.len() == usize::from(*size)
    {
        // One key and one value, to the end.
        return false;
    }
    raw_pair(message).0 == key
}

/// A pair as nearly every sender writes it: a key below 128 bytes, then a value, each once, and nothing else. None for any
/// other form, which need not be malformed.
#[inline]
pub(super) fn usual_pair(message: &[u8]) -> Option<(&[u8], AnyValue<'_>)> {
    let [0x0a, length, rest @ ..] = message else { return None };
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    let [0x12, rest @ ..] = rest else { return None };
    let value = usual_bytes(rest).filter(|_| *length < 0x80)?;
    let value = match value {
        [] => AnyValue::Empty,
        [0x0a, text @ ..] => AnyValue::String(usual_bytes(text)?),
        [0x10, value @ (0 | 1)] => AnyValue::Bool(*value == 1),
        [0x18, value] if *value < 0x80 => AnyValue::Int(i64::from(*value)),
        [0x18, low, high] if *low >= 0x80 && *high < 0x80 => {
            AnyValue::Int(i64::from(*low & 0x7f) | i64::from(*high) << 7)
        }
        [0x21, bits @ ..] => {
            AnyValue::Double(f64::from_bits(u64::from_le_bytes(bits.try_into().ok()?)))
        }
        _ => return None,
    };
    Some((key, value))
}

/// Bytes behind their length, up to the end of the message.
#[inline]
fn usual_bytes(message: &[u8]) -> Option<&[u8]> {
    match message {
        [length, bytes @ ..] if *length < 0x80 => {
            (bytes.len() == usize::from(*length)).then_some(bytes)
        }
        [low, high, bytes @ ..] if *high < 0x80 => {
            let length = usize::from(*low & 0x7f) | usize::from(*high) << 7;
            (bytes.len() == length).then_some(bytes)
        }
        _ => None,
    }
}

/// Returns whether a field of a span is none of those for its place in a trace, its names and its times.
#[inline]
pub(super) fn is_behind_head(field: u32) -> bool {
    (9..16).contains(&field)
}

fn trace_id(bytes: &[u8]) -> u128 {
    bytes.try_into().map(u128::from_be_bytes).unwrap_or_default()
}

fn span_id(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_be_bytes).unwrap_or_default()
}
