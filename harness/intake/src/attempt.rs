//! An attempt: one request that reached the intake, kept with the reply it got.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One request to the intake and its fate. Raw, so that whoever reads it can decode it for himself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Sequence number within the intake's instance, from 1, without gaps.
    pub seq: u64,
    /// Time at which the body was complete, in nanoseconds since the Unix epoch.
    pub received_at: i64,
    /// `GET`, `POST`, …
    pub method: String,
    /// Path as sent, without the query.
    pub path: String,
    /// Headers, names in lower case; secrets are `***`.
    pub headers: BTreeMap<String, String>,
    /// Body as received, still compressed.
    #[serde(with = "base64_bytes")]
    pub body: Vec<u8>,
    /// The reply to it.
    pub reply: Reply,
}

/// The fate of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// Answered with this HTTP status.
    Status(u16),
    /// The connection was reset instead of an answer, as scripted.
    Reset,
    /// The client went away before the answer was ready.
    ClientGone,
}

impl Reply {
    /// Returns whether the client was answered that its data was accepted.
    pub fn accepted(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }
}

mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
