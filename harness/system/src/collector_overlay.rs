//! The second `--config` of a collector: it binds a user's config to the run's addresses and points its `datadog`
//! and `otlphttp` exporters at the mock intake, while the user's file stays as it is.
//!
//! The Collector merges maps and replaces lists and scalars, so the overlay holds maps and scalars alone, but for the
//! lists that are to be replaced. It is JSON, which is YAML. What cannot be pointed at the mock is refused: no test
//! talks to Datadog, or anybody else, by accident.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{Health, reference};
use harness_core::source::{self, FilePlace, Finding};
use harness_intake::decode::Route;

mod variables;

/// The variable that holds the run's API key in a collector and in the mock intake.
pub const API_KEY_VARIABLE: &str = "TRACECHECK_API_KEY";

/// The header in which Datadog's OTLP intake takes the API key.
const API_KEY_HEADER: &str = "dd-api-key";

/// Name of the port at which our collector reports what became of a trace's spans.
pub const LEDGER_PORT: &str = "ledger";
/// The extension that reports it.
pub const TRACE_LEDGER: &str = "trace_ledger";

/// Reference to the port of the collector's own metrics.
const METRICS_PORT: &str = "${port:metrics}";

/// A collector's config as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorConfig {
    /// Its path, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Types of pipelines that carry no traces.
const OTHER_SIGNALS: [&str; 3] = ["metrics", "logs", "profiles"];

/// The collector that reads the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Ours: port 0 may stand anywhere, and its metrics are served too.
    Builtin,
    /// Ours, which leaves out of the config what is for metrics, logs and profiles alone.
    BuiltinOfTraces,
    /// Another one, such as the reference collector: its own metrics are switched off, since all its processes on a
    /// machine would serve them at the same port.
    Foreign,
}

/// An overlay, and what the collector's workload needs for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The second config, with references in it.
    pub contents: String,
    /// Names of the ports that it binds.
    pub ports: Vec<String>,
    /// Health route of the collector, where the config has the extension.
    pub health: Option<Health>,
    /// Variables that the user's config names as API key and that must have the run's.
    pub api_key_variables: BTreeSet<String>,
}

/// Builds the overlay for a collector that sends to the workload `intake`, at its port `http`; `None` keeps the
/// destination of its config. `env` holds the variables of the collector's workload.
///
/// # Errors
///
/// All findings: the config cannot be read, sends elsewhere, or uses variables that are not set.
pub fn overlay(
    config: &CollectorConfig,
    reader: Reader,
    intake: Option<&str>,
    env: &BTreeMap<String, String>,
) -> Result<Overlay, Vec<Finding>> {
    let mut root: Value = source::read_yaml(&config.file, &config.text).map_err(|one| vec![one])?;
    if reader == Reader::BuiltinOfTraces {
        leave_other_signals_out(&mut root);
    }
    let mut maker = Maker { config, root: &root, env, ports: Vec::new(), findings: Vec::new() };
    let mut overlay = Map::new();
    maker.receivers(&mut overlay);
    if let Some(intake) = intake {
        maker.exporters(&mut overlay, intake);
    }
    let health = maker.extensions(&mut overlay);
    if reader != Reader::Foreign {
        maker.trace_ledger(&mut overlay);
    }
    maker.telemetry(&mut overlay, reader);
    let variables = variables::check(config, &root, env);
    maker.findings.extend(variables.findings);
    if !maker.findings.is_empty() {
        return Err(maker.findings);
    }
    // A number in the config, which no JSON value can hold before it is known.
    let contents = format!("{:#}", Value::Object(overlay))
        .replace(&format!("\"{METRICS_PORT}\""), METRICS_PORT);
    Ok(Overlay { contents, ports: maker.ports, health, api_key_variables: variables.api_keys })
}

