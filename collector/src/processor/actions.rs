//! Changing attributes, by a list of actions: what the processors `attributes` and `resource` share.
//!
//! Works on the bytes of a batch: what is not touched is copied as it is.

mod config;

use std::borrow::Cow;

pub(crate) use config::{Action, check};
use config::{Kind, Type, Value};

use crate::trace_batch::AnyValue;
use crate::trace_batch::wire::{
    Value as WireValue, put_bytes, put_key, put_message, put_varint, raw_fields,
};

/// Field numbers of the attributes in a span's and in a resource's message.
pub(crate) const OF_SPAN: u32 = 9;
pub(crate) const OF_RESOURCE: u32 = 1;

/// An attribute, as its `KeyValue` message or as what is to become one.
struct Attribute<'a> {
    key: Cow<'a, [u8]>,
    /// An `AnyValue` message.
    value: Cow<'a, [u8]>,
}

/// Applies actions to the attributes of a message, which are its field `field`.
pub(crate) fn apply(actions: &[Action], message: &[u8], field: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut attributes = Vec::new();
    for (number, raw, value) in raw_fields(message) {
        match value {
            WireValue::Bytes(pair) if number == field => attributes.push(attribute(pair)),
            _ => out.extend_from_slice(raw),
        }
    }
    for action in actions {
        action.apply(&mut attributes);
    }
    for attribute in &attributes {
        put_message(&mut out, field, |out| {
            put_bytes(out, 1, &attribute.key);
            put_bytes(out, 2, &attribute.value);
        });
    }
    out
}

fn attribute(pair: &[u8]) -> Attribute<'_> {
    let mut attribute = Attribute { key: Cow::Borrowed(b""), value: Cow::Borrowed(b"") };
    for (number, _, value) in raw_fields(pair) {
        match (number, value) {
            (1, WireValue::Bytes(key)) => attribute.key = Cow::Borrowed(key),
            (2, WireValue::Bytes(value)) => attribute.value = Cow::Borrowed(value),
            _ => {}
        }
    }
    attribute
}

impl Action {
    fn apply(&self, attributes: &mut Vec<Attribute<'_>>) {
        let position = attributes.iter().position(|known| *known.key == *self.key.as_bytes());
        match self.action {
            Kind::Delete => attributes
                .retain(|known| *known.key != *self.key.as_bytes() && !self.matches(&known.key)),
            Kind::Extract => {
                if let Some(position) = position {
                    self.extract(position, attributes);
                }
            }
            Kind::Convert => {
                if let (Some(position), Some(to)) = (position, self.converted_type) {
                    let attribute = &mut attributes[position];
                    if let Some(value) = convert(&AnyValue::new(&attribute.value), to) {
                        attribute.value = Cow::Owned(value);
                    }
                }
            }
            Kind::Insert | Kind::Update | Kind::Upsert => {
                let Some(value) = self.new_value(attributes) else { return };
                match position {
                    Some(position) if self.action != Kind::Insert => {
                        attributes[position].value = Cow::Owned(value);
                    }
                    None if self.action != Kind::Update => attributes.push(Attribute {
                        key: Cow::Owned(self.key.clone().into_bytes()),
                        value: Cow::Owned(value),
                    }),
                    _ => {}
                }
            }
        }
    }

    fn matches(&self, key: &[u8]) -> bool {
        let pattern = if self.action == Kind::Delete { self.compiled.as_ref() } else { None };
        pattern.is_some_and(|pattern| pattern.is_match(&String::from_utf8_lossy(key)))
    }

