//! A Datadog intake that can be broken, and knows each span that it accepted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bench::payload::AgentPayload;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Behaviour of the intake towards traces and stats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Works,
    /// Answers so, with these seconds in `Retry-After`.
    Status(u16, Option<u64>),
    /// Nobody listens, and open connections are gone.
    Refuses,
    /// Three of four requests find their connection reset: before the body is read, or after.
    Resets,
    /// Bodies of more bytes are too large.
    TooLarge(usize),
    /// Accepts, and says so after this time.
    Delays(Duration),
}

/// The intake.
pub(crate) struct Intake {
    mode: watch::Sender<Mode>,
    shared: Arc<Shared>,
    pub(crate) port: u16,
}

#[derive(Default)]
struct Shared {
    requests: AtomicU64,
    /// How often each span was accepted.
    accepted: Mutex<HashMap<u64, u32>>,
    /// Bodies that are accepted and not looked into yet.
    unread: AtomicU64,
}

impl Intake {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (mode, changes) = watch::channel(Mode::Works);
        let (bodies, unread) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let reader = Arc::clone(&shared);
        std::thread::spawn(move || read(&reader, &unread));
        tokio::spawn(listen(listener, port, changes, Arc::clone(&shared), bodies));
        Ok(Self { mode, shared, port })
    }

    pub(crate) fn set(&self, mode: Mode) {
        // It is heard for as long as the intake is there.
        let _ = self.mode.send(mode);
    }

    /// How many spans were accepted, each once; `None` while bodies are still looked into.
    pub(crate) fn arrived(&self) -> Option<usize> {
        let settled = self.shared.unread.load(Ordering::Acquire) == 0;
        settled.then(|| self.accepted(HashMap::len))
    }

    /// Requests so far, whatever became of them.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Looks at how often each span was accepted.
    pub(crate) fn accepted<T>(&self, look: impl FnOnce(&HashMap<u64, u32>) -> T) -> T {
        look(&self.shared.accepted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Body = (HeaderMap, Bytes);

/// Looks into bodies until the intake is gone.
fn read(shared: &Shared, bodies: &mpsc::Receiver<Body>) {
    while let Ok((headers, body)) = bodies.recv() {
        // A body that cannot be read has no spans, so that they are missing.
        let encoding = headers.get(http::header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
        let payload = AgentPayload::read(encoding.unwrap_or_default(), &body).unwrap_or_default();
        let mut accepted = shared.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        for span in payload.spans() {
            *accepted.entry(span.span_id).or_default() += 1;
        }
        drop(accepted);
        shared.unread.fetch_sub(1, Ordering::Release);
    }
}

async fn listen(
    listener: TcpListener,
    port: u16,
    mut changes: watch::Receiver<Mode>,
    shared: Arc<Shared>,
    bodies: mpsc::Sender<Body>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let mode = *changes.borrow_and_update();
        match (mode, &listener) {
            (Mode::Refuses, _) => {
                listener = None;
                connections.shutdown().await;
                if changes.changed().await.is_err() {
                    return;
                }
            }
            (_, None) => match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(bound) => listener = Some(bound),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            (_, Some(bound)) => {
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() {
                        return;
                    },
                    Ok((stream, _)) = bound.accept() => {
                        let (mode, shared, bodies) = (changes.clone(), Arc::clone(&shared), bodies.clone());
                        connections.spawn(serve(stream, mode, shared, bodies));
                    }
                }
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    mode: watch::Receiver<Mode>,
    shared: Arc<Shared>,
    bodies: mpsc::Sender<Body>,
) {
    // However the connection ends, its peer learns of it at once.
    let _ = stream.set_zero_linger();
    let service = service_fn(|request| {
        let mode = *mode.borrow();
        answer(request, mode, Arc::clone(&shared), bodies.clone())
    });
    // How a connection ends shows in what arrived.
    let connection = hyper::server::conn::http1::Builder::new();
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

/// Says that the connection is to be dropped.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset, as it is to be")]
struct Reset;

async fn answer(
    request: Request<Incoming>,
    mode: Mode,
    shared: Arc<Shared>,
    bodies: mpsc::Sender<Body>,
) -> Result<Response<Full<Bytes>>, Reset> {
    let (head, body) = request.into_parts();
    let is_traces = head.uri.path() == "/api/v0.2/traces";
    let is_stats = head.uri.path() == "/api/v0.2/stats";
    let turn = match is_traces {
        true => shared.requests.fetch_add(1, Ordering::Relaxed),
        false => 0,
    };
    if mode == Mode::Resets && is_traces && turn % 4 == 0 {
        return Err(Reset);
    }
    let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else { return Err(Reset) };
    if head.uri.path() == "/api/v1/validate" {
        return Ok(reply(200, r#"{"valid":true}"#));
    }
    if !is_traces && !is_stats {
        return Ok(reply(202, r#"{"status":"ok","errors":[]}"#));
    }
    match mode {
        Mode::Status(status, after) => {
            let mut response = reply(status, "");
            if let Some(after) = after {
                response.headers_mut().insert(http::header::RETRY_AFTER, after.into());
            }
            return Ok(response);
        }
        Mode::TooLarge(limit) if body.len() > limit => return Ok(reply(413, "")),
        Mode::Resets if is_traces && turn % 4 < 3 => return Err(Reset),
        _ => {}
    }
    if is_traces {
        shared.unread.fetch_add(1, Ordering::Relaxed);
        // The reader ends with the intake.
        let _ = bodies.send((head.headers, body));
    }
    if let Mode::Delays(time) = mode {
        tokio::time::sleep(time).await;
    }
    Ok(reply(202, r#"{"rate_by_service":{}}"#))
}

fn reply(status: u16, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}
