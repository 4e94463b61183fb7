//! Authenticates senders by a token that they share with this collector.

pub(crate) mod config;

use std::fmt;
use std::fs;
use std::path::PathBuf;
#[cfg(test)]
use std::sync::Arc;
use std::time::Duration;

pub(crate) use config::Config;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;

use super::credentials::{NotAuthentic, after_scheme, sha256};
use crate::reread::{self, Files, Reloads};
use crate::settings::secret::Secret;
use crate::telemetry::Registry;

/// How often the file is read again.
const INTERVAL: Duration = Duration::from_secs(1);

/// The extension.
pub(crate) struct BearerTokenAuth {
    header: HeaderName,
    scheme: String,
    tokens: watch::Receiver<Tokens>,
}

impl fmt::Debug for BearerTokenAuth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("BearerTokenAuth").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Digests of the tokens that are valid: they are compared in the same time wherever they begin to differ.
type Tokens = Vec<[u8; 32]>;

impl BearerTokenAuth {
    /// Starts the extension, and reads its file.
    ///
    /// # Errors
    ///
    /// The reason for which the file cannot be used, and what to do.
    pub(crate) fn start(config: &Config, id: &str, registry: &Registry) -> Result<Self, String> {
        let header = HeaderName::from_bytes(config.header.as_bytes());
        let header = header.map_err(|_| "`header` is not the name of a header".to_owned())?;
        let scheme = config.scheme.clone();
        let inline = config.tokens.iter().chain(config.token.as_ref()).map(Secret::expose);
        let inline = inline.map(|token| sha256(token.as_bytes())).collect();
        let (sender, tokens) = watch::channel::<Tokens>(inline);
        if let Some(path) = &config.filename {
            let mut file = TokenFile { path: path.clone(), text: None };
            if let Some(tokens) = file.read()? {
                sender.send_replace(tokens);
            }
            let key = format!("extensions.{id}.filename");
            tokio::spawn(reread::follow(file, INTERVAL, sender, Reloads::new(registry, &key)));
        }
        Ok(Self { header, scheme, tokens })
    }

    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<(), NotAuthentic> {
        let name = || self.header.as_str().to_owned();
        let value = headers.get(&self.header).map(HeaderValue::as_bytes).unwrap_or_default();
        if value.is_empty() {
            return Err(NotAuthentic::Missing(name()));
        }
        let token =
            if self.scheme.is_empty() { Some(value) } else { after_scheme(value, &self.scheme) };
        let token = token.ok_or_else(|| NotAuthentic::Malformed(name(), "token of this scheme"))?;
        let given = sha256(token);
        let is_known = self.tokens.borrow().contains(&given);
        if is_known { Ok(()) } else { Err(NotAuthentic::Wrong(name())) }
    }

    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        let is_usual = self.header == http::header::AUTHORIZATION && !self.scheme.is_empty();
        is_usual.then(|| HeaderValue::from_str(&self.scheme).ok()).flatten()
    }
}

/// A file with a token in each line; what stands behind one is a comment.
struct TokenFile {
    path: PathBuf,
    /// The text that is in use.
    text: Option<String>,
}

impl Files for TokenFile {
    type Made = Tokens;

    fn read(&mut self) -> Result<Option<Tokens>, String> {
        let text = fs::read_to_string(&self.path).map_err(|error| {
            format!("cannot read `{}` (`filename`): {error}", self.path.display())
        })?;
        if self.text.as_ref() == Some(&text) {
            return Ok(None);
        }
        let tokens = text.lines().filter_map(|line| line.split_whitespace().next());
        let tokens: Tokens = tokens.map(|token| sha256(token.as_bytes())).collect();
        if tokens.is_empty() {
            let path = self.path.display();
            return Err(format!("`{path}` (`filename`) has no token; write one in each line"));
        }
        self.text = Some(text);
        Ok(Some(tokens))
    }
}

/// Makes one for tests.
#[cfg(test)]
pub(crate) fn of(yaml: &str) -> Result<Arc<BearerTokenAuth>, String> {
    let node = crate::settings::node::Node::parse("test", yaml).map_err(|it| format!("{it:?}"))?;
    let config = crate::settings::decode::decode(&node, crate::settings::Purpose::Run);
    let config: Config = config.map_err(|error| error.to_string())?;
    BearerTokenAuth::start(&config, "bearertokenauth", &Registry::default()).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{Files as _, TokenFile, of};

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn a_sender_shows_one_of_the_tokens() {
        let auth = of("{tokens: [one, two]}").unwrap();
        let outcome = |value: &str| {
            auth.authenticate(&headers("authorization", value)).map_err(|error| error.reason())
        };
        assert_eq!(outcome("Bearer one"), Ok(()));
        assert_eq!(outcome("bearer two"), Ok(()));
        assert_eq!(outcome("Bearer three"), Err("wrong"));
        assert_eq!(outcome("Bearer "), Err("wrong"));
        assert_eq!(outcome("one"), Err("malformed"));
        assert_eq!(outcome(""), Err("missing"));
        let missing = auth.authenticate(&HeaderMap::new()).unwrap_err();
        assert!(missing.to_string().contains("OTEL_EXPORTER_OTLP_HEADERS"), "{missing}");
        assert_eq!(auth.challenge().unwrap(), "Bearer");

        let auth = of("{header: X-Api-Key, scheme: '', token: one}").unwrap();
        assert_eq!(auth.authenticate(&headers("x-api-key", "one")), Ok(()));
        assert!(auth.authenticate(&headers("authorization", "Bearer one")).is_err());
        assert_eq!(auth.challenge(), None);
        assert!(!format!("{auth:?}").contains("one"));
    }

    #[test]
    fn a_file_has_a_token_in_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "  one  of the shop\n\ntwo\r\n").unwrap();
        let mut file = TokenFile { path: path.clone(), text: None };
        assert_eq!(file.read().unwrap().unwrap().len(), 2);
        assert_eq!(file.read(), Ok(None));
        std::fs::write(&path, "\n").unwrap();
        assert!(file.read().unwrap_err().contains("has no token"));
        std::fs::remove_file(&path).unwrap();
        assert!(file.read().unwrap_err().contains("cannot read"));
        std::fs::write(&path, "three").unwrap();
        assert_eq!(file.read().unwrap().unwrap().len(), 1);
    }
}
