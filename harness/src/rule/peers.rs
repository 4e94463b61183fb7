//! Names that callers give to those whom they call.

use harness_core::family::Family;

use crate::trace::{Span, Trace};

/// Finds client spans that name another service as their peer than the one that answers. Returns the caller's service with what it has, in
/// words.
///
/// Datadog draws what a client span calls by this name, where it is set.
pub(super) fn wrong(trace: &Trace) -> Vec<(String, String)> {
    let family = Family::new(&trace.spans);
    let calls = trace.spans.iter().filter(|span| span.kind() == "client");
    let found = calls.filter_map(|call| {
        let named = call.meta.get("peer.service").filter(|name| !name.is_empty())?;
        let is_answer = |span: &&&Span| span.kind() == "server" && span.service != call.service;
        let mut answers = family.children(call.id).iter().filter(is_answer);
        // Several may stand behind one name.
        let (answer, None) = (answers.next()?, answers.next()) else { return None };
        let is_it = named.eq_ignore_ascii_case(&answer.service)
            || named.to_lowercase().contains(&answer.service)
            || answer.service.contains(&named.to_lowercase());
        let what = format!(
            "a call `{}` with the `peer.service` `{named}`, which `{}` answered",
            call.resource, answer.service
        );
        (!is_it).then(|| (call.service.clone(), what))
    });
    found.collect()
}
