//! The rule about the part of a context that vendors put their own into.

use std::collections::BTreeSet;

use super::Checked;
use crate::{case::View, driver::STATE_KEY, finding::Failure, trace::Span};

/// Meta in which an exporter keeps a span's `tracestate`.
const STATE: &str = "w3c.tracestate";

/// Returns whether a span has the mark that the harness sent.
fn is_marked(span: &Span) -> bool {
    let entries = span.meta.get(STATE).into_iter().flat_map(|state| state.split(','));
    entries.filter_map(|entry| entry.trim().split_once('=')).any(|(key, _)| key == STATE_KEY)
}

/// SDK of a span, as its resource reports it: language and version.
fn sdk(span: &Span) -> Option<(&str, &str)> {
    let of = |key: &str| span.meta.get(key).map(String::as_str);
    Some((of("telemetry.sdk.language")?, of("telemetry.sdk.version")?))
}

/// The rule `tracestate-lost`: only of SDKs that are seen to take the mark over in the same trace, and of services that are not known to
/// read contexts of another format, which has no place for it.
pub(super) fn tracestate_lost(view: View<'_>) -> Checked {
    let servers =
        || view.service_spans().filter(|span| matches!(span.kind(), "server" | "consumer"));
    let takes_over = servers().filter(|span| is_marked(span)).filter_map(sdk);
    let take_over: BTreeSet<(&str, &str)> = takes_over.collect();
    if take_over.is_empty() {
        return Checked::NotApplicable;
    }
    let family = view.family();
    let reads_only_w3c = |workload: &str| {
        let of = view.topology.services.iter().find(|one| one.workload == workload);
        let names = of.and_then(|one| one.propagators.as_deref());
        names.is_none_or(|names| {
            names.split(',').all(|name| matches!(name.trim(), "tracecontext" | "baggage"))
        })
    };
    let found = servers().filter_map(|span| {
        let caller = family.parent(span).filter(|caller| is_marked(caller))?;
        let is_known = sdk(span).is_some_and(|sdk| take_over.contains(&sdk));
        let (from, here) = (view.workload_of(caller), view.workload_of(span));
        if is_marked(span) || !is_known || !reads_only_w3c(here) || !reads_only_w3c(from) {
            return None;
        }
        let got = span.meta.get(STATE).map_or_else(
            || "without any".to_owned(),
            |state| format!("with the `tracestate` `{state}`"),
        );
        let detail = format!(
            "{} came {got}, though its parent {} has `{STATE_KEY}` in its own",
            view.name(span),
            view.name(caller)
        );
        let cause = format!(
            "something on the link {from} -> {here} drops or replaces `tracestate` and passes `traceparent` on"
        );
        Some(Failure::found(detail).because(cause).on_hop(from, here).of_span(span.id))
    });
    Checked::Found(found.collect())
}
