//! Rules about what must be there, and what must not.

use std::{cell::LazyCell, collections::HashSet};

use super::{
    Checked,
    altered::{Renamed, moved},
    ledgers::{Enders, captured_ids, known_ledgers, refused, unreadable_ledger},
    sampling::Calls,
    senders::suspects,
    stage::lost,
    stray::{broken_link, set_propagators},
};
use crate::{
    case::{
        Capability, DRIVER_SERVICE, LedgerReport, Origin, Outcome, Stray, View, shape::Expected,
    },
    finding::{Failure, Stage},
    ledger::LedgerSpan,
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
    if let (None, Some(entry), false) = (stage, entry, view.case.is_trace_unknown()) {
        found = found.on_hop(DRIVER_SERVICE, entry);
    }
    let found = vec![found];
    // The answer itself says that the trace is another one.
    if own_trace(view).is_some() { Checked::Seen(found) } else { Checked::Found(found) }
}

fn no_trace_cause(view: View<'_>) -> (Option<Stage>, String) {
    match &view.case.outcome {
        Outcome::Failed { reason } => {
            return (None, format!("the request itself failed ({reason})"));
        }
        Outcome::Unobserved { .. } => {
            return (None, "it was sent earlier, and no other stage was asked here".to_owned());
        }
        Outcome::Response { .. } => {}
    }
    if view.case.is_trace_unknown() {
        return (None, unknown_trace(view));
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
    let calls = LazyCell::new(|| Calls::new(view));
    for (workload, spans, _) in known_ledgers(view) {
        asked = true;
        let kept = spans.iter().filter(|span| span.sampled).count();
        sampled += kept;
        unsampled += spans.len() - kept;
        if kept < spans.len() && !calls.follows(workload, spans) {
            dropping.push(format!("`{workload}`"));
        }
    }
    let begun = begun_by_entry(view);
    let dropping = dropping.join(", ");
    let mut stage = None;
    let cause = match (sampled, unsampled, begun) {
        (0, 0, Some(stray)) => {
            let entry = view.case.entry(view.topology).unwrap_or("the entry");
            let set = set_propagators(view, DRIVER_SERVICE, entry);
            let remedy = set.map_or_else(
                || "look at its propagators (OTEL_PROPAGATORS)".to_owned(),
                |set| format!("{set}; `propagation` of a request says what it sends"),
            );
            format!(
                "`{entry}` began trace {} of its own by this request: the link {DRIVER_SERVICE} -> {entry} is broken; {remedy}",
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
            (there, reported) => {
                stage = there;
                reported
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
            let (there, reported) = lost(view, "the services");
            stage = there;
            format!("the services ended {sampled} spans of it, so they were {reported}")
        }
    };
    (stage, cause)
}

/// Explains that the id of the request's trace was to be read from the answer, and is not there.
fn unknown_trace(view: View<'_>) -> String {
    let likely = begun_by_entry(view).and_then(|stray| {
        let root = stray.trace.root()?;
        Some(format!(
            "; trace {}, which `{}` began meanwhile, is likely its own",
            stray.trace.id,
            view.workload_of(root)
        ))
    });
    format!(
        "it is unknown which trace is the request's: no context was sent with it (`propagation: none`), and its answer has no trace id where `trace_id_from` looks for it{}",
        likely.unwrap_or_default()
    )
}

/// Finds the trace that was begun by the harness's own request.
fn begun_by_entry(view: View<'_>) -> Option<&Stray> {
    view.apart().find(
        |stray| matches!(&stray.origin, Origin::Call { caller, .. } if caller == DRIVER_SERVICE),
    )
}

/// Explains why no span came, where no ledger shows it: by who was heard of in other traces.
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
    let lacks = |stray: &&Stray| matches!(&stray.origin, Origin::Lacking { .. });
    let apart = view.apart().filter(lacks).map(|stray| &stray.trace).find(begins);
    if let Some(apart) = apart {
        return format!(
            "`{entry}` began trace {} meanwhile, which has what the request must have: {}",
            apart.id,
            super::stray::lost_within(view, entry)
        );
    }
    match view.linked().find(begins) {
        Some(linked) => format!(
            "`{entry}` began trace {} of its own, and only links it to this one, instead of going on with it; where it is meant to, as an endpoint that everybody may call, write `public: true` at it in the system file",
            linked.id
        ),
        None => format!(
            "spans of `{entry}` came in other traces, so it does export: it sampled this trace out (OTEL_TRACES_SAMPLER), began one of its own that nothing connects with the request (OTEL_PROPAGATORS), or its spans were lost on their way{refused}"
        ),
    }
}

/// Says so when the entry answered with a trace id that is not the one it was sent.
fn own_trace(view: View<'_>) -> Option<String> {
    let Outcome::Response { trace_id: Some(reported), .. } = &view.case.outcome else {
        return None;
    };
    let entry = view.case.entry(view.topology).unwrap_or("the entry");
    (view.case.context_sent && *reported != view.case.trace_id).then(|| {
        let link = format!("the link tracecheck -> {entry} is broken");
        match view.topology.between(DRIVER_SERVICE, entry) {
            Some(between) => format!(
                "`{entry}` started trace {reported}: {link}; most likely {between}, through which the request leads and which makes no spans, drops the context or puts its own in its place; else `{entry}` does not read it (OTEL_PROPAGATORS)"
            ),
            None => format!(
                "`{entry}` did not take over the context it was sent, but started trace {reported}: {link}; look at its propagators (OTEL_PROPAGATORS)"
            ),
        }
    })
}

pub(super) fn missing_hop(view: View<'_>) -> Checked {
    // Without any span the whole trace is missing, which is reported once.
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
                "`{here}` was not sent trace {}, and no trace was captured that it began instead",
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
        let there = captured_ids(view);
        let captured = |span: &&LedgerSpan| span.kind == "server" && there.contains(&span.span_id);
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
                let (_, reported) = lost(view, &format!("`{here}`"));
                format!("`{here}` did end {spans} span(s) of this trace, so they were {reported}")
            }
            false => format!("`{here}` did take part, but sampled its {spans} span(s) out"),
        };
    }
    let begins = |stray: &&Stray| begins(view, stray, here);
    if let Some(stray) = view.apart().find(begins) {
        return format!(
            "`{here}` started trace {} of its own meanwhile: {}",
            stray.trace.id,
            broken_link(view, caller, here, stray)
        );
    }
    match view.strays.iter().copied().find(begins) {
        Some(linked) => format!(
            "`{here}` started trace {} of its own, and only links it to this one, instead of going on with the context that `{caller}` sent",
            linked.trace.id
        ),
        None => match view.topology.between(caller, here) {
            Some(between) => format!(
                "`{here}` has no span of this trace: {between}, through which the call leads, does not pass the context on, `{caller}` does not send it, or `{here}` does not read it (OTEL_PROPAGATORS of both)"
            ),
            None => format!(
                "`{here}` has no span of this trace: `{caller}` does not send its context, or `{here}` does not read it (OTEL_PROPAGATORS of both)"
            ),
        },
    }
}

