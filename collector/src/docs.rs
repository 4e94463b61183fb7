//! Writes docs/collector.md from the config types, and checks that it is up to date.
//!
//! `UPDATE_DOCS=1 cargo test -p collector docs` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::connector::ConnectorConfig;
use crate::exporter::{self, ExporterConfig, queue};
use crate::extension::{self, ExtensionConfig};
use crate::processor::{self, ProcessorConfig};
use crate::receiver::otlp::arrival;
use crate::receiver::{self, ReceiverConfig};
use crate::settings::{Component, Unsupported, service};
use crate::{connector, sender, server, tls, trace_batch};

fn reference() -> String {
    let mut out = String::from(
        "# The collector's settings\n\n\
         Written from the config types (`collector/src/docs.rs`); a test keeps it up to date.\n\n\
         The config is the OpenTelemetry Collector's YAML. `--config` takes a path, `file:`, `env:` or `yaml:`, and may come \
         several times: maps are merged key by key, anything else is replaced (with the gate `confmap.enableMergeAppendOption`, the \
         lists of extensions, receivers and exporters are joined). `--set key.of.a.setting=value` comes last. What is unknown, not \
         supported or inconsistent is an error that names file, line and key; all of them are reported at once. A key that is not supported is \
         taken with a value that asks for nothing, such as `transport: tcp`.\n\n\
         Values may hold `${env:NAME}`, `${env:NAME:-default}`, `${NAME}`, `${file:PATH}`, `${yaml:TEXT}`, and `$$` for a dollar \
         sign. Names, defaults and what is referred to may hold references again. A default is for a variable that is not set; one \
         that is set to nothing stays so. A value that is one reference is of the type that its text has in YAML, lists and maps \
         included. A file ends before the end of its last line. A variable that is not set and has no default is empty text, or an \
         empty list or map, and a note says so; a key, a header, a number, a duration or a word of a few must be there.\n\n\
         `validate` needs neither key nor network: an API key that is empty, or a key or header whose variable is not set, is a \
         note there, and an error where the config is to run.\n\n\
         With `--traces-only`, a config for all signals is read as one for traces: pipelines of `metrics`, `logs` and `profiles` are \
         left out, and so is what only they use, supported or not, keys that say where other signals come from or go to, and extensions \
         that are not supported and that nothing left refers to. A note says so of each. Without it, they are refused.\n",
    );
    section::<ReceiverConfig>(
        &mut out,
        &[(
            "otlp",
            component::<receiver::otlp::Config>(&[
                receiver::otlp::config::UNSUPPORTED,
                tls::UNSUPPORTED,
                tls::UNSUPPORTED_BY_SERVERS,
            ]),
        )],
    );
    limits(&mut out);
    section::<ProcessorConfig>(
        &mut out,
        &[
            (
                "attributes",
                component::<processor::attributes::Config>(&[processor::matching::UNSUPPORTED]),
            ),
            (
                "batch",
                component::<processor::batch::Config>(&[processor::batch::config::UNSUPPORTED]),
            ),
            (
                "groupbytrace",
                component::<processor::group_by_trace::Config>(&[
                    processor::group_by_trace::config::UNSUPPORTED,
                ]),
            ),
            (
                "k8s_attributes",
                component::<processor::k8s_attributes::Config>(&[
                    processor::k8s_attributes::config::UNSUPPORTED,
                ]),
            ),
            ("k8sattributes", also("processor", "k8s_attributes")),
            (
                "memory_limiter",
                component::<processor::memory_limiter::Config>(&[
                    processor::memory_limiter::config::UNSUPPORTED,
                ]),
            ),
            (
                "probabilistic_sampler",
                component::<processor::probabilistic_sampler::Config>(&[
                    processor::probabilistic_sampler::config::UNSUPPORTED,
                ]),
            ),
            ("resource", component::<processor::resource::Config>(&[])),
            (
                "resource_detection",
                component::<processor::resource_detection::Config>(&[
                    processor::resource_detection::config::UNSUPPORTED,
                ]),
            ),
            ("resourcedetection", also("processor", "resource_detection")),
            ("span", component::<processor::span::Config>(&[processor::matching::UNSUPPORTED])),
            (
                "tail_sampling",
                component::<processor::tail_sampling::Config>(&[
                    processor::tail_sampling::config::UNSUPPORTED,
                ]),
            ),
            ("tailsampling", also("processor", "tail_sampling")),
        ],
    );
    section::<ExporterConfig>(
        &mut out,
        &[
            (
                "datadog",
                component::<exporter::datadog::Config>(&[
                    exporter::datadog::config::UNSUPPORTED,
                    exporter::http_client::UNSUPPORTED,
                    queue::UNSUPPORTED,
                    tls::UNSUPPORTED,
                ]),
            ),
            (
                "debug",
                component::<exporter::debug::Config>(&[exporter::debug::config::UNSUPPORTED]),
            ),
            (
                "otlp",
                component::<exporter::otlp::Config>(&[
                    exporter::otlp::config::UNSUPPORTED,
                    queue::UNSUPPORTED,
                    tls::UNSUPPORTED,
                ]),
            ),
            ("otlp_grpc", also("exporter", "otlp")),
            ("otlp_http", also("exporter", "otlphttp")),
            (
                "otlphttp",
                component::<exporter::otlphttp::Config>(&[
                    exporter::otlphttp::config::UNSUPPORTED,
                    exporter::http_client::UNSUPPORTED,
                    queue::UNSUPPORTED,
                    tls::UNSUPPORTED,
                ]),
            ),
        ],
    );
    section::<ConnectorConfig>(
        &mut out,
        &[("datadog", component::<connector::Config>(&[connector::config::UNSUPPORTED]))],
    );
    section::<ExtensionConfig>(
        &mut out,
        &[
            (
                "basicauth",
                component::<extension::basic_auth::Config>(&[
                    extension::basic_auth::config::UNSUPPORTED,
                ]),
            ),
            (
                "bearertokenauth",
                component::<extension::bearer_token_auth::Config>(&[
                    extension::bearer_token_auth::config::UNSUPPORTED,
                ]),
            ),
            (
                "file_storage",
                component::<extension::file_storage::Config>(&[
                    extension::file_storage::config::UNSUPPORTED,
                ]),
            ),
            (
                "health_check",
                component::<extension::health_check::Config>(&[
                    extension::health_check::config::UNSUPPORTED,
                ]),
            ),
            ("trace_ledger", component::<extension::trace_ledger::Config>(&[])),
        ],
    );
    out.push_str("\n## `service`\n");
    out.push_str(&component::<service::Service>(&[service::UNSUPPORTED]));
    tested_against(&mut out);
    out
}

