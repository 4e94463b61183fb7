//! Oddities of one encoding.

use prost::Message as _;

use super::super::made::Request;
use super::{Change, Oddity};

const SPAN: &str = "/resourceSpans/0/scopeSpans/0/spans/0";
const SCOPE: &str = "/resourceSpans/0/scopeSpans/0";
const RESOURCE: &str = "/resourceSpans/0";
const STATUS: &str = "/resourceSpans/0/scopeSpans/0/spans/0/status";

/// The message of protobuf that something is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Request,
    Resource,
    Scope,
    Span,
}

pub(super) const ALL: &[Oddity] = &[
    // JSON's fields.
    Oddity(
        "unknown fields in a request",
        Change::Field("", "nosuch", "{\"a\":[1,null,{\"b\":true}]}"),
    ),
    Oddity("unknown fields in a resource", Change::Field(RESOURCE, "nosuch", "[[[]]]")),
    Oddity("unknown fields in a span", Change::Field(SPAN, "nosuch", "\"x\"")),
    Oddity(
        "an unknown field that is deep",
        Change::Field(
            SPAN,
            "nosuch",
            "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        ),
    ),
    Oddity("snake case", Change::Field(SPAN, "trace_state", "\"snake=1\"")),
    Oddity("spans in snake case", Change::Field("", "resource_spans", "[]")),
    Oddity("a field twice", Change::Field(SPAN, "name", "\"one\",\"name\":\"two\"")),
    Oddity(
        "a list twice",
        Change::Field(
            SCOPE,
            "spans",
            "[{\"traceId\":\"01010101010101010101010101010101\",\"spanId\":\"0101010101010101\"}],\"spans\":[{\"traceId\":\"02020202020202020202020202020202\",\"spanId\":\"0202020202020202\"}]",
        ),
    ),
    Oddity("a kind by name", Change::Field(SPAN, "kind", "\"SPAN_KIND_SERVER\"")),
    Oddity(
        "a kind by a name that is not known",
        Change::Field(SPAN, "kind", "\"SPAN_KIND_NOSUCH\""),
    ),
    Oddity("a kind as text", Change::Field(SPAN, "kind", "\"2\"")),
    Oddity("a kind that is no integer", Change::Field(SPAN, "kind", "2.5")),
    Oddity("a large kind", Change::Field(SPAN, "kind", "99999999999")),
    Oddity("a status by name", Change::Field(STATUS, "code", "\"STATUS_CODE_ERROR\"")),
    Oddity("a status by a name that is not known", Change::Field(STATUS, "code", "\"ERROR\"")),
    Oddity("a status as text", Change::Field(STATUS, "code", "\"2\"")),
    Oddity("a time as a number", Change::Field(SPAN, "startTimeUnixNano", "1700000000000000001")),
    Oddity("a time as a float", Change::Field(SPAN, "startTimeUnixNano", "1.7e18")),
    Oddity("a time as text of a float", Change::Field(SPAN, "startTimeUnixNano", "\"1.7e18\"")),
    Oddity("a time below zero", Change::Field(SPAN, "startTimeUnixNano", "-5")),
    Oddity("a time below zero as text", Change::Field(SPAN, "startTimeUnixNano", "\"-5\"")),
    Oddity(
        "a time that is too large",
        Change::Field(SPAN, "startTimeUnixNano", "\"18446744073709551616\""),
    ),
    Oddity("a time with a plus", Change::Field(SPAN, "startTimeUnixNano", "\"+5\"")),
    Oddity("a time with zeros before it", Change::Field(SPAN, "startTimeUnixNano", "\"007\"")),
    Oddity("a time in hexadecimal", Change::Field(SPAN, "startTimeUnixNano", "\"0x7\"")),
    Oddity("an empty time", Change::Field(SPAN, "startTimeUnixNano", "\"\"")),
    Oddity("a time with a space", Change::Field(SPAN, "startTimeUnixNano", "\" 7\"")),
    Oddity("a time that is a word", Change::Field(SPAN, "endTimeUnixNano", "\"now\"")),
    Oddity("a time that is a list", Change::Field(SPAN, "endTimeUnixNano", "[1]")),
    Oddity("a time that is null", Change::Field(SPAN, "endTimeUnixNano", "null")),
    Oddity("a count as text", Change::Field(SPAN, "droppedAttributesCount", "\"3\"")),
    Oddity("a count below zero", Change::Field(SPAN, "droppedAttributesCount", "-1")),
    Oddity("a count that is too large", Change::Field(SPAN, "droppedLinksCount", "4294967296")),
    Oddity("flags as text", Change::Field(SPAN, "flags", "\"257\"")),
    Oddity(
        "ids in upper case",
        Change::Field(SPAN, "traceId", "\"0AF7651916CD43DD8448EB211C80319C\""),
    ),
    Oddity(
        "an id of an odd length",
        Change::Field(SPAN, "traceId", "\"0af7651916cd43dd8448eb211c80319\""),
    ),
    Oddity("an id in base64", Change::Field(SPAN, "traceId", "\"CvdlGRbNQ92ESOshHIAxnA==\"")),
    Oddity(
        "an id with dashes",
        Change::Field(SPAN, "traceId", "\"0af76519-16cd-43dd-8448-eb211c80319c\""),
    ),
    Oddity("an id that is a number", Change::Field(SPAN, "spanId", "1234567890123456")),
    Oddity("an id that is null", Change::Field(SPAN, "spanId", "null")),
    Oddity("a parent that is null", Change::Field(SPAN, "parentSpanId", "null")),
    Oddity("a name that is null", Change::Field(SPAN, "name", "null")),
    Oddity("a name that is a number", Change::Field(SPAN, "name", "5")),
    Oddity("a name of a lone surrogate", Change::Field(SPAN, "name", "\"a\\ud800b\"")),
    Oddity("a name with a control character", Change::Field(SPAN, "name", "\"a\u{1}b\"")),
    Oddity("a name with an unknown escape", Change::Field(SPAN, "name", "\"a\\xb\"")),
    Oddity("attributes that are null", Change::Field(SPAN, "attributes", "null")),
    Oddity("attributes that are a map", Change::Field(SPAN, "attributes", "{\"a\":\"b\"}")),
    Oddity("an attribute that is null", Change::Field(SPAN, "attributes", "[null]")),
    Oddity(
        "an attribute of a bare value",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":\"b\"}]"),
    ),
    Oddity(
        "an attribute whose value is null",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":null}]"),
    ),
    Oddity(
        "an attribute of two values",
        Change::Field(
            SPAN,
            "attributes",
            "[{\"key\":\"a\",\"value\":{\"intValue\":\"1\",\"stringValue\":\"x\"}}]",
        ),
    ),
    Oddity(
        "an attribute of an unknown type",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"nosuchValue\":1}}]"),
    ),
    Oddity(
        "an integer as a number",
        Change::Field(
            SPAN,
            "attributes",
            "[{\"key\":\"a\",\"value\":{\"intValue\":-9223372036854775808}}]",
        ),
    ),
    Oddity(
        "an integer as a float",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"intValue\":1.0}}]"),
    ),
    Oddity(
        "an integer that is too large",
        Change::Field(
            SPAN,
            "attributes",
            "[{\"key\":\"a\",\"value\":{\"intValue\":\"9223372036854775808\"}}]",
        ),
    ),
    Oddity(
        "an integer with letters",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"intValue\":\"12ab\"}}]"),
    ),
    Oddity(
        "a double as text",
        Change::Field(
            SPAN,
            "attributes",
            "[{\"key\":\"a\",\"value\":{\"doubleValue\":\"1.5e3\"}}]",
        ),
    ),
    Oddity(
        "a double that is too large",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"doubleValue\":1e400}}]"),
    ),
    Oddity(
        "a double by a short name",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"doubleValue\":\"-inf\"}}]"),
    ),
    Oddity(
        "a double that is bare NaN",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"doubleValue\":NaN}}]"),
    ),
    Oddity(
        "a boolean as text",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"boolValue\":\"true\"}}]"),
    ),
    Oddity(
        "a boolean as a number",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"boolValue\":1}}]"),
    ),
    Oddity(
        "text that is null",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"stringValue\":null}}]"),
    ),
    Oddity(
        "text that is a number",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"stringValue\":1}}]"),
    ),
    Oddity(
        "bytes without padding",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"bytesValue\":\"/+8\"}}]"),
    ),
    Oddity(
        "bytes in the base64 of URLs",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"bytesValue\":\"_-8=\"}}]"),
    ),
    Oddity(
        "bytes that are no base64",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"bytesValue\":\"%%%\"}}]"),
    ),
    Oddity(
        "an array that is a list",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"arrayValue\":[1]}}]"),
    ),
    Oddity(
        "an array that is null",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"arrayValue\":null}}]"),
    ),
    Oddity(
        "an array without values",
        Change::Field(SPAN, "attributes", "[{\"key\":\"a\",\"value\":{\"arrayValue\":{}}}]"),
    ),
    Oddity("events that are null", Change::Field(SPAN, "events", "null")),
    Oddity("links of null", Change::Field(SPAN, "links", "[null]")),
    Oddity("a status that is null", Change::Field(SPAN, "status", "null")),
    Oddity("a status that is text", Change::Field(SPAN, "status", "\"OK\"")),
    Oddity("a span that is null", Change::Field(SCOPE, "spans", "[null]")),
    Oddity("spans that are null", Change::Field(SCOPE, "spans", "null")),
    Oddity("spans that are a map", Change::Field(SCOPE, "spans", "{}")),
    Oddity("a scope that is null", Change::Field(SCOPE, "scope", "null")),
    Oddity("scopes that are null", Change::Field(RESOURCE, "scopeSpans", "null")),
    Oddity("scopes of an old name", Change::Field(RESOURCE, "instrumentationLibrarySpans", "[]")),
    Oddity("a resource that is null", Change::Field(RESOURCE, "resource", "null")),
    Oddity("a resource that is a list", Change::Field(RESOURCE, "resource", "[]")),
    Oddity("resources that are null", Change::Field("", "resourceSpans", "null")),
    Oddity("resources of null", Change::Field("", "resourceSpans", "[null]")),
    Oddity("resources that are text", Change::Field("", "resourceSpans", "\"x\"")),
    // JSON's text.
    Oddity("no body", Change::Text(|_| Vec::new())),
    Oddity("null", Change::Text(|_| b"null".to_vec())),
    Oddity("a list", Change::Text(|it| format!("[{it}]").into_bytes())),
    Oddity("text alone", Change::Text(|_| b"\"x\"".to_vec())),
    Oddity("an empty map", Change::Text(|_| b"{}".to_vec())),
    Oddity("spaces alone", Change::Text(|_| b" \n".to_vec())),
    Oddity("spaces around it", Change::Text(|it| format!("\r\n\t {it} \n").into_bytes())),
    Oddity("a byte order mark", Change::Text(|it| format!("\u{feff}{it}").into_bytes())),
    Oddity("half of it", Change::Text(|it| it.as_bytes()[..it.len() / 2].to_vec())),
    Oddity(
        "all but the last byte",
        Change::Text(|it| it.as_bytes()[..it.len().saturating_sub(1)].to_vec()),
    ),
    Oddity("more behind it", Change::Text(|it| format!("{it}x").into_bytes())),
    Oddity("two of them", Change::Text(|it| format!("{it}\n{it}").into_bytes())),
    Oddity("a comma at the end", Change::Text(|it| it.replacen("]", ",]", 1).into_bytes())),
    Oddity("a comment", Change::Text(|it| it.replacen('{', "{/* c */", 1).into_bytes())),
    Oddity("single quotes", Change::Text(|it| it.replace('"', "'").into_bytes())),
    Oddity(
        "bytes that are no text",
        Change::Text(|it| {
            it.replacen("\"name\":\"", "\"name\":\"@", 1)
                .bytes()
                .map(|byte| if byte == b'@' { 0xff } else { byte })
                .collect()
        }),
    ),
    Oddity(
        "letters in UTF-16",
        Change::Text(|it| it.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ),
    // Protobuf.
    Oddity("no message", Change::Bytes(|_| Vec::new())),
    Oddity("half of a message", Change::Bytes(|it| it[..it.len() / 2].to_vec())),
    Oddity(
        "all of a message but a byte",
        Change::Bytes(|it| it[..it.len().saturating_sub(1)].to_vec()),
    ),
    Oddity("JSON in place of a message", Change::Bytes(|_| b"{\"resourceSpans\":[]}".to_vec())),
    Oddity("text in place of a message", Change::Bytes(|_| b"hello".to_vec())),
    Oddity("the message twice", Change::Bytes(|it| it.repeat(2))),
    Oddity(
        "a message of 5 MiB",
        Change::Bytes(|mut it| {
            // An unknown field of that length.
            it.extend([0xfa, 0x01, 0x80, 0x80, 0xc0, 0x02]);
            it.extend(vec![b'x'; 5 << 20]);
            it
        }),
    ),
    Oddity("an unknown number", Change::Written(Level::Request, &[0xf8, 0x01, 5])),
    Oddity("an unknown message", Change::Written(Level::Span, &[0xfa, 0x01, 2, 8, 1])),
    Oddity("an unknown fixed32", Change::Written(Level::Span, &[0xfd, 0x01, 1, 2, 3, 4])),
    Oddity(
        "an unknown fixed64",
        Change::Written(Level::Scope, &[0xf9, 0x01, 1, 2, 3, 4, 5, 6, 7, 8]),
    ),
    Oddity("an unknown group", Change::Written(Level::Span, &[0xfb, 0x01, 8, 1, 0xfc, 0x01])),
    Oddity("a group that is not closed", Change::Written(Level::Span, &[0xfb, 0x01, 8, 1])),
    Oddity("the end of a group alone", Change::Written(Level::Span, &[0xfc, 0x01])),
    Oddity("the field zero", Change::Written(Level::Span, &[0x00, 1])),
    Oddity("an unknown wire type", Change::Written(Level::Span, &[0xff, 0x01, 1])),
    Oddity("a name that is a number", Change::Written(Level::Span, &[0x28, 5])),
    Oddity("a kind that is a message", Change::Written(Level::Span, &[0x32, 1, 5])),
    Oddity("times that are numbers", Change::Written(Level::Span, &[0x38, 5])),
    Oddity("a length beyond the end", Change::Written(Level::Span, &[0x2a, 0x7f, b'x'])),
    Oddity(
        "a huge length",
        Change::Written(Level::Span, &[0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
    ),
    Oddity(
        "a number without an end",
        Change::Written(
            Level::Span,
            &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ),
    ),
    Oddity(
        "a kind of 64 bits",
        Change::Written(Level::Span, &[0x30, 0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
    ),
    Oddity(
        "a number longer than it needs to be",
        Change::Written(Level::Span, &[0x30, 0x82, 0x80, 0x80, 0x00]),
    ),
    Oddity("a name that is no text", Change::Written(Level::Span, &[0x2a, 2, 0xff, 0xfe])),
    Oddity("a name again", Change::Written(Level::Span, &[0x2a, 5, b'a', b'g', b'a', b'i', b'n'])),
    Oddity("a status again", Change::Written(Level::Span, &[0x7a, 2, 0x18, 2])),
    Oddity("a trace id again", Change::Written(Level::Span, &[0x0a, 0])),
    Oddity("a resource again", Change::Written(Level::Resource, &[0x0a, 2, 0x10, 7])),
    Oddity(
        "a span of old libraries",
        Change::Written(
            Level::Resource,
            &[
                0xc2, 0x3e, 30, 0x12, 28, 0x0a, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                15, 16, 0x12, 8, 1, 2, 3, 4, 5, 6, 7, 8,
            ],
        ),
    ),
];

/// Writes protobuf, with more at the end of its first messages.
pub(super) fn protobuf(
    request: &Request,
    changes: impl Iterator<Item = Change> + Clone,
) -> Vec<u8> {
    let more = |wanted: Level| -> Vec<u8> {
        let written = changes.clone().filter_map(|change| match change {
            Change::Written(level, bytes) if level == wanted => Some(bytes),
            _ => None,
        });
        written.flatten().copied().collect()
    };
    // The first of each is written last, each with its tag and its length before it.
    let mut request = request.clone();
    let mut bytes = Vec::new();
    if !request.resource_spans.is_empty() {
        let mut resource = request.resource_spans.remove(0);
        let mut inner = Vec::new();
        if !resource.scope_spans.is_empty() {
            let mut scope = resource.scope_spans.remove(0);
            let mut inmost = Vec::new();
            if !scope.spans.is_empty() {
                let span = [scope.spans.remove(0).encode_to_vec(), more(Level::Span)].concat();
                inmost = field(2, &span);
            }
            inner = field(2, &[scope.encode_to_vec(), inmost, more(Level::Scope)].concat());
        }
        bytes = field(1, &[resource.encode_to_vec(), inner, more(Level::Resource)].concat());
    }
    bytes = [request.encode_to_vec(), bytes, more(Level::Request)].concat();
    for change in changes {
        if let Change::Bytes(change) = change {
            bytes = change(bytes);
        }
    }
    bytes
}

/// A field of a message that has a length.
fn field(number: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(message.len() as u64, &mut bytes);
    bytes.extend(message);
    bytes
}
