//! The door of a port: lets in requests of those who may send, and keeps what else they say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{HeaderMap, Uri};

use super::config::Auth;
use crate::extension::authenticator::Authenticator;
use crate::extension::credentials::NotAuthentic;
use crate::sender::Context;
use crate::settings::ComponentId;
use crate::telemetry::{Counter, Registry};

/// Lets the requests of one port in.
#[derive(Debug, Clone)]
pub(super) struct Door {
    receiver: Arc<str>,
    transport: &'static str,
    guard: Guard,
    keeps_metadata: bool,
    /// Those that were not let in, by the reason.
    refused: Arc<[(&'static str, Counter)]>,
    was_reported: Arc<AtomicBool>,
}

/// Whoever decides who may send.
#[derive(Debug, Clone)]
pub(super) enum Guard {
    /// Everyone may.
    Nobody,
    Authenticator(Authenticator),
    /// Someone was to decide who is not there, which the check of the config excludes: no one may.
    Missing,
}

impl Guard {
    /// Finds the one that the settings name.
    pub(super) fn find(
        auth: Option<&Auth>,
        authenticators: &BTreeMap<ComponentId, Authenticator>,
    ) -> Self {
        let Some(auth) = auth else { return Self::Nobody };
        let found = auth.authenticator.as_ref().and_then(|id| authenticators.get(id));
        found.cloned().map_or(Self::Missing, Self::Authenticator)
    }
}

/// Reasons of [`NotAuthentic`].
const REASONS: [&str; 4] = ["missing", "malformed", "wrong", "busy"];

impl Door {
    pub(super) fn new(
        registry: &Registry,
        receiver: &str,
        transport: &'static str,
        guard: Guard,
        keeps_metadata: bool,
    ) -> Self {
        let counter = |reason| {
            let labels = [("receiver", receiver), ("transport", transport), ("reason", reason)];
            let help = "Number of requests that were refused since their credentials are missing or not valid.";
            registry.counter("otelcol_receiver_unauthenticated_requests", help, &labels)
        };
        let refused = match &guard {
            Guard::Nobody => Arc::default(),
            _ => REASONS.map(|reason| (reason, counter(reason))).into(),
        };
        Self {
            receiver: receiver.into(),
            transport,
            guard,
            keeps_metadata,
            refused,
            was_reported: Arc::default(),
        }
    }

    /// Lets everyone in, and keeps nothing.
    pub(super) fn open(registry: &Registry, receiver: &str, transport: &'static str) -> Self {
        Self::new(registry, receiver, transport, Guard::Nobody, false)
    }

    /// Returns what is kept of a request, if its sender may send; else counts it, and reports the first one in the log.
    pub(super) async fn let_in(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<Option<Arc<Context>>, NotAuthentic> {
        let outcome = match &self.guard {
            Guard::Nobody => Ok(None),
            Guard::Authenticator(authenticator) => authenticator.authenticate(headers).await,
            Guard::Missing => Err(NotAuthentic::Wrong("authorization".into())),
        };
        let user = outcome.inspect_err(|error| self.report(error, headers))?;
        let metadata = self.keeps_metadata.then(|| metadata(headers, uri));
        let has_any = metadata.is_some() || user.is_some();
        Ok(has_any.then(|| Arc::new(Context { metadata, user })))
    }

    /// The header that says how to authenticate.
    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        match &self.guard {
            Guard::Authenticator(authenticator) => authenticator.challenge(),
            Guard::Nobody | Guard::Missing => None,
        }
    }

    fn report(&self, error: &NotAuthentic, headers: &HeaderMap) {
        let counter = self.refused.iter().find(|(reason, _)| *reason == error.reason());
        if let Some((_, counter)) = counter {
            counter.add(1);
        }
        if !self.was_reported.swap(true, Ordering::Relaxed) {
            let sender = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
            tracing::warn!(
                receiver = &*self.receiver,
                transport = self.transport,
                sender = &*String::from_utf8_lossy(sender),
                "traces are refused: {error} (further requests like this are only counted)"
            );
        }
    }
}

/// The headers of a request, with its host where HTTP/2 has it elsewhere.
fn metadata(headers: &HeaderMap, uri: &Uri) -> HeaderMap {
    let mut metadata = headers.clone();
    let authority = uri.authority().map(|authority| authority.as_str());
    if let (false, Some(Ok(host))) =
        (metadata.contains_key(HOST), authority.map(HeaderValue::from_str))
    {
        metadata.insert(HOST, host);
    }
    metadata
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::{HeaderMap, Uri};

    use super::{Auth, Door, Guard};
    use crate::telemetry::Registry;

    #[tokio::test]
    async fn no_one_may_send_where_the_one_who_decides_is_missing() {
        let auth = Auth { authenticator: Some("basicauth".parse().unwrap()) };
        let guard = Guard::find(Some(&auth), &BTreeMap::new());
        let door = Door::new(&Registry::default(), "otlp", "http", guard, false);
        let (headers, uri) = (HeaderMap::new(), Uri::from_static("/v1/traces"));
        assert!(door.let_in(&headers, &uri).await.is_err());
        let open = Door::open(&Registry::default(), "otlp", "http");
        assert_eq!(open.let_in(&headers, &uri).await, Ok(None));
    }
}
