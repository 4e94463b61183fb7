//! Rules about how the spans of a trace hang together.

use std::collections::{HashMap, HashSet};

use super::{Checked, ledgers::known_ledgers, stage::doubled};
use crate::{
    case::{DRIVER_SERVICE, View},
    finding::Failure,
    scenario::fault::Expected,
    trace::{Span, SpanId},
};

/// How far two clock readings in one process may lie apart: nanoseconds. A wall clock may be slewed between two readings.
const SAME_PROCESS_TOLERANCE: i64 = 2_000_000;
/// The same for two processes that tell one host: machines whose clocks are kept together by NTP may do so too, each within
/// milliseconds of the true time.
const SAME_HOST_TOLERANCE: i64 = 12_000_000;

pub(super) fn orphan_span(view: View<'_>) -> Checked {
    let ids: HashSet<SpanId> = view.spans().iter().map(|span| span.id).collect();
    let orphans = view.spans().iter().filter_map(|span| {
        let parent = span.parent_id?;
        if ids.contains(&parent) || view.is_virtual_parent(parent) {
            return None;
        }
        let detail =
            format!("{} names the parent {parent}, which was not captured", view.name(span));
        let (caller, cause) = orphan_cause(view, span, parent);
        let found = Failure::found(detail).because(cause).of_span(span.id);
        let here = view.workload_of(span);
        Some(match caller.filter(|caller| *caller != here) {
            Some(caller) => found.about(here).on_hop(caller, here),
            None => found.about(here),
        })
    });
    Checked::Found(orphans.collect())
}

