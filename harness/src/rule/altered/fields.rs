//! Fields of spans that change on their way: what a service ended beside what came to the collector, and what that sent beside what was
//! captured.
//!
//! In between, a collector's processors change spans as they are meant to. What comes beside what was there, such as tags that a relay
//! adds, is no change.

use std::collections::{BTreeMap, HashSet};

use super::{Stages, between, kind};
use crate::{
    case::View,
    finding::{Changed, Failure, Stage},
    intake::decode::{SentSpan, TakenSpan},
    ledger::{LedgerSpan, Recorded},
    rule::{identity, ledgers::known_ledgers},
    trace::{CLOCK_TOLERANCE, Span, SpanId},
};

/// How many attributes are named.
const NAMED: usize = 3;

/// Finds spans that came to the collector otherwise than a service ended them.
pub(super) fn before_the_collector(view: View<'_>, stages: &Stages<'_>) -> Vec<Failure> {
    let made = known_ledgers(view)
        .flat_map(|(workload, spans, _)| spans.iter().map(move |made| (workload, made)));
    let found = made.filter_map(|(workload, made)| {
        let recorded = made.recorded.as_ref()?;
        let id = made.span_id;
        let (stage, changes, came) = match stages.taken.get(id) {
            Some(taken) => {
                let changes = of_taken(made, recorded, taken);
                (Some(Stage::BeforeCollector), changes, "it came to the collector")
            }
            // Where no collector shows what came, times alone are sure to be left alone by its processors.
            None if stages.taken.is_empty() => {
                let span = stages.captured.get(id)?;
                let (start, end) = (nanos(span.start), nanos(span.end()));
                let mut changes = Changes::default();
                changes.of_times(recorded, start, end);
                (None, changes, "it was captured")
            }
            None => return None,
        };
        let detail = format!(
            "`{workload}` ended `{}` ({}, {id}), and {came} {}",
            made.name,
            made.kind,
            changes.listed()?
        );
        let found = Failure::found(detail);
        let found = found.because(format!("{} changes it", between(stage, workload)));
        Some(found.about(workload).of_span(id).at_stage(stage).of_changed(changes.of))
    });
    found.collect()
}

/// Finds spans that were captured otherwise than the collector sent them, but for those that are reported already.
pub(super) fn behind_the_collector(
    view: View<'_>,
    stages: &Stages<'_>,
    reported: &HashSet<SpanId>,
) -> Vec<Failure> {
    let captured = view.spans().iter().filter(|span| !reported.contains(&span.id));
    let both = captured
        .filter_map(|span| Some((stages.captured.get(span.id)?, stages.sent.get(span.id)?)));
    let changed = both.map(|(span, sent)| (span, sent, of_captured(sent, span)));
    let changed: Vec<_> = changed.collect();
    let is_renamed = changed.iter().any(|(span, sent, _)| span.service != sent.service);
    // Its own rule says more.
    let by_its_rule = is_renamed && identity::is_wrong_service(view);
    let found = changed.into_iter().filter_map(|(span, sent, mut changes)| {
        if span.service != sent.service && !by_its_rule {
            changes.texts.push(in_place("the service", &span.service, &sent.service));
        }
        let sent_as = name(view, Some(span), sent);
        let listed = changes.listed()?;
        let detail = format!("the collector sent {sent_as}, and it was captured {listed}");
        let stage = Some(Stage::BehindCollector);
        let found = Failure::found(detail).because(format!("{} changes it", between(stage, "")));
        // The service that it is known by now may not be its own.
        let service =
            if span.service == sent.service { view.workload_of(span) } else { &sent.service };
        Some(found.about(service).of_span(span.id).at_stage(stage).of_changed(changes.of))
    });
    found.collect()
}

/// A span that was sent, as messages name it; `captured` is the one of its id.
pub(super) fn name<'a>(view: View<'a>, captured: Option<&'a Span>, sent: &SentSpan) -> String {
    let same = captured.filter(|span| span.service == sent.service);
    let workload = same.map_or(sent.service.as_str(), |span| view.workload_of(span));
    let kind = if kind(sent).is_empty() { "span" } else { kind(sent) };
    format!("`{}` ({kind}, {workload}, {})", sent.resource, sent.id)
}

