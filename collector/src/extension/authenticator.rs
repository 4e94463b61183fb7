//! Extensions that receivers ask whether a sender may send: `basicauth` and `bearertokenauth`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::basic_auth::BasicAuth;
use super::bearer_token_auth::BearerTokenAuth;
use super::credentials::NotAuthentic;

/// An extension that authenticates senders.
#[derive(Debug, Clone)]
pub(crate) enum Authenticator {
    Basic(Arc<BasicAuth>),
    BearerToken(Arc<BearerTokenAuth>),
}

impl Authenticator {
    /// Looks at the credentials of a request. Returns the name of its user, where the extension has users.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<String>, NotAuthentic> {
        match self {
            Self::Basic(basic) => basic.authenticate(headers).await.map(Some),
            Self::BearerToken(token) => token.authenticate(headers).map(|()| None),
        }
    }

    /// The `WWW-Authenticate` of a refusal (RFC 9110, 11.6.1).
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::Basic(_) => {
                Some(HeaderValue::from_static("Basic realm=\"otlp\", charset=\"UTF-8\""))
            }
            Self::BearerToken(token) => token.challenge(),
        }
    }
}
