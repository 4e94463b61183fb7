//! Writes docs/mapping.md from the tables that both ways of translating read.

use std::fmt::Write as _;

use super::attributes::Keys;
use super::concepts::CONCEPTS;
use super::limits::{
    MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_RESOURCE_BYTES, MAX_TAG_CHARS, MAX_TYPE_BYTES,
    MAX_VALUE_BYTES,
};
use super::rules::{self, Rule};
use super::table::{CONTAINER_TAGS, Class, FACTS, Fact, HEADERS, Row, TABLE};

const KINDS: [&str; 6] = ["", "internal", "server", "client", "producer", "consumer"];

/// Returns docs/mapping.md: the rules of naming, what becomes of each attribute, and since which version.
pub fn page() -> String {
    let mut out = String::from(
        "# What Datadog shows of an OTLP span\n\n\
         Written from the table that the collector translates by (`collector/src/exporter/datadog/translate/table.rs`); a test \
         keeps it up to date, and `tracecheck explain mapping` prints it.\n\n\
         The mapping is that of Datadog's trace agent v0.85.4 ([ADR 9](adr/0009-newest-mapping.md)). *Since* is the version of its \
         library (`pkg/trace`; A: of `otlp/attributes`) that has a rule first as it is here, so that you see what an older \
         collector does not do yet; contrib 0.155 has 0.77, 0.156 has 0.80, 0.163 has 0.83. *Proved by* names the recorded case of \
         the agent's own (below `collector/testdata/`) that holds us to it in `cargo test`. `tests/differential` compares each of \
         these attributes, and combinations of them, with what the agent sends.\n\n\
         ## Why a span has its name\n\n\
         The first rule that applies counts. Where it says of what a name is made, the attribute that is first counts before \
         the next one, and one of the span before one of its resource; text alone counts, and an empty text is none. To see \
         it for one span:\n\n\
         ```console\n\
         $ tracecheck explain mapping --kind client db.system.name=postgresql 'db.query.text=SELECT a FROM t WHERE b = 7'\n\
         ```\n",
    );
    rules(&mut out, "Operation name", rules::operation::ALL);
    out.push_str(
        "\nIt is made normal: letters, digits, points and underscores alone, and at most 100 bytes.\n",
    );
    rules(&mut out, "Resource name", rules::resource::ALL);
    rules(&mut out, "Type", rules::span_type::ALL);
    out.push_str(
        "\nThe gate `datadog.EnableOperationAndResourceNameV2`, `span_name_as_resource_name` and `span_name_remappings` switch to the \
         first version of the naming: the operation name is `<scope>.<kind>`, and a database's query names no resource.\n",
    );
    attributes(&mut out);
    resources(&mut out);
    others(&mut out);
    out
}

fn rules(out: &mut String, field: &str, rules: &[&Rule]) {
    let _infallible = write!(
        out,
        "\n### {field}\n\n| rule | when | gives | made of | since | for example |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for rule in rules {
        let Rule { name, when, gives, keys, since, example } = rule;
        let mut span = vec![KINDS[example.kind as usize].to_owned()];
        span.extend(example.attributes.iter().map(|(key, value)| format!("`{key}={value}`")));
        let keys: Vec<_> = keys.iter().map(|keys| quoted(*keys)).collect();
        let _infallible = writeln!(
            out,
            "| `{name}` | {when} | {gives} | {} | {since} | {}: `{}` |",
            keys.join("; "),
            span.join(", "),
            example.result
        );
    }
}

