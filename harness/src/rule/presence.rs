//! Rules about what must be there, and what must not.

use std::collections::{HashMap, HashSet};

use super::{
    Checked,
    ledgers::{captured_ids, known_ledgers, refused, unreadable_ledger},
    senders::suspects,
    stage::lost,
};
use crate::{
    case::{DRIVER_SERVICE, LedgerReport, Origin, Outcome, Stray, View},
    finding::{Failure, Stage},
    ledger::LedgerSpan,
    scenario::fault::Expected,
    trace::{Span, SpanId, Trace},
};

pub(super) fn no_trace(view: View<'_>) -> Checked {
    if !view.case.sampled || view.service_spans().next().is_some() {
        return Checked::Found(Vec::new());
    }
    // When nothing was to be reached, there is nothing to be seen.
    if !view.shape.hops.is_empty() && view.shape.hops.iter().all(|hop| hop.reached != Expected::Yes)
    {
        return Checked::NotApplicable;
    }
    let (stage, cause) = no_trace_cause(view);
    let id = view.case.trace_id;
    let mut found = Failure::found(format!("no span of any service was captured for trace {id}"))
        .because(cause)
        .at_stage(stage);
    let entry = view.case.entry(view.topology);
    if let (None, Some(entry)) = (stage, entry) {
        found = found.on_hop(DRIVER_SERVICE, entry);
    }
    let found = vec![found];
    // The answer itself says that the trace is another one.
    if own_trace(view).is_some() { Checked::Seen(found) } else { Checked::Found(found) }
}

fn no_trace_cause(view: View<'_>) -> (Option<Stage>, String) {
    if let Outcome::Failed { reason } = &view.case.outcome {
        return (None, format!("the request itself failed ({reason})"));
    }
    if let Some(own) = own_trace(view) {
        return (None, own);
    }
    if let Some(span) = view.evidence.elsewhere.iter().find(|span| is_of_a_service(span)) {
        let cause =
            format!("its spans were captured under trace {}: {}", span.trace_id, moved(view, span));
        return (None, cause);
    }
    let (mut sampled, mut unsampled, mut asked) = (0, 0, false);
    let mut dropping = Vec::new();
    for (workload, spans, _) in known_ledgers(view) {
        asked = true;
        let kept = spans.iter().filter(|span| span.sampled).count();
        sampled += kept;
        unsampled += spans.len() - kept;
        if kept < spans.len() && !follows(view, workload, spans) {
            dropping.push(format!("`{workload}`"));
        }
    }
    let begun = view.apart().find(
        |stray| matches!(&stray.origin, Origin::Call { caller, .. } if caller == DRIVER_SERVICE),
    );
    let dropping = dropping.join(", ");
    let mut stage = None;
    let cause = match (sampled, unsampled, begun) {
        (0, 0, Some(stray)) => {
            let entry = view.case.entry(view.topology).unwrap_or("the entry");
            format!(
                "`{entry}` began trace {} of its own by this request: the link {DRIVER_SERVICE} -> {entry} is broken; look at its propagators (OTEL_PROPAGATORS)",
                stray.trace.id
            )
        }
        (0, 0, None) if asked => {
            "no service ended a span of it: none took over the context that the request carried, or their SDK is off".to_owned()
        }
        (0, 0, None) => match lost(view, "the services") {
            (None, _) => unheard(view, &refused(view)),
            // Who was heard of in other traces says more.
            (Some(Stage::BeforeCollector), _) if !view.evidence.heard.is_empty() => {
                unheard(view, &refused(view))
            }
            (Some(Stage::BeforeCollector), _) => {
                let why = suspects(view).unwrap_or_else(|| {
                    "the services do not export, or send elsewhere, or what they send is lost in front of the collector; look at their logs and at OTEL_EXPORTER_OTLP_ENDPOINT".to_owned()
                });
                format!("the collector took no span of theirs: {why}")
            }
            (there, told) => {
                stage = there;
                told
            }
        },
        (0, _, _) => {
            stage = Some(Stage::Service);
            let why = match view.case.context_sent {
                true => "their samplers do not follow the parent",
                false => "by samplers of their own (OTEL_TRACES_SAMPLER): no parent was sent that they could follow",
            };
            let comma = if view.case.context_sent { ": " } else { ", " };
            format!("the services sampled all {unsampled} spans of it out ({dropping}){comma}{why}")
        }
        (_, _, _) => {
            let (there, told) = lost(view, "the services");
            stage = there;
            format!("the services ended {sampled} spans of it, so they were {told}")
        }
    };
    (stage, cause)
}

