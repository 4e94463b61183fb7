//! One trace for people: the waterfall, and the list of its spans.

use std::collections::HashMap;

use crate::trace::{Span, SpanId, Trace};

/// Columns of the time axis.
const AXIS: usize = 40;
/// Deepest indentation that is drawn.
const MAX_DEPTH: usize = 40;

/// The trace as text: a line a span with its place in time, then the details of each.
pub fn render(trace: &Trace) -> String {
    let mut out = waterfall(trace);
    for (span, _) in &depth_first(trace) {
        let parent = span.parent_id.map_or_else(|| "none".to_owned(), |parent| parent.to_string());
        out.push_str(&format!(
            "span {}  parent {parent}  service {}  name {}  resource {}  type {}  error {}\n",
            span.id,
            span.service,
            span.name,
            span.resource,
            span.span_type,
            u8::from(span.error)
        ));
        for (key, value) in &span.meta {
            out.push_str(&format!("    {key}: {value}\n"));
        }
        for (key, value) in &span.metrics {
            out.push_str(&format!("    {key}: {value}\n"));
        }
    }
    out
}

/// The tree of a trace's spans, each with its place in time.
pub fn waterfall(trace: &Trace) -> String {
    let mut out = format!("trace {}\n", trace.id);
    let services: std::collections::BTreeSet<&str> =
        trace.spans.iter().map(|span| span.service.as_str()).collect();
    let begin = trace.spans.iter().map(|span| span.start).min().unwrap_or(0);
    let end = trace.spans.iter().map(Span::end).max().unwrap_or(begin);
    let total = (end - begin).max(1);
    let errors = trace.spans.iter().filter(|span| span.error).count();
    out.push_str(&format!(
        "{} spans, {} services, {:.2} ms, {errors} marked as errors\n\n",
        trace.spans.len(),
        services.len(),
        total as f64 / 1e6
    ));
    let order = depth_first(trace);
    let label = |span: &Span, depth: usize| {
        let error = if span.error { " ERROR" } else { "" };
        let status = span.http_status().map_or_else(String::new, |status| format!(" {status}"));
        format!(
            "{}{} {} {}{status}{error}",
            "  ".repeat(depth.min(MAX_DEPTH)),
            span.service,
            span.kind(),
            span.resource
        )
    };
    let width =
        order.iter().map(|(span, depth)| label(span, *depth).chars().count()).max().unwrap_or(0);
    for (span, depth) in &order {
        let at = |nanos: i64| ((nanos - begin) as f64 / total as f64 * AXIS as f64) as usize;
        let from = at(span.start).min(AXIS - 1);
        let to = at(span.end()).clamp(from + 1, AXIS);
        let bar = format!("{}{}{}", " ".repeat(from), "█".repeat(to - from), " ".repeat(AXIS - to));
        out.push_str(&format!(
            "{:<width$}  |{bar}| {:>9.2} ms\n",
            label(span, *depth),
            span.duration as f64 / 1e6
        ));
    }
    out.push('\n');
    out
}

/// Every span once: each root with what hangs below it, then what is left in the same way.
fn depth_first(trace: &Trace) -> Vec<(&Span, usize)> {
    let ids: std::collections::HashSet<SpanId> = trace.spans.iter().map(|span| span.id).collect();
    let mut children: HashMap<SpanId, Vec<usize>> = HashMap::new();
    let mut tops = Vec::new();
    for (index, span) in trace.spans.iter().enumerate() {
        match span.parent_id.filter(|parent| ids.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(index),
            None => tops.push(index),
        }
    }
    let mut seen = vec![false; trace.spans.len()];
    let mut order = Vec::new();
    // Spans in a cycle are below no top; they come last, from wherever the cycle is entered.
    for top in tops.into_iter().chain(0..trace.spans.len()) {
        let mut stack = vec![(top, 0)];
        while let Some((index, depth)) = stack.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            order.push((&trace.spans[index], depth));
            if let Some(below) = children.get(&trace.spans[index].id) {
                stack.extend(below.iter().rev().map(|child| (*child, depth + 1)));
            }
        }
    }
    order
}
