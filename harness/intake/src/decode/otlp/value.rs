//! Attributes and their values, as text and as JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};

use super::value_of;

/// Up to here every whole number has a double of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A list of attributes; of several with one key the last holds.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a [KeyValue]);

impl<'a> Attributes<'a> {
    /// Those that have a value.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.0.iter().filter_map(|pair| Some((pair.key.as_str(), value_of(pair)?)))
    }

    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        value_of(self.0.iter().rev().find(|pair| pair.key == key)?)
    }

    /// The first of the keys that is a string and not empty, else an empty text.
    pub(super) fn text(self, keys: &[&str]) -> String {
        let mut texts = keys.iter().filter_map(|key| match self.get(key)? {
            Value::StringValue(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        });
        texts.next().unwrap_or_default()
    }

    pub(super) fn integer(self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Value::IntValue(number) => Some(*number),
            _ => None,
        }
    }
}

/// A value as a tag's text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(is) => is.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BytesValue(bytes) => STANDARD.encode(bytes),
        Value::ArrayValue(_) | Value::KvlistValue(_) => json_of(value).to_string(),
        // An index into a table that only OTLP's profiles have.
        _ => String::new(),
    }
}

/// Attributes as a JSON object; one without a value is null.
fn json_object(attributes: &[KeyValue]) -> serde_json::Value {
    let pairs = attributes.iter();
    pairs.map(|pair| (pair.key.clone(), value_of(pair).map_or(().into(), json_of))).collect()
}

/// A value as JSON. A number that JSON has no word for becomes null.
pub(super) fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::BoolValue(is) => (*is).into(),
        Value::IntValue(number) => (*number).into(),
        // As Go writes it.
        Value::DoubleValue(number) if number.fract() == 0.0 && number.abs() < EXACT => {
            (*number as i64).into()
        }
        Value::DoubleValue(number) => (*number).into(),
        Value::ArrayValue(array) => {
            let elements = array.values.iter();
            elements.map(|element| element.value.as_ref().map(json_of)).collect()
        }
        Value::KvlistValue(list) => json_object(&list.values),
        other => text(other).into(),
    }
}
