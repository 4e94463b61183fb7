//! The expected and the captured tree of a case as lines of text, one a span, for people to compare.

use crate::{
    case::{DRIVER_SERVICE, View},
    expectation::{Node, span_status},
    scenario::{Scenario, fault::Expected},
    trace::{Span, SpanId},
};

/// How many traces that hang apart are drawn.
const STRAYS_DRAWN: usize = 3;
/// Deepest nesting that is drawn; a cycle would have no end.
const MAX_DEPTH: usize = 64;

/// The tree that the scenario asks for; where it asks for none, the one that its faults imply.
pub fn expected(scenario: &Scenario, view: View<'_>) -> Vec<String> {
    let mut lines = vec![format!("{DRIVER_SERVICE} client GET")];
    if scenario.expect.absent {
        return vec!["(nothing)".to_owned()];
    }
    match &scenario.expect.tree {
        Some(node) => node_lines(node, 1, &mut lines),
        None => shape_lines(view, &mut lines),
    }
    lines
}

fn node_lines(node: &Node, depth: usize, lines: &mut Vec<String>) {
    lines.push(format!("{}{}", indent(depth), node.span.describe()));
    for child in &node.children {
        node_lines(child, depth + 1, lines);
    }
    if node.more {
        lines.push(format!("{}…", indent(depth + 1)));
    }
}

fn shape_lines(view: View<'_>, lines: &mut Vec<String>) {
    let mark = |expected: Expected| match expected {
        Expected::Yes => " error",
        Expected::No => "",
        Expected::Either => " (error or not)",
    };
    let hops = &view.shape.hops;
    for (index, hop) in hops.iter().enumerate() {
        if hop.reached == Expected::No {
            break;
        }
        let depth = 1 + 2 * index;
        let perhaps = if hop.reached == Expected::Either { " (perhaps)" } else { "" };
        lines.push(format!(
            "{}{} server{}{perhaps}",
            indent(depth),
            hop.workload,
            mark(hop.server_error)
        ));
        let calls_on = match hops.get(index + 1) {
            // A call that does not arrive still leaves the caller's client span.
            Some(next) => next.reached != Expected::No || hop.client_error == Expected::Yes,
            None => false,
        };
        if calls_on {
            for _ in 0..hop.failed_tries {
                lines.push(format!("{}{} client error", indent(depth + 1), hop.workload));
            }
            lines.push(format!(
                "{}{} client{}",
                indent(depth + 1),
                hop.workload,
                mark(hop.client_error)
            ));
        }
    }
}

/// The captured spans: from the roots down, then those that hang below nothing.
pub fn captured(view: View<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut drawn: Vec<&Span> = Vec::new();
    let missing_driver = view.is_virtual_parent(view.case.driver_span)
        && !view.spans().iter().any(|span| span.id == view.case.driver_span);
    if missing_driver {
        lines.push(format!("{DRIVER_SERVICE} client GET (virtual)"));
        below(view.case.driver_span, 1, view, &mut lines, &mut drawn);
    }
    for root in view.spans().iter().filter(|span| span.parent_id.is_none()) {
        draw(root, 0, view, &mut lines, &mut drawn);
    }
    for orphan in view.spans() {
        if drawn.iter().any(|span| std::ptr::eq(*span, orphan)) {
            continue;
        }
        let parent_captured = orphan
            .parent_id
            .is_some_and(|parent| view.spans().iter().any(|span| span.id == parent));
        if !parent_captured {
            let parent = orphan.parent_id.map_or_else(String::new, |parent| parent.to_string());
            lines.push(format!("? parent {parent} was not captured"));
            draw(orphan, 1, view, &mut lines, &mut drawn);
        }
    }
    // What is left can only hang in a cycle.
    let rest: Vec<&Span> = view
        .spans()
        .iter()
        .filter(|span| !drawn.iter().any(|other| std::ptr::eq(*other, *span)))
        .collect();
    lines.extend(rest.into_iter().map(|span| format!("{} (in a cycle)", line(span, view))));
    for stray in view.evidence.strays.iter().take(STRAYS_DRAWN) {
        lines.push(format!("apart, as trace {}:", stray.id));
        for root in stray.spans.iter().filter(|span| span.parent_id.is_none()) {
            lines.push(format!("{}{}", indent(1), line(root, view)));
            lines.extend(
                stray.children(root.id).map(|child| format!("{}{}", indent(2), line(child, view))),
            );
        }
    }
    if lines.is_empty() {
        lines.push("(nothing)".to_owned());
    }
    lines
}

fn below<'a>(
    id: SpanId,
    depth: usize,
    view: View<'a>,
    lines: &mut Vec<String>,
    drawn: &mut Vec<&'a Span>,
) {
    let children: Vec<&Span> =
        view.spans().iter().filter(|span| span.parent_id == Some(id)).collect();
    for child in children {
        draw(child, depth, view, lines, drawn);
    }
}

fn draw<'a>(
    span: &'a Span,
    depth: usize,
    view: View<'a>,
    lines: &mut Vec<String>,
    drawn: &mut Vec<&'a Span>,
) {
    if depth > MAX_DEPTH || drawn.iter().any(|other| std::ptr::eq(*other, span)) {
        return;
    }
    drawn.push(span);
    lines.push(format!("{}{}", indent(depth), line(span, view)));
    below(span.id, depth + 1, view, lines, drawn);
}

fn line(span: &Span, view: View<'_>) -> String {
    let status = span_status(span).map_or_else(String::new, |status| format!(" {status}"));
    let error = if span.error { " error" } else { "" };
    let kind = if span.kind().is_empty() { "span" } else { span.kind() };
    format!("{} {kind} {}{status}{error}", view.workload_of(span), span.resource)
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}
