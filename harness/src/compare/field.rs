//! The fields of two spans side by side.

use std::collections::BTreeMap;

use crate::trace::Span;

/// A field of a span in both runs; `None` where it is not there.
#[derive(Debug)]
pub(super) struct Field<'a> {
    /// As `resource`, `meta.http.url` or `metrics.http.status_code`.
    pub(super) name: String,
    /// Key in meta or metrics, else the field.
    pub(super) key: &'a str,
    pub(super) a: Option<String>,
    pub(super) b: Option<String>,
}

/// Reports the fields of two spans that differ, as they are; those that only one of two forms carries are left out, and counted.
pub(super) fn differing<'a>(a: &'a Span, b: &'a Span, mut take: impl FnMut(Field<'a>)) -> usize {
    let mut left_out = 0;
    let mut plain = |key: &'static str, a: String, b: String| {
        if a != b {
            take(Field { name: key.to_owned(), key, a: Some(a), b: Some(b) });
        }
    };
    let texts = [
        ("service", &a.service, &b.service),
        ("name", &a.name, &b.name),
        ("resource", &a.resource, &b.resource),
        ("type", &a.span_type, &b.span_type),
        ("env", &a.env, &b.env),
        ("hostname", &a.hostname, &b.hostname),
        ("container_id", &a.container_id, &b.container_id),
        ("language", &a.language, &b.language),
    ];
    // The facts of a payload are Datadog's own; of OTLP it makes them on its side.
    let is_one_form = a.form == b.form;
    for (key, a, b) in texts {
        if a != b && !is_one_form && key == "language" {
            left_out += 1;
        } else if a != b {
            plain(key, a.clone(), b.clone());
        }
    }
    plain("error", a.error.to_string(), b.error.to_string());
    plain("priority", a.priority.to_string(), b.priority.to_string());
    plain("dropped", a.dropped.to_string(), b.dropped.to_string());
    let carries = |key: &str| a.form.carries(key) && b.form.carries(key);
    let mut keyed = |prefix: &str, key: &'a str, a: Option<String>, b: Option<String>| {
        if a == b {
        } else if carries(key) {
            take(Field { name: format!("{prefix}.{key}"), key, a, b });
        } else {
            left_out += 1;
        }
    };
    for key in keys(&a.meta, &b.meta) {
        let (left, right) = (a.meta.get(key), b.meta.get(key));
        if left != right {
            keyed("meta", key, left.cloned(), right.cloned());
        }
    }
    for key in keys(&a.metrics, &b.metrics) {
        let (left, right) = (a.metrics.get(key), b.metrics.get(key));
        keyed("metrics", key, left.map(f64::to_string), right.map(f64::to_string));
    }
    left_out
}

/// The keys of both, each once.
fn keys<'a, V>(
    a: &'a BTreeMap<String, V>,
    b: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = &'a str> {
    let only_b = b.keys().filter(|key| !a.contains_key(*key));
    a.keys().chain(only_b).map(String::as_str)
}
