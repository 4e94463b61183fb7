//! Values that an action takes from a request rather than from a span: `from_context`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sender::{Context, Sender};

/// Part of a request whose text becomes an attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromContext {
    /// A header of HTTP, or metadata of gRPC; the name in lower case.
    Metadata(String),
    /// The address that it came from.
    Address,
    /// The user whose credentials it shows.
    User,
    /// Another name, which is not known.
    Other(String),
}

impl FromContext {
    fn parse(text: &str) -> Self {
        match (text, text.split_once('.')) {
            ("client.address", _) => Self::Address,
            ("auth.username", _) => Self::User,
            (_, Some(("metadata", name))) => Self::Metadata(name.to_ascii_lowercase()),
            (_, Some(("auth", _))) => Self::Other(text.into()),
            // As the Collector reads names without `metadata.` in front.
            _ => Self::Metadata(text.to_ascii_lowercase()),
        }
    }

    /// Returns the problem of one that is not known, if it is such.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Other(_) => Some(
                "`from_context` knows of `auth.` only `auth.username`, with a receiver that authenticates by `basicauth`",
            ),
            Self::Metadata(name) if http::HeaderName::from_bytes(name.as_bytes()).is_err() => Some(
                "`from_context` names no header; write `metadata.NAME`, `client.address` or `auth.username`",
            ),
            _ => None,
        }
    }

    /// The text of a request of this sender, if it has one.
    pub(super) fn of(&self, sender: &Sender) -> Option<String> {
        let context = || sender.context.as_deref();
        match self {
            Self::Metadata(name) => context().and_then(|context: &Context| context.metadata(name)),
            Self::Address => sender.peer.address().map(|address| address.to_string()),
            Self::User => context().and_then(|context| context.user.clone()),
            Self::Other(_) => None,
        }
    }
}

/// Reads one; empty text is none.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<FromContext>, D::Error> {
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    Ok(text.map(|text| FromContext::parse(&text)))
}

impl Serialize for FromContext {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Metadata(name) => to.collect_str(&format_args!("metadata.{name}")),
            Self::Address => to.serialize_str("client.address"),
            Self::User => to.serialize_str("auth.username"),
            Self::Other(text) => to.serialize_str(text),
        }
    }
}
