//! The load generator: OTLP over gRPC, one request at a time on each connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::traffic::Traffic;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How long a refused sender waits.
const PAUSE: Duration = Duration::from_millis(5);

/// How much is sent, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) spans: u64,
    pub(crate) connections: usize,
    /// Spans a second at most.
    pub(crate) rate: Option<u64>,
}

/// How it went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: u64,
    pub(crate) elapsed: Duration,
    /// Requests that were refused and sent again, by the answer.
    pub(crate) refused: BTreeMap<String, u64>,
}

/// A connection to a subject.
pub(crate) struct Connection {
    send: SendRequest<Full<Bytes>>,
    port: u16,
}

impl Connection {
    pub(crate) async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Self { send, port })
    }

    /// Sends one gRPC message; what is not OK is the answer's `grpc-status`.
    pub(crate) async fn export(&mut self, message: Vec<u8>) -> anyhow::Result<Result<(), String>> {
        let request = Request::post(format!("http://127.0.0.1:{}{EXPORT}", self.port))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::from(message))?;
        self.send.ready().await?;
        let (head, body) = self.send.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        let status = status.or_else(|| head.headers.get("grpc-status"));
        Ok(match status.map(http::HeaderValue::as_bytes) {
            Some(b"0") => Ok(()),
            status => Err(String::from_utf8_lossy(status.unwrap_or(b"none")).into_owned()),
        })
    }
}

/// Sends until everything is acknowledged.
pub(crate) async fn run(port: u16, traffic: &Arc<Traffic>, load: Load) -> anyhow::Result<Outcome> {
    let requests = load.spans.div_ceil(traffic.spans_per_request as u64);
    let (next, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(BTreeMap::new())));
    let mut workers = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for _ in 0..load.connections {
        let (traffic, next, refused) =
            (Arc::clone(traffic), Arc::clone(&next), Arc::clone(&refused));
        let mut connection = Connection::open(port).await.context("the load generator")?;
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return anyhow::Ok(());
                }
                if let Some(rate) = load.rate {
                    let spans = number * traffic.spans_per_request as u64;
                    sleep_until(begun + Duration::from_secs_f64(spans as f64 / rate as f64)).await;
                }
                while let Err(status) = connection.export(traffic.message(number)).await? {
                    *refused
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(status)
                        .or_default() += 1;
                    sleep(PAUSE).await;
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Outcome {
        acknowledged: requests * traffic.spans_per_request as u64,
        elapsed: begun.elapsed(),
        refused,
    })
}
