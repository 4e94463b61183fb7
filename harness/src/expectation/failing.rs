//! Checks at which service a failure begins.

use std::collections::HashSet;

use super::{Matcher, nearest, top_spans};
use crate::{
    case::View,
    trace::{Span, SpanId},
};

/// How many spans are named on the way to where a failure begins.
const NAMED: usize = 8;

/// Checks that the failure of a request begins at this workload or service; describes the mismatch.
pub(super) fn wrong(at: &str, view: View<'_>) -> Option<String> {
    let wanted = Matcher { at: Some(at.to_owned()), ..Matcher::default() };
    let should = format!("the failure should begin at `{at}`");
    let Some(way) = way_down(view) else {
        let marked: Vec<String> =
            view.service_spans().filter(|span| span.error).map(|span| view.name(span)).collect();
        let marked = match marked.len() {
            0 => "no span is marked as an error".to_owned(),
            _ => format!(
                "of what the trace begins with, nothing is marked as an error: only {}",
                marked.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ")
            ),
        };
        return Some(format!("{should}, but {marked}"));
    };
    let begin = way.last().filter(|span| !wanted.is_at(span, view))?;
    let names: Vec<String> = way.iter().take(NAMED).map(|span| view.name(span)).collect();
    let failed = Matcher { error: Some(true), ..wanted };
    Some(format!(
        "{should}, but begins at {}, the last span that is marked as an error on the way down: {}; of `{at}`, {}",
        view.name(begin),
        names.join(" > "),
        nearest(&failed, &way, &[view])
    ))
}

/// The spans that are marked as errors without a gap from the top of a trace down to the deepest; of several ways down the one whose
/// end ended first, since what failed later may be a consequence. `None` where nothing at the top is marked.
fn way_down(view: View<'_>) -> Option<Vec<&Span>> {
    let mut ways: Vec<Vec<&Span>> = Vec::new();
    let mut seen: HashSet<SpanId> = HashSet::new();
    let tops = top_spans(view).into_iter().filter(|span| span.error);
    let mut open: Vec<Vec<&Span>> = tops.map(|span| vec![span]).collect();
    while let Some(way) = open.pop() {
        let Some(last) = way.last().filter(|span| seen.insert(span.id)) else { continue };
        let below =
            view.service_spans().filter(|span| span.error && span.parent_id == Some(last.id));
        let longer: Vec<Vec<&Span>> =
            below.map(|span| way.iter().copied().chain([span]).collect()).collect();
        match longer.is_empty() {
            true => ways.push(way),
            false => open.extend(longer),
        }
    }
    ways.into_iter().min_by_key(|way| way.last().map(|span| (span.end(), span.start, span.id)))
}
