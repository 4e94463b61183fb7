//! APM stats: what was captured of them, and whether they say what the captured spans say.
//!
//! Datadog's trace metrics are made from them alone, not from the spans, so a whole trace with wrong stats still shows wrong
//! request and error rates. Pure; when there are enough of them to judge is the runner's business.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    case::Capability,
    expectation::Expect,
    intake::{
        decode::{self, StatsGroup},
        store::Store,
    },
    rule::{self, Failure, Findings, NotEvaluated},
    trace::{PayloadForm, Span, TraceId},
};

/// Name of the expectation.
const EXPECTATION: &str = "stats";
/// Name of the expectation that there will be trace metrics, or not.
const TRACE_METRICS: &str = "trace-metrics";
/// Groups that a message names.
const GROUPS_TOLD: usize = 8;
/// Why there are no stats where spans are sent as OTLP without the header that asks for them.
const NO_TRACE_METRICS: &str = "the spans were sent as OTLP without the header `compute_stats: \"true\"`: there will be no trace metrics in Datadog";

/// What a scenario asks of stats: of all its requests together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsExpect {
    /// What must be in them.
    pub counts: Vec<StatsCount>,
    /// How long they may take to come by themselves before the collector is stopped, which makes it send what it has; no time at
    /// all where it is zero.
    pub within: Duration,
}

/// What the groups that fit must say together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsCount {
    /// Datadog's service; `None` for any.
    pub service: Option<String>,
    /// Datadog's operation name; `None` for any.
    pub name: Option<String>,
    /// Datadog's resource name; `None` for any.
    pub resource: Option<String>,
    /// Span kind; `None` for any.
    pub kind: Option<String>,
    /// Spans counted.
    pub hits: u64,
    /// Those of them with an error; `None` for any number.
    pub errors: Option<u64>,
}

/// What groups of stats are about, as far as spans tell it too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: String,
    name: String,
    resource: String,
    kind: String,
}

/// How many spans, and how many of them with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Numbers {
    hits: u64,
    errors: u64,
}

/// Numbers by what they are about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Group>", into = "Vec<Group>")]
struct Groups(BTreeMap<Key, Numbers>);

/// One of [`Groups`], as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    service: String,
    name: String,
    resource: String,
    kind: String,
    hits: u64,
    errors: u64,
}

impl Groups {
    fn add(&mut self, key: Key, hits: u64, errors: u64) {
        let numbers = self.0.entry(key).or_default();
        numbers.hits += hits;
        numbers.errors += errors;
    }

    fn of(&self, key: &Key) -> Numbers {
        self.0.get(key).copied().unwrap_or_default()
    }
}

impl From<Vec<Group>> for Groups {
    fn from(groups: Vec<Group>) -> Self {
        let mut all = Self::default();
        for Group { service, name, resource, kind, hits, errors } in groups {
            all.add(Key { service, name, resource, kind }, hits, errors);
        }
        all
    }
}

impl From<Groups> for Vec<Group> {
    fn from(groups: Groups) -> Self {
        let groups = groups.0.into_iter();
        groups
            .map(|(Key { service, name, resource, kind }, Numbers { hits, errors })| Group {
                service,
                name,
                resource,
                kind,
                hits,
                errors,
            })
            .collect()
    }
}

/// What is known of a scenario's APM stats when it is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StatsRecord {
    /// The evidence has no payloads, so neither stats.
    #[default]
    NoPayloads,
    /// The scenario does not ask for them.
    NotAsked(Forms),
    /// They were not waited for, since the scenario's traces were wrong already.
    NotReached(Forms),
    /// The collector could not be made to send what it had; [`crate::record::Facts::undone`] says why.
    NotSent(Forms),
    /// All that the collector had was captured.
    Captured(Captured),
}

impl StatsRecord {
    /// In which forms spans came; `None` where the evidence has no payloads.
    fn forms(&self) -> Option<Forms> {
        match self {
            Self::NoPayloads => None,
            Self::NotAsked(forms) | Self::NotReached(forms) | Self::NotSent(forms) => Some(*forms),
            Self::Captured(captured) => Some(captured.forms),
        }
    }
}

/// In which forms the spans of a system came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forms {
    /// Whether some came as OTLP.
    pub otlp: bool,
    /// Whether some came as OTLP for which Datadog was not asked to compute stats.
    pub without_stats: bool,
}

