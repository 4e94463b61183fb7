//! HTTP as the exporters need it: a client from settings, and what its errors and waits mean.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::ExportError;
use crate::settings::Unsupported;
use crate::tls::{ClientTls, TlsError};

/// Settings of the Collector's HTTP clients that this one does not support.
pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    (
        "`sending_queue.num_consumers` limits the connections; remove the key",
        &["max_idle_conns", "max_idle_conns_per_host", "max_conns_per_host"],
    ),
    ("idle connections are closed after 90 s; remove the key", &["idle_conn_timeout", "keepalive"]),
    ("connections are reused; remove the key", &["disable_keep_alives"]),
    ("buffers are sized automatically; remove the key", &["read_buffer_size", "write_buffer_size"]),
    (
        "`timeout` ends a request that is not answered; remove the key",
        &["http2_read_idle_timeout", "http2_ping_timeout"],
    ),
    ("each compression has one level; remove the key", &["compression_params"]),
    ("cookies are not kept; remove the key", &["cookies"]),
    ("there is no middleware; remove the key", &["middlewares"]),
    ("HTTP/2 is used where the server offers it; remove the key", &["force_attempt_http2"]),
]);

/// The longest wait that a `Retry-After` is taken at its word for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Error for a client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("`{0}` is not a URL")]
    Url(String),
    #[error("cannot set up an HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    #[error("`{0}` cannot be sent in a header")]
    Header(String),
    #[error("`tls`: {0}")]
    Tls(#[from] TlsError),
}

/// Makes a client; `is_secure` says whether it will need TLS.
pub(crate) fn client(
    user_agent: &str,
    timeout: Duration,
    tls: &ClientTls,
    proxy_url: Option<&str>,
    is_secure: bool,
) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .redirect(reqwest::redirect::Policy::none());
    // Without TLS no certificate authorities are needed, and a machine may have none.
    let config = match tls.config(&[b"h2", b"http/1.1"]) {
        Err(TlsError::NoAuthorities) if !is_secure => {
            ClientTls { insecure_skip_verify: true, ..ClientTls::default() }.config(&[])
        }
        config => config,
    }?;
    builder = builder.tls_backend_preconfigured(config);
    if let Some(url) = proxy_url {
        builder = builder.proxy(reqwest::Proxy::all(url)?);
    }
    Ok(builder.build()?)
}

/// How long the receiver asks to wait, within reason.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Classifies an attempt without a reply. Unless there was no connection, the destination may have the request.
pub(crate) fn broken(error: &reqwest::Error) -> ExportError {
    let is_doubtful = !error.is_connect() && !error.is_builder();
    ExportError::Retryable { reason: chain(error), after: None, is_doubtful }
}

/// Returns whether it is not the receiver that answers so, but what stands before it, which may have passed the request on.
pub(crate) fn is_of_a_gateway(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

/// An error with its causes.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Checks that a text is a URL of HTTP.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(()),
        "http" | "https" => Err("it has no host".into()),
        scheme => Err(format!("the scheme `{scheme}` is neither `http` nor `https`")),
    }
}
