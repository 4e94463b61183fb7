//! Work on one request that is in the trace of an earlier one: something keeps that one's context.

use std::collections::BTreeSet;

use harness_core::family::by_id;

use super::{Differs, name_of};
use crate::{
    case::Topology,
    expectation::SERVICES,
    finding::Failure,
    record::CaseRecord,
    rule::INCONSISTENT_TRACE,
    trace::{Span, SpanId, TraceId},
    verdict::CaseResult,
};

/// Work of a service for requests whose own traces lack it.
pub(super) struct Misplaced<'a> {
    /// The request whose trace has the first of it.
    host: &'a CaseRecord,
    /// The traces that have any of it.
    hosts: BTreeSet<TraceId>,
    /// The first span of it that began after that request was answered.
    first: &'a Span,
    /// The request that was in progress then.
    of: &'a CaseRecord,
    /// The workload that takes the earlier request's context for the current one.
    keeper: String,
    /// The call for the current request that this workload made in that one's own trace, and that nobody answers there.
    call: Option<&'a Span>,
    /// All such work in those traces.
    all: BTreeSet<SpanId>,
}

impl<'a> Misplaced<'a> {
    /// Finds work of a service that began in the traces of requests after they were answered, while others were in progress whose traces
    /// lack that service: some for each such request, so that none of them lacks it by chance.
    pub(super) fn find(differs: &Differs<'a>, service: &str, topology: &Topology) -> Option<Self> {
        let begun = |host: &&'a CaseRecord| (*host, begun_later(host, service, topology));
        let begun: Vec<(&CaseRecord, Vec<Begun<'a>>)> = differs.with.iter().map(begun).collect();
        let of = |lacking: &'a CaseRecord| {
            let in_progress = lacking.case.sent_at..=lacking.case.ended_at;
            let (host, Begun { first, parent, keeper }) =
                begun.iter().find_map(|(host, begun)| {
                    let mut then =
                        begun.iter().filter(|one| in_progress.contains(&one.first.start));
                    Some((*host, then.next()?))
                })?;
            // A call that was over did not lead to it.
            let is_over = parent.end() < first.start;
            let call = open_call(lacking, keeper, first.start, topology).filter(|_| is_over);
            let keeper = keeper.clone();
            let (hosts, all) = (BTreeSet::new(), BTreeSet::new());
            Some(Self { host, hosts, first, of: lacking, keeper, call, all })
        };
        let each: Option<Vec<Self>> = differs.without.iter().map(|lacking| of(lacking)).collect();
        let each = each?;
        let hosts: BTreeSet<TraceId> = each.iter().map(|one| one.host.case.trace_id).collect();
        let of_hosts = begun.iter().filter(|(host, _)| hosts.contains(&host.case.trace_id));
        let all = of_hosts.flat_map(|(_, begun)| begun).map(|one| one.first.id).collect();
        let first = each.into_iter().min_by_key(|one| one.first.start)?;
        Some(Self { hosts, all, ..first })
    }

    /// Says so of a service that `differs` describes.
    pub(super) fn failure(
        &self,
        differs: &Differs<'_>,
        service: &str,
        topology: &Topology,
    ) -> Failure {
        let Self { host, hosts, first, of, keeper, call, .. } = self;
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
        let trace = host.case.trace_id;
        let place = match hosts.len() {
            0 | 1 => format!("trace {trace} has some for each of them"),
            many => format!("{many} traces of earlier ones have it, such as trace {trace}"),
        };
        let detail = format!(
            "{} of {all} equal requests ({asked}) have no span of `{service}` in their traces, and {place}: `{}` ({}, {}) began {later:.3} s after that request was answered, while that of trace {} was in progress: {how}",
            without.len(),
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
    /// Puts what was found of the misplaced work in the traces that have it below the failure that explains it.
    pub(super) fn explain(&self, failure: &mut Failure, cases: &mut [CaseResult]) {
        let is_explained = |one: &Failure| {
            let is_about_time =
                ["child-outside-parent", "outside-request"].contains(&one.rule.as_str());
            is_about_time && one.span.is_some_and(|span| self.all.contains(&span))
        };
        for host in cases.iter_mut().filter(|of| self.hosts.contains(&of.trace_id)) {
            let all = std::mem::take(&mut host.findings.failures);
            let (explained, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_explained);
            failure.symptoms.extend(explained);
            host.findings.failures = others;
        }
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
                "its work for this request is in the trace of an earlier one, such as {}",
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
