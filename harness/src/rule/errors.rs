//! Rules that tie an injected fault to the marks it must leave.

use super::Checked;
use crate::{
    case::{
        View,
        shape::{Expected, HopShape},
    },
    finding::Failure,
    trace::{PayloadForm, Span},
};

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
    let contradicted = without_the_mark_of_their_status(view);
    if !contradicted.is_empty() {
        return Checked::Seen(contradicted);
    }
    if view.shape.hops.is_empty() {
        return Checked::Found(failed_without_a_mark(view));
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
                let cause = format!(
                    "the injected fault makes this {kind} span of `{}` fail; its instrumentation does not set the span's status",
                    hop.workload
                );
                let found_here =
                    Failure::found(format!("{} should be marked as an error", view.name(last)));
                found.push(found_here.because(cause).about(&hop.workload).of_span(last.id));
            }
        }
        let tries = hop.failed_tries as usize;
        if let Some((_, earlier)) = clients.split_last() {
            for span in earlier.iter().take(tries).filter(|span| !span.error) {
                let detail = format!(
                    "{} should be marked as an error: it is a try of `{}` that was made to fail",
                    view.name(span),
                    hop.workload
                );
                found.push(Failure::found(detail).about(&hop.workload).of_span(span.id));
            }
        }
        found
    })
}

/// Finds server spans that answered 5xx and are no errors: the conventions ask for it, unless the code says that it is well so.
fn failed_without_a_mark(view: View<'_>) -> Vec<Failure> {
    let is_meant = |span: &Span| span.meta.get("otel.status_code").is_some_and(|code| code == "Ok");
    let failed = view.service_spans().filter(|span| {
        let answered = span.http_status().filter(|status| (500..600).contains(status));
        span.kind() == "server" && answered.is_some() && !span.error && !is_meant(span)
    });
    let found = failed.map(|span| {
        let (here, status) = (view.workload_of(span), span.http_status().unwrap_or_default());
        let detail = format!("{} answered {status}, and is not marked as an error", view.name(span));
        let cause = format!(
            "the instrumentation of `{here}` does not set the span's status for 5xx, or something between it and Datadog takes it back"
        );
        Failure::found(detail).because(cause).about(here).of_span(span.id)
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
    let found = view.service_spans().filter(is_failed).map(|span| {
        let detail = format!(
            "{} was ended with the status `Error`, and is not marked as an error",
            view.name(span)
        );
        contradiction(view, span, detail)
    });
    found.collect()
}

/// Finds errors that were ended with no such status.
fn with_a_mark_without_a_status(view: View<'_>) -> Vec<Failure> {
    let failed = view.service_spans().filter(|span| span.error && is_from_datadogs_exporter(span));
    let found = failed.filter_map(|span| {
        let code = span.meta.get(STATUS_CODE).filter(|code| *code == "Unset" || *code == "Ok")?;
        let detail = format!(
            "{} is marked as an error, and was ended with the status `{code}`",
            view.name(span)
        );
        Some(contradiction(view, span, detail))
    });
    found.collect()
}

/// Returns whether an exporter made the mark.
fn is_from_datadogs_exporter(span: &Span) -> bool {
    span.form == PayloadForm::Datadog && span.meta.contains_key("otel.trace_id")
}

/// A span whose mark and status are not of one exporter's making.
fn contradiction(view: View<'_>, span: &Span, detail: String) -> Failure {
    let here = view.workload_of(span);
    let cause = format!(
        "an exporter makes the mark of the status, so something between it and Datadog changes the one or the other of what `{here}` ended"
    );
    Failure::found(detail).because(cause).about(here).of_span(span.id)
}

pub(super) fn error_not_injected(view: View<'_>) -> Checked {
    let contradicted = with_a_mark_without_a_status(view);
    if !contradicted.is_empty() {
        return Checked::Seen(contradicted);
    }
    each_hop(view, |hop, servers, clients| {
        let mut found = Vec::new();
        for (kind, spans, expected) in
            [("server", servers, hop.server_error), ("client", clients, hop.client_error)]
        {
            if expected == Expected::No
                && let Some(last) = spans.last()
                && last.error
            {
                let message =
                    last.meta.get("error.msg").map_or(String::new(), |text| format!(" (`{text}`)"));
                let detail = format!(
                    "{} is marked as an error{message}, but nothing was made to fail this {kind} span of `{}`",
                    view.name(last),
                    hop.workload
                );
                found.push(Failure::found(detail).about(&hop.workload).of_span(last.id));
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
                "{} is in the request's own trace, though `{}` was kept from knowing of it: it was propagated by another header than the one that was changed",
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
