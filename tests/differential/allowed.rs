//! The differences that are meant: one file, each with its reason. It may only shrink.

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    compare::Difference,
    datadog::{self, Fields, Value},
    generate::YEAR_2000,
    otlp::{self, ResourceSpans, ScopeSpans, Span},
    side::CONTRIB,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/differential/allowed.yaml");

/// A difference that is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Short, for the report.
    pub(crate) name: String,
    /// The fields it is about; `*` stands for any text.
    pub(crate) fields: Vec<String>,
    /// When it is meant.
    condition: Condition,
    /// The version of the agent's library since which the mapping has the rule that makes it, later than contrib's; none for
    /// what differs from the newest one too. Ours must be what the agent of today sends.
    since: Option<String>,
    /// The reference beside which it is meant, where that is one of them alone.
    beside: Option<Beside>,
    /// The reason.
    reason: String,
}

/// A reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Beside {
    Contrib,
}

/// Place of a difference.
pub(crate) struct Context<'a> {
    pub(crate) resource: &'a ResourceSpans,
    pub(crate) scope: &'a ScopeSpans,
    pub(crate) span: &'a Span,
    /// The span as ours sent it.
    pub(crate) ours: Option<&'a Fields>,
}

impl Context<'_> {
    /// The values that the span and its resource have for any of these attributes; for a field of the payload, and for where
    /// a service is entered, which depends on the parent's, any span of it.
    fn values(&self, field: &str, keys: &[String]) -> impl Iterator<Item = Option<&otlp::Value>> {
        let resource = self.resource.resource.iter().flat_map(|resource| &resource.attributes);
        let others = self.resource.scope_spans.iter().flat_map(|scope| &scope.spans);
        let is_of_others = field.starts_with("tracer_payload.") || field.ends_with("._top_level");
        let others = others.filter(move |_| is_of_others);
        let spans = std::iter::once(self.span).chain(others);
        let pairs = spans.flat_map(|span| &span.attributes).chain(resource);
        let pairs = pairs.filter(|pair| keys.contains(&datadog::readable(&pair.key)));
        pairs.map(|pair| pair.value.as_ref().and_then(|value| value.value.as_ref()))
    }
}

/// When a difference is meant.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Condition {
    /// The reference's text is no JSON, or says something else since it lacks backslashes; ours is, unless the limit of a
    /// value's length cut it.
    ReferenceIsInvalidJson,
    /// The span starts before the year 2000, and both starts are the time of sending, so near each other.
    StartIsTheTimeOfSending,
    /// The reference's number is smaller than ours, and positive.
    ReferenceIsBetweenZeroAndOurs,
    /// Ours sent a trace whose priority does not keep it, and which has an error.
    KeptByAnErrorAlone,
    /// No span of the trace is without a parent, and there are several parents that are not there.
    RootIsARandomOne,
    /// The resource has spans of several traces.
    ResourceHasSeveralTraces,
    /// The field is a key that was cut: within a character, and only one side has it; or to what another key of the span
    /// begins with; or its value was cut too.
    KeyIsCut,
    /// The span or its resource has one of these attributes.
    Has(Vec<String>),
    /// And it is no text, or an empty one.
    HasNoText(Vec<String>),
    /// Ours has one of these types.
    TypeIs(Vec<String>),
    /// Ours is the name or the version of the span's scope.
    IsTheScopes,
    /// The span starts before the year 2000.
    #[serde(rename = "starts-before-2000")]
    StartsBefore2000,
    /// A span of the trace has a rate in its tracestate.
    TraceStateHasRate,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    allowed: Vec<Rule>,
}

/// Reads the file.
///
/// # Errors
///
/// When it cannot be read, has an unknown key, or a rule without a reason.
pub(crate) fn load() -> anyhow::Result<Vec<Rule>> {
    let text = std::fs::read_to_string(FILE).context(FILE)?;
    let file: File = serde_saphyr::from_str(&text).context(FILE)?;
    for rule in &file.allowed {
        anyhow::ensure!(!rule.reason.trim().is_empty(), "{FILE}: {} has no reason", rule.name);
        anyhow::ensure!(!rule.fields.is_empty(), "{FILE}: {} is about no field", rule.name);
    }
    Ok(file.allowed)
}

impl Rule {
    /// Returns whether it is about a rule of the mapping that contrib has not yet.
    pub(crate) fn is_newer(&self) -> bool {
        self.since.is_some()
    }

