//! Content of attempts, for the page: beside which payload a span was sent.

use std::collections::HashMap;

use harness_core::trace::{Span, SpanId};
use serde_json::Value;

use crate::{
    attempt::{Attempt, Reply},
    decode::{RawSpan, raw},
};

/// Attempts by their number, each with what was sent in it around spans.
#[derive(Debug, Default)]
pub struct Sent(HashMap<u64, Attempted>);

/// An attempt that brought spans.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) path: String,
    pub(super) received_at: i64,
    pub(super) reply: Reply,
    pub(super) bytes: usize,
    pub(super) shared: Vec<Value>,
    spans: HashMap<(u64, SpanId), (usize, Value)>,
}

impl Sent {
    /// Adds an attempt; one that brought no spans is left out.
    pub fn add(&mut self, attempt: &Attempt) {
        let raw = raw(attempt);
        if raw.spans.is_empty() {
            return;
        }
        let spans = raw.spans.into_iter();
        let spans =
            spans.map(|RawSpan { trace, id, shared, value }| ((trace, id), (shared, value)));
        let attempted = Attempted {
            path: attempt.path.clone(),
            received_at: attempt.received_at,
            reply: attempt.reply,
            bytes: attempt.body.len(),
            shared: raw.shared,
            spans: spans.collect(),
        };
        self.0.insert(attempt.seq, attempted);
    }

    /// Returns the attempt that brought a span.
    pub(super) fn attempt(&self, span: &Span) -> Option<&Attempted> {
        self.0.get(&span.attempt)
    }
}

impl Attempted {
    /// Returns which of the shared parts a span was sent with, and its own further fields.
    pub(super) fn span(&self, span: &Span) -> Option<&(usize, Value)> {
        self.spans.get(&(span.datadog_trace_id, span.id))
    }
}
