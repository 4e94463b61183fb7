//! Two saved runs of the same scenarios, compared by what Datadog would get: span by span, field by field, and by APM stats.
//!
//! Spans are matched by their place in the tree (`place`), since ids and times are never the same twice. What differs is grouped by cause
//! (`book`), and each cause says what it means in Datadog (`meaning`). Plain data in, plain data out: it reads two runs, and renders
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

pub use self::meaning::Impact;
use self::{
    book::{Book, Found},
    place::Part,
};
use crate::{
    case::Stray,
    judge::judge,
    record::{CaseRecord, Record},
    saved::{SavedError, SavedSystem},
    trace::{PayloadForm, TraceId},
    verdict::ScenarioResult,
};

mod book;
mod cases;
mod chunk;
mod field;
mod meaning;
mod place;
mod stats;
#[cfg(test)]
mod tests;
mod value;

/// Version of the form of a [`Comparison`] in JSON.
pub const SCHEMA: u32 = 1;

/// Error for two runs that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// One of the runs cannot be read.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// The runs have no scenario in common.
    #[error(
        "the two runs have no scenario in common: A has {a}, B has {b}; compare two runs of the same scenarios"
    )]
    NothingInCommon {
        /// The scenarios of the first, in words.
        a: String,
        /// The scenarios of the second, in words.
        b: String,
    },
}

/// Differences between two runs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// Version of this form; a reader should refuse one that it does not know.
    pub schema: u32,
    /// Outcome, as far as the runs could be compared.
    pub outcome: Outcome,
    /// The first run.
    pub a: Side,
    /// The second run.
    pub b: Side,
    /// Number of scenarios that both runs have.
    pub scenarios: usize,
    /// Number of pairs of matched spans.
    pub pairs: usize,
    /// All differences by cause, those that matter most first.
    pub differences: Vec<Difference>,
    /// Parts that could not be compared, with the reasons.
    pub undecided: Vec<String>,
    /// Further facts that a reader should know, such as what is not compared.
    pub notes: Vec<String>,
}

/// Outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything was compared, and nothing differs.
    Equal,
    /// Nothing that was compared differs, and something could not be compared.
    Undecided,
    /// Something differs.
    Different,
}

impl Outcome {
    /// Returns the name as used in reports, for example `equal`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Undecided => "undecided",
            Self::Different => "different",
        }
    }
}

/// One of the two runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct Side {
    /// Its name, for people.
    pub name: String,
    /// Traces of requests that both have.
    pub traces: usize,
    /// Spans in them.
    pub spans: usize,
    /// Forms in which the spans were sent, for people.
    pub forms: BTreeSet<String>,
}

/// Everything that differs for one cause.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// The cause in words, without counts: `` `http.url` without query in B ``.
    pub title: String,
    /// Kind of the difference.
    pub kind: Kind,
    /// The field, as `resource` or `meta.http.url`; for spans and APM stats the service.
    pub field: String,
    /// Importance of the difference in Datadog.
    pub impact: Impact,
    /// Its consequences in Datadog.
    pub meaning: String,
    /// Number of spans, or of groups of APM stats, that differ so.
    pub count: usize,
    /// The scenarios in which it was found.
    pub scenarios: BTreeSet<String>,
    /// Some of the places, the first ones found.
    pub examples: Vec<Example>,
    /// Groups of APM stats whose difference follows from this one.
    #[serde(skip_serializing_if = "is_zero")]
    pub stats_that_follow: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The verdict of a scenario is another.
    Verdict,
    /// Requests are answered otherwise.
    Answer,
    /// Spans of A are not in B.
    SpanMissing,
    /// Spans of B are not in A.
    SpanAdded,
    /// Spans hang elsewhere in the tree.
    Moved,
    /// A field has another value.
    Value,
    /// A field of A is not in B.
    FieldMissing,
    /// A field of B is not in A.
    FieldAdded,
    /// A field has another name.
    Renamed,
    /// A value is a number in one run, and a text in the other.
    Retyped,
    /// Groups of APM stats differ.
    Stats,
}

/// A place where a difference was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct Example {
    /// The scenario.
    pub scenario: String,
    /// The span, or group of APM stats, in words.
    pub place: String,
    /// The trace in the first run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9a-f]{32}$"))]
    pub trace_a: Option<TraceId>,
    /// The trace in the second run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9a-f]{32}$"))]
    pub trace_b: Option<TraceId>,
    /// The value in the first run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<String>,
    /// The value in the second run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<String>,
}

/// A run to compare: its name for people, and its systems.
pub type Saved<'a> = (&'a str, &'a [SavedSystem]);