/// What became of a missing parent, and who made it, as far as ledgers and the rest of the trace tell.
fn orphan_cause<'a>(view: View<'a>, span: &'a Span, parent: SpanId) -> (Option<&'a str>, String) {
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
    if span.kind() != "server" {
        let own = format!(
            "a span of `{workload}` itself was lost, or never ended (a crash, a handler that was cancelled)"
        );
        return (None, own);
    }
    if let Some(call) = unanswered(view, span) {
        let caller = view.workload_of(call);
        let replaced = format!(
            "nobody answers {}, which was under way then, so something on the link {caller} -> {workload} changes the parent's id, or is a proxy that makes spans and does not send them here",
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
        _ => match at_work(view, span) {
            Some(caller) => {
                let lost = format!(
                    "`{caller}` was at work on the request then, so a span of its own was lost on its way, sampled out, or never ended"
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

/// The workload that was at work on the request when this span began, where one was deeper in it than all others.
fn at_work<'a>(view: View<'a>, span: &Span) -> Option<&'a str> {
    let here = view.topology.workload_of(span)?;
    let tolerance = if span.hostname.is_empty() { 0 } else { SAME_HOST_TOLERANCE };
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

/// The only call that a server span could be the answer to, and that no other span answers.
fn unanswered<'a>(view: View<'a>, server: &Span) -> Option<&'a Span> {
    let answered: HashSet<SpanId> = view.spans().iter().filter_map(|span| span.parent_id).collect();
    let workload = view.topology.workload_of(server);
    let tolerance = if server.hostname.is_empty() { 0 } else { SAME_HOST_TOLERANCE };
    let mut calls = view.spans().iter().filter(|call| {
        matches!(call.kind(), "client" | "producer")
            && !answered.contains(&call.id)
            && !call.error
            && view.topology.workload_of(call) != workload
            && call.start <= server.start.saturating_add(tolerance)
            && server.start <= call.end().saturating_add(tolerance)
    });
    let first = calls.next()?;
    calls.next().is_none().then_some(first)
}

pub(super) fn several_roots(view: View<'_>) -> Checked {
    let captured: HashSet<SpanId> = view.spans().iter().map(|span| span.id).collect();
    let mut roots: Vec<String> = view
        .spans()
        .iter()
        .filter(|span| span.parent_id.is_none())
        .map(|span| view.name(span))
        .collect();
    let below_virtual_parent = view.spans().iter().any(|span| {
        span.parent_id
            .is_some_and(|parent| view.is_virtual_parent(parent) && !captured.contains(&parent))
    });
    if below_virtual_parent {
        roots.push(format!("the harness's request ({})", view.case.driver_span));
    }
    if roots.len() < 2 {
        return Checked::Found(Vec::new());
    }
    let found = Failure::found(format!(
        "{} roots: {}; a service that does not take over the caller's context starts a root of its own",
        roots.len(),
        roots.join(", ")
    ));
    // The first root is the request's own; what is a root beside it is not.
    let own = |span: &&Span| span.parent_id.is_none() && view.workload_of(span) != DRIVER_SERVICE;
    Checked::Found(vec![match view.spans().iter().rfind(own) {
        Some(span) => found.about(view.workload_of(span)).of_span(span.id),
        None => found,
    }])
}

pub(super) fn parent_cycle(view: View<'_>) -> Checked {
    let parents: HashMap<SpanId, SpanId> = view
        .spans()
        .iter()
        .filter_map(|span| span.parent_id.map(|parent| (span.id, parent)))
        .collect();
    let mut clear: HashSet<SpanId> = HashSet::new();
    let mut found = Vec::new();
    for span in view.spans() {
        let mut path = vec![span.id];
        let mut on_path: HashSet<SpanId> = path.iter().copied().collect();
        let mut at = span.id;
        while let Some(&parent) = parents.get(&at) {
            if clear.contains(&parent) {
                break;
            }
            if !on_path.insert(parent) {
                let from = path.iter().position(|id| *id == parent).unwrap_or(0);
                found.push(told_cycle(view, &path[from..]));
                break;
            }
            path.push(parent);
            at = parent;
        }
        clear.extend(path);
    }
    Checked::Found(found)
}

/// A cycle with who made its spans: each is the child of the next, and the last one of the first.
fn told_cycle(view: View<'_>, ids: &[SpanId]) -> Failure {
    let spans = by_id(view);
    let named = |id: &SpanId| spans.get(id).map_or_else(|| id.to_string(), |span| view.name(span));
    let told: Vec<String> = ids.iter().map(named).collect();
    let mut makers: Vec<&str> =
        ids.iter().filter_map(|id| Some(view.workload_of(spans.get(id)?))).collect();
    makers.sort_unstable();
    makers.dedup();
    let cause = match makers.as_slice() {
        [only] => {
            format!("`{only}` makes span ids itself, or uses a context after its span was ended")
        }
        several => format!(
            "`{}` make span ids themselves, or one of them uses ids again that it was sent",
            several.join("` and `")
        ),
    };
    let found = Failure::found(match told.as_slice() {
        [only] => format!("{only} names itself as its parent"),
        several => {
            format!("{}, which is the child of the first", several.join(" is the child of "))
        }
    });
    let found = match makers.first() {
        Some(maker) => found.about(maker),
        None => found,
    };
    Failure { span: ids.first().copied(), ..found.because(cause) }
}

pub(super) fn duplicate_span(view: View<'_>) -> Checked {
    let mut times: HashMap<SpanId, Vec<&Span>> = HashMap::new();
    for span in view.spans() {
        times.entry(span.id).or_default().push(span);
    }
    let mut found: Vec<Failure> = times
        .into_values()
        .filter(|spans| spans.len() > 1)
        .map(|spans| {
            let attempts: Vec<_> = spans.iter().map(|span| format!("#{}", span.attempt)).collect();
            let (stage, cause) = doubled(view, &spans);
            Failure::found(format!(
                "{} arrived {} times, in attempts {}",
                view.name(spans[0]),
                spans.len(),
                attempts.join(", ")
            ))
            .because(cause)
            .about(view.workload_of(spans[0]))
            .of_spans(&spans)
            .at_stage(stage)
        })
        .collect();
    found.sort_by(|one, other| one.detail.cmp(&other.detail));
    Checked::Found(found)
}

/// The captured spans by their ids; of those that came twice, the first.
fn by_id(view: View<'_>) -> HashMap<SpanId, &Span> {
    let mut spans = HashMap::new();
    for span in view.spans() {
        spans.entry(span.id).or_insert(span);
    }
    spans
}

pub(super) fn wrong_service_edge(view: View<'_>) -> Checked {
    let (spans, mut found) = (by_id(view), Vec::new());
    for span in view.spans().iter().filter(|span| span.kind() == "server") {
        let parent = span.parent_id.and_then(|id| spans.get(&id).copied());
        let Some(parent) = parent else { continue };
        let (callee, caller) = (view.workload_of(span), view.workload_of(parent));
        let hops = &view.shape.hops;
        // Elsewhere a caller may do without a client span: an HTTP client that is not instrumented, a gateway.
        if hops.is_empty() {
            continue;
        }
        if parent.kind() != "client" {
            let detail = format!(
                "the parent of {} is {}, which is no client span",
                view.name(span),
                view.name(parent)
            );
            let cause = format!("`{caller}` sent on a context that is not its outgoing call's");
            let wrong = Failure::found(detail).because(cause);
            found.push(wrong.about(caller).on_hop(caller, callee).of_span(span.id));
            continue;
        }
        let Some(index) = hops.iter().position(|hop| hop.workload == callee) else { continue };
        let expected = match index {
            0 => DRIVER_SERVICE,
            _ => hops[index - 1].workload.as_str(),
        };
        if caller != expected && hops[index].reached == Expected::Yes {
            let detail = format!(
                "the parent of {} is {} of `{caller}`, but `{callee}` is called by `{expected}`",
                view.name(span),
                view.name(parent)
            );
            let wrong = Failure::found(detail).about(callee);
            found.push(wrong.on_hop(expected, callee).of_span(span.id));
        }
    }
    Checked::Found(found)
}

pub(super) fn trace_id_halves_disagree(view: View<'_>) -> Checked {
    let mut found = Vec::new();
    let wrong = |span: &Span, detail: String| {
        Failure::found(detail).about(view.workload_of(span)).of_span(span.id)
    };
    for span in view.spans() {
        let id = span.trace_id;
        if span.datadog_trace_id != id.low() {
            found.push(wrong(
                span,
                format!(
                    "{}: traceID is {:016x}, but the low half of {id} is {:016x}",
                    view.name(span),
                    span.datadog_trace_id,
                    id.low()
                ),
            ));
        }
        if let Some(high) = span.meta.get("_dd.p.tid")
            && u64::from_str_radix(high, 16) != Ok(id.high())
        {
            found.push(wrong(
                span,
                format!(
                    "{}: `_dd.p.tid` is `{high}`, but the high half of {id} is {:016x}",
                    view.name(span),
                    id.high()
                ),
            ));
        }
        if let Some(full) = span.meta.get("otel.trace_id")
            && full.parse() != Ok(id)
        {
            found.push(wrong(
                span,
                format!("{}: `otel.trace_id` is `{full}`, but the trace is {id}", view.name(span)),
            ));
        }
    }
    Checked::Found(found)
}

pub(super) fn child_outside_parent(view: View<'_>) -> Checked {
    let (spans, mut found) = (by_id(view), Vec::new());
    for span in view.spans() {
        let parent = span.parent_id.and_then(|id| spans.get(&id).copied());
        let Some(parent) = parent else { continue };
        // Between hosts nothing is said: how far their clocks are apart is not known.
        if span.hostname != parent.hostname || span.hostname.is_empty() {
            continue;
        }
        let one_process = span.instance().is_some() && span.instance() == parent.instance();
        let tolerance = if one_process { SAME_PROCESS_TOLERANCE } else { SAME_HOST_TOLERANCE };
        if span.start.saturating_add(tolerance) < parent.start {
            let early = Failure::found(format!(
                "{} begins {} before its parent {}",
                view.name(span),
                millis(parent.start - span.start),
                view.name(parent)
            ));
            let early = early.because("the clocks differ, or the parent is wrong");
            found.push(placed(view, early, parent, span));
        }
        // Only a caller that waits for an answer is sure to be there; one that gave up may be gone before the callee begins.
        let caller_waits = span.kind() == "server" && parent.kind() == "client" && !parent.error;
        if caller_waits && span.start > parent.end().saturating_add(tolerance) {
            let late = Failure::found(format!(
                "{} begins {} after its parent {} ended",
                view.name(span),
                millis(span.start - parent.end()),
                view.name(parent)
            ));
            let late =
                late.because("the client span was ended too early, or the context outlived it");
            found.push(placed(view, late, parent, span));
        }
    }
    Checked::Found(found)
}

/// A failure between a parent and its child.
fn placed(view: View<'_>, failure: Failure, parent: &Span, child: &Span) -> Failure {
    let (caller, callee) = (view.workload_of(parent), view.workload_of(child));
    let failure = failure.about(callee).of_span(child.id);
    if caller == callee { failure } else { failure.on_hop(caller, callee) }
}

fn millis(nanos: i64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}
