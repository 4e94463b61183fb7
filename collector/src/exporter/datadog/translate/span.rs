//! One OTLP span to one Datadog span, before the agent's own treatment.
//!
//! Rules: agent, `pkg/trace/transform`.

use std::borrow::Cow;
use std::io::Write as _;

use super::agent::TOP_LEVEL;
use super::attributes::{Attrs, Both, Keys};
use super::table::{Class, GRPC_STATUS_CODE, HEADERS, STATUS_CODE};
use super::{NamingOptions, Settings, concepts, known, naming, normalize, sampling};
use crate::exporter::datadog::model::{Entries, Span as DatadogSpan, Text};
use crate::trace_batch::go_text;
use crate::trace_batch::go_text::{Html, as_text, write_json, write_json_text};
use crate::trace_batch::{AnyValue, Event, Link, Scope, Span, SpanKind, StatusCode};

/// Result of translating a span, as far as its chunk needs it.
pub(super) struct Translated<'a> {
    pub(super) span: DatadogSpan<'a>,
    /// The sampling priority that the span's attributes ask for.
    pub(super) priority: Option<f64>,
}

pub(super) fn translate<'a>(
    settings: &Settings,
    span: &Span<'a>,
    scope: &Scope<'a>,
    resource: &Attrs<'a>,
) -> Translated<'a> {
    let own = Attrs::new(span.attributes());
    let both = Both { span: &own, resource };
    let size = own.iter().len() + resource.iter().len() + 10;
    let mut out = begun(span);
    out.service = naming::service(both);
    out.name = operation(&settings.naming, span, scope, both);
    out.span_type = naming::span_type(span, both).0;
    let taken_out = settings.obfuscation.of_span(both, &out.span_type);
    out.resource = match (naming::resource(&settings.naming, span, both), taken_out) {
        ((query, true), Some(taken_out)) => taken_out.query(query),
        ((resource, _), _) => resource,
    };
    let hidden = |key: &[u8], value: &AnyValue<'a>| taken_out?.attribute(key, value);
    out.meta = Entries::with_capacity(size);
    out.meta.set(&b"span.kind"[..], naming::kind_name(span.kind).as_bytes().into());
    if let Some(code) = status_code(both).filter(|code| *code >= 0) {
        out.metrics.set(STATUS_CODE, code as f64);
    }
    if let Some(code) = grpc_status_code(both) {
        out.meta.set(GRPC_STATUS_CODE, code);
    }
    if settings.top_level_by_span_kind {
        mark_by_kind(&mut out, span);
    }
    if both.int("_dd.measured") == Some(1) {
        out.metrics.set(&b"_dd.measured"[..], 1.0);
    }
    for (key, value) in own.iter() {
        match (hidden(key, &value), value) {
            (Some(text), _) => set_meta(&mut out, key, text),
            (None, AnyValue::Int(int)) => set_metric(&mut out, key, int as f64),
            (None, AnyValue::Double(double)) => set_metric(&mut out, key, double),
            (None, value) => set_meta(&mut out, key, as_text(&value)),
        }
    }
    out.meta.set(&b"otel.trace_id"[..], hex(&span.trace_id.to_be_bytes()).to_vec().into());
    if !out.meta.contains(b"version") {
        set_unless_empty(&mut out, "version", both.normal(concepts::VERSION));
    }
    set_events_and_links(&mut out, span);
    set_facts(&mut out, span, scope, settings.scope_keys());
    set_error_message(&mut out, span);
    if !out.meta.contains(b"env") {
        set_unless_empty(&mut out, "env", both.normal(concepts::ENV));
    }
    for (key, value) in resource.iter() {
        set_meta(&mut out, key, hidden(key, &value).unwrap_or_else(|| as_text(&value)));
    }
    for (key, value) in scope.attributes().iter() {
        out.meta.set(key, hidden(key, &value).unwrap_or_else(|| as_text(&value)));
    }
    if !out.meta.contains(b"db.name") {
        set_unless_empty(&mut out, "db.name", both.text(concepts::DB_NAMESPACE));
    }
    // A rate that a tracer reports itself stays.
    if !out.metrics.contains(sampling::SAMPLE_RATE)
        && let Some(rate) = sampling::rate_of_trace_state(span.trace_state)
    {
        out.metrics.set(sampling::SAMPLE_RATE, rate);
    }
    let priority = out.metrics.get(sampling::PRIORITY).copied();
    Translated { span: out, priority }
}

/// A Datadog span with the numbers of this one.
pub(super) fn begun<'a>(span: &Span<'a>) -> DatadogSpan<'a> {
    DatadogSpan {
        trace_id: span.trace_id as u64,
        span_id: span.span_id,
        parent_id: span.parent_span_id,
        start: span.start as i64,
        duration: (span.end as i64).wrapping_sub(span.start as i64),
        error: i32::from(span.status.code == StatusCode::Error),
        ..DatadogSpan::default()
    }
}

