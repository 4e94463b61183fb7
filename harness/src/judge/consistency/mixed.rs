//! Calls for one request that were made in the context of another that was in progress at the same time.

use std::collections::BTreeSet;

use harness_core::family::by_id;

use super::{Differs, name_of};
use crate::{
    case::Topology, finding::Failure, record::CaseRecord, rule::INCONSISTENT_TRACE, trace::Span,
};

/// Finds calls of a service that are all there, as many as equal requests need, while some of the requests' traces have several and others
/// none: whoever calls it takes one request's context for another's. Requests that follow one another have no other's context at hand.
pub(super) fn mixed_up(
    differs: &Differs<'_>,
    service: &str,
    topology: &Topology,
) -> Option<Failure> {
    let Differs { having, all, asked, with, without, .. } = differs;
    let mut callers = BTreeSet::new();
    let mut counts = Vec::new();
    for of in with {
        let spans = || of.evidence.trace.iter().flat_map(|trace| &trace.spans);
        let by_id = by_id(spans());
        let caller_of = |span: &Span| {
            let caller = name_of(by_id.get(&span.parent_id?)?, topology);
            (name_of(span, topology) == service && caller != service).then_some(caller)
        };
        let called: Vec<String> = spans().filter_map(caller_of).collect();
        counts.push(called.len());
        callers.extend(called);
    }
    let calls: usize = counts.iter().sum();
    let (Some(caller), 1) = (callers.first(), callers.len()) else { return None };
    let is_one_each = calls == *all && with.len() + without.len() == *all;
    let overlap = without.iter().all(|lacking| with.iter().any(|host| at_once(host, lacking)));
    if !is_one_each || counts.iter().all(|count| *count <= 1) || !overlap {
        return None;
    }
    let detail = format!(
        "the traces of {having} of {all} equal requests ({asked}) have all {calls} calls of `{service}`, up to {} in one, and the others, which were in progress at the same time, have none: `{caller}` calls `{service}` in the context of another request than the one that it works on (a global variable, a client or a connection that keeps what it was first given)",
        counts.iter().max().copied().unwrap_or_default()
    );
    Some(Failure::new(INCONSISTENT_TRACE, detail).about(caller).on_hop(caller, service))
}

/// Returns whether two requests were in progress at the same time.
fn at_once(one: &CaseRecord, other: &CaseRecord) -> bool {
    one.case.sent_at < other.case.ended_at && other.case.sent_at < one.case.ended_at
}
