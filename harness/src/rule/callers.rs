//! The caller of a span whose parent was not captured.

use std::collections::{HashMap, HashSet};

use super::ledgers::known_ledgers;
use crate::{
    case::{ServiceIdentity, View},
    trace::{CLOCK_TOLERANCE, Span, SpanId},
};

/// The captured spans by their ids; of those that came twice, the first.
pub(super) fn by_id(view: View<'_>) -> HashMap<SpanId, &Span> {
    let mut spans = HashMap::new();
    for span in view.spans() {
        spans.entry(span.id).or_insert(span);
    }
    spans
}

/// Determines what became of a missing parent, and who created it, as far as ledgers and the rest of the trace show.
pub(super) fn orphan_cause<'a>(
    view: View<'a>,
    span: &'a Span,
    parent: SpanId,
) -> (Option<&'a str>, String) {
    let workload = view.workload_of(span);
    let made = |id: SpanId| {
        known_ledgers(view).find_map(|(name, spans, _)| {
            spans.iter().find(|made| made.span_id == id).map(|made| (name, made))
        })
    };
    if let Some((_, own)) = made(span.id)
        && own.parent_span_id != Some(parent)
    {
        let changes = format!(
            "`{workload}` ended it below another one, so something between `{workload}` and the intake changes parents"
        );
        return (None, changes);
    }
    if let Some((maker, made)) = made(parent) {
        let elsewhere = view.evidence.elsewhere.iter().find(|span| span.id == parent);
        let became = match (made.sampled, elsewhere) {
            (false, _) => "sampled it out".to_owned(),
            (true, Some(span)) => {
                format!("ended it, and it was captured under trace {}", span.trace_id)
            }
            (true, None) => "ended it, and it did not arrive".to_owned(),
        };
        return (Some(maker), format!("`{maker}` {became}"));
    }
    let mut apart = view.strays.iter().flat_map(|stray| &stray.trace.spans);
    if let Some(above) = apart.find(|above| above.id == parent) {
        let maker = view.workload_of(above);
        let elsewhere = format!(
            "it is {}, which was captured under trace {}: its trace id was changed on the way, or `{maker}` made it in another trace",
            view.name(above),
            above.trace_id
        );
        return (Some(maker), elsewhere);
    }
    if span.kind() != "server" {
        let own = format!(
            "a span of `{workload}` itself was lost, or never ended (a crash, a handler that was cancelled)"
        );
        return (None, own);
    }
    if let Some(silent) = silent_caller(view, workload) {
        let lost = format!(
            "`{silent}` is the one that is given the address of `{workload}` and has no span in the trace: they were lost on their way, or sampled out, or `{silent}` does not export"
        );
        return (Some(silent), lost);
    }
    if let Some(call) = unanswered(view, span) {
        let caller = view.workload_of(call);
        let replaced = format!(
            "nobody answers {}, which was in progress then, so something on the link {caller} -> {workload} changes the parent's id, or is a proxy that makes spans and does not send them here",
            view.name(call)
        );
        return (Some(caller), replaced);
    }
    let hops = &view.shape.hops;
    match hops.iter().position(|hop| hop.workload == workload) {
        Some(index) if index > 0 => {
            let caller = hops[index - 1].workload.as_str();
            let lost =
                format!("the client span of `{caller}` was lost on its way, or sampled out there");
            (Some(caller), lost)
        }
        _ => match only_caller(view, workload).or_else(|| at_work(view, span)) {
            Some(caller) => {
                let lost = format!(
                    "`{caller}` was at work on the request, so a span of its own was lost on its way, sampled out, or never ended"
                );
                (Some(caller), lost)
            }
            None => {
                let lost = "its caller's span was lost on its way, sampled out, or its caller does not export";
                (None, lost.to_owned())
            }
        },
    }
}