/// Changes of one span's fields.
#[derive(Default)]
struct Changes {
    /// Each in words that end a sentence.
    texts: Vec<String>,
    of: Changed,
}

impl Changes {
    /// Returns all of them in words; `None` where there are none.
    fn listed(&self) -> Option<String> {
        (!self.texts.is_empty()).then(|| self.texts.join(", "))
    }

    /// Notes that a key's value is another one, or gone.
    fn note_key(&mut self, key: &str) {
        self.of.status |= STATUS_KEYS.contains(&key);
    }

    /// Adds changes of times. A clock that is set otherwise moves both, and is judged by the rules about time; so is what clocks may be
    /// apart.
    fn of_times(&mut self, recorded: &Recorded, start: u64, end: u64) {
        let (by_start, by_end) =
            (start.wrapping_sub(recorded.start) as i64, end.wrapping_sub(recorded.end) as i64);
        if by_start == by_end || (by_end == 0 && by_start.abs() <= CLOCK_TOLERANCE) {
            return;
        }
        self.of.times = true;
        if by_start != 0 {
            self.texts.push(format!("with a start that is {}", apart(recorded.start, start)));
        }
        if by_end != 0 {
            self.texts.push(format!("with an end that is {}", apart(recorded.end, end)));
        }
    }
}

/// Attributes, and Datadog's tags, that hold an answer's status or a span's.
const STATUS_KEYS: [&str; 4] =
    ["http.response.status_code", "http.status_code", "otel.status_code", "rpc.grpc.status_code"];

fn in_place(what: &str, got: &str, was: &str) -> String {
    match got {
        "" => format!("without {what}, which was `{was}`"),
        _ => format!("with {what} `{got}` in place of `{was}`"),
    }
}

fn nanos(time: i64) -> u64 {
    u64::try_from(time).unwrap_or_default()
}

/// Changes between a span as it was ended and as it came to the collector, but for its kind and parent.
fn of_taken(made: &LedgerSpan, recorded: &Recorded, taken: &TakenSpan) -> Changes {
    let mut changes = Changes::default();
    if made.name != taken.name {
        changes.texts.push(in_place("the name", &taken.name, &made.name));
    }
    changes.of_times(recorded, taken.start, taken.end);
    if recorded.status != taken.status {
        changes.of.status = true;
        changes.texts.push(in_place("the status", &taken.status, &recorded.status));
    }
    let got = |key: &String| taken.attributes.get(key).map(Option::as_deref);
    let lost: Vec<&String> = recorded.attributes.keys().filter(|key| got(key).is_none()).collect();
    lost.iter().for_each(|key| changes.note_key(key));
    changes.texts.extend(without(lost.into_iter()));
    let changed = recorded.attributes.iter().filter_map(|(key, was)| {
        // The ledger keeps how long texts begin.
        let text = got(key)??;
        let begins: String = text.chars().take(was.chars().count()).collect();
        let is_whole = was.chars().count() < WHOLE && text.len() != was.len();
        (begins != *was || is_whole)
            .then(|| (key.as_str(), in_place(&format!("`{key}`"), text, was)))
    });
    let changed: Vec<(&str, String)> = changed.collect();
    changed.iter().for_each(|(key, _)| changes.note_key(key));
    changes.texts.extend(few(changed));
    let counts =
        [("events", recorded.events, taken.events), ("links", recorded.links, taken.links)];
    changes.texts.extend(
        counts
            .into_iter()
            .filter(|(_, was, got)| got < was)
            .map(|(what, was, got)| format!("with {got} of its {was} {what}")),
    );
    changes
}

/// Longest text that a service's ledger keeps of an attribute, in characters.
const WHOLE: usize = 64;

fn apart(was: u64, got: u64) -> String {
    let seconds = was.abs_diff(got) as f64 / 1e9;
    format!("{seconds:.6} s {}", if got < was { "earlier" } else { "later" })
}

