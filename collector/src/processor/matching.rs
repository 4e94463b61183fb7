//! Choice of the spans that a processor changes: `include` and `exclude`, which `attributes` and `span` have.

mod config;

use std::borrow::Cow;
use std::collections::HashSet;

use config::MatchType;
pub(crate) use config::{Properties, UNSUPPORTED, check};
use regex::Regex;

use super::actions::Value;
use crate::settings::pattern;
use crate::trace_batch::{AnyValue, Attributes, ResourceSpans, Scope, Span, SpanKind};

/// Service of a resource that names none.
const NO_SERVICE: &[u8] = b"<nil-service-name>";

/// A choice of spans, ready to be asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    services: Option<Texts>,
    names: Option<Texts>,
    kinds: Option<Texts>,
    attributes: Vec<Pair>,
    resources: Vec<Pair>,
    /// Names of libraries, with their versions where those count; all of them.
    libraries: Vec<(Texts, Option<Texts>)>,
}

/// Texts of which one must be it, or patterns of which one must be found.
#[derive(Debug, Clone)]
enum Texts {
    Strict(HashSet<Vec<u8>>),
    Patterns(Vec<Regex>),
}

#[derive(Debug, Clone)]
struct Pair {
    key: Vec<u8>,
    value: Wanted,
}

/// Condition on the value of an attribute.
#[derive(Debug, Clone)]
enum Wanted {
    Any,
    Value(Value),
    Pattern(Texts),
}

impl Chosen {
    /// Makes a choice ready that was checked with the config.
    pub(crate) fn new(include: Option<&Properties>, exclude: Option<&Properties>) -> Self {
        Self { include: include.map(Matcher::new), exclude: exclude.map(Matcher::new) }
    }

    /// Returns whether all spans are chosen.
    pub(crate) fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Returns whether a span is chosen.
    pub(crate) fn has(&self, resource: &ResourceSpans, scope: Scope<'_>, span: &[u8]) -> bool {
        let span = Span::new(span);
        self.include.as_ref().is_none_or(|include| include.matches(resource, scope, &span))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.matches(resource, scope, &span))
    }
}

impl Matcher {
    fn new(properties: &Properties) -> Self {
        let texts = |texts: &[String]| Texts::new(properties.match_type, texts);
        let some = |all: &[String]| (!all.is_empty()).then(|| texts(all));
        let pairs = |pairs: &[config::Attribute]| {
            let pair = |attribute: &config::Attribute| {
                let value = match (&attribute.value, properties.match_type) {
                    (None, _) => Wanted::Any,
                    (Some(Value::Text(text)), MatchType::Regexp) => {
                        Wanted::Pattern(texts(std::slice::from_ref(text)))
                    }
                    (Some(value), _) => Wanted::Value(value.clone()),
                };
                Pair { key: attribute.key.as_bytes().to_vec(), value }
            };
            pairs.iter().map(pair).collect()
        };
        Self {
            services: some(&properties.services),
            names: some(&properties.span_names),
            kinds: some(&properties.span_kinds),
            attributes: pairs(&properties.attributes),
            resources: pairs(&properties.resources),
            libraries: properties
                .libraries
                .iter()
                .map(|library| {
                    let one = |text: &String| texts(std::slice::from_ref(text));
                    (one(&library.name), library.version.as_ref().map(one))
                })
                .collect(),
        }
    }

    fn matches(&self, resource: &ResourceSpans, scope: Scope<'_>, span: &Span<'_>) -> bool {
        let has = |texts: &Option<Texts>, text: &[u8]| {
            texts.as_ref().is_none_or(|texts| texts.have(text))
        };
        self.services.as_ref().is_none_or(|services| {
            match find(resource.attributes(), b"service.name") {
                Some(service) => services.have(&text(service).unwrap_or_default()),
                None => services.have(NO_SERVICE),
            }
        }) && has(&self.names, span.name)
            && has(&self.kinds, kind(span.kind))
            && self
                .libraries
                .iter()
                .all(|(name, version)| name.have(scope.name) && has(version, scope.version))
            && self.resources.iter().all(|pair| pair.is_in(resource.attributes()))
            && self.attributes.iter().all(|pair| pair.is_in(span.attributes()))
    }
}

impl Texts {
    fn new(match_type: MatchType, texts: &[String]) -> Self {
        match match_type {
            MatchType::Regexp => Self::Patterns(
                texts.iter().filter_map(|text| pattern::compile(text).ok()).collect(),
            ),
            MatchType::Strict | MatchType::None => {
                Self::Strict(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
            }
        }
    }

    fn have(&self, text: &[u8]) -> bool {
        match self {
            Self::Strict(texts) => texts.contains(text),
            Self::Patterns(patterns) => {
                let text = String::from_utf8_lossy(text);
                patterns.iter().any(|pattern| pattern.is_match(&text))
            }
        }
    }
}

impl Pair {
    fn is_in(&self, attributes: Attributes<'_>) -> bool {
        let Some(found) = find(attributes, &self.key) else { return false };
        match &self.value {
            Wanted::Any => true,
            Wanted::Value(value) => value.is(&found),
            Wanted::Pattern(pattern) => text(found).is_some_and(|text| pattern.have(&text)),
        }
    }
}

/// The first value of a key.
fn find<'a>(attributes: Attributes<'a>, key: &[u8]) -> Option<AnyValue<'a>> {
    attributes.raw().find(|(known, _)| *known == key).map(|(_, value)| value.get())
}

/// A value as text, as Go writes it; `None` for lists, maps, bytes and nothing.
pub(crate) fn text(value: AnyValue<'_>) -> Option<Cow<'_, [u8]>> {
    let written = match value {
        AnyValue::String(text) => return Some(Cow::Borrowed(text)),
        AnyValue::Bool(value) => value.to_string(),
        AnyValue::Int(value) => value.to_string(),
        AnyValue::Double(value) if value.is_nan() => "NaN".to_owned(),
        AnyValue::Double(value) if value.is_infinite() => {
            if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
        }
        AnyValue::Double(value) => value.to_string(),
        AnyValue::Empty | AnyValue::Array(_) | AnyValue::Map(_) | AnyValue::Bytes(_) => {
            return None;
        }
    };
    Some(Cow::Owned(written.into_bytes()))
}

/// The name of a kind in OTLP.
fn kind(kind: SpanKind) -> &'static [u8] {
    match kind {
        SpanKind::Unspecified => b"SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => b"SPAN_KIND_INTERNAL",
        SpanKind::Server => b"SPAN_KIND_SERVER",
        SpanKind::Client => b"SPAN_KIND_CLIENT",
        SpanKind::Producer => b"SPAN_KIND_PRODUCER",
        SpanKind::Consumer => b"SPAN_KIND_CONSUMER",
        SpanKind::Unknown => b"",
    }
}

#[cfg(test)]
mod tests;
