//! One trace for people: the waterfall, and the list of its spans.

use std::collections::HashMap;

use super::visible::visible;
use crate::trace::{Span, SpanId, Trace};

mod notes;

/// Columns of the time axis.
const AXIS: usize = 40;
/// Most characters of a name in the tree.
const MAX_NAME: usize = 120;
/// Most characters of a value in the list of spans.
const MAX_VALUE: usize = 2_000;
/// Deepest indentation that is drawn.
const MAX_DEPTH: usize = 40;

/// Formats a trace as text: its waterfall, then the details of each span.
pub fn render(trace: &Trace) -> String {
    let mut out = waterfall(trace);
    for (span, _) in &depth_first(trace) {
        let parent = span.parent_id.map_or_else(|| "none".to_owned(), |parent| parent.to_string());
        out.push_str(&format!(
            "span {}  parent {parent}  service {}  name {}  resource {}  type {}  error {}\n",
            span.id,
            visible(&span.service, MAX_VALUE),
            visible(&span.name, MAX_VALUE),
            visible(&span.resource, MAX_VALUE),
            visible(&span.span_type, MAX_VALUE),
            u8::from(span.error)
        ));
        for (key, value) in &span.meta {
            out.push_str(&format!(
                "    {}: {}\n",
                visible(key, MAX_VALUE),
                visible(value, MAX_VALUE)
            ));
        }
        for (key, value) in &span.metrics {
            out.push_str(&format!("    {}: {value}\n", visible(key, MAX_VALUE)));
        }
    }
    out
}

/// Formats a trace's spans as a tree with a time bar for each (`█`, or `▒` for an error), and below each span its
/// error (`✗`), its events (`◆`, also marked in the bar) and its links (`→`).
pub fn waterfall(trace: &Trace) -> String {
    let mut out = format!("trace {}\n", trace.id);
    let services: std::collections::BTreeSet<&str> =
        trace.spans.iter().map(|span| span.service.as_str()).collect();
    let begin = trace.spans.iter().map(|span| span.start).min().unwrap_or(0);
    let end = trace.spans.iter().map(Span::end).max().unwrap_or(begin);
    let total = end.saturating_sub(begin).max(1);
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
            visible(&span.service, MAX_NAME),
            visible(span.kind(), MAX_NAME),
            visible(&span.resource, MAX_NAME)
        )
    };
    let width =
        order.iter().map(|(span, depth)| label(span, *depth).chars().count()).max().unwrap_or(0);
    let place =
        |nanos: i64| (nanos.saturating_sub(begin) as f64 / total as f64 * AXIS as f64) as usize;
    for (span, depth) in &order {
        let from = place(span.start).min(AXIS - 1);
        let to = place(span.end()).clamp(from + 1, AXIS);
        let mut bar = vec![' '; AXIS];
        bar[from..to].fill(if span.error { '▒' } else { '█' });
        let events = notes::events(span);
        for at in events.iter().filter_map(|event| event.at).filter(|at| (begin..=end).contains(at))
        {
            bar[place(at).min(AXIS - 1)] = '◆';
        }
        let bar: String = bar.into_iter().collect();
        out.push_str(&format!(
            "{:<width$}  |{bar}| {:>9.2} ms\n",
            label(span, *depth),
            span.duration as f64 / 1e6
        ));
        let indent = "  ".repeat((*depth + 1).min(MAX_DEPTH));
        for note in notes::lines(span, &events) {
            out.push_str(&format!("{indent}{note}\n"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::testing::{MS, TRACE, span};

    #[test]
    fn errors_events_and_links_are_drawn() {
        let mut root = span(1, 0, "shop", "server", 0, 100 * MS);
        let mut failed = span(2, 1, "shop", "client", 50 * MS, 50 * MS);
        failed.error = true;
        failed.meta.insert("error.type".to_owned(), "timeout".to_owned());
        failed.meta.insert("error.message".to_owned(), "no answer\u{1b}[2J".to_owned());
        let events = r#"[{"time_unix_nano":25000000,"name":"retry","attributes":{"try":2}},{"name":"untimed"}]"#;
        root.meta.insert("events".to_owned(), events.to_owned());
        let links = r#"[{"trace_id":"0f","span_id":"0a","attributes":{"why":"batch"}}]"#;
        root.meta.insert("_dd.span_links".to_owned(), links.to_owned());
        let drawn = waterfall(&Trace::new(TRACE, vec![root, failed]));
        let lines: Vec<&str> = drawn.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "shop server GET /work 200    |██████████◆█████████████████████████████|    100.00 ms",
                "  ◆ +25.00 ms retry  try=2",
                "  ◆ untimed",
                "  → trace 0f span 0a  why=batch",
                "  shop client GET 200 ERROR  |                    ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒|     50.00 ms",
                "    ✗ timeout: no answer␛[2J",
                "",
            ]
        );
    }

    #[test]
    fn hostile_texts_are_bounded_and_act_on_no_terminal() {
        let mut one = span(1, 0, "shop\u{202e}", "server", i64::MAX - 5, i64::MAX);
        one.resource = format!("\u{1b}]0;x\u{7}{}", "y".repeat(25_000));
        one.meta.insert("k\r".to_owned(), "z".repeat(25_000));
        one.meta.insert(
            "events".to_owned(),
            format!("[{}7]", "{\"time_unix_nano\":-9223372036854775808},".repeat(50)),
        );
        let text = render(&Trace::new(TRACE, vec![one]));
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']), "{text}");
        assert!(text.len() < 8_000 && text.contains("and 41 more events"), "{} bytes", text.len());
    }
}
