//! The Collector's YAML as types: read, merged, expanded, decoded and checked, before anything is started.
//!
//! Strict: what is unknown, not supported or inconsistent is an error with its place. What a component's settings mean is
//! the component's matter; this module knows the sections around them.

mod print;
mod requests;
mod source;
mod traces_only;

use std::collections::{BTreeMap, BTreeSet};

use crate::connector::ConnectorConfig;
use crate::exporter::ExporterConfig;
use crate::extension::ExtensionConfig;
use crate::processor::ProcessorConfig;
use crate::processor::actions::Action;
use crate::receiver::ReceiverConfig;
use crate::settings::expand::{self, ExpandError};
use crate::settings::node::{Node, Value};
use crate::settings::service::{self, Service};
use crate::settings::{Component, ComponentId, Diagnostics, FeatureGates, Purpose, decode};

use source::SourceError;

/// Error for a config that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither `--config` nor `--set` was given.
    #[error("no config was given; pass one with `--config FILE`")]
    NoSource,
    /// A source cannot be read.
    #[error("{0}")]
    Source(String),
    /// The config was read, and is wrong: one line for each finding.
    #[error("the config is not valid\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

impl From<SourceError> for ConfigError {
    fn from(error: SourceError) -> Self {
        Self::Source(error.to_string())
    }
}

impl ConfigError {
    fn expansion(errors: &[ExpandError]) -> Self {
        Self::Invalid(errors.iter().map(ToString::to_string).collect())
    }
}

/// A whole config, valid.
#[derive(Debug)]
pub struct Config {
    pub(crate) receivers: BTreeMap<ComponentId, ReceiverConfig>,
    pub(crate) processors: BTreeMap<ComponentId, ProcessorConfig>,
    pub(crate) exporters: BTreeMap<ComponentId, ExporterConfig>,
    pub(crate) connectors: BTreeMap<ComponentId, ConnectorConfig>,
    pub(crate) extensions: BTreeMap<ComponentId, ExtensionConfig>,
    pub(crate) service: Service,
    pub(crate) gates: FeatureGates,
    notes: Vec<String>,
}

/// Sources of a config.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// Paths and URIs (`file:`, `env:`, `yaml:`), merged in this order.
    pub configs: Vec<String>,
    /// `path.to.key=value`, laid upon the merged configs.
    pub settings: Vec<String>,
    /// Feature gates by the reference's names, with `-` in front to switch one off.
    pub feature_gates: Vec<String>,
    /// Whether pipelines of other signals are left out, with what they alone use, rather than refused.
    pub traces_only: bool,
}

impl Config {
    /// Reads, merges and checks a config that is to run.
    ///
    /// # Errors
    ///
    /// The first source that cannot be read; else all values that are unknown or of a wrong shape, and all that is inconsistent.
    pub fn load(
        sources: &Sources,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        Self::read(sources, environment, Purpose::Run)
    }

    /// Reads, merges and checks a config that may run elsewhere: keys and other secrets, and the variables that they come
    /// from, need not be here. Gives what a user should know all the same, one line each.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn check(
        sources: &Sources,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>, ConfigError> {
        Self::read(sources, environment, Purpose::Check).map(|config| config.notes)
    }

