//! Listening and serving HTTP: the one accept loop that receivers, self-metrics and health share.
//!
//! Connections are bounded in number and in time ([`connections`]), heads in size; bodies are the service's matter. At
//! shutdown no connection is accepted any more, those that are idle are closed, and those with a request in flight get it
//! answered.

mod connections;
mod large_heads;
mod lingering;

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use connections::{Connection, Connections};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use large_heads::LargeHeads;
use lingering::Lingering;
use nix::sys::resource::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::sender::Peer;
use crate::telemetry::{Counter, Registry};
use crate::tls;

/// How many connections one port serves at a time; fewer where the process may not have that many files. A newcomer beyond
/// that takes the place of an idle one.
pub(crate) const MAX_CONNECTIONS: usize = 16_384;
/// How long a client may take to make its first request, and in HTTP/1 to send the head of any.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes. In HTTP/1 it is the size of the buffer for reading too.
pub(crate) const MAX_HEAD_BYTES: u32 = 64 << 10;
/// How many headers a request of HTTP/1 may have: what hyper takes. More are a head that is too large.
#[cfg(test)]
pub(crate) const MAX_HEADERS: usize = 100;
/// How long a client may take to agree on TLS.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that is to be closed for being idle may take to do so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How many connections may wait to be accepted, as in Go; the system has a limit of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// How long to wait after an accept that failed, for example because no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Error for a port that cannot be served.
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
    tls: Option<tls::reload::Server>,
    large_heads: Option<LargeHeads>,
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Makes connections with TLS, if there is one.
    pub(crate) fn with_tls(mut self, tls: Option<tls::reload::Server>) -> Self {
        self.tls = tls;
        self
    }

    /// Reads the files of TLS again, where a setting asks for it; `key` is that of the `tls` section.
    pub(crate) fn following_tls(mut self, registry: &Registry, key: &str) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.follow(registry, key);
        }
        self
    }

    /// Counts requests of HTTP/1 whose heads are too large, and names the first in the log.
    pub(crate) fn counting_large_heads(mut self, counter: Counter) -> Self {
        self.large_heads = Some(LargeHeads::new(counter));
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
    let mut last =
        std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, "the name has no address");
    for asked in tokio::net::lookup_host(&target).await.map_err(failed)? {
        match listen(asked) {
            Ok(listener) => {
                let bound = listener.local_addr().map_err(failed)?;
                // Whoever reads it knows the address that was asked for.
                let address = SocketAddr::new(asked.ip(), bound.port());
                return Ok(Bound { listener, tls: None, large_heads: None, address });
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Listens on an address. Every address is every one of IPv6 and of IPv4, as in Go, where the machine has IPv6.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    if address.ip().is_unspecified() {
        let every = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        match listen_on(every) {
            Err(error) if is_without_ipv6(&error) => {
                let every = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
                return listen_on(every);
            }
            outcome => return outcome,
        }
    }
    listen_on(address)
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // So that a collector that is started again need not wait for its old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Returns whether this machine has no IPv6, or has it switched off.
fn is_without_ipv6(error: &std::io::Error) -> bool {
    const WITHOUT: [nix::errno::Errno; 3] = [
        nix::errno::Errno::EAFNOSUPPORT,
        nix::errno::Errno::EPROTONOSUPPORT,
        nix::errno::Errno::EADDRNOTAVAIL,
    ];
    let raw = error.raw_os_error().map(nix::errno::Errno::from_raw);
    raw.is_some_and(|raw| WITHOUT.contains(&raw))
}

/// Limits of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Streams that a client may have open on one HTTP/2 connection.
    pub(crate) max_concurrent_streams: u32,
    /// After how much silence an HTTP/2 client is asked whether it is still there.
    pub(crate) ping_after: Duration,
    /// How long its answer may take.
    pub(crate) ping_timeout: Duration,
    /// How long an HTTP/2 connection may be idle; for ever if `None`. In HTTP/1, [`HEADER_TIMEOUT`].
    pub(crate) max_idle: Option<Duration>,
    /// How long a connection may last, and how long its requests may then go on; for ever if `None`.
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_age_grace: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1024,
            ping_after: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(20),
            max_idle: None,
            max_age: None,
            max_age_grace: None,
        }
    }
}

impl Limits {
    fn builder(self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(Some(self.ping_after))
            .keep_alive_timeout(self.ping_timeout)
            .max_header_list_size(MAX_HEAD_BYTES)
            .max_concurrent_streams(self.max_concurrent_streams);
        builder
    }
}

