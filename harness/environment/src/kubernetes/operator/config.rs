//! The one config that a collector of the operator's has: the user's, with the run's exporters merged into it.
//!
//! Receivers, extensions and the collector's own telemetry stay as the user wrote them, but that a protocol without an
//! address gets the usual one. So the ports that it listens at are read from it rather than chosen. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::container::Container;
use harness_core::source;
use harness_system::{
    Workload,
    collector_overlay::{LEDGER_PORT, TRACE_LEDGER},
    parts::{CONFIG_FILE, OVERLAY_FILE},
};

/// The sections that a resource's config has; another one holds anchors for the others, or is a mistake.
const SECTIONS: [&str; 6] =
    ["receivers", "exporters", "processors", "connectors", "extensions", "service"];
/// A protocol that has no address, and the port that it listens at then.
const PROTOCOLS: [(&str, u16); 2] = [("grpc", 4317), ("http", 4318)];

/// Error of a config that cannot be that of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The workload has no config and no second one; it is another program with arguments of its own.
    #[error(
        "it is not described by a collector's config: give it one in the system file, or use `--collector-install manifests`"
    )]
    None,
    /// An argument that the operator has no way to give.
    #[error(
        "the operator calls a collector with `--config` and options `--NAME=VALUE` only, not with `{0}`"
    )]
    Argument(String),
    /// An address whose port is not a number.
    #[error(
        "`{path}: {endpoint}` has no port number: through the operator the config is applied as it is, so write the number"
    )]
    NoPort {
        /// The keys that lead to it.
        path: String,
        /// As it is written.
        endpoint: String,
    },
    /// An address that no other pod reaches.
    #[error(
        "`{path}: {endpoint}` listens inside of its pod only: through the operator the config is applied as it is, so write \
         `0.0.0.0:{port}`"
    )]
    Loopback {
        /// The keys that lead to it.
        path: String,
        /// As it is written.
        endpoint: String,
        /// Its port.
        port: u16,
    },
}

/// The number of each port of a collector, by the names that the run's second config gives them.
///
/// # Errors
/// When the config cannot be read, or an address says no number.
pub(crate) fn ports(workload: &Workload) -> Result<BTreeMap<String, u16>, ConfigError> {
    let text = &workload.files.get(CONFIG_FILE).ok_or(ConfigError::None)?.contents;
    let root = read(text)?;
    let mut ports = BTreeMap::new();
    let receivers = root["receivers"].as_object().into_iter().flatten();
    for (id, receiver) in receivers.filter(|(id, _)| kind(id) == "otlp") {
        for (protocol, usual) in PROTOCOLS {
            let name = format!("{id}-{protocol}");
            if workload.has_port(&name) {
                let path = format!("receivers.{id}.protocols.{protocol}.endpoint");
                let endpoint = &receiver["protocols"][protocol]["endpoint"];
                let port = port(endpoint, &path)?.unwrap_or(usual);
                refuse_loopback(endpoint, &path, port)?;
                ports.insert(name, port);
            }
        }
    }
    for (id, extension) in root["extensions"].as_object().into_iter().flatten() {
        let (name, usual) = match kind(id) {
            "health_check" => (id.replacen("health_check", "health", 1), 13_133),
            "pprof" => (id.clone(), 1777),
            "zpages" => (id.clone(), 55_679),
            _ => continue,
        };
        if workload.has_port(&name) {
            let path = format!("extensions.{id}.endpoint");
            let port = port(&extension["endpoint"], &path)?.unwrap_or(usual);
            ports.insert(name, port);
        }
    }
    if workload.has_port("metrics") {
        ports.insert("metrics".to_owned(), metrics_port(&root["service"]["telemetry"]["metrics"])?);
    }
    Ok(ports)
}

/// Returns the port at which the collector serves its own metrics: the operator adds a reader at 8888 where there is none.
fn metrics_port(metrics: &Value) -> Result<u16, ConfigError> {
    let readers = metrics["readers"].as_array().into_iter().flatten();
    let port = readers
        .filter_map(|reader| reader["pull"]["exporter"]["prometheus"]["port"].as_u64())
        .find_map(|port| u16::try_from(port).ok());
    let path = "service.telemetry.metrics.address";
    Ok(port.or(self::port(&metrics["address"], path)?).unwrap_or(8888))
}

fn port(endpoint: &Value, path: &str) -> Result<Option<u16>, ConfigError> {
    let Some(text) = endpoint.as_str() else { return Ok(None) };
    let number = text.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let no_port = || ConfigError::NoPort { path: path.to_owned(), endpoint: text.to_owned() };
    number.ok_or_else(no_port).map(Some)
}

fn refuse_loopback(endpoint: &Value, path: &str, port: u16) -> Result<(), ConfigError> {
    let text = endpoint.as_str().unwrap_or_default();
    let host = text.rsplit_once(':').map_or("", |(host, _)| host);
    match host {
        "localhost" | "127.0.0.1" | "[::1]" => {
            Err(ConfigError::Loopback { path: path.to_owned(), endpoint: text.to_owned(), port })
        }
        _ => Ok(()),
    }
}

