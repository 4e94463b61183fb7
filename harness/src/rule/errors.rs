//! Rules that tie an injected fault to the marks it must leave.

use std::cell::LazyCell;

use super::{
    Checked,
    on_the_way::{OnTheWay, Part},
};
use crate::{
    case::{
        View,
        shape::{Expected, HopShape},
    },
    finding::{Failure, Stage},
    trace::{PayloadForm, Span, SpanId},
};

/// Determines where a span that was captured without the mark of an error lost its status.
fn unmarked(way: &OnTheWay<'_>, id: SpanId) -> Part {
    way.part(
        id,
        |ended| ended.status == "error",
        |taken| taken.status == "error",
        |sent| sent.error,
    )
}

/// Determines where a span that was captured with the mark of an error got it.
fn marked(way: &OnTheWay<'_>, id: SpanId) -> Part {
    way.part(
        id,
        |ended| ended.status != "error",
        |taken| taken.status != "error",
        |sent| !sent.error,
    )
}

/// Says that a status was changed behind its service, with the stage where it is known; with another cause where it is not known to have been.
fn changed_status(failure: Failure, part: Part, here: &str, else_since: &str) -> Failure {
    let failure = failure.at_stage(part.stage());
    if part.is_behind_the_service() {
        let (place, proof) = (part.place(here), part.proof(here));
        return failure.because(format!("{place} changes the span's status, {proof} with another"));
    }
    failure.because(else_since)
}

/// Runs `check` on every hop of the shape, with the hop's server and client spans by start.
fn each_hop(
    view: View<'_>,
    check: impl Fn(&HopShape, &[&Span], &[&Span]) -> Vec<Failure>,
) -> Checked {
    if view.shape.hops.is_empty() {
        return super::no_shape();
    }
    if !view.case.sampled {
        return Checked::NotApplicable;
    }
    let found = view.shape.hops.iter().flat_map(|hop| {
        let servers: Vec<_> = view.spans_of(&hop.workload, "server").collect();
        let clients: Vec<_> = view.spans_of(&hop.workload, "client").collect();
        check(hop, &servers, &clients)
    });
    Checked::Found(found.collect())
}

pub(super) fn error_not_marked(view: View<'_>) -> Checked {
    let way = LazyCell::new(|| OnTheWay::of(view));
    let contradicted = without_the_mark_of_their_status(view);
    if !contradicted.is_empty() {
        return Checked::Seen(contradicted);
    }
    if view.shape.hops.is_empty() {
        return Checked::Found(failed_without_a_mark(view, &way));
    }
    each_hop(view, |hop, servers, clients| {
        let mut found = Vec::new();
        for (kind, spans, expected) in
            [("server", servers, hop.server_error), ("client", clients, hop.client_error)]
        {
            if expected == Expected::Yes
                && let Some(last) = spans.last()
                && !last.error
            {
                let found_here = Failure::found(format!(
                    "{} should be marked as an error, since the injected fault makes this {kind} span of `{}` fail",
                    view.name(last),
                    hop.workload
                ));
                let cause = "its instrumentation does not set the span's status";
                let part = unmarked(&way, last.id);
                let found_here = changed_status(found_here, part, &hop.workload, cause);
                found.push(found_here.about(&hop.workload).of_span(last.id));
            }
        }
        let tries = hop.failed_tries as usize;
        if let Some((_, earlier)) = clients.split_last() {
            for span in earlier.iter().take(tries).filter(|span| !span.error) {
                let found_here = Failure::found(format!(
                    "{} should be marked as an error, since it is a try of `{}` that was made to fail",
                    view.name(span),
                    hop.workload
                ));
                let cause = "its instrumentation does not set the span's status";
                let part = unmarked(&way, span.id);
                let found_here = changed_status(found_here, part, &hop.workload, cause);
                found.push(found_here.about(&hop.workload).of_span(span.id));
            }
        }
        found
    })
}

/// Finds server spans that answered 5xx and are no errors: the conventions ask for it, unless the code says that it is well so.
fn failed_without_a_mark(view: View<'_>, way: &OnTheWay<'_>) -> Vec<Failure> {
    let is_meant = |span: &Span| span.meta.get("otel.status_code").is_some_and(|code| code == "Ok");
    let failed = view.service_spans().filter(|span| {
        let answered = span.http_status().filter(|status| (500..600).contains(status));
        // What was set behind the service, its code does not mean.
        let is_well =
            |span: &Span| is_meant(span) && !unmarked(way, span.id).is_behind_the_service();
        span.kind() == "server" && answered.is_some() && !span.error && !is_well(span)
    });
    let found = failed.map(|span| {
        let (here, status) = (view.workload_of(span), span.http_status().unwrap_or_default());
        let detail =
            format!("{} answered {status}, and is not marked as an error", view.name(span));
        let part = unmarked(way, span.id);
        let mut cause =
            format!("the instrumentation of `{here}` does not set the span's status for 5xx");
        // What came to the collector so is none of that one's doing.
        cause.push_str(match part.is_before_the_collector() {
            true if part.stage().is_some() => "",
            true => ", or something between it and the collector takes it back",
            false => ", or something between it and Datadog takes it back",
        });
        let found = changed_status(Failure::found(detail), part, here, &cause);
        found.about(here).of_span(span.id)
    });
    found.collect()
}