/// Why no span came, where no ledger tells: by who was heard of in other traces.
fn unheard(view: View<'_>, refused: &str) -> String {
    let heard = &view.evidence.heard;
    let Some(entry) = view.case.entry(view.topology).filter(|_| !heard.is_empty()) else {
        return format!(
            "the services do not export, or what they export does not reach the intake{refused}"
        );
    };
    if !heard.contains(entry) {
        let others: Vec<String> = heard.iter().map(|name| format!("`{name}`")).collect();
        return format!(
            "other traces have spans of {}, and none has one of `{entry}`: it does not export, or what it exports does not reach the intake{refused}",
            others.join(", ")
        );
    }
    let begins = |trace: &&Trace| {
        let first = trace.spans.iter().find(|span| span.parent_id.is_none());
        first.is_some_and(|span| view.workload_of(span) == entry)
    };
    match view.linked().find(begins) {
        Some(linked) => format!(
            "`{entry}` began trace {} of its own, and only links it to this one, instead of going on with it",
            linked.id
        ),
        None => format!(
            "spans of `{entry}` came in other traces, so it does export: it sampled this trace out (OTEL_TRACES_SAMPLER), began one of its own that nothing connects with the request (OTEL_PROPAGATORS), or its spans were lost on their way{refused}"
        ),
    }
}

/// Says so when the entry answered with a trace id that is not the one it was sent.
fn own_trace(view: View<'_>) -> Option<String> {
    let Outcome::Response { trace_id: Some(told), .. } = &view.case.outcome else { return None };
    let entry = view.case.entry(view.topology).unwrap_or("the entry");
    (view.case.context_sent && *told != view.case.trace_id).then(|| {
        format!(
            "`{entry}` did not take over the context it was sent, but started trace {told}: the link tracecheck -> {entry} is broken; look at its propagators (OTEL_PROPAGATORS)"
        )
    })
}

pub(super) fn missing_hop(view: View<'_>) -> Checked {
    // Without any span the whole trace is missing, which is told once.
    if view.shape.hops.is_empty() {
        return super::no_shape();
    }
    if !view.case.sampled || view.service_spans().next().is_none() {
        return Checked::NotApplicable;
    }
    let mut found = Vec::new();
    let mut caller = DRIVER_SERVICE;
    for hop in &view.shape.hops {
        let here = hop.workload.as_str();
        if hop.reached == Expected::Yes && view.spans_of(here, "server").next().is_none() {
            let id = view.case.trace_id;
            let cause = missing_hop_cause(view, caller, here);
            let missing = Failure::found(format!(
                "`{here}` has no server span in trace {id}: the link {caller} -> {here} is broken; {cause}"
            ));
            found.push(Failure { cause: Some(cause), ..missing.about(here).on_hop(caller, here) });
        }
        if hop.apart == Expected::Yes && !view.apart().any(|stray| begins(view, stray, here)) {
            let missing = Failure::found(format!(
                "`{here}` was not told of trace {}, and no trace was captured that it began instead",
                view.case.trace_id
            ));
            let cause = format!(
                "`{here}` begins none without a parent (OTEL_TRACES_SAMPLER), or its spans were lost on their way"
            );
            found.push(missing.because(cause).about(here).on_hop(caller, here));
        }
        caller = here;
    }
    Checked::Found(found)
}

