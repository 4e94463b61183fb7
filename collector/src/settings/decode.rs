//! From a tree of [`Node`]s to config types, by serde; every error knows its path and its place.

use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::expand;
use super::node::{Key, Location, Node, Resolved, Scalar, Style, Value};
use super::purpose::Purpose;
use super::secret::SECRET;

/// Error for a part of a config that does not fit its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DecodeError {
    /// Keys from the decoded node down to the culprit, innermost first.
    path: Vec<String>,
    at: Option<Location>,
    problem: String,
    /// The key that is not known, if that is what is wrong.
    unknown_key: Option<String>,
}

impl DecodeError {
    /// The path of keys, outermost first.
    pub(crate) fn path(&self) -> impl Iterator<Item = &str> {
        self.path.iter().rev().map(String::as_str)
    }

    pub(crate) fn at(&self) -> Option<&Location> {
        self.at.as_ref()
    }

    pub(crate) fn problem(&self) -> &str {
        &self.problem
    }

    /// The key below [`Self::path`] that is not known, if that is what is wrong.
    pub(crate) fn unknown_key(&self) -> Option<&str> {
        self.unknown_key.as_deref()
    }

    fn new(problem: String, at: Option<Location>) -> Self {
        Self { path: Vec::new(), at, problem, unknown_key: None }
    }

    fn within(mut self, name: &str, at: &Location) -> Self {
        self.path.push(name.into());
        self.at.get_or_insert_with(|| at.clone());
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.problem)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), None)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown("key", field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown("value", variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("key `{field}` is missing"))
    }
}

/// Says that a name is not known, which one it may have meant, and which there are.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let mut message = format!("unknown {what} `{name}`");
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), candidate), candidate))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((similarity, nearest)) if similarity > 0.75 => {
            message.push_str(&format!("; did you mean `{nearest}`?"));
        }
        _ => {
            let named = known.iter().filter(|name| !name.is_empty());
            let mut known: Vec<_> = named.map(|name| format!("`{name}`")).collect();
            known.sort();
            if !known.is_empty() {
                message.push_str(&format!("; known are {}", known.join(", ")));
            }
        }
    }
    message
}

/// Decodes a node; null is the type's default if it takes an empty map.
pub(crate) fn decode<T: de::DeserializeOwned>(
    node: &Node,
    purpose: Purpose,
) -> Result<T, DecodeError> {
    T::deserialize(Decoder { node, purpose }).map_err(|mut error| {
        error.at.get_or_insert_with(|| node.at.clone());
        error
    })
}

#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    purpose: Purpose,
}

impl<'a> Decoder<'a> {
    fn expected(self, what: &str) -> DecodeError {
        let at = Some(self.node.at.clone());
        if let Some(name) = self.unset() {
            return DecodeError::new(expand::unset(name), at);
        }
        let mut problem = format!("expected {what}, found {}", self.node.describe());
        match &self.node.value {
            Value::Scalar(_) if what == "text" => problem.push_str("; put it in quotes"),
            Value::Scalar(scalar) if what == "an integer" => {
                if let Resolved::Float(value) = scalar.resolve()
                    && value.fract() != 0.0
                {
                    let taken = value.trunc();
                    problem.push_str(&format!("; the Collector would silently use {taken}"));
                }
            }
            Value::Null if what != "text" => {
                problem.push_str(
                    "; the Collector would silently use zero: leave the key out for the default",
                );
            }
            _ => {}
        }
        DecodeError::new(problem, at)
    }