    /// Returns notes on a valid config, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads and checks a config as [`Config::check`] does. Returns it as it is understood, without secrets, or with `unredacted` as
    /// it was put together, with them; and the notes on it.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn printed(
        sources: &Sources,
        environment: &dyn Fn(&str) -> Option<String>,
        unredacted: bool,
    ) -> Result<(serde_json::Value, Vec<String>), ConfigError> {
        let (root, _, notes) = Self::put_together(sources, environment)?;
        let config = Self::decode(&root, Purpose::Check)?;
        let printed = match unredacted {
            true => print::as_put_together(&root),
            false => config.as_understood(),
        };
        Ok((printed, [notes, config.notes].concat()))
    }

    fn read(
        sources: &Sources,
        environment: &dyn Fn(&str) -> Option<String>,
        purpose: Purpose,
    ) -> Result<Self, ConfigError> {
        let (root, gates, mut notes) = Self::put_together(sources, environment)?;
        let mut config = Self::decode(&root, purpose)?;
        let mut missing = Vec::new();
        for (id, processor) in &mut config.processors {
            match processor {
                ProcessorConfig::ResourceDetection(detection) => detection.look_up(environment),
                ProcessorConfig::K8sAttributes(pods) => {
                    if let Some((key, problem)) = pods.look_up(environment) {
                        let id = id.to_string();
                        let path: Vec<_> =
                            ["processors", &id].into_iter().chain(key.iter().copied()).collect();
                        let at = root.locate(path.iter().copied());
                        missing.push(format!("{at}: `{}`: {problem}", path.join(".")));
                    }
                }
                _ => {}
            }
        }
        match purpose {
            Purpose::Run if !missing.is_empty() => return Err(ConfigError::Invalid(missing)),
            Purpose::Run | Purpose::Check => notes.append(&mut missing),
        }
        notes.extend_from_slice(&config.notes);
        Ok(Self { gates, notes, ..config })
    }

    /// Reads and merges sources, and follows references.
    fn put_together(
        sources: &Sources,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Node, FeatureGates, Vec<String>), ConfigError> {
        let gates = FeatureGates::parse(sources.feature_gates.iter().map(String::as_str));
        let (gates, mut notes) = gates.map_err(ConfigError::Source)?;
        let lay = |root: &mut Node, mut over: Node| {
            if gates.append_lists {
                service::append_lists(root, &mut over);
            }
            root.merge(over);
        };
        let mut root: Option<Node> = None;
        for uri in &sources.configs {
            let node = source::read(uri, environment)?;
            match &mut root {
                // An empty file lays nothing upon the others.
                Some(_) if matches!(node.value, Value::Null) => {}
                Some(root) => lay(root, node),
                None => root = Some(node),
            }
        }
        for setting in &sources.settings {
            let node = source::setting(setting)?;
            match &mut root {
                Some(root) => lay(root, node),
                None => root = Some(node),
            }
        }
        let mut root = root.ok_or(ConfigError::NoSource)?;
        let unresolved = expand::expand(&mut root, environment);
        if !unresolved.is_empty() {
            return Err(ConfigError::expansion(&unresolved));
        }
        if sources.traces_only {
            notes.extend(traces_only::leave_others_out(&mut root));
        }
        Ok((root, gates, notes))
    }

    fn decode(root: &Node, purpose: Purpose) -> Result<Self, ConfigError> {
        const SECTIONS: [&str; 6] =
            ["receivers", "processors", "exporters", "connectors", "extensions", "service"];
        let mut diagnostics = Diagnostics::new(root, purpose);
        if let Value::Map(entries) = &root.value {
            for (key, _) in entries {
                if !SECTIONS.contains(&key.name.as_str()) {
                    diagnostics.at(
                        &key.at,
                        &key.name,
                        &decode::unknown("section", &key.name, &SECTIONS),
                    );
                }
            }
        }
        let receivers = components(root, &mut diagnostics);
        let processors = components(root, &mut diagnostics);
        let exporters = components(root, &mut diagnostics);
        let connectors = components(root, &mut diagnostics);
        let extensions = components(root, &mut diagnostics);
        let service = diagnostics.decode::<Service>(&["service"], &[("", service::UNSUPPORTED)]);
        let config = service.map(|service| Self {
            receivers,
            processors,
            exporters,
            connectors,
            extensions,
            service,
            gates: FeatureGates::default(),
            notes: Vec::new(),
        });
        if let Some(config) = &config {
            // What is configured wrongly was reported above; here it only counts that it is there.
            let exists = |section: &str, id: &ComponentId| {
                let Some(Value::Map(entries)) = root.get(section).map(|node| &node.value) else {
                    return false;
                };
                entries.iter().any(|(key, _)| key.name.parse().as_ref() == Ok(id))
            };
            config.service.check(&mut diagnostics, exists);
            config.check_storage(&mut diagnostics, exists);
            config.check_authenticators(&mut diagnostics, exists);
            config.check_metadata(&mut diagnostics);
            config.check_samplers(&mut diagnostics);
            config.check_addresses(&mut diagnostics);
            config.check_promises(&mut diagnostics);
        }
        let notes = diagnostics.finish().map_err(ConfigError::Invalid)?;
        config.map(|config| Self { notes, ..config }).ok_or(ConfigError::NoSource)
    }
}

