//! Counts over all requests of a scenario.

use super::{Expect, SpanCount, nearest};
use crate::{
    case::{Capability, View},
    finding::{Failure, Findings, NotEvaluated},
};

/// Name of the expectation.
const TOTALS: &str = "totals";

/// Checks how many spans the traces of all cases have together.
pub fn totals(expect: &Expect, views: &[View<'_>]) -> Findings {
    let mut findings = Findings::default();
    for count in &expect.totals {
        let Some(wrong) = wrong(count, views) else { continue };
        let unsettled = views.iter().find_map(|view| {
            let unseen = view.spans().is_empty().then(|| view.lacks(Capability::Completeness));
            view.lacks(Capability::Settled).or(unseen.flatten())
        });
        match unsettled {
            None => findings.failures.push(Failure::new(TOTALS, wrong)),
            Some(because) => findings.not_evaluated.push(NotEvaluated {
                rule: TOTALS.to_owned(),
                because: format!("{because}. Seen so far: {wrong}"),
                required: true,
            }),
        }
    }
    findings
}

/// Returns whether there are more spans already than one of the counts allows: what is still to come cannot mend that.
pub fn totals_are_exceeded(expect: &Expect, views: &[View<'_>]) -> bool {
    let fits = |count: &SpanCount, view: &View<'_>| {
        let spans = view.service_spans();
        spans.filter(|span| count.span.mismatches(span, *view).is_empty()).count()
    };
    let captured = |count: &SpanCount| views.iter().map(|view| fits(count, view)).sum::<usize>();
    let mut limits = expect.totals.iter().filter_map(|count| Some((count, count.at_most?)));
    limits.any(|(count, most)| captured(count) > most)
}

fn wrong(count: &SpanCount, views: &[View<'_>]) -> Option<String> {
    let mut matching = Vec::new();
    let mut is_there = count.span.at.is_none();
    for view in views {
        for span in view.service_spans() {
            is_there |= count.span.is_at(span, *view);
            if count.span.mismatches(span, *view).is_empty() {
                matching.push(span);
            }
        }
    }
    let found = matching.len();
    let reported =
        format!("{} expected in all {} traces, {found} captured", count.wanted(), views.len());
    if found < count.at_least {
        return Some(format!("{reported}; {}", nearest(&count.span, &matching, views)));
    }
    if count.at_most.is_some_and(|most| found > most) {
        let most = views.iter().max_by_key(|view| {
            let fits = |span: &&crate::trace::Span| count.span.mismatches(span, **view).is_empty();
            view.service_spans().filter(fits).count()
        });
        let most = most
            .map_or_else(String::new, |view| format!("; most are in trace {}", view.case.trace_id));
        return Some(format!("{reported}{most}"));
    }
    let decides_by_none = count.at_least == 0 && count.span.has_details();
    let at = count.span.at.as_deref().filter(|_| decides_by_none && !is_there)?;
    Some(format!(
        "{reported}, but no trace has a span of `{at}` at all, so that says nothing: ask for one in `totals` too, or leave the details out"
    ))
}
