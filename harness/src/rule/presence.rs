//! Rules about what must be there, and what must not.

use std::collections::{HashMap, HashSet};

use super::Checked;
use crate::{
    case::{DRIVER_SERVICE, LedgerReport, Origin, Outcome, Stray, View},
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
    let found = vec![format!(
        "no span of any service was captured for trace {}: {}",
        view.case.trace_id,
        no_trace_cause(view)
    )];
    // The answer itself says that the trace is another one.
    if own_trace(view).is_some() { Checked::Seen(found) } else { Checked::Found(found) }
}

fn no_trace_cause(view: View<'_>) -> String {
    if let Outcome::Failed { reason } = &view.case.outcome {
        return format!("the request itself failed ({reason})");
    }
    if let Some(own) = own_trace(view) {
        return own;
    }
    if let Some(span) = view.evidence.elsewhere.iter().find(|span| is_of_a_service(span)) {
        return format!(
            "its spans were captured under trace {}: {}",
            span.trace_id,
            moved(view, span)
        );
    }
    let (mut sampled, mut unsampled, mut asked) = (0, 0, false);
    let mut dropping = Vec::new();
    for (workload, spans, _) in known_ledgers(view) {
        asked = true;
        let kept = spans.iter().filter(|span| span.sampled).count();
        sampled += kept;
        unsampled += spans.len() - kept;
        if kept < spans.len() {
            dropping.push(format!("`{workload}`"));
        }
    }
    let begun = view.apart().find(
        |stray| matches!(&stray.origin, Origin::Call { caller, .. } if caller == DRIVER_SERVICE),
    );
    let refused = refused(view);
    let dropping = dropping.join(", ");
    match (sampled, unsampled, begun) {
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
        (0, 0, None) => unheard(view, &refused),
        (0, _, _) if view.case.context_sent => format!("the services sampled all {unsampled} spans of it out ({dropping}): their samplers do not follow the parent"),
        (0, _, _) => format!("the services sampled all {unsampled} spans of it out ({dropping}), by samplers of their own (OTEL_TRACES_SAMPLER): no parent was sent that they could follow"),
        (_, _, _) => format!("the services ended {sampled} spans of it, so they were lost between the services and the intake{refused}"),
    }
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

/// What the intake refused meanwhile, as the end of a sentence.
fn refused(view: View<'_>) -> String {
    let told = view.evidence.refused.iter().map(|(reply, count)| {
        let remedy = match reply.as_str() {
            "403" => " (the API key is refused)",
            "413" => " (the payloads are too large)",
            _ => "",
        };
        format!("{count} answered {reply}{remedy}")
    });
    let told: Vec<String> = told.collect();
    if !view.evidence.ended.is_empty() {
        return format!("; {}", view.evidence.ended.join(", "));
    }
    match told.is_empty() {
        true => "; look at the collector's log, and at the service's".to_owned(),
        false => format!("; the intake refused attempts meanwhile: {}", told.join(", ")),
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
            found.push(format!(
                "`{here}` has no server span in trace {}: the link {caller} -> {here} is broken; {}",
                view.case.trace_id,
                missing_hop_cause(view, caller, here)
            ));
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
            true => format!(
                "`{here}` did end {spans} span(s) of this trace, so they were lost on their way"
            ),
            false => format!("`{here}` did take part, but sampled its {spans} span(s) out"),
        };
    }
    let begins = |stray: &&Stray| {
        let first = stray.trace.spans.iter().find(|span| span.parent_id.is_none());
        first.is_some_and(|span| view.workload_of(span) == here)
    };
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

/// The services whose ledger answered: workload, spans, whether some were evicted.
fn known_ledgers<'a>(view: View<'a>) -> impl Iterator<Item = (&'a str, &'a [LedgerSpan], bool)> {
    view.evidence.ledgers.iter().filter_map(|(workload, report)| match report {
        LedgerReport::Known(entry) => {
            Some((workload.as_str(), entry.spans.as_slice(), entry.evicted))
        }
        LedgerReport::Unknown(_) => None,
    })
}

/// `Some` when a ledger that should be there could not be read.
fn unreadable_ledger(view: View<'_>) -> Option<Checked> {
    view.evidence.ledgers.iter().find_map(|(workload, report)| match report {
        LedgerReport::Unknown(reason) => Some(Checked::NotEvaluated {
            because: format!("the ledger of `{workload}` could not be read: {reason}"),
            required: true,
        }),
        LedgerReport::Known(_) => None,
    })
}

