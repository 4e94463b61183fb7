//! Traces of their own in which a request's work goes on.

use super::{Node, match_children, present};
use crate::{
    case::{Evidence, View},
    trace::{Span, Trace},
};

/// Describes what is missing or wrong among the linked traces of a request. Each of them stands for one expected tree; others are allowed.
pub(super) fn wrong(expected: &[Node], view: View<'_>) -> Vec<String> {
    let mut traces: Vec<&Trace> = view.linked().collect();
    let mut found = Vec::new();
    for node in expected {
        let judged =
            traces.iter().enumerate().map(|(index, trace)| (index, differences(node, trace, view)));
        // The one that is about the right span, and of those the one that differs least.
        let best = judged.min_by_key(|(_, (is_about, wrong))| (!*is_about, wrong.len()));
        match best {
            Some((index, (true, wrong))) => {
                let trace = traces.remove(index);
                found.extend(
                    wrong.into_iter().map(|wrong| format!("in linked trace {}, {wrong}", trace.id)),
                );
            }
            _ => found.push(format!(
                "no linked trace begins with `{}`; {}",
                node.span.describe(),
                others(&traces, view)
            )),
        }
    }
    found
}

/// In what a linked trace differs from a tree, and whether it begins with the span that is meant.
fn differences(node: &Node, trace: &Trace, view: View<'_>) -> (bool, Vec<String>) {
    let evidence = Evidence { trace: Some(trace.clone()), ..view.evidence.without_trace() };
    let within = View { evidence: &evidence, strays: &[], ..view };
    let tops: Vec<&Span> = tops(trace).collect();
    let is_about = tops.iter().any(|span| node.span.is_about(span, within));
    let root = Node { children: vec![node.clone()], ..Node::default() };
    let mut found = Vec::new();
    match_children(&root, tops, "no parent", within, &mut found);
    (is_about, found)
}

/// Returns the topmost captured spans of a trace.
fn tops(trace: &Trace) -> impl Iterator<Item = &Span> {
    trace
        .spans
        .iter()
        .filter(|span| span.parent_id.is_none_or(|parent| trace.span(parent).is_none()))
}

/// Describes the topmost spans of the traces that match none.
fn others(traces: &[&Trace], view: View<'_>) -> String {
    let begun = traces.iter().filter_map(|trace| Some((trace, tops(trace).next()?)));
    let told: Vec<String> = begun
        .map(|(trace, span)| format!("trace {} begins with {}", trace.id, view.name(span)))
        .collect();
    match told.is_empty() {
        true => format!("no other trace is linked with this one, which has {}", present(view)),
        false => told.join(", "),
    }
}
