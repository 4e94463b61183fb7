//! Authenticates senders by the name and password of a user, which are kept as Apache's `htpasswd` writes them.
//!
//! Passwords are hashed so that checking one takes long. What was checked last of each user is remembered by a digest under a key that
//! is made at the start, so that a sender is checked once; few are checked at a time, each on a thread where it holds up nobody.

pub(crate) mod config;
mod htpasswd;
mod md5_crypt;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub(crate) use config::Config;
use htpasswd::Users;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use ring::hmac;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::credentials::{NotAuthentic, after_scheme};
use crate::reread::{self, Files, Reloads};
use crate::settings::secret::Secret;
use crate::telemetry::Registry;

/// How often the file is read again.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many passwords are checked at a time.
const CHECKS: usize = 2;
/// How long a request waits for the check of its password to begin.
const PATIENCE: Duration = Duration::from_secs(5);

/// The extension.
pub(crate) struct BasicAuth {
    users: watch::Receiver<Arc<Checked>>,
    key: hmac::Key,
    checks: Arc<Semaphore>,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("BasicAuth")
    }
}

/// Users, and what was found when their passwords were checked last.
#[derive(Default)]
struct Checked {
    users: Users,
    last: Mutex<HashMap<String, Last>>,
}

/// Digests of a user's credentials that were checked last.
#[derive(Default, Clone)]
struct Last {
    right: Option<Vec<u8>>,
    wrong: Option<Vec<u8>>,
}

impl Checked {
    fn of(users: Users) -> Arc<Self> {
        Arc::new(Self { users, last: Mutex::default() })
    }

    /// Returns whether credentials are right, if that was found before.
    fn remembered(&self, user: &str, digest: &[u8]) -> Option<bool> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Last { right, wrong } = last.get(user)?;
        match () {
            () if right.as_deref() == Some(digest) => Some(true),
            () if wrong.as_deref() == Some(digest) => Some(false),
            () => None,
        }
    }

    fn remember(&self, user: &str, digest: Vec<u8>, is_right: bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.entry(user.to_owned()).or_default();
        *(if is_right { &mut last.right } else { &mut last.wrong }) = Some(digest);
    }
}

impl BasicAuth {
    /// Starts the extension, and reads its file.
    ///
    /// # Errors
    ///
    /// The reason for which the users cannot be used, and what to do.
    pub(crate) fn start(config: &Config, id: &str, registry: &Registry) -> Result<Self, String> {
        let inline = config.htpasswd.inline.as_ref().map_or("", Secret::expose).to_owned();
        let (sender, users) = watch::channel(Arc::default());
        match &config.htpasswd.file {
            Some(path) => {
                let mut file = UserFile { path: path.clone(), inline, text: None };
                if let Some(users) = file.read()? {
                    sender.send_replace(users);
                }
                let key = format!("extensions.{id}.htpasswd.file");
                tokio::spawn(reread::follow(file, INTERVAL, sender, Reloads::new(registry, &key)));
            }
            None => {
                sender.send_replace(Checked::of(Users::read("", &inline)?));
            }
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new());
        let key = key.map_err(|_| "the system gives no random numbers".to_owned())?;
        Ok(Self { users, key, checks: Arc::new(Semaphore::new(CHECKS)) })
    }

    /// Looks at the credentials of a request, and returns the user's name.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<String, NotAuthentic> {
        let name = || "authorization".to_owned();
        let value = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        if value.is_empty() {
            return Err(NotAuthentic::Missing(name()));
        }
        let malformed = |what| move || NotAuthentic::Malformed("authorization".into(), what);
        let encoded = after_scheme(value, "Basic").ok_or_else(malformed("scheme `Basic`"))?;
        let decoded = STANDARD.decode(encoded).ok().and_then(|text| String::from_utf8(text).ok());
        let decoded = decoded.ok_or_else(malformed("valid base64"))?;
        let (user, password) = decoded.split_once(':').ok_or_else(malformed("`name:password`"))?;
        let checked = Arc::clone(&self.users.borrow());
        let is_right = match checked.users.find(user) {
            None => false,
            Some(_) => {
                let digest = hmac::sign(&self.key, decoded.as_bytes()).as_ref().to_vec();
                match checked.remembered(user, &digest) {
                    Some(is_right) => is_right,
                    None => {
                        let is_right = self.check(&checked, user, password).await?;
                        checked.remember(user, digest, is_right);
                        is_right
                    }
                }
            }
        };
        if is_right { Ok(user.to_owned()) } else { Err(NotAuthentic::Wrong(name())) }
    }

    async fn check(
        &self,
        checked: &Arc<Checked>,
        user: &str,
        password: &str,
    ) -> Result<bool, NotAuthentic> {
        let permit = timeout(PATIENCE, Arc::clone(&self.checks).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(NotAuthentic::Busy) };
        let (checked, user, password) = (Arc::clone(checked), user.to_owned(), password.to_owned());
        let check = spawn_blocking(move || {
            let _until_checked = permit;
            checked.users.find(&user).is_some_and(|stored| stored.is(&password))
        });
        check.await.map_err(|_| NotAuthentic::Busy)
    }
}

