//! Rules that tie an injected fault to the marks it must leave.

use super::Checked;
use crate::{
    case::View,
    finding::Failure,
    scenario::fault::{Expected, HopShape},
    trace::Span,
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

pub(super) fn error_not_injected(view: View<'_>) -> Checked {
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
                "{} is in the request's own trace, though `{}` was kept from knowing of it: it is told by another header than the one that was changed",
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
