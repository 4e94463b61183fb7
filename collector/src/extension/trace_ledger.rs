//! Reports over HTTP what became of the spans of a trace: `GET /debug/traces/{trace id}`. For tests; off unless configured.
//!
//! It shows the spans as they came and as they were sent, so that what changes them on their way is found. Memory is bounded: of the
//! traces, the oldest are forgotten first, and an answer says if that happened; their spans go earlier, by their bytes.
//!
//! It also has senders answered what a test wants: `POST /debug/replies?status=503&retry_after=1s&for=20s`, and `DELETE` for the usual.

mod config;
mod script;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
pub(crate) use config::Config;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::{Serialize, Serializer};

pub(crate) use script::Reply;
use script::Scripts;

use crate::trace_batch::TraceBatch;

const PATH: &str = "/debug/traces/";
const REPLIES: &str = "/debug/replies";

/// How many senders are distinguished in a trace, and among those that came to the wrong port.
const MAX_SENDERS: usize = 20;

/// Most bytes of spans that are kept; beyond them, those of the oldest traces are forgotten, and only counts are left of them.
const MAX_SPAN_BYTES: usize = 32 << 20;

/// Span counts of the collector's stages, by trace, with the spans as they came and as they were sent.
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
    /// The traces of which spans are kept, the oldest first.
    with_spans: VecDeque<u128>,
    /// How many bytes of spans are kept.
    span_bytes: usize,
    /// How many requests came to the port of the other protocol, by their sender.
    wrong_port: BTreeMap<String, usize>,
    /// How many requests were refused for their credentials, by their sender.
    unauthenticated: BTreeMap<String, usize>,
}

/// The message of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message(Box<[u8]>);

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

/// Span counts of a trace.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Entry {
    accepted: usize,
    refused: usize,
    /// The refused ones, by their sender.
    refused_from: BTreeMap<String, usize>,
    /// Spans that samplers dropped, by the processor's id and the reason.
    sampled_out: BTreeMap<String, BTreeMap<String, usize>>,
    exporters: BTreeMap<String, Exported>,
    /// The accepted spans, as messages of OTLP.
    spans: Vec<Message>,
}

impl Entry {
    /// Forgets the spans, and gives back how many bytes they had.
    fn forget_spans(&mut self) -> usize {
        let sent = self.exporters.values_mut().flat_map(|of| std::mem::take(&mut of.spans));
        std::mem::take(&mut self.spans)
            .into_iter()
            .chain(sent)
            .map(|Message(span)| span.len())
            .sum()
    }
}

/// Span counts of a trace in an exporter.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Exported {
    exported: usize,
    /// By reason.
    dropped: BTreeMap<String, usize>,
    /// The sent spans, as messages of Datadog's, where they were sent in that form.
    spans: Vec<Message>,
    /// Reason for which the last attempt to send spans failed that is made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retried: Option<String>,
}

impl Ledger {
    pub(crate) fn new(config: &Config) -> Self {
        let max_traces = config.max_traces;
        Self { max_traces, state: Mutex::default(), scripts: Mutex::default() }
    }

