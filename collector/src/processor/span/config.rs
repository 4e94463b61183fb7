//! Settings of the span processor, in the words of contrib's `spanprocessor`.

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::processor::matching::{self, Chosen, Properties};
use crate::settings::Diagnostics;
use crate::settings::pattern;

/// Changes the names and statuses of spans.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Spans that are changed. Default: all.
    include: Option<Properties>,
    /// Spans among them that are not changed. Default: none.
    exclude: Option<Properties>,
    /// New names.
    pub(super) name: Name,
    /// New status.
    pub(super) status: Option<Status>,
    #[serde(skip)]
    pub(super) chosen: Chosen,
    /// The rules of `to_attributes`, ready, each with the names of its groups.
    #[serde(skip)]
    pub(super) rules: Vec<(Regex, Vec<String>)>,
}

/// Names of spans and their attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Name {
    /// Attributes whose values make the name, in this order. A span that lacks one keeps its name.
    pub(super) from_attributes: Vec<String>,
    /// Text between these values. Default: none.
    pub(super) separator: String,
    /// Attributes that are made of parts of the name, after that.
    pub(super) to_attributes: Option<ToAttributes>,
}

/// Parts of names that become attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct ToAttributes {
    /// Regular expressions whose named groups become attributes, and in the name the groups' names in braces.
    pub(super) rules: Vec<String>,
    /// Stops at the first rule that finds something. Default `false`: the next one looks at the new name.
    pub(super) break_after_match: bool,
    /// Leaves the name as it is. Default `false`.
    pub(super) keep_original_name: bool,
}

/// Status of a span.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    /// The code.
    pub(super) code: Code,
    /// Description of what went wrong, with `Error` only.
    #[serde(default)]
    pub(super) description: String,
}

/// Codes of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) enum Code {
    Unset,
    Ok,
    Error,
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let unsupported =
            [("include.", matching::UNSUPPORTED), ("exclude.", matching::UNSUPPORTED)];
        let mut config: Self = diagnostics.decode(&[], &unsupported)?;
        let (include, exclude) = (config.include.as_ref(), config.exclude.as_ref());
        matching::check(include, exclude, diagnostics);
        config.chosen = Chosen::new(include, exclude);
        let to = config.name.to_attributes.as_ref();
        let rules = to.map_or(&[][..], |to| &to.rules);
        if config.name.from_attributes.is_empty() && rules.is_empty() && config.status.is_none() {
            diagnostics.add(&[], "changes nothing; set `name.from_attributes`, `name.to_attributes.rules` or `status`");
        }
        for (index, rule) in rules.iter().enumerate() {
            let path = ["name", "to_attributes", "rules", &index.to_string()];
            let Ok(pattern) = pattern::compile(rule) else {
                diagnostics.add(&path, "is not a regular expression");
                continue;
            };
            let groups: Vec<_> = pattern
                .capture_names()
                .skip(1)
                .map(Option::<&str>::unwrap_or_default)
                .map(str::to_owned)
                .collect();
            if groups.iter().any(String::is_empty) {
                diagnostics.add(&path, "has a group without a name, of which the Collector makes an attribute without a key; write `(?P<name>…)`, or `(?:…)` where none is meant");
            } else if groups.is_empty() {
                diagnostics.add(&path, "has no named group, such as `(?P<name>.*)`");
            }
            config.rules.push((pattern, groups));
        }
        if let Some(status) = &config.status
            && status.code != Code::Error
            && !status.description.is_empty()
        {
            diagnostics.add(&["status", "description"], "is for `code: Error` only; remove it");
        }
        Some(config)
    }
}
