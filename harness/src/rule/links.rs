//! Rules about how the spans of a trace hang together.

use std::{
    cell::LazyCell,
    collections::{BTreeSet, HashMap, HashSet},
};

use harness_core::family::{Family, by_id};

use super::{
    Checked, ORPHAN,
    callers::Callers,
    stage::{Doubled, came_again},
};
use crate::{
    case::{Capability, DRIVER_SERVICE, View, around::WrongClock},
    finding::{Changed, Failure},
    span_links::to_other_traces,
    trace::{CLOCK_TOLERANCE, Span, SpanId},
};

/// How long spans must last for two of them not to begin and end at once by chance: nanoseconds.
const LONG_ENOUGH: i64 = 100_000;
/// How far two clock readings in one process may lie apart: nanoseconds. A wall clock may be slewed between two readings.
const SAME_PROCESS_TOLERANCE: i64 = 2_000_000;

pub(super) fn orphan_span(view: View<'_>) -> Checked {
    let ids: HashSet<SpanId> = view.spans().iter().map(|span| span.id).collect();
    let callers = LazyCell::new(|| Callers::new(view));
    let orphans = view.spans().iter().filter_map(|span| {
        let parent = span.parent_id?;
        if ids.contains(&parent) || view.is_virtual_parent(parent) {
            return None;
        }
        let detail =
            format!("{} names the parent {parent}, which was not captured", view.name(span));
        let here = view.workload_of(span);
        if let Some((stage, cause)) = callers.lost_by_collector(parent) {
            let found = Failure::found(detail).because(cause).of_span(span.id);
            return Some(found.about(here).at_stage(Some(stage)));
        }
        let (caller, cause) = callers.orphan_cause(span, parent);
        let found = Failure::found(detail).because(cause).of_span(span.id);
        Some(match caller.filter(|caller| *caller != here) {
            Some(caller) => found.about(here).on_hop(caller, here),
            None => found.about(here),
        })
    });
    Checked::Found(orphans.collect())
}

/// Finds spans of a linked trace that link to a span of the request's which is not there.
pub(super) fn linked_to_nothing(view: View<'_>, linked: View<'_>) -> Vec<Failure> {
    if view.lacks(Capability::Settled).is_some() {
        return Vec::new();
    }
    let ids: HashSet<SpanId> = view.spans().iter().map(|span| span.id).collect();
    let id = view.case.trace_id;
    let links = linked.spans().iter().flat_map(|span| {
        let of_request = to_other_traces(span).filter(move |(trace, _)| *trace == id);
        of_request.filter_map(move |(_, to)| Some((span, to?)))
    });
    let lacking = links.filter(|(_, to)| !ids.contains(to) && !view.is_virtual_parent(*to));
    let found = lacking.map(|(span, to)| {
        let detail = format!(
            "{} links to the span {to} of trace {id}, which was not captured",
            view.name(span)
        );
        let cause = "that span was lost on its way or sampled out, or the link was made of a context that is no span's";
        let found = Failure::found(detail).because(cause).about(view.workload_of(span));
        found.of_span(span.id).of_rule(ORPHAN)
    });
    found.collect()
}

pub(super) fn several_roots(view: View<'_>) -> Checked {
    let captured: HashSet<SpanId> = view.spans().iter().map(|span| span.id).collect();
    // What came twice is one root.
    let mut seen = HashSet::new();
    let mut roots: Vec<String> = view
        .spans()
        .iter()
        .filter(|span| span.parent_id.is_none() && seen.insert(span.id))
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
        "{} roots: {}",
        roots.len(),
        roots.join(", ")
    ))
    .because("each has the trace's id, so it was given that, and its parent was not set or got lost: something on the way removes or clears parents, or a service takes the trace id alone out of the context that it is sent");
    // The first root is the request's own; what is a root beside it is not.
    let own = |span: &&Span| span.parent_id.is_none() && view.workload_of(span) != DRIVER_SERVICE;
    Checked::Found(vec![match view.spans().iter().rfind(own) {
        Some(span) => found.about(view.workload_of(span)).of_span(span.id),
        None => found,
    }])
}