fn missing_hop_cause(view: View<'_>, caller: &str, here: &str) -> String {
    if let Some(LedgerReport::Known(entry)) = view.evidence.ledgers.get(here)
        && !entry.spans.is_empty()
    {
        let captured = |span: &&LedgerSpan| {
            span.kind == "server" && view.spans().iter().any(|one| one.id == span.span_id)
        };
        if let Some(span) = entry.spans.iter().find(captured) {
            return format!(
                "`{here}` did end `{}` ({}, {}), which was captured, and not as a server span of `{here}`",
                span.name, span.kind, span.span_id
            );
        }
        let spans = entry.spans.len();
        let ids: HashSet<SpanId> = entry.spans.iter().map(|span| span.span_id).collect();
        if let Some(span) = view.evidence.elsewhere.iter().find(|span| ids.contains(&span.id)) {
            return format!(
                "`{here}` did end {spans} span(s) of this trace, and they were captured under trace {}: {}",
                span.trace_id,
                moved(view, span)
            );
        }
        return match entry.spans.iter().any(|span| span.sampled) {
            true => {
                let (_, told) = lost(view, &format!("`{here}`"));
                format!("`{here}` did end {spans} span(s) of this trace, so they were {told}")
            }
            false => format!("`{here}` did take part, but sampled its {spans} span(s) out"),
        };
    }
    let begins = |stray: &&Stray| begins(view, stray, here);
    if let Some(stray) = view.apart().find(begins) {
        return format!(
            "`{here}` started trace {} of its own meanwhile: `{caller}` does not send its context, or in a form that `{here}` does not read (OTEL_PROPAGATORS of both)",
            stray.trace.id
        );
    }
    match view.strays.iter().copied().find(begins) {
        Some(linked) => format!(
            "`{here}` started trace {} of its own, and only links it to this one, instead of going on with the context that `{caller}` sent",
            linked.trace.id
        ),
        None => format!(
            "`{here}` knows nothing of this trace: `{caller}` does not send its context, or `{here}` does not read it (OTEL_PROPAGATORS of both)"
        ),
    }
}

/// Whether a trace was begun by this workload.
fn begins(view: View<'_>, stray: &Stray, workload: &str) -> bool {
    let first = stray.trace.spans.iter().find(|span| span.parent_id.is_none());
    first.is_some_and(|span| view.workload_of(span) == workload)
}

/// Whether a trace is one that a fault makes a workload begin.
fn is_implied(view: View<'_>, stray: &Stray) -> bool {
    let mut apart = view.shape.hops.iter().filter(|hop| hop.apart != Expected::No);
    let first = stray.trace.spans.first();
    first.is_some_and(|span| apart.any(|hop| view.workload_of(span) == hop.workload))
}

pub(super) fn sampled_out(view: View<'_>) -> Checked {
    if !view.case.sampled || !view.case.context_sent {
        return Checked::NotApplicable;
    }
    let found = known_ledgers(view).filter_map(|(workload, spans, _)| {
        let dropped: Vec<&LedgerSpan> = spans.iter().filter(|span| !span.sampled).collect();
        let first = *dropped.first()?;
        if follows(view, workload, spans) {
            return None;
        }
        let caller = dropped.iter().find_map(|span| caller_of(view, workload, span));
        let caller = caller.map_or("its caller".to_owned(), |(caller, _)| format!("`{caller}`"));
        let (id, count) = (view.case.trace_id, dropped.len());
        let out = Failure::found(format!(
            "`{workload}` sampled out {count} span(s) of trace {id}, though {caller} had decided to keep it"
        ));
        Some(why_sampled_out(view, workload, &dropped, out).of_span(first.span_id))
    });
    Checked::Found(found.collect())
}

/// Whether a workload dropped spans where its caller dropped its own: then it does right.
fn follows(view: View<'_>, workload: &str, spans: &[LedgerSpan]) -> bool {
    let dropped = spans.iter().filter(|span| !span.sampled);
    let mut calls = dropped.filter_map(|span| caller_of(view, workload, span)).peekable();
    calls.peek().is_some() && calls.all(|(_, sampled)| !sampled)
}

/// Who called a workload where it made this span, and whether that call was sampled.
fn caller_of<'a>(view: View<'a>, workload: &str, span: &LedgerSpan) -> Option<(&'a str, bool)> {
    let parent = span.parent_span_id?;
    if view.is_virtual_parent(parent) {
        return Some((DRIVER_SERVICE, view.case.sampled));
    }
    let mut others = known_ledgers(view).filter(|(other, _, _)| *other != workload);
    others.find_map(|(other, spans, _)| {
        let call = spans.iter().find(|call| call.span_id == parent)?;
        Some((other, call.sampled))
    })
}