    /// The variable that is referred to and not set, if that is what stands here.
    fn unset(self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(Scalar { style: Style::Unset(name), .. }) => Some(name),
            _ => None,
        }
    }

    /// Returns whether nothing stands here: null, or a variable that is not set or empty.
    fn is_nothing(self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(scalar) => scalar.text.is_empty() && scalar.style != Style::Quoted,
            _ => false,
        }
    }

    fn items(self, items: &'a [Node]) -> Items<'a> {
        Items { items: items.iter(), index: 0, purpose: self.purpose }
    }

    fn entries(self, entries: &'a [(Key, Node)]) -> Entries<'a> {
        Entries { entries: entries.iter(), value: None, purpose: self.purpose }
    }

    /// Hands text on; what came out of a variable may be a secret and is kept out of messages.
    fn visit_text<'de, V: Visitor<'de>>(
        self,
        text: &str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_str(text).map_err(|mut error: DecodeError| {
            let is_held = match &self.node.value {
                Value::Scalar(scalar) => scalar.style == Style::Expanded,
                _ => true,
            };
            if is_held && !text.is_empty() {
                error.problem = error.problem.replace(text, "***");
            }
            error
        })
    }

    fn integer(self) -> Result<i128, DecodeError> {
        if let Value::Scalar(scalar) = &self.node.value {
            match scalar.resolve() {
                Resolved::Int(value) => return Ok(value),
                // Kubernetes operators rewrite large integers so: `1e+06`.
                Resolved::Float(value) if value.fract() == 0.0 && value.abs() < 1e18 => {
                    return Ok(value as i128);
                }
                _ => {}
            }
        }
        Err(self.expected("an integer"))
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),+ $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let value = self.integer()?;
            let value = <$type>::try_from(value).map_err(|_| {
                self.expected(&format!("an integer from {} to {}", <$type>::MIN, <$type>::MAX))
            })?;
            visitor.$visit(value)
        }
    )+};
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar(_) if self.unset().is_some() => Err(self.expected("a value")),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Int(value) => match (i64::try_from(value), u64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_i64(value),
                    (_, Ok(value)) => visitor.visit_u64(value),
                    _ => visitor.visit_f64(value as f64),
                },
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text => self.visit_text(&scalar.text, visitor),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Bool(value) => visitor.visit_bool(value),
                _ => Err(self.expected("a boolean")),
            },
            _ => Err(self.expected("a boolean")),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Int(value) => visitor.visit_f64(value as f64),
                Resolved::Float(value) => visitor.visit_f64(value),
                _ => Err(self.expected("a number")),
            },
            _ => Err(self.expected("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Scalar(scalar)
                if scalar.style != Style::Plain || scalar.resolve() == Resolved::Text =>
            {
                self.visit_text(&scalar.text, visitor)
            }
            Value::List(_) | Value::Map(_) if let Some(text) = &self.node.text => {
                self.visit_text(text, visitor)
            }
            _ => Err(self.expected("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(self.items(items)),
            _ if self.is_nothing() => visitor.visit_seq(self.items(&[])),
            _ => Err(self.expected("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(self.entries(entries)),
            _ if self.is_nothing() => visitor.visit_map(self.entries(&[])),
            _ => Err(self.expected("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Scalar(scalar) if self.unset().is_none() => visitor
                .visit_enum(IntoDeserializer::<DecodeError>::into_deserializer(
                    // `INFO` is `info`, as in the Collector.
                    variants
                        .iter()
                        .find(|variant| variant.eq_ignore_ascii_case(&scalar.text))
                        .map_or(scalar.text.as_str(), |variant| variant),
                ))
                .map_err(|mut error| {
                    error.at.get_or_insert_with(|| self.node.at.clone());
                    error
                }),
            _ => Err(self.expected("text")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.unset() {
            // A run without the secret would be refused by whoever asks for it.
            Some(_) if name == SECRET && self.purpose == Purpose::Run => Err(self.expected("text")),
            Some(_) if name == SECRET => visitor.visit_none(),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    index: usize,
    purpose: Purpose,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Decoder { node, purpose: self.purpose })
            .map(Some)
            .map_err(|error| error.within(&index.to_string(), &node.at))
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<(&'a Key, &'a Node)>,
    purpose: Purpose,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, node));
        seed.deserialize(IntoDeserializer::<DecodeError>::into_deserializer(key.name.as_str()))
            .map(Some)
            .map_err(|mut error| {
                error.at.get_or_insert_with(|| key.at.clone());
                error.unknown_key = Some(key.name.clone());
                error
            })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let (key, node) = self.value.take().ok_or_else(|| {
            <DecodeError as de::Error>::custom("a map's value was asked for before its key")
        })?;
        let decoder = Decoder { node, purpose: self.purpose };
        seed.deserialize(decoder).map_err(|error| error.within(&key.name, &node.at))
    }
}
