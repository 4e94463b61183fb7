//! OTLP to Datadog: a [`TraceBatch`] becomes [`TracerPayload`]s. Pure; the clock is an argument.
//!
//! The mapping is that of the reference exporter (contrib `datadogexporter` v0.155.0), as measured on it; where a rule was
//! read in its source, the module that has the rule names the place.

mod agent;
mod attributes;
mod go_text;
mod host;
mod naming;
mod normalize;
mod span;
mod sql;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

pub(crate) use agent::Dropped;
use attributes::Attrs;

use super::model::{Span, Text, TraceChunk, TracerPayload};
use crate::trace_batch::{ResourceSpans, TraceBatch};

/// What the user can change about the mapping.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The host name of resources that tell none.
    pub(crate) hostname: String,
    pub(crate) naming: Naming,
    pub(crate) top_level_by_span_kind: bool,
    /// Traces whose root's resource name matches one of these are dropped.
    pub(crate) ignore_resources: Vec<regex::Regex>,
}

/// How operations and resources get their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Naming {
    pub(crate) span_name_as_resource_name: bool,
    pub(crate) span_name_remappings: BTreeMap<String, String>,
    /// The first version of the naming, even without these options.
    pub(crate) first_version: bool,
}

impl Naming {
    fn is_second_version(&self) -> bool {
        !self.first_version
            && !self.span_name_as_resource_name
            && self.span_name_remappings.is_empty()
    }
}

/// The payload, and what did not get into it.
#[derive(Debug, Default)]
pub(crate) struct Translation<'a> {
    pub(crate) tracers: Vec<TracerPayload<'a>>,
    /// Spans that are not sent on, by reason.
    pub(crate) dropped: HashMap<Dropped, usize>,
}

/// Translates a batch; `now` is in nanoseconds since the epoch.
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
    let attributes = Attrs::new(resource.attributes());
    let mut tracer = TracerPayload {
        container_id: container_id(&attributes),
        language_name: normalize::tag_value(attributes.text(&["telemetry.sdk.language"])),
        tracer_version: tracer_version(&attributes),
        env: env(&attributes),
        hostname: host::hostname(&attributes, &settings.hostname),
        ..TracerPayload::default()
    };
    let container_tags = host::container_tags(&attributes);
    if !container_tags.is_empty() {
        tracer.tags.push(("_dd.tags.container", container_tags.into()));
    }
    for trace in traces(settings, resource, &attributes) {
        let spans = trace.spans.len();
        match chunk(settings, trace, now) {
            Ok((chunk, root)) => {
                let root = &chunk.spans[root];
                let meta = |span: &Span<'a>, key: &[u8]| span.meta.get(key).cloned();
                // Spans that have the root's own id are passed over (agent, `traceutil.GetEnv`, `version.go`).
                let others = chunk.spans.iter().filter(|span| span.span_id != root.span_id);
                let any = |key: &[u8]| {
                    meta(root, key).or_else(|| others.clone().find_map(|span| meta(span, key)))
                };
                if tracer.hostname.is_empty() {
                    tracer.hostname = meta(root, b"_dd.hostname").unwrap_or_default();
                }
                if tracer.env.is_empty() {
                    tracer.env = any(b"env").unwrap_or_default();
                }
                if tracer.app_version.is_empty() {
                    tracer.app_version = any(b"version").unwrap_or_default();
                }
                if is_kept(&chunk) {
                    tracer.chunks.push(chunk);
                } else {
                    *dropped.entry(Dropped::Sampled).or_default() += spans;
                    tracer.unsent.push(chunk);
                }
            }
            Err(reason) => *dropped.entry(reason).or_default() += spans,
        }
    }
    tracer
}

/// The spans that share the low 64 bits of their trace id.
struct Trace<'a> {
    spans: Vec<Span<'a>>,
    priority: Option<f64>,
}

fn traces<'a>(
    settings: &Settings,
    resource: &'a ResourceSpans,
    attributes: &Attrs<'a>,
) -> Vec<Trace<'a>> {
    let mut traces: Vec<Trace<'a>> = Vec::new();
    let mut by_id: HashMap<u64, usize> = HashMap::new();
    for (scope, span) in resource.spans() {
        let translated = span::translate(settings, &span, &scope, attributes);
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
    // What made the decision: a user's rule, or the OTLP receiver's own rate.
    let decision: &[u8] = if priority.is_some() { b"-4" } else { b"-9" };
    let priority = priority.map_or(1, sampling_priority);
    agent::normalize(&mut spans, now)?;
    let root = agent::root_index(&spans);
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
    let origin = spans[root].meta.get(b"_dd.origin").cloned().unwrap_or_default();
    if spans[root].parent_id == 0 && priority == 1 {
        spans[root].metrics.set(&b"_sampling_priority_rate_v1"[..], 1.0);
    }
    let mut tags = vec![("_dd.otlp_sr", Cow::Borrowed(&b"1.00"[..]))];
    if (1..=2).contains(&priority) {
        tags.push(("_dd.p.dm", Cow::Borrowed(decision)));
        spans[0].meta.set(&b"_dd.p.dm"[..], Cow::Borrowed(decision));
    } else {
        // What is kept all the same is kept for an error.
        let decision = spans.iter().find_map(|span| span.meta.get(b"_dd.p.dm").cloned());
        tags.extend(decision.map(|decision| ("_dd.p.dm", decision)));
        spans[root].metrics.set(&b"_dd.errors_sr"[..], 1.0);
    }
    Ok((TraceChunk { priority, origin, spans, tags }, root))
}

/// A priority as the reference reads it: the low eight bits of a 32-bit integer, 0 for what is beyond that (measured on the
/// reference exporter v0.155.0, amd64).
fn sampling_priority(priority: f64) -> i32 {
    let fits = priority.abs() < 2_147_483_648.0;
    i32::from(if fits { priority as i32 as i8 } else { 0 })
}

/// Whether a trace is sent: not with a negative priority, nor without an error at priority 0.
fn is_kept(chunk: &TraceChunk<'_>) -> bool {
    (1..=2).contains(&chunk.priority)
        || chunk.priority >= 0 && chunk.spans.iter().any(|span| span.error != 0)
}

fn container_id<'a>(resource: &Attrs<'a>) -> Text<'a> {
    normalize::tag_value(resource.text(&["container.id", "k8s.pod.uid"]))
}

fn tracer_version<'a>(resource: &Attrs<'a>) -> Text<'a> {
    let version = normalize::tag_value(resource.text(&["telemetry.sdk.version"]));
    Cow::Owned([b"otlp-", version.as_ref()].concat())
}

fn env<'a>(resource: &Attrs<'a>) -> Text<'a> {
    normalize::tag_value(resource.text(&["deployment.environment.name", "deployment.environment"]))
}
