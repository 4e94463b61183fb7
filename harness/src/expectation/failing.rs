//! Checks at which service a failure begins.

use std::collections::HashSet;

use harness_core::family::Family;

use super::{Matcher, nearest, top_spans};
use crate::{
    case::{DRIVER_SERVICE, View},
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
    let down = match names.as_slice() {
        [_] => String::new(),
        names => format!(" on the way down: {}", names.join(" > ")),
    };
    Some(format!(
        "{should}, but begins at {}, the last span that is marked as an error{down}; {}",
        view.name(begin),
        of_it(&wanted, at, &way, view)
    ))
}

/// Says why the failure does not go on to the one that is meant: the span that is not marked, or that there is none.
fn of_it(wanted: &Matcher, at: &str, way: &[&Span], view: View<'_>) -> String {
    // What is not marked of the spans from one up to where the failure seems to begin; the topmost.
    let family = view.family();
    // Those whose way up leads elsewhere, or into a cycle.
    let mut seen: HashSet<SpanId> = HashSet::new();
    let not_marked = |span: &Span| {
        let (mut gap, mut next) = (None, Some(span));
        while let Some(span) = next {
            if way.last().is_some_and(|last| last.id == span.id) {
                return gap;
            }
            if !seen.insert(span.id) {
                return None;
            }
            if !span.error && !is_passed_over(span) {
                gap = Some(span.id);
            }
            next = family.parent(span);
        }
        None
    };
    let mut of_it = view.service_spans().filter(|span| wanted.is_at(span, view));
    let gap = of_it.find_map(not_marked);
    match gap.and_then(|id| family.span(id)) {
        Some(span) => format!("{}, below it, is not marked", view.name(span)),
        None => {
            let failed = Matcher { error: Some(true), ..wanted.clone() };
            format!("of `{at}`, {}", nearest(&failed, way, &[view]))
        }
    }
}

/// Returns whether a span that is not marked does not end the way down: a service's internal ones, many of which know of no failure.
fn is_passed_over(span: &Span) -> bool {
    matches!(span.kind(), "internal" | "")
}

/// The spans that are marked as errors from the top of a trace down to the deepest; of several ways down the one whose end ended first,
/// since what failed later may be a consequence. A service's internal spans are no part of the way where they are not marked: many
/// frameworks make some that know of no failure. `None` where nothing at the top is marked.
fn way_down(view: View<'_>) -> Option<Vec<&Span>> {
    let family = view.family();
    // Each marked span, with the place of the one above it.
    let mut ways: Vec<(&Span, Option<usize>)> = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    let mut seen: HashSet<SpanId> = HashSet::new();
    let tops = marked(top_spans(view), &family);
    let mut open: Vec<(&Span, Option<usize>)> = tops.into_iter().map(|span| (span, None)).collect();
    while let Some((span, above)) = open.pop() {
        if !seen.insert(span.id) {
            continue;
        }
        let here = ways.len();
        ways.push((span, above));
        let below = marked(children(span, &family).collect(), &family);
        if below.is_empty() {
            ends.push(here);
        }
        open.extend(below.into_iter().map(|span| (span, Some(here))));
    }
    let end = |place: &usize| ways.get(*place).map(|(span, _)| (span.end(), span.start, span.id));
    let mut next = Some(ends.into_iter().min_by_key(end)?);
    let mut way = Vec::new();
    while let Some((span, above)) = next.and_then(|place| ways.get(place)) {
        way.push(*span);
        next = *above;
    }
    way.reverse();
    Some(way)
}

/// Those of these spans that are marked, and of internal ones that are not, those below.
fn marked<'a>(spans: Vec<&'a Span>, family: &Family<'a>) -> Vec<&'a Span> {
    let mut found = Vec::new();
    let mut seen: HashSet<SpanId> = HashSet::new();
    let mut open = spans;
    while let Some(span) = open.pop() {
        if span.error {
            found.push(span);
        } else if is_passed_over(span) && seen.insert(span.id) {
            open.extend(children(span, family));
        }
    }
    found
}

fn children<'a>(span: &Span, family: &Family<'a>) -> impl Iterator<Item = &'a Span> {
    let children = family.children(span.id).iter().copied();
    children.filter(|child| child.service != DRIVER_SERVICE)
}
