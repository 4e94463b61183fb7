//! Values that are written in several places.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// A duration such as `250ms` or `1m 30s`.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(with = "String")]
pub(in crate::load) struct DurationText(pub(in crate::load) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|error| {
            serde::de::Error::custom(format!(
                "`{text}` is not a duration ({error}); write for example 250ms, 5s or 1m"
            ))
        })
    }
}

/// A whole number that should be within bounds. What is no number is refused here, with the bounds; a number out of them by
/// [`super::super::load`], together with all else that is wrong.
#[derive(Debug, Clone, Copy)]
pub(in crate::load) struct Whole<const LEAST: u32, const MOST: u32>(pub(in crate::load) u32);

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self).map_err(|_| {
            serde::de::Error::custom(format!("should be a whole number from {LEAST} to {MOST}"))
        })
    }
}
