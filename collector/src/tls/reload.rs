//! Certificates that are read again while the collector runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{ClientTls, PairText, ServerText, ServerTls, TlsError, provider};
use crate::reread::{self, Files, LEAST_INTERVAL, Reloads};
use crate::telemetry::Registry;

/// How often the authorities of clients are read again, where that is asked for: as often as the Collector does.
const AUTHORITIES_INTERVAL: Duration = Duration::from_secs(1);

/// The TLS of a server, as its files have it now.
pub(crate) struct Server {
    /// The acceptor of new connections.
    pub(crate) current: watch::Receiver<TlsAcceptor>,
    /// The task that keeps that up to date, where a setting asks for it.
    renewal: Option<Renewal>,
}

struct Renewal {
    files: ServerFiles,
    every: Duration,
    sender: watch::Sender<TlsAcceptor>,
}

impl Server {
    /// Reads the files of a server; `alpn` are the protocols to accept.
    pub(crate) fn read(settings: &ServerTls, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let text = settings.read()?;
        let acceptor = TlsAcceptor::from(Arc::new(settings.config(&text, alpn)?));
        let (sender, current) = watch::channel(acceptor);
        let has_file = settings.cert_file.is_some() || settings.key_file.is_some();
        let of_pair = Some(settings.reload_interval).filter(|every| has_file && !every.is_zero());
        let of_authorities = (settings.client_ca_file_reload && settings.client_ca_file.is_some())
            .then_some(AUTHORITIES_INTERVAL);
        let renewal = of_pair.into_iter().chain(of_authorities).min().map(|every| {
            let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            let now = Instant::now();
            let files = ServerFiles {
                settings: settings.clone(),
                alpn,
                text,
                pair: Due { every: of_pair, last: now },
                authorities: Due { every: of_authorities, last: now },
            };
            Renewal { files, every, sender }
        });
        Ok(Self { current, renewal })
    }

    /// Begins to read the files again, where a setting asks for it; `key` is that of the `tls` section.
    pub(crate) fn follow(&mut self, registry: &Registry, key: &str) {
        if let Some(Renewal { files, every, sender }) = self.renewal.take() {
            tokio::spawn(reread::follow(files, every, sender, Reloads::new(registry, key)));
        }
    }
}

/// When files are to be read again.
struct Due {
    every: Option<Duration>,
    last: Instant,
}

impl Due {
    fn is_now(&mut self) -> bool {
        // Those that come first are due with those whose time is the same.
        let is_due =
            self.every.is_some_and(|every| self.last.elapsed() + LEAST_INTERVAL / 2 >= every);
        if is_due {
            self.last = Instant::now();
        }
        is_due
    }
}

/// The files of a server.
struct ServerFiles {
    settings: ServerTls,
    alpn: Vec<Vec<u8>>,
    /// The text that is in use.
    text: ServerText,
    pair: Due,
    authorities: Due,
}

impl Files for ServerFiles {
    type Made = TlsAcceptor;

    fn read(&mut self) -> Result<Option<TlsAcceptor>, String> {
        let mut text = self.text.clone();
        if self.pair.is_now() {
            text.pair = self.settings.read_pair().map_err(|error| error.to_string())?;
        }
        if self.authorities.is_now() {
            text.authorities =
                self.settings.read_authorities().map_err(|error| error.to_string())?;
        }
        if text == self.text {
            return Ok(None);
        }
        let alpn: Vec<_> = self.alpn.iter().map(Vec::as_slice).collect();
        let config = self.settings.config(&text, &alpn).map_err(|error| error.to_string())?;
        self.text = text;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// A client's own certificate, which is read again when a connection is made and its time has come.
pub(super) struct ClientPair {
    settings: ClientTls,
    state: Mutex<ClientState>,
}

struct ClientState {
    text: PairText,
    key: Arc<CertifiedKey>,
    last: Instant,
}

impl ClientPair {
    pub(super) fn new(settings: &ClientTls, text: PairText) -> Result<Self, TlsError> {
        let key = certified(&text)?;
        let state = Mutex::new(ClientState { text, key, last: Instant::now() });
        Ok(Self { settings: settings.clone(), state })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.elapsed() >= self.settings.reload_interval {
            state.last = Instant::now();
            if let Err(problem) = self.renew(&mut state) {
                tracing::error!(
                    %problem,
                    "a changed certificate cannot be used, so that the one before stays in use"
                );
            }
        }
        Arc::clone(&state.key)
    }

    fn renew(&self, state: &mut ClientState) -> Result<(), TlsError> {
        let ClientTls { cert_file, cert_pem, key_file, key_pem, .. } = &self.settings;
        let text = super::pair(cert_file, cert_pem, key_file, key_pem)?.ok_or(TlsError::Half)?;
        if text != state.text {
            state.key = certified(&text)?;
            state.text = text;
        }
        Ok(())
    }
}

fn certified(text: &PairText) -> Result<Arc<CertifiedKey>, TlsError> {
    let (certificates, key) = text.parsed()?;
    let certified = CertifiedKey::from_der(certificates, key, &provider());
    certified.map(Arc::new).map_err(|error| TlsError::Pair(error.to_string()))
}

impl ResolvesClientCert for ClientPair {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for ClientPair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ClientPair")
    }
}
