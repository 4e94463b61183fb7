//! The tree below the harness's own span: what is expected and what was captured, side by side.

use std::collections::HashSet;

use pathfinding::{kuhn_munkres::kuhn_munkres_min, matrix::Matrix};

use harness_core::family::Family;

use super::{Matcher, Node, present, top_spans};
use crate::{
    case::{DRIVER_SERVICE, View},
    trace::Span,
};

/// Costs more than all differences of any pair: a child that is expected is left without a span only where there is none for it.
const WITHOUT: i64 = 1 << 40;
/// Most pairs of children of two spans for which the best pairs are worked out, whose cost grows with the cube. Beyond, each child takes
/// the one that fits it best of those that are left.
const MAX_PAIRS: usize = 1 << 14;

/// Captured spans, with an index of those below each.
pub(super) struct Captured<'a> {
    view: View<'a>,
    family: Family<'a>,
}

impl<'a> Captured<'a> {
    pub(super) fn new(view: View<'a>) -> Self {
        Self { view, family: view.family() }
    }
}

/// Describes what differs from the expected tree.
pub(super) fn wrong(node: &Node, view: View<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let root = Node { span: Matcher::default(), children: vec![node.clone()], more: false };
    match_children(&root, &top_spans(view), DRIVER_SERVICE, &Captured::new(view), &mut found);
    found
}

/// Pairs the expected children with captured ones, so that as little as possible differs in all of them and below them, and reports
/// what does.
pub(super) fn match_children(
    node: &Node,
    captured: &[&Span],
    parent: &str,
    all: &Captured<'_>,
    found: &mut Vec<String>,
) {
    let view = all.view;
    let paired = paired(&node.children, captured, all);
    let taken: HashSet<usize> = paired.iter().copied().flatten().collect();
    let is_taken = |index: usize| taken.contains(&index);
    for (expected, span) in node.children.iter().zip(&paired) {
        let Some(span) = span.and_then(|index| captured.get(index)) else {
            let left = captured.iter().enumerate().filter(|(index, _)| !is_taken(*index));
            let left: Vec<&Span> = left.map(|(_, span)| *span).collect();
            found.push(format!(
                "`{}` is missing below {parent}; {}",
                expected.span.describe(),
                elsewhere(&expected.span, &left, all)
            ));
            continue;
        };
        for mismatch in expected.span.mismatches(span, view) {
            found.push(format!("{}: {mismatch}", view.name(span)));
        }
        match_children(expected, all.family.children(span.id), &view.name(span), all, found);
    }
    if !node.more {
        let unexpected = captured.iter().enumerate().filter(|(index, _)| !is_taken(*index));
        found.extend(
            unexpected
                .map(|(_, span)| format!("{} was not expected below {parent}", view.name(span))),
        );
    }
}

/// The place of the captured span that stands for each expected one.
fn paired(expected: &[Node], captured: &[&Span], all: &Captured<'_>) -> Vec<Option<usize>> {
    let costs = |node: &Node| -> Vec<Option<i64>> {
        captured.iter().map(|span| cost(node, span, all)).collect()
    };
    if expected.len() * captured.len() > MAX_PAIRS {
        let mut is_taken = vec![false; captured.len()];
        return expected
            .iter()
            .map(|node| {
                let of = costs(node).into_iter().enumerate();
                let free =
                    of.filter(|(index, _)| !is_taken.get(*index).is_some_and(|taken| *taken));
                let (best, _) = free
                    .filter_map(|(index, cost)| Some((index, cost?)))
                    .min_by_key(|(_, cost)| *cost)?;
                if let Some(taken) = is_taken.get_mut(best) {
                    *taken = true;
                }
                Some(best)
            })
            .collect();
    }
    assigned(&expected.iter().map(costs).collect::<Vec<_>>())
}

/// Gives each row the column of its own with which all rows together cost least; `None` is a pair that cannot be, and a row may
/// have none.
pub(super) fn assigned(costs: &[Vec<Option<i64>>]) -> Vec<Option<usize>> {
    let columns = costs.first().map_or(0, Vec::len);
    // A column of its own for each row that gets none.
    let rows = costs.iter().map(|of| {
        let none = costs.iter().map(|_| WITHOUT);
        of.iter().map(|cost| cost.unwrap_or(2 * WITHOUT)).chain(none).collect::<Vec<_>>()
    });
    let Ok(matrix) = Matrix::from_rows(rows) else { return vec![None; costs.len()] };
    let (_, chosen) = kuhn_munkres_min(&matrix);
    chosen.into_iter().map(|column| (column < columns).then_some(column)).collect()
}

/// How much differs where a captured span stands for an expected one, in itself and in all that is below; `None` where it cannot.
fn cost(node: &Node, span: &Span, all: &Captured<'_>) -> Option<i64> {
    let view = all.view;
    if !node.span.is_about(span, view) {
        return None;
    }
    let count = |count: usize| i64::try_from(count).unwrap_or(WITHOUT);
    let mut cost = count(node.span.mismatches(span, view).len());
    let captured = all.family.children(span.id);
    let mut taken = 0;
    for (expected, place) in node.children.iter().zip(paired(&node.children, captured, all)) {
        cost += match place.and_then(|place| captured.get(place)) {
            Some(child) => {
                taken += 1;
                self::cost(expected, child, all).unwrap_or_default()
            }
            None => count(size(expected)),
        };
    }
    if !node.more {
        cost += count(captured.len() - taken);
    }
    Some(cost)
}

/// How many nodes a tree has.
fn size(node: &Node) -> usize {
    1 + node.children.iter().map(size).sum::<usize>()
}

/// Describes where a misplaced span is, or the span at its place that comes nearest to it.
fn elsewhere(wanted: &Matcher, here: &[&Span], all: &Captured<'_>) -> String {
    let view = all.view;
    if let Some(span) = view.service_spans().find(|span| wanted.is_about(span, view)) {
        let below = all
            .family
            .parent(span)
            .map_or_else(|| "no captured span".to_owned(), |parent| view.name(parent));
        return format!("{} is below {below}", view.name(span));
    }
    match here.iter().find(|span| wanted.is_at(span, view)) {
        Some(span) => format!("there is {}", view.name(span)),
        None => format!("the trace has {}", present(view)),
    }
}