/// A file of users, with those of the config.
struct UserFile {
    path: PathBuf,
    inline: String,
    /// The text that is in use.
    text: Option<String>,
}

impl Files for UserFile {
    type Made = Arc<Checked>;

    fn read(&mut self) -> Result<Option<Arc<Checked>>, String> {
        let path = self.path.display();
        let text = fs::read_to_string(&self.path)
            .map_err(|error| format!("cannot read `{path}` (`htpasswd.file`): {error}"))?;
        if self.text.as_ref() == Some(&text) {
            return Ok(None);
        }
        let users = Users::read(&text, &self.inline);
        let users = users.map_err(|problem| format!("`{path}` (`htpasswd.file`): {problem}"))?;
        self.text = Some(text);
        Ok(Some(Checked::of(users)))
    }
}

/// Makes one for tests.
#[cfg(test)]
pub(crate) fn of(htpasswd: &str) -> Result<Arc<BasicAuth>, String> {
    let node = serde_json::json!({ "htpasswd": { "inline": htpasswd } }).to_string();
    let node = crate::settings::node::Node::parse("test", &node).map_err(|it| format!("{it:?}"))?;
    let config = crate::settings::decode::decode(&node, crate::settings::Purpose::Run);
    let config: Config = config.map_err(|error| error.to_string())?;
    BasicAuth::start(&config, "basicauth", &Registry::default()).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderMap;
    use http::header::AUTHORIZATION;

    use super::{Files as _, NotAuthentic, UserFile, of};

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn shown(credentials: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(credentials)))
    }

    #[tokio::test]
    async fn a_sender_shows_the_name_and_password_of_a_user() {
        let auth = of("shop:secret\ncart:with:colon\n").unwrap();
        let outcome = async |headers: HeaderMap| {
            auth.authenticate(&headers).await.map_err(|error| error.reason())
        };
        for _ in 0..2 {
            assert_eq!(outcome(shown("shop:secret")).await.unwrap(), "shop");
            assert_eq!(outcome(shown("shop:wrong")).await, Err("wrong"));
        }
        assert_eq!(outcome(shown("cart:with:colon")).await.unwrap(), "cart");
        assert_eq!(outcome(shown("nobody:secret")).await, Err("wrong"));
        assert_eq!(outcome(shown("shop")).await, Err("malformed"));
        assert_eq!(outcome(headers("Bearer x")).await, Err("malformed"));
        assert_eq!(outcome(headers("Basic !")).await, Err("malformed"));
        assert_eq!(outcome(HeaderMap::new()).await, Err("missing"));
    }

    #[tokio::test]
    async fn a_password_is_checked_once_and_a_new_file_forgets_it() {
        let auth = of("shop:secret").unwrap();
        auth.authenticate(&shown("shop:secret")).await.unwrap();
        // No check can begin any more, and none is needed for what is known.
        auth.checks.close();
        auth.authenticate(&shown("shop:secret")).await.unwrap();
        assert_eq!(auth.authenticate(&shown("shop:other")).await, Err(NotAuthentic::Busy));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, "shop:new\n").unwrap();
        let mut file = UserFile { path: path.clone(), inline: "cart:x".into(), text: None };
        let users = file.read().unwrap().unwrap();
        assert_eq!(users.remembered("shop", b""), None);
        assert!(users.users.find("cart").is_some());
        assert!(file.read().unwrap().is_none());
        std::fs::write(&path, "shop\n").unwrap();
        let problem = file.read().err().unwrap();
        assert!(problem.contains("line 1 has no `:`"), "{problem}");
    }
}
