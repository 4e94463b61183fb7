//! Text that must not be shown.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// The name by which a decoder knows that a secret is asked for.
pub(super) const SECRET: &str = "Secret";

/// A key or a token; it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(transparent))]
pub(crate) struct Secret(Option<String>);

impl Secret {
    /// The text itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Returns whether it is given, but by a variable that only the place where the config is to run has. A config that runs has no such.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.0.is_none()
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self(Some(String::new()))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Secret;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("text")
            }

            fn visit_none<E: Error>(self) -> Result<Secret, E> {
                Ok(Secret(None))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                from: D,
            ) -> Result<Secret, D::Error> {
                // Nothing behind the key's name is as good as no key.
                Ok(Secret(Some(Option::deserialize(from)?.unwrap_or_default())))
            }
        }

        from.deserialize_newtype_struct(SECRET, Text)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("[REDACTED]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}
