//! Reading and writing the protobuf wire format, as far as OTLP and Datadog's payloads need it.
//!
//! Readers borrow from the received bytes. There is no schema and no UTF-8 check here: the OTLP specification asks for
//! valid strings, real senders do not always comply, and one bad attribute is no reason to refuse a whole request.

/// Error for bytes that are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message ends in the middle of a field")]
    Truncated,
    #[error("a varint is longer than ten bytes")]
    VarintTooLong,
    #[error("field number {0} is out of range")]
    FieldNumber(u64),
    #[error("field {field} has wire type {wire_type}, which OTLP does not use")]
    WireType { field: u32, wire_type: u8 },
    #[error("field {field} of {message} has the wrong wire type")]
    Unexpected { message: &'static str, field: u32 },
}

/// The value of one field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of one message, in the order of the wire.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// A field as most are: a number below 16, and a value or a length of one or two bytes. None for any other, or none.
    #[inline(always)]
    pub(super) fn usual(&mut self) -> Option<(u32, Value<'a>)> {
        let [key, rest @ ..] = self.rest else { return None };
        if !(8..0x80).contains(key) {
            return None;
        }
        let (value, rest) = match (key & 7, rest) {
            (2, [length, rest @ ..]) if *length < 0x80 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(*length))?;
                (Value::Bytes(bytes), rest)
            }
            (2, [low, high, rest @ ..]) if *high < 0x80 => {
                let length = usize::from(*low & 0x7f) | usize::from(*high) << 7;
                let (bytes, rest) = rest.split_at_checked(length)?;
                (Value::Bytes(bytes), rest)
            }
            (1, rest) => {
                let (bytes, rest) = rest.split_first_chunk()?;
                (Value::Fixed64(u64::from_le_bytes(*bytes)), rest)
            }
            (0, [value, rest @ ..]) if *value < 0x80 => (Value::Varint(u64::from(*value)), rest),
            _ => return None,
        };
        self.rest = rest;
        Some((u32::from(*key >> 3), value))
    }

    /// Passes over an attribute of a span, written as most are: a key, then a value that is no list, all of them short. Gives its
    /// key; none, with nothing read, for any other field.
    #[inline(always)]
    pub(super) fn usual_attribute(&mut self) -> Option<&'a [u8]> {
        let [0x4a, size @ 0..0x80, rest @ ..] = self.rest else { return None };
        let (pair, rest) = rest.split_at_checked(usize::from(*size))?;
        let [0x0a, length, pair @ ..] = pair else { return None };
        let (key, value) = pair.split_at_checked(usize::from(*length))?;
        let [0x12, size, value @ ..] = value else { return None };
        if usize::from(*size) != value.len() {
            return None;
        }
        let is_usual = match value {
            [0x0a, length, text @ ..] => usize::from(*length) == text.len(),
            [0x10 | 0x18, 0..0x80] => true,
            [0x18, 0x80..=0xff, 0..0x80] => true,
            [0x21, bits @ ..] => bits.len() == 8,
            _ => false,
        };
        if !is_usual {
            return None;
        }
        self.rest = rest;
        Some(key)
    }

    /// The fields that are not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field of a message that was checked when it was received; none where it is malformed, which then cannot be.
    #[inline(always)]
    pub(super) fn next_checked(&mut self) -> Option<(u32, Value<'a>)> {
        match self.usual() {
            Some(field) => Some(field),
            None => self.next()?.ok(),
        }
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), WireError> {
        let key = self.varint()?;
        let number = key >> 3;
        let field = u32::try_from(number).ok().filter(|number| (1..1 << 29).contains(number));
        let field = field.ok_or(WireError::FieldNumber(number))?;
        let value = match (key & 7) as u8 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                let (bytes, rest) =
                    self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            wire_type => return Err(WireError::WireType { field, wire_type }),
        };
        Ok((field, value))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::VarintTooLong })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The fields of a message that was checked when it was received; stops where it is malformed, which then cannot be.
#[inline]
pub(crate) fn checked(message: &[u8]) -> impl Iterator<Item = (u32, Value<'_>)> + Clone {
    let mut fields = Fields::new(message);
    std::iter::from_fn(move || fields.next_checked())
}

