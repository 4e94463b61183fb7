//! The Collector's YAML as types: read, merged, expanded, decoded and checked, before anything is started.
//!
//! Strict: what is unknown, not supported or inconsistent is an error with its place. What a component's settings mean is
//! the component's matter; this module knows the sections around them.

mod source;

use std::collections::BTreeMap;

use crate::connector::ConnectorConfig;
use crate::exporter::ExporterConfig;
use crate::extension::ExtensionConfig;
use crate::processor::ProcessorConfig;
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

    fn read(
        sources: &Sources,
        environment: &dyn Fn(&str) -> Option<String>,
        purpose: Purpose,
    ) -> Result<Self, ConfigError> {
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
        let config = Self::decode(&root, purpose)?;
        notes.extend_from_slice(&config.notes);
        Ok(Self { gates, notes, ..config })
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
        }
        let notes = diagnostics.finish().map_err(ConfigError::Invalid)?;
        config.map(|config| Self { notes, ..config }).ok_or(ConfigError::NoSource)
    }
}

impl Config {
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
                    format!("refers to `{storage}`, which is no storage; use `file_storage`")
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