    /// The value to set: the config's, or that of another attribute, if it is there.
    fn new_value(&self, attributes: &[Attribute<'_>]) -> Option<Vec<u8>> {
        match &self.from_attribute {
            Some(from) => {
                let found = attributes.iter().find(|known| *known.key == *from.as_bytes());
                found.map(|attribute| attribute.value.to_vec())
            }
            None => self.value.as_ref().map(encode),
        }
    }

    /// Sets an attribute for each named group of the pattern that matches the value.
    fn extract(&self, position: usize, attributes: &mut Vec<Attribute<'_>>) {
        let (Some(pattern), AnyValue::String(text)) =
            (&self.compiled, AnyValue::new(&attributes[position].value))
        else {
            return;
        };
        let text = String::from_utf8_lossy(text).into_owned();
        let Some(captures) = pattern.captures(&text) else { return };
        for name in pattern.capture_names().flatten() {
            let Some(found) = captures.name(name) else { continue };
            let value = Cow::Owned(encode(&Value::Text(found.as_str().into())));
            match attributes.iter_mut().find(|known| *known.key == *name.as_bytes()) {
                Some(known) => known.value = value,
                None => {
                    attributes.push(Attribute { key: Cow::Owned(name.as_bytes().to_vec()), value })
                }
            }
        }
    }
}

/// Writes an `AnyValue` message.
fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Text(text) => put_bytes(&mut out, 1, text.as_bytes()),
        Value::Bool(value) => {
            put_key(&mut out, 2, 0);
            put_varint(&mut out, (*value).into());
        }
        Value::Int(value) => {
            put_key(&mut out, 3, 0);
            put_varint(&mut out, *value as u64);
        }
        Value::Double(value) => {
            put_key(&mut out, 4, 1);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    out
}

/// The value in another type; none where it has no such form.
fn convert(value: &AnyValue<'_>, to: Type) -> Option<Vec<u8>> {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let converted = match (value, to) {
        (AnyValue::Int(value), Type::Double) => Value::Double(*value as f64),
        (AnyValue::Int(value), Type::String) => Value::Text(value.to_string()),
        (AnyValue::Double(value), Type::Int) => Value::Int(*value as i64),
        (AnyValue::Double(value), Type::String) => Value::Text(value.to_string()),
        (AnyValue::Bool(value), Type::Int) => Value::Int((*value).into()),
        (AnyValue::Bool(value), Type::Double) => Value::Double(f64::from(u8::from(*value))),
        (AnyValue::Bool(value), Type::String) => Value::Text(value.to_string()),
        (AnyValue::String(value), Type::Int) => Value::Int(text(value).parse().ok()?),
        (AnyValue::String(value), Type::Double) => Value::Double(text(value).parse().ok()?),
        _ => return None,
    };
    Some(encode(&converted))
}

#[cfg(test)]
mod tests {
    use super::{Action, OF_SPAN, apply};
    use crate::settings::Purpose;
    use crate::settings::decode::decode;
    use crate::settings::node::Node;
    use crate::trace_batch::TraceBatch;

    fn changed(actions: &str) -> Vec<String> {
        let mut actions: Vec<Action> =
            decode(&Node::parse("test", actions).unwrap(), Purpose::Run).unwrap();
        for action in &mut actions {
            action.compile();
        }
        let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"n","attributes":[{"key":"a","value":{"stringValue":"GET /x"}},{"key":"n","value":{"stringValue":"42"}}]}]}]}]}"#;
        let batch = TraceBatch::from_json(json.as_bytes()).unwrap();
        let batch = batch.map_spans(|span| apply(&actions, span, OF_SPAN));
        let batch = TraceBatch::from_protobuf(batch.to_protobuf().into()).unwrap();
        let resource = batch.resources().next().unwrap();
        let (_, span) = resource.spans().next().unwrap();
        assert_eq!(span.name, b"n");
        let pair = |(key, value): (&[u8], _)| format!("{}={value:?}", String::from_utf8_lossy(key));
        span.attributes().iter().map(pair).collect()
    }

    const A: &str = "a=String([71, 69, 84, 32, 47, 120])";
    const N: &str = "n=String([52, 50])";

    #[test]
    fn attributes_are_inserted_updated_and_deleted() {
        assert_eq!(changed("[{key: b, value: 1, action: insert}]"), [A, N, "b=Int(1)"]);
        assert_eq!(changed("[{key: a, value: 1, action: insert}]"), [A, N]);
        assert_eq!(changed("[{key: a, value: 1.5, action: update}]"), ["a=Double(1.5)", N]);
        assert_eq!(changed("[{key: b, value: 1, action: update}]"), [A, N]);
        assert_eq!(
            changed("[{key: a, value: true, action: upsert}, {key: b, value: x, action: upsert}]"),
            ["a=Bool(true)", N, "b=String([120])"]
        );
        assert_eq!(
            changed(
                "[{key: b, from_attribute: n, action: upsert}, {key: c, from_attribute: no, action: upsert}]"
            ),
            [A, N, "b=String([52, 50])"]
        );
        assert_eq!(changed("[{key: a, action: delete}]"), [N]);
        assert_eq!(changed("[{pattern: '^(a|n)$', action: delete}]"), [""; 0]);
    }

    #[test]
    fn attributes_are_extracted_and_converted() {
        assert_eq!(
            changed("[{key: a, pattern: '^(?P<m>\\w+) ', action: extract}]"),
            [A, N, "m=String([71, 69, 84])"]
        );
        assert_eq!(changed("[{key: n, converted_type: int, action: convert}]"), [A, "n=Int(42)"]);
        assert_eq!(changed("[{key: a, converted_type: int, action: convert}]"), [A, N]);
    }
}