/// Determines by its kind whether a span enters a service, and whether it is measured all the same.
pub(super) fn mark_by_kind(out: &mut DatadogSpan<'_>, span: &Span<'_>) {
    let entry = matches!(span.kind, SpanKind::Server | SpanKind::Consumer);
    if span.parent_span_id == 0 || entry {
        out.metrics.set(TOP_LEVEL, 1.0);
    }
    if matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
        out.metrics.set(&b"_dd.measured"[..], 1.0);
    }
}

/// Returns the name of a status in `otel.status_code`.
pub(super) fn status_name(status: StatusCode) -> &'static [u8] {
    match status {
        StatusCode::Unset => b"Unset",
        StatusCode::Ok => b"Ok",
        StatusCode::Error => b"Error",
        StatusCode::Unknown => b"",
    }
}

/// Sets what the span itself and its scope have beside attributes; the scope's name and version under each of these keys.
pub(super) fn set_facts<'a>(
    out: &mut DatadogSpan<'a>,
    span: &Span<'a>,
    scope: &Scope<'a>,
    scope_keys: &[(&'static str, &'static str)],
) {
    set_unless_empty(out, "w3c.tracestate", Cow::Borrowed(span.trace_state));
    for (name, version) in scope_keys {
        set_unless_empty(out, name, Cow::Borrowed(scope.name));
        set_unless_empty(out, version, Cow::Borrowed(scope.version));
    }
    out.meta.set(&b"otel.status_code"[..], status_name(span.status.code).into());
    set_unless_empty(out, "otel.status_description", Cow::Borrowed(span.status.message));
}

fn operation<'a>(
    naming: &NamingOptions,
    span: &Span<'a>,
    scope: &Scope<'a>,
    attributes: Both<'_, 'a>,
) -> Text<'a> {
    normalize::name(naming::operation(naming, span, scope, attributes))
}

/// Returns HTTP's status code, a number or the text of one.
pub(super) fn status_code(attributes: Both<'_, '_>) -> Option<i64> {
    concepts::status_code(|name| {
        let text = || go_text::parse_whole_number(&attributes.text(name));
        attributes.int(name).or_else(text)
    })
}

/// Returns gRPC's status code as text: a number or a name, as it was sent.
pub(super) fn grpc_status_code<'a>(attributes: Both<'_, 'a>) -> Option<Text<'a>> {
    let code = |name: Keys| {
        let text = attributes.text(name);
        if !text.is_empty() {
            return Some(text);
        }
        attributes.int(name).map(|code| Cow::Owned(code.to_string().into_bytes()))
    };
    concepts::grpc_code(code, |system| attributes.text(system))
}

/// Sets an attribute under Datadog's name for it, unless that name has a value already.
fn set_meta<'a>(out: &mut DatadogSpan<'a>, key: &'a [u8], value: Text<'a>) {
    let Some(key) = datadog_key(key) else { return };
    if out.meta.get(&key).is_some_and(|value| !value.is_empty()) {
        return;
    }
    if *key == *b"analytics.event" {
        // The rate at which the span is analyzed, unless it has one already.
        let rate = parse_bool(&value).filter(|_| !out.metrics.contains(b"_dd1.sr.eausr"));
        if let Some(wanted) = rate {
            out.metrics.set(&b"_dd1.sr.eausr"[..], f64::from(u8::from(wanted)));
        }
        return;
    }
    out.meta.set(key, value);
}

fn set_metric<'a>(out: &mut DatadogSpan<'a>, key: &'a [u8], value: f64) {
    let Some(key) = datadog_key(key) else { return };
    let key = match key {
        Cow::Borrowed(key) => Cow::Borrowed(sampling::metric_key(key)),
        header => header,
    };
    if !out.metrics.contains(&key) {
        out.metrics.set(key, value);
    }
}

pub(super) fn set_unless_empty<'a>(out: &mut DatadogSpan<'a>, key: &'static str, value: Text<'a>) {
    if !value.is_empty() {
        out.meta.set(key.as_bytes(), value);
    }
}

/// Returns Datadog's key for an attribute; `None` for those that become fields of the span.
fn datadog_key(key: &[u8]) -> Option<Text<'_>> {
    let class = known::class_of(key);
    if class == Class::Header {
        return Some(Cow::Owned([HEADERS.1, &key[HEADERS.0.len()..]].concat()));
    }
    class.key(key).map(Cow::Borrowed)
}

/// As Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &[u8]) -> Option<bool> {
    match text {
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Some(false),
        _ => None,
    }
}

pub(super) fn set_error_message(out: &mut DatadogSpan<'_>, span: &Span<'_>) {
    if out.error == 0 || out.meta.contains(b"error.msg") {
        return;
    }
    let message = if !span.status.message.is_empty() {
        span.status.message.to_vec()
    } else if let Some(code) = [&b"http.response.status_code"[..], b"http.status_code"]
        .iter()
        .find_map(|key| out.meta.get(key).filter(|code| !code.is_empty()))
    {
        let status = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
        match status.and_then(reason_phrase) {
            Some(reason) => [code, &b" "[..], reason.as_bytes()].concat(),
            None => code.to_vec(),
        }
    } else {
        return;
    };
    out.meta.set(&b"error.msg"[..], message.into());
}