/// Serves until `shutdown`, then until the requests in flight are answered.
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
    let connections = Connections::new(max_connections());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = bound.listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                connections.close_idle();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = tokio::select! {
            () = shutdown.cancelled() => break,
            connection = connections.admit() => connection,
        };
        let serving = Serving {
            service: service.clone(),
            peer: Peer::of(address.ip()),
            limits,
            connection,
            shutdown: shutdown.clone(),
        };
        let tls = bound.tls.as_ref().map(|tls| tls.current.borrow().clone());
        let large_heads = bound.large_heads.clone();
        tokio::spawn(async move {
            if let Err(error) = serving.accepted(stream, tls).await {
                if let Some(large_heads) = large_heads {
                    large_heads.note(address, &*error);
                }
                tracing::debug!(error, "a connection ended early");
            }
        });
    }
    drop(bound);
    connections.all_gone().await;
}

/// How many connections a port may have, so that files are left for others.
fn max_connections() -> usize {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    MAX_CONNECTIONS.min(usize::try_from(files / 4 * 3).unwrap_or(MAX_CONNECTIONS)).max(16)
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// One connection, and how it is served.
struct Serving<S> {
    service: S,
    peer: Peer,
    limits: Limits,
    connection: Connection,
    shutdown: CancellationToken,
}

impl<S, B> Serving<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn accepted(self, stream: TcpStream, tls: Option<TlsAcceptor>) -> Ended {
        // Failing to switch Nagle's algorithm off costs latency only.
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.serve(stream).await,
            Some(tls) => {
                // A client that does not finish its handshake holds a connection no longer than this.
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
                let stream = tokio::select! {
                    stream = handshake => stream??,
                    () = self.connection.close.cancelled() => return Ok(()),
                    () = self.shutdown.cancelled() => return Ok(()),
                };
                self.serve(stream).await
            }
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Ended {
        let Self { service, peer, limits, connection, shutdown } = self;
        let service = TowerToHyperService::new(connection.watch(service, peer));
        let builder = limits.builder();
        let mut serving =
            std::pin::pin!(builder.serve_connection(TokioIo::new(Lingering::new(stream)), service));
        let age = async {
            match limits.max_age {
                Some(age) => tokio::time::sleep(age).await,
                None => std::future::pending().await,
            }
        };
        let grace = tokio::select! {
            ended = serving.as_mut() => return ended,
            // Room is needed now.
            () = connection.close.cancelled() => return Ok(()),
            () = shutdown.cancelled() => None,
            () = connection.is_due(HEADER_TIMEOUT, limits.max_idle) => Some(CLOSE_TIMEOUT),
            () = age => limits.max_age_grace,
        };
        serving.as_mut().graceful_shutdown();
        let grace = async {
            match grace {
                Some(grace) => tokio::time::sleep(grace).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = serving => ended,
            () = connection.close.cancelled() => Ok(()),
            () = grace => Ok(()),
        }
    }
}

/// Returns the peer that sent a request.
pub(crate) fn peer<B>(request: &Request<B>) -> Peer {
    request.extensions().get().copied().unwrap_or(Peer::UNKNOWN)
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use tokio::net::TcpStream;

    use super::bind;

    #[tokio::test]
    async fn every_address_is_every_one_of_ipv4_and_ipv6() {
        let has_ipv6 = tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
        for endpoint in ["0.0.0.0:0", ":0", "[::]:0"] {
            let bound = bind(endpoint, "endpoint").await.unwrap();
            let port = bound.address.port();
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            if has_ipv6 {
                TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
            }
        }
        let bound = bind("0.0.0.0:0", "endpoint").await.unwrap();
        assert_eq!(bound.address.ip(), Ipv4Addr::UNSPECIFIED, "it is reported as it was asked for");
    }

    #[tokio::test]
    async fn more_than_a_few_connections_wait_to_be_accepted() {
        // What fits beside the files of other tests; a backlog of 128 is full long before.
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let waiting = most.trim().parse::<usize>().unwrap().min(600);
        let bound = bind("127.0.0.1:0", "endpoint").await.unwrap();
        let mut connections = Vec::new();
        for number in 0..waiting {
            let connect = TcpStream::connect(bound.address);
            let connected = tokio::time::timeout(std::time::Duration::from_secs(10), connect).await;
            let connected = connected.unwrap_or_else(|_| panic!("{number} wait, and no more"));
            connections.push(connected.unwrap());
        }
    }

    #[tokio::test]
    async fn one_address_is_only_that_one() {
        let bound = bind("127.0.0.1:0", "endpoint").await.unwrap();
        assert_eq!(bound.address.ip(), Ipv4Addr::LOCALHOST);
        let port = bound.address.port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let other = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert!(TcpStream::connect(other).await.is_err());
        let taken = bind(&bound.address.to_string(), "a.b.endpoint").await.err().unwrap();
        let text = taken.to_string();
        assert!(text.contains("`a.b.endpoint`") && text.contains("another process"), "{text}");
    }
}
