//! Work on one request that is in the trace of an earlier one: something keeps that one's context.

use harness_core::family::by_id;

use super::{Differs, name_of};
use crate::{
    case::Topology,
    expectation::SERVICES,
    finding::Failure,
    record::CaseRecord,
    rule::INCONSISTENT_TRACE,
    trace::{Span, SpanId},
    verdict::CaseResult,
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
    /// The call for the current request that this workload made in that one's own trace, and that nobody answers there.
    call: Option<&'a Span>,
    /// All such work in that trace.
    all: Vec<SpanId>,
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
                let Begun { first, parent, keeper } =
                    begun.iter().find(|begun| in_progress.contains(&begun.first.start))?;
                // A call that was over did not lead to it.
                let is_over = parent.end() < first.start;
                let call = open_call(lacking, keeper, first.start, topology).filter(|_| is_over);
                let keeper = keeper.clone();
                let all = begun.iter().map(|begun| begun.first.id).collect();
                Some(Self { host, first, of: lacking, keeper, call, all })
            };
            let each: Option<Vec<Self>> =
                differs.without.iter().map(|lacking| of(lacking)).collect();
            each?.into_iter().min_by_key(|one| one.first.start)
        })
    }

    /// Says so of a service that `differs` describes.
    pub(super) fn failure(
        &self,
        differs: &Differs<'_>,
        service: &str,
        topology: &Topology,
    ) -> Failure {
        let Self { host, first, of, keeper, call, .. } = self;
        let Differs { all, asked, without, .. } = differs;
        let later = first.start.saturating_sub(host.case.ended_at) as f64 / 1e9;
        let kept = "an earlier request, whose context it keeps (a thread, a task or a variable)";
        let how = match (keeper == service, call) {
            (true, _) => format!("`{service}` takes what it is asked to do for a part of {kept}"),
            (false, Some(call)) => format!(
                "`{keeper}` made its call in that trace (`{}`, {}), and `{service}` was sent the context of an earlier request: {} on the link {keeper} -> {service} sends headers again that it kept (a proxy, a gateway, a client that makes them once)",
                call.resource,
                call.id,
                topology.between(keeper, service).unwrap_or_else(|| "something".to_owned())
            ),
            (false, None) => format!("`{keeper}` calls `{service}` in the context of {kept}"),
        };
        let detail = format!(
            "{} of {all} equal requests ({asked}) have no span of `{service}` in their traces, and trace {} has some for each of them: `{}` ({}, {}) began {later:.3} s after that request was answered, while that of trace {} was in progress: {how}",
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

impl Misplaced<'_> {
    /// Puts what was found of the misplaced work in the trace that has it below the failure that explains it.
    pub(super) fn explain(&self, failure: &mut Failure, cases: &mut [CaseResult]) {
        let Some(host) = cases.iter_mut().find(|of| of.trace_id == self.host.case.trace_id) else {
            return;
        };
        let is_explained = |one: &Failure| {
            let is_about_time =
                ["child-outside-parent", "outside-request"].contains(&one.rule.as_str());
            is_about_time && one.span.is_some_and(|span| self.all.contains(&span))
        };
        let all = std::mem::take(&mut host.findings.failures);
        let (explained, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_explained);
        failure.symptoms.extend(explained);
        host.findings.failures = others;
    }

    /// Says of a service that is missing in the other traces where its work for them is.
    pub(super) fn place(&self, service: &str, without: &[&CaseRecord], cases: &mut [CaseResult]) {
        let lacks = |of: &&mut CaseResult| {
            without.iter().any(|lacking| lacking.case.trace_id == of.trace_id)
        };
        let failures = cases.iter_mut().filter(lacks).flat_map(|of| &mut of.findings.failures);
        let is_about =
            |one: &&mut Failure| one.rule == SERVICES && one.service.as_deref() == Some(service);
        for failure in failures.filter(is_about) {
            failure.set_cause(format!(
                "its work for this request is in trace {}, which is an earlier request's",
                self.host.case.trace_id
            ));
        }
    }
}

/// Returns the call of a workload in a request's own trace that was in progress at a time, and that nobody answers there.
fn open_call<'a>(
    of: &'a CaseRecord,
    workload: &str,
    at: i64,
    topology: &Topology,
) -> Option<&'a Span> {
    let spans = &of.evidence.trace.as_ref()?.spans;
    let is_open = |call: &&Span| {
        call.kind() == "client"
            && (call.start..=call.end()).contains(&at)
            && name_of(call, topology) == workload
            && !spans.iter().any(|span| span.parent_id == Some(call.id))
    };
    spans.iter().find(is_open)
}

/// Work of a service that began in a trace after its request was answered.
struct Begun<'a> {
    first: &'a Span,
    parent: &'a Span,
    /// The workload that keeps the context: the caller, or the service itself where it is below work of its own that has ended.
    keeper: String,
}

/// Finds such work of a service, by start.
fn begun_later<'a>(host: &'a CaseRecord, service: &str, topology: &Topology) -> Vec<Begun<'a>> {
    let Some(trace) = &host.evidence.trace else { return Vec::new() };
    let by_id = by_id(&trace.spans);
    let begun = trace.spans.iter().filter_map(|first| {
        if first.start <= host.case.ended_at || name_of(first, topology) != service {
            return None;
        }
        let parent = *by_id.get(&first.parent_id?)?;
        let keeper = name_of(parent, topology);
        // Within work of its own it goes on with that.
        (keeper != service || parent.end() <= first.start).then_some(Begun {
            first,
            parent,
            keeper,
        })
    });
    let mut begun: Vec<_> = begun.collect();
    begun.sort_by_key(|begun| (begun.first.start, begun.first.id));
    begun
}
