//! Values as text, the way the reference's Go libraries write them: `pcommon.Value.AsString` and `encoding/json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::trace_batch::AnyValue;

/// A value as one text; arrays and maps as JSON, bytes as base64, nothing as the empty text.
#[inline]
pub(crate) fn as_text<'a>(value: &AnyValue<'a>) -> Cow<'a, [u8]> {
    match value {
        AnyValue::String(text) => Cow::Borrowed(text),
        value => other_as_text(value),
    }
}

fn other_as_text<'a>(value: &AnyValue<'a>) -> Cow<'a, [u8]> {
    match value {
        AnyValue::Empty => Cow::Borrowed(b""),
        AnyValue::String(text) => Cow::Borrowed(text),
        AnyValue::Bool(true) => Cow::Borrowed(b"true"),
        AnyValue::Bool(false) => Cow::Borrowed(b"false"),
        AnyValue::Int(int) => Cow::Owned(int.to_string().into_bytes()),
        AnyValue::Double(double) => {
            let mut out = Vec::new();
            if !write_float(&mut out, *double) {
                let name = match () {
                    () if double.is_nan() => "NaN",
                    () if *double > 0.0 => "Infinity",
                    () => "-Infinity",
                };
                out.extend_from_slice(name.as_bytes());
            }
            Cow::Owned(out)
        }
        AnyValue::Bytes(bytes) => Cow::Owned(STANDARD.encode(bytes).into_bytes()),
        AnyValue::Array(_) | AnyValue::Map(_) => {
            let mut out = Vec::new();
            // A value that JSON has no word for makes the whole text empty.
            if !write_json(&mut out, value, Html::Kept) {
                out.clear();
            }
            Cow::Owned(out)
        }
    }
}

/// Writes a value as JSON; `false` if it holds a number that JSON cannot say.
pub(crate) fn write_json(out: &mut Vec<u8>, value: &AnyValue<'_>, html: Html) -> bool {
    match value {
        AnyValue::Empty => out.extend_from_slice(b"null"),
        AnyValue::String(text) => write_json_text(out, text, html),
        AnyValue::Bool(_) => out.extend_from_slice(&as_text(value)),
        AnyValue::Int(int) => write_display(out, int),
        AnyValue::Double(double) => return write_float(out, *double),
        // Go's encoder has no text for no bytes.
        AnyValue::Bytes([]) => out.extend_from_slice(b"null"),
        AnyValue::Bytes(bytes) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
        AnyValue::Array(_) => {
            out.push(b'[');
            for (index, element) in value.elements().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                if !write_json(out, &element, html) {
                    return false;
                }
            }
            out.push(b']');
        }
        AnyValue::Map(map) => {
            // Go makes a map of it first, so the last of equal keys wins, and writes maps sorted.
            let sorted: BTreeMap<_, _> = map.iter().collect();
            out.push(b'{');
            for (index, (key, value)) in sorted.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_json_text(out, key, html);
                out.push(b':');
                if !write_json(out, value, html) {
                    return false;
                }
            }
            out.push(b'}');
        }
    }
    true
}

/// A number as Go's `strconv.ParseUint` reads it: digits alone, without a sign.
pub(crate) fn parse_uint(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    text?.parse().ok()
}

/// Parses a whole number: of 64 bits, or a float without a fraction (agent, `semantics.LookupInt64`).
pub(crate) fn parse_whole_number(text: &[u8]) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty())?;
    let float = || text.parse().ok().filter(|float: &f64| float.fract() == 0.0);
    let float = || float().filter(|float| (-LIMIT..LIMIT).contains(float));
    text.parse().ok().or_else(|| float().map(|float| float as i64))
}

/// Characters that are escaped in JSON beyond what must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Html {
    /// `<`, `>` and `&`, and U+2028/9.
    Escaped,
    /// U+2028/9 alone.
    Kept,
    /// Nothing.
    Bare,
}

/// Writes a JSON string with the escapes of Go's encoder, which also escapes U+2028/9 and, unless it is asked not to, `<`,
/// `>` and `&`, and puts U+FFFD in place of each byte that is not UTF-8.
pub(crate) fn write_json_text(out: &mut Vec<u8>, text: &[u8], html: Html) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        let mut plain = 0;
        let valid = chunk.valid().as_bytes();
        for (index, byte) in valid.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0x08 => b"\\b",
                0x0c => b"\\f",
                b'<' | b'>' | b'&' if html != Html::Escaped => continue,
                0xe2 if html == Html::Bare => continue,
                0..=0x1f | b'<' | b'>' | b'&' => {
                    let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[digit as usize]);
                    &[b'\\', b'u', b'0', b'0', high, low]
                }
                0xe2 if valid[index..].starts_with("\u{2028}".as_bytes()) => b"\\u2028",
                0xe2 if valid[index..].starts_with("\u{2029}".as_bytes()) => b"\\u2029",
                _ => continue,
            };
            out.extend_from_slice(&valid[plain..index]);
            out.extend_from_slice(escape);
            plain = index + if *byte == 0xe2 { 3 } else { 1 };
        }
        out.extend_from_slice(&valid[plain..]);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// Writes a number as Go's `encoding/json` does; `false` for infinities and NaN.
fn write_float(out: &mut Vec<u8>, number: f64) -> bool {
    if !number.is_finite() {
        return false;
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                write_display(out, &format_args!("{digits}e+{exponent}"));
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
    } else {
        // Of two shortest texts equally near, Go takes the even one, and so does `ryu`; the standard library takes the upper.
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(number);
        match text.contains('e') {
            true => write_display(out, &number),
            false => out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes()),
        }
    }
    true
}

fn write_display(out: &mut Vec<u8>, value: &impl std::fmt::Display) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::{Html, write_float, write_json_text};

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-10, "1.5e-10"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-2.5e300, "-2.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (9007199254740993.0, "9007199254740992"),
            (1_740_279_454_101_086.2, "1740279454101086.2"),
            (0.000_001, "0.000001"),
            (-0.0, "-0"),
        ];
        for (number, text) in cases {
            let mut out = Vec::new();
            assert!(write_float(&mut out, number));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        assert!(!write_float(&mut Vec::new(), f64::NAN));
    }

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let cases: [(&[u8], &str); 5] = [
            (b"a\"b\\c\n\r\t\x08\x0c\x01\x7f", "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001\x7f\""),
            (b"<a href=x&y>", r#""\u003ca href=x\u0026y\u003e""#),
            ("\u{2028}é\u{2029}\u{2030}".as_bytes(), "\"\\u2028é\\u2029\u{2030}\""),
            (b"\xffx\xe2\x80", r#""\ufffdx\ufffd\ufffd""#),
            (b"", "\"\""),
        ];
        let mut out = Vec::new();
        write_json_text(&mut out, "<\u{2028}\">".as_bytes(), Html::Bare);
        assert_eq!(String::from_utf8(out).unwrap(), "\"<\u{2028}\\\">\"");
        for (text, json) in cases {
            let mut out = Vec::new();
            write_json_text(&mut out, text, Html::Escaped);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }
}
