//! Says why a span has its names in Datadog: which rule gave them, and of which attributes.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::attributes::{Attrs, Both, Keys};
use super::concepts::SERVICE;
use super::rules::Rule;
use super::{Settings, naming, tracer_payload};
use crate::exporter::datadog::model::Text;
use crate::trace_batch::TraceBatch;

/// A span that is asked about.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Span kind, in OpenTelemetry's word for it.
    pub kind: String,
    /// Name of the span.
    pub name: String,
    /// Attributes of the span; a value that is an integer counts as one.
    pub attributes: Vec<(String, String)>,
    /// Attributes of the span's resource.
    pub resource: Vec<(String, String)>,
}

const KINDS: [(&str, u32); 5] =
    [("internal", 1), ("server", 2), ("client", 3), ("producer", 4), ("consumer", 5)];

/// Returns what Datadog shows of the span, and for each of its names the rule that gave it.
///
/// # Errors
///
/// If its kind is none of OpenTelemetry's.
pub fn explain(question: &Question) -> Result<String, String> {
    let kind = KINDS.iter().find(|(name, _)| *name == question.kind);
    let Some((_, kind)) = kind else {
        let known: Vec<_> = KINDS.iter().map(|(name, _)| format!("`{name}`")).collect();
        return Err(format!(
            "`{}` is no kind of span; there are {}",
            question.kind,
            known.join(", ")
        ));
    };
    let span = json!({
        "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708", "kind": kind,
        "name": question.name, "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000000001",
        "attributes": attributes(&question.attributes),
    });
    let resource = json!({ "attributes": attributes(&question.resource) });
    let request =
        json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": [span] }] }] });
    let batch =
        TraceBatch::from_json(request.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let settings = Settings::default();
    let mut out = String::new();
    for resource in batch.resources() {
        let of_resource = Attrs::new(resource.attributes());
        for (_, span) in resource.spans() {
            let own = Attrs::new(span.attributes());
            let both = Both { span: &own, resource: &of_resource };
            let tracer = tracer_payload(&settings, resource, i64::MAX / 2, &mut HashMap::new());
            let shown = tracer.chunks.iter().flat_map(|chunk| &chunk.spans).next();
            let Some(shown) = shown else {
                return Err(
                    "its attributes ask for it to be dropped, so that nothing is shown".into()
                );
            };
            let service = both.text(SERVICE);
            let _infallible = writeln!(out, "service         {}", text(&shown.service));
            let of_service = match service.is_empty() {
                true => "    no `service.name` that is text\n".to_owned(),
                false => format!("    made of {}\n", made_of(&[SERVICE], both)),
            };
            out.push_str(&of_service);
            let names = [
                ("operation name", naming::operation_v2(&span, both), &shown.name),
                ("resource name", naming::resource_v2(&span, both), &shown.resource),
                ("type", naming::span_type(&span, both), &shown.span_type),
            ];
            for (field, (given, rule), shown) in names {
                put_name(&mut out, field, &given, rule, shown, both);
            }
            let _infallible = write!(
                out,
                "\nkind `{}` and its attributes become\n",
                naming::kind_name(span.kind)
            );
            for (key, value) in shown.meta.iter() {
                let _infallible = writeln!(out, "    meta     {} = {}", text(key), text(value));
            }
            for (key, value) in shown.metrics.iter() {
                let _infallible = writeln!(out, "    metrics  {} = {value}", text(key));
            }
        }
    }
    Ok(out)
}

fn put_name(
    out: &mut String,
    field: &str,
    given: &Text<'_>,
    rule: &Rule,
    shown: &Text<'_>,
    both: Both<'_, '_>,
) {
    let _infallible = writeln!(out, "{field:<15} {}", text(shown));
    let _infallible = write!(out, "    rule `{}`: {}", rule.name, rule.when);
    let made_of = made_of(rule.keys, both);
    if !made_of.is_empty() {
        let _infallible = write!(out, "; made of {made_of}");
    }
    if given != shown {
        let _infallible =
            write!(out, "; it gives `{}`, which is then made fit to be shown", text(given));
    }
    out.push('\n');
}

/// Returns the attributes that count, with their values.
fn made_of(keys: &[Keys], both: Both<'_, '_>) -> String {
    let mut counted = Vec::new();
    for keys in keys {
        for name in keys.names() {
            let lists = [(both.span, ""), (both.resource, " (of the resource)")];
            let found = lists.into_iter().find_map(|(list, whose)| {
                let value = list.concept(name);
                (!value.is_empty()).then(|| format!("{name}={}{whose}", text(&value)))
            });
            if let Some(found) = found {
                counted.push(found);
                break;
            }
        }
    }
    counted.join(", ")
}

fn attributes(pairs: &[(String, String)]) -> Value {
    let value = |text: &String| match text.parse::<i64>() {
        Ok(_) => json!({ "intValue": text }),
        Err(_) => json!({ "stringValue": text }),
    };
    pairs.iter().map(|(key, text)| json!({ "key": key, "value": value(text) })).collect()
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Question, explain};

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_name_is_explained_by_its_rule_and_the_attributes_that_count() {
        let question = Question {
            kind: "client".into(),
            name: "SELECT shop".into(),
            attributes: pairs(&[
                ("db.system", "mysql"),
                ("db.system.name", "postgresql"),
                ("db.query.text", "SELECT a FROM t WHERE b = 7"),
            ]),
            resource: pairs(&[("service.name", "Shop")]),
        };
        let said = explain(&question).unwrap();
        for line in [
            "service         shop",
            "    made of service.name=Shop (of the resource)",
            "operation name  postgresql.query",
            "    rule `database`: a client has a database system; made of db.system.name=postgresql",
            "resource name   SELECT a FROM t WHERE b = ?",
            "type            sql",
            "    meta     db.query.text = SELECT a FROM t WHERE b = ?",
        ] {
            assert!(said.lines().any(|said| said == line), "{line}\n{said}");
        }
        let internal =
            Question { kind: "internal".into(), name: "work".into(), ..Question::default() };
        let said = explain(&internal).unwrap();
        assert!(
            said.contains("resource name   work\n    rule `span-name`: nothing of the above\n"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_kind_is_an_error_that_lists_them() {
        let odd = Question { kind: "sever".into(), ..Question::default() };
        assert!(explain(&odd).unwrap_err().contains("`server`"));
    }
}