/// Changes between a span as it was sent and as it was captured, but for its service.
fn of_captured(sent: &SentSpan, span: &Span) -> Changes {
    let mut changes = Changes::default();
    let texts = [
        ("the operation name", &span.name, &sent.name),
        ("the resource name", &span.resource, &sent.resource),
        ("the type", &span.span_type, &sent.span_type),
    ];
    changes.texts.extend(
        texts
            .into_iter()
            .filter(|(_, got, was)| got != was)
            .map(|(what, got, was)| in_place(what, got, was)),
    );
    if span.parent_id != sent.parent_id {
        let parent = |id: Option<SpanId>| {
            id.map_or_else(|| "no parent".to_owned(), |id| format!("the parent {id}"))
        };
        changes.texts.push(format!(
            "below {} in place of {}",
            parent(span.parent_id),
            parent(sent.parent_id)
        ));
    }
    if span.error != sent.error {
        changes.of.status = true;
        changes.texts.push(if sent.error { "without its error" } else { "as an error" }.to_owned());
    }
    if (span.start - sent.start).abs() > CLOCK_TOLERANCE {
        changes.of.times = true;
        changes
            .texts
            .push(format!("with a start that is {}", apart(nanos(sent.start), nanos(span.start))));
    }
    if span.duration != sent.duration {
        let seconds = |nanos: i64| nanos as f64 / 1e9;
        changes.of.times = true;
        changes.texts.push(format!(
            "with a duration of {:.6} s in place of {:.6} s",
            seconds(span.duration),
            seconds(sent.duration)
        ));
    }
    // Of Datadog's own fields, rules of their own judge those that matter.
    let is_own = |key: &&String| key.starts_with('_');
    let kept = |key: &String| span.meta.contains_key(key) || span.metrics.contains_key(key);
    let keys = sent.meta.keys().chain(sent.metrics.keys());
    let lost: Vec<&String> = keys.filter(|key| !is_own(key) && !kept(key)).collect();
    lost.iter().for_each(|key| changes.note_key(key));
    changes.texts.extend(without(lost.into_iter()));
    let meta = text_changes(&sent.meta, &span.meta);
    let metrics = sent.metrics.iter().filter_map(|(key, was)| {
        let got = span.metrics.get(key).filter(|got| *got != was && !is_own(&key))?;
        Some((key.as_str(), in_place(&format!("`{key}`"), &got.to_string(), &was.to_string())))
    });
    let changed: Vec<(&str, String)> = meta.chain(metrics).collect();
    changed.iter().for_each(|(key, _)| changes.note_key(key));
    changes.texts.extend(few(changed));
    changes
}

fn text_changes<'a>(
    was: &'a BTreeMap<String, String>,
    got: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a str, String)> {
    let judged = was.iter().filter(|(key, _)| !key.starts_with('_') && *key != "otel.trace_id");
    judged.filter_map(|(key, was)| {
        let got = got.get(key).filter(|got| *got != was)?;
        Some((key.as_str(), in_place(&format!("`{key}`"), got, was)))
    })
}

/// Names the first of what is lost.
fn without<'a>(keys: impl Iterator<Item = &'a String>) -> Option<String> {
    let keys: Vec<String> = keys.map(|key| format!("`{key}`")).collect();
    let more = keys.len().saturating_sub(NAMED);
    let named = keys.get(..NAMED).unwrap_or(&keys).join(", ");
    match (keys.is_empty(), more) {
        (true, _) => None,
        (_, 0) => Some(format!("without {named}")),
        _ => Some(format!("without {named} and {more} more attributes")),
    }
}

/// Keeps the first changes of attributes, and says how many more there are.
fn few(changes: Vec<(&str, String)>) -> Vec<String> {
    let mut changes: Vec<String> = changes.into_iter().map(|(_, change)| change).collect();
    let more = changes.len().saturating_sub(NAMED);
    if more > 0 {
        changes.truncate(NAMED);
        changes.push(format!("with {more} more attributes changed"));
    }
    changes
}
