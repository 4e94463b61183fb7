//! The rule about captured traces that belong to a request and are not part of its own.

use std::collections::BTreeSet;

use super::Checked;
use crate::{
    case::{DRIVER_SERVICE, Origin, ServiceIdentity, Stray, View, shape::Expected},
    finding::Failure,
    span_links,
    trace::{Span, SpanId, Trace, TraceId},
};

/// Returns whether a trace is one that a fault makes a workload begin.
fn is_implied(view: View<'_>, stray: &Stray) -> bool {
    let mut apart = view.shape.hops.iter().filter(|hop| hop.apart != Expected::No);
    let first = stray.trace.spans.first();
    first.is_some_and(|span| apart.any(|hop| view.workload_of(span) == hop.workload))
}

/// How many stray traces are named.
const STRAYS_NAMED: usize = 3;

pub(super) fn stray_trace(view: View<'_>) -> Checked {
    // Where the request's own trace is unknown, the one that its entry began is likely it.
    let is_own = |stray: &Stray| {
        view.case.is_trace_unknown()
            && matches!(&stray.origin, Origin::Call { caller, .. } if caller == DRIVER_SERVICE)
    };
    let apart = view.apart().filter(|stray| !is_implied(view, stray) && !is_own(stray));
    let apart: Vec<&Stray> = apart.collect();
    let linked = view.linked().filter_map(|linked| only_links_to_its_call(view, linked));
    let mut reported: Vec<Failure> =
        apart.iter().take(STRAYS_NAMED).map(|stray| stray_reported(view, stray)).collect();
    let more = apart.len() - reported.len();
    if more > 0 {
        reported.push(Failure::found(format!(
            "and {more} more traces belong to the request and are not part of its own"
        )));
    }
    reported.extend(linked.take(STRAYS_NAMED));
    Checked::Found(reported)
}

/// Reports a trace that answers a call of another service, and only links to that call instead of going on with its trace: of an internal
/// service that takes itself for one that everybody may call. Links are right where work goes on apart from a request (a queue, a batch, a
/// push by a broker), so that it has to be a server's work, while the call waits for an answer that nobody gives in its own trace.
fn only_links_to_its_call(view: View<'_>, linked: &Trace) -> Option<Failure> {
    let root = linked.root().filter(|root| root.parent_id.is_none() && root.kind() == "server")?;
    let here = view.workload_of(root);
    let is_public = view.topology.services.iter().any(|one| one.workload == here && one.public);
    let call = span_links::to_other_traces(root)
        .filter_map(|(trace, span)| of_the_request(view, trace, span?))
        .find(|(trace, call)| is_answered_by(view, trace, call, root))
        .map(|(_, call)| call)
        .filter(|_| !is_public)?;
    let caller = view.workload_of(call);
    let found = Failure::found(format!(
        "trace {}, which `{here}` began with `{}`, belongs to {}, and only links to it: the link {caller} -> {here} is broken",
        linked.id,
        root.resource,
        view.name(call)
    ));
    let cause = format!(
        "`{here}` reads the context that `{caller}` sends, and begins a trace of its own all the same, as an endpoint does that everybody may call (`WithPublicEndpoint` and the like); where it is meant to, write `public: true` at it in the system file"
    );
    Some(found.because(cause).about(here).on_hop(caller, here))
}

/// Returns a span of the request's trace, or of one that is linked to it, with its trace.
fn of_the_request(view: View<'_>, trace: TraceId, span: SpanId) -> Option<(&Trace, &Span)> {
    let own = view.evidence.trace.as_ref();
    let trace = own.into_iter().chain(view.linked()).find(|one| one.id == trace)?;
    Some((trace, trace.span(span)?))
}

/// Returns whether a call waits while another service is at work as its server, and has no other one below it.
fn is_answered_by(view: View<'_>, trace: &Trace, call: &Span, server: &Span) -> bool {
    let waits = call.start <= server.start && server.start <= call.end();
    let is_call = call.kind() == "client" && call.service != DRIVER_SERVICE;
    let other = view.workload_of(call) != view.workload_of(server);
    let is_below = |span: &Span| span.parent_id == Some(call.id) && span.kind() == "server";
    waits && is_call && other && !trace.spans.iter().any(is_below)
}

