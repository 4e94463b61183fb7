//! Work on one request that is in the trace of an earlier one: something keeps that one's context.

use std::collections::HashMap;

use super::{Differs, name_of};
use crate::{
    case::Topology,
    finding::Failure,
    record::CaseRecord,
    rule::INCONSISTENT_TRACE,
    trace::{Span, SpanId},
};

/// Work of a service for requests whose own traces lack it.
pub(super) struct Misplaced<'a> {
    /// The request whose trace has it.
    host: &'a CaseRecord,
    /// The first span of it that began after that request was answered.
    first: &'a Span,
    /// The request that was in progress then.
    of: &'a CaseRecord,
    /// The workload that takes the earlier request's context for the current one.
    keeper: String,
}

impl<'a> Misplaced<'a> {
    /// Finds work of a service that began in a trace after its request was answered, while another was in progress whose trace lacks that
    /// service: some for each such request, so that none of them lacks it by chance.
    pub(super) fn find(differs: &Differs<'a>, service: &str, topology: &Topology) -> Option<Self> {
        differs.with.iter().find_map(|host| {
            let begun = begun_later(host, service, topology);
            let of = |lacking: &'a CaseRecord| {
                let case = &lacking.case;
                let in_progress = case.sent_at..=case.ended_at;
                let (first, keeper) =
                    begun.iter().find(|(span, _)| in_progress.contains(&span.start))?;
                Some(Self { host, first, of: lacking, keeper: keeper.clone() })
            };
            let each: Option<Vec<Self>> =
                differs.without.iter().map(|lacking| of(lacking)).collect();
            each?.into_iter().min_by_key(|one| one.first.start)
        })
    }

    /// Says so of a service that `differs` describes.
    pub(super) fn failure(&self, differs: &Differs<'_>, service: &str) -> Failure {
        let Self { host, first, of, keeper } = self;
        let Differs { all, asked, without, .. } = differs;
        let later = first.start.saturating_sub(host.case.ended_at) as f64 / 1e9;
        let how = match keeper == service {
            true => format!("`{service}` takes what it is asked to do for a part of"),
            false => format!("`{keeper}` calls `{service}` in the context of"),
        };
        let detail = format!(
            "{} of {all} equal requests ({asked}) have no span of `{service}` in their traces, and trace {} has some for each of them: `{}` ({}, {}) began {later:.3} s after that request was answered, while that of trace {} was in progress: {how} an earlier request, whose context it keeps (a thread, a task or a variable)",
            without.len(),
            host.case.trace_id,
            first.resource,
            first.kind(),
            first.id,
            of.case.trace_id,
        );
        let failure = Failure::new(INCONSISTENT_TRACE, detail).about(keeper);
        match keeper == service {
            true => failure,
            false => failure.on_hop(keeper, service),
        }
    }
}

/// The spans by which a service began to work in a trace after its request was answered, by start, each with who keeps the context: who
/// called, or the service itself where it is below work of its own that has ended.
fn begun_later<'a>(
    host: &'a CaseRecord,
    service: &str,
    topology: &Topology,
) -> Vec<(&'a Span, String)> {
    let Some(trace) = &host.evidence.trace else { return Vec::new() };
    let by_id: HashMap<SpanId, &Span> = trace.spans.iter().map(|span| (span.id, span)).collect();
    let begun = trace.spans.iter().filter_map(|span| {
        if span.start <= host.case.ended_at || name_of(span, topology) != service {
            return None;
        }
        let parent = by_id.get(&span.parent_id?)?;
        let caller = name_of(parent, topology);
        // Within work of its own it goes on with that.
        (caller != service || parent.end() <= span.start).then_some((span, caller))
    });
    let mut begun: Vec<_> = begun.collect();
    begun.sort_by_key(|(span, _)| (span.start, span.id));
    begun
}