impl Config {
    /// Checks that no sampler stands behind a connector, where APM stats are to be of all spans.
    fn check_samplers(&self, diagnostics: &mut Diagnostics<'_>) {
        for (id, pipeline) in &self.service.pipelines {
            if !pipeline.receivers.iter().any(|id| self.connectors.contains_key(id)) {
                continue;
            }
            for (index, sampler) in pipeline.processors.iter().enumerate() {
                let samplers = ["probabilistic_sampler", "tail_sampling", "tailsampling"];
                if samplers.contains(&sampler.kind()) {
                    let problem = format!(
                        "`{sampler}` stands behind a connector, so that APM stats would be expected of all spans, and the exporter counts those that are left; put it into the pipeline in front of the connector, or sample in the SDK"
                    );
                    let (id, index) = (id.to_string(), index.to_string());
                    diagnostics.add(&["service", "pipelines", &id, "processors", &index], &problem);
                }
            }
        }
    }

    /// Notes where the address that a request comes from is not known any more to a processor that needs it.
    fn check_addresses(&self, diagnostics: &mut Diagnostics<'_>) {
        for (id, pipeline) in &self.service.pipelines {
            let (mut keeper, mut done) = (None, BTreeSet::new());
            for (index, processor) in pipeline.processors.iter().enumerate() {
                let config = self.processors.get(processor);
                let lacks = match config {
                    Some(ProcessorConfig::K8sAttributes(pods)) if pods.needs_connection() => {
                        "which address a request came from, so that it finds pods by attributes alone"
                    }
                    Some(config) if config.actions().iter().any(Action::needs_request) => {
                        "with which request spans came, so that `from_context` finds nothing"
                    }
                    _ => "",
                };
                match config {
                    Some(
                        ProcessorConfig::Batch(_)
                        | ProcessorConfig::GroupByTrace(_)
                        | ProcessorConfig::TailSampling(_),
                    ) => keeper = Some(processor),
                    Some(_) if !lacks.is_empty() => {
                        let Some(keeper) = keeper.filter(|_| done.insert(processor)) else {
                            continue;
                        };
                        let problem = format!(
                            "`{processor}` stands behind `{keeper}`, where it is not known any more {lacks}; put it in front"
                        );
                        let (id, index) = (id.to_string(), index.to_string());
                        diagnostics
                            .note(&["service", "pipelines", &id, "processors", &index], &problem);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Notes where processors that keep spans in memory, and answer for them, stand in front of exporters that promise more.
    fn check_promises(&self, diagnostics: &mut Diagnostics<'_>) {
        for (id, pipeline) in &self.service.pipelines {
            let keeper = pipeline.processors.iter().enumerate().find(|(_, processor)| {
                matches!(
                    self.processors.get(processor),
                    Some(ProcessorConfig::TailSampling(_) | ProcessorConfig::GroupByTrace(_))
                )
            });
            let Some((index, keeper)) = keeper else { continue };
            let (id, index) = (id.to_string(), index.to_string());
            for exporter in self.exporters_behind(pipeline) {
                let queue = self.exporters.get(exporter).and_then(ExporterConfig::sending_queue);
                let promises = [
                    (queue.is_some_and(|queue| queue.storage.is_some()), "sending_queue.storage"),
                    (
                        queue.is_some_and(|queue| queue.wait_for_result),
                        "sending_queue.wait_for_result",
                    ),
                ];
                for (_, key) in promises.into_iter().filter(|(is_promised, _)| *is_promised) {
                    let problem = format!(
                        "`{keeper}` answers senders when their spans are in memory, and keeps them there until their traces go on: `{key}` of the exporter `{exporter}` holds from then on only"
                    );
                    diagnostics
                        .note(&["service", "pipelines", &id, "processors", &index], &problem);
                }
            }
        }
    }

    /// The exporters of a pipeline, those behind connectors included.
    fn exporters_behind<'a>(
        &'a self,
        pipeline: &'a service::Pipeline,
    ) -> BTreeSet<&'a ComponentId> {
        let is_behind = |other: &&service::Pipeline| {
            other.receivers.iter().any(|id| pipeline.exporters.contains(id))
        };
        let behind = self.service.pipelines.values().filter(is_behind);
        let exporters = behind.flat_map(|other| &other.exporters).chain(&pipeline.exporters);
        exporters.filter(|id| self.exporters.contains_key(*id)).collect()
    }

    /// Checks that exporters refer to storage that there is.
    fn check_storage(
        &self,
        diagnostics: &mut Diagnostics<'_>,
        exists: impl Fn(&str, &ComponentId) -> bool,
    ) {
        for (id, exporter) in &self.exporters {
            let Some(storage) = exporter.sending_queue().and_then(|queue| queue.storage.as_ref())
            else {
                continue;
            };
            let problem = match self.extensions.get(storage) {
                Some(ExtensionConfig::FileStorage(_)) => {
                    if self.service.extensions.contains(storage) {
                        continue;
                    }
                    format!("refers to `{storage}`, which is not named in `service.extensions`")
                }
                Some(_) => {
                    format!(
                        "refers to `{storage}`, which is not a storage extension; use `file_storage`"
                    )
                }
                // It is configured wrongly, which was reported.
                None if exists("extensions", storage) => continue,
                None => {
                    format!("refers to `{storage}`, which is not configured under `extensions`")
                }
            };
            diagnostics.add(&["exporters", &id.to_string(), "sending_queue", "storage"], &problem);
        }
    }
}

/// Decodes all components of a section.
fn components<C: Component>(
    root: &Node,
    diagnostics: &mut Diagnostics<'_>,
) -> BTreeMap<ComponentId, C> {
    let mut components = BTreeMap::new();
    let Some(section) = root.get(C::SECTION) else { return components };
    let entries = match &section.value {
        Value::Map(entries) => entries,
        Value::Null => return components,
        _ => {
            let problem = format!("expected a map of {}, found {}", C::SECTION, section.describe());
            diagnostics.add(&[C::SECTION], &problem);
            return components;
        }
    };
    for (key, node) in entries {
        let path = format!("{}.{}", C::SECTION, key.name);
        let id = match key.name.parse::<ComponentId>() {
            Ok(id) => id,
            Err(problem) => {
                diagnostics.at(&key.at, &path, &problem);
                continue;
            }
        };
        if !C::KINDS.contains(&id.kind()) {
            let problem = match C::UNSUPPORTED.instead_of(id.kind()) {
                Some(instead) => format!("{} `{}` is not supported; {instead}", C::NOUN, id.kind()),
                None => decode::unknown(C::NOUN, id.kind(), C::KINDS),
            };
            diagnostics.at(&key.at, &path, &problem);
            continue;
        }
        let component = diagnostics.within(&[C::SECTION, &key.name], |diagnostics| {
            C::decode(id.kind(), node, diagnostics)
        });
        if let Some(component) = component {
            components.insert(id, component);
        }
    }
    components
}
