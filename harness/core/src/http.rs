//! The one way in which the harness makes HTTP clients.

/// A builder for a client that goes straight to its target: no proxy from the environment, and no retry or redirect
/// that nobody would see.
pub fn client() -> reqwest::ClientBuilder {
    // Where several crates of one program share reqwest, it has TLS and wants a provider even for plain HTTP.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
}
