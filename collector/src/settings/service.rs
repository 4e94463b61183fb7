//! The section `service`: which components run, how they are joined, and what the collector reports about itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::component_id::ComponentId;
use super::diagnostics::Diagnostics;
use super::node::{Node, Value};
use super::unsupported::Unsupported;

/// Keys that the Collector has, and why they are not here.
pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("this collector does not trace itself; remove the key", &["telemetry.traces"]),
    ("self-metrics carry no resource; remove the key", &["telemetry.resource"]),
    (
        "logs go to standard error; redirect it",
        &["telemetry.logs.output_paths", "telemetry.logs.error_output_paths"],
    ),
    ("use `level: debug`", &["telemetry.logs.development"]),
    ("log lines do not name the caller; remove the key", &["telemetry.logs.disable_caller"]),
    ("log lines have no stack traces; remove the key", &["telemetry.logs.disable_stacktrace"]),
    ("log lines are not sampled; remove the key", &["telemetry.logs.sampling"]),
    ("log lines have no custom fields; remove the key", &["telemetry.logs.initial_fields"]),
    ("logs go to standard error; collect them from there", &["telemetry.logs.processors"]),
    ("log lines have no resource; remove the key", &["telemetry.logs.disable_zap_resource"]),
    ("self-metrics have no views; remove the key", &["telemetry.metrics.views"]),
    ("the Collector has removed it as well; use `readers`", &["telemetry.metrics.address"]),
]);

/// Components to run.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Service {
    /// Extensions to start.
    #[serde(deserialize_with = "ids")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) extensions: Vec<ComponentId>,
    /// Pipelines, by id; the type is `traces`. One of type `metrics` is there only to take what the `datadog` connector would
    /// give, which is nothing here.
    #[serde(deserialize_with = "pipelines")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, Pipeline>"))]
    pub(crate) pipelines: BTreeMap<ComponentId, Pipeline>,
    pub(crate) telemetry: Telemetry,
}

/// The path of traces from receivers to exporters.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pipeline {
    #[serde(deserialize_with = "distinct_ids")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) receivers: Vec<ComponentId>,
    /// In this order.
    #[serde(deserialize_with = "distinct_ids")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) processors: Vec<ComponentId>,
    #[serde(deserialize_with = "distinct_ids")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) exporters: Vec<ComponentId>,
}

/// Logs and self-metrics of the collector.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    pub(crate) logs: Logs,
    pub(crate) metrics: Metrics,
}

/// The collector's own logs, on standard error.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Logs {
    /// The lowest level that is written.
    pub(crate) level: LogLevel,
    /// `console` for people, `json` for machines.
    pub(crate) encoding: LogEncoding,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Debug,
    #[default]
    Info,
    #[serde(alias = "warning")]
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogEncoding {
    #[default]
    Console,
    Json,
}

/// The collector's own metrics.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Metrics {
    /// `none` switches them off; the other levels are one here.
    pub(crate) level: MetricsLevel,
    /// Endpoints of the self-metrics. Default `localhost:8888`.
    pub(crate) readers: Option<Vec<Reader>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum MetricsLevel {
    None,
    Basic,
    #[default]
    Normal,
    Detailed,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Reader {
    pub(crate) pull: Option<Pull>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pull {
    pub(crate) exporter: PullExporter,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PullExporter {
    pub(crate) prometheus: Option<MetricsEndpoint>,
}

/// Endpoint of the self-metrics, as Prometheus text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsEndpoint {
    /// The address to bind.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether counters end in `_total`: not if this is set.
    pub(crate) without_type_suffix: bool,
    /// Accepted; names have no units here.
    pub(crate) without_units: bool,
    /// Accepted; there is no scope information here.
    pub(crate) without_scope_info: bool,
}

impl Default for MetricsEndpoint {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 8888,
            without_type_suffix: true,
            without_units: true,
            without_scope_info: true,
        }
    }
}

/// As the gate `confmap.enableMergeAppendOption` asks for: lists of extensions, receivers and exporters below `service` that
/// are in both configs have what the first one names, then what only `over` names.
pub(crate) fn append_lists(base: &Node, over: &mut Node) {
    if let (Some(base), Some(over)) = (base.get("service"), over.get_mut("service")) {
        append_below(base, over, 0);
    }
}

fn append_below(base: &Node, over: &mut Node, depth: usize) {
    let Value::Map(entries) = &mut over.value else { return };
    for (key, over) in entries {
        let Some(base) = base.get(&key.name) else { continue };
        let is_joined = match key.name.as_str() {
            "extensions" => depth == 0,
            "receivers" | "exporters" => depth > 0,
            _ => false,
        };
        match (&base.value, &mut over.value) {
            (Value::List(first), Value::List(items)) if is_joined => {
                let mut joined = first.clone();
                joined.extend(
                    items.drain(..).filter(|item| !first.iter().any(|one| one.is_like(item))),
                );
                *items = joined;
            }
            _ => append_below(base, over, depth + 1),
        }
    }
}