fn captured_ids(view: View<'_>) -> HashSet<SpanId> {
    view.spans().iter().map(|span| span.id).collect()
}

pub(super) fn sampled_out(view: View<'_>) -> Checked {
    if !view.case.sampled || !view.case.context_sent {
        return Checked::NotApplicable;
    }
    let found = known_ledgers(view).filter_map(|(workload, spans, _)| {
        let dropped = spans.iter().filter(|span| !span.sampled).count();
        (dropped > 0).then(|| {
            format!(
                "`{workload}` sampled out {dropped} span(s) of trace {}, though its caller had decided to keep it: its sampler (OTEL_TRACES_SAMPLER) does not follow the parent",
                view.case.trace_id
            )
        })
    });
    Checked::Found(found.collect())
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

pub(super) fn altered_span<'a>(view: View<'a>) -> Checked {
    let made = known_ledgers(view)
        .flat_map(|(workload, spans, _)| spans.iter().map(move |span| (workload, span)));
    let by_id = |spans: &'a [Span]| -> HashMap<SpanId, &'a Span> {
        spans.iter().map(|span| (span.id, span)).collect()
    };
    let (captured, elsewhere) = (by_id(view.spans()), by_id(&view.evidence.elsewhere));
    let mut found = Vec::new();
    for (workload, made) in made {
        let what = format!("`{workload}` ended `{}` ({}, {})", made.name, made.kind, made.span_id);
        if let Some(span) = elsewhere.get(&made.span_id) {
            found.push(format!(
                "{what} in trace {}, and it was captured under trace {}, as a span of `{}`: {}",
                view.case.trace_id,
                span.trace_id,
                span.service,
                moved(view, span)
            ));
        } else if let Some(span) = captured.get(&made.span_id)
            && span.parent_id != made.parent_span_id
        {
            let parent = |id: Option<SpanId>| {
                id.map_or_else(|| "no parent".to_owned(), |id| format!("parent {id}"))
            };
            found.push(format!(
                "{what} below {}, and it was captured below {}: something between `{workload}` and the intake changes parents",
                parent(made.parent_span_id),
                parent(span.parent_id)
            ));
        } else if let Some(span) = captured.get(&made.span_id)
            && !span.kind().is_empty()
            && span.kind() != made.kind
        {
            found.push(format!(
                "{what}, and it was captured with the kind `{}`: something between `{workload}` and the intake changes span kinds",
                span.kind()
            ));
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
        for span in spans.iter().filter(|span| span.sampled && !captured.contains(&span.span_id)) {
            found.push(format!(
                "`{workload}` ended `{}` ({}, {}), but it was not captured: lost between `{workload}` and the intake{}",
                span.name,
                span.kind,
                span.span_id,
                refused(view)
            ));
        }
    }
    if view.case.driver_exported && view.case.sampled && !captured.contains(&view.case.driver_span)
    {
        found.push(format!(
            "the harness exported its own span {} to the collector, which said OK, but it was not captured: lost between the collector and the intake{}",
            view.case.driver_span,
            refused(view)
        ));
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
            format!(
                "{} was captured, but `{workload}` says that it never ended such a span",
                view.name(span)
            )
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
    let mut told: Vec<String> =
        view.apart().take(STRAYS_TOLD).map(|stray| stray_told(view, stray)).collect();
    let more = view.apart().count() - told.len();
    if more > 0 {
        told.push(format!(
            "and {more} more traces belong to the request and are not part of its own"
        ));
    }
    Checked::Found(told)
}

/// What a stray is, and what shows that it belongs to the request.
fn stray_told(view: View<'_>, stray: &Stray) -> String {
    let (id, first) = (stray.trace.id, stray.trace.spans.first());
    let begun = first.map_or_else(String::new, |span| {
        let resource = &span.resource;
        format!(", which `{}` began with `{resource}`,", view.workload_of(span))
    });
    let name = |id: SpanId| match stray.trace.span(id) {
        Some(span) => view.name(span),
        None => id.to_string(),
    };
    match &stray.origin {
        Origin::Call { call, caller, what, .. } => {
            let here = first.map_or("the service", |span| view.workload_of(span));
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
    }
}
