//! TLS, in the Collector's words: certificates from files or from the config, for servers and for clients.
//!
//! Certificates are read at the start, and again where a `reload_interval` asks for it. Nothing here is about what is spoken over a
//! connection.

pub(crate) mod reload;
mod verifier;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};

use crate::settings::secret::Secret;
use crate::settings::{Diagnostics, Unsupported, duration};

/// Keys that the Collector has in every `tls` section, and why they are not here.
pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    (
        "only suites without known weaknesses are offered; remove the key",
        &["tls.cipher_suites", "tls.include_insecure_cipher_suites"],
    ),
    (
        "only curves without known weaknesses are offered; remove the key",
        &["tls.curve_preferences"],
    ),
    ("keys are read from files; remove the key", &["tls.tpm"]),
    ("give all authorities in one file", &["tls.include_system_ca_certs_pool"]),
]);

/// As [`UNSUPPORTED`], for servers only.
pub(crate) const UNSUPPORTED_BY_SERVERS: Unsupported = Unsupported(&[(
    "a server does not use it to verify clients; name the authorities of clients in `client_ca_file`",
    &["tls.ca_file", "tls.ca_pem"],
)]);

/// Error for certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read `{path}` (`{key}`): {error}")]
    Unreadable { key: &'static str, path: String, error: std::io::Error },
    #[error("`{key}` has no {what} in PEM")]
    Empty { key: &'static str, what: &'static str },
    #[error("`{key}` is not valid PEM: {problem}")]
    Pem { key: &'static str, problem: String },
    #[error("`cert_file` and `key_file` do not fit together, or cannot be used: {0}")]
    Pair(String),
    #[error("`cert_file` and `key_file` are given together or not at all")]
    Half,
    #[error("`client_ca_file` cannot be used: {0}")]
    ClientAuthorities(String),
    #[error(
        "this machine has no certificate authorities; install them (`ca-certificates`) or set `ca_file`"
    )]
    NoAuthorities,
    #[error("`min_version` and `max_version` leave no version; known are `1.2` and `1.3`")]
    Versions,
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Version {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// TLS settings of a client.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientTls {
    /// Whether the connection is without TLS. Only gRPC asks; elsewhere the URL says it.
    pub(crate) insecure: bool,
    /// Whether any certificate is taken. For tests.
    pub(crate) insecure_skip_verify: bool,
    /// The authorities that are trusted, instead of this machine's.
    pub(crate) ca_file: Option<PathBuf>,
    /// As `ca_file`, as text.
    pub(crate) ca_pem: Option<String>,
    /// The client's own certificate.
    pub(crate) cert_file: Option<PathBuf>,
    /// As `cert_file`, as text.
    pub(crate) cert_pem: Option<String>,
    /// The key of the client's certificate.
    pub(crate) key_file: Option<PathBuf>,
    /// As `key_file`, as text.
    pub(crate) key_pem: Option<Secret>,
    /// How often the client's own certificate and its key are read again from their files, for connections that are made after that.
    /// Default: never.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) reload_interval: Duration,
    /// The name that the server's certificate must have, instead of the endpoint's. gRPC only.
    pub(crate) server_name_override: Option<String>,
    /// The lowest version. Default `1.2`.
    pub(crate) min_version: Option<Version>,
    /// The highest version. Default `1.3`.
    pub(crate) max_version: Option<Version>,
}

/// TLS settings of a server.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerTls {
    /// The server's certificate, with what leads to its authority.
    pub(crate) cert_file: Option<PathBuf>,
    /// As `cert_file`, as text.
    pub(crate) cert_pem: Option<String>,
    /// The key of the certificate.
    pub(crate) key_file: Option<PathBuf>,
    /// As `key_file`, as text.
    pub(crate) key_pem: Option<Secret>,
    /// How often the certificate and its key are read again from their files, for connections that are made after that; those that
    /// there are go on. A pair that cannot be used is logged and counted (`otelcol_file_reloads`), and the one before it stays in
    /// use. Default: never.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) reload_interval: Duration,
    /// If set, clients must show a certificate of one of these authorities.
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Whether `client_ca_file` is read again every second, as certificates are by `reload_interval`. Default `false`.
    pub(crate) client_ca_file_reload: bool,
    /// The lowest version. Default `1.2`.
    pub(crate) min_version: Option<Version>,
    /// The highest version. Default `1.3`.
    pub(crate) max_version: Option<Version>,
}