impl Service {
    /// Returns the endpoints of the self-metrics, if they are served.
    pub(crate) fn metrics_endpoints(&self) -> Vec<MetricsEndpoint> {
        let metrics = &self.telemetry.metrics;
        if metrics.level == MetricsLevel::None {
            return Vec::new();
        }
        match &metrics.readers {
            None => vec![MetricsEndpoint::default()],
            Some(readers) => {
                let pulls = readers.iter().filter_map(|reader| reader.pull.as_ref());
                pulls.filter_map(|pull| pull.exporter.prometheus.clone()).collect()
            }
        }
    }

    /// Returns whether there is a pipeline for traces behind one of these connectors.
    fn goes_on(&self, connectors: &[ComponentId]) -> bool {
        self.pipelines.iter().any(|(id, pipeline)| {
            id.kind() == "traces"
                && pipeline.receivers.iter().any(|receiver| connectors.contains(receiver))
        })
    }

    /// The pipelines that carry traces.
    pub(crate) fn trace_pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        let traces = self.pipelines.iter().filter(|(id, _)| id.kind() == "traces");
        traces.map(|(_, pipeline)| pipeline)
    }

    /// Checks that pipelines are whole and refer to what there is.
    pub(crate) fn check(
        &self,
        diagnostics: &mut Diagnostics<'_>,
        exists: impl Fn(&str, &ComponentId) -> bool,
    ) {
        let missing = |section: &str, id: &ComponentId| {
            format!("refers to `{id}`, which is not configured under `{section}`")
        };
        for (index, id) in self.extensions.iter().enumerate() {
            if !exists("extensions", id) {
                let path = ["service", "extensions", &index.to_string()];
                diagnostics.add(&path, &missing("extensions", id));
            } else if self.extensions[..index].contains(id) {
                let path = ["service", "extensions", &index.to_string()];
                diagnostics.add(&path, &format!("`{id}` is there twice"));
            }
        }
        if self.pipelines.is_empty() {
            let problem = "there is no pipeline; add `traces` with `receivers` and `exporters`";
            diagnostics.add(&["service", "pipelines"], problem);
        }
        for (id, pipeline) in &self.pipelines {
            let name = id.to_string();
            let path = ["service", "pipelines", name.as_str()];
            let is_connector = |id: &&ComponentId| exists("connectors", id);
            match id.kind() {
                "traces" | "metrics" => {}
                "logs" | "profiles" => {
                    let kind = id.kind();
                    let problem = format!(
                        "this collector handles traces only; run another one for {kind}, and this one with `--traces-only`"
                    );
                    diagnostics.add(&path, &problem);
                    continue;
                }
                _ => {
                    let problem =
                        "the type of a pipeline is `traces`; write `traces` or `traces/name`";
                    diagnostics.add(&path, problem);
                    continue;
                }
            }
            if id.kind() == "metrics" && !pipeline.receivers.iter().all(|id| is_connector(&id)) {
                let problem = "this collector handles traces only; run another one for metrics, and this one with `--traces-only`";
                diagnostics.add(&path, problem);
            }
            let into = pipeline.exporters.iter().filter(is_connector).count();
            if into > 0 && into == pipeline.exporters.len() && !self.goes_on(&pipeline.exporters) {
                let problem = "exports to connectors only; add the `datadog` exporter, which computes APM stats itself";
                diagnostics.add(&path, problem);
            }
            if into > 0 && pipeline.receivers.iter().any(|id| is_connector(&id)) {
                diagnostics
                    .add(&path, "joins a connector to a connector; name the exporters instead");
            }
            let lists = [
                ("receivers", &pipeline.receivers),
                ("processors", &pipeline.processors),
                ("exporters", &pipeline.exporters),
            ];
            for (section, ids) in lists {
                if ids.is_empty() && section != "processors" {
                    let problem = format!("`{section}` is empty; a pipeline needs at least one");
                    diagnostics.add(&path, &problem);
                }
                for (index, id) in ids.iter().enumerate() {
                    let path = ["service", "pipelines", &name, section, &index.to_string()];
                    let is_there =
                        exists(section, id) || section != "processors" && exists("connectors", id);
                    if !is_there {
                        diagnostics.add(&path, &missing(section, id));
                    }
                }
            }
        }
        if let Some(readers) = &self.telemetry.metrics.readers {
            for (index, reader) in readers.iter().enumerate() {
                if reader.pull.as_ref().and_then(|pull| pull.exporter.prometheus.as_ref()).is_none()
                {
                    let path = ["service", "telemetry", "metrics", "readers", &index.to_string()];
                    diagnostics.add(&path, "only `pull.exporter.prometheus` is supported");
                }
            }
        }
    }
}

fn ids<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ComponentId>, D::Error> {
    let names = Option::<Vec<String>>::deserialize(from)?.unwrap_or_default();
    names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
}

/// As [`ids`]; one that is listed several times is there once, where it stands first.
fn distinct_ids<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ComponentId>, D::Error> {
    let mut ids = ids(from)?;
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    Ok(ids)
}

fn pipelines<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<ComponentId, Pipeline>, D::Error> {
    let pipelines = BTreeMap::<String, Pipeline>::deserialize(from)?;
    let pipeline = |(name, pipeline): (String, Pipeline)| {
        let id: ComponentId = name.parse().map_err(D::Error::custom)?;
        Ok((id, pipeline))
    };
    pipelines.into_iter().map(pipeline).collect()
}
