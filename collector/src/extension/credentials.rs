//! Credentials of requests, as the extensions that authenticate senders look at them.

use ring::digest::{SHA256, digest};

/// Reason for which a request is not taken to be its sender's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAuthentic {
    #[error(
        "the header `{0}` is missing: set OTEL_EXPORTER_OTLP_HEADERS where the spans are made, or the headers of the exporter there"
    )]
    Missing(String),
    #[error("the header `{0}` has no {1}")]
    Malformed(String, &'static str),
    #[error("the header `{0}` has credentials that are not valid")]
    Wrong(String),
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked; send again later")]
    Busy,
}

impl NotAuthentic {
    /// The reason in a word, for a counter.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Malformed(..) => "malformed",
            Self::Wrong(_) => "wrong",
            Self::Busy => "busy",
        }
    }
}

/// Returns whether two secrets are the same. How long it takes says nothing of where they begin to differ, since digests are compared.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    sha256(one) == sha256(other)
}

/// The SHA-256 of a secret.
pub(super) fn sha256(secret: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, secret).as_ref());
    out
}

/// The credentials behind a scheme, whose name has no case (RFC 9110, 11.1).
pub(super) fn after_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (start, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
}