/// Reports a stray, and what shows that it belongs to the request.
fn stray_reported(view: View<'_>, stray: &Stray) -> Failure {
    let (id, first) = (stray.trace.id, stray.trace.root());
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
            let remedy = broken_link(view, caller, here, stray);
            format!(
                "trace {id}{begun} belongs to the call `{what}` ({caller}, {call}), which no span answers in the request's own trace: the link {caller} -> {here} is broken; {remedy}"
            )
        }
        Origin::Parent { span, parent, .. } => format!(
            "trace {id}{begun} belongs to the request: {} names the parent {parent}, which is a span of trace {}; {}",
            name(*span),
            view.case.trace_id,
            replaced(view, id)
        ),
        Origin::Moved { span, .. } => format!(
            "trace {id}{begun} belongs to the request: {} was ended in trace {}; {}",
            name(*span),
            view.case.trace_id,
            replaced(view, id)
        ),
        Origin::Within { requests, caller, .. } => format!(
            "trace {id}{begun} belongs to the request: one like it began upon each of {requests} equal requests, and none at another time; {}",
            unseen_or_lost(view, caller.as_deref(), here)
        ),
        Origin::Lacking { services, caller, .. } => {
            let names: Vec<String> = services.iter().map(|name| format!("`{name}`")).collect();
            format!(
                "trace {id}{begun} belongs to the request: it has {}, which the request must have and its own trace lacks, and no other request was in progress when it began; {}",
                names.join(", "),
                unseen_or_lost(view, caller.as_deref(), here)
            )
        }
        _ => format!(
            "trace {id}{begun} belongs to the request: the answer names it, though the request was sent another context"
        ),
    });
    match &stray.origin {
        Origin::Call { caller, .. }
        | Origin::Within { caller: Some(caller), .. }
        | Origin::Lacking { caller: Some(caller), .. } => found.about(here).on_hop(caller, here),
        Origin::Parent { span, parent, .. } => {
            let found = found.about(here).of_span(*span);
            let parent = view.spans().iter().find(|one| one.id == *parent);
            match parent.map(|parent| view.workload_of(parent)).filter(|caller| *caller != here) {
                Some(caller) => found.on_hop(caller, here),
                None => found,
            }
        }
        Origin::Moved { span, .. } => found.about(here).of_span(*span),
        _ => found.about(here),
    }
}

/// Says why nothing shows who had work begin a trace of its own within a request: a caller whose calls leave no spans, or a context that was
/// lost.
fn unseen_or_lost(view: View<'_>, caller: Option<&str>, here: &str) -> String {
    let Some(caller) = caller else { return lost_within(view, here) };
    let is_seen = view.service_spans().any(|span| view.workload_of(span) == caller);
    let silent = if is_seen { "" } else { "it exports nothing, or " };
    format!(
        "`{caller}` is given the address of `{here}`, and none of its calls there left a span: {silent}the library by which it makes them is not instrumented (not installed, disabled, or of another version), and hands no context on{}",
        uninstrumented(view, caller)
    )
}

/// Says where the context was lost of work that began a trace of its own within a request.
pub(super) fn lost_within(view: View<'_>, here: &str) -> String {
    if view.service_spans().any(|span| view.workload_of(span) == here) {
        return format!(
            "`{here}` takes part in the request's own trace, and lost its context on the way to this work (a thread, a pool, a queue, a callback): pass the context on to it, or a link"
        );
    }
    format!(
        "`{here}` has no span in the request's own trace: it took the call without reading its context (its server is not instrumented, or is before the SDK is set up), or lost it on the way to this work (a thread, a pool, a queue, a callback){}",
        uninstrumented(view, here)
    )
}

/// Names the settings that leave something of a workload without instrumentation.
fn uninstrumented(view: View<'_>, workload: &str) -> String {
    let known = view.topology.services.iter().find(|one| one.workload == workload);
    known.map(ServiceIdentity::why_uninstrumented).unwrap_or_default()
}