impl ClientTls {
    /// Reports the problems of the section.
    pub(crate) fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        if let Err(error) = self.config(&[]) {
            match error {
                // Where it runs is not where it is checked.
                TlsError::NoAuthorities => {}
                error => diagnostics.add(&["tls"], &error.to_string()),
            }
        }
    }

    /// Builds rustls' client config; `alpn` are the protocols to offer.
    pub(crate) fn config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
        let versions = versions(self.min_version, self.max_version)?;
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(&versions)?;
        let builder = if self.insecure_skip_verify {
            let verifier: Arc<dyn ServerCertVerifier> = Arc::new(verifier::Anyone::new(provider()));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let text = pair(&self.cert_file, &self.cert_pem, &self.key_file, &self.key_pem)?;
        let mut config = match text {
            Some(text) if !self.reload_interval.is_zero() => {
                builder.with_client_cert_resolver(Arc::new(reload::ClientPair::new(self, text)?))
            }
            Some(text) => {
                let (certificates, key) = text.parsed()?;
                builder
                    .with_client_auth_cert(certificates, key)
                    .map_err(|error| TlsError::Pair(error.to_string()))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match pem("ca_file", &self.ca_file, self.ca_pem.as_deref())? {
            Some(text) => {
                for certificate in certificates("ca_file", &text)? {
                    roots.add(certificate).map_err(|error| TlsError::Pem {
                        key: "ca_file",
                        problem: error.to_string(),
                    })?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoAuthorities);
                }
            }
        }
        Ok(roots)
    }
}

impl ServerTls {
    /// Reports the problems of the section.
    pub(crate) fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        let is_elsewhere = self.key_pem.as_ref().is_some_and(Secret::is_elsewhere);
        match self.read().and_then(|text| self.config(&text, &[])) {
            Ok(_) => {}
            Err(TlsError::Half) if is_elsewhere => {}
            Err(error) => diagnostics.add(&["tls"], &error.to_string()),
        }
        let has_file = self.cert_file.is_some() || self.key_file.is_some();
        if !self.reload_interval.is_zero() && !has_file {
            let text = "has no effect, since neither the certificate nor its key is in a file";
            diagnostics.note(&["tls", "reload_interval"], text);
        }
        if self.client_ca_file_reload && self.client_ca_file.is_none() {
            let text = "has no effect without a `client_ca_file`";
            diagnostics.note(&["tls", "client_ca_file_reload"], text);
        }
    }

    /// Reads all files.
    fn read(&self) -> Result<ServerText, TlsError> {
        Ok(ServerText { pair: self.read_pair()?, authorities: self.read_authorities()? })
    }

    fn read_pair(&self) -> Result<PairText, TlsError> {
        let pair = pair(&self.cert_file, &self.cert_pem, &self.key_file, &self.key_pem)?;
        pair.ok_or(TlsError::Half)
    }

    fn read_authorities(&self) -> Result<Option<Vec<u8>>, TlsError> {
        pem("client_ca_file", &self.client_ca_file, None)
    }

    /// Builds rustls' server config of what was read; `alpn` are the protocols to accept.
    fn config(&self, text: &ServerText, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let versions = versions(self.min_version, self.max_version)?;
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(&versions)?;
        let builder = match &text.authorities {
            Some(text) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates("client_ca_file", text)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|error| TlsError::ClientAuthorities(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let (certificates, key) = text.pair.parsed()?;
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| TlsError::Pair(error.to_string()))?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

/// PEM of a server's certificate and key, and of its clients' authorities.
#[derive(Clone, PartialEq, Eq)]
struct ServerText {
    pair: PairText,
    authorities: Option<Vec<u8>>,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions(
    min: Option<Version>,
    max: Option<Version>,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let range = min.unwrap_or(Version::V1_2)..=max.unwrap_or(Version::V1_3);
    let known =
        [(Version::V1_2, &rustls::version::TLS12), (Version::V1_3, &rustls::version::TLS13)];
    let versions: Vec<_> = known
        .into_iter()
        .filter(|(version, _)| range.contains(version))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() { Err(TlsError::Versions) } else { Ok(versions) }
}

/// The PEM of a file or of the config itself, if either is given.
fn pem(
    key: &'static str,
    path: &Option<PathBuf>,
    text: Option<&str>,
) -> Result<Option<Vec<u8>>, TlsError> {
    if let Some(text) = text {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    let Some(path) = path else { return Ok(None) };
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(TlsError::Unreadable { key, path: path.display().to_string(), error }),
    }
}

fn certificates(key: &'static str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { key, problem: error.to_string() })?;
    match certificates.is_empty() {
        true => Err(TlsError::Empty { key, what: "certificate" }),
        false => Ok(certificates),
    }
}

/// PEM of a certificate and its key.
#[derive(Clone, PartialEq, Eq)]
struct PairText {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl PairText {
    fn parsed(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::Empty { key: "key_file", what: "private key" })?;
        Ok((certificates("cert_file", &self.certificate)?, key))
    }
}

fn pair(
    cert_file: &Option<PathBuf>,
    cert_pem: &Option<String>,
    key_file: &Option<PathBuf>,
    key_pem: &Option<Secret>,
) -> Result<Option<PairText>, TlsError> {
    let certificate = pem("cert_file", cert_file, cert_pem.as_deref())?;
    if key_pem.as_ref().is_some_and(Secret::is_elsewhere) {
        return Ok(None);
    }
    let key = pem("key_file", key_file, key_pem.as_ref().map(Secret::expose))?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(PairText { certificate, key })),
        _ => Err(TlsError::Half),
    }
}
