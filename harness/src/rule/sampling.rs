//! Rules about the decisions of samplers, which are made hop by hop and are to be one.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::{Checked, callers::Callers, datadog::spans_count, ledgers::known_ledgers};
use crate::{
    case::{Capability, DRIVER_SERVICE, View},
    finding::{Failure, Stage},
    ledger::LedgerSpan,
    trace::{Span, SpanId},
};

pub(super) fn sampled_out(view: View<'_>) -> Checked {
    if !view.case.sampled || !view.case.context_sent {
        return Checked::NotApplicable;
    }
    if !is_any_dropped(view) {
        return Checked::Found(Vec::new());
    }
    let calls = Calls::new(view);
    let found = known_ledgers(view).filter_map(|(workload, spans, _)| {
        let dropped: Vec<&LedgerSpan> = spans.iter().filter(|span| !span.sampled).collect();
        let first = *dropped.first()?;
        if calls.follows(workload, spans) {
            return None;
        }
        let caller = dropped.iter().find_map(|span| calls.caller_of(workload, span));
        let caller = caller.map_or("its caller".to_owned(), |(caller, _)| format!("`{caller}`"));
        let (id, count) = (view.case.trace_id, dropped.len());
        let out = Failure::found(format!(
            "`{workload}` sampled out {count} span(s) of trace {id}, though {caller} had decided to keep it"
        ));
        Some(why_sampled_out(&calls, workload, &dropped, out).of_span(first.span_id))
    });
    Checked::Found(found.collect())
}

/// Returns whether a ledger shows a span that a sampler dropped.
fn is_any_dropped(view: View<'_>) -> bool {
    known_ledgers(view).any(|(_, spans, _)| spans.iter().any(|span| !span.sampled))
}

/// Calls between services, as their ledgers show them.
pub(super) struct Calls<'a> {
    view: View<'a>,
    /// By span id, the workloads that ended such a span, each with whether it was sampled.
    made: HashMap<SpanId, Vec<(&'a str, bool)>>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(view: View<'a>) -> Self {
        let mut made: HashMap<SpanId, Vec<(&str, bool)>> = HashMap::new();
        for (workload, spans, _) in known_ledgers(view) {
            for span in spans {
                let by = made.entry(span.span_id).or_default();
                // Of one id, the first that a workload ended.
                if by.last().is_none_or(|(last, _)| *last != workload) {
                    by.push((workload, span.sampled));
                }
            }
        }
        Self { view, made }
    }

    /// Returns whether a workload dropped spans where its caller dropped its own: then it does right.
    pub(super) fn follows(&self, workload: &str, spans: &[LedgerSpan]) -> bool {
        let dropped = spans.iter().filter(|span| !span.sampled);
        let mut calls = dropped.filter_map(|span| self.caller_of(workload, span)).peekable();
        calls.peek().is_some() && calls.all(|(_, sampled)| !sampled)
    }

    /// Finds who called a workload where it created this span, and whether that call was sampled.
    fn caller_of(&self, workload: &str, span: &LedgerSpan) -> Option<(&'a str, bool)> {
        let parent = span.parent_span_id?;
        if self.view.is_virtual_parent(parent) {
            return Some((DRIVER_SERVICE, self.view.case.sampled));
        }
        let mut others = self.made.get(&parent)?.iter();
        others.find(|(other, _)| *other != workload).copied()
    }
}

/// Blames the link where the context that came over it said otherwise than its caller, else the sampler.
fn why_sampled_out(
    calls: &Calls<'_>,
    workload: &str,
    dropped: &[&LedgerSpan],
    out: Failure,
) -> Failure {
    let called = dropped.iter().find_map(|span| {
        let (caller, sampled) = calls.caller_of(workload, span)?;
        sampled.then_some((caller, span.parent_sampled))
    });
    match called {
        Some((caller, Some(false))) => out
            .because(format!(
                "`{workload}` was sent a context that says *not sampled*, and follows it; something on the link {caller} -> {workload} clears the flag in `traceparent`, or the propagator of `{caller}` does not write it"
            ))
            .on_hop(caller, workload),
        Some((caller, None)) => out
            .because(format!(
                "its sampler (OTEL_TRACES_SAMPLER) does not follow the parent, or the link {caller} -> {workload} clears the flag in `traceparent`"
            ))
            .on_hop(caller, workload)
            .about(workload),
        Some((_, Some(true))) | None => out
            .because("its sampler (OTEL_TRACES_SAMPLER) does not follow the parent")
            .about(workload)
            .at_stage(Some(Stage::Service)),
    }
}