/// Returns whether a trace was begun by this workload.
fn begins(view: View<'_>, stray: &Stray, workload: &str) -> bool {
    stray.trace.root().is_some_and(|span| view.workload_of(span) == workload)
}

fn is_of_a_service(span: &Span) -> bool {
    span.service != DRIVER_SERVICE
}

pub(super) fn lost_span(view: View<'_>) -> Checked {
    let no_ledger = view.lacks(Capability::Ledger);
    if let Some(because) = no_ledger.filter(|_| is_own_span_accounted_for(view)) {
        return Checked::NotEvaluated { because, required: false };
    }
    // What was captured under another trace is not lost.
    let mut captured = captured_ids(view);
    captured.extend(view.evidence.elsewhere.iter().map(|span| span.id));
    let mut found = Vec::new();
    let renamed = LazyCell::new(|| Renamed::new(view));
    for (workload, spans, _) in known_ledgers(view) {
        let missing = |span: &&LedgerSpan| span.sampled && !captured.contains(&span.span_id);
        let lost_there = LazyCell::new(|| lost(view, &format!("`{workload}`")));
        for span in spans.iter().filter(missing) {
            if renamed.of(workload, span).is_some() {
                continue;
            }
            let (stage, cause) = &*lost_there;
            let gone = Failure::found(format!(
                "`{workload}` ended `{}` ({}, {}), but it was not captured",
                span.name, span.kind, span.span_id
            ));
            let gone = gone.because(cause.as_str()).about(workload);
            found.push(gone.of_span(span.span_id).at_stage(*stage));
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

/// Returns whether nothing is to be said of the harness's own span: it was captured, or not exported, or `undelivered-span` judges what the
/// collector sent.
fn is_own_span_accounted_for(view: View<'_>) -> bool {
    !view.case.driver_exported
        || !view.case.sampled
        || view.evidence.collector.is_some()
        || captured_ids(view).contains(&view.case.driver_span)
}

pub(super) fn invented_span(view: View<'_>) -> Checked {
    let (mut found, enders) = (Vec::new(), Enders::of(view));
    for (workload, spans, _) in known_ledgers(view).filter(|(_, _, evicted)| !evicted) {
        let known: HashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
        // What another one ended came under a wrong resource, and is judged by the rules about that.
        let strangers = view.service_spans().filter(|span| {
            view.topology.workload_of(span) == Some(workload)
                && !known.contains(&span.id)
                && enders.ender(span.id).is_none()
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
