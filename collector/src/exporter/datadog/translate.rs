//! OTLP to Datadog: a [`TraceBatch`] becomes [`TracerPayload`]s. Pure; the clock is an argument.
//!
//! The mapping is that of Datadog's trace agent v0.85.4 (`pkg/trace`), set up as contrib's `datadogexporter` sets it up, and
//! measured on it; where a rule was read in its source, the module that has the rule names the place.

mod agent;
mod attributes;
pub(crate) mod concepts;
pub(crate) mod direct;
pub(crate) mod explain;
mod family;
mod first_receiver;
mod host;
mod known;
mod limits;
mod naming;
mod normalize;
pub(crate) mod obfuscation;
pub(crate) mod page;
mod rules;
mod sampling;
mod span;
mod sql;
mod table;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

pub(crate) use agent::Dropped;
use attributes::Attrs;
use obfuscation::Obfuscation;
use sampling::{ChunkFate, DECISION, Decision, RECEIVER_RATE};
use span::Translated;

use super::model::{Span, StatsContext, Text, TraceChunk, TracerPayload};
use crate::trace_batch::ResourceSpans;
#[cfg(any(test, fuzzing))]
use crate::trace_batch::TraceBatch;
pub(crate) use crate::trace_batch::go_text::parse_whole_number;
pub(crate) use sampling::go_u64;

/// A query without its literals, for tests of what was recorded.
#[cfg(test)]
pub(crate) fn obfuscated_query(query: &str) -> String {
    String::from_utf8_lossy(&agent::obfuscated_query(query.as_bytes())).into_owned()
}

/// Key under which an agent says where it runs (agent, `normalizeAPMModeSpanTag`).
const APM_MODE: &str = "_dd.apm_mode";

/// Options of the mapping that the user can set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The host name of resources that have none.
    pub(crate) hostname: String,
    pub(crate) naming: NamingOptions,
    pub(crate) top_level_by_span_kind: bool,
    /// The first version of the receiver, which copies attributes by other rules.
    pub(crate) first_receiver: bool,
    /// A scope's name and version under the keys of the old convention alone.
    pub(crate) old_scope_convention: bool,
    /// Whether spans count in stats only where their resource asks for it.
    pub(crate) counts_on_request: bool,
    /// Obfuscation besides the agent's own.
    pub(crate) obfuscation: Obfuscation,
    /// Traces whose root's resource name matches one of these are dropped.
    pub(crate) ignore_resources: Vec<regex::Regex>,
}

/// The keys of a scope's name and version, in this order: by the old convention, and by the current one.
const SCOPE: [(&str, &str); 2] =
    [("otel.library.name", "otel.library.version"), ("otel.scope.name", "otel.scope.version")];

impl Settings {
    /// Returns the keys of a scope's name and version. The first receiver knows the old convention alone.
    fn scope_keys(&self) -> &'static [(&'static str, &'static str)] {
        if self.old_scope_convention || self.first_receiver { &SCOPE[..1] } else { &SCOPE }
    }
}

/// How operations and resources get their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamingOptions {
    pub(crate) span_name_as_resource_name: bool,
    pub(crate) span_name_remappings: BTreeMap<String, String>,
    /// The first version of the naming, even without these options.
    pub(crate) first_version: bool,
}

impl NamingOptions {
    fn is_second_version(&self) -> bool {
        !self.first_version
            && !self.span_name_as_resource_name
            && self.span_name_remappings.is_empty()
    }
}

/// The payload, and what did not get into it.
#[cfg(any(test, fuzzing))]
#[derive(Debug, Default)]
pub(crate) struct Translation<'a> {
    pub(crate) tracers: Vec<TracerPayload<'a>>,
    /// Spans that are not sent on, by reason.
    pub(crate) dropped: HashMap<Dropped, usize>,
}

/// Translates a batch; `now` is in nanoseconds since the epoch.
#[cfg(any(test, fuzzing))]
pub(crate) fn translate<'a>(
    settings: &'a Settings,
    batch: &'a TraceBatch,
    now: i64,
) -> Translation<'a> {
    let mut translation = Translation::default();
    for resource in batch.resources() {
        let tracer = tracer_payload(settings, resource, now, &mut translation.dropped);
        if !tracer.chunks.is_empty() || !tracer.unsent.is_empty() {
            translation.tracers.push(tracer);
        }
    }
    translation
}