/// Returns Go's `http.StatusText` of a status: the names of RFC 7231's time, of which some are newer in `http`.
fn reason_phrase(code: u16) -> Option<&'static str> {
    match code {
        203 => Some("Non-Authoritative Information"),
        413 => Some("Request Entity Too Large"),
        414 => Some("Request URI Too Long"),
        416 => Some("Requested Range Not Satisfiable"),
        code => http::StatusCode::from_u16(code).ok()?.canonical_reason(),
    }
}

/// Sets the span's events and links, where it has any.
pub(super) fn set_events_and_links(out: &mut DatadogSpan<'_>, span: &Span<'_>) {
    if span.links().next().is_some() {
        out.meta.set(&b"_dd.span_links"[..], links(span.links()).into());
    }
    if span.events().next().is_none() {
        return;
    }
    out.meta.set(&b"events"[..], events(span.events()).into());
    if span.events().any(|event| event.name == b"exception") {
        out.meta.set(&b"_dd.span_events.has_exception"[..], Cow::Borrowed(b"true"));
    }
}

/// The events as a JSON array; absent parts are left out.
pub(super) fn events<'a>(events: impl Iterator<Item = Event<'a>>) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, event) in events.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let start = out.len();
        if event.time != 0 {
            push(&mut out, format_args!(",\"time_unix_nano\":{}", event.time));
        }
        if !event.name.is_empty() {
            out.extend_from_slice(b",\"name\":");
            write_json_text(&mut out, event.name, Html::Escaped);
        }
        if !event.attributes().is_empty() {
            out.extend_from_slice(b",\"attributes\":{");
            for (index, (key, value)) in event.attributes().iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_json_text(&mut out, key, Html::Escaped);
                out.push(b':');
                let start = out.len();
                if !write_json(&mut out, &value, Html::Escaped) {
                    out.truncate(start);
                    out.extend_from_slice(b"\"redacted\"");
                }
            }
            out.push(b'}');
        }
        if event.dropped_attributes != 0 {
            let count = event.dropped_attributes;
            push(&mut out, format_args!(",\"dropped_attributes_count\":{count}"));
        }
        // The first comma becomes the opening brace.
        match out.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
    }
    out.push(b']');
    out
}

/// The links as a JSON array. The reference writes attributes and trace state without escaping; ours is always valid JSON,
/// and escapes nothing else.
pub(super) fn links<'a>(links: impl Iterator<Item = Link<'a>>) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, link) in links.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(
            &mut out,
            format_args!(
                "{{\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"",
                link.trace_id, link.span_id
            ),
        );
        if !link.trace_state.is_empty() {
            out.extend_from_slice(b",\"tracestate\":");
            write_json_text(&mut out, link.trace_state, Html::Bare);
        }
        if !link.attributes().is_empty() {
            out.extend_from_slice(b",\"attributes\":{");
            for (index, (key, value)) in link.attributes().iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_json_text(&mut out, key, Html::Bare);
                out.push(b':');
                write_json_text(&mut out, &as_text(&value), Html::Bare);
            }
            out.push(b'}');
        }
        if link.dropped_attributes > 0 {
            let count = link.dropped_attributes;
            push(&mut out, format_args!(",\"dropped_attributes_count\":{count}"));
        }
        out.push(b'}');
    }
    out.push(b']');
    out
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector does not fail.
    let _ = out.write_fmt(text);
}

pub(super) fn hex(bytes: &[u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 32];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Settings, translate};
    use super::reason_phrase;
    use crate::trace_batch::TraceBatch;

    #[test]
    fn a_scope_is_named_by_both_conventions_unless_the_old_one_is_asked_for() {
        let span =
            json!({"traceId": "0000000000000000000000000000000a", "spanId": "000000000000000b"});
        let scope = json!({"scope": {"name": "lib", "version": "1"}, "spans": [span]});
        let request = json!({"resourceSpans": [{"scopeSpans": [scope]}]});
        let batch = TraceBatch::from_json(request.to_string().as_bytes()).unwrap();
        let scope_keys = |settings: &Settings| {
            let translation = translate(settings, &batch, 1);
            let meta = translation.tracers[0].chunks[0].spans[0].meta.clone();
            let keys = ["otel.library.name", "otel.scope.name", "otel.scope.version"];
            keys.map(|key| meta.get(key.as_bytes()).map(|text| text.to_vec()))
        };
        let (name, version) = (Some(b"lib".to_vec()), Some(b"1".to_vec()));
        assert_eq!(scope_keys(&Settings::default()), [name.clone(), name.clone(), version]);
        let old = Settings { old_scope_convention: true, ..Settings::default() };
        assert_eq!(scope_keys(&old), [name, None, None]);
    }

    #[test]
    fn statuses_have_the_names_that_go_has_for_them() {
        assert_eq!(reason_phrase(404), Some("Not Found"));
        assert_eq!(reason_phrase(413), Some("Request Entity Too Large"));
        assert_eq!(reason_phrase(599), None);
    }
}
