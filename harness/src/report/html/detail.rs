//! One trace of a report, with what was found of it.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::ledger::LedgerView;
use crate::{
    case::LedgerReport,
    finding::{Failure, NotEvaluated},
    intake::page::TraceView,
    record::{CaseRecord, Record},
    trace::{SpanId, TraceId},
    verdict::Trees,
};

/// How many traces that belong to one request are drawn with its own; each has a row of its own, too.
pub(super) const MAX_APART: usize = 20;

/// A trace and what was found of it.
#[derive(Debug, Serialize)]
pub(super) struct Detail<'a> {
    pub(super) trace: TraceView,
    /// Traces that belong to the same request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) apart: Vec<Apart>,
    /// Spans that the services ended and that were not captured in this trace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) missing: Vec<Missing>,
    pub(super) scenario: usize,
    pub(super) request: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) failures: &'a [Failure],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) not_evaluated: &'a [NotEvaluated],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trees: Option<&'a Trees>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ledger: Option<LedgerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ledger_text: Option<&'a str>,
    /// The harness's own span, where it is known and was not exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) virtual_parent: Option<SpanId>,
}

/// A trace that belongs to a request beside its own.
#[derive(Debug, Serialize)]
pub(super) struct Apart {
    pub(super) relation: String,
    /// Whether it may be a trace of its own.
    pub(super) linked: bool,
    pub(super) trace: TraceView,
}

/// A span that a service ended.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Missing {
    pub(super) id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<SpanId>,
    pub(super) service: String,
    pub(super) name: String,
    pub(super) kind: String,
    /// The trace that it was captured in instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elsewhere: Option<TraceId>,
}

/// Returns the spans that are in the services' ledgers and not in the captured trace.
pub(super) fn missing(record: &Record, of: &CaseRecord) -> Vec<Missing> {
    let captured: HashSet<SpanId> =
        of.evidence.trace.iter().flat_map(|trace| &trace.spans).map(|span| span.id).collect();
    let strays = record.strays.iter().flat_map(|stray| &stray.trace.spans);
    let elsewhere: HashMap<SpanId, TraceId> =
        strays.chain(&of.evidence.elsewhere).map(|span| (span.id, span.trace_id)).collect();
    let known = of.evidence.ledgers.iter().filter_map(|(workload, report)| match report {
        LedgerReport::Known(entry) => Some((workload, &entry.spans)),
        LedgerReport::Unknown(_) => None,
    });
    let ended = known.flat_map(|(workload, spans)| spans.iter().map(move |span| (workload, span)));
    let lost = ended.filter(|(_, span)| span.sampled && !captured.contains(&span.span_id));
    lost.map(|(workload, span)| Missing {
        id: span.span_id,
        parent: span.parent_span_id,
        service: workload.clone(),
        name: span.name.clone(),
        kind: span.kind.clone(),
        elsewhere: elsewhere.get(&span.span_id).copied(),
    })
    .collect()
}
