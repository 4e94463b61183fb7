//! Tells over HTTP what became of the spans of a trace: `GET /debug/traces/{trace id}`. For tests; off unless configured.
//!
//! Memory is bounded: of the traces, the oldest are forgotten first, and an answer says if that happened.

mod config;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
pub(crate) use config::Config;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::trace_batch::TraceBatch;

const PATH: &str = "/debug/traces/";

/// What the stages of the collector say about spans, by trace.
#[derive(Debug)]
pub(crate) struct Ledger {
    max_traces: usize,
    state: Mutex<State>,
}

/// A ledger, where there is one.
pub(crate) type Handle = Option<Arc<Ledger>>;

#[derive(Debug, Default)]
struct State {
    traces: HashMap<u128, Entry>,
    /// The oldest first.
    order: VecDeque<u128>,
    evicted: u64,
}

/// What is known of a trace, in spans.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Entry {
    accepted: usize,
    refused: usize,
    exporters: BTreeMap<String, Exported>,
}

/// What an exporter did with a trace, in spans.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Exported {
    exported: usize,
    /// By reason.
    dropped: BTreeMap<String, usize>,
}

impl Ledger {
    pub(crate) fn new(config: &Config) -> Self {
        Self { max_traces: config.max_traces, state: Mutex::default() }
    }

    /// A receiver took these spans, or refused them.
    pub(crate) fn received(&self, batch: &TraceBatch, accepted: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in batch.trace_ids() {
            let entry = state.entry(id, self.max_traces);
            if accepted {
                entry.accepted += 1;
            } else {
                entry.refused += 1;
            }
        }
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

    /// Answers a request for a trace.
    pub(crate) fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let id = path.strip_prefix(PATH).filter(|id| id.len() == 32);
        let id = id.and_then(|id| u128::from_str_radix(id, 16).ok());
        let (status, body) = match id {
            Some(id) => {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let entry = state.traces.get(&id).cloned().unwrap_or_default();
                let body = serde_json::json!({
                    "trace_id": format!("{id:032x}"),
                    "accepted": entry.accepted,
                    "refused": entry.refused,
                    "exporters": entry.exporters,
                    "evicted": state.evicted > 0 && !state.traces.contains_key(&id),
                });
                (StatusCode::OK, body)
            }
            None => {
                let error = format!("write {PATH} and a trace id of 32 hexadecimal digits");
                (StatusCode::NOT_FOUND, serde_json::json!({ "error": error }))
            }
        };
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = status;
        let kind = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        response
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
    use http_body_util::BodyExt as _;

    use super::{Config, Ledger};

    async fn answer(ledger: &Ledger, path: &str) -> serde_json::Value {
        let body = ledger.answer(path).into_body().collect().await.unwrap().to_bytes();
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
        assert_eq!(ledger.answer("/debug/traces/xyz").status(), 404);
    }
}
