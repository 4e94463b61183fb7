//! Settings of one action.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::settings::Diagnostics;

/// A change of attributes.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Action {
    /// The attribute's key. With `delete`, `pattern` may stand for it.
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
    /// With `extract`: a regular expression whose named groups become attributes. With `delete`: which keys.
    #[serde(default)]
    pattern: Option<String>,
    /// With `convert`: the new type.
    #[serde(default)]
    pub(super) converted_type: Option<Type>,
    #[serde(skip)]
    pub(super) compiled: Option<regex::Regex>,
}

/// Kind of an action on an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
    /// Makes attributes of parts of its text.
    Extract,
    /// Changes its type.
    Convert,
}

/// A type to convert to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Type {
    Int,
    Double,
    String,
}

/// A value to set, of the type that it has in the YAML.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
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

impl Action {
    /// Makes the pattern ready; a wrong one was reported by [`check`].
    pub(crate) fn compile(&mut self) {
        self.compiled = self.pattern.as_deref().and_then(|pattern| regex::Regex::new(pattern).ok());
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
        if action.key.is_empty() && !(action.action == Kind::Delete && action.pattern.is_some()) {
            wrong("has no `key`");
        }
        match action.action {
            Kind::Insert | Kind::Update | Kind::Upsert => {
                if action.value.is_some() == action.from_attribute.is_some() {
                    wrong("needs either `value` or `from_attribute`");
                }
            }
            Kind::Extract => {
                let named = action.pattern.as_deref().map(regex::Regex::new);
                match named {
                    Some(Ok(pattern)) if pattern.capture_names().flatten().next().is_some() => {}
                    Some(Ok(_)) => wrong("`pattern` has no named group, such as `(?P<name>.*)`"),
                    Some(Err(_)) => wrong("`pattern` is not a regular expression"),
                    None => wrong("needs a `pattern` with named groups"),
                }
            }
            Kind::Convert if action.converted_type.is_none() => wrong("needs a `converted_type`"),
            Kind::Delete
                if action
                    .pattern
                    .as_deref()
                    .is_some_and(|pattern| regex::Regex::new(pattern).is_err()) =>
            {
                wrong("`pattern` is not a regular expression");
            }
            Kind::Convert | Kind::Delete => {}
        }
        action.compile();
    }
}
