//! Listening and serving HTTP: the one accept loop that receivers, self-metrics and health share.
//!
//! Every connection has limits in number and time. At shutdown no connection is accepted any more, those that are idle are
//! closed, and those with a request under way get it answered.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// How many connections one port serves at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after an accept that failed, for example because no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{endpoint}` (`{key}`): {error}{hint}")]
pub(crate) struct BindError {
    endpoint: String,
    key: String,
    error: std::io::Error,
    hint: &'static str,
}

/// A bound port.
pub(crate) struct Bound {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Makes connections with TLS, if there is a config for it.
    pub(crate) fn with_tls(mut self, config: Option<rustls::ServerConfig>) -> Self {
        self.tls = config.map(|config| TlsAcceptor::from(Arc::new(config)));
        self
    }
}

/// Binds an endpoint; `key` is the config's key for it, for messages.
pub(crate) async fn bind(endpoint: &str, key: &str) -> Result<Bound, BindError> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another process has the port: stop it, or choose another port there"
            }
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
            std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
            _ => "",
        };
        BindError { endpoint: endpoint.into(), key: key.into(), error, hint }
    };
    // `:4317` means every address, as in Go.
    let target = match endpoint.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => endpoint.into(),
    };
    let listener = TcpListener::bind(&target).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, tls: None, address })
}

/// Limits of one server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Streams that a client may have open on one HTTP/2 connection.
    pub(crate) max_concurrent_streams: Option<u32>,
}

/// Serves until `shutdown`, then until the requests under way are answered.
pub(crate) async fn serve<S, B>(
    bound: Bound,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connections = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&bound.listener, &room) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Failing to switch Nagle's algorithm off costs latency only.
        let _ = stream.set_nodelay(true);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(Some(Duration::from_secs(60)))
            .max_concurrent_streams(limits.max_concurrent_streams.or(Some(1024)));
        let service = TowerToHyperService::new(service.clone());
        let watcher = connections.watcher();
        let tls = bound.tls.clone();
        tokio::spawn(async move {
            let ended = match tls {
                None => {
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    watcher.watch(connection.into_owned()).await
                }
                Some(tls) => {
                    // A client that does not finish its handshake holds a connection no longer than this.
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let connection =
                                builder.serve_connection(TokioIo::new(stream), service);
                            watcher.watch(connection.into_owned()).await
                        }
                        Ok(Err(error)) => Err(error.into()),
                        Err(elapsed) => Err(elapsed.into()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(bound);
    connections.shutdown().await;
}

type Accepted = (tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Makes a service of a function that looks at a request's head only.
pub(crate) fn page<F>(
    answer: F,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static
where
    F: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + 'static,
{
    tower::service_fn(move |request: Request<Incoming>| {
        let response = answer(&request);
        async move { Ok(response) }
    })
}