/// Meta in which an exporter keeps the status that a span was ended with: `Ok`, `Error`, `Unset`.
const STATUS_CODE: &str = "otel.status_code";

/// Finds spans that say by their status that they failed, and are no errors.
fn without_the_mark_of_their_status(view: View<'_>) -> Vec<Failure> {
    let is_failed = |span: &&Span| {
        is_from_datadogs_exporter(span)
            && !span.error
            && span.meta.get(STATUS_CODE).is_some_and(|code| code == "Error")
    };
    let way = LazyCell::new(|| OnTheWay::of(view));
    let found = view.service_spans().filter(is_failed).map(|span| {
        let detail = format!(
            "{} was ended with the status `Error`, and is not marked as an error",
            view.name(span)
        );
        contradiction(view, span, detail, unmarked(&way, span.id))
    });
    found.collect()
}

/// Finds errors that were ended with no such status.
fn with_a_mark_without_a_status(view: View<'_>) -> Vec<Failure> {
    let way = LazyCell::new(|| OnTheWay::of(view));
    let failed = view.service_spans().filter(|span| span.error && is_from_datadogs_exporter(span));
    let found = failed.filter_map(|span| {
        let code = span.meta.get(STATUS_CODE).filter(|code| *code == "Unset" || *code == "Ok")?;
        let detail = format!(
            "{} is marked as an error, and was ended with the status `{code}`",
            view.name(span)
        );
        Some(contradiction(view, span, detail, marked(&way, span.id)))
    });
    found.collect()
}

/// Returns whether an exporter made the mark.
fn is_from_datadogs_exporter(span: &Span) -> bool {
    span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id")
}

/// A span whose mark and status are not of one exporter's making.
fn contradiction(view: View<'_>, span: &Span, detail: String, part: Part) -> Failure {
    let here = view.workload_of(span);
    let cause = format!(
        "an exporter makes the mark of the status, so something between it and Datadog changes the one or the other of what `{here}` ended"
    );
    // Of the two, the mark is the exporter's own.
    let behind = part.stage().filter(|stage| *stage == Stage::BehindCollector);
    Failure::found(detail).because(cause).about(here).of_span(span.id).at_stage(behind)
}

pub(super) fn error_not_injected(view: View<'_>) -> Checked {
    let contradicted = with_a_mark_without_a_status(view);
    if !contradicted.is_empty() {
        return Checked::Seen(contradicted);
    }
    let way = LazyCell::new(|| OnTheWay::of(view));
    each_hop(view, |hop, servers, clients| {
        let mut found = Vec::new();
        for (kind, spans, expected) in
            [("server", servers, hop.server_error), ("client", clients, hop.client_error)]
        {
            if expected == Expected::No
                && let Some(last) = spans.last()
                && last.error
            {
                let part = marked(&way, last.id);
                let message =
                    last.meta.get("error.msg").map_or(String::new(), |text| format!(" (`{text}`)"));
                let detail = format!(
                    "{} is marked as an error{message}, but nothing was made to fail this {kind} span of `{}`",
                    view.name(last),
                    hop.workload
                );
                let found_here = Failure::found(detail);
                let found_here = match part.is_behind_the_service() {
                    true => changed_status(found_here, part, &hop.workload, ""),
                    false => found_here,
                };
                found.push(found_here.about(&hop.workload).of_span(last.id));
            }
        }
        found
    })
}

pub(super) fn fault_without_effect(view: View<'_>) -> Checked {
    each_hop(view, |hop, servers, clients| {
        let mut found = Vec::new();
        if let Some(slow) = servers.last()
            && slow.duration < hop.at_least
        {
            let detail = format!(
                "{} lasted {:.1} ms, but `{}` was made to wait {:.1} ms: the fault did not reach it",
                view.name(slow),
                slow.duration as f64 / 1e6,
                hop.workload,
                hop.at_least as f64 / 1e6
            );
            found.push(Failure::found(detail).about(&hop.workload).of_span(slow.id));
        }
        if hop.apart == Expected::Yes
            && let Some(there) = servers.first()
        {
            let detail = format!(
                "{} is in the request's own trace, though `{}` was not to receive it: it was propagated by another header than the one that was changed",
                view.name(there),
                hop.workload
            );
            found.push(Failure::found(detail).about(&hop.workload).of_span(there.id));
        }
        let tries = hop.failed_tries as usize;
        if tries > 0 && !clients.is_empty() && clients.len() <= tries {
            let detail = format!(
                "`{}` has {} client span(s), but {tries} failed try and the one that got through were expected: the fault did not reach the next hop, or the retry has no span of its own",
                hop.workload,
                clients.len()
            );
            found.push(Failure::found(detail).about(&hop.workload));
        }
        found
    })
}
