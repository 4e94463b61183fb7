//! Tries of a call that its caller's spans do not show.

use std::collections::HashMap;

use crate::trace::{Span, SpanId, Trace};

/// Finds calls that one service answered several times within one client span, the last time well: the earlier answers are nowhere at the
/// caller. Returns the caller's service with what it hides, in words.
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
        // What was redirected is asked for again.
        let is_redirect = |status: u16| (300..400).contains(&status);
        let is_again = |one: &&&Span| {
            // What came twice was answered once.
            one.id != last.id
                && one.service == last.service
                && one.resource == last.resource
                && !one.http_status().is_some_and(is_redirect)
        };
        let first = earlier.iter().find(is_again)?;
        let call = calls.get(&id)?;
        let answered = first.http_status().map_or_else(String::new, |status| format!(" {status}"));
        let is_failed = first.http_status().is_some_and(|status| status == 429 || status >= 500);
        // What is handled within another's time, and only one of the two leads on, is one request and no second one.
        let is_within = |inner: &Span, outer: &Span| {
            outer.start <= inner.start && inner.end() <= outer.end()
        };
        let leads_on = |one: &Span| trace.spans.iter().any(|span| span.parent_id == Some(one.id));
        let is_nested = (is_within(first, last) || is_within(last, first))
            && first.instance() == last.instance()
            && leads_on(first) != leads_on(last);
        if is_nested {
            let what = format!(
                "a call `{}` that `{}` answered with two server spans at once, one within the other's time: `{}` is instrumented twice (a middleware or a handler that is wrapped twice), and counts each request twice",
                call.resource, last.service, last.service
            );
            return Some((call.service.clone(), what));
        }
        let what = match is_failed {
            true => format!(
                "a try of `{}` that `{}` answered{answered}, below the client span of the one that got through",
                call.resource, last.service
            ),
            false => format!(
                "a call `{}` that `{}` answered twice (first{answered}): it was sent again, or delivered twice",
                call.resource, last.service
            ),
        };
        Some((call.service.clone(), what))
    });
    found.collect()
}
