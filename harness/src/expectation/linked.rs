//! Traces of their own in which a request's work goes on.

use harness_core::family::Family;

use super::{
    Node, present,
    tree::{Captured, assigned, match_children},
};
use crate::{
    case::{Evidence, View},
    trace::{Span, Trace},
};

/// Describes what is missing or wrong among the linked traces of a request. Each of them stands for one expected tree; others are allowed.
pub(super) fn wrong(expected: &[Node], view: View<'_>) -> Vec<String> {
    let traces: Vec<&Trace> = view.linked().collect();
    let judged: Vec<Vec<(bool, Vec<String>)>> = expected
        .iter()
        .map(|node| traces.iter().map(|trace| differences(node, trace, view)).collect())
        .collect();
    // Only one that begins with the right span can be meant; all together shall differ as little as possible.
    let costs = judged.iter().map(|of| {
        let cost = |(is_about, wrong): &(bool, Vec<String>)| {
            is_about.then(|| i64::try_from(wrong.len()).unwrap_or(i64::from(i32::MAX)))
        };
        of.iter().map(cost).collect::<Vec<_>>()
    });
    let places = assigned(&costs.collect::<Vec<_>>());
    let left = traces.iter().enumerate().filter(|(index, _)| !places.contains(&Some(*index)));
    let left: Vec<&Trace> = left.map(|(_, trace)| *trace).collect();
    let mut found = Vec::new();
    for ((node, judged), place) in expected.iter().zip(&judged).zip(&places) {
        let of = place.and_then(|place| Some((traces.get(place)?, judged.get(place)?)));
        match of {
            Some((trace, (_, wrong))) => {
                found.extend(
                    wrong.iter().map(|wrong| format!("in linked trace {}, {wrong}", trace.id)),
                );
            }
            None => found.push(format!(
                "no linked trace begins with `{}`; {}",
                node.span.describe(),
                others(&left, view)
            )),
        }
    }
    found
}

/// In what a linked trace differs from a tree, and whether it begins with the span that is meant.
fn differences(node: &Node, trace: &Trace, view: View<'_>) -> (bool, Vec<String>) {
    let evidence = Evidence { trace: Some(trace.clone()), ..view.evidence.without_trace() };
    let within = View { evidence: &evidence, strays: &[], ..view };
    let tops: Vec<&Span> = tops(trace);
    let is_about = tops.iter().any(|span| node.span.is_about(span, within));
    let root = Node { children: vec![node.clone()], ..Node::default() };
    let mut found = Vec::new();
    match_children(&root, &tops, "no parent", &Captured::new(within), &mut found);
    (is_about, found)
}

/// Returns the topmost captured spans of a trace.
fn tops(trace: &Trace) -> Vec<&Span> {
    let family = Family::new(&trace.spans);
    trace.spans.iter().filter(|span| family.parent(span).is_none()).collect()
}

/// Describes the topmost spans of the traces that match none.
fn others(traces: &[&Trace], view: View<'_>) -> String {
    let begun = traces.iter().filter_map(|trace| Some((trace, *tops(trace).first()?)));
    let reported: Vec<String> = begun
        .map(|(trace, span)| format!("trace {} begins with {}", trace.id, view.name(span)))
        .collect();
    match reported.is_empty() {
        true => format!("no other trace is linked with this one, which has {}", present(view)),
        false => reported.join(", "),
    }
}