    /// A receiver took these spans.
    pub(crate) fn accepted(&self, batch: &TraceBatch) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, span) in batch.resources().flat_map(|resource| resource.spans()) {
            let message = state.keep(span.trace_id, span.message(), self.max_traces);
            let entry = state.entry(span.trace_id, self.max_traces);
            entry.accepted += 1;
            entry.spans.push(message);
        }
        state.keep_within(MAX_SPAN_BYTES);
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

    /// A receiver refused a request for its credentials, for this reason.
    pub(crate) fn unauthenticated(&self, sender: &str, reason: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut state.unauthenticated, &format!("{sender}: {reason}"));
    }

    /// Returns the response to a request with this head, if one is scripted.
    pub(crate) fn scripted(&self, head: &HeaderMap) -> Option<Reply> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner).next(head)
    }

    /// A processor dropped these spans, which it is there to do.
    pub(crate) fn sampled_out(
        &self,
        processor: &str,
        reason: &str,
        ids: impl IntoIterator<Item = u128>,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let reasons =
                state.entry(id, self.max_traces).sampled_out.entry(processor.into()).or_default();
            *reasons.entry(reason.into()).or_default() += 1;
        }
    }

    /// An exporter sent these spans.
    pub(crate) fn exported(&self, exporter: &str, ids: impl IntoIterator<Item = u128>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            state.exporter(id, exporter, self.max_traces).exported += 1;
        }
    }

    /// An exporter sent this span, a message of Datadog's.
    pub(crate) fn sent(&self, exporter: &str, id: u128, span: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let message = state.keep(id, span, self.max_traces);
        state.exporter(id, exporter, self.max_traces).spans.push(message);
        state.keep_within(MAX_SPAN_BYTES);
    }

    /// An exporter could not send these spans, for this reason, and tries again.
    pub(crate) fn retried(
        &self,
        exporter: &str,
        reason: &str,
        ids: impl IntoIterator<Item = u128>,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let exported = state.exporter(id, exporter, self.max_traces);
            if exported.retried.as_deref() != Some(reason) {
                exported.retried = Some(reason.into());
            }
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
            (path, _) => self.report(path),
        };
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = status;
        let kind = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        response
    }

    /// Returns the report of a trace.
    fn report(&self, path: &str) -> (StatusCode, serde_json::Value) {
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
                    "unauthenticated": state.unauthenticated,
                    "sampled_out": entry.sampled_out,
                    "exporters": entry.exporters,
                    "spans": entry.spans,
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
                    let gone = self.traces.remove(&oldest);
                    self.span_bytes -= gone.map_or(0, |mut gone| gone.forget_spans());
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

    /// Counts a span that is going to be kept with its trace.
    fn keep(&mut self, id: u128, span: &[u8], max_traces: usize) -> Message {
        let entry = self.entry(id, max_traces);
        let is_first =
            entry.spans.is_empty() && entry.exporters.values().all(|of| of.spans.is_empty());
        if is_first {
            self.with_spans.push_back(id);
        }
        self.span_bytes += span.len();
        Message(span.into())
    }

    /// Forgets spans of the oldest traces until no more than so many bytes are kept.
    fn keep_within(&mut self, max_bytes: usize) {
        while self.span_bytes > max_bytes {
            let Some(oldest) = self.with_spans.pop_front() else { return };
            let entry = self.traces.get_mut(&oldest);
            self.span_bytes -= entry.map_or(0, Entry::forget_spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};
    use http_body_util::BodyExt as _;

    use super::{Config, Ledger, State};

    async fn answer(ledger: &Ledger, path: &str) -> serde_json::Value {
        let uri: Uri = path.parse().unwrap();
        let body =
            ledger.answer(&Method::GET, &uri).into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn spans_are_reported_as_they_were_sent_until_there_are_too_many_bytes_of_them() {
        let ledger = Ledger::new(&Config::default());
        ledger.exported("datadog", [1, 2]);
        ledger.sent("datadog", 1, b"one");
        ledger.sent("datadog", 2, b"two");
        let path = "/debug/traces/00000000000000000000000000000001";
        let one = answer(&ledger, path).await;
        assert_eq!(one["exporters"]["datadog"]["spans"], serde_json::json!(["b25l"]));
        let kept = |state: &State| (state.span_bytes, state.with_spans.len());
        {
            let mut state = ledger.state.lock().unwrap();
            assert_eq!(kept(&state), (6, 2));
            state.keep_within(5);
            assert_eq!(kept(&state), (3, 1));
        }
        let one = answer(&ledger, path).await;
        assert_eq!(one["exporters"]["datadog"]["spans"], serde_json::json!([]));
        assert_eq!(one["exporters"]["datadog"]["exported"], 1);
    }

    #[tokio::test]
    async fn the_oldest_traces_are_forgotten_and_the_answer_says_so() {
        let ledger = Ledger::new(&Config { max_traces: 2, ..Config::default() });
        ledger.exported("datadog", [1, 1, 2]);
        ledger.dropped("datadog", "too_large", [3]);
        ledger.retried("datadog", "Datadog answered 429", [3]);
        let one = answer(&ledger, "/debug/traces/00000000000000000000000000000001").await;
        assert_eq!((&one["accepted"], &one["evicted"]), (&0.into(), &true.into()));
        let three = answer(&ledger, "/debug/traces/00000000000000000000000000000003").await;
        assert_eq!(three["exporters"]["datadog"]["dropped"]["too_large"], 1);
        assert_eq!(three["exporters"]["datadog"]["retried"], "Datadog answered 429");
        assert_eq!(three["evicted"], false);
        ledger.sampled_out("tail_sampling", "not_sampled", [3, 3]);
        let three = answer(&ledger, "/debug/traces/00000000000000000000000000000003").await;
        assert_eq!(three["sampled_out"]["tail_sampling"]["not_sampled"], 2);
        let unknown = Uri::from_static("/debug/traces/xyz");
        assert_eq!(ledger.answer(&Method::GET, &unknown).status(), 404);
    }
}
