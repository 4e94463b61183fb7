//! Ledger of this service's own spans, by trace: the first of the accounts that a harness audits.
//!
//! The ledger learns of recorded spans as a span processor, from the same `SpanData` that the exporter is handed, and
//! of unsampled ones (which no processor ever sees) from the module `span`. Of recorded ones it keeps what the exporter
//! is to hand on. The number of spans and traces is bounded; the oldest trace goes first, and what went is counted.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanKind, Status};
use opentelemetry::{Context, Key, SpanId, TraceId, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use serde::Serialize;

/// Bounds of the ledger.
#[derive(Clone, Copy, Debug)]
pub struct LedgerLimits {
    /// Spans, over all traces.
    pub max_spans: usize,
    /// Traces.
    pub max_traces: usize,
}

impl Default for LedgerLimits {
    /// 40 000 spans of 20 000 traces: about 40 MB when full.
    fn default() -> Self {
        Self { max_spans: 40_000, max_traces: 20_000 }
    }
}

/// A span this service ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerSpan {
    #[serde(serialize_with = "as_text")]
    span_id: SpanId,
    #[serde(serialize_with = "as_text_unless_invalid")]
    parent_span_id: SpanId,
    name: Cow<'static, str>,
    kind: &'static str,
    sampled: bool,
    /// Whether the context that was sent said *sampled*, where one was sent and this span was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_sampled: Option<bool>,
    /// Recorded parts of it; `None` of a span that was not sampled.
    #[serde(flatten)]
    recorded: Option<Recorded>,
}

/// Longest text of an attribute that is kept, in characters.
const MAX_TEXT: usize = 64;

/// Recorded parts of a span, as they were when it ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Recorded {
    /// Nanoseconds since the Unix epoch.
    start: u64,
    /// Nanoseconds since the Unix epoch.
    end: u64,
    /// `unset`, `ok` or `error`.
    status: &'static str,
    /// Text of each attribute that is no list, as far as [`MAX_TEXT`].
    #[serde(serialize_with = "as_map")]
    attributes: Vec<(Key, String)>,
    events: usize,
    links: usize,
}

impl From<&SpanData> for Recorded {
    fn from(span: &SpanData) -> Self {
        let nanos = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        };
        let attributes = span.attributes.iter();
        let plain = attributes.filter(|one| !matches!(one.value, Value::Array(_)));
        let text = |value: &Value| value.as_str().chars().take(MAX_TEXT).collect();
        Self {
            start: nanos(span.start_time),
            end: nanos(span.end_time),
            status: match span.status {
                Status::Unset => "unset",
                Status::Ok => "ok",
                Status::Error { .. } => "error",
            },
            attributes: plain.map(|one| (one.key.clone(), text(&one.value))).collect(),
            events: span.events.events.len(),
            links: span.links.links.len(),
        }
    }
}

impl LedgerSpan {
    /// Makes the entry of a span that was not sampled.
    pub(crate) fn unsampled(
        span_id: SpanId,
        parent: &SpanContext,
        name: Cow<'static, str>,
        kind: &SpanKind,
    ) -> Self {
        // The SDK makes a new root of a parent that is not valid.
        let parent = if parent.is_valid() { parent } else { &SpanContext::NONE };
        Self {
            span_id,
            parent_span_id: parent.span_id(),
            name,
            kind: kind_word(kind),
            sampled: false,
            parent_sampled: parent.is_remote().then(|| parent.is_sampled()),
            recorded: None,
        }
    }
}

impl From<&SpanData> for LedgerSpan {
    fn from(span: &SpanData) -> Self {
        Self {
            span_id: span.span_context.span_id(),
            parent_span_id: span.parent_span_id,
            name: span.name.clone(),
            kind: kind_word(&span.span_kind),
            sampled: span.span_context.is_sampled(),
            parent_sampled: None,
            recorded: span.span_context.is_sampled().then(|| Recorded::from(span)),
        }
    }
}

/// One trace's page: the body of `GET /ledger/{trace_id}`.
#[derive(Debug, Serialize)]
pub struct TracePage {
    #[serde(serialize_with = "as_text")]
    trace_id: TraceId,
    spans: Vec<LedgerSpan>,
    /// Some of this trace's spans may have been pushed out.
    evicted: bool,
}

