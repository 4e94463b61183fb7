//! APM stats: what a scenario asks of them, what was captured of them, and what the captured spans would count as.
//!
//! Datadog's trace metrics are made from them alone, not from the spans, so a whole trace with wrong stats still shows wrong
//! request and error rates. Plain data: the rule `stats-disagree` compares them, and `judge` checks what the scenario asks for.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    intake::{
        decode::{self, StatsGroup},
        store::Store,
    },
    trace::{PayloadForm, Span, TraceId},
};

/// The reason why there are no stats for spans that are sent as OTLP without the header that requests them.
const NO_TRACE_METRICS: &str = "the spans were sent as OTLP without the header `compute_stats: \"true\"`: there will be no trace metrics in Datadog";

/// Expected APM stats of all requests of a scenario together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsExpect {
    /// Expected counts.
    pub counts: Vec<StatsCount>,
    /// Time for the stats to arrive by themselves before the collector is stopped, which flushes it; zero stops it at
    /// once.
    pub within: Duration,
}

/// Expected totals of the matching groups.
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
    /// Spans counted with an error; `None` for any number.
    pub errors: Option<u64>,
}

/// Key of a stats group, restricted to what spans carry too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) resource: String,
    pub(crate) kind: String,
}

/// How many spans, and how many of them with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    pub(crate) hits: u64,
    pub(crate) errors: u64,
}

/// Numbers by what they are about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Group>", into = "Vec<Group>")]
pub(crate) struct Groups(pub(crate) BTreeMap<Key, Numbers>);

/// One of [`Groups`], as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) resource: String,
    pub(crate) kind: String,
    pub(crate) hits: u64,
    pub(crate) errors: u64,
}

impl Groups {
    fn add(&mut self, key: Key, hits: u64, errors: u64) {
        let numbers = self.0.entry(key).or_default();
        numbers.hits += hits;
        numbers.errors += errors;
    }

    pub(crate) fn of(&self, key: &Key) -> Numbers {
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

/// A scenario's APM stats as they are judged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StatsRecord {
    /// The evidence has no payloads, and so no stats.
    #[default]
    NoPayloads,
    /// The scenario does not ask for stats.
    NotAsked(Forms),
    /// Stats were not waited for, since the scenario's traces were wrong already.
    NotReached(Forms),
    /// The collector could not be made to send what it had; [`crate::record::Facts::undone`] says why.
    NotSent(Forms),
    /// All that the collector had was captured.
    Captured(Captured),
}

impl StatsRecord {
    /// In which forms spans came; `None` where the evidence has no payloads.
    pub(crate) fn forms(&self) -> Option<Forms> {
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
    /// Collects the facts about stats from all spans of a store.
    pub fn of(store: &Store) -> Self {
        let is_otlp = |span: &Span| span.form == PayloadForm::Otlp;
        let mut spans = store.entries().flat_map(|entry| entry.spans().iter());
        Self { otlp: spans.any(|span| is_otlp(span)), without_stats: lacks_trace_metrics(store) }
    }

    /// Returns the reason why stats cannot be judged, where the spans did not arrive in Datadog's payloads.
    pub(crate) fn came_as_otlp(self) -> Option<String> {
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
    pub(crate) forms: Forms,
    /// Counts in the stats.
    pub(crate) stats: Groups,
    /// Counts of the spans with the exporter's option `compute_stats_by_span_kind`.
    pub(crate) by_kind: Groups,
    /// Counts of the spans without it.
    pub(crate) top_level: Groups,
    /// The part of `by_kind` that belongs to no request of the scenario, such as sentinels.
    pub(crate) others: Groups,
    /// The part of `by_kind` of which the spans say that stats are computed elsewhere.
    #[serde(default)]
    pub(crate) elsewhere: Groups,
    /// Further values of the stats, beyond hits and errors.
    #[serde(default)]
    pub(crate) more: Vec<(Group, More)>,
    /// Further values of the spans of `by_kind`.
    #[serde(default)]
    pub(crate) more_by_kind: Vec<(Group, More)>,
    /// Further values of the spans of `top_level`.
    #[serde(default)]
    pub(crate) more_top_level: Vec<(Group, More)>,
}

/// Further values of a stats group, or of the spans it counts, beyond hits and errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct More {
    /// Top-level spans.
    pub(crate) top_level: u64,
    /// All durations together, in nanoseconds.
    pub(crate) duration: u64,
    /// How many have which HTTP status; 0 for none.
    pub(crate) statuses: BTreeMap<u32, u64>,
    /// Environments; empty for none.
    pub(crate) envs: BTreeSet<String>,
    /// How many latencies there are of spans that did not fail.
    #[serde(default)]
    pub(crate) ok: u64,
    /// The same of spans that failed.
    #[serde(default)]
    pub(crate) failed: u64,
    /// All latencies together, in nanoseconds; in stats as exact as their sketches are.
    #[serde(default)]
    pub(crate) latencies: u64,
    /// When the first span ended, or its bucket began, and when the last one ended, or its bucket was over: nanoseconds.
    pub(crate) times: Option<(u64, u64)>,
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
        let duration = u64::try_from(span.duration).unwrap_or(0);
        self.duration = self.duration.saturating_add(duration);
        self.ok += u64::from(!span.error);
        self.failed += u64::from(span.error);
        self.latencies = self.latencies.saturating_add(duration);
        let number = span.metrics.get("http.status_code").map(|status| *status as u32);
        let text = || span.meta.get("http.status_code").and_then(|text| text.parse().ok());
        let ended = u64::try_from(span.end()).unwrap_or(0);
        self.add(1, number.or_else(text).unwrap_or(0), &span.env, (ended, ended));
    }