/// Writes what each part is held to.
fn tested_against(out: &mut String) {
    let parts = [
        (
            "how configs are read; the receiver `otlp`; the processors `attributes`, `groupbytrace`, `probabilistic_sampler`, `resource`, `span`, `tail_sampling`",
            "the OpenTelemetry Collector 0.165, put together from its modules (of `attributes`, `span` and `tail_sampling` contrib's 0.161): made-up configs, requests, spans and traces go through both, and what comes out is compared field by field (`tests/differential/newest`). Differences that are meant are listed with their reasons in `meant.yaml`",
        ),
        (
            "the receiver's `cors`, `auth` and `tls.reload_interval`; `basicauth`, `bearertokenauth`",
            "the sources of the Collector 0.165, of rs/cors 1.11 and of go-htpasswd 1.2; tests of their own (`collector/tests/component`), with passwords hashed by OpenSSL",
        ),
        (
            "the exporter `datadog`",
            "Datadog's trace agent 0.85.4 (`tests/differential/agent`) and contrib's exporter 0.155 behind the Collector (`tests/differential/reference`), with made-up spans; payloads that the agent's code made (`collector/testdata`). Contrib's exporter 0.165 is not among them: the modules it needs could not all be had",
        ),
        (
            "the processor `k8s_attributes`",
            "a played API, and a real cluster in which pods are replaced (`tests/cluster`). Not contrib's processor, whose module could not be downloaded: what it does is taken from its documentation",
        ),
        (
            "the processor `resource_detection`",
            "metadata services played as AWS, Docker and Kubernetes describe them (`collector/src/processor/resource_detection/tests.rs`). Not contrib's processor, whose modules could not all be had",
        ),
        (
            "the processors `batch` and `memory_limiter`, queues and storage",
            "tests of their own: simulations of faults, restarts and lack of room. What they promise is more than the Collector does ([reliability](reliability.md))",
        ),
    ];
    out.push_str("\n## Tested against\n\n| part | held to |\n| --- | --- |\n");
    for (part, against) in parts {
        let _infallible = writeln!(out, "| {part} | {against}. |");
    }
}