/// Takes out what the built-in collector leaves out itself: the pipelines of other signals, the components that no other pipeline names,
/// and extensions that it does not have.
fn leave_other_signals_out(root: &mut Value) {
    let Some(pipelines) = root["service"]["pipelines"].as_object_mut() else { return };
    pipelines.retain(|id, _| !OTHER_SIGNALS.contains(&kind(id)));
    let named = pipelines.values().flat_map(|pipeline| {
        let lists = ["receivers", "processors", "exporters"].map(|list| pipeline[list].as_array());
        lists.into_iter().flatten().flatten().filter_map(Value::as_str)
    });
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    for section in ["receivers", "processors", "exporters", "connectors"] {
        if let Some(components) = root.get_mut(section).and_then(Value::as_object_mut) {
            components.retain(|id, _| named.contains(id));
        }
    }
    if let Some(used) = root.pointer_mut("/service/extensions").and_then(Value::as_array_mut) {
        let is_left_out = |id: &str| ["datadog", "pprof", "zpages"].contains(&kind(id));
        used.retain(|id| id.as_str().is_none_or(|id| !is_left_out(id)));
    }
}

struct Maker<'a> {
    config: &'a CollectorConfig,
    root: &'a Value,
    env: &'a BTreeMap<String, String>,
    ports: Vec<String>,
    findings: Vec<Finding>,
}

