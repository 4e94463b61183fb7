//! Tries of a call that its caller's spans do not show.

use std::collections::HashMap;

use crate::trace::{Span, SpanId, Trace};

/// Finds calls that were tried several times within one client span, and got through in the end: the answers of earlier tries are nowhere
/// at the caller. Returns the caller's service with what it hides, in words.
///
/// Some instrumentations have one span for all tries of a client that retries by itself, and meshes retry unseen, so it is no failure.
pub(super) fn hidden(trace: &Trace) -> Vec<(String, String)> {
    let calls = trace.spans.iter().filter(|span| span.kind() == "client" && !span.error);
    let calls: HashMap<SpanId, &Span> = calls.map(|call| (call.id, call)).collect();
    let mut answers: HashMap<SpanId, Vec<&Span>> = HashMap::new();
    for span in trace.spans.iter().filter(|span| span.kind() == "server") {
        if let Some(call) = span.parent_id.filter(|parent| calls.contains_key(parent)) {
            answers.entry(call).or_default().push(span);
        }
    }
    let found = answers.into_iter().filter_map(|(id, answers)| {
        let (last, earlier) = answers.split_last()?;
        let is_failed = |try_: &&&Span| {
            try_.service == last.service
                && try_.end() <= last.start
                && try_.http_status().is_some_and(|status| status == 429 || status >= 500)
        };
        let failed: Vec<&&Span> = earlier.iter().filter(is_failed).collect();
        let status = failed.first()?.http_status()?;
        let call = calls.get(&id)?;
        let tries = if failed.len() == 1 { "a try" } else { "tries" };
        let what = format!(
            "{tries} of `{}` that `{}` answered {status}, below the client span of the one that got through",
            call.resource, last.service
        );
        Some((call.service.clone(), what))
    });
    found.collect()
}
