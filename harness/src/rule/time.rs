//! Rules about when spans were.

use std::collections::BTreeMap;

use super::{Checked, datadog::spans_count};
use crate::{case::View, finding::Failure, trace::Span};

const SECOND: i64 = 1_000_000_000;
/// How far a span may lie outside its request's time: clocks that nobody keeps differ by minutes, and work after the answer takes some.
const SLACK: i64 = 15 * 60 * SECOND;

pub(super) fn outside_request(view: View<'_>) -> Checked {
    let (from, until) = (view.case.sent_at, view.case.ended_at.max(view.case.sent_at));
    if from <= SLACK {
        return Checked::NotApplicable;
    }
    let mut outside: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in view.spans() {
        let too_early = span.start < from - SLACK;
        if too_early || span.start > until.saturating_add(SLACK) {
            outside.entry(view.workload_of(span)).or_default().push(span);
        }
    }
    let found = outside.into_iter().map(|(workload, spans)| {
        let first = spans.first().map_or_else(String::new, |span| view.name(span));
        let start = spans.first().map_or(0, |span| span.start);
        Failure::found(format!(
            "{} of `{workload}` ({first}) {}",
            spans_count(spans.len()),
            distance(start, from, until)
        ))
        .because(cause(start, from))
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
    format!("began {} {word}", humantime::format_duration(apart))
}

/// What a wrong time usually comes of.
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