/// Says what became of the request's trace id, where its work is in a trace of another one.
fn replaced(view: View<'_>, arrived: TraceId) -> &'static str {
    let sent = view.case.trace_id;
    match sent.low() == arrived.low() {
        true if arrived.high() == 0 => {
            "the upper 64 bits of the trace id were cut off on the way, by something that keeps 64 bits (a gateway, a propagator of an older format)"
        }
        true => "the upper 64 bits of the trace id were replaced on the way",
        false => "the trace id was replaced on the way",
    }
}

/// Says why a service began a trace of its own when another called it.
pub(super) fn broken_link(view: View<'_>, caller: &str, here: &str, stray: &Stray) -> String {
    let parent = stray.trace.root().and_then(|span| span.parent_id);
    if let (None, Some(set)) = (parent, set_propagators(view, caller, here)) {
        return set;
    }
    let between = view.topology.between(caller, here);
    match (parent, caller == DRIVER_SERVICE) {
        (Some(parent), _) if between.is_some() => format!(
            "`{here}` did read a context, but a different one: its parent {parent} is not a span of this system; most likely {}, through which the call leads and which makes no spans, puts its own in its place",
            between.unwrap_or_default()
        ),
        (None, is_entry) if between.is_some() => format!(
            "most likely {}, through which the call leads and which makes no spans, drops the context or makes it unreadable; else {}",
            between.unwrap_or_default(),
            match is_entry {
                true => format!("`{here}` does not read it (OTEL_PROPAGATORS)"),
                false => format!(
                    "`{caller}` does not send it, or in a form that `{here}` does not read (OTEL_PROPAGATORS of both)"
                ),
            }
        ),
        (Some(parent), _) => format!(
            "`{here}` did read a context, but a different one: its parent {parent} is not a span of this system; something between the two puts its own in its place (a proxy, a gateway, a sidecar), or `{caller}` sends one that it was not given"
        ),
        (None, true) => format!(
            "look at the propagators of `{here}` (OTEL_PROPAGATORS), and at what stands before it, which may drop the header"
        ),
        (None, false) => {
            match (read_elsewhere(view, here, stray), sent_elsewhere(view, caller, stray)) {
                (Some(other), None) => format!(
                    "`{caller}` does not send its context in a form that `{here}` reads (propagators, OTEL_PROPAGATORS of `{caller}`), or something between the two drops it (a proxy, a gateway): `{here}` did go on with the context of `{other}` in this request"
                ),
                (None, Some(other)) => format!(
                    "`{here}` does not read the context that `{caller}` sends (propagators, OTEL_PROPAGATORS of `{here}`), or something between the two drops it (a proxy, a gateway): `{other}` did go on with it in this request"
                ),
                _ => format!(
                    "`{caller}` does not send its context, or in a form that `{here}` does not read (OTEL_PROPAGATORS of both), or something between the two drops it (a proxy, a gateway)"
                ),
            }
        }
    }
}

/// The workload whose context a service did go on with in the request, by the same protocol as in the trace that it began: so it reads
/// contexts.
fn read_elsewhere<'a>(view: View<'a>, here: &str, stray: &Stray) -> Option<&'a str> {
    let begun = stray.trace.root()?;
    links(view).find_map(|(call, server)| {
        let is_here = view.workload_of(server) == here && server.name == begun.name;
        is_here.then(|| view.workload_of(call))
    })
}

/// The workload that did go on with a service's context in the request, sent by the same protocol as with the call that is not answered:
/// so the service sends contexts.
fn sent_elsewhere<'a>(view: View<'a>, caller: &str, stray: &Stray) -> Option<&'a str> {
    let Origin::Call { call, .. } = &stray.origin else { return None };
    let unanswered = view.spans().iter().find(|span| span.id == *call)?;
    links(view).find_map(|(call, server)| {
        let is_sent = view.workload_of(call) == caller && call.name == unanswered.name;
        is_sent.then(|| view.workload_of(server))
    })
}

/// The calls of the request's own trace from one workload to another that did go on with its context, each with the span that answers.
fn links(view: View<'_>) -> impl Iterator<Item = (&Span, &Span)> {
    let family = view.family();
    let servers = view.service_spans().filter(|span| span.kind() == "server");
    servers.filter_map(move |server| {
        let call = family.parent(server)?;
        let other = view.workload_of(call) != view.workload_of(server);
        (other && call.kind() == "client").then_some((call, server))
    })
}

/// Says which propagators are set for the two ends of a link, where they have none in common; `None` where they have.
pub(super) fn set_propagators(view: View<'_>, caller: &str, here: &str) -> Option<String> {
    // What SDKs take where nothing is set, and what the harness sends.
    const USUAL: &str = "tracecontext,baggage";
    let set = |workload: &str| {
        let services = &view.topology.services;
        let known = services.iter().find(|one| one.workload == workload);
        known.and_then(|one| one.propagators.clone())
    };
    let carriers = |names: &str| -> BTreeSet<String> {
        // Both forms of B3 are to be read by either propagator.
        let names = names.split(',').map(|name| name.trim().to_lowercase().replace("multi", ""));
        names.filter(|name| !matches!(name.as_str(), "" | "baggage" | "none")).collect()
    };
    let ends = [caller, here].map(|workload| (workload, set(workload)));
    let [sent, read] =
        [&ends[0].1, &ends[1].1].map(|set| carriers(set.as_deref().unwrap_or(USUAL)));
    let said = |(workload, set): &(&str, Option<String>)| {
        let set = set.as_ref()?;
        Some(format!("OTEL_PROPAGATORS={set} is set for `{workload}`"))
    };
    let said: Vec<String> = ends.iter().filter_map(said).collect();
    (!said.is_empty() && sent.is_disjoint(&read)).then(|| {
        format!(
            "{}, so that `{here}` reads no form of a context that `{caller}` sends",
            said.join(" and ")
        )
    })
}