/// Says which other name a component is built under, too.
fn also(noun: &str, name: &str) -> String {
    format!("\nThe {noun} `{name}` by another name.\n")
}

fn section<C: Component>(out: &mut String, components: &[(&str, String)]) {
    let names: Vec<_> = components.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, C::KINDS, "every component is described");
    let _ = writeln!(out, "\n## `{}`", C::SECTION);
    for (name, text) in components {
        let _ = write!(out, "\n### `{name}`\n{text}");
    }
    out.push_str("\nNot supported:\n\n");
    list(out, &[C::UNSUPPORTED]);
}

/// Lists what is not supported, by what to do instead.
fn list(out: &mut String, unsupported: &[Unsupported]) {
    for (instead, names) in unsupported.iter().flat_map(|table| table.0) {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "- {}: {instead}", names.join(", "));
    }
}

fn component<T: JsonSchema>(unsupported: &[Unsupported]) -> String {
    let schema = schema_for!(T).to_value();
    let mut out = String::new();
    if let Some(about) = schema["description"].as_str() {
        let _ = writeln!(out, "\n{}", one_line(about));
    }
    let mut rows = Vec::new();
    keys(&schema, &schema, "", &mut Vec::new(), &mut rows);
    if !rows.is_empty() {
        out.push_str("\n| key | type | |\n| --- | --- | --- |\n");
        for (key, kind, about) in rows {
            let _ = writeln!(out, "| `{key}` | {kind} | {about} |");
        }
    }
    if !unsupported.is_empty() {
        out.push_str("\nNot supported:\n\n");
        list(&mut out, unsupported);
    }
    out
}

/// All keys below a schema, each with its type and what it does.
///
/// A map that may hold itself is described once: `above` has the maps around this one.
fn keys<'a>(
    root: &'a Value,
    schema: &'a Value,
    path: &str,
    above: &mut Vec<&'a Value>,
    rows: &mut Vec<(String, String, String)>,
) {
    let Some(properties) = schema["properties"].as_object() else { return };
    if above.iter().any(|known| std::ptr::eq(*known, schema)) {
        return;
    }
    above.push(schema);
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let target = resolve(root, property);
        let about = property["description"].as_str().or(target["description"].as_str());
        let nested = match kind(root, property).as_str() {
            "list of maps" => Some((resolve(root, &target["items"]), format!("{path}[]"))),
            "map of maps" => {
                Some((resolve(root, &target["additionalProperties"]), format!("{path}.*")))
            }
            "map" if target["properties"].is_object() => Some((target, path.clone())),
            _ => None,
        };
        rows.push((path, kind(root, property), one_line(about.unwrap_or_default())));
        if let Some((schema, path)) = nested {
            keys(root, schema, &path, above, rows);
        }
    }
    above.pop();
}

