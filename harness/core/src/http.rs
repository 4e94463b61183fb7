//! The one way in which the harness makes HTTP clients.

/// Creates the builder of an HTTP client that connects directly: no proxies, no automatic retries, no redirects.
pub fn client() -> reqwest::ClientBuilder {
    // Where several crates of one program share reqwest, it has TLS and wants a provider even for plain HTTP.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
}

/// Reads by an attempt, and by one more where the client's time limit ended the first: a busy machine may let a service wait that long,
/// and a verdict is not to hang on it.
///
/// # Errors
///
/// The last attempt's.
pub async fn read<T, F>(attempt: impl Fn() -> F) -> reqwest::Result<T>
where
    F: Future<Output = reqwest::Result<T>>,
{
    match attempt().await {
        Err(error) if error.is_timeout() => attempt().await,
        answer => answer,
    }
}