/// The rule `sampled-differently`: what one service drops, no other keeps. (What one keeps and the next drops is `sampled-out`.)
pub(super) fn sampled_differently(view: View<'_>) -> Checked {
    if !view.case.context_sent {
        return Checked::NotApplicable;
    }
    match known_ledgers(view).next() {
        Some(_) => Checked::Found(kept_by_ledgers(view)),
        None => kept_of_unsampled(view),
    }
}

/// Spans that a service kept below one that its caller dropped, as their ledgers show.
fn kept_by_ledgers(view: View<'_>) -> Vec<Failure> {
    let mut kept: BTreeMap<(&str, &str), Vec<&LedgerSpan>> = BTreeMap::new();
    if !is_any_dropped(view) {
        return Vec::new();
    }
    let calls = Calls::new(view);
    for (workload, spans, _) in known_ledgers(view) {
        for span in spans.iter().filter(|span| span.sampled) {
            if let Some((caller, false)) = calls.caller_of(workload, span)
                && caller != DRIVER_SERVICE
            {
                kept.entry((caller, workload)).or_default().push(span);
            }
        }
    }
    let reported = kept.into_iter().map(|((caller, workload), spans)| {
        let found = Failure::found(format!(
            "`{workload}` kept {} of trace {}, though `{caller}`, which called it, had decided to drop it",
            spans_count(spans.len()),
            view.case.trace_id
        ));
        let found = found.because(format!(
            "its sampler (OTEL_TRACES_SAMPLER) does not follow the parent, or the link {caller} -> {workload} sets the flag in `traceparent`; the spans that it keeps have parents that were dropped"
        ));
        let first = spans.first().map(|span| span.span_id);
        Failure { span: first, ..found.about(workload).on_hop(caller, workload) }
    });
    reported.collect()
}

/// Spans that came of a request that was sent as one not to be sampled, of others than the service that it was sent to, where nothing
/// of who called them came. Where the first service keeps it too, all may be meant to: a collector decides at the tail.
fn kept_of_unsampled(view: View<'_>) -> Checked {
    // What is not there yet may still come.
    let needs = [Capability::Completeness, Capability::Settled];
    if view.case.sampled || needs.into_iter().any(|need| view.lacks(need).is_some()) {
        return Checked::NotApplicable;
    }
    let ids: HashSet<SpanId> = view.spans().iter().map(|span| span.id).collect();
    let entry = view.case.entry(view.topology);
    let is_first = |span: &Span| {
        span.parent_id.is_none_or(|parent| view.is_virtual_parent(parent))
            || Some(view.workload_of(span)) == entry
    };
    if view.service_spans().any(is_first) {
        return Checked::NotApplicable;
    }
    let is_top = |span: &&Span| span.parent_id.is_some_and(|parent| !ids.contains(&parent));
    let mut kept: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.service_spans().filter(is_top) {
        if matches!(span.kind(), "server" | "consumer") {
            kept.entry(view.workload_of(span)).or_default().push(span);
        }
    }
    let callers = LazyCell::new(|| Callers::new(view));
    let reported = kept.into_iter().map(|(workload, spans)| {
        let found = Failure::found(format!(
            "`{workload}` kept trace {}, which was sent as one not to be sampled and of which nothing came of those before it",
            view.case.trace_id
        ))
        .because(format!(
            "the sampler of `{workload}` (OTEL_TRACES_SAMPLER) does not follow the parent, or something between it and its caller sets the flag in `traceparent`"
        ))
        .about(workload)
        .of_spans(&spans);
        match callers.silent_caller(workload) {
            Some(caller) => found.on_hop(caller, workload),
            None => found,
        }
    });
    Checked::Found(reported.collect())
}
