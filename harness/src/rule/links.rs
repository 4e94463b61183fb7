//! Rules about how the spans of a trace hang together.

use std::collections::{HashMap, HashSet};

use super::Checked;
use crate::{
    case::{DRIVER_SERVICE, View},
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
        Some(format!(
            "{} names the parent {parent}, which was not captured: {}",
            view.name(span),
            orphan_cause(view, span)
        ))
    });
    Checked::Found(orphans.collect())
}

/// Where the missing parent would have been made, as far as the rest of the trace tells.
fn orphan_cause(view: View<'_>, span: &Span) -> String {
    let workload = view.workload_of(span);
    if span.kind() != "server" {
        return format!(
            "a span of `{workload}` itself was lost, or never ended (a crash, a handler that was cancelled)"
        );
    }
    let hops = &view.shape.hops;
    match hops.iter().position(|hop| hop.workload == workload) {
        Some(index) if index > 0 => format!(
            "the client span of `{}` was lost on its way, or sampled out there",
            hops[index - 1].workload
        ),
        _ => "its caller's span was lost on its way, sampled out, or its caller does not export"
            .to_owned(),
    }
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
    Checked::Found(vec![format!(
        "{} roots: {}; a service that does not take over the caller's context starts a root of its own",
        roots.len(),
        roots.join(", ")
    )])
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
fn told_cycle(view: View<'_>, ids: &[SpanId]) -> String {
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
    match told.as_slice() {
        [only] => format!("{only} names itself as its parent: {cause}"),
        several => format!(
            "{}, which is the child of the first: {cause}",
            several.join(" is the child of ")
        ),
    }
}

pub(super) fn duplicate_span(view: View<'_>) -> Checked {
    let mut times: HashMap<SpanId, Vec<&Span>> = HashMap::new();
    for span in view.spans() {
        times.entry(span.id).or_default().push(span);
    }
    let mut found: Vec<String> = times
        .into_values()
        .filter(|spans| spans.len() > 1)
        .map(|spans| {
            let attempts: Vec<_> = spans.iter().map(|span| format!("#{}", span.attempt)).collect();
            format!(
                "{} arrived {} times, in attempts {}: sent again in another payload after it was taken, or two spans with one id",
                view.name(spans[0]),
                spans.len(),
                attempts.join(", ")
            )
        })
        .collect();
    found.sort();
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
            found.push(format!(
                "the parent of {} is {}, which is no client span: `{caller}` sent on a context that is not its outgoing call's",
                view.name(span),
                view.name(parent)
            ));
            continue;
        }
        let Some(index) = hops.iter().position(|hop| hop.workload == callee) else { continue };
        let expected = match index {
            0 => DRIVER_SERVICE,
            _ => hops[index - 1].workload.as_str(),
        };
        if caller != expected && hops[index].reached == Expected::Yes {
            found.push(format!(
                "the parent of {} is {} of `{caller}`, but `{callee}` is called by `{expected}`",
                view.name(span),
                view.name(parent)
            ));
        }
    }
    Checked::Found(found)
}

pub(super) fn trace_id_halves_disagree(view: View<'_>) -> Checked {
    let mut found = Vec::new();
    for span in view.spans() {
        let id = span.trace_id;
        if span.datadog_trace_id != id.low() {
            found.push(format!(
                "{}: traceID is {:016x}, but the low half of {id} is {:016x}",
                view.name(span),
                span.datadog_trace_id,
                id.low()
            ));
        }
        if let Some(high) = span.meta.get("_dd.p.tid")
            && u64::from_str_radix(high, 16) != Ok(id.high())
        {
            found.push(format!(
                "{}: `_dd.p.tid` is `{high}`, but the high half of {id} is {:016x}",
                view.name(span),
                id.high()
            ));
        }
        if let Some(full) = span.meta.get("otel.trace_id")
            && full.parse() != Ok(id)
        {
            found.push(format!(
                "{}: `otel.trace_id` is `{full}`, but the trace is {id}",
                view.name(span)
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
            found.push(format!(
                "{} begins {} before its parent {}: the clocks differ, or the parent is wrong",
                view.name(span),
                millis(parent.start - span.start),
                view.name(parent)
            ));
        }
        // Only a caller that waits for an answer is sure to be there; one that gave up may be gone before the callee begins.
        let caller_waits = span.kind() == "server" && parent.kind() == "client" && !parent.error;
        if caller_waits && span.start > parent.end().saturating_add(tolerance) {
            found.push(format!(
                "{} begins {} after its parent {} ended: the client span was ended too early, or the context outlived it",
                view.name(span),
                millis(span.start - parent.end()),
                view.name(parent)
            ));
        }
    }
    Checked::Found(found)
}

fn millis(nanos: i64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}
