//! The environment variables that a collector's config names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{API_KEY_HEADER, CollectorConfig, kind};
use harness_core::source::{FilePlace, Finding};

/// Variables that a config refers to.
pub(super) struct Variables {
    /// Those that stand for an API key, and that nobody set.
    pub(super) api_keys: BTreeSet<String>,
    /// The others that nobody set.
    pub(super) findings: Vec<Finding>,
}

/// Looks at every reference in every value.
pub(super) fn check(
    config: &CollectorConfig,
    root: &Value,
    env: &BTreeMap<String, String>,
) -> Variables {
    let mut named = Vec::new();
    visit(root, &mut Vec::new(), &mut |path, text| {
        for inside in references(text) {
            if let Some(name) = variable_without_default(inside)
                && !env.contains_key(name)
            {
                let stands_for_key = is_api_key(path) && text == format!("${{{inside}}}");
                named.push((name.to_owned(), inside.to_owned(), stands_for_key));
            }
        }
    });
    let api_keys: BTreeSet<String> = named
        .iter()
        .filter(|(_, _, stands_for_key)| *stands_for_key)
        .map(|(name, _, _)| name.clone())
        .collect();
    let mut reported = BTreeSet::new();
    let mut findings = Vec::new();
    for (name, inside, _) in named {
        if api_keys.contains(&name) || !reported.insert(name.clone()) {
            continue;
        }
        let message = format!("environment variable `{name}` is not set for the collector");
        let remedy =
            format!("set it in the collector's `env`, or give a default: `${{env:{name}:-…}}`");
        let place = place(&config.text, &format!("${{{inside}}}"));
        findings.push(Finding::new(&config.file, message).at(place).suggest(Some(remedy)));
    }
    Variables { api_keys, findings }
}

/// Returns whether the path is that of a Datadog component's API key, `exporters.datadog/x.api.key`, or of the header that carries it
/// in OTLP, `exporters.otlphttp/x.headers.dd-api-key`.
fn is_api_key(path: &[String]) -> bool {
    match path {
        [section, id, map, key] => match kind(id) {
            "datadog" => {
                matches!(section.as_str(), "exporters" | "extensions")
                    && map == "api"
                    && key == "key"
            }
            "otlphttp" | "otlp_http" => {
                section == "exporters"
                    && map == "headers"
                    && key.eq_ignore_ascii_case(API_KEY_HEADER)
            }
            _ => false,
        },
        _ => false,
    }
}

fn visit(value: &Value, path: &mut Vec<String>, see: &mut impl FnMut(&[String], &str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push(key.clone());
                visit(value, path, see);
                path.pop();
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                path.push(index.to_string());
                visit(value, path, see);
                path.pop();
            }
        }
        Value::String(text) => see(path, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the texts between `${` and `}`; `$$` is a dollar sign.
fn references(text: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(dollar) = rest.find('$') {
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{')
            && let Some(end) = after.find('}')
        {
            found.push(&after[..end]);
            rest = &after[end + 1..];
        }
    }
    found
}

/// `NAME` of a text that is one reference to a variable and nothing else.
pub(super) fn whole(text: &str) -> Option<&str> {
    variable_without_default(text.strip_prefix("${")?.strip_suffix('}')?)
}

/// `NAME` of `env:NAME` and of `NAME`; other schemes, and variables with a default, are none.
fn variable_without_default(inside: &str) -> Option<&str> {
    let name = match inside.split_once(':') {
        Some(("env", name)) => name,
        Some(_) => return None,
        None => inside,
    };
    (!name.is_empty() && !name.contains(":-")).then_some(name)
}

/// Finds the first occurrence of a text outside comments.
fn place(text: &str, wanted: &str) -> Option<FilePlace> {
    text.lines().zip(1..).find_map(|(line, number)| {
        let column = line.find(wanted).filter(|_| !line.trim_start().starts_with('#'))?;
        let column = line[..column].chars().count() as u64 + 1;
        Some(FilePlace { line: number, column })
    })
}