    /// Returns whether this difference of `span` from the reference of this name is meant.
    pub(crate) fn allows(
        &self,
        reference: &str,
        difference: &Difference,
        context: &Context<'_>,
    ) -> bool {
        if self.beside == Some(Beside::Contrib) && reference != CONTRIB {
            return false;
        }
        if !self.fields.iter().any(|pattern| matches(pattern, &difference.field)) {
            return false;
        }
        let (ours, theirs) = (&difference.ours, &difference.theirs);
        let Context { resource, span, .. } = context;
        match &self.condition {
            Condition::ReferenceIsInvalidJson => {
                let is_wrong = || !is_json(theirs) || lacks_backslashes(ours, theirs);
                (is_json(ours) || is_cut(ours)) && theirs.is_some() && is_wrong()
            }
            Condition::ReferenceIsBetweenZeroAndOurs => match (ours, theirs) {
                (Some(Value::Double(ours)), Some(Value::Double(theirs))) => {
                    let (ours, theirs) = (f64::from_bits(*ours), f64::from_bits(*theirs));
                    0.0 < theirs && theirs < ours
                }
                _ => false,
            },
            Condition::StartIsTheTimeOfSending => match (ours, theirs) {
                (Some(Value::Int(ours)), Some(Value::Int(theirs))) => {
                    starts_before_2000(span) && (ours - theirs).abs() < 120_000_000_000
                }
                _ => false,
            },
            Condition::KeptByAnErrorAlone => {
                let has = |field| context.ours.and_then(|ours| ours.get(field));
                let is_kept = matches!(has("chunk.priority"), Some(Value::Int(1 | 2)));
                let is_whole = !is_kept && has("chunk.droppedTrace").is_none();
                let mut trace = resource.trace_of(span);
                let is_error =
                    |span: &Span| span.status.as_ref().is_some_and(|status| status.code == 2);
                context.ours.is_some() && is_whole && trace.any(is_error)
            }
            Condition::RootIsARandomOne => resource.root_is_random(span),
            Condition::ResourceHasSeveralTraces => resource.has_several_traces(),
            Condition::KeyIsCut => {
                let key = difference.field.trim_start_matches("span.meta.");
                let kept = key.trim_end_matches('.');
                let alike = span.attributes.iter();
                let alike = alike.filter(|pair| pair.key.starts_with(kept.as_bytes())).count();
                let is_one_sided = ours.is_some() != theirs.is_some();
                key.ends_with("...")
                    && match is_one_sided {
                        true => (197..200).contains(&kept.len()),
                        false => {
                            let is_value_cut = || is_cut(ours) && is_cut(theirs);
                            (197..=200).contains(&kept.len()) && (alike > 1 || is_value_cut())
                        }
                    }
            }
            Condition::Has(keys) => context.values(&difference.field, keys).next().is_some(),
            Condition::HasNoText(keys) => context
                .values(&difference.field, keys)
                .any(|value| !matches!(value, Some(otlp::Value::Text(text)) if !text.is_empty())),
            Condition::TypeIs(types) => {
                let of_ours = context.ours.and_then(|ours| ours.get("span.type"));
                types.iter().any(|name| of_ours == Some(&Value::Text(name.clone().into())))
            }
            Condition::IsTheScopes => {
                let Some(scope) = &context.scope.scope else { return false };
                let is_version = difference.field.ends_with(".version");
                let of_scope = if is_version { &scope.version } else { &scope.name };
                let is_it = |text: &Vec<u8>| text == of_scope || is_cut(ours);
                matches!(ours, Some(Value::Text(text)) if is_it(text))
            }
            Condition::StartsBefore2000 => starts_before_2000(span),
            Condition::TraceStateHasRate => {
                let has_rate = |span: &&Span| otlp::may_have_rate(&span.trace_state);
                resource.trace_of(span).any(|span| has_rate(&span))
            }
        }
    }
}

fn starts_before_2000(span: &Span) -> bool {
    // As a signed number, which it becomes.
    span.start.cast_signed() < YEAR_2000.cast_signed()
}

fn is_json(value: &Option<Value>) -> bool {
    let Some(Value::Text(text)) = value else { return false };
    // A value to be thrown away would not be checked for UTF-8.
    serde_json::from_slice::<serde_json::Value>(text).is_ok()
}

/// Returns whether the texts are the same but for backslashes, of which theirs has fewer.
fn lacks_backslashes(ours: &Option<Value>, theirs: &Option<Value>) -> bool {
    let (Some(Value::Text(ours)), Some(Value::Text(theirs))) = (ours, theirs) else { return false };
    let others =
        |text: &[u8]| text.iter().copied().filter(|byte| *byte != b'\\').collect::<Vec<u8>>();
    theirs.len() < ours.len() && others(ours) == others(theirs)
}

fn is_cut(value: &Option<Value>) -> bool {
    matches!(value, Some(Value::Text(text)) if text.len() > 24_990 && text.ends_with(b"..."))
}

/// Returns whether the text is the pattern, in which one `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}