impl Maker<'_> {
    /// Every protocol of every `otlp` receiver in use listens where the run says.
    fn receivers(&mut self, overlay: &mut Map<String, Value>) {
        let mut found = false;
        for id in self.used("receivers") {
            if kind(&id) != "otlp" {
                continue;
            }
            let protocols = &self.root["receivers"][&id]["protocols"];
            for (protocol, settings) in protocols.as_object().into_iter().flatten() {
                if !matches!(protocol.as_str(), "grpc" | "http") {
                    continue;
                }
                found = true;
                let port = format!("{id}-{protocol}");
                let mut changed = json!({ "endpoint": format!("${{listen:{port}}}") });
                if settings.get("transport").is_some() {
                    changed["transport"] = "tcp".into();
                }
                self.ports.push(port);
                put(overlay, &["receivers", &id, "protocols", protocol], changed);
            }
        }
        if !found {
            let message = "no pipeline has an `otlp` receiver with a protocol, so nothing can be sent to this collector";
            let remedy =
                "add `receivers: {otlp: {protocols: {grpc:, http:}}}` and name it in the pipeline";
            self.find(message.to_owned(), remedy, self.place(&["service", "pipelines"]));
        }
    }

    /// Every `datadog` and `otlphttp` exporter in use sends to the mock, but for an OTLP exporter that sends to another
    /// workload of the system; any other one that sends somewhere is refused.
    fn exporters(&mut self, overlay: &mut Map<String, Value>, intake: &str) {
        let endpoint = format!("${{endpoint:{intake}.http}}");
        for id in self.used("exporters") {
            let place = self.place(&["exporters", &id]);
            match kind(&id) {
                _ if self.root["connectors"].get(&id).is_some() => {}
                // The collector reports missing parts better than an overlay that adds them.
                _ if self.root["exporters"].get(&id).is_none() => {}
                "datadog" => put(
                    overlay,
                    &["exporters", &id],
                    json!({
                        "api": { "key": reference::escape(&format!("${{env:{API_KEY_VARIABLE}}}")) },
                        "traces": { "endpoint": endpoint },
                        "metrics": { "endpoint": endpoint },
                        "logs": { "endpoint": endpoint },
                    }),
                ),
                "debug" | "nop" => {}
                "otlp" | "otlphttp" | "otlp_grpc" | "otlp_http" if self.stays_inside(&id) => {}
                "otlphttp" | "otlp_http" => {
                    if let Some(settings) = self.otlp_http(&id, &endpoint, place) {
                        put(overlay, &["exporters", &id], settings);
                    }
                }
                "otlp" | "otlp_grpc" => self.find(
                    format!("exporter `{id}` sends to a destination that is not the mock intake"),
                    "Datadog takes no OTLP over gRPC: use `otlphttp` or `datadog`, take it out of the pipelines of this \
                     config, or let its `endpoint` be a variable that the collector's `env` sets to another workload, \
                     such as `${address:gateway.otlp-grpc}`",
                    place,
                ),
                other => self.find(
                    format!(
                        "exporter `{id}` sends to a destination that is not the mock intake, and type `{other}` cannot \
                         be pointed at it"
                    ),
                    match self.is_for_traces(&id) {
                        true => "take it out of the pipelines of this config; `datadog`, `debug` and `nop` can stay",
                        false => {
                            "only pipelines of other signals name it, which the built-in collector leaves out with `--traces-only` (in a \
                             system file: `collector.traces_only`)"
                        }
                    },
                    place,
                ),
            }
        }
    }

    /// Returns whether an OTLP exporter's endpoint is a variable that stands for another workload: then what it sends stays in the
    /// system, and that workload is the one that sends on.
    fn stays_inside(&self, id: &str) -> bool {
        let settings = &self.root["exporters"][id];
        if settings.get("traces_endpoint").is_some() || settings.get("proxy_url").is_some() {
            return false;
        }
        let endpoint = settings["endpoint"].as_str().unwrap_or_default();
        let Some(value) = variables::whole(endpoint).and_then(|name| self.env.get(name)) else {
            return false;
        };
        let inside = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        inside.is_some_and(|inside| {
            !inside.contains("${")
                && (inside.starts_with("endpoint:") || inside.starts_with("address:"))
        })
    }

    /// Returns the settings that make an `otlphttp` exporter send to the mock's OTLP intake: its addresses, and the key among its other headers.
    fn otlp_http(&mut self, id: &str, endpoint: &str, place: Option<FilePlace>) -> Option<Value> {
        let settings = &self.root["exporters"][id];
        if settings.get("proxy_url").is_some_and(|url| url.as_str() != Some("")) {
            self.find(
                format!("exporter `{id}` sends through a proxy, which is not the mock intake"),
                "take `proxy_url` out of this config",
                place,
            );
            return None;
        }
        let key = reference::escape(&format!("${{env:{API_KEY_VARIABLE}}}"));
        let is_key = |name: &str| name.eq_ignore_ascii_case(API_KEY_HEADER);
        let headers = match &settings["headers"] {
            // The Collector replaces lists, so the others are said once more.
            Value::Array(pairs) => {
                let others = pairs.iter().filter(|pair| !pair["name"].as_str().is_some_and(is_key));
                let own = json!({ "name": API_KEY_HEADER, "value": key });
                others.map(escaped).chain([own]).collect()
            }
            headers => {
                let written = headers.as_object().into_iter().flat_map(Map::keys);
                let name = written.map(String::as_str).find(|name| is_key(name));
                json!({ name.unwrap_or(API_KEY_HEADER): key })
            }
        };
        let mut changed = json!({
            "endpoint": endpoint,
            "traces_endpoint": format!("{endpoint}{}", Route::OtlpTraces.path()),
            "headers": headers,
        });
        // What else it sends would still go to the user's.
        for signal in ["metrics", "logs", "profiles"] {
            let name = format!("{signal}_endpoint");
            if settings.get(&name).is_some() {
                changed[name] = format!("{endpoint}/v1/{signal}").into();
            }
        }
        Some(changed)
    }

    /// Extensions that listen do it where the run says.
    fn extensions(&mut self, overlay: &mut Map<String, Value>) -> Option<Health> {
        let mut health = None;
        let names = self.root["service"]["extensions"].as_array();
        for id in names.into_iter().flatten().filter_map(Value::as_str) {
            let settings = &self.root["extensions"][id];
            match kind(id) {
                "health_check" => {
                    let port = id.replacen("health_check", "health", 1);
                    let path = settings["path"].as_str().unwrap_or("/").to_owned();
                    put(overlay, &["extensions", id], json!({ "endpoint": format!("${{listen:{port}}}") }));
                    self.ports.push(port.clone());
                    health = health.or(Some(Health { port, path }));
                }
                "pprof" | "zpages" => {
                    put(overlay, &["extensions", id], json!({ "endpoint": format!("${{listen:{id}}}") }));
                    self.ports.push(id.to_owned());
                }
                "datadog" => self.find(
                    format!("extension `{id}` reports to Datadog, and cannot be pointed at the mock intake"),
                    "take it out of `service.extensions` of this config",
                    self.place(&["extensions", id]),
                ),
                _ => {}
            }
        }
        health
    }

    /// Our collector reports what became of each trace's spans.
    fn trace_ledger(&mut self, overlay: &mut Map<String, Value>) {
        let used = self.root["service"]["extensions"].as_array().cloned().unwrap_or_default();
        let is_ledger = |id: &&Value| id.as_str().is_some_and(|id| kind(id) == TRACE_LEDGER);
        let of_user = used.iter().find(is_ledger).and_then(Value::as_str);
        let id = of_user.unwrap_or(TRACE_LEDGER);
        put(
            overlay,
            &["extensions", id],
            json!({ "endpoint": format!("${{listen:{LEDGER_PORT}}}") }),
        );
        if of_user.is_none() {
            // A list takes the place of the user's.
            let all = used.iter().map(escaped).chain([TRACE_LEDGER.into()]);
            put(overlay, &["service", "extensions"], all.collect());
        }
        self.ports.push(LEDGER_PORT.to_owned());
    }

    /// The collector's own metrics are served at a port of the run, or not at all; its own traces and logs stay here.
    fn telemetry(&mut self, overlay: &mut Map<String, Value>, reader: Reader) {
        let telemetry = &self.root["service"]["telemetry"];
        for signal in ["traces", "logs"] {
            let processors = telemetry[signal]["processors"].as_array();
            if processors.is_some_and(|list| !list.is_empty()) {
                self.find(
                    format!("`service.telemetry.{signal}.processors` exports the collector's own {signal}"),
                    "take it out of this config",
                    self.place(&["service", "telemetry", signal, "processors"]),
                );
            }
        }
        let off = telemetry["metrics"]["level"]
            .as_str()
            .is_some_and(|level| level.eq_ignore_ascii_case("none"));
        let metrics = match reader {
            Reader::Builtin | Reader::BuiltinOfTraces if !off => {
                self.ports.push("metrics".to_owned());
                let at = json!({ "host": "${host:metrics}", "port": METRICS_PORT });
                json!({ "readers": [{ "pull": { "exporter": { "prometheus": at } } }] })
            }
            _ => json!({ "level": "none" }),
        };
        put(overlay, &["service", "telemetry", "metrics"], metrics);
    }

    /// Returns whether a pipeline that carries traces names an exporter.
    fn is_for_traces(&self, exporter: &str) -> bool {
        let pipelines = self.root["service"]["pipelines"].as_object().into_iter().flatten();
        pipelines.filter(|(id, _)| !OTHER_SIGNALS.contains(&kind(id))).any(|(_, pipeline)| {
            let names = pipeline["exporters"].as_array().into_iter().flatten();
            names.filter_map(Value::as_str).any(|name| name == exporter)
        })
    }

    /// Ids that the pipelines name, each once, in order.
    fn used(&self, section: &str) -> Vec<String> {
        let pipelines = self.root["service"]["pipelines"].as_object();
        let lists = pipelines.into_iter().flatten().filter_map(|(_, one)| one[section].as_array());
        let mut ids = Vec::new();
        for id in lists.flatten().filter_map(Value::as_str) {
            if !ids.iter().any(|known| known == id) {
                ids.push(id.to_owned());
            }
        }
        ids
    }

    fn find(&mut self, message: String, suggestion: &str, place: Option<FilePlace>) {
        let finding = Finding::new(&self.config.file, message).at(place);
        self.findings.push(finding.suggest(Some(suggestion.to_owned())));
    }

    /// Finds the place of a path of keys, one below the other; `None` for spellings that a search of the text does not find.
    fn place(&self, path: &[&str]) -> Option<FilePlace> {
        let mut lines = self.config.text.lines().zip(1..);
        let mut place = None;
        for key in path {
            place = lines.by_ref().find_map(|(line, number)| {
                let text = line.trim_start();
                let quoted = text.trim_start_matches(['"', '\'']);
                let rest = quoted.strip_prefix(key)?.trim_start_matches(['"', '\'']);
                let column = line.chars().count() - text.chars().count() + 1;
                rest.starts_with(':').then_some(FilePlace { line: number, column: column as u64 })
            });
            place?;
        }
        place
    }
}

/// A value of the user's, whose references are the collector's to resolve.
fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) => reference::escape(text).into(),
        Value::Array(list) => list.iter().map(escaped).collect(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| (reference::escape(key), escaped(value))).collect()
        }
        other => other.clone(),
    }
}

/// The type in `type/name`.
fn kind(id: &str) -> &str {
    id.split_once('/').map_or(id, |(kind, _)| kind)
}

/// Puts a value at a path, making the maps on the way.
fn put(root: &mut Map<String, Value>, path: &[&str], value: Value) {
    let [parents @ .., last] = path else { return };
    let mut at = root;
    for key in parents {
        let next = at.entry(reference::escape(key)).or_insert_with(|| json!({}));
        let Value::Object(next) = next else { return };
        at = next;
    }
    at.insert(reference::escape(last), value);
}

#[cfg(test)]
mod tests;
