//! A Datadog intake that costs little: it keeps bodies as they came, and looks into them only when asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bench::payload::AgentPayload;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The sink.
#[derive(Clone, Default)]
pub(crate) struct Sink {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    bodies: Vec<Body>,
    /// How many of them are counted in `spans`.
    counted: usize,
    spans: u64,
    bytes: u64,
    stats_bytes: u64,
    broken: Option<String>,
}

struct Body {
    at: Instant,
    encoding: String,
    bytes: Bytes,
}

/// Totals of what arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrived {
    pub(crate) spans: u64,
    /// Of bodies of traces, as they were sent.
    pub(crate) bytes: u64,
    pub(crate) payloads: usize,
    pub(crate) stats_bytes: u64,
}

impl Sink {
    /// Serves on a port until the runtime ends.
    pub(crate) async fn start(port: u16) -> anyhow::Result<Self> {
        let sink = Self::default();
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| sink.answer(request));
                    // How a connection ends shows in what arrived.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(sink)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let reply = |status, text: &'static str| {
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = status;
            Ok(response)
        };
        let Ok(bytes) = body.collect().await.map(|body| body.to_bytes()) else {
            return reply(StatusCode::BAD_REQUEST, "");
        };
        let encoding = head.headers.get(http::header::CONTENT_ENCODING);
        let encoding =
            encoding.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match head.uri.path() {
            "/api/v0.2/traces" => {
                state.bytes += bytes.len() as u64;
                state.bodies.push(Body { at: Instant::now(), encoding, bytes });
                reply(StatusCode::ACCEPTED, r#"{"rate_by_service":{}}"#)
            }
            "/api/v0.2/stats" => {
                state.stats_bytes += bytes.len() as u64;
                reply(StatusCode::ACCEPTED, "{}")
            }
            "/api/v1/validate" => reply(StatusCode::OK, r#"{"valid":true}"#),
            _ => reply(StatusCode::ACCEPTED, r#"{"status":"ok","errors":[]}"#),
        }
    }

    /// Counts what has arrived.
    pub(crate) fn arrived(&self) -> anyhow::Result<Arrived> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(body) = state.bodies.get(state.counted) {
            match AgentPayload::read(body.encoding.as_bytes(), &body.bytes) {
                Ok(payload) => state.spans += payload.spans().count() as u64,
                Err(error) => state.broken = Some(format!("{error:#}")),
            }
            state.counted += 1;
        }
        if let Some(broken) = &state.broken {
            anyhow::bail!("the sink was sent what is no payload: {broken}");
        }
        Ok(Arrived {
            spans: state.spans,
            bytes: state.bytes,
            payloads: state.bodies.len(),
            stats_bytes: state.stats_bytes,
        })
    }

    /// How many payloads have arrived, without looking into them.
    pub(crate) fn payloads(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bodies.len()
    }

    /// When each trace arrived first, by the low half of its id.
    pub(crate) fn arrivals(&self) -> anyhow::Result<HashMap<u64, Instant>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arrivals = HashMap::new();
        for body in &state.bodies {
            for span in AgentPayload::read(body.encoding.as_bytes(), &body.bytes)?.spans() {
                arrivals.entry(span.trace_id).or_insert(body.at);
            }
        }
        Ok(arrivals)
    }
}