/// Names, of which the first counts before the next.
fn quoted(keys: Keys) -> String {
    keys.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn attributes(out: &mut String) {
    out.push_str(
        "\n## Attributes of spans\n\n\
         An attribute of a span is copied under its own key: text, booleans, lists and maps into `meta` (as JSON, what is no text), numbers into \
         `metrics`. One of the resource or the scope goes into `meta`, where the span has none of that name. These are the \
         exceptions, and those that something is made of besides. Of two attributes that come to one key the first stays, \
         unless it is empty.\n\n\
         | attribute | Datadog's | besides | since | proved by |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in &TABLE {
        let key =
            if row.key.is_empty() { "(an empty key)".into() } else { format!("`{}`", row.key) };
        let Row { since, proof, .. } = row;
        let _infallible =
            writeln!(out, "| {key} | {} | {} | {since} | `{proof}` |", target(row), besides(row));
    }
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let _infallible = writeln!(
        out,
        "| `{}*` | `{}*` | | 0.77 or before | `tests/differential` |",
        text(HEADERS.0),
        text(HEADERS.1)
    );
}

fn target(row: &Row) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match row.class {
        Class::Skipped => "–".into(),
        Class::Renamed(name) => format!("`{}`", text(name)),
        Class::StatusCode => format!("`{}`; a text that is no number stays there", text(row.class.key(b"").unwrap_or_default())),
        Class::Url => format!("`{}`, without a user and password where the type is `web` or `http`", text(row.class.key(b"").unwrap_or_default())),
        Class::Query => "the same, without literals where the type is `sql` or `cassandra`".into(),
        Class::PeerService => "the same, made a normal tag".into(),
        Class::Unusual => match row.key {
            "analytics.event" => "–".into(),
            "sampling.priority" => "the metric `_sampling_priority_v1`; a text stays".into(),
            "sql.query" => "the same, without literals where the type is `sql` or `cassandra`; an empty one goes".into(),
            "env" => "the same, made a normal tag".into(),
            "error.msg" | "version" => "the same, before what is made here".into(),
            _ => "the same, unless the span has it itself".into(),
        },
        Class::Same | Class::GrpcCode | Class::DbName | Class::OfResource | Class::Header => "the same".into(),
    }
}

/// Says what else is made of an attribute.
fn besides(row: &Row) -> String {
    let is_of = |keys: &Keys| keys.names().any(|name| name == row.key);
    let concepts = CONCEPTS.iter().filter(|(_, keys)| keys.iter().any(is_of));
    concepts.map(|(name, _)| *name).collect::<Vec<_>>().join("; ")
}

fn resources(out: &mut String) {
    out.push_str(
        "\n## Attributes of resources\n\n\
         They are copied into each span, too, unless it says otherwise.\n\n\
         | attribute | field of the payload | when | for example | since | proved by |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for Fact { key, when, since, proof, example, field, result } in &FACTS {
        let example: Vec<_> =
            example.iter().map(|(key, value)| format!("`{key}={value}`")).collect();
        let example = example.join(", ");
        let result = if result.is_empty() { "none".into() } else { format!("`{result}`") };
        let field = field.name();
        let _infallible = writeln!(
            out,
            "| `{key}` | {field} | {when} | {example}: {result} | {since} | `{proof}` |"
        );
    }
    for (key, tag, since, proof) in CONTAINER_TAGS {
        let _infallible = writeln!(
            out,
            "| `{key}` | container tag `{tag}` | it is text | | {since} | `{proof}` |"
        );
    }
}