/// The totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Spans ended, sampled or not, evicted or not.
    pub spans_ended: u64,
    /// Sampled spans among these, which the exporter should be handed.
    #[serde(skip)]
    pub sampled_ended: u64,
    /// Traces kept now.
    pub traces: usize,
    /// Spans pushed out of the bounded memory.
    pub spans_evicted: u64,
    /// Spans started and not yet ended.
    pub open_spans: u64,
}

/// The books, shared by everything that ends spans.
#[derive(Debug)]
pub struct Ledger {
    limits: LedgerLimits,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    traces: HashMap<TraceId, Trace>,
    /// Trace ids, oldest first; each of `traces` once.
    order: VecDeque<TraceId>,
    /// The latest traces of which spans were pushed out, oldest first, as many as `max_traces`.
    forgotten: VecDeque<TraceId>,
    forgotten_ids: HashSet<TraceId>,
    /// `forgotten` itself had to forget: of no unknown trace can it be said that nothing was pushed out.
    forgotten_overflowed: bool,
    kept_spans: usize,
    totals: Totals,
}

#[derive(Debug, Default)]
struct Trace {
    spans: VecDeque<LedgerSpan>,
    evicted: bool,
}

impl Ledger {
    /// Opens empty books.
    pub fn new(limits: LedgerLimits) -> Self {
        Self { limits, books: Mutex::default() }
    }

    /// Counts a span as started.
    pub(crate) fn open(&self) {
        self.books().totals.open_spans += 1;
    }

    /// Enters a span that has ended, after [`Ledger::open`].
    pub(crate) fn close(&self, trace_id: TraceId, span: LedgerSpan) {
        let mut books = self.books();
        books.totals.open_spans = books.totals.open_spans.saturating_sub(1);
        books.totals.spans_ended += 1;
        books.totals.sampled_ended += u64::from(span.sampled);
        books.enter(trace_id, span);
        books.keep_within(self.limits);
    }

    /// Returns the page of one trace, in the order in which its spans ended; empty when there is none.
    pub fn page(&self, trace_id: TraceId) -> TracePage {
        let books = self.books();
        match books.traces.get(&trace_id) {
            Some(trace) => TracePage {
                trace_id,
                spans: trace.spans.iter().cloned().collect(),
                evicted: trace.evicted,
            },
            None => TracePage {
                trace_id,
                spans: Vec::new(),
                evicted: books.may_have_forgotten(trace_id),
            },
        }
    }

    /// Returns the totals.
    pub fn totals(&self) -> Totals {
        let books = self.books();
        Totals { traces: books.traces.len(), ..books.totals }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing in here panics while the books are half written.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn enter(&mut self, trace_id: TraceId, span: LedgerSpan) {
        if !self.traces.contains_key(&trace_id) {
            let evicted = self.may_have_forgotten(trace_id);
            self.traces.insert(trace_id, Trace { spans: VecDeque::new(), evicted });
            self.order.push_back(trace_id);
        }
        if let Some(trace) = self.traces.get_mut(&trace_id) {
            trace.spans.push_back(span);
            self.kept_spans += 1;
        }
    }

    fn keep_within(&mut self, limits: LedgerLimits) {
        while self.traces.len() > limits.max_traces.max(1) {
            self.forget_oldest_trace(limits);
        }
        while self.kept_spans > limits.max_spans.max(1) {
            if self.traces.len() > 1 {
                self.forget_oldest_trace(limits);
            } else {
                self.forget_oldest_span();
            }
        }
    }

    fn forget_oldest_trace(&mut self, limits: LedgerLimits) {
        let Some(trace_id) = self.order.pop_front() else { return };
        let spans = self.traces.remove(&trace_id).map_or(0, |trace| trace.spans.len());
        self.kept_spans -= spans;
        self.totals.spans_evicted += spans as u64;
        if self.forgotten_ids.insert(trace_id) {
            self.forgotten.push_back(trace_id);
        }
        if self.forgotten.len() > limits.max_traces
            && let Some(oldest) = self.forgotten.pop_front()
        {
            self.forgotten_ids.remove(&oldest);
            self.forgotten_overflowed = true;
        }
    }

    fn forget_oldest_span(&mut self) {
        let Some(trace) = self.order.front().and_then(|id| self.traces.get_mut(id)) else { return };
        if trace.spans.pop_front().is_some() {
            trace.evicted = true;
            self.kept_spans -= 1;
            self.totals.spans_evicted += 1;
        }
    }

    fn may_have_forgotten(&self, trace_id: TraceId) -> bool {
        self.forgotten_overflowed || self.forgotten_ids.contains(&trace_id)
    }
}

/// Enters every recorded span into a ledger as it ends.
#[derive(Debug)]
pub(crate) struct LedgerProcessor(pub(crate) Arc<Ledger>);

impl SpanProcessor for LedgerProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {
        self.0.open();
    }

