//! All that was found so far, grouped by cause.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Difference, Example, Kind,
    cases::Both,
    chunk,
    field::{self, Field},
    meaning,
    place::{self, Part},
    value::{self, Change},
};
use crate::{
    record::CaseRecord,
    stats::Key,
    trace::{Span, SpanId, TraceId},
};

/// Most examples of a cause.
const MAX_EXAMPLES: usize = 5;
/// Most pairs of values of one field that are causes of their own.
const MAX_PAIRS: usize = 20;
/// Most characters of a value in an example: Datadog's own limit of a meta value.
const MAX_VALUE: usize = 25_000;

/// A place in both runs.
pub(super) struct Found<'a> {
    pub(super) scenario: &'a str,
    pub(super) request: usize,
    pub(super) traces: [TraceId; 2],
}

/// Differences with the same cause are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    kind: Kind,
    field: String,
    change: Option<Change>,
}

/// All that was found of a cause.
#[derive(Debug, Default)]
struct Group {
    count: usize,
    scenarios: BTreeSet<String>,
    examples: Vec<Example>,
    stats_that_follow: usize,
    /// For what is missing and added: whether its key, in meta or metrics, is this; with how many of the spans.
    elsewhere: BTreeMap<String, usize>,
}

/// A value that is another one, until it is known whether it is another one in every repetition.
#[derive(Debug)]
struct Candidate {
    a: String,
    b: String,
    example: Example,
}

/// The place of a field in a scenario's repetitions: request, place in the tree, field.
type TracePlace = (usize, usize, String);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    causes: BTreeMap<Cause, Group>,
    pairs_of: HashMap<String, usize>,
    candidates: BTreeMap<TracePlace, Vec<Candidate>>,
    varying: BTreeSet<String>,
    pairs: usize,
    left_out: usize,
    /// Names in B of A's groups of APM stats, by the spans that they count.
    renamed_stats: BTreeMap<Key, BTreeMap<Key, Option<Cause>>>,
}

impl Book {
    /// Fields that are not compared, since each repetition has another value.
    pub(super) fn varying(&self) -> &BTreeSet<String> {
        &self.varying
    }

