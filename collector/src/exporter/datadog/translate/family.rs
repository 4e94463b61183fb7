//! How the spans of a trace are related: which is the root, and at which a service is entered.
//!
//! Rules: agent, `pkg/trace/traceutil/trace.go`, `pkg/trace/agent/normalizer.go`.

/// Returns the id of a span's parent; a span that is its own, and its trace's, has none.
#[inline]
pub(super) fn parent_id(trace_id: u64, span_id: u64, parent_id: u64) -> u64 {
    if parent_id == trace_id && parent_id == span_id { 0 } else { parent_id }
}

/// Returns the index of the span that stands for its trace: the last one without a parent; else the first whose parent is
/// elsewhere (where several parents are, the reference takes any); else the last.
///
/// `parents` has the id of each span's parent, and `is_here` returns whether the trace has a span of an id.
pub(super) fn root_index(
    mut parents: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + Clone,
    is_here: impl Fn(u64) -> bool,
) -> usize {
    let last = parents.len().saturating_sub(1);
    let without = parents.clone().rposition(|parent| parent == 0);
    without.or_else(|| parents.position(|parent| !is_here(parent))).unwrap_or(last)
}

/// Returns whether a service is entered at a span: it has no parent here, or one of another service.
#[inline]
pub(super) fn is_top_level<S: PartialEq>(
    service: S,
    parent_id: u64,
    service_of: impl FnOnce(u64) -> Option<S>,
) -> bool {
    parent_id == 0 || service_of(parent_id).is_none_or(|parent| parent != service)
}
