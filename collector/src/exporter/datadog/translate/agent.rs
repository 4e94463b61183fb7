//! Processing of Datadog's spans by the trace agent inside the reference's exporter: it normalizes, obfuscates,
//! cuts what is too long, marks top-level spans and decides which traces are kept.
//!
//! Rules: agent, `pkg/trace/agent`.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

use libdd_trace_obfuscation::{http, redis};

use super::limits::{
    MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_RESOURCE_BYTES, MAX_TYPE_BYTES, MAX_VALUE_BYTES,
};
use super::table::{STATUS_CODE, URL};
use super::{Settings, family, normalize, sql};
use crate::exporter::datadog::model::{Span, Text};
use crate::trace_batch::go_text;

/// Marks, among a span's metrics, that a service is entered at it.
pub(super) const TOP_LEVEL: &[u8] = b"_top_level";
const SQL_QUERY: &[u8] = b"sql.query";
/// The attributes that may have a span's query.
const QUERIES: [&[u8]; 3] = [SQL_QUERY, b"db.statement", b"db.query.text"];
/// Stands for a query that cannot be read.
const UNREADABLE_QUERY: &[u8] = b"Non-parsable SQL query";
/// Times before 2000 are taken for a mistake in the unit.
const YEAR_2000_NANOS: i64 = 946_684_800_000_000_000;

/// Reason why a trace is not sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dropped {
    /// Its id's low 64 bits are zero.
    ZeroTraceId,
    /// One of its spans has no id.
    ZeroSpanId,
    /// Its spans' attributes `_dd.p.tid` name different traces.
    ForeignSpan,
    /// Its sampling priority says so.
    Sampled,
    /// Its root's resource name is one of `ignore_resources`.
    Ignored,
}

impl Dropped {
    /// The reason's name in counters and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ZeroTraceId => "zero_trace_id",
            Self::ZeroSpanId => "zero_span_id",
            Self::ForeignSpan => "foreign_span",
            Self::Sampled => "sampling_priority",
            Self::Ignored => "ignored_resource",
        }
    }
}