/// Resolves a reference; of an option, returns the schema of its value.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolve(
            root,
            root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null),
        );
    }
    let some =
        schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
    some.map_or(schema, |some| resolve(root, some))
}

fn kind(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    let words = |schema: &Value| -> Option<Vec<String>> {
        let of = |one: &Value| one["const"].as_str().map(|word| format!("`{word}`"));
        match schema["enum"].as_array() {
            Some(words) => Some(
                words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect(),
            ),
            None => schema["oneOf"]
                .as_array()?
                .iter()
                .map(|one| match one["enum"].as_array() {
                    Some(words) => Some(
                        words
                            .iter()
                            .filter_map(Value::as_str)
                            .map(|word| format!("`{word}`"))
                            .collect::<Vec<_>>()
                            .join(", "),
                    ),
                    None => of(one),
                })
                .collect(),
        }
    };
    if let Some(words) = words(schema) {
        return words.join(", ");
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().find(|name| *name != "null").and_then(Value::as_str),
        name => name.as_str(),
    };
    match name {
        Some("object") => match &schema["additionalProperties"] {
            Value::Object(_) => format!("map of {}s", kind(root, &schema["additionalProperties"])),
            _ => "map".into(),
        },
        Some("array") => format!("list of {}s", kind(root, &schema["items"])),
        Some("string") => "text".into(),
        Some(name) => name.into(),
        None => "any".into(),
    }
}

/// Writes the limits that hold for a receiver whatever its settings.
fn limits(out: &mut String) {
    let limits = [
        (
            "connections of a port",
            format!(
                "{}, and at most three quarters of the open files that the process may have; a newcomer beyond that takes the place of an idle one",
                server::MAX_CONNECTIONS
            ),
        ),
        (
            "time for a TLS handshake, for a connection's first request, and for each head of HTTP/1",
            format!(
                "{} s, {1} s, {1} s",
                server::HANDSHAKE_TIMEOUT.as_secs(),
                server::HEADER_TIMEOUT.as_secs()
            ),
        ),
        (
            "head of a request",
            format!(
                "{} KiB, and in HTTP/1 {} headers; larger ones are answered 431",
                server::MAX_HEAD_BYTES >> 10,
                server::MAX_HEADERS
            ),
        ),
        (
            "time for a request to arrive",
            format!("{} s, or its `grpc-timeout` where that is less", arrival::ARRIVAL.as_secs()),
        ),
        (
            "time for which a sender is held while there is no room",
            format!(
                "{} s, or four fifths of its `grpc-timeout` where that is less",
                sender::LONGEST_HOLD.as_secs()
            ),
        ),
        (
            "bytes of requests that are not answered yet, over all connections of a receiver",
            format!(
                "{} MiB, or twice the largest request; when it is full, a request that takes longer than {} s to arrive is given up, else the newcomer is asked to come again",
                arrival::ROOM >> 20,
                arrival::ARRIVAL_WITHOUT_ROOM.as_secs()
            ),
        ),
        ("depth of nested values", format!("{} levels", trace_batch::MAX_DEPTH)),
        (
            "what a request comes to when each span has its resource's and scope's attributes",
            format!(
                "{} MiB; each span counts {} bytes at least",
                trace_batch::MAX_UNFOLDED >> 20,
                trace_batch::SPAN_BYTES
            ),
        ),
        (
            "streams that an HTTP/2 client resets",
            "20 that were not begun with yet; then the connection is closed".to_owned(),
        ),
    ];
    out.push_str(
        "\n### Limits of every receiver\n\nSo that no sender takes memory or time from the others:\n\n| limit | |\n| --- | --- |\n",
    );
    for (what, limit) in limits {
        let _infallible = writeln!(out, "| {what} | {limit} |");
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/collector.md");
    let reference = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &reference).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference,
        "run `UPDATE_DOCS=1 cargo test -p collector docs` and commit docs/collector.md"
    );
}