    fn on_end(&self, span: SpanData) {
        self.0.close(span.span_context.trace_id(), LedgerSpan::from(&span));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn kind_word(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Internal => "internal",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

fn as_text<S: serde::Serializer>(id: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&id.to_string())
}

/// An attribute that was set twice has the last value.
fn as_map<S: serde::Serializer>(
    attributes: &[(Key, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let map: BTreeMap<&str, &str> =
        attributes.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    map.serialize(serializer)
}

fn as_text_unless_invalid<S: serde::Serializer>(
    id: &SpanId,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if *id == SpanId::INVALID { serializer.serialize_none() } else { as_text(id, serializer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(max_spans: usize, max_traces: usize) -> Ledger {
        Ledger::new(LedgerLimits { max_spans, max_traces })
    }

    fn end(ledger: &Ledger, trace: u128, span: u64) {
        ledger.open();
        let span = LedgerSpan::unsampled(
            SpanId::from(span),
            &SpanContext::NONE,
            "GET".into(),
            &SpanKind::Server,
        );
        ledger.close(TraceId::from(trace), span);
    }

    fn kept(ledger: &Ledger, trace: u128) -> (usize, bool) {
        let page = ledger.page(TraceId::from(trace));
        (page.spans.len(), page.evicted)
    }

    #[test]
    fn a_trace_that_was_never_seen_is_empty_and_not_evicted() {
        let ledger = ledger(10, 10);
        end(&ledger, 1, 1);
        assert_eq!(kept(&ledger, 1), (1, false));
        assert_eq!(kept(&ledger, 2), (0, false));
    }

    #[test]
    fn the_oldest_trace_goes_first_and_is_counted() {
        let ledger = ledger(10, 2);
        for trace in 1..=3 {
            end(&ledger, trace, 1);
        }
        assert_eq!(
            [1, 2, 3].map(|trace| kept(&ledger, trace)),
            [(0, true), (1, false), (1, false)]
        );
        let totals = ledger.totals();
        assert_eq!(
            (totals.spans_ended, totals.traces, totals.spans_evicted, totals.open_spans),
            (3, 2, 1, 0)
        );
    }

    #[test]
    fn a_trace_that_comes_back_after_eviction_says_so() {
        let ledger = ledger(10, 1);
        end(&ledger, 1, 1);
        end(&ledger, 2, 2);
        end(&ledger, 1, 3);
        assert_eq!(kept(&ledger, 1), (1, true));
    }

    #[test]
    fn one_endless_trace_loses_its_oldest_spans() {
        let ledger = ledger(3, 10);
        for span in 1..=5 {
            end(&ledger, 1, span);
        }
        assert_eq!(kept(&ledger, 1), (3, true));
        assert_eq!(ledger.totals().spans_evicted, 2);
    }

    #[test]
    fn memory_stays_bounded_and_what_is_unknown_is_admitted() {
        let ledger = ledger(50, 10);
        for trace in 1..=1_000 {
            end(&ledger, trace, 1);
        }
        let books = ledger.books();
        assert_eq!((books.traces.len(), books.order.len()), (10, 10));
        assert_eq!((books.forgotten.len(), books.forgotten_ids.len()), (10, 10));
        drop(books);
        assert_eq!(kept(&ledger, 5_000), (0, true));
    }

    #[test]
    fn a_page_has_the_agreed_shape() {
        let ledger = ledger(10, 10);
        end(&ledger, 0xabc, 0xdef);
        let page = serde_json::to_value(ledger.page(TraceId::from(0xabc))).unwrap();
        let expected = serde_json::json!({
            "trace_id": "00000000000000000000000000000abc",
            "spans": [{
                "span_id": "0000000000000def", "parent_span_id": null, "name": "GET", "kind": "server", "sampled": false
            }],
            "evicted": false
        });
        assert_eq!(page, expected);
    }
}
