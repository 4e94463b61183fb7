//! Changing attributes, by a list of actions: what the processors `attributes` and `resource` share.
//!
//! Works on the bytes of a batch: what is not touched is copied as it is.

mod config;
mod context;

use std::borrow::Cow;

pub(crate) use config::{Action, Value, check};
use config::{Kind, Type};

use crate::sender::Sender;
use crate::trace_batch::AnyValue;
use crate::trace_batch::go_text::as_text;
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

/// Applies actions to the attributes of a message, which are its field `field`; the sender is known in front of stages that keep spans.
pub(crate) fn apply(
    actions: &[Action],
    message: &[u8],
    field: u32,
    sender: Option<&Sender>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut attributes = Vec::new();
    for (number, raw, value) in raw_fields(message) {
        match value {
            WireValue::Bytes(pair) if number == field => attributes.push(attribute(pair)),
            _ => out.extend_from_slice(raw),
        }
    }
    for action in actions {
        action.apply(&mut attributes, sender);
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
    fn apply(&self, attributes: &mut Vec<Attribute<'_>>, sender: Option<&Sender>) {
        let position = attributes.iter().position(|known| *known.key == *self.key.as_bytes());
        match self.action {
            Kind::Delete => attributes
                .retain(|known| *known.key != *self.key.as_bytes() && !self.matches(&known.key)),
            Kind::Hash => {
                for hashed in
                    attributes.iter_mut().filter(|known| *known.key == *self.key.as_bytes()).take(1)
                {
                    hashed.value = Cow::Owned(hash(&AnyValue::new(&hashed.value)));
                }
                // A key that the pattern has too is hashed again, as the Collector does.
                for hashed in attributes.iter_mut().filter(|known| self.matches(&known.key)) {
                    hashed.value = Cow::Owned(hash(&AnyValue::new(&hashed.value)));
                }
            }
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
                let Some(value) = self.new_value(attributes, sender) else { return };
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
        self.compiled
            .as_ref()
            .is_some_and(|pattern| pattern.is_match(&String::from_utf8_lossy(key)))
    }

    /// The value to set: the config's, what a request says of its sender, or that of another attribute, if it is there.
    fn new_value(&self, attributes: &[Attribute<'_>], sender: Option<&Sender>) -> Option<Vec<u8>> {
        let value = match (&self.from_context, &self.from_attribute) {
            (Some(from), _) => {
                let found = sender.and_then(|sender| from.of(sender));
                found.map(|text| encode(&Value::Text(text)))
            }
            (None, Some(from)) => {
                let found = attributes.iter().find(|known| *known.key == *from.as_bytes());
                found.map(|attribute| attribute.value.to_vec())
            }
            (None, None) => self.value.as_ref().map(encode),
        };
        value.or_else(|| self.default_value.as_ref().map(encode))
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
            // A group that has no part in the match is empty, as in Go.
            let found = captures.name(name).map_or("", |found| found.as_str());
            let value = Cow::Owned(encode(&Value::Text(found.into())));
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

/// The SHA-256 of a value in hexadecimal, of the bytes that the Collector takes: text as it is, numbers in little endian. Other
/// values become empty.
fn hash(value: &AnyValue<'_>) -> Vec<u8> {
    let digest = |bytes: &[u8]| -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let hashed = match value {
        AnyValue::String(text) => digest(text),
        AnyValue::Bool(value) => digest(&[u8::from(*value)]),
        AnyValue::Int(value) => digest(&value.to_le_bytes()),
        AnyValue::Double(value) => digest(&value.to_le_bytes()),
        _ => String::new(),
    };
    encode(&Value::Text(hashed))
}

/// A float as Go's `strconv.ParseFloat` reads it, but for hexadecimal ones: none that is too large, and no sign in front of `nan`.
fn parse_float(text: &str) -> Option<f64> {
    let float: f64 = text.parse().ok()?;
    let has_digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let is_right = match () {
        () if float.is_nan() => text.len() == 3,
        () => !(float.is_infinite() && has_digits),
    };
    is_right.then_some(float)
}

/// The value in another type; none where it has no such form.
fn convert(value: &AnyValue<'_>, to: Type) -> Option<Vec<u8>> {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let converted = match (value, to) {
        (AnyValue::String(_), Type::String) => return None,
        (value, Type::String) => Value::Text(text(&as_text(value))),
        (AnyValue::Int(value), Type::Double) => Value::Double(*value as f64),
        (AnyValue::Double(value), Type::Int) => Value::Int(*value as i64),
        (AnyValue::Bool(value), Type::Int) => Value::Int((*value).into()),
        (AnyValue::Bool(value), Type::Double) => Value::Double(f64::from(u8::from(*value))),
        (AnyValue::String(value), Type::Int) => Value::Int(text(value).parse().ok()?),
        (AnyValue::String(value), Type::Double) => Value::Double(parse_float(&text(value))?),
        _ => return None,
    };
    Some(encode(&converted))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Action, OF_SPAN, apply};
    use crate::sender::{Context, Peer, Sender};
    use crate::settings::Purpose;
    use crate::settings::decode::decode;
    use crate::settings::node::Node;
    use crate::trace_batch::TraceBatch;

    fn changed(actions: &str) -> Vec<String> {
        changed_of(actions, None)
    }

    fn changed_of(actions: &str, sender: Option<&Sender>) -> Vec<String> {
        let mut actions: Vec<Action> =
            decode(&Node::parse("test", actions).unwrap(), Purpose::Run).unwrap();
        for action in &mut actions {
            action.compile();
        }
        let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"n","attributes":[{"key":"a","value":{"stringValue":"GET /x"}},{"key":"n","value":{"stringValue":"42"}}]}]}]}]}"#;
        let batch = TraceBatch::from_json(json.as_bytes()).unwrap();
        let batch = batch.map_spans(|span| apply(&actions, span, OF_SPAN, sender));
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
        assert_eq!(
            changed("[{key: a, pattern: '^(?P<m>\\w+)(?P<none>!)?', action: extract}]"),
            [A, N, "m=String([71, 69, 84])", "none=String([])"]
        );
        assert_eq!(changed("[{key: n, converted_type: int, action: convert}]"), [A, "n=Int(42)"]);
        assert_eq!(changed("[{key: a, converted_type: int, action: convert}]"), [A, N]);
    }

    #[test]
    fn a_default_is_set_where_there_is_nothing_else() {
        let upsert = |from: &str| {
            changed(&format!(
                "[{{key: b, from_attribute: {from}, default_value: 7, action: upsert}}]"
            ))
        };
        assert_eq!(upsert("n"), [A, N, "b=String([52, 50])"]);
        assert_eq!(upsert("no"), [A, N, "b=Int(7)"]);
    }

    #[test]
    fn what_a_request_says_of_its_sender_becomes_an_attribute() {
        let mut metadata = http::HeaderMap::new();
        for (name, value) in [("x-tenant", "a"), ("x-tenant", "b"), ("host", "collector:4318")] {
            metadata.append(name, value.parse().unwrap());
        }
        let context = Context { metadata: Some(metadata), user: Some("shop".into()) };
        let sender = Sender::new(Peer::of([10, 1, 2, 3].into()));
        let sender = Sender { context: Some(Arc::new(context)), ..sender };
        let of = |from: &str, sender: Option<&Sender>| {
            let action =
                format!("[{{key: a, from_context: {from}, action: upsert, default_value: none}}]");
            let changed = changed_of(&action, sender);
            let bytes = changed[0].trim_start_matches("a=String([").trim_end_matches("])");
            let bytes = bytes.split(", ").map(|byte| byte.parse::<u8>().unwrap()).collect();
            String::from_utf8(bytes).unwrap()
        };
        for (from, expected) in [
            ("metadata.X-Tenant", "a;b"),
            ("x-tenant", "a;b"),
            ("metadata.host", "collector:4318"),
            ("client.address", "10.1.2.3"),
            ("auth.username", "shop"),
            ("metadata.x-other", "none"),
        ] {
            assert_eq!(of(from, Some(&sender)), expected, "{from}");
            assert_eq!(of(from, None), "none", "{from}: behind a stage that keeps spans");
        }
        let unknown = Sender::new(Peer::UNKNOWN);
        assert_eq!(of("client.address", Some(&unknown)), "none");
    }

    #[test]
    fn attributes_are_hashed_as_the_collector_hashes_them() {
        let hashed = |value: &str| {
            let changed = changed(&format!(
                "[{{key: b, value: {value}, action: insert}}, {{key: b, action: HASH}}]"
            ));
            let text = changed[2].trim_start_matches("b=String([").trim_end_matches("])");
            text.split(", ")
                .filter_map(|byte| byte.parse::<u8>().ok())
                .map(char::from)
                .collect::<String>()
        };
        // As the SHA-256 of these bytes is known.
        assert_eq!(
            hashed("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hashed("true"),
            "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"
        );
        assert_eq!(hashed("0"), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
        assert_eq!(hashed("1"), hashed("4.9406564584124654e-324"), "by its bits");
        assert_eq!(
            hashed("''"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let twice = "[{key: a, action: hash}, {key: a, action: hash}]";
        assert_eq!(changed("[{key: a, pattern: a, action: hash}]"), changed(twice));
        assert_ne!(changed("[{pattern: '^(a|n)$', action: hash}]")[1], N);
        assert_eq!(changed("[{key: no, action: hash}]"), [A, N]);
    }
}