impl Forms {
    /// Looks at all spans of a store.
    pub fn of(store: &Store) -> Self {
        let is_otlp = |span: &Span| span.form == PayloadForm::Otlp;
        let mut spans = store.entries().flat_map(|entry| entry.spans().iter());
        Self { otlp: spans.any(|span| is_otlp(span)), without_stats: lacks_trace_metrics(store) }
    }

    /// Why nothing can be said of stats, where the spans did not come as Datadog's payloads.
    fn came_as_otlp(self) -> Option<String> {
        if self.without_stats {
            return Some(NO_TRACE_METRICS.to_owned());
        }
        self.otlp.then(|| {
            "the spans came as OTLP, of which Datadog computes the stats on its side".to_owned()
        })
    }
}

/// All stats that were captured up to some attempt, and what the spans would count as that were captured up to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    forms: Forms,
    /// What the stats say.
    stats: Groups,
    /// What the spans count as with the exporter's option `compute_stats_by_span_kind`.
    by_kind: Groups,
    /// What they count as without it.
    top_level: Groups,
    /// What those of `by_kind` count as that belong to no request of the scenario, such as sentinels.
    others: Groups,
    /// What the stats say beyond hits and errors.
    #[serde(default)]
    more: Vec<(Group, More)>,
    /// What the spans of `by_kind` say of that.
    #[serde(default)]
    more_by_kind: Vec<(Group, More)>,
    /// What those of `top_level` say of it.
    #[serde(default)]
    more_top_level: Vec<(Group, More)>,
}

/// What a group says beyond hits and errors, and what spans say of that.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct More {
    /// Top-level spans.
    top_level: u64,
    /// All durations together, in nanoseconds.
    duration: u64,
    /// How many have which HTTP status; 0 for none.
    statuses: BTreeMap<u32, u64>,
    /// Environments; empty for none.
    envs: BTreeSet<String>,
    /// When the first span ended, or its bucket began, and when the last one ended, or its bucket was over: nanoseconds.
    times: Option<(u64, u64)>,
}

impl More {
    fn add(&mut self, hits: u64, status: u32, env: &str, (from, until): (u64, u64)) {
        *self.statuses.entry(status).or_default() += hits;
        self.envs.insert(env.to_owned());
        let (first, last) = self.times.unwrap_or((from, until));
        self.times = Some((first.min(from), last.max(until)));
    }

    fn add_span(&mut self, span: &Span) {
        self.top_level += u64::from(span.metrics.get("_top_level") == Some(&1.0));
        self.duration = self.duration.saturating_add(u64::try_from(span.duration).unwrap_or(0));
        let number = span.metrics.get("http.status_code").map(|status| *status as u32);
        let text = || span.meta.get("http.status_code").and_then(|text| text.parse().ok());
        let ended = u64::try_from(span.end()).unwrap_or(0);
        self.add(1, number.or_else(text).unwrap_or(0), &span.env, (ended, ended));
    }

    fn add_group(&mut self, group: &StatsGroup) {
        self.top_level += group.top_level_hits;
        self.duration = self.duration.saturating_add(group.duration);
        let times = (group.start, group.start.saturating_add(group.bucket));
        self.add(group.hits, group.http_status_code, &group.env, times);
    }

    /// What these stats say otherwise than their spans.
    fn otherwise(&self, spans: &Self) -> Vec<String> {
        let mut told = Vec::new();
        if self.top_level != spans.top_level {
            told.push(format!(
                "{} top-level hits, the captured spans {}",
                self.top_level, spans.top_level
            ));
        }
        // Sums of floating numbers, each rounded.
        let apart = self.duration.abs_diff(spans.duration);
        let hits: u64 = spans.statuses.values().sum();
        if apart > hits.saturating_add(spans.duration / 1_000_000) {
            told.push(format!(
                "a duration of {} in all, the captured spans {}",
                millis(self.duration),
                millis(spans.duration)
            ));
        }
        if self.statuses != spans.statuses {
            told.push(format!(
                "the HTTP statuses {}, the captured spans {}",
                statuses(&self.statuses),
                statuses(&spans.statuses)
            ));
        }
        // What has none is counted under a default.
        let all_named = |envs: &BTreeSet<String>| !envs.contains("") && !envs.contains("none");
        if self.envs != spans.envs && all_named(&self.envs) && all_named(&spans.envs) {
            told.push(format!(
                "the env {}, the captured spans {}",
                list(&self.envs),
                list(&spans.envs)
            ));
        }
        if let (Some((began, over)), Some((first, last))) = (self.times, spans.times) {
            let late = over.saturating_add(BUCKET_SLACK) < first;
            if late || last.saturating_add(BUCKET_SLACK) < began {
                told.push(format!(
                    "buckets that are {} from the captured spans' ends",
                    humantime::format_duration(Duration::from_secs(
                        began.abs_diff(first) / 1_000_000_000
                    ))
                ));
            }
        }
        told
    }
}

