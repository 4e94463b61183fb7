//! OTLP's JSON encoding, rewritten as protobuf so that only one form travels through the pipeline.
//!
//! Differences from protobuf's own JSON mapping, by the OTLP specification ("JSON Protobuf Encoding"): ids are hex, enums are
//! numbers, 64-bit integers may be strings or numbers, names are camelCase, unknown names are ignored. As the
//! reference's receiver does, snake_case names and the names of enum values are understood too, null stands for nothing,
//! and text need not be UTF-8.
//!
//! The request is written as it is read: no tree of it is made, so that it takes the memory of its two forms and no more.
//! The JSON reader ends at 128 levels, which an attribute's value has long before it is too deep for OTLP; so a value that
//! is nested further is found whole first, and read by a reader of its own.

mod schema;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schema::{Kind, Message};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::check::{DecodeError, MAX_DEPTH};
use super::wire::{
    end_message, put_bytes, put_fixed32, put_fixed64, put_key, put_uint, put_varint,
};

/// How many messages within each other one reader reads: each is an object, and an array of objects at most.
const MESSAGES_OF_A_READER: usize = 40;

/// Rewrites an `ExportTraceServiceRequest` from JSON to protobuf.
pub(super) fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut writer = Writer {
        out: Vec::with_capacity(json.len() / 2),
        path: Vec::new(),
        problem: "is not an object",
        messages: 0,
        values: 0,
        inner: None,
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = reader.deserialize_map(Fields { writer: &mut writer, message: &schema::REQUEST });
    match read.and_then(|()| reader.end()) {
        Ok(()) => {
            writer.out.shrink_to_fit();
            Ok(writer.out)
        }
        Err(_) if writer.values > MAX_DEPTH + 1 => Err(DecodeError::TooDeep),
        Err(error) => {
            let (line, column) = writer.place(json, &error);
            match writer.inner.as_ref().map_or(&error, |inner| &inner.error).classify() {
                Category::Data => Err(DecodeError::JsonShape {
                    path: writer.path(),
                    problem: writer.problem,
                    line,
                    column,
                }),
                _ => Err(error.into()),
            }
        }
    }
}

/// Output of the conversion, and the position in the request.
struct Writer {
    out: Vec<u8>,
    path: Vec<Step>,
    /// Message for the case that the value that is being read has another shape.
    problem: &'static str,
    /// How many messages one is in.
    messages: usize,
    /// How many values of attributes one is in.
    values: usize,
    /// The error that a reader of its own found in a value.
    inner: Option<Inner>,
}

/// An error within a value that has a reader of its own.
struct Inner {
    /// The value's place in memory, which is within the request.
    value: *const u8,
    error: serde_json::Error,
}

enum Step {
    Field(&'static str),
    Element(usize),
}

impl Writer {
    fn path(&self) -> String {
        self.path.iter().fold("$".to_owned(), |path, step| match step {
            Step::Field(name) => format!("{path}.{name}"),
            Step::Element(index) => format!("{path}[{index}]"),
        })
    }

    /// The line and the column of an error.
    fn place(&self, json: &[u8], error: &serde_json::Error) -> (usize, usize) {
        let Some(inner) = &self.inner else { return (error.line(), error.column()) };
        let start = (inner.value as usize).saturating_sub(json.as_ptr() as usize);
        let before = json.get(..start).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let behind = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        let (line, column) = (inner.error.line(), inner.error.column());
        (lines + line, if line == 1 { behind + column } else { column })
    }

    /// Writes a message, with its key and length, from an object.
    fn message<'de, D: Deserializer<'de>>(
        &mut self,
        field: u32,
        message: &'static Message,
        from: D,
    ) -> Result<(), D::Error> {
        put_key(&mut self.out, field, 2);
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4][..message.length_bytes]);
        self.messages += 1;
        let is_value = std::ptr::eq(message, &raw const schema::ANY_VALUE);
        self.values += usize::from(is_value);
        if self.values > MAX_DEPTH + 1 {
            return Err(D::Error::custom("nested too deep"));
        }
        if self.messages.is_multiple_of(MESSAGES_OF_A_READER) {
            let value: &RawValue = serde::Deserialize::deserialize(from)?;
            let mut reader = serde_json::Deserializer::from_str(value.get());
            let read = reader.deserialize_map(Fields { writer: self, message });
            if let Err(error) = read {
                let value = value.get().as_ptr();
                self.inner.get_or_insert(Inner { value, error });
                return Err(D::Error::custom("not as OTLP has it"));
            }
        } else {
            from.deserialize_map(Fields { writer: self, message })?;
        }
        self.messages -= 1;
        self.values -= usize::from(is_value);
        end_message(&mut self.out, start, message.length_bytes);
        Ok(())
    }
}