    /// Says what is not compared as the runs were sent in different forms.
    pub(super) fn note_of_forms(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            "the runs were sent in different forms, one as OTLP, of which Datadog makes its own fields on its side: names, resources \
             and types are compared as Datadog documents them, fields that begin with `_` and the language are not compared"
                .to_owned()
        })
    }

    pub(super) fn add_verdict(
        &mut self,
        scenario: &str,
        a: &str,
        b: &str,
        (of_a, of_b): (String, String),
    ) {
        let change = Change::Into(a.to_owned(), b.to_owned());
        let example = Example {
            scenario: scenario.to_owned(),
            place: "the scenario".to_owned(),
            a: Some(bounded(&of_a)),
            b: Some(bounded(&of_b)),
            ..Example::default()
        };
        self.add(cause(Kind::Verdict, "verdict", Some(change)), example);
    }

    /// Adds a request that was answered otherwise.
    pub(super) fn add_answer(&mut self, scenario: &str, (a, b): Both<'_>) {
        let [of_a, of_b] = [a, b].map(|of| of.case.outcome.describe());
        let change = Change::Into(of_a.clone(), of_b.clone());
        let example = Example {
            scenario: scenario.to_owned(),
            place: format!("request {}", a.case.request + 1),
            trace_a: Some(a.case.trace_id),
            trace_b: Some(b.case.trace_id),
            a: Some(bounded(&of_a)),
            b: Some(bounded(&of_b)),
        };
        self.add(cause(Kind::Answer, "answer", Some(change)), example);
    }

    /// Compares the spans of a request.
    pub(super) fn add_trace(&mut self, found: &Found<'_>, a: &[Part<'_>], b: &[Part<'_>]) {
        let pairing = place::pair(a, b);
        self.pairs += pairing.pairs.len();
        let companies_a = chunk::companies(pairing.pairs.iter().map(|pair| a[pair.a].span));
        let companies_b = chunk::companies(pairing.pairs.iter().map(|pair| b[pair.b].span));
        for (number, pair) in pairing.pairs.iter().enumerate() {
            let (one, other) = (a[pair.a].span, b[pair.b].span);
            if let Some((above_a, above_b)) = &pair.moved {
                let example = example(found, one, Some(above_a.clone()), Some(above_b.clone()));
                let way = Change::Way(above_b.clone());
                let way = if above_b.starts_with("below `") {
                    Change::Way("elsewhere".to_owned())
                } else {
                    way
                };
                self.add(cause(Kind::Moved, &one.service, Some(way)), example);
            }
            let is_cut_alike = companies_a.get(number) == companies_b.get(number);
            self.add_pair(found, number, (one, other), is_cut_alike);
        }
        for number in &pairing.only_a {
            let span = a[*number].span;
            let example = example(found, span, Some(place::describe(span)), None);
            self.add(cause(Kind::SpanMissing, &of_span(span), None), example);
        }
        let matched: HashSet<SpanId> = match pairing.only_b.as_slice() {
            [] => HashSet::new(),
            _ => pairing.pairs.iter().map(|pair| b[pair.b].span.id).collect(),
        };
        for number in &pairing.only_b {
            let span = b[*number].span;
            let is_twice = matched.contains(&span.id);
            let change = is_twice.then(|| Change::Way("twice".to_owned()));
            let example = example(found, span, None, Some(place::describe(span)));
            self.add(cause(Kind::SpanAdded, &of_span(span), change), example);
        }
    }

    fn add_pair(
        &mut self,
        found: &Found<'_>,
        number: usize,
        (one, other): (&Span, &Span),
        is_cut_alike: bool,
    ) {
        let (mut missing, mut added, mut of_key) = (Vec::new(), Vec::new(), None);
        let left_out = field::differing(one, other, |field| {
            let Field { name, key, a, b } = field;
            if !is_cut_alike && chunk::hangs_on_the_cut(key) {
                return;
            }
            match (a, b) {
                (Some(a), Some(b)) => {
                    let [steady_a, steady_b] = [&a, &b].map(|text| value::steady(key, text));
                    if steady_a == steady_b {
                        return;
                    }
                    let example = example(found, one, Some(bounded(&a)), Some(bounded(&b)));
                    match value::change(&steady_a, &steady_b) {
                        change @ Change::Way(_) => {
                            let cause = cause(Kind::Value, &name, Some(change));
                            if matches!(key, "service" | "name" | "resource" | "span.kind") {
                                of_key.get_or_insert_with(|| cause.clone());
                            }
                            self.add(cause, example);
                        }
                        _ => {
                            if matches!(key, "service" | "name" | "resource" | "span.kind") {
                                let change = Change::Into(steady_a.clone(), steady_b.clone());
                                of_key
                                    .get_or_insert_with(|| cause(Kind::Value, &name, Some(change)));
                            }
                            let place = (found.request, number, name);
                            let candidate = Candidate { a: steady_a, b: steady_b, example };
                            self.candidates.entry(place).or_default().push(candidate);
                        }
                    }
                }
                (Some(a), None) => missing.push((name, a)),
                (None, Some(b)) => added.push((name, b)),
                (None, None) => {}
            }
        });
        self.left_out += left_out;
        let same = |value: &str, others: &[(String, String)]| -> Vec<String> {
            let others = others.iter().filter(|(_, other)| value == other);
            others.map(|(name, _)| name.clone()).collect()
        };
        for (kind, these, others) in
            [(Kind::FieldMissing, &missing, &added), (Kind::FieldAdded, &added, &missing)]
        {
            for (name, value) in these {
                let shown = Some(bounded(value));
                let (a, b) = if kind == Kind::FieldMissing { (shown, None) } else { (None, shown) };
                let group = self.add(cause(kind, name, None), example(found, one, a, b));
                for elsewhere in same(value, others) {
                    *group.elsewhere.entry(elsewhere).or_default() += 1;
                }
            }
        }
        let [a, b] = [one, other].map(Key::of);
        self.renamed_stats.entry(a).or_default().entry(b).or_insert(of_key);
    }

    /// Decides on what was found of a scenario: a value that is another one in every repetition of both runs says nothing.
    pub(super) fn close_scenario(&mut self, cases: &[CaseRecord]) {
        for ((request, _, name), candidates) in std::mem::take(&mut self.candidates) {
            let repetitions = cases.iter().filter(|of| of.case.request == request).count();
            let distinct = |side: fn(&Candidate) -> &String| {
                candidates.iter().map(side).collect::<BTreeSet<_>>().len() == repetitions
            };
            let is_key = matches!(name.as_str(), "service" | "name" | "resource" | "env" | "type");
            if repetitions > 2 && !is_key && distinct(|one| &one.a) && distinct(|one| &one.b) {
                self.varying.insert(name);
                continue;
            }
            for Candidate { a, b, example } in candidates {
                let change = match value::change(&a, &b) {
                    Change::Into(..) if !self.is_listed(&name, &a, &b) => Change::Other,
                    change => change,
                };
                self.add(cause(Kind::Value, &name, Some(change)), example);
            }
        }
    }

    /// Returns whether a pair of values is a cause of its own.
    fn is_listed(&mut self, name: &str, a: &str, b: &str) -> bool {
        let change = Change::Into(a.to_owned(), b.to_owned());
        if self.causes.contains_key(&cause(Kind::Value, name, Some(change))) {
            return true;
        }
        let pairs = self.pairs_of.entry(name.to_owned()).or_default();
        *pairs += 1;
        *pairs <= MAX_PAIRS
    }

    /// Adds groups of APM stats that differ, which no other difference explains.
    pub(super) fn add_stats(&mut self, service: &str, way: &str, example: Example) {
        self.add(cause(Kind::Stats, service, Some(Change::Way(way.to_owned()))), example);
    }

    /// The key that a group of APM stats has in B, where all spans that it counts are called the same there.
    pub(super) fn key_in_b(&self, key: &Key) -> Option<&Key> {
        let mut keys = self.renamed_stats.get(key)?.keys();
        keys.next().filter(|_| keys.next().is_none())
    }

    /// Counts a group of APM stats whose other key follows from the names of the spans that it counts.
    pub(super) fn stats_follow(&mut self, a: &Key, b: &Key) {
        let cause = self.renamed_stats.get(a).and_then(|of| of.get(b)).cloned().flatten();
        if let Some(group) = cause.and_then(|cause| self.causes.get_mut(&cause)) {
            group.stats_that_follow += 1;
        }
    }

    fn add(&mut self, cause: Cause, example: Example) -> &mut Group {
        let group = self.causes.entry(cause).or_default();
        group.count += 1;
        if !group.scenarios.contains(&example.scenario) {
            group.scenarios.insert(example.scenario.clone());
        }
        if group.examples.len() < MAX_EXAMPLES {
            group.examples.push(example);
        }
        group
    }

    /// Returns all differences, those that matter most first, and how many spans were matched.
    pub(super) fn close(mut self) -> (Vec<Difference>, usize) {
        self.join_renamed();
        let differences = self.causes.into_iter().map(|(cause, group)| {
            let key = cause.field.split_once('.').map_or(cause.field.as_str(), |(prefix, key)| {
                if matches!(prefix, "meta" | "metrics") { key } else { &cause.field }
            });
            let key = key.split(" → ").next().unwrap_or(key).to_owned();
            let (impact, meaning) = meaning::of(cause.kind, &key);
            Difference {
                title: title(&cause),
                kind: cause.kind,
                field: cause.field,
                impact,
                meaning: meaning.to_owned(),
                count: group.count,
                scenarios: group.scenarios,
                examples: group.examples,
                stats_that_follow: group.stats_that_follow,
            }
        });
        let mut differences: Vec<_> = differences.collect();
        differences.sort_by(|one, other| {
            let rank = |one: &Difference| (one.impact, std::cmp::Reverse(one.count), one.kind);
            rank(one).cmp(&rank(other)).then_with(|| one.title.cmp(&other.title))
        });
        (differences, self.pairs)
    }

    /// Makes one cause of a key that is gone and of another one that has its values, where that holds of all their spans and of no
    /// other key.
    fn join_renamed(&mut self) {
        let groups = |kind: Kind| self.causes.iter().filter(move |(cause, _)| cause.kind == kind);
        let mut renamed = Vec::new();
        for (cause, group) in groups(Kind::FieldMissing) {
            let mut all = group.elsewhere.iter().filter(|(_, count)| **count == group.count);
            let (Some((to, _)), None) = (all.next(), all.next()) else { continue };
            let Some((_, of)) = groups(Kind::FieldAdded).find(|(other, _)| other.field == *to)
            else {
                continue;
            };
            let is_only = of.elsewhere.values().filter(|count| **count == of.count).count() == 1;
            if of.count == group.count && is_only {
                renamed.push((cause.field.clone(), to.clone()));
            }
        }
        for (from, to) in renamed {
            let group = self.causes.remove(&cause(Kind::FieldMissing, &from, None));
            let of = self.causes.remove(&cause(Kind::FieldAdded, &to, None));
            let (Some(mut group), Some(of)) = (group, of) else { continue };
            for (example, of) in group.examples.iter_mut().zip(of.examples) {
                example.b = of.b;
            }
            let is_retyped = key_of(&from) == key_of(&to);
            let kind = if is_retyped { Kind::Retyped } else { Kind::Renamed };
            self.causes.insert(cause(kind, &format!("{from} → {to}"), None), group);
        }
    }
}

