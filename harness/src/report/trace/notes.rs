//! Facts of a span beside its place and its time: its error, its events, its links.

use serde_json::Value;

use crate::{report::visible::visible, trace::Span};

/// Most characters of a text.
const MAX_TEXT: usize = 200;
/// Most events, and most links, of a span that are listed.
const MAX_LISTED: usize = 10;
/// Most attributes of an event or link that are listed.
const MAX_ATTRIBUTES: usize = 6;

/// An event of a span.
pub(super) struct Event {
    /// Nanoseconds since the Unix epoch; `None` where it does not say.
    pub(super) at: Option<i64>,
    name: String,
    attributes: String,
}

/// Returns a span's events, as Datadog keeps them.
pub(super) fn events(span: &Span) -> Vec<Event> {
    let event = |value: &Value| Event {
        at: value["time_unix_nano"].as_i64(),
        name: text(&value["name"]),
        attributes: attributes(&value["attributes"]),
    };
    list(span, "events").iter().map(event).collect()
}

/// Describes a span's error, events and links, a line each.
pub(super) fn lines(span: &Span, events: &[Event]) -> Vec<String> {
    let mut lines = Vec::new();
    if span.error {
        let of = |key: &str| span.meta.get(key).map(|value| visible(value, MAX_TEXT));
        let message = of("error.message").or_else(|| of("error.msg"));
        let parts: Vec<String> = of("error.type").into_iter().chain(message).collect();
        lines.push(match parts.len() {
            0 => "✗ marked as an error, without a type or message".to_owned(),
            _ => format!("✗ {}", parts.join(": ")),
        });
    }
    for event in events.iter().take(MAX_LISTED) {
        let after = event.at.map(|at| at.saturating_sub(span.start) as f64 / 1e6);
        let after = after.map_or_else(String::new, |ms| format!(" {ms:+.2} ms"));
        lines.push(format!("◆{after} {}{}", event.name, event.attributes));
    }
    if events.len() > MAX_LISTED {
        lines.push(format!("◆ and {} more events", events.len() - MAX_LISTED));
    }
    let links = list(span, "_dd.span_links");
    for link in links.iter().take(MAX_LISTED) {
        let [trace, span] = [&link["trace_id"], &link["span_id"]].map(text);
        lines.push(format!("→ trace {trace} span {span}{}", attributes(&link["attributes"])));
    }
    if links.len() > MAX_LISTED {
        lines.push(format!("→ and {} more links", links.len() - MAX_LISTED));
    }
    lines
}

/// The entries of a list that Datadog keeps as JSON in a span's meta; none where it is no list.
fn list(span: &Span, key: &str) -> Vec<Value> {
    let parsed = span.meta.get(key).and_then(|json| serde_json::from_str(json).ok());
    match parsed {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => visible(text, MAX_TEXT),
        other => visible(&other.to_string(), MAX_TEXT),
    }
}

fn attributes(value: &Value) -> String {
    let Value::Object(all) = value else { return String::new() };
    let listed = all.iter().take(MAX_ATTRIBUTES);
    let listed: String = listed
        .map(|(key, value)| format!("  {}={}", visible(key, MAX_TEXT), text(value)))
        .collect();
    let more = all.len().saturating_sub(MAX_ATTRIBUTES);
    if more > 0 { format!("{listed}  and {more} more") } else { listed }
}