/// Blames the link where the context that came over it said otherwise than its caller, else the sampler.
fn why_sampled_out(
    view: View<'_>,
    workload: &str,
    dropped: &[&LedgerSpan],
    out: Failure,
) -> Failure {
    let called = dropped.iter().find_map(|span| {
        let (caller, sampled) = caller_of(view, workload, span)?;
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

/// What became of a span's trace id on its way, as far as the ids tell.
fn moved(view: View<'_>, span: &Span) -> &'static str {
    let (made, arrived) = (view.case.trace_id, span.trace_id);
    if made.low() == arrived.low() && arrived.high() == 0 {
        return "the upper 64 bits of its trace id are missing (`otel.trace_id`, or `_dd.p.tid` at the first span of a chunk)";
    }
    if made.low() == arrived.low() {
        return "the upper 64 bits of its trace id are others (`otel.trace_id` or `_dd.p.tid`)";
    }
    if made.low() == span.datadog_trace_id {
        return "its 64-bit trace id is the right one, and its meta `otel.trace_id` names another trace";
    }
    "something between the service and the intake gives spans another trace id, or puts traces together"
}

fn is_of_a_service(span: &Span) -> bool {
    span.service != DRIVER_SERVICE
}

/// The span as which another one of a service was captured, under another id: of the same kind, below the same parent, and by its id no
/// span of that service, or a second one of that id.
fn renamed<'a>(view: View<'a>, workload: &str, made: &LedgerSpan) -> Option<&'a Span> {
    let (_, ledger, _) = known_ledgers(view).find(|(name, _, _)| *name == workload)?;
    let is_of = |span: &&Span| view.topology.workload_of(span) == Some(workload);
    view.spans().iter().filter(is_of).find(|span| {
        let is_alike = span.kind() == made.kind && span.parent_id == made.parent_span_id;
        let is_strange = ledger.iter().all(|one| one.span_id != span.id);
        let of_that_id = view.spans().iter().filter(|one| one.id == span.id).count();
        span.id != made.span_id && is_alike && (is_strange || of_that_id > 1)
    })
}

pub(super) fn altered_span<'a>(view: View<'a>) -> Checked {
    let made = known_ledgers(view)
        .flat_map(|(workload, spans, _)| spans.iter().map(move |span| (workload, span)));
    let by_id = |spans: &'a [Span]| -> HashMap<SpanId, &'a Span> {
        spans.iter().map(|span| (span.id, span)).collect()
    };
    let (captured, elsewhere) = (by_id(view.spans()), by_id(&view.evidence.elsewhere));
    let mut found = Vec::new();
    for (workload, made) in made {
        let altered = |detail: String, cause: String| {
            Failure::found(detail).because(cause).about(workload).of_span(made.span_id)
        };
        let what = format!("`{workload}` ended `{}` ({}, {})", made.name, made.kind, made.span_id);
        if !captured.contains_key(&made.span_id)
            && !elsewhere.contains_key(&made.span_id)
            && made.sampled
            && let Some(span) = renamed(view, workload, made)
        {
            let detail = format!("{what}, and it was captured under the span id {}", span.id);
            let cause = format!(
                "something between `{workload}` and the intake changes span ids, or gives one to two spans"
            );
            found.push(altered(detail, cause));
        } else if let Some(span) = elsewhere.get(&made.span_id) {
            let detail = format!(
                "{what} in trace {}, and it was captured under trace {}, as a span of `{}`",
                view.case.trace_id, span.trace_id, span.service
            );
            found.push(altered(detail, moved(view, span).to_owned()));
        } else if let Some(span) = captured.get(&made.span_id)
            && span.parent_id != made.parent_span_id
        {
            let parent = |id: Option<SpanId>| {
                id.map_or_else(|| "no parent".to_owned(), |id| format!("parent {id}"))
            };
            let detail = format!(
                "{what} below {}, and it was captured below {}",
                parent(made.parent_span_id),
                parent(span.parent_id)
            );
            let cause = format!("something between `{workload}` and the intake changes parents");
            found.push(altered(detail, cause));
        } else if let Some(span) = captured.get(&made.span_id)
            && !span.kind().is_empty()
            && span.kind() != made.kind
        {
            let detail = format!("{what}, and it was captured with the kind `{}`", span.kind());
            let cause = format!("something between `{workload}` and the intake changes span kinds");
            found.push(altered(detail, cause));
        }
    }
    Checked::Seen(found)
}

pub(super) fn lost_span(view: View<'_>) -> Checked {
    // What was captured under another trace is not lost.
    let mut captured = captured_ids(view);
    captured.extend(view.evidence.elsewhere.iter().map(|span| span.id));
    let mut found = Vec::new();
    for (workload, spans, _) in known_ledgers(view) {
        let missing = |span: &&LedgerSpan| span.sampled && !captured.contains(&span.span_id);
        for span in spans.iter().filter(missing) {
            if renamed(view, workload, span).is_some() {
                continue;
            }
            let (stage, cause) = lost(view, &format!("`{workload}`"));
            let gone = Failure::found(format!(
                "`{workload}` ended `{}` ({}, {}), but it was not captured",
                span.name, span.kind, span.span_id
            ));
            let gone = gone.because(cause).about(workload);
            found.push(gone.of_span(span.span_id).at_stage(stage));
        }
    }
    if view.case.driver_exported && view.case.sampled && !captured.contains(&view.case.driver_span)
    {
        let (stage, cause) = match lost(view, "the collector") {
            (None | Some(Stage::BeforeCollector), _) => {
                (None, format!("lost between the collector and the intake{}", refused(view)))
            }
            known => known,
        };
        let own = view.case.driver_span;
        let gone = Failure::found(format!(
            "the harness exported its own span {own} to the collector, which said OK, but it was not captured"
        ));
        let gone = gone.because(cause).about(DRIVER_SERVICE);
        found.push(gone.of_span(own).at_stage(stage));
    }
    match unreadable_ledger(view) {
        Some(unreadable) if found.is_empty() => unreadable,
        _ => Checked::Found(found),
    }
}

pub(super) fn invented_span(view: View<'_>) -> Checked {
    let mut found = Vec::new();
    for (workload, spans, _) in known_ledgers(view).filter(|(_, _, evicted)| !evicted) {
        let known: HashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
        let strangers = view.service_spans().filter(|span| {
            view.topology.workload_of(span) == Some(workload) && !known.contains(&span.id)
        });
        found.extend(strangers.map(|span| {
            let detail = format!(
                "{} was captured, but `{workload}` says that it never ended such a span",
                view.name(span)
            );
            Failure::found(detail).about(workload).of_span(span.id)
        }));
    }
    match unreadable_ledger(view) {
        Some(unreadable) if found.is_empty() => unreadable,
        _ => Checked::Found(found),
    }
}

/// How many stray traces are named.
const STRAYS_TOLD: usize = 3;

pub(super) fn stray_trace(view: View<'_>) -> Checked {
    let apart: Vec<&Stray> = view.apart().filter(|stray| !is_implied(view, stray)).collect();
    let mut told: Vec<Failure> =
        apart.iter().take(STRAYS_TOLD).map(|stray| stray_told(view, stray)).collect();
    let more = apart.len() - told.len();
    if more > 0 {
        told.push(Failure::found(format!(
            "and {more} more traces belong to the request and are not part of its own"
        )));
    }
    Checked::Found(told)
}

/// What a stray is, and what shows that it belongs to the request.
fn stray_told(view: View<'_>, stray: &Stray) -> Failure {
    let (id, first) = (stray.trace.id, stray.trace.spans.first());
    let begun = first.map_or_else(String::new, |span| {
        let resource = &span.resource;
        format!(", which `{}` began with `{resource}`,", view.workload_of(span))
    });
    let name = |id: SpanId| match stray.trace.span(id) {
        Some(span) => view.name(span),
        None => id.to_string(),
    };
    let here = first.map_or("the service", |span| view.workload_of(span));
    let found = Failure::found(match &stray.origin {
        Origin::Call { call, caller, what, .. } => {
            let remedy = match caller == DRIVER_SERVICE {
                true => format!("look at the propagators of `{here}` (OTEL_PROPAGATORS)"),
                false => format!(
                    "`{caller}` does not send its context, or in a form that `{here}` does not read (OTEL_PROPAGATORS of both)"
                ),
            };
            format!(
                "trace {id}{begun} belongs to the call `{what}` ({caller}, {call}), which nobody answers in the request's own trace: the link {caller} -> {here} is broken; {remedy}"
            )
        }
        Origin::Parent { span, parent, .. } => format!(
            "trace {id}{begun} belongs to the request: {} names the parent {parent}, which is a span of trace {}; the trace id was replaced on the way",
            name(*span),
            view.case.trace_id
        ),
        Origin::Moved { span, .. } => format!(
            "trace {id}{begun} belongs to the request: {} was ended in trace {}; the trace id was replaced on the way",
            name(*span),
            view.case.trace_id
        ),
        _ => format!(
            "trace {id}{begun} belongs to the request: the answer names it, though the request was sent another context"
        ),
    });
    match &stray.origin {
        Origin::Call { caller, .. } => found.about(here).on_hop(caller, here),
        Origin::Parent { span, .. } | Origin::Moved { span, .. } => {
            found.about(here).of_span(*span)
        }
        _ => found.about(here),
    }
}
