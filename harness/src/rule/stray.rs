//! The rule about captured traces that belong to a request and are not part of its own.

use std::collections::BTreeSet;

use super::Checked;
use crate::{
    case::{DRIVER_SERVICE, Origin, Stray, View},
    finding::Failure,
    scenario::fault::Expected,
    trace::SpanId,
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
    let apart: Vec<&Stray> = view.apart().filter(|stray| !is_implied(view, stray)).collect();
    let mut reported: Vec<Failure> =
        apart.iter().take(STRAYS_NAMED).map(|stray| stray_reported(view, stray)).collect();
    let more = apart.len() - reported.len();
    if more > 0 {
        reported.push(Failure::found(format!(
            "and {more} more traces belong to the request and are not part of its own"
        )));
    }
    Checked::Found(reported)
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
            let parent = first.and_then(|span| span.parent_id);
            let remedy = broken_link(view, caller, here, parent);
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

/// Says why a service began a trace of its own when another called it; `parent` is the one that its first span names.
pub(super) fn broken_link(
    view: View<'_>,
    caller: &str,
    here: &str,
    parent: Option<SpanId>,
) -> String {
    if let (None, Some(set)) = (parent, set_propagators(view, caller, here)) {
        return set;
    }
    match (parent, caller == DRIVER_SERVICE) {
        (Some(parent), _) => format!(
            "`{here}` did read a context, another one: it names the parent {parent}, which nobody here made; something between the two puts its own in its place (a proxy, a gateway, a sidecar), or `{caller}` sends one that it was not given"
        ),
        (None, true) => format!(
            "look at the propagators of `{here}` (OTEL_PROPAGATORS), and at what stands before it, which may drop the header"
        ),
        (None, false) => format!(
            "`{caller}` does not send its context, or in a form that `{here}` does not read (OTEL_PROPAGATORS of both), or something between the two drops it (a proxy, a gateway)"
        ),
    }
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
