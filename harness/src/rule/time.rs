//! Rules about when spans were.

use std::collections::{BTreeMap, HashMap};

use super::{Checked, OUTSIDE_REQUEST, datadog::spans_count};
use crate::{
    case::View,
    finding::{Failure, Stage},
    trace::{Span, SpanId},
};

const SECOND: i64 = 1_000_000_000;
const MICROSECOND: i64 = 1000;
/// How far a span may lie outside its request's time: clocks that nobody keeps differ by minutes, and work after the answer takes some.
const SLACK: i64 = 15 * 60 * SECOND;
const DAY: i64 = 24 * 3600 * SECOND;

pub(super) fn outside_request(view: View<'_>) -> Checked {
    match outside(view, SLACK) {
        Checked::Found(mut found) => {
            found.extend(replaced(view));
            Checked::Found(found)
        }
        other => other,
    }
}

/// Finds spans that came to the collector with a start of decades ago, in whose place its exporter puts another one.
fn replaced(view: View<'_>) -> Vec<Failure> {
    let from = view.case.sent_at;
    let long_ago = u64::try_from(from.saturating_sub(10 * 365 * DAY)).unwrap_or_default();
    let taken = view.evidence.collector.iter().flat_map(|entry| &entry.spans);
    let starts: HashMap<SpanId, u64> =
        taken.filter(|taken| taken.start < long_ago).map(|taken| (taken.id, taken.start)).collect();
    let mut replaced: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.spans() {
        let is_replaced = u64::try_from(span.start).is_ok_and(|start| start >= long_ago);
        if is_replaced && starts.contains_key(&span.id) {
            replaced.entry(view.workload_of(span)).or_default().push(span);
        }
    }
    let found = replaced.into_iter().filter_map(|(workload, spans)| {
        let first = spans.first()?;
        let start = i64::try_from(*starts.get(&first.id)?).unwrap_or_default();
        let detail = format!(
            "{} of `{workload}` ({}) came to the collector as begun {}, and its exporter put another time in the place of that",
            spans_count(spans.len()),
            view.name(first),
            distance(start, from, view.case.ended_at)
        );
        let found = Failure::found(detail).because(cause(start, from)).about(workload);
        Some(found.of_spans(&spans).at_stage(Some(Stage::BeforeCollector)))
    });
    found.collect()
}

/// The same of a trace that a link connects with the request's. Its first span may be that of a worker that has long been at work.
pub(super) fn linked_outside_request(linked: View<'_>) -> Vec<Failure> {
    match outside(linked, DAY) {
        Checked::Found(found) => {
            found.into_iter().map(|failure| failure.of_rule(OUTSIDE_REQUEST)).collect()
        }
        _ => Vec::new(),
    }
}

/// Finds spans that began so many nanoseconds before the request or more, or are of a time after it.
fn outside(view: View<'_>, before: i64) -> Checked {
    let (from, until) = (view.case.sent_at, view.case.ended_at.max(view.case.sent_at));
    if from <= SLACK {
        return Checked::NotApplicable;
    }
    let mut outside: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.spans() {
        let too_early = span.start < from.saturating_sub(before);
        if too_early || span.end() > until.saturating_add(SLACK) {
            outside.entry(view.workload_of(span)).or_default().push(span);
        }
    }
    let found = outside.into_iter().map(|(workload, spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        let (start, end) = spans.first().map_or((0, 0), |span| (span.start, span.end()));
        let is_begun_within = (from.saturating_sub(before)..=until.saturating_add(SLACK)).contains(&start);
        let (what, cause) = match is_begun_within {
            true => (
                format!("ended {}", distance(end, from, until)),
                "it was captured before that; its end, or its duration, is of another unit or clock than its start".to_owned(),
            ),
            false => (format!("began {}", distance(start, from, until)), cause(start, from)),
        };
        Failure::found(format!("{} of `{workload}` ({first}) {what}", spans_count(spans.len())))
        .because(cause)
        .about(workload)
        .of_spans(&spans)
    });
    Checked::Found(found.collect())
}

pub(super) fn no_duration(view: View<'_>) -> Checked {
    let mut without: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.service_spans() {
        let is_work = matches!(span.kind(), "server" | "consumer");
        // Where the start is given to less than a microsecond, the clock is fine enough for whatever work there was.
        let is_fine = span.start % MICROSECOND != 0;
        if is_work && is_fine && span.duration <= 0 {
            without.entry(view.workload_of(span)).or_default().push(span);
        }
    }
    let found = without.into_iter().map(|(workload, spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        Failure::found(format!(
            "{} of `{workload}` ({first}) ended in the nanosecond in which it began",
            spans_count(spans.len())
        ))
        .because(
            "its end is not set, or lies before its start, of which an exporter makes a duration of 0; a span that is made by hand or by a bridge is sent before it is ended, or its two times are of two clocks",
        )
        .about(workload)
        .of_spans(&spans)
    });
    Checked::Found(found.collect())
}

fn distance(start: i64, from: i64, until: i64) -> String {
    let (apart, word) = match start < from {
        true => (from.saturating_sub(start), "before the request was sent"),
        false => (start.saturating_sub(until), "after the request was answered"),
    };
    let apart = std::time::Duration::from_secs(apart.unsigned_abs() / SECOND.unsigned_abs());
    format!("{} {word}", humantime::format_duration(apart))
}

/// Names the usual cause of a wrong time.
fn cause(start: i64, from: i64) -> String {
    let near =
        |time: Option<i64>| time.is_some_and(|time| time.abs_diff(from) < SLACK.unsigned_abs());
    let units = [("seconds", SECOND), ("milliseconds", 1_000_000), ("microseconds", 1000)];
    let unit = units.iter().find(|(_, scale)| near(start.checked_mul(*scale)));
    let hours = (start.abs_diff(from) + SLACK.unsigned_abs() / 15) / (3600 * SECOND.unsigned_abs());
    let rest = start.abs_diff(from).abs_diff(hours * 3600 * SECOND.unsigned_abs());
    match unit {
        Some((unit, _)) => format!("its times are {unit} where nanoseconds are meant"),
        None if start < 10 * 365 * 86_400 * SECOND => {
            "its times are not set, or count from the start of a process or a machine".to_owned()
        }
        None if hours <= 26 && rest < 2 * 60 * SECOND.unsigned_abs() => {
            "a local time was taken for UTC, or a day is wrong".to_owned()
        }
        None => {
            "its clock is wrong; Datadog shows such spans elsewhere on the time axis, or drops them"
                .to_owned()
        }
    }
}
