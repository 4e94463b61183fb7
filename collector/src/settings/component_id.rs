//! `type/name`: how components are called in a config.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The id of a component or a pipeline: its type, and a name where there are several of one type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ComponentId {
    kind: String,
    name: Option<String>,
}

impl ComponentId {
    /// The part before the slash.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(out, "{}/{name}", self.kind),
            None => out.write_str(&self.kind),
        }
    }
}

impl Serialize for ComponentId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads the id that a component refers to another one by, if it does.
pub(crate) fn referred<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<ComponentId>, D::Error> {
    let name = Option::<String>::deserialize(from)?.filter(|name| !name.is_empty());
    name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
}

impl FromStr for ComponentId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        let valid = kind.starts_with(|first: char| first.is_ascii_alphabetic())
            && kind.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
        if !valid {
            return Err(format!("`{text}` is not a component's id: write `type` or `type/name`"));
        }
        if name == Some("") {
            return Err(format!(
                "`{text}` has nothing behind its slash: write `type` or `type/name`"
            ));
        }
        Ok(Self { kind: kind.into(), name: name.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::ComponentId;

    #[test]
    fn ids_are_a_type_and_perhaps_a_name() {
        for good in ["otlp", "batch/traces", "otlp/a/b", "memory_limiter"] {
            assert_eq!(good.parse::<ComponentId>().unwrap().to_string(), good);
        }
        for bad in ["", "/x", "otlp/", "ot lp", "1x"] {
            assert!(bad.parse::<ComponentId>().is_err(), "{bad}");
        }
    }
}
