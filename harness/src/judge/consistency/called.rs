//! Calls that were made for each of some equal requests, where only some of their traces have the service that was called.

use std::collections::BTreeSet;

use harness_core::family::by_id;

use super::{Differs, name_of};
use crate::{
    case::{Topology, call_facts::CallFacts},
    record::CaseRecord,
    trace::{Span, SpanId},
};

/// Returns who called the only one of these services in each trace that lacks it, as it did in those that have it, and was answered
/// without a failure.
pub(super) fn called_in_each(
    differs: &Differs<'_>,
    first: &BTreeSet<String>,
    topology: &Topology,
) -> Option<String> {
    let (service, true) = (first.first()?, first.len() == 1) else { return None };
    // What stands between may be a cache.
    let is_direct = |call: &Asked| topology.is_direct(&call.caller, service);
    let mut calls = BTreeSet::new();
    for of in &differs.with {
        let by_id = by_id(spans_of(of));
        let answers = spans_of(of).filter(|span| name_of(span, topology) == *service);
        let made = answers.filter_map(|answer| by_id.get(&answer.parent_id?));
        let made = made.filter(|call| name_of(call, topology) != *service);
        calls.extend(made.filter_map(|call| Asked::of(call, topology)));
    }
    let is_answered = |span: &Span| !span.error && span.http_status().is_some_and(|got| got < 500);
    let open = |of: &CaseRecord| -> BTreeSet<Asked> {
        let all: Vec<&Span> = spans_of(of).collect();
        let parents: BTreeSet<SpanId> = all.iter().filter_map(|span| span.parent_id).collect();
        let open = all.iter().filter(|span| !parents.contains(&span.id) && is_answered(span));
        open.filter_map(|span| Asked::of(span, topology)).collect()
    };
    let without: Vec<BTreeSet<Asked>> = differs.without.iter().map(|of| open(of)).collect();
    let in_each = |call: &Asked| without.iter().all(|open| open.contains(call));
    let in_each = calls.into_iter().find(|call| is_direct(call) && in_each(call));
    in_each.map(|call| call.caller)
}

fn spans_of(of: &CaseRecord) -> impl Iterator<Item = &Span> {
    of.evidence.trace.iter().flat_map(|trace| &trace.spans)
}

/// A call by what its span says: who made it, and to which address.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    caller: String,
    host: Option<String>,
    port: u16,
    path: String,
}

impl Asked {
    /// Returns that of a client's span that says where it went; `None` of others.
    fn of(span: &Span, topology: &Topology) -> Option<Self> {
        let CallFacts { host, port, path, .. } = CallFacts::of(span);
        let is_call = span.kind() == "client";
        let caller = name_of(span, topology);
        is_call.then_some(Self { caller, host, port: port?, path: path? })
    }
}

/// Returns whether work of a service that some traces lack was captured in another of these traces, below a call that those made: it is not
/// lost, and its orphans there say what became of it.
pub(super) fn is_in_another_trace(
    differs: &Differs<'_>,
    first: &BTreeSet<String>,
    topology: &Topology,
) -> bool {
    let of_service = |span: &&Span| first.contains(&name_of(span, topology));
    let orphans = |of: &&CaseRecord| -> Vec<SpanId> {
        let ids: BTreeSet<SpanId> = spans_of(of).map(|span| span.id).collect();
        let parents = spans_of(of).filter(of_service).filter_map(|span| span.parent_id);
        parents.filter(|parent| !ids.contains(parent)).collect()
    };
    let parents: BTreeSet<SpanId> = differs.with.iter().flat_map(orphans).collect();
    let lacking = differs.without.iter().flat_map(|of| spans_of(of));
    lacking.into_iter().any(|span| parents.contains(&span.id))
}
