//! Settings of one action.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::context::{self, FromContext};
use crate::settings::Diagnostics;
use crate::settings::pattern;
use crate::trace_batch::AnyValue;

/// A change of attributes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Action {
    /// The attribute's key. With `delete` and `hash`, `pattern` may stand for it.
    #[serde(default)]
    pub(super) key: String,
    /// The kind of action.
    pub(super) action: Kind,
    /// The value to set.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub(super) value: Option<Value>,
    /// The attribute whose value is set, instead of `value`.
    #[serde(default)]
    pub(super) from_attribute: Option<String>,
    /// With `insert`, `update` and `upsert`: what is set where there is no `value`, nor the attribute of `from_attribute`.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub(super) default_value: Option<Value>,
    /// The part of the request that is set, instead of `value`: `metadata.NAME`, a header of HTTP or metadata of gRPC, with a receiver that has
    /// `include_metadata`; `client.address`; or `auth.username`, with one that authenticates by `basicauth`. Nothing is known of
    /// requests behind `batch`, `groupbytrace` and `tail_sampling`.
    #[serde(default, deserialize_with = "context::deserialize")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) from_context: Option<FromContext>,
    /// With `extract`: a regular expression whose named groups become attributes. With `delete` and `hash`: which keys, beside `key`.
    #[serde(default)]
    pattern: Option<String>,
    /// With `convert`: the new type.
    #[serde(default, deserialize_with = "type_or_nothing")]
    #[cfg_attr(test, schemars(with = "Option<Type>"))]
    pub(super) converted_type: Option<Type>,
    #[serde(skip)]
    pub(super) compiled: Option<regex::Regex>,
}

/// Kind of an action on an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Sets it if it is not there.
    Insert,
    /// Sets it if it is there.
    Update,
    /// Sets it.
    Upsert,
    /// Takes it away.
    Delete,
    /// Replaces it by its SHA-256 in hexadecimal.
    Hash,
    /// Makes attributes of parts of its text.
    Extract,
    /// Changes its type.
    Convert,
}

/// A type to convert to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Type {
    Int,
    Double,
    String,
}

/// A value to set, of the type that it has in the YAML.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl Value {
    /// Returns whether an attribute's value is this, of the same type.
    pub(crate) fn is(&self, value: &AnyValue<'_>) -> bool {
        match (self, value) {
            (Self::Text(text), AnyValue::String(found)) => text.as_bytes() == *found,
            (Self::Bool(value), AnyValue::Bool(found)) => value == found,
            (Self::Int(value), AnyValue::Int(found)) => value == found,
            (Self::Double(value), AnyValue::Double(found)) => value == found,
            _ => false,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.serialize_str(text),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Int(value) => to.serialize_i64(*value),
            Self::Double(value) => to.serialize_f64(*value),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = Value;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("text, a number or a boolean")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.into()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Double(value))
            }
        }

        from.deserialize_any(Any)
    }
}

/// Reads a type; empty text is none.
fn type_or_nothing<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Type>, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Named {
        Int,
        Double,
        String,
        #[serde(rename = "")]
        None,
    }
    Ok(Option::<Named>::deserialize(from)?.and_then(|named| match named {
        Named::Int => Some(Type::Int),
        Named::Double => Some(Type::Double),
        Named::String => Some(Type::String),
        Named::None => None,
    }))
}

impl Action {
    /// Returns whether it needs what only requests themselves say, which receivers keep with `include_metadata`.
    pub(crate) fn needs_metadata(&self) -> bool {
        matches!(self.from_context, Some(FromContext::Metadata(_)))
    }

    /// Returns whether it needs to know the request that spans came with.
    pub(crate) fn needs_request(&self) -> bool {
        self.from_context.is_some()
    }

    /// Makes the pattern ready; a wrong one was reported by [`check`].
    pub(crate) fn compile(&mut self) {
        self.compiled = self.pattern.as_deref().and_then(|pattern| pattern::compile(pattern).ok());
    }
}

/// Checks the actions at `key`, and makes them ready.
pub(crate) fn check(actions: &mut [Action], key: &str, diagnostics: &mut Diagnostics<'_>) {
    if actions.is_empty() {
        diagnostics.add(&[key], "is empty; name at least one action");
    }
    for (index, action) in actions.iter_mut().enumerate() {
        let index = index.to_string();
        let mut wrong = |problem: &str| diagnostics.add(&[key, &index], problem);
        if let Some(problem) = action.from_context.as_ref().and_then(FromContext::problem) {
            wrong(problem);
        }
        // The Collector prints what is not there as empty text.
        let is_empty = |text: &Option<String>| text.as_deref() == Some("");
        if is_empty(&action.from_attribute) {
            action.from_attribute = None;
        }
        if is_empty(&action.pattern) {
            action.pattern = None;
        }
        if action.key.is_empty()
            && !(matches!(action.action, Kind::Delete | Kind::Hash) && action.pattern.is_some())
        {
            wrong("has no `key`");
        }
        match action.action {
            Kind::Insert | Kind::Update | Kind::Upsert => {
                let sources = [
                    action.value.is_some(),
                    action.from_attribute.is_some(),
                    action.from_context.is_some(),
                ];
                match sources.iter().filter(|is_given| **is_given).count() {
                    0 if action.default_value.is_some() => {}
                    1 => {}
                    _ => wrong("needs one of `value`, `from_attribute` and `from_context`"),
                }
            }
            Kind::Extract => {
                let named = action.pattern.as_deref().map(pattern::compile);
                match named {
                    // The first is the whole match.
                    Some(Ok(pattern)) if pattern.captures_len() > 1 => {
                        if pattern.capture_names().skip(1).any(|name| name.is_none()) {
                            wrong(
                                "`pattern` has a group without a name; write `(?P<name>…)`, or `(?:…)` where none is meant",
                            );
                        }
                    }
                    Some(Ok(_)) => wrong("`pattern` has no named group, such as `(?P<name>.*)`"),
                    Some(Err(_)) => wrong("`pattern` is not a regular expression"),
                    None => wrong("needs a `pattern` with named groups"),
                }
            }
            Kind::Convert if action.converted_type.is_none() => wrong("needs a `converted_type`"),
            Kind::Delete | Kind::Hash
                if action
                    .pattern
                    .as_deref()
                    .is_some_and(|pattern| pattern::compile(pattern).is_err()) =>
            {
                wrong("`pattern` is not a regular expression");
            }
            Kind::Convert | Kind::Delete | Kind::Hash => {}
        }
        action.compile();
    }
}