/// Refuses a trace that has a span without ids or of another trace; brings the others' fields into the form the intake
/// expects.
pub(super) fn normalize(
    spans: &mut [Span<'_>],
    settings: &Settings,
    now: i64,
) -> Result<(), Dropped> {
    if has_foreign_span(spans) {
        return Err(Dropped::ForeignSpan);
    }
    for span in spans {
        if span.trace_id == 0 {
            return Err(Dropped::ZeroTraceId);
        }
        if span.span_id == 0 {
            return Err(Dropped::ZeroSpanId);
        }
        if span.resource.is_empty() {
            span.resource = span.name.clone();
        }
        span.parent_id = family::parent_id(span.trace_id, span.span_id, span.parent_id);
        (span.start, span.duration) = match settings.first_receiver {
            true => normal_times(span.start, span.duration, now),
            false => times_of_today(span.start, span.duration, now),
        };
        shorten(&mut span.span_type, MAX_TYPE_BYTES);
        if let Some(env) = span.meta.get(b"env") {
            let env = normalize::tag_value(env.clone());
            span.meta.set(&b"env"[..], env);
        }
        for key in [&b"peer.service"[..], b"_dd.base_service"] {
            if let Some(service) = span.meta.get(key) {
                let service = service_tag(service.clone());
                span.meta.set(key, service);
            }
        }
        if span.meta.get(STATUS_CODE).is_some_and(|code| !is_status_code(code)) {
            span.meta.remove(STATUS_CODE);
        }
    }
    Ok(())
}

/// The start and the duration of a span, where the intake takes them.
fn normal_times(start: i64, duration: i64, now: i64) -> (i64, i64) {
    // The difference wraps around in the reference too, so a start below zero leaves no duration.
    let is_odd = duration < 0 || duration > i64::MAX.wrapping_sub(start);
    let duration = if is_odd { 0 } else { duration };
    if start >= YEAR_2000_NANOS {
        return (start, duration);
    }
    let start = now.saturating_sub(duration);
    (if start < 0 { now } else { start }, duration)
}

/// As [`normal_times`], by the receiver of today, which does so once more before: a duration must fit the start that it gave.
fn times_of_today(start: i64, duration: i64, now: i64) -> (i64, i64) {
    let (start, duration) = normal_times(start, duration, now);
    normal_times(start, duration, now)
}

/// As [`times_of_today`], of a span of OTLP.
pub(super) fn times(start: u64, end: u64, now: i64) -> (i64, i64) {
    times_of_today(start as i64, (end as i64).wrapping_sub(start as i64), now)
}

/// Returns the name of a service that is not the span's own, in a tag; an empty one stays.
pub(super) fn service_tag(service: Text<'_>) -> Text<'_> {
    if service.is_empty() {
        return service;
    }
    normalize::tag_value(normalize::shortened(service, MAX_NAME_BYTES))
}

/// Returns whether a span names another trace than the first one does, by the upper half of its id; a span that does not have
/// belongs to it (agent, `traceutil.SameTraceID`).
fn has_foreign_span(spans: &[Span<'_>]) -> bool {
    let Some((first, rest)) = spans.split_first() else { return false };
    let Some(first) = first.meta.get(b"_dd.p.tid") else { return false };
    rest.iter().any(|span| span.meta.get(b"_dd.p.tid").is_some_and(|upper| upper != first))
}

fn is_status_code(text: &[u8]) -> bool {
    go_text::parse_uint(text).is_some_and(|code| (100..600).contains(&code))
}

/// Returns the index of the span that stands for its trace.
pub(super) fn root_index(spans: &[Span<'_>]) -> usize {
    let ids: LazyCell<HashSet<u64>, _> =
        LazyCell::new(|| spans.iter().map(|span| span.span_id).collect());
    family::root_index(spans.iter().map(|span| span.parent_id), |id| ids.contains(&id))
}

/// Marks the spans at which a service is entered.
pub(super) fn mark_top_level(spans: &mut [Span<'_>]) {
    let by_id: HashMap<u64, usize> =
        spans.iter().enumerate().map(|(index, span)| (span.span_id, index)).collect();
    for index in 0..spans.len() {
        let span = &spans[index];
        let service_of = |id| by_id.get(&id).map(|index| &spans[*index].service);
        if family::is_top_level(&span.service, span.parent_id, service_of) {
            spans[index].metrics.set(TOP_LEVEL, 1.0);
        }
    }
}

/// Marks the spans that a tracer has marked itself (agent, `traceutil.UpdateTracerTopLevel`).
pub(super) fn mark_tracer_top_level(spans: &mut [Span<'_>]) {
    for span in spans {
        if span.metrics.get(b"_dd.top_level") == Some(&1.0) {
            span.metrics.set(TOP_LEVEL, 1.0);
        }
    }
}

/// Obfuscated texts of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obfuscated {
    /// The literals of queries.
    Queries,
    /// The arguments of commands, in the resource name.
    Commands,
    /// A URL's user.
    Url,
    Nothing,
}

impl Obfuscated {
    /// Returns what is taken out of spans of this type.
    #[inline]
    pub(super) fn of(span_type: &[u8]) -> Self {
        match span_type {
            b"sql" | b"cassandra" => Self::Queries,
            b"redis" | b"valkey" => Self::Commands,
            b"web" | b"http" => Self::Url,
            _ => Self::Nothing,
        }
    }
}

/// Takes out of a span's texts what Datadog is not to show.
pub(super) fn obfuscate(span: &mut Span<'_>) {
    match Obfuscated::of(&span.span_type) {
        Obfuscated::Queries => obfuscate_queries(span),
        Obfuscated::Url => {
            if let Some(url) = span.meta.get(URL).and_then(|url| obfuscated_url(url)) {
                span.meta.set(URL, url.into());
            }
        }
        Obfuscated::Commands => span.resource = quantized(&span.resource),
        Obfuscated::Nothing => {}
    }
}

/// Takes literals out of a span's queries: its resource, and the attributes that may have one.
fn obfuscate_queries(span: &mut Span<'_>) {
    let raw = std::mem::take(&mut span.resource);
    if !raw.is_empty() {
        span.resource = obfuscated_query(&raw);
    }
    for key in QUERIES {
        let query = match span.meta.get(key) {
            Some(query) if !query.is_empty() && *query == raw => span.resource.clone(),
            Some(query) if !query.is_empty() => obfuscated_query(query),
            // Without a text Datadog takes the resource for the query.
            Some(_) if key == SQL_QUERY => {
                span.meta.remove(key);
                continue;
            }
            _ => continue,
        };
        span.meta.set(key, query);
    }
}

/// A query without its literals.
pub(super) fn obfuscated_query<'a>(query: &[u8]) -> Text<'a> {
    sql::obfuscated(query).map_or(Cow::Borrowed(UNREADABLE_QUERY), Cow::Owned)
}

/// Returns a URL without its user's name and password; query and path are kept. `None` for what is no URL.
pub(super) fn obfuscated_url(url: &[u8]) -> Option<Vec<u8>> {
    obfuscated_url_less(url, false, false)
}

/// As [`obfuscated_url`], without the query too, or without the parts of the path that have a digit.
pub(super) fn obfuscated_url_less(url: &[u8], query: bool, digits: bool) -> Option<Vec<u8>> {
    is_url(url).then(|| http::obfuscate_url_string(&escaped(url), query, digits).into_bytes())
}

/// Returns a command of Redis without its arguments. Each byte that is not UTF-8 becomes U+FFFD, as where Go goes through the
/// letters of a text.
pub(super) fn quantized<'a>(command: &[u8]) -> Text<'a> {
    let mut text = String::with_capacity(command.len());
    for chunk in command.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(redis::quantize_redis_string(&text).into_bytes())
}

/// The text with what is not UTF-8 escaped as in a URL.
fn escaped(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Returns whether Go's parser takes a text for a URL: what stands before a colon in its first segment must be a scheme. The parser
/// of `libdd-trace-obfuscation` is more lenient.
fn is_url(text: &[u8]) -> bool {
    let end = text.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(text.len());
    let Some(colon) = text[..end].iter().position(|byte| *byte == b':') else { return true };
    let scheme = &text[..colon];
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// Cuts what is longer than Datadog keeps.
pub(super) fn truncate(span: &mut Span<'_>) {
    shorten(&mut span.resource, MAX_RESOURCE_BYTES);
    for (key, value) in span.meta.iter_mut().filter(|(key, _)| !is_structured(key)) {
        cut(key, MAX_KEY_BYTES);
        cut(value, MAX_VALUE_BYTES);
    }
    for (key, _) in span.metrics.iter_mut() {
        cut(key, MAX_KEY_BYTES);
    }
}

/// Returns whether a meta entry is a document, which is never cut.
fn is_structured(key: &[u8]) -> bool {
    key.starts_with(b"_dd.")
        && [&b".json"[..], b".msgpack", b".protobuf"].iter().any(|suffix| key.ends_with(suffix))
}

fn shorten(text: &mut Text<'_>, limit: usize) {
    if text.len() > limit {
        *text = Cow::Owned(normalize::truncated(text, limit).to_vec());
    }
}

fn cut(text: &mut Text<'_>, limit: usize) {
    if text.len() > limit {
        *text = normalize::cut(std::mem::take(text), limit);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Span, has_foreign_span, is_status_code, mark_tracer_top_level, obfuscate, times, truncate,
    };

    #[test]
    fn each_byte_of_a_redis_command_that_is_not_utf_8_is_replaced_by_itself() {
        assert_eq!(*super::quantized(b"\xe2\x82"), *"\u{fffd}\u{fffd}".as_bytes());
        assert_eq!(*super::quantized(b"SET \xff 1"), *b"SET");
    }

    #[test]
    fn spans_that_name_another_trace_than_the_first_are_foreign() {
        let span = |upper: Option<&'static str>| {
            let mut span = Span::default();
            if let Some(upper) = upper {
                span.meta.set(&b"_dd.p.tid"[..], upper.as_bytes().into());
            }
            span
        };
        let is_foreign = |uppers: &[Option<&'static str>]| {
            has_foreign_span(&uppers.iter().map(|upper| span(*upper)).collect::<Vec<_>>())
        };
        assert!(is_foreign(&[Some("a"), None, Some("b")]));
        assert!(!is_foreign(&[Some("a"), None, Some("a")]));
        assert!(!is_foreign(&[None, Some("a"), Some("b")]), "only the first is compared with");
        assert!(!is_foreign(&[]));
    }

    #[test]
    fn a_tracers_own_mark_makes_a_span_top_level() {
        let mut spans = [Span::default(), Span::default()];
        spans[0].metrics.set(&b"_dd.top_level"[..], 1.0);
        spans[1].metrics.set(&b"_dd.top_level"[..], 2.0);
        mark_tracer_top_level(&mut spans);
        assert_eq!(spans[0].metrics.get(b"_top_level"), Some(&1.0));
        assert!(!spans[1].metrics.contains(b"_top_level"));
    }

    #[test]
    fn documents_in_meta_are_never_cut() {
        let mut span = Span::default();
        let long = vec![b'x'; 26_000];
        for key in ["_dd.appsec.json", "_dd.json.x", "x.json"] {
            span.meta.set(key.as_bytes(), long.clone().into());
        }
        truncate(&mut span);
        let length = |key: &[u8]| span.meta.get(key).unwrap().len();
        assert_eq!(length(b"_dd.appsec.json"), 26_000);
        assert_eq!((length(b"_dd.json.x"), length(b"x.json")), (25_003, 25_003));
    }

    #[test]
    fn a_duration_fits_the_start_that_its_span_is_given() {
        let now = 1_800_000_000_000_000_000;
        assert_eq!(times(now as u64 - 5, now as u64, now), (now - 5, 5));
        assert_eq!(times(1, 6, now), (now - 5, 5), "a start before 2000 is none");
        assert_eq!(times(1, i64::MAX as u64, now), (now, 0));
    }

    #[test]
    fn status_codes_are_digits_alone() {
        assert!(is_status_code(b"200") && is_status_code(b"0599"));
        assert!(
            !["+200", "-200", "99", "600", "", "2e2"]
                .iter()
                .any(|code| is_status_code(code.as_bytes()))
        );
    }

    #[test]
    fn valkeys_commands_are_taken_for_redis_ones() {
        for span_type in ["redis", "valkey"] {
            let mut span = Span {
                span_type: span_type.as_bytes().into(),
                resource: b"SET key secret\nGET key"[..].into(),
                ..Span::default()
            };
            obfuscate(&mut span);
            assert_eq!(span.resource, &b"SET GET"[..]);
        }
    }
}
