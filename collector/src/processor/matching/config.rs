//! Settings of the choice of spans, in the words of the Collector's filters.

use serde::{Deserialize, Serialize};

use crate::processor::actions::Value;
use crate::settings::pattern;
use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[(
    "does not apply to spans; the Collector rejects it too; remove the key",
    &["log_bodies", "log_severity_texts", "log_severity_number", "metric_names"],
)]);

/// Properties that a span has all of.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Properties {
    /// How texts are compared: `strict` as a whole, `regexp` by regular expressions that find something.
    pub(super) match_type: MatchType,
    /// Taken, and of no effect: results are not kept.
    regexp: Option<Cache>,
    /// Services by `service.name` of the resource, of which one must match.
    pub(super) services: Vec<String>,
    /// Names of spans, of which one must match.
    pub(super) span_names: Vec<String>,
    /// Kinds of spans as OTLP names them, such as `SPAN_KIND_SERVER`, of which one must match.
    pub(super) span_kinds: Vec<String>,
    /// Attributes of the span, which must all match.
    pub(super) attributes: Vec<Attribute>,
    /// Attributes of the resource, which must all match.
    pub(super) resources: Vec<Attribute>,
    /// Instrumentation scopes, which must all match.
    pub(super) libraries: Vec<Library>,
}

/// Ways to compare texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum MatchType {
    /// None, which is an error.
    #[default]
    #[serde(rename = "")]
    #[cfg_attr(test, schemars(skip))]
    None,
    Strict,
    Regexp,
}

/// Cache of results in the Collector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
struct Cache {
    /// Whether there is one.
    cacheenabled: bool,
    /// Its size.
    cachemaxnumentries: i64,
}

/// An attribute.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Attribute {
    /// Its key.
    pub(super) key: String,
    /// Its value, of the same type; with `regexp`, a regular expression. Default: any value.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub(super) value: Option<Value>,
}

/// An instrumentation scope.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Library {
    /// Its name.
    pub(super) name: String,
    /// Its version. Default: any.
    #[serde(default)]
    pub(super) version: Option<String>,
}

const KINDS: [&str; 5] = [
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_CONSUMER",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_SERVER",
];

/// Checks `include` and `exclude`.
pub(crate) fn check(
    include: Option<&Properties>,
    exclude: Option<&Properties>,
    diagnostics: &mut Diagnostics<'_>,
) {
    for (key, properties) in [("include", include), ("exclude", exclude)] {
        if let Some(properties) = properties {
            diagnostics.within(&[key], |diagnostics| properties.check(diagnostics));
        }
    }
}

impl Properties {
    fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        let Self { match_type, services, span_names, span_kinds, .. } = self;
        let texts =
            [("services", services), ("span_names", span_names), ("span_kinds", span_kinds)];
        let lists = [("attributes", &self.attributes), ("resources", &self.resources)];
        if texts.iter().all(|(_, texts)| texts.is_empty())
            && lists.iter().all(|(_, list)| list.is_empty())
            && self.libraries.is_empty()
        {
            diagnostics.add(&[], "names no property; name at least one of `services`, `span_names`, `span_kinds`, `attributes`, `resources` and `libraries`");
        }
        if *match_type == MatchType::None {
            diagnostics.add(&["match_type"], "is missing; write `strict` or `regexp`");
        }
        let pattern = |path: &[&str], text: &str, diagnostics: &mut Diagnostics<'_>| {
            if *match_type == MatchType::Regexp && pattern::compile(text).is_err() {
                diagnostics.add(path, "is not a regular expression");
            }
        };
        for (key, texts) in texts {
            for (index, text) in texts.iter().enumerate() {
                let path = [key, &index.to_string()];
                pattern(&path, text, diagnostics);
                if key == "span_kinds"
                    && *match_type == MatchType::Strict
                    && !KINDS.contains(&text.as_str())
                {
                    let known = KINDS.map(|kind| format!("`{kind}`")).join(", ");
                    diagnostics.add(&path, &format!("is not a kind of span; known are {known}"));
                }
            }
        }
        for (key, list) in lists {
            for (index, attribute) in list.iter().enumerate() {
                let index = index.to_string();
                if attribute.key.is_empty() {
                    diagnostics.add(&[key, &index, "key"], "is missing; name the attribute");
                }
                match &attribute.value {
                    Some(Value::Text(text)) => {
                        pattern(&[key, &index, "value"], text, diagnostics);
                    }
                    Some(_) if *match_type == MatchType::Regexp => diagnostics.add(
                        &[key, &index, "value"],
                        "is not text, as a regular expression is; put it in quotes",
                    ),
                    _ => {}
                }
            }
        }
        for (index, library) in self.libraries.iter().enumerate() {
            let index = index.to_string();
            pattern(&["libraries", &index, "name"], &library.name, diagnostics);
            if let Some(version) = &library.version {
                pattern(&["libraries", &index, "version"], version, diagnostics);
            }
        }
    }
}