/// The length-delimited values of one field of a message that was checked when it was received.
#[inline]
pub(crate) fn repeated(message: &[u8], field: u32) -> impl Iterator<Item = &[u8]> + Clone {
    checked(message).filter_map(move |(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

/// The first value of a field of such a message that stands before any of another field.
pub(crate) fn first_before(message: &[u8], field: u32, other: u32) -> Option<&[u8]> {
    let mut fields = checked(message).take_while(|(number, _)| *number != other);
    fields.find_map(|(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

/// As [`checked`], each field also with all its bytes on the wire.
pub(crate) fn raw_fields(message: &[u8]) -> impl Iterator<Item = (u32, &[u8], Value<'_>)> {
    let mut fields = Fields::new(message);
    std::iter::from_fn(move || {
        let before = fields.rest;
        let (field, value) = fields.next()?.ok()?;
        Some((field, &before[..before.len() - fields.rest.len()], value))
    })
}

/// Writes a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number of bytes that [`put_varint`] writes.
pub(crate) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Writes the key of a field: its number and wire type.
pub(crate) fn put_key(out: &mut Vec<u8>, field: u32, wire_type: u8) {
    put_varint(out, u64::from(field) << 3 | u64::from(wire_type));
}

/// Writes a length-delimited field, even if it is empty.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_key(out, field, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a varint field, unless it has proto3's default.
pub(crate) fn put_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_key(out, field, 0);
        put_varint(out, value);
    }
}

/// Writes a fixed 64-bit field, unless it has proto3's default.
pub(crate) fn put_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_key(out, field, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Writes a fixed 32-bit field, unless it has proto3's default.
pub(crate) fn put_fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        put_key(out, field, 5);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Writes a nested message, whose body `write` appends.
pub(crate) fn put_message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_message_about(out, field, 0, |out| {
        write(out);
        true
    });
}

/// As [`put_message`]; a body whose length takes as many bytes as `about` does is not moved. Writes nothing if `write` says
/// `false`.
pub(crate) fn put_message_about(
    out: &mut Vec<u8>,
    field: u32,
    about: usize,
    write: impl FnOnce(&mut Vec<u8>) -> bool,
) -> bool {
    let whole = out.len();
    put_key(out, field, 2);
    let start = out.len();
    let reserved = varint_len(about as u64);
    out.extend_from_slice(&[0; 10][..reserved]);
    if !write(out) {
        out.truncate(whole);
        return false;
    }
    end_message(out, start, reserved);
    true
}

/// Writes the length of the message whose body ends `out`, into `reserved` bytes at `start`; moves it if that is not enough.
pub(crate) fn end_message(out: &mut Vec<u8>, start: usize, reserved: usize) {
    let (body, end) = (start + reserved, out.len());
    let length = end - body;
    let needed = varint_len(length as u64);
    if needed > reserved {
        out.extend_from_slice(&[0; 10][..needed - reserved]);
    }
    if needed != reserved {
        out.copy_within(body..end, start + needed);
        out.truncate(start + needed + length);
    }
    let mut rest = length as u64;
    for byte in &mut out[start..start + needed] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[start + needed - 1] &= 0x7f;
}

#[cfg(test)]
mod tests {
    use super::{
        Fields, Value, WireError, put_bytes, put_message, put_uint, put_varint, varint_len,
    };

    #[test]
    fn what_is_written_is_read_back() {
        for length in [0, 1, 126, 127, 128, 129, 16_383, 16_384, 3_000_000] {
            let body = vec![7; length];
            let mut out = Vec::new();
            put_uint(&mut out, 1, u64::MAX);
            put_message(&mut out, 2, |out| put_bytes(out, 3, &body));
            let fields: Vec<_> = Fields::new(&out).collect::<Result<_, _>>().unwrap();
            assert_eq!(fields[0], (1, Value::Varint(u64::MAX)));
            let (2, Value::Bytes(inner)) = fields[1] else { panic!("{length}") };
            assert_eq!(Fields::new(inner).next(), Some(Ok((3, Value::Bytes(&body)))), "{length}");
            assert_eq!(fields.len(), 2);
        }
    }

    #[test]
    fn the_length_of_a_varint_is_known_beforehand() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }

    #[test]
    fn malformed_messages_are_errors_and_end_the_reading() {
        let cases: [(&[u8], WireError); 7] = [
            (&[0x0a, 5, 1], WireError::Truncated),
            (&[0x09, 1, 2], WireError::Truncated),
            (&[0x80], WireError::Truncated),
            (&[0xff; 12], WireError::VarintTooLong),
            (&[0x00, 1], WireError::FieldNumber(0)),
            (&[0x0b], WireError::WireType { field: 1, wire_type: 3 }),
            (
                &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                WireError::Truncated,
            ),
        ];
        for (bytes, error) in cases {
            let mut fields = Fields::new(bytes);
            assert_eq!(fields.next(), Some(Err(error)), "{bytes:?}");
            assert_eq!(fields.next(), None, "{bytes:?}");
        }
    }
}