fn key_of(field: &str) -> &str {
    field.split_once('.').map_or(field, |(_, key)| key)
}

fn cause(kind: Kind, field: &str, change: Option<Change>) -> Cause {
    Cause { kind, field: field.to_owned(), change }
}

/// The kind of span that is missing, or came in addition.
fn of_span(span: &Span) -> String {
    let kind = if span.kind().is_empty() { String::new() } else { format!("{} ", span.kind()) };
    format!("{kind}span `{}` of `{}`", span.name, span.service)
}

fn example(found: &Found<'_>, span: &Span, a: Option<String>, b: Option<String>) -> Example {
    Example {
        scenario: found.scenario.to_owned(),
        place: bounded(&place::describe(span)),
        trace_a: Some(found.traces[0]),
        trace_b: Some(found.traces[1]),
        a,
        b,
    }
}

/// A text without what is beyond the limit, which is counted at its end.
fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        None => text.to_owned(),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{}… ({more} more characters are left out)", &text[..end])
        }
    }
}

/// The cause in words.
fn title(Cause { kind, field, change }: &Cause) -> String {
    let name = key_of_meta(field);
    match (kind, change) {
        (Kind::Verdict, Some(Change::Into(a, b))) => format!("verdict {a} in A, {b} in B"),
        (Kind::Answer, Some(Change::Into(a, b))) => format!("answered with {b} in B, not {a}"),
        (Kind::SpanMissing, _) => format!("no {field} in B"),
        (Kind::SpanAdded, Some(_)) => format!("{field} more than once in B"),
        (Kind::SpanAdded, None) => format!("{field} in B only"),
        (Kind::Moved, Some(Change::Way(way))) => format!("spans of `{field}` {way} in B"),
        (Kind::FieldMissing, _) => format!("`{name}` missing in B"),
        (Kind::FieldAdded, _) => format!("`{name}` in B only"),
        (Kind::Renamed, _) => match field.split_once(" → ") {
            Some((from, to)) => format!("`{}` is `{}` in B", key_of_meta(from), key_of_meta(to)),
            None => format!("`{name}` has another name in B"),
        },
        (Kind::Retyped, _) => {
            let is = if field.starts_with("meta.") { "a number" } else { "a text" };
            let name = field.split(" → ").next().unwrap_or(field);
            format!("`{}` is {is} in B", key_of_meta(name))
        }
        (Kind::Stats, Some(Change::Way(way))) => format!("APM stats of `{field}`: {way}"),
        (_, Some(Change::Way(way))) => format!("`{name}` {way} in B"),
        (_, Some(Change::Into(a, b))) => format!("`{name}` is `{b}` in B, not `{a}`"),
        _ => format!("`{name}` has other values in B"),
    }
}

fn key_of_meta(field: &str) -> &str {
    field.strip_prefix("meta.").or_else(|| field.strip_prefix("metrics.")).unwrap_or(field)
}
