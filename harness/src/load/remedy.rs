//! Remedies for what people write into a scenario from habit.

use crate::source::{Problem, Wrong};

/// Returns the remedy for something that a scenario's types do not take; `None` where the nearest key says enough.
pub(super) fn remedy(wrong: &Wrong<'_>) -> Option<String> {
    match wrong.problem {
        Problem::UnknownKey => unknown_key(wrong.path, wrong.value),
        Problem::UnknownWord => None,
        Problem::Missing("because") => Some("give the reason, in words".to_owned()),
        Problem::Missing(_) | Problem::Type => form(wrong.path, wrong.value),
    }
}

fn unknown_key(path: &[&str], value: &str) -> Option<String> {
    let remedy = match path {
        [.., "is", "http.status_code" | "http.response.status_code"] => {
            format!("write `status: {value}`")
        }
        [.., "is", key] if key.contains('.') => attribute(key, value),
        [.., "spans" | "totals", "[]", key] | [.., "first" | "then" | "one" | "other", key]
            if key.contains('.') =>
        {
            format!("put it under `is`: {}", attribute(key, value))
        }
        [.., "children" | "linked", "[]", key] | [.., "tree", key] if key.contains('.') => {
            format!("put it under `is`: {}", attribute(key, value))
        }
        ["requests", "[]", "body", key] => {
            format!("write `body: {{ json: {{ {key}: {value} }} }}` for a JSON document")
        }
        ["requests", "[]", form @ ("json" | "text" | "file")] => {
            format!("write `body: {{ {form}: {value} }}`")
        }
        ["requests", "[]", "path" | "url" | "uri" | "method"] => {
            "write the method with the path: `get: /orders`".to_owned()
        }
        ["requests", "[]", "expect"] => {
            "write `status` and `answer` beside the path; `expect` is the scenario's".to_owned()
        }
        ["system", "path"] => format!("write `file: {value}`"),
        ["faults", "[]", "service" | "workload" | "on"] => "write `at`".to_owned(),
        _ => return None,
    };
    Some(remedy)
}

/// How an attribute is asked for: OpenTelemetry's numbers are metrics.
fn attribute(key: &str, value: &str) -> String {
    match value.parse::<f64>() {
        Ok(_) => format!("write `metrics: {{ {key}: {value} }}` for an attribute"),
        Err(_) => format!("write `meta: {{ {key}: {value} }}` for an attribute"),
    }
}

fn form(path: &[&str], value: &str) -> Option<String> {
    let of_rule = |key: &str, more: &str| {
        let name = if is_word(value) { value } else { "RULE" };
        format!("write `{key}: [{{ rule: {name}, {more}because: … }}]`")
    };
    let remedy = match path {
        [key @ "tolerate", ..] => of_rule(key, ""),
        [key @ "levels", ..] => of_rule(key, "level: off, "),
        ["requires", ..] => "write `requires: [{ collector: FEATURE, because: … }]`".to_owned(),
        ["requests"] => "each request begins with `- get: /…`".to_owned(),
        ["requests", "[]"] => "write `{ get: /orders }`, or another method".to_owned(),
        ["requests", "[]", "body"] => {
            "write `body: { json: … }`, with the document as YAML, or `{ text: … }`, or `{ file: … }`"
                .to_owned()
        }
        ["requests", "[]", "headers"] => "write `headers: { NAME: value }`".to_owned(),
        ["requests", "[]", "save"] => "write `save: { NAME: path.in.the.answer }`".to_owned(),
        ["requests", "[]", "answer"] => "write `answer: { json: { path: value } }`, or `text`, or `headers`".to_owned(),
        ["requests", "[]", "status"] => {
            "write the one status that is right, `status: 201`; `any_status: true` takes any"
                .to_owned()
        }
        ["system"] => {
            let name = if is_word(value) { value } else { "shop.system.yaml" };
            format!("write `system: {{ file: {name} }}`")
        }
        ["faults"] | ["faults", "[]"] => {
            "write `faults: [{ at: WORKLOAD, status: 503 }]`, or another kind of fault".to_owned()
        }
        ["expect", "services"] if is_word(value) => format!("write `services: [{value}]`"),
        ["expect", "tree"] => {
            "write its topmost span, `{ server: shop }`, and those below it under `children`"
                .to_owned()
        }
        ["expect", key @ ("spans" | "totals")] => {
            format!("write `{key}: [{{ at: shop, kind: server, count: 1 }}]`")
        }
        ["expect"] => "write what must hold by its keys: `expect: { services: [shop] }`".to_owned(),
        _ => return None,
    };
    Some(remedy)
}

fn is_word(value: &str) -> bool {
    !value.is_empty()
        && value.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-/".contains(letter))
}