fn tracer_payload<'a>(
    settings: &'a Settings,
    resource: &'a ResourceSpans,
    now: i64,
    dropped: &mut HashMap<Dropped, usize>,
) -> TracerPayload<'a> {
    let full = Attrs::new(resource.attributes());
    let attributes = match settings.first_receiver {
        true => None,
        false => host::without_container_tags(&full),
    };
    let attributes = attributes.as_ref().unwrap_or(&full);
    let translate =
        if settings.first_receiver { first_receiver::translate } else { span::translate };
    let spans = resource.spans();
    let spans: Vec<_> =
        spans.map(|(scope, span)| translate(settings, &span, &scope, attributes)).collect();
    let mut tracer = match settings.first_receiver {
        true => first_receiver::payload(settings, &full, &spans),
        false => payload(settings, &full),
    };
    let container_tags = match settings.first_receiver {
        true => host::first_container_tags(&full),
        false => host::container_tags(&full),
    };
    add_container_tags(&mut tracer, container_tags);
    for trace in traces(spans) {
        add(&mut tracer, settings, trace, now, dropped);
    }
    tracer
}

/// A payload with what its resource says.
fn payload<'a>(settings: &'a Settings, attributes: &Attrs<'a>) -> TracerPayload<'a> {
    TracerPayload {
        container_id: container_id(attributes),
        language_name: normalize::tag_value(attributes.text(&["telemetry.sdk.language"])),
        tracer_version: tracer_version(attributes),
        env: env(attributes),
        hostname: host::hostname(attributes, &settings.hostname),
        has_stats: has_stats(settings, attributes),
        ..TracerPayload::default()
    }
}

/// Returns whether the resource's stats are not to be computed. `_dd.stats_computed` decides before the gate, by which they
/// count as computed elsewhere: `false` or an empty one asks for them (agent, `resolveClientComputedStats`).
fn has_stats(settings: &Settings, resource: &Attrs<'_>) -> bool {
    if !resource.has(&["_dd.stats_computed"]) {
        return settings.counts_on_request;
    }
    let computed = normalize::tag_value(resource.text(&["_dd.stats_computed"]));
    !matches!(&*computed, b"" | b"false")
}

fn add_container_tags(tracer: &mut TracerPayload<'_>, container_tags: Vec<u8>) {
    if !container_tags.is_empty() {
        tracer.tags.push(("_dd.tags.container", container_tags.into()));
    }
}

/// Adds a trace's chunk to its payload, if it is sent, and what its spans say about the payload.
fn add<'a>(
    tracer: &mut TracerPayload<'a>,
    settings: &Settings,
    trace: Trace<'a>,
    now: i64,
    dropped: &mut HashMap<Dropped, usize>,
) {
    let spans = trace.spans.len();
    let (mut chunk, root) = match chunk(settings, trace, now) {
        Ok(chunk) => chunk,
        Err(reason) => {
            *dropped.entry(reason).or_default() += spans;
            return;
        }
    };
    describe(tracer, &chunk, root);
    chunk.counted = StatsContext {
        hostname: tracer.hostname.clone(),
        env: tracer.env.clone(),
        version: tracer.app_version.clone(),
        commit: stated(&chunk, root, b"_dd.git.commit.sha").unwrap_or_default(),
        base_service: chunk.spans[root].meta.get(b"_dd.base_service").cloned().unwrap_or_default(),
        weight: sampling::weight(&chunk.spans[root]),
    };
    let sent = match sampling::sample(&mut chunk, root) {
        ChunkFate::Kept => {
            tracer.chunks.push(chunk);
            return;
        }
        ChunkFate::Parts(part) => {
            let sent = part.spans.len();
            tracer.chunks.push(*part);
            sent
        }
        ChunkFate::Dropped => 0,
    };
    *dropped.entry(Dropped::Sampled).or_default() += spans - sent;
    tracer.unsent.push(chunk);
}

