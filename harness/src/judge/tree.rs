//! The expected and the captured tree of a case as lines of text, one a span, for people to compare.

use std::collections::HashSet;

use harness_core::family::Family;

use crate::{
    case::{DRIVER_SERVICE, View, shape::Expected},
    expectation::Node,
    scenario::Scenario,
    trace::{Span, SpanId, Trace},
};

/// How many traces that hang apart are drawn.
const STRAYS_DRAWN: usize = 3;
/// Deepest nesting that is drawn; what is below is counted.
const MAX_DEPTH: usize = 64;

/// The tree that the scenario asks for; where it asks for none, the one that its faults imply.
pub(crate) fn expected(scenario: &Scenario, view: View<'_>) -> Vec<String> {
    let mut lines = vec![format!("{DRIVER_SERVICE} client {}", view.case.method.name())];
    if scenario.expect.absent {
        return vec!["(nothing)".to_owned()];
    }
    match &scenario.expect.tree {
        Some(node) => node_lines(node, 1, &mut lines),
        None => shape_lines(view, &mut lines),
    }
    for node in &scenario.expect.linked {
        lines.push("linked, as a trace of its own:".to_owned());
        node_lines(node, 1, &mut lines);
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
pub(crate) fn captured(view: View<'_>) -> Vec<String> {
    let mut drawing = Drawing::new(view);
    let driver = view.case.driver_span;
    if view.is_virtual_parent(driver) && drawing.family.span(driver).is_none() {
        let method = view.case.method.name();
        drawing.lines.push(format!("{DRIVER_SERVICE} client {method} (virtual)"));
        drawing.below(driver, 1);
    }
    for root in view.spans().iter().filter(|span| span.parent_id.is_none()) {
        drawing.draw(root, 0);
    }
    for orphan in view.spans() {
        if let Some(parent) = orphan.parent_id
            && drawing.family.span(parent).is_none()
            && !drawing.is_drawn(orphan)
        {
            drawing.lines.push(format!("? parent {parent} was not captured"));
            drawing.draw(orphan, 1);
        }
    }
    // What is left can only hang in a cycle.
    let rest: Vec<&Span> = view.spans().iter().filter(|span| !drawing.is_drawn(span)).collect();
    let mut lines = drawing.lines;
    lines.extend(rest.into_iter().map(|span| format!("{} (in a cycle)", line(span, view))));
    for stray in view.apart().take(STRAYS_DRAWN) {
        lines.push(format!("apart, as trace {}:", stray.trace.id));
        roots_with_children(&stray.trace, view, &mut lines);
    }
    for linked in view.linked().take(STRAYS_DRAWN) {
        lines.push(format!("linked, as trace {}:", linked.id));
        roots_with_children(linked, view, &mut lines);
    }
    if lines.is_empty() {
        lines.push("(nothing)".to_owned());
    }
    lines
}

/// Draws what a trace begins with as far as it was captured, and what hangs right below.
fn roots_with_children(trace: &Trace, view: View<'_>, lines: &mut Vec<String>) {
    let family = Family::new(&trace.spans);
    let is_root = |span: &&Span| family.parent(span).is_none();
    for root in trace.spans.iter().filter(is_root) {
        lines.push(format!("{}{}", indent(1), line(root, view)));
        for child in family.children(root.id) {
            let is_cut = !family.children(child.id).is_empty();
            let more = if is_cut { " …" } else { "" };
            lines.push(format!("{}{}{more}", indent(2), line(child, view)));
        }
    }
}

/// A captured tree on its way to lines.
struct Drawing<'a> {
    view: View<'a>,
    family: Family<'a>,
    /// A span that came twice is drawn twice, so that ids do not do.
    drawn: HashSet<*const Span>,
    lines: Vec<String>,
}

impl<'a> Drawing<'a> {
    fn new(view: View<'a>) -> Self {
        Self { view, family: view.family(), drawn: HashSet::new(), lines: Vec::new() }
    }

    fn is_drawn(&self, span: &Span) -> bool {
        self.drawn.contains(&std::ptr::from_ref(span))
    }

    fn below(&mut self, id: SpanId, depth: usize) {
        for child in self.family.children(id).to_vec() {
            self.draw(child, depth);
        }
    }

    fn draw(&mut self, span: &'a Span, depth: usize) {
        if depth > MAX_DEPTH {
            let deeper = self.leave_out(span);
            if deeper > 0 {
                self.lines.push(format!("{}… {deeper} more below", indent(depth)));
            }
            return;
        }
        if !self.drawn.insert(span) {
            return;
        }
        self.lines.push(format!("{}{}", indent(depth), line(span, self.view)));
        self.below(span.id, depth + 1);
    }

    /// Counts a span and those below it as drawn; gives how many they are.
    fn leave_out(&mut self, span: &'a Span) -> usize {
        let (mut left, mut count) = (vec![span], 0);
        while let Some(span) = left.pop() {
            if self.drawn.insert(span) {
                count += 1;
                left.extend(self.family.children(span.id));
            }
        }
        count
    }
}

fn line(span: &Span, view: View<'_>) -> String {
    let status = span.http_status().map_or_else(String::new, |status| format!(" {status}"));
    let error = if span.error { " error" } else { "" };
    let kind = if span.kind().is_empty() { "span" } else { span.kind() };
    format!("{} {kind} {}{status}{error}", view.workload_of(span), span.resource)
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth)
}

#[cfg(test)]
mod tests;