/// The fields of an object, each written as a field of a message.
struct Fields<'a> {
    writer: &'a mut Writer,
    message: &'static Message,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let body = self.writer.out.len();
        while let Some(field) = map.next_key_seed(Name(self.message))? {
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.writer.path.push(Step::Field(field.name));
            self.writer.problem = field.kind.problem();
            let oneof = self.message.is_oneof.then_some(body);
            map.next_value_seed(Field { writer: self.writer, field, oneof })?;
            self.writer.path.pop();
        }
        Ok(())
    }
}

/// The name of a field: the field, if it is known.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static schema::Field>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static schema::Field>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.field(name))
    }
}

/// The value of a field, or null.
struct Field<'a> {
    writer: &'a mut Writer,
    field: &'a schema::Field,
    /// Start of the message, if only the last of its fields counts.
    oneof: Option<usize>,
}

impl Field<'_> {
    /// Takes back what stands in the place of this field.
    fn replace(&mut self) {
        if let Some(start) = self.oneof {
            self.writer.out.truncate(start);
        }
    }

    fn wrong<T, E: Error>(self) -> Result<T, E> {
        Err(E::custom(self.writer.problem))
    }

    fn number<E: Error>(mut self, number: Number<'_>) -> Result<(), E> {
        let written = match self.field.kind {
            Kind::Uint | Kind::Fixed32 => {
                number.uint().and_then(|value| u32::try_from(value).ok()).map(u64::from)
            }
            Kind::Fixed64 => number.uint(),
            Kind::Int => number.int().map(|value| value as u64),
            Kind::Double => number.double().map(f64::to_bits),
            Kind::Enumeration(names) => number.named(names).map(|value| i64::from(value) as u64),
            _ => None,
        };
        let Some(value) = written else { return self.wrong() };
        self.replace();
        let (out, number) = (&mut self.writer.out, self.field.number);
        match self.field.kind {
            Kind::Fixed32 => put_fixed32(out, number, value as u32),
            Kind::Fixed64 => put_fixed64(out, number, value),
            Kind::Int => {
                put_key(out, number, 0);
                put_varint(out, value);
            }
            Kind::Double => {
                put_key(out, number, 1);
                out.extend_from_slice(&value.to_le_bytes());
            }
            _ => put_uint(out, number, value),
        }
        Ok(())
    }

    fn text<E: Error>(mut self, text: &[u8]) -> Result<(), E> {
        self.replace();
        let (out, number) = (&mut self.writer.out, self.field.number);
        match self.field.kind {
            Kind::Text if text.is_empty() => {}
            Kind::Text | Kind::Value => put_bytes(out, number, text),
            Kind::Id => match id(text) {
                Some(id) if id.is_empty() => {}
                Some(id) => put_bytes(out, number, &id),
                None => return self.wrong(),
            },
            Kind::Bytes => match STANDARD.decode(text) {
                Ok(bytes) => put_bytes(out, number, &bytes),
                Err(_) => return self.wrong(),
            },
            _ => match std::str::from_utf8(text) {
                Ok(text) => return self.number(Number::Text(text)),
                Err(_) => return self.wrong(),
            },
        }
        Ok(())
    }

    /// Null: nothing; but as a value, an empty one, as in the reference.
    fn null(mut self) {
        if self.oneof.is_some() && matches!(self.field.kind, Kind::Value | Kind::Message(_)) {
            self.replace();
            put_bytes(&mut self.writer.out, self.field.number, b"");
        }
    }
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        self.null();
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(mut self, from: D) -> Result<(), D::Error> {
        match self.field.kind {
            Kind::Message(message) => {
                self.replace();
                self.writer.message(self.field.number, message, from)
            }
            Kind::Messages(message) => from.deserialize_seq(Elements {
                writer: self.writer,
                number: self.field.number,
                message,
            }),
            Kind::Texts => from.deserialize_seq(self),
            // Not as `str`, which would have to be UTF-8.
            Kind::Text | Kind::Value | Kind::Id | Kind::Bytes => from.deserialize_bytes(self),
            _ => from.deserialize_any(self),
        }
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, Kind::Bool) {
            return self.wrong();
        }
        self.replace();
        put_key(&mut self.writer.out, self.field.number, 0);
        put_varint(&mut self.writer.out, value.into());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.number(Number::Uint(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.number(Number::Int(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.number(Number::Double(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text(text.as_bytes())
    }

    fn visit_borrowed_bytes<E: Error>(self, text: &'de [u8]) -> Result<(), E> {
        self.text(text)
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        self.text(&without_surrogates(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { writer, field, .. } = self;
        if !matches!(field.kind, Kind::Texts) {
            return Err(A::Error::custom(writer.problem));
        }
        let text = schema::Field { kind: Kind::Value, ..*field };
        for index in 0.. {
            writer.path.push(Step::Element(index));
            writer.problem = text.kind.problem();
            let is_there =
                seq.next_element_seed(Field { writer, field: &text, oneof: None })?.is_some();
            writer.path.pop();
            if !is_there {
                break;
            }
        }
        Ok(())
    }
}

/// The elements of an array, each written as a message.
struct Elements<'a> {
    writer: &'a mut Writer,
    number: u32,
    message: &'static Message,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.writer.path.push(Step::Element(index));
            self.writer.problem = "is not an object";
            let element =
                Element { writer: self.writer, number: self.number, message: self.message };
            let is_there = seq.next_element_seed(element)?.is_some();
            self.writer.path.pop();
            if !is_there {
                break;
            }
        }
        Ok(())
    }
}

/// One element of an array; null is an empty message, as in the reference.
struct Element<'a> {
    writer: &'a mut Writer,
    number: u32,
    message: &'static Message,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        put_bytes(&mut self.writer.out, self.number, b"");
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.writer.message(self.number, self.message, from)
    }
}

/// A number, or a text that may be one.
enum Number<'a> {
    Uint(u64),
    Int(i64),
    Double(f64),
    Text(&'a str),
}

impl Number<'_> {
    fn uint(&self) -> Option<u64> {
        match self {
            Self::Uint(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
            Self::Int(_) | Self::Double(_) => None,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Self::Uint(value) => i64::try_from(*value).ok(),
            Self::Int(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
            Self::Double(_) => None,
        }
    }

    fn double(&self) -> Option<f64> {
        match self {
            Self::Uint(value) => Some(*value as f64),
            Self::Int(value) => Some(*value as f64),
            Self::Double(value) => Some(*value),
            // `NaN`, `Infinity` and `-Infinity` are strings in protobuf's JSON; Rust reads them alike.
            Self::Text(text) => text.parse().ok(),
        }
    }

    /// A value of an enumeration, by its name or its number.
    fn named(&self, names: &[&str]) -> Option<i32> {
        let by_name = match self {
            Self::Text(text) => names.iter().position(|name| name == text),
            _ => None,
        };
        match by_name {
            Some(position) => i32::try_from(position).ok(),
            None => i32::try_from(self.int()?).ok(),
        }
    }
}

fn id(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// Half of a surrogate pair, as an escape can make it, becomes U+FFFD: no other text can hold it.
fn without_surrogates(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let is_half = |three: &[u8]| matches!(three, [0xed, 0xa0..=0xbf, 0x80..=0xbf]);
    if !text.windows(3).any(is_half) {
        return text.into();
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, others @ ..] = rest {
        if rest.get(..3).is_some_and(is_half) {
            out.extend_from_slice("\u{fffd}".as_bytes());
            rest = &rest[3..];
        } else {
            out.push(*first);
            rest = others;
        }
    }
    out.into()
}
