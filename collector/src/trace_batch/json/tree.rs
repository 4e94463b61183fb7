//! The plain way: the whole request as a tree of values, then its fields by name. The oracle of the tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::trace_batch::wire::{
    put_bytes, put_fixed32, put_fixed64, put_key, put_message, put_uint, put_varint,
};

type Written = Result<(), String>;

/// Rewrites an `ExportTraceServiceRequest` from JSON to protobuf.
pub(super) fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, String> {
    let root: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let root = Node { value: &root, at: At::Root };
    let mut out = Vec::with_capacity(json.len() / 2);
    let object = root.object()?;
    object.each("resourceSpans", |resource_spans| {
        message(&mut out, 1, |out| {
            let object = resource_spans.object()?;
            if let Some(resource) = object.get("resource") {
                message(out, 1, |out| {
                    let resource = resource.object()?;
                    resource.attributes(out, 1)?;
                    resource.uint(out, 2, "droppedAttributesCount")?;
                    resource.each("entityRefs", |entity| {
                        message(out, 3, |out| {
                            let entity = entity.object()?;
                            entity.text(out, 1, "schemaUrl")?;
                            entity.text(out, 2, "type")?;
                            entity.texts(out, 3, "idKeys")?;
                            entity.texts(out, 4, "descriptionKeys")
                        })
                    })
                })?;
            }
            object
                .each("scopeSpans", |scope_spans| message(out, 2, |out| scope(out, scope_spans)))?;
            object.text(out, 3, "schemaUrl")
        })
    })?;
    Ok(out)
}

fn scope(out: &mut Vec<u8>, node: Node<'_>) -> Written {
    let object = node.object()?;
    if let Some(scope) = object.get("scope") {
        message(out, 1, |out| {
            let scope = scope.object()?;
            scope.text(out, 1, "name")?;
            scope.text(out, 2, "version")?;
            scope.attributes(out, 3)?;
            scope.uint(out, 4, "droppedAttributesCount")
        })?;
    }
    object.each("spans", |node| message(out, 2, |out| span(out, &node.object()?)))?;
    object.text(out, 3, "schemaUrl")
}

fn span(out: &mut Vec<u8>, span: &Object<'_>) -> Written {
    const KINDS: [&str; 6] = [
        "SPAN_KIND_UNSPECIFIED",
        "SPAN_KIND_INTERNAL",
        "SPAN_KIND_SERVER",
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_PRODUCER",
        "SPAN_KIND_CONSUMER",
    ];
    const CODES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
    span.id(out, 1, "traceId")?;
    span.id(out, 2, "spanId")?;
    span.text(out, 3, "traceState")?;
    span.id(out, 4, "parentSpanId")?;
    span.text(out, 5, "name")?;
    span.enumeration(out, 6, "kind", &KINDS)?;
    span.fixed64(out, 7, "startTimeUnixNano")?;
    span.fixed64(out, 8, "endTimeUnixNano")?;
    span.attributes(out, 9)?;
    span.uint(out, 10, "droppedAttributesCount")?;
    span.each("events", |event| {
        message(out, 11, |out| {
            let event = event.object()?;
            event.fixed64(out, 1, "timeUnixNano")?;
            event.text(out, 2, "name")?;
            event.attributes(out, 3)?;
            event.uint(out, 4, "droppedAttributesCount")
        })
    })?;
    span.uint(out, 12, "droppedEventsCount")?;
    span.each("links", |link| {
        message(out, 13, |out| {
            let link = link.object()?;
            link.id(out, 1, "traceId")?;
            link.id(out, 2, "spanId")?;
            link.text(out, 3, "traceState")?;
            link.attributes(out, 4)?;
            link.uint(out, 5, "droppedAttributesCount")?;
            link.fixed32(out, 6, "flags")
        })
    })?;
    span.uint(out, 14, "droppedLinksCount")?;
    if let Some(status) = span.get("status") {
        message(out, 15, |out| {
            let status = status.object()?;
            status.text(out, 2, "message")?;
            status.enumeration(out, 3, "code", &CODES)
        })?;
    }
    span.fixed32(out, 16, "flags")
}

fn key_value(out: &mut Vec<u8>, pair: &Object<'_>) -> Written {
    pair.text(out, 1, "key")?;
    if let Some(value) = pair.get("value") {
        message(out, 2, |out| any_value(out, &value.object()?))?;
    }
    Ok(())
}

fn any_value(out: &mut Vec<u8>, value: &Object<'_>) -> Written {
    if let Some(text) = value.get("stringValue") {
        put_bytes(out, 1, text.str()?.as_bytes());
    } else if let Some(boolean) = value.get("boolValue") {
        let boolean = boolean.value.as_bool().ok_or_else(|| boolean.wrong("is not a boolean"))?;
        put_key(out, 2, 0);
        put_varint(out, boolean.into());
    } else if let Some(int) = value.get("intValue") {
        put_key(out, 3, 0);
        put_varint(out, int.i64()? as u64);
    } else if let Some(double) = value.get("doubleValue") {
        put_key(out, 4, 1);
        out.extend_from_slice(&double.f64()?.to_le_bytes());
    } else if let Some(array) = value.get("arrayValue") {
        message(out, 5, |out| {
            array
                .object()?
                .each("values", |value| message(out, 1, |out| any_value(out, &value.object()?)))
        })?;
    } else if let Some(map) = value.get("kvlistValue") {
        message(out, 6, |out| {
            map.object()?
                .each("values", |pair| message(out, 1, |out| key_value(out, &pair.object()?)))
        })?;
    } else if let Some(bytes) = value.get("bytesValue") {
        let decoded = STANDARD.decode(bytes.str()?).map_err(|_| bytes.wrong("is not base64"))?;
        put_bytes(out, 7, &decoded);
    }
    Ok(())
}

fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>) -> Written) -> Written {
    let mut written = Ok(());
    put_message(out, field, |out| written = write(out));
    written
}

/// A value and where it stands, for messages.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    at: At<'a>,
}

#[derive(Clone, Copy)]
enum At<'a> {
    Root,
    Field(&'a At<'a>, &'static str),
    Element(&'a At<'a>, &'static str, usize),
}

impl At<'_> {
    fn path(&self) -> String {
        match self {
            Self::Root => "$".into(),
            Self::Field(parent, name) => format!("{}.{name}", parent.path()),
            Self::Element(parent, name, index) => format!("{}.{name}[{index}]", parent.path()),
        }
    }
}

struct Object<'a> {
    fields: &'a Map<String, Value>,
    at: At<'a>,
}

impl<'a> Node<'a> {
    fn wrong(&self, problem: &str) -> String {
        format!("`{}` {problem}", self.at.path())
    }

    fn object(&self) -> Result<Object<'a>, String> {
        match self.value {
            Value::Object(fields) => Ok(Object { fields, at: self.at }),
            _ => Err(self.wrong("is not an object")),
        }
    }

    fn str(&self) -> Result<&'a str, String> {
        self.value.as_str().ok_or_else(|| self.wrong("is not a string"))
    }

    fn u64(&self) -> Result<u64, String> {
        let number = match self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong("is not an unsigned integer, or a string of one"))
    }

    fn u32(&self) -> Result<u32, String> {
        u32::try_from(self.u64()?).map_err(|_| self.wrong("is more than 32 bits"))
    }

    fn i64(&self) -> Result<i64, String> {
        let number = match self.value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong("is not an integer, or a string of one"))
    }

    fn f64(&self) -> Result<f64, String> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            // `NaN`, `Infinity` and `-Infinity` are strings in protobuf's JSON; Rust reads them alike.
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong("is not a number"))
    }
}

impl<'a> Object<'a> {
    /// The field, unless it is absent or null; by its camelCase or its snake_case name.
    fn get(&'a self, name: &'static str) -> Option<Node<'a>> {
        let value = self.fields.get(name).or_else(|| {
            let snake = name.chars().fold(String::new(), |mut snake, letter| {
                if letter.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
                snake
            });
            if snake == name { None } else { self.fields.get(&snake) }
        })?;
        (!value.is_null()).then_some(Node { value, at: At::Field(&self.at, name) })
    }

    fn each(&'a self, name: &'static str, mut visit: impl FnMut(Node<'_>) -> Written) -> Written {
        let Some(node) = self.get(name) else { return Ok(()) };
        let elements = node.value.as_array().ok_or_else(|| node.wrong("is not an array"))?;
        for (index, value) in elements.iter().enumerate() {
            visit(Node { value, at: At::Element(&self.at, name, index) })?;
        }
        Ok(())
    }

    fn attributes(&'a self, out: &mut Vec<u8>, field: u32) -> Written {
        self.each("attributes", |pair| message(out, field, |out| key_value(out, &pair.object()?)))
    }

    fn text(&'a self, out: &mut Vec<u8>, field: u32, name: &'static str) -> Written {
        if let Some(node) = self.get(name) {
            let text = node.str()?;
            if !text.is_empty() {
                put_bytes(out, field, text.as_bytes());
            }
        }
        Ok(())
    }

    fn texts(&'a self, out: &mut Vec<u8>, field: u32, name: &'static str) -> Written {
        self.each(name, |text| {
            put_bytes(out, field, text.str()?.as_bytes());
            Ok(())
        })
    }

    fn id(&'a self, out: &mut Vec<u8>, field: u32, name: &'static str) -> Written {
        if let Some(node) = self.get(name) {
            let digits = node.str()?.as_bytes();
            let digit = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
            let id: Option<Vec<u8>> = (digits.chunks(2))
                .map(|pair| match pair {
                    [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                    _ => None,
                })
                .collect();
            let id = id.ok_or_else(|| node.wrong("is not an id in hexadecimal digits"))?;
            if !id.is_empty() {
                put_bytes(out, field, &id);
            }
        }
        Ok(())
    }

    fn uint(&'a self, out: &mut Vec<u8>, field: u32, name: &'static str) -> Written {
        if let Some(node) = self.get(name) {
            put_uint(out, field, node.u32()?.into());
        }
        Ok(())
    }

    fn fixed64(&'a self, out: &mut Vec<u8>, field: u32, name: &'static str) -> Written {
        if let Some(node) = self.get(name) {
            put_fixed64(out, field, node.u64()?);
        }
        Ok(())
    }

    fn fixed32(&'a self, out: &mut Vec<u8>, field: u32, name: &'static str) -> Written {
        if let Some(node) = self.get(name) {
            put_fixed32(out, field, node.u32()?);
        }
        Ok(())
    }

    fn enumeration(
        &'a self,
        out: &mut Vec<u8>,
        field: u32,
        name: &'static str,
        names: &[&str],
    ) -> Written {
        let Some(node) = self.get(name) else { return Ok(()) };
        let by_name = (node.value.as_str())
            .and_then(|text| names.iter().position(|name| *name == text))
            .map(|position| position as i64);
        let number = by_name.map_or_else(|| node.i64(), Ok)?;
        // A negative enum value is ten bytes on the wire, as protobuf sign-extends it.
        put_uint(out, field, i64::from(number as i32) as u64);
        Ok(())
    }
}
