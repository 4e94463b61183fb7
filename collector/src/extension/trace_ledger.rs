//! Reports over HTTP what became of the spans of a trace: `GET /debug/traces/{trace id}`. For tests; off unless configured.
//!
//! Memory is bounded: of the traces, the oldest are forgotten first, and an answer says if that happened.
//!
//! It also has senders answered what a test wants: `POST /debug/replies?status=503&retry_after=1s&for=20s`, and `DELETE` for the usual.

mod config;
mod script;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
pub(crate) use config::Config;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::Serialize;

pub(crate) use script::Reply;
use script::Scripts;

use crate::trace_batch::TraceBatch;

const PATH: &str = "/debug/traces/";
const REPLIES: &str = "/debug/replies";

/// How many senders are distinguished in a trace, and among those that came to the wrong port.
const MAX_SENDERS: usize = 20;

/// Span counts of the collector's stages, by trace.
#[derive(Debug)]
pub(crate) struct Ledger {
    max_traces: usize,
    state: Mutex<State>,
    scripts: Mutex<Scripts>,
}

/// A ledger, where there is one.
pub(crate) type Handle = Option<Arc<Ledger>>;

#[derive(Debug, Default)]
struct State {
    traces: HashMap<u128, Entry>,
    /// The oldest first.
    order: VecDeque<u128>,
    evicted: u64,
    /// How many requests came to the port of the other protocol, by their sender.
    wrong_port: BTreeMap<String, usize>,
}

/// Span counts of a trace.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Entry {
    accepted: usize,
    refused: usize,
    /// The refused ones, by their sender.
    refused_from: BTreeMap<String, usize>,
    exporters: BTreeMap<String, Exported>,
}

/// Span counts of a trace in an exporter.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Exported {
    exported: usize,
    /// By reason.
    dropped: BTreeMap<String, usize>,
}

impl Ledger {
    pub(crate) fn new(config: &Config) -> Self {
        let max_traces = config.max_traces;
        Self { max_traces, state: Mutex::default(), scripts: Mutex::default() }
    }

    /// A receiver took these spans.
    pub(crate) fn accepted(&self, batch: &TraceBatch) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in batch.trace_ids() {
            state.entry(id, self.max_traces).accepted += 1;
        }
    }

    /// A receiver refused these spans to a sender, by its name.
    pub(crate) fn refused(&self, batch: &TraceBatch, sender: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in batch.trace_ids() {
            let entry = state.entry(id, self.max_traces);
            entry.refused += 1;
            count(&mut entry.refused_from, sender);
        }
    }

    /// A sender came to the port of the other protocol.
    pub(crate) fn wrong_port(&self, sender: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut state.wrong_port, sender);
    }

    /// What a request with this head is answered instead of the usual, if that is scripted.
    pub(crate) fn scripted(&self, head: &HeaderMap) -> Option<Reply> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner).next(head)
    }

    /// An exporter sent these spans.
    pub(crate) fn exported(&self, exporter: &str, ids: impl IntoIterator<Item = u128>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            state.exporter(id, exporter, self.max_traces).exported += 1;
        }
    }

    /// An exporter dropped these spans.
    pub(crate) fn dropped(
        &self,
        exporter: &str,
        reason: &str,
        ids: impl IntoIterator<Item = u128>,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let exported = state.exporter(id, exporter, self.max_traces);
            *exported.dropped.entry(reason.into()).or_default() += 1;
        }
    }

    /// Answers a request for a trace, or one that scripts replies.
    pub(crate) fn answer(&self, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
        let (status, body) = match (uri.path(), method) {
            (REPLIES, &Method::POST | &Method::DELETE) => {
                let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
                let scripted = match *method {
                    Method::POST => scripts.add(uri.query().unwrap_or_default()),
                    _ => {
                        scripts.clear();
                        Ok(())
                    }
                };
                match scripted {
                    Ok(()) => (StatusCode::OK, serde_json::json!({})),
                    Err(error) => (StatusCode::BAD_REQUEST, serde_json::json!({ "error": error })),
                }
            }
            (path, _) => self.told(path),
        };
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = status;
        let kind = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        response
    }

    /// What is reported a trace.
    fn told(&self, path: &str) -> (StatusCode, serde_json::Value) {
        let id = path.strip_prefix(PATH).filter(|id| id.len() == 32);
        let id = id.and_then(|id| u128::from_str_radix(id, 16).ok());
        match id {
            Some(id) => {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let entry = state.traces.get(&id).cloned().unwrap_or_default();
                let body = serde_json::json!({
                    "trace_id": format!("{id:032x}"),
                    "accepted": entry.accepted,
                    "refused": entry.refused,
                    "refused_from": entry.refused_from,
                    "wrong_port": state.wrong_port,
                    "exporters": entry.exporters,
                    "evicted": state.evicted > 0 && !state.traces.contains_key(&id),
                });
                (StatusCode::OK, body)
            }
            None => {
                let error = format!("write {PATH} and a trace id of 32 hexadecimal digits");
                (StatusCode::NOT_FOUND, serde_json::json!({ "error": error }))
            }
        }
    }
}

/// Counts one more of a sender, unless there are too many others.
fn count(senders: &mut BTreeMap<String, usize>, sender: &str) {
    if senders.len() < MAX_SENDERS || senders.contains_key(sender) {
        *senders.entry(sender.to_owned()).or_default() += 1;
    }
}

impl State {
    fn entry(&mut self, id: u128, max_traces: usize) -> &mut Entry {
        if !self.traces.contains_key(&id) {
            while self.order.len() >= max_traces {
                if let Some(oldest) = self.order.pop_front() {
                    self.traces.remove(&oldest);
                    self.evicted += 1;
                }
            }
            self.order.push_back(id);
        }
        self.traces.entry(id).or_default()
    }

    fn exporter(&mut self, id: u128, exporter: &str, max_traces: usize) -> &mut Exported {
        self.entry(id, max_traces).exporters.entry(exporter.into()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};
    use http_body_util::BodyExt as _;

    use super::{Config, Ledger};

    async fn answer(ledger: &Ledger, path: &str) -> serde_json::Value {
        let uri: Uri = path.parse().unwrap();
        let body =
            ledger.answer(&Method::GET, &uri).into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn the_oldest_traces_are_forgotten_and_the_answer_says_so() {
        let ledger = Ledger::new(&Config { max_traces: 2, ..Config::default() });
        ledger.exported("datadog", [1, 1, 2]);
        ledger.dropped("datadog", "too_large", [3]);
        let one = answer(&ledger, "/debug/traces/00000000000000000000000000000001").await;
        assert_eq!((&one["accepted"], &one["evicted"]), (&0.into(), &true.into()));
        let three = answer(&ledger, "/debug/traces/00000000000000000000000000000003").await;
        assert_eq!(three["exporters"]["datadog"]["dropped"]["too_large"], 1);
        assert_eq!(three["evicted"], false);
        let unknown = Uri::from_static("/debug/traces/xyz");
        assert_eq!(ledger.answer(&Method::GET, &unknown).status(), 404);
    }
}