/// Sets what the payload does not have yet from a chunk's spans.
fn describe<'a>(tracer: &mut TracerPayload<'a>, chunk: &TraceChunk<'a>, root: usize) {
    let of_root = |key: &[u8]| chunk.spans[root].meta.get(key).cloned();
    if tracer.hostname.is_empty() {
        tracer.hostname = of_root(b"_dd.hostname").unwrap_or_default();
    }
    if tracer.env.is_empty() {
        tracer.env = stated(chunk, root, b"env").unwrap_or_default();
    }
    if tracer.app_version.is_empty() {
        tracer.app_version = stated(chunk, root, b"version").unwrap_or_default();
    }
    if let Some(mode) = of_root(APM_MODE.as_bytes())
        && mode.eq_ignore_ascii_case(b"edge")
        && !tracer.tags.iter().any(|(key, _)| *key == APM_MODE)
    {
        tracer.tags.push((APM_MODE, mode));
    }
}

/// Returns what the root says, or else the first other span that does. Spans that have the root's own id are passed over (agent,
/// `traceutil.GetEnv`, `version.go`).
fn stated<'a>(chunk: &TraceChunk<'a>, root: usize, key: &[u8]) -> Option<Text<'a>> {
    let root = &chunk.spans[root];
    let others = chunk.spans.iter().filter(|span| span.span_id != root.span_id);
    std::iter::once(root).chain(others).find_map(|span| span.meta.get(key).cloned())
}

/// The spans that share the low 64 bits of their trace id.
struct Trace<'a> {
    spans: Vec<Span<'a>>,
    priority: Option<f64>,
}

fn traces(spans: Vec<Translated<'_>>) -> Vec<Trace<'_>> {
    let mut traces: Vec<Trace<'_>> = Vec::new();
    let mut by_id: HashMap<u64, usize> = HashMap::new();
    for translated in spans {
        let index = *by_id.entry(translated.span.trace_id).or_insert_with(|| {
            traces.push(Trace { spans: Vec::new(), priority: None });
            traces.len() - 1
        });
        traces[index].spans.push(translated.span);
        traces[index].priority = translated.priority.or(traces[index].priority);
    }
    traces
}

/// Makes a trace's chunk, and finds its root.
fn chunk<'a>(
    settings: &Settings,
    trace: Trace<'a>,
    now: i64,
) -> Result<(TraceChunk<'a>, usize), Dropped> {
    let Trace { mut spans, priority } = trace;
    let Decision { priority, maker } = sampling::decision(priority);
    if let Some(maker) = maker {
        spans[0].meta.set(DECISION.as_bytes(), Cow::Borrowed(maker));
    }
    agent::normalize(&mut spans, settings, now)?;
    let root = agent::root_index(&spans);
    let priority = sampling::chunk_priority(priority, &spans, root);
    let origin = spans[root].meta.get(b"_dd.origin").cloned().unwrap_or_default();
    let mut tags = vec![(RECEIVER_RATE.0, Cow::Borrowed(RECEIVER_RATE.1))];
    let maker = spans.iter().find_map(|span| span.meta.get(DECISION.as_bytes()).cloned());
    tags.extend(maker.map(|maker| (DECISION, maker)));
    let resource = String::from_utf8_lossy(&spans[root].resource);
    if settings.ignore_resources.iter().any(|pattern| pattern.is_match(&resource)) {
        return Err(Dropped::Ignored);
    }
    drop(resource);
    for span in &mut spans {
        agent::obfuscate(span);
        agent::truncate(span);
    }
    if settings.top_level_by_span_kind {
        agent::mark_tracer_top_level(&mut spans);
    } else {
        agent::mark_top_level(&mut spans);
    }
    sampling::set_client_rate(&mut spans[root]);
    Ok((TraceChunk { priority, origin, spans, tags, ..TraceChunk::default() }, root))
}

fn container_id<'a>(resource: &Attrs<'a>) -> Text<'a> {
    normalize::tag_value(resource.concept(&["container.id"]))
}

fn tracer_version<'a>(resource: &Attrs<'a>) -> Text<'a> {
    let version = normalize::tag_value(resource.text(&["telemetry.sdk.version"]));
    Cow::Owned([b"otlp-", version.as_ref()].concat())
}

fn env<'a>(resource: &Attrs<'a>) -> Text<'a> {
    normalize::tag_value(resource.concept(concepts::ENV))
}