fn others(out: &mut String) {
    let _infallible = write!(
        out,
        "\n## What is made without attributes\n\n\
         | of | Datadog's | since | proved by |\n| --- | --- | --- | --- |\n\
         | ids | the lower 64 bits of the trace id; all of it in `otel.trace_id` | 0.77 or before | `golden/11-ids` |\n\
         | kind | `span.kind` | 0.77 or before | `golden/13-kinds-toplevel` |\n\
         | status | `error`, `otel.status_code`, `otel.status_description`, `error.msg` | 0.77 or before | `golden-085/45-errors` |\n\
         | scope | `otel.library.name`, `otel.library.version` | 0.77 or before | `golden-085/50-scopes` |\n\
         | scope | `otel.scope.name`, `otel.scope.version` | 0.82.0 | `golden-085/50-scopes` |\n\
         | events | `events`, as JSON; `_dd.span_events.has_exception` | 0.77 or before | `golden-085/46-links-events` |\n\
         | links | `_dd.span_links`, as JSON | 0.77 or before | `golden-085/46-links-events` |\n\
         | tracestate | `w3c.tracestate` | 0.77 or before | `golden-085/47-sampling` |\n\
         | tracestate `ot=th:…`, `ot=p:…` | `_sample_rate`, by which stats are scaled up; `_dd1.sr.rcusr` of the root | 0.82.0 | `golden-085/47-sampling` |\n\
         | parents | `_top_level`, where a service is entered | 0.77 or before | `golden/13-kinds-toplevel` |\n\
         | parents | the root: the last span without a parent, else the first whose parent is elsewhere, else the last | 0.77 or before | `tests/differential` |\n\
         | priority of the trace | the chunk's priority; its tags `_dd.otlp_sr`, `_dd.p.dm`; `_sampling_priority_rate_v1` of the root | 0.77 or before | `golden-085/47-sampling` |\n\n\
         ## What is taken out\n\n\
         | of spans of the type | what | since | proved by |\n| --- | --- | --- | --- |\n\
         | `sql`, `cassandra` | literals of the resource name, `db.statement`, `db.query.text`, `sql.query` | 0.85.0; of the resource name 0.77 or before | `golden-085/68-sql` |\n\
         | `redis`, `valkey` | arguments of the resource name's commands | 0.77 or before | `golden-085/41-db` |\n\
         | `web`, `http` | user and password of `http.url` | 0.77 or before | `golden-085/40-http` |\n\n\
         Nothing else is, by any version of the agent as exporters set it up. `traces.obfuscation` of the `datadog` exporter takes out more, where it is \
         asked for ([collector.md](collector.md#datadog)): of MongoDB, Elasticsearch, OpenSearch, DynamoDB, Redis, Valkey, Memcached, of SQL on other \
         spans, of parameters, and of the queries in URLs.\n\n\
         ## Limits\n\n\
         | of | at most |\n| --- | --- |\n\
         | a key in `meta` or `metrics` | {MAX_KEY_BYTES} bytes, and three points behind it |\n\
         | a value in `meta` | {MAX_VALUE_BYTES} bytes, and three points behind it |\n\
         | a resource name | {MAX_RESOURCE_BYTES} bytes |\n\
         | a type | {MAX_TYPE_BYTES} bytes |\n\
         | the name of a service or an operation | {MAX_NAME_BYTES} bytes |\n\
         | what is made a normal tag | {MAX_TAG_CHARS} characters |\n"
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use serde_json::{Value, json};

    use super::super::attributes::{Attrs, Both};
    use super::super::naming;
    use super::super::rules::{self, Rule};
    use super::super::table::{CONTAINER_TAGS, DIFFERENTIAL, FACTS, Fact, Field, TABLE};
    use super::super::{Settings, translate};
    use crate::trace_batch::TraceBatch;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_page_is_up_to_date() {
        let (path, page) = (root().join("docs/mapping.md"), super::page());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == page,
            "docs/mapping.md is not current: `UPDATE_DOCS=1 cargo test -p collector --lib page`"
        );
    }

    fn attributes(pairs: &[(&str, &str)]) -> Value {
        let pairs = pairs.iter();
        pairs.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
    }

    fn batch(kind: u32, resource: &[(&str, &str)], span: &[(&str, &str)]) -> TraceBatch {
        let span = json!({
            "traceId": "0000000000000000000000000000000a", "spanId": "000000000000000b", "kind": kind,
            "name": "the span's name", "startTimeUnixNano": "1700000000000000000", "attributes": attributes(span),
        });
        let request = json!({"resourceSpans": [
            {"resource": {"attributes": attributes(resource)}, "scopeSpans": [{"spans": [span]}]}
        ]});
        TraceBatch::from_json(request.to_string().as_bytes()).unwrap()
    }

    /// Returns the rules that apply to the only span of a batch, in the order of the page's tables.
    fn rules_of(batch: &TraceBatch) -> [&'static str; 3] {
        let resource = batch.resources().next().unwrap();
        let of_resource = Attrs::new(resource.attributes());
        let (_, span) = resource.spans().next().unwrap();
        let own = Attrs::new(span.attributes());
        let both = Both { span: &own, resource: &of_resource };
        let names = [
            naming::operation_v2(&span, both),
            naming::resource_v2(&span, both),
            naming::span_type(&span, both),
        ];
        names.map(|(_, rule)| rule.name)
    }

    #[test]
    fn each_rule_of_naming_gives_what_its_example_says_and_counts_before_the_next() {
        let fields = [rules::operation::ALL, rules::resource::ALL, rules::span_type::ALL];
        for (field, rules) in fields.into_iter().enumerate() {
            for (index, rule) in rules.iter().enumerate() {
                let Rule { name, example, .. } = rule;
                let alone = batch(example.kind, &[], example.attributes);
                assert_eq!(rules_of(&alone)[field], *name);
                let settings = Settings::default();
                let translation = translate(&settings, &alone, 1);
                let span = &translation.tracers[0].chunks[0].spans[0];
                let shown = [&span.name, &span.resource, &span.span_type][field];
                assert_eq!(String::from_utf8_lossy(shown), example.result, "{name}");
                for next in &rules[index + 1..] {
                    let mut both = example.attributes.to_vec();
                    both.extend(next.example.attributes);
                    let both = batch(example.kind, &[], &both);
                    assert_eq!(rules_of(&both)[field], *name, "beside {}", next.name);
                }
            }
        }
    }

    #[test]
    fn each_fact_of_a_resource_makes_the_field_that_it_says() {
        for Fact { key, example, field, result, .. } in &FACTS {
            let is_its = |name: &str| match key.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == *key,
            };
            let get = |resource: &[(&str, &str)]| {
                let settings = Settings { hostname: "fallback".into(), ..Settings::default() };
                let batch = batch(2, resource, &[]);
                let translation = translate(&settings, &batch, 1);
                let tracer = &translation.tracers[0];
                let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
                match field {
                    Field::HostName => text(&tracer.hostname),
                    Field::ContainerId => text(&tracer.container_id),
                    Field::Language => text(&tracer.language_name),
                    Field::TracerVersion => text(&tracer.tracer_version),
                    Field::Env => text(&tracer.env),
                    Field::HasStats => tracer.has_stats.to_string(),
                    Field::ContainerTags => {
                        tracer.tags.iter().map(|(_, tags)| text(tags)).collect()
                    }
                }
            };
            assert_eq!(get(example), *result, "{key}");
            let rest: Vec<_> = example.iter().copied().filter(|(name, _)| !is_its(name)).collect();
            assert!(rest.len() < example.len(), "{key}: its example has it");
            assert_ne!(get(&rest), *result, "{key}: something else made it");
        }
    }

    /// The keys of the page, each with its proof; of a prefix, what stands before the star.
    fn proofs() -> impl Iterator<Item = (&'static str, &'static str)> {
        let span = TABLE.iter().map(|row| (row.key, row.proof));
        let tags = CONTAINER_TAGS.iter().map(|(key, _, _, proof)| (*key, *proof));
        let facts = FACTS.iter().map(|fact| (fact.key.trim_end_matches('*'), fact.proof));
        span.chain(tags).chain(facts)
    }

    #[test]
    fn the_differential_test_makes_cases_of_each_attribute() {
        let folder = root().join("tests/differential/generate");
        let vocabulary = ["vocabulary.rs", "vocabulary/current.rs"]
            .map(|file| std::fs::read_to_string(folder.join(file)).unwrap())
            .concat();
        for (key, _) in proofs() {
            let begins = if key.ends_with('.') { "" } else { "\"" };
            let key = format!("(\"{key}{begins}");
            let is_there = key == "(\"\"" || vocabulary.replace("(\n        ", "(").contains(&key);
            assert!(is_there, "{key}: add it to {}", folder.display());
        }
    }

    #[test]
    fn each_proof_has_its_attribute() {
        let testdata = root().join("collector/testdata");
        for (key, proof) in proofs().filter(|(_, proof)| *proof != DIFFERENTIAL) {
            let mut keys = BTreeSet::new();
            for file in std::fs::read_dir(testdata.join(proof)).unwrap() {
                let file = file.unwrap().path();
                let name = file.file_name().unwrap().to_str().unwrap().to_owned();
                let is_request = name.starts_with("otlp.") || name.starts_with("requests");
                if is_request && name.ends_with(".json") {
                    let request = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
                    find_keys(&request, &mut keys);
                }
            }
            let is_its =
                |known: &String| known == key || key.ends_with('.') && known.starts_with(key);
            assert!(keys.iter().any(is_its), "{key}: {proof} does not have it");
        }
    }

    /// Collects the keys of all attributes.
    fn find_keys(value: &Value, keys: &mut BTreeSet<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| find_keys(value, keys)),
            Value::Object(fields) => {
                if let (Some(key), true) = (fields.get("key"), fields.contains_key("value")) {
                    keys.insert(key.as_str().unwrap_or_default().to_owned());
                }
                fields.values().for_each(|value| find_keys(value, keys));
            }
            _ => {}
        }
    }
}