    fn add_group(&mut self, group: &StatsGroup) {
        self.top_level += group.top_level_hits;
        self.duration = self.duration.saturating_add(group.duration);
        let [ok, failed] = [&group.ok_summary, &group.error_summary]
            .map(|sketch| sketch.latencies().unwrap_or_default());
        self.ok += ok.count;
        self.failed += failed.count;
        self.latencies = self.latencies.saturating_add(ok.sum).saturating_add(failed.sum);
        let times = (group.start, group.start.saturating_add(group.bucket));
        self.add(group.hits, group.http_status_code, &group.env, times);
    }
}

/// [`More`] by the key of its group.
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
                    if is_counted_elsewhere(span) {
                        captured.elsewhere.add(Key::of(span), 1, errors);
                    }
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
                let key = Key::of_group(group);
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

/// Returns whether a store has spans for which Datadog would compute no trace metrics: sent as OTLP without the header that requests stats.
pub fn lacks_trace_metrics(store: &Store) -> bool {
    store.entries().any(|entry| {
        entry.spans().first().is_some_and(|span| span.form == PayloadForm::Otlp)
            && !decode::computes_stats(&entry.attempt)
    })
}

/// Returns the warning for a store for which [`lacks_trace_metrics`] holds.
pub fn no_trace_metrics_warning() -> String {
    format!("{NO_TRACE_METRICS}; set it under the exporter's `headers`")
}

/// Returns whether a span's resource says that its stats are computed elsewhere, so that an exporter makes none.
fn is_counted_elsewhere(span: &Span) -> bool {
    let said = span.meta.get("_dd.stats_computed");
    said.is_some_and(|said| !matches!(said.as_str(), "" | "false"))
}

/// Returns whether the reference's concentrator counts a span: it is top-level, or measured, or of a kind that crosses services.
pub(crate) fn counts(span: &Span, by_kind: bool) -> bool {
    let is_one = |key: &str| span.metrics.get(key) == Some(&1.0);
    let is_partial = span.metrics.get("_dd.partial_version").is_some_and(|version| *version >= 0.0);
    let crosses = matches!(
        span.kind().to_ascii_lowercase().as_str(),
        "server" | "client" | "producer" | "consumer"
    );
    !is_partial && (is_one("_top_level") || is_one("_dd.measured") || (by_kind && crosses))
}

impl Key {
    /// The key of the group that counts a span.
    pub(crate) fn of(span: &Span) -> Self {
        Self {
            service: span.service.clone(),
            name: span.name.clone(),
            resource: span.resource.clone(),
            kind: span.kind().to_owned(),
        }
    }

    /// The key of a captured group.
    pub(crate) fn of_group(group: &StatsGroup) -> Self {
        Self {
            service: group.service.clone(),
            name: group.name.clone(),
            resource: group.resource.clone(),
            kind: group.span_kind.clone(),
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