/// The only workload that is given another one's address, where it has a span in the trace.
fn only_caller<'a>(view: View<'a>, workload: &str) -> Option<&'a str> {
    let is_given = |one: &&'a ServiceIdentity| one.callees.iter().any(|callee| callee == workload);
    let mut callers = view.topology.services.iter().filter(is_given);
    let (Some(only), None) = (callers.next(), callers.next()) else { return None };
    let here = only.workload.as_str();
    view.service_spans().any(|span| view.workload_of(span) == here).then_some(here)
}

/// The workload that was at work on the request when this span began, where one was deeper in it than all others.
fn at_work<'a>(view: View<'a>, span: &Span) -> Option<&'a str> {
    let here = view.topology.workload_of(span)?;
    let tolerance = if span.hostname.is_empty() { 0 } else { CLOCK_TOLERANCE };
    let is_under_way = |server: &&Span| {
        matches!(server.kind(), "server" | "consumer")
            && server.start <= span.start.saturating_add(tolerance)
            && span.start <= server.end().saturating_add(tolerance)
    };
    let spans = by_id(view);
    let mut under_way: Vec<&Span> = view.service_spans().filter(is_under_way).collect();
    under_way.retain(|server| server.id != span.id);
    under_way.sort_by_key(|server| server.start);
    let deepest = *under_way.last()?;
    let parent = |span: &&Span| spans.get(&span.parent_id?).copied();
    let above: Vec<SpanId> = std::iter::successors(Some(deepest), parent)
        .take(spans.len())
        .map(|span| span.id)
        .collect();
    let caller = view.topology.workload_of(deepest)?;
    (caller != here && under_way.iter().all(|server| above.contains(&server.id))).then_some(caller)
}

/// The only one of those that are given a workload's address of which there is no span in the trace; `None` too where one of the
/// others made a call then that nobody answers.
pub(super) fn silent_caller<'a>(view: View<'a>, workload: &str) -> Option<&'a str> {
    let services = &view.topology.services;
    let is_given = |one: &&ServiceIdentity| one.callees.iter().any(|callee| callee == workload);
    let is_heard = |one: &ServiceIdentity| {
        view.service_spans().any(|span| view.workload_of(span) == one.workload)
    };
    let callers: Vec<&ServiceIdentity> = services.iter().filter(is_given).collect();
    let mut silent = callers.iter().filter(|one| !is_heard(one));
    let (Some(only), None) = (silent.next(), silent.next()) else { return None };
    // One that is heard of may have called as well, and then the answer to that call is what is missing.
    let answered = answered(view);
    let calls = view.service_spans().filter(|span| matches!(span.kind(), "client" | "producer"));
    let open = calls.filter(|call| !answered.contains(&call.id));
    let callers: HashSet<&str> = callers.iter().map(|one| one.workload.as_str()).collect();
    let is_open = open.map(|call| view.workload_of(call)).any(|of| callers.contains(of));
    (!is_open).then_some(only.workload.as_str())
}

/// The spans that others are below.
fn answered(view: View<'_>) -> HashSet<SpanId> {
    view.spans().iter().filter_map(|span| span.parent_id).collect()
}

/// The only call that a server span could be the answer to, and that no other span answers.
fn unanswered<'a>(view: View<'a>, server: &Span) -> Option<&'a Span> {
    let (answered, workload) = (answered(view), view.topology.workload_of(server));
    // Who is given addresses, and not this workload's, did not call it.
    let may_call = |call: &Span| {
        let of = view.workload_of(call);
        let caller = view.topology.services.iter().find(|one| one.workload == of);
        caller.is_none_or(|one| {
            one.callees.is_empty() || one.callees.iter().any(|to| Some(to.as_str()) == workload)
        })
    };
    let tolerance = if server.hostname.is_empty() { 0 } else { CLOCK_TOLERANCE };
    let mut calls = view.spans().iter().filter(|call| {
        matches!(call.kind(), "client" | "producer")
            && !answered.contains(&call.id)
            && !call.error
            && view.topology.workload_of(call) != workload
            && may_call(call)
            && call.start <= server.start.saturating_add(tolerance)
            && server.start <= call.end().saturating_add(tolerance)
    });
    let first = calls.next()?;
    calls.next().is_none().then_some(first)
}