pub(super) fn parent_cycle(view: View<'_>) -> Checked {
    let by_id = by_id(view.spans());
    let parent = |id| by_id.get(&id)?.parent_id;
    let family = LazyCell::new(|| view.family());
    let mut clear: HashSet<SpanId> = HashSet::new();
    let mut found = Vec::new();
    for span in view.spans() {
        let mut path = vec![span.id];
        let mut on_path: HashSet<SpanId> = path.iter().copied().collect();
        let mut at = span.id;
        while let Some(parent) = parent(at) {
            if clear.contains(&parent) {
                break;
            }
            if !on_path.insert(parent) {
                let from = path.iter().position(|id| *id == parent).unwrap_or(0);
                found.push(reported_cycle(view, &family, &path[from..]));
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
fn reported_cycle(view: View<'_>, family: &Family<'_>, ids: &[SpanId]) -> Failure {
    let named =
        |id: &SpanId| family.span(*id).map_or_else(|| id.to_string(), |span| view.name(span));
    let reported: Vec<String> = ids.iter().map(named).collect();
    let mut makers: Vec<&str> =
        ids.iter().filter_map(|id| Some(view.workload_of(family.span(*id)?))).collect();
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
    let found = Failure::found(match reported.as_slice() {
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
    let stages = LazyCell::new(|| Doubled::new(view));
    let mut found: Vec<Failure> = times
        .into_values()
        .filter(|spans| spans.len() > 1)
        .map(|spans| {
            let attempts: BTreeSet<u64> = spans.iter().map(|span| span.attempt).collect();
            let word = if attempts.len() == 1 { "attempt" } else { "attempts" };
            let attempts: Vec<_> = attempts.iter().map(|attempt| format!("#{attempt}")).collect();
            let (stage, cause) = stages.of(&spans);
            let of = stages.not_made(&spans).unwrap_or(spans[0]);
            Failure::found(format!(
                "{} arrived {} times, in {word} {}",
                view.name(of),
                spans.len(),
                attempts.join(", ")
            ))
            .because(cause)
            .about(view.workload_of(of))
            .of_spans(&spans)
            .at_stage(stage)
        })
        .collect();
    found.extend(came_again(view));
    found.extend(copied_spans(view));
    found.sort_by(|one, other| one.detail.cmp(&other.detail));
    Checked::Found(found)
}

/// Finds spans that are alike in all but their ids: of one process, below the same parent, begun and ended in the same nanosecond.
fn copied_spans(view: View<'_>) -> Vec<Failure> {
    let mut alike: HashMap<_, Vec<&Span>> = HashMap::new();
    // Clocks that count milliseconds give short spans one time.
    let is_fine = |span: &&Span| {
        let is_coarse = span.start % 1_000_000 == 0 && span.duration % 1_000_000 == 0;
        !is_coarse && span.duration >= LONG_ENOUGH && span.parent_id.is_some()
    };
    for span in view.service_spans().filter(is_fine) {
        let times = (span.start, span.duration);
        let what = (span.kind(), span.name.as_str(), span.resource.as_str());
        let whose = (span.service.as_str(), span.instance());
        alike.entry((span.parent_id, times, what, whose)).or_default().push(span);
    }
    let copied = alike.into_values().filter_map(|spans| {
        let ids: BTreeSet<SpanId> = spans.iter().map(|span| span.id).collect();
        let (first, here) = (*spans.first()?, view.workload_of(spans.first()?));
        (ids.len() > 1).then(|| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Failure::found(format!(
                "{} came under {} ids ({}), with the same parent, start and end",
                view.name(first),
                ids.len(),
                ids.join(", ")
            ))
            .because(format!(
                "something between `{here}` and Datadog copies spans and gives each copy an id of its own, or `{here}` makes a second span of each"
            ))
            .about(here)
            .of_spans(&spans)
        })
    });
    copied.collect()
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
    let (family, mut found) = (view.family(), Vec::new());
    for span in view.spans() {
        let Some(parent) = family.parent(span) else { continue };
        // Between hosts nothing is said: how far their clocks are apart is not known.
        if span.hostname != parent.hostname || span.hostname.is_empty() {
            continue;
        }
        let one_process = span.instance().is_some() && span.instance() == parent.instance();
        let tolerance = if one_process { SAME_PROCESS_TOLERANCE } else { CLOCK_TOLERANCE };
        if span.start.saturating_add(tolerance) < parent.start {
            let early = Failure::found(format!(
                "{} begins {} before its parent {}",
                view.name(span),
                millis(parent.start - span.start),
                view.name(parent)
            ));
            found.push(of_a_clock(view, (parent, span), &early).unwrap_or_else(|| {
                let early = early.because(match one_process {
                    true => "both are of one process: its start is set by hand or is that of something else, the clock was set back in between, or the parent is wrong",
                    false => "the clocks differ, or the parent is wrong",
                });
                placed(view, early, parent, span)
            }));
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
            found.push(of_a_clock(view, (parent, span), &late).unwrap_or_else(|| {
                let late = late.because(format!(
                    "it was sent the context of an earlier call (headers that something keeps), that client span was ended too early, or the clock of `{}` is ahead",
                    view.workload_of(span)
                ));
                placed(view, late, parent, span)
            }));
        }
    }
    Checked::Found(found)
}

/// The same finding where all traces together show that it is the clock of one service.
fn of_a_clock(view: View<'_>, (parent, span): (&Span, &Span), found: &Failure) -> Option<Failure> {
    let (caller, callee) = (view.workload_of(parent), view.workload_of(span));
    let clocks = view.around.clocks(view.topology);
    let apart = |nanos: i64| match nanos.unsigned_abs() {
        short if short < 1_000_000_000 => format!("{:.0} ms", short as f64 / 1e6),
        long => format!("{:.1} s", long as f64 / 1e9),
    };
    let (workload, cause) = match clocks.wrong(caller, callee) {
        Some(WrongClock { workload, ahead, traces }) => {
            let cause = format!(
                "the clock of `{workload}` is {} {}, by which its spans are off in each of the {traces} traces that have both",
                apart(ahead),
                if ahead > 0 { "ahead" } else { "behind" }
            );
            (workload, cause)
        }
        None => {
            let by = clocks.step(callee, view.case.trace_id, span.start - parent.start)?;
            let cause = format!(
                "the clock of `{callee}` was set back by {} while requests were in progress, as spans of several traces are off by that",
                apart(by)
            );
            (callee.to_owned(), cause)
        }
    };
    let found = placed(view, found.clone().because(cause), parent, span).about(&workload);
    Some(found.of_changed(Changed { times: true, ..Changed::default() }))
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