/// How far a bucket may lie from the ends of its spans: nanoseconds. Spans that come late are counted in a later one.
const BUCKET_SLACK: u64 = 15 * 60 * 1_000_000_000;

fn millis(nanos: u64) -> String {
    format!("{:.3} ms", nanos as f64 / 1e6)
}

fn statuses(statuses: &BTreeMap<u32, u64>) -> String {
    let told = statuses.iter().map(|(status, hits)| match status {
        0 => format!("none on {hits}"),
        status => format!("{status} on {hits}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn list(of: &BTreeSet<String>) -> String {
    of.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
}

/// What is collected of [`More`], by what it is about.
type Mores = BTreeMap<Key, More>;

fn written(mores: Mores) -> Vec<(Group, More)> {
    let group = |Key { service, name, resource, kind }| Group {
        service,
        name,
        resource,
        kind,
        hits: 0,
        errors: 0,
    };
    mores.into_iter().map(|(key, more)| (group(key), more)).collect()
}

impl Captured {
    /// Counts what a store has of the attempts up to number `seq`; `traces` are those of the scenario's own requests.
    pub fn until(store: &Store, seq: u64, traces: &HashSet<TraceId>) -> Self {
        let mut captured = Self { forms: Forms::of(store), ..Self::default() };
        let (mut more, mut more_by_kind, mut more_top_level) = <(Mores, Mores, Mores)>::default();
        for entry in store.entries().filter(|entry| entry.attempt.seq <= seq) {
            for span in entry.spans() {
                let errors = u64::from(span.error);
                if counts(span, true) {
                    captured.by_kind.add(Key::of(span), 1, errors);
                    more_by_kind.entry(Key::of(span)).or_default().add_span(span);
                    if !traces.contains(&span.trace_id) {
                        captured.others.add(Key::of(span), 1, errors);
                    }
                }
                if counts(span, false) {
                    captured.top_level.add(Key::of(span), 1, errors);
                    more_top_level.entry(Key::of(span)).or_default().add_span(span);
                }
            }
            for group in entry.stats.iter().flat_map(|payload| &payload.groups) {
                let key = Key {
                    service: group.service.clone(),
                    name: group.name.clone(),
                    resource: group.resource.clone(),
                    kind: group.span_kind.clone(),
                };
                more.entry(key.clone()).or_default().add_group(group);
                captured.stats.add(key, group.hits, group.errors);
            }
        }
        captured.more = written(more);
        captured.more_by_kind = written(more_by_kind);
        captured.more_top_level = written(more_top_level);
        captured
    }
}

/// Whether a store has spans of which Datadog would make no trace metrics: sent as OTLP, and not asked to.
pub fn lacks_trace_metrics(store: &Store) -> bool {
    store.entries().any(|entry| {
        entry.spans().first().is_some_and(|span| span.form == PayloadForm::Otlp)
            && !decode::computes_stats(&entry.attempt)
    })
}

/// Judges all that a record holds of stats.
pub fn judge(
    record: &StatsRecord,
    expect: &Expect,
    capabilities: &[Capability],
    tolerated: impl Fn(&str) -> bool,
) -> Findings {
    let mut findings = judge_trace_metrics(expect.trace_metrics, record.forms());
    let told = match (record, &expect.stats) {
        (StatsRecord::NoPayloads, asked) => Some(unseen(asked.is_some())),
        // What could not be sent is told among what could not be done.
        (StatsRecord::NotSent(_), _) => None,
        (StatsRecord::NotReached(_), _) => Some(not_reached()),
        (StatsRecord::Captured(captured), Some(expect)) => {
            let found = judge_captured(expect, captured, capabilities, tolerated);
            findings.failures.extend(found.failures);
            findings.not_evaluated.extend(found.not_evaluated);
            None
        }
        (StatsRecord::NotAsked(forms), _) => Some(not_asked(*forms)),
        (StatsRecord::Captured(captured), None) => Some(not_asked(captured.forms)),
    };
    findings.not_evaluated.extend(told);
    findings
}

/// Judges whether Datadog will make trace metrics of the spans, as a scenario expects it; `forms` is `None` where the evidence has no
/// payloads.
fn judge_trace_metrics(expected: Option<bool>, forms: Option<Forms>) -> Findings {
    let mut findings = Findings::default();
    let Some(expected) = expected else { return findings };
    let mut fail = |detail: String| findings.failures.push(Failure::new(TRACE_METRICS, detail));
    let because = match forms {
        None => format!("the evidence does not give {}", Capability::RawPayloads.name()),
        Some(Forms { otlp: false, .. }) => {
            "no span came as OTLP; of Datadog's own payloads, `stats` tells what metrics there will be".to_owned()
        }
        Some(Forms { otlp: true, without_stats }) => {
            match (expected, without_stats) {
                (true, true) => fail(no_trace_metrics_warning()),
                (false, false) => fail(
                    "there should be none, but every span was sent with the header `compute_stats: \"true\"`".to_owned(),
                ),
                _ => {}
            }
            return findings;
        }
    };
    findings.not_evaluated.push(NotEvaluated {
        rule: TRACE_METRICS.to_owned(),
        because,
        required: true,
    });
    findings
}

/// What to tell of a store for which [`lacks_trace_metrics`] holds.
pub fn no_trace_metrics_warning() -> String {
    format!("{NO_TRACE_METRICS}; set it under the exporter's `headers`")
}

/// Whether the reference's concentrator counts a span: it is top-level, or measured, or of a kind that crosses services.
fn counts(span: &Span, by_kind: bool) -> bool {
    let is_one = |key: &str| span.metrics.get(key) == Some(&1.0);
    let is_partial = span.metrics.get("_dd.partial_version").is_some_and(|version| *version >= 0.0);
    let crosses = matches!(
        span.kind().to_ascii_lowercase().as_str(),
        "server" | "client" | "producer" | "consumer"
    );
    !is_partial && (is_one("_top_level") || is_one("_dd.measured") || (by_kind && crosses))
}

impl Key {
    fn of(span: &Span) -> Self {
        Self {
            service: span.service.clone(),
            name: span.name.clone(),
            resource: span.resource.clone(),
            kind: span.kind().to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ({})", self.service, self.kind, self.resource, self.name)
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hits, {} errors", self.hits, self.errors)
    }
}

impl StatsCount {
    fn is_about(&self, key: &Key) -> bool {
        let fits =
            |wanted: &Option<String>, got: &String| wanted.as_ref().is_none_or(|one| one == got);
        fits(&self.service, &key.service)
            && fits(&self.name, &key.name)
            && fits(&self.resource, &key.resource)
            && fits(&self.kind, &key.kind)
    }

    fn sum(&self, groups: &Groups) -> Numbers {
        let fitting = groups.0.iter().filter(|(key, _)| self.is_about(key));
        fitting.fold(Numbers::default(), |sum, (_, one)| Numbers {
            hits: sum.hits + one.hits,
            errors: sum.errors + one.errors,
        })
    }

    fn describe(&self) -> String {
        let words = [&self.service, &self.kind, &self.resource, &self.name];
        let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
        if words.is_empty() { "any".to_owned() } else { words.join(" ") }
    }
}

/// Judges the stats of a scenario that asks for them.
fn judge_captured(
    expect: &StatsExpect,
    captured: &Captured,
    capabilities: &[Capability],
    tolerated: impl Fn(&str) -> bool,
) -> Findings {
    let mut findings = rule::check_stats(captured, capabilities, tolerated);
    match captured.forms.came_as_otlp() {
        Some(because) if captured.forms.without_stats => {
            findings.failures.push(Failure::new(EXPECTATION, because));
        }
        Some(because) => findings.not_evaluated.push(NotEvaluated {
            rule: EXPECTATION.to_owned(),
            because,
            required: true,
        }),
        None if !capabilities.contains(&Capability::Stats) => {
            findings.not_evaluated.push(NotEvaluated {
                rule: EXPECTATION.to_owned(),
                because: format!("the evidence does not give {}", Capability::Stats.name()),
                required: true,
            });
        }
        None => {
            let failures = expect.counts.iter().filter_map(|count| missed(count, captured));
            findings.failures.extend(failures);
        }
    }
    findings
}

/// Whether everything that a scenario asks of stats is there.
pub fn is_whole(expect: &StatsExpect, captured: &Captured) -> bool {
    captured.forms.came_as_otlp().is_some()
        || expect.counts.iter().all(|count| missed(count, captured).is_none())
}

fn missed(count: &StatsCount, captured: &Captured) -> Option<Failure> {
    // What the harness sent besides, such as its sentinels, is in the stats as well.
    let (all, others) = (count.sum(&captured.stats), count.sum(&captured.others));
    let found = Numbers {
        hits: all.hits.saturating_sub(others.hits),
        errors: all.errors.saturating_sub(others.errors),
    };
    if found.hits == count.hits && count.errors.is_none_or(|errors| errors == found.errors) {
        return None;
    }
    let wanted = match count.errors {
        Some(errors) => Numbers { hits: count.hits, errors }.to_string(),
        None => format!("{} hits", count.hits),
    };
    let told = match captured.stats.0.is_empty() {
        true => "no APM stats were captured at all".to_owned(),
        false => format!("captured were {}", told(&captured.stats.0)),
    };
    let detail = format!("`{}` should have {wanted}, has {found}; {told}", count.describe());
    Some(Failure::new(EXPECTATION, detail))
}

fn told(groups: &BTreeMap<Key, Numbers>) -> String {
    let mut told: Vec<String> =
        groups.iter().take(GROUPS_TOLD).map(|(key, numbers)| format!("{key}: {numbers}")).collect();
    if groups.len() > GROUPS_TOLD {
        told.push(format!("and {} more groups", groups.len() - GROUPS_TOLD));
    }
    told.join("; ")
}

/// Why the rules about stats are not evaluated for a scenario that does not ask for any.
fn not_asked(forms: Forms) -> NotEvaluated {
    let because = forms.came_as_otlp().unwrap_or_else(|| {
        "the scenario does not ask for APM stats (`expect.stats`), so they are not waited for"
            .to_owned()
    });
    NotEvaluated { rule: DISAGREE.to_owned(), because, required: false }
}

/// What is told of a scenario's stats where the evidence has none.
fn unseen(asked: bool) -> NotEvaluated {
    let rule = if asked { EXPECTATION } else { DISAGREE }.to_owned();
    let because = format!("the evidence does not give {}", Capability::Stats.name());
    NotEvaluated { rule, because, required: asked }
}

/// What is told of a scenario whose stats were asked for and not looked at, since its traces were wrong already.
fn not_reached() -> NotEvaluated {
    let because = "the scenario's traces are not as they should be".to_owned();
    NotEvaluated { rule: EXPECTATION.to_owned(), because, required: true }
}

/// Name of the rule.
pub(crate) const DISAGREE: &str = "stats-disagree";

/// The rule `stats-disagree`: each group says what the captured spans say, whichever way the exporter is told to count.
pub(crate) fn disagree(captured: &Captured) -> Result<Vec<String>, String> {
    if let Some(because) = captured.forms.came_as_otlp() {
        return Err(because);
    }
    let Captured { stats, by_kind, top_level, more, more_by_kind, more_top_level, .. } = captured;
    // What both count alike can be compared further.
    if stats == by_kind {
        return Ok(disagree_further(more, more_by_kind));
    }
    if !stats.0.is_empty() && stats == top_level {
        return Ok(disagree_further(more, more_top_level));
    }
    let keys: BTreeSet<&Key> = stats.0.keys().chain(by_kind.0.keys()).collect();
    let found = keys.into_iter().filter_map(|key| {
        let (stats, spans) = (stats.of(key), by_kind.of(key));
        (stats != spans)
            .then(|| format!("{key}: the stats say {stats}, the captured spans {spans}"))
    });
    Ok(found.collect())
}

/// What groups say beyond hits and errors that spans say otherwise. A run that was saved without it says nothing.
fn disagree_further(stats: &[(Group, More)], spans: &[(Group, More)]) -> Vec<String> {
    let pairs = stats.iter().filter_map(|(group, more)| {
        let (_, of_spans) = spans.iter().find(|(other, _)| other == group)?;
        Some((group, more.otherwise(of_spans)))
    });
    let told = pairs.flat_map(|(group, otherwise)| {
        let Group { service, kind, resource, name, .. } = group;
        let about = format!("{service} {kind} {resource} ({name})");
        otherwise.into_iter().map(move |one| format!("{about}: the stats say {one}"))
    });
    told.collect()
}

#[cfg(test)]
mod tests;