/// Makes of a container that has the user's config and the run's second one, one that has a single config, and only those
/// arguments that the operator is to add.
///
/// # Errors
/// When a config cannot be read, or an argument cannot be given through the operator.
pub(crate) fn take_over(container: &mut Container) -> Result<(), ConfigError> {
    let user = read(container.files.get(CONFIG_FILE).ok_or(ConfigError::None)?)?;
    let overlay = read(container.files.get(OVERLAY_FILE).ok_or(ConfigError::None)?)?;
    let text = serde_saphyr::to_string(&merged(user, &overlay))
        .map_err(|error| ConfigError::Unreadable(error.to_string()))?;
    container.files = BTreeMap::from([(CONFIG_FILE.to_owned(), text)]);
    // The operator names the config itself, and its pods have time enough to end.
    let own = ["--config=", "--shutdown-timeout="];
    container.args.retain(|arg| !own.iter().any(|option| arg.starts_with(option)));
    match container.args.iter().find(|arg| argument(arg).is_none()) {
        Some(arg) => Err(ConfigError::Argument(arg.clone())),
        None => Ok(()),
    }
}

/// Takes the ledger of traces out of what a run adds to a collector's config: only our collector has one, and another one does not
/// start with it.
///
/// # Errors
/// When the container has no overlay that can be read.
pub(crate) fn without_ledger(container: &mut Container) -> Result<(), ConfigError> {
    container.ports.remove(LEDGER_PORT);
    let text = container.files.get_mut(OVERLAY_FILE).ok_or(ConfigError::None)?;
    let mut overlay = read(text)?;
    if let Some(extensions) = overlay.get_mut("extensions").and_then(Value::as_object_mut) {
        extensions.retain(|id, _| kind(id) != TRACE_LEDGER);
    }
    if let Some(used) = overlay.pointer_mut("/service/extensions").and_then(Value::as_array_mut) {
        used.retain(|id| id.as_str().is_none_or(|id| kind(id) != TRACE_LEDGER));
    }
    *text = overlay.to_string();
    Ok(())
}

/// Name and value of an argument as the operator writes it, `--name=value`.
pub(in super::super) fn argument(arg: &str) -> Option<(&str, &str)> {
    arg.strip_prefix("--")?.split_once('=').filter(|(name, _)| !name.is_empty())
}

fn read(text: &str) -> Result<Value, ConfigError> {
    source::read_yaml(CONFIG_FILE, text)
        .map_err(|finding| ConfigError::Unreadable(finding.to_string()))
}

/// Returns the user's config with the overlay's exporters and its ledger of traces. Where components listen is the user's to say.
pub(crate) fn merged(user: Value, overlay: &Value) -> Value {
    let Value::Object(mut root) = user else { return user };
    root.retain(|section, _| SECTIONS.contains(&section.as_str()));
    merge(root.entry("exporters").or_insert_with(|| json!({})), &overlay["exporters"]);
    let extensions = overlay["extensions"].as_object().into_iter().flatten();
    let ledger: Map<String, Value> = extensions
        .filter(|(id, _)| kind(id) == TRACE_LEDGER)
        .map(|(id, settings)| (id.clone(), settings.clone()))
        .collect();
    if !ledger.is_empty() {
        merge(root.entry("extensions").or_insert_with(|| json!({})), &Value::Object(ledger));
        let used = &overlay["service"]["extensions"];
        if let (Some(Value::Object(service)), true) = (root.get_mut("service"), used.is_array()) {
            service.insert("extensions".to_owned(), used.clone());
        }
    }
    for section in SECTIONS {
        let Some(Value::Object(components)) = root.get_mut(section) else { continue };
        if section != "service" {
            // A component without settings has its defaults; `kubectl apply` would take a null out of an object.
            components.values_mut().filter(|one| one.is_null()).for_each(|one| *one = json!({}));
        }
        if section == "receivers" {
            for (_, receiver) in components.iter_mut().filter(|(id, _)| kind(id) == "otlp") {
                give_addresses(receiver);
            }
        }
        components.values_mut().for_each(without_nulls);
    }
    Value::Object(root)
}

/// Says where a protocol listens that does not say it itself.
fn give_addresses(receiver: &mut Value) {
    let Some(protocols) = receiver.get_mut("protocols").and_then(Value::as_object_mut) else {
        return;
    };
    for (protocol, port) in PROTOCOLS {
        let Some(settings) = protocols.get_mut(protocol) else { continue };
        if settings.is_null() {
            *settings = json!({});
        }
        if let Value::Object(settings) = settings
            && settings.get("endpoint").is_none_or(Value::is_null)
        {
            settings.insert("endpoint".to_owned(), format!("0.0.0.0:{port}").into());
        }
    }
}

/// Takes out what is null: it says that the default holds.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// As the Collector merges configs: maps are merged, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert_with(|| Map::new().into()), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// The type in `type/name`.
fn kind(id: &str) -> &str {
    id.split_once('/').map_or(id, |(kind, _)| kind)
}