/// Compares two saved runs.
///
/// # Errors
///
/// When they have no scenario in common, or what was captured cannot be read.
pub fn compare(a: Saved<'_>, b: Saved<'_>) -> Result<Comparison, CompareError> {
    let [records_a, records_b] = [a.1, b.1].map(by_name);
    let mut all = Comparison {
        schema: SCHEMA,
        outcome: Outcome::Equal,
        a: Side { name: a.0.to_owned(), ..Side::default() },
        b: Side { name: b.0.to_owned(), ..Side::default() },
        scenarios: 0,
        pairs: 0,
        differences: Vec::new(),
        undecided: Vec::new(),
        notes: Vec::new(),
    };
    let mut book = Book::default();
    for (name, of_a) in &records_a {
        match records_b.get(name) {
            Some(of_b) => {
                all.scenarios += 1;
                scenario(&mut all, &mut book, of_a, of_b);
            }
            None => all.undecided.push(format!("scenario `{name}` is in A only")),
        }
    }
    for name in records_b.keys().filter(|name| !records_a.contains_key(*name)) {
        all.undecided.push(format!("scenario `{name}` is in B only"));
    }
    if all.scenarios == 0 {
        let [a, b] = [&records_a, &records_b].map(|records| listed(records.keys()));
        return Err(CompareError::NothingInCommon { a, b });
    }
    if !book.varying().is_empty() {
        all.notes.push(format!(
            "not compared, since each repetition of a request has another value in both runs: {}",
            book.varying().iter().cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    all.notes.extend(book.note_of_forms());
    // A scenario that only one of them has counts in the stats of the other alone.
    let is_same_work = all.undecided.is_empty();
    stats::compare(a.1, b.1, is_same_work, &mut book, &mut all.undecided)?;
    (all.differences, all.pairs) = book.close();
    all.outcome = match (all.differences.is_empty(), all.undecided.is_empty()) {
        (false, _) => Outcome::Different,
        (true, false) => Outcome::Undecided,
        (true, true) => Outcome::Equal,
    };
    Ok(all)
}

fn by_name(systems: &[SavedSystem]) -> BTreeMap<&str, &Record> {
    let records = systems.iter().flat_map(SavedSystem::records);
    records.map(|record| (record.scenario.name.as_str(), record)).collect()
}

/// Most names that a message lists.
const LISTED: usize = 5;

fn listed<'a, Name: AsRef<str> + 'a>(names: impl ExactSizeIterator<Item = &'a Name>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut listed: Vec<String> =
        names.take(LISTED).map(|name| format!("`{}`", name.as_ref())).collect();
    if more > 0 {
        listed.push(format!("{more} more"));
    }
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

/// Compares a scenario that both runs have.
fn scenario(all: &mut Comparison, book: &mut Book, a: &Record, b: &Record) {
    let name = &a.scenario.name;
    if a.scenario.requests != b.scenario.requests || a.scenario.faults != b.scenario.faults {
        all.undecided.push(format!(
            "scenario `{name}` is not the same in both: its requests or faults were changed between the runs"
        ));
        return;
    }
    let [verdict_a, verdict_b] = [a, b].map(judge);
    if verdict_a.verdict != verdict_b.verdict {
        let [of_a, of_b] = [&verdict_a, &verdict_b].map(in_words);
        book.add_verdict(name, verdict_a.verdict.name(), verdict_b.verdict.name(), (of_a, of_b));
    }
    let matched = cases::matched(a, b);
    for (of_a, of_b) in matched.alike {
        let parts = [(a, of_a), (b, of_b)].map(|(record, of)| parts(record, of));
        for (side, parts) in [&mut all.a, &mut all.b].into_iter().zip(&parts) {
            side.traces += usize::from(!parts.is_empty());
            side.spans += parts.len();
            side.forms.extend(parts.iter().map(|part| form(part.span.form).to_owned()));
        }
        let found = Found {
            scenario: name,
            request: of_a.case.request,
            traces: [of_a.case.trace_id, of_b.case.trace_id],
        };
        book.add_trace(&found, &parts[0], &parts[1]);
    }
    book.close_scenario(&a.cases);
    let otherwise = matched.otherwise.len();
    if otherwise > 0 && cases::is_random(a) {
        all.undecided.push(format!(
            "{otherwise} requests of scenario `{name}` were struck by its fault in one of the runs only, so their spans were not compared"
        ));
    } else {
        for both in matched.otherwise {
            book.add_answer(name, both);
        }
    }
    if matched.single > 0 {
        all.undecided.push(format!(
            "{} requests of scenario `{name}` were sent in one of the runs only",
            matched.single
        ));
    }
}

/// The spans of a request: those of its trace, and those of traces that should be part of it.
fn parts<'a>(record: &'a Record, of: &'a CaseRecord) -> Vec<Part<'a>> {
    let is_virtual =
        |id| of.case.context_sent && !of.case.driver_exported && id == of.case.driver_span;
    let own = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
    let own = own.map(|span| Part {
        span,
        is_apart: false,
        below_driver: span.parent_id.is_some_and(is_virtual),
    });
    let belongs = |stray: &&Stray| stray.origin.owner() == Some(of.case.trace_id);
    let strays = record.strays.iter().filter(belongs).flat_map(|stray| &stray.trace.spans);
    own.chain(strays.map(|span| Part { span, is_apart: true, below_driver: false })).collect()
}

fn form(form: PayloadForm) -> &'static str {
    match form {
        PayloadForm::Datadog => "Datadog's payloads",
        PayloadForm::Otlp => "OTLP",
        PayloadForm::Api => "Datadog's API",
    }
}

/// A verdict with its first reason.
fn in_words(result: &ScenarioResult) -> String {
    let of_cases = result.cases.iter().flat_map(|case| &case.findings.failures);
    let first = result.failures.iter().chain(of_cases).next();
    let first = first.map(|failure| format!("{}: {}", failure.rule, failure.detail));
    let reason = first.or_else(|| result.reasons().into_iter().next());
    match reason {
        Some(reason) => format!("{}: {reason}", result.verdict.name()),
        None => result.verdict.name().to_owned(),
    }
}
