//! What is wrong with a config, collected so that all of it is told at once.

use serde::de::DeserializeOwned;

use super::decode::{self, DecodeError};
use super::expand::ExpandError;
use super::node::{Location, Node, Value};
use super::source::SourceError;

/// Why a config cannot be used.
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
    pub(super) fn expansion(errors: &[ExpandError]) -> Self {
        Self::Invalid(errors.iter().map(ToString::to_string).collect())
    }
}

/// Findings so far, and where in the config one is looking.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    root: &'a Node,
    path: Vec<String>,
    found: Vec<(Location, String)>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(root: &'a Node) -> Self {
        Self { root, path: Vec::new(), found: Vec::new() }
    }

    /// Looks at a part of the config: paths given within `look` begin there.
    pub(crate) fn within<T>(&mut self, path: &[&str], look: impl FnOnce(&mut Self) -> T) -> T {
        let depth = self.path.len();
        self.path.extend(path.iter().map(|name| (*name).to_owned()));
        let result = look(self);
        self.path.truncate(depth);
        result
    }

    /// Adds a finding about the value at this path.
    pub(crate) fn add(&mut self, path: &[&str], problem: &str) {
        let full: Vec<&str> =
            self.path.iter().map(String::as_str).chain(path.iter().copied()).collect();
        let at = self.root.locate(full.iter().copied()).clone();
        let line = format!("{at}: `{}`: {problem}", full.join("."));
        self.found.push((at, line));
    }

    /// Adds a finding whose place is known.
    pub(super) fn at(&mut self, at: &Location, path: &str, problem: &str) {
        self.found.push((at.clone(), format!("{at}: `{path}`: {problem}")));
    }

    /// Decodes the value at this path; keys that `refused` names by their path are answered with their reason.
    pub(crate) fn decode<T: DeserializeOwned>(
        &mut self,
        path: &[&str],
        refused: &[(&str, &str)],
    ) -> Option<T> {
        let full: Vec<String> =
            self.path.iter().cloned().chain(path.iter().map(|name| (*name).to_owned())).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        let empty = Node { value: Value::Null, at: self.root.locate(full.iter().copied()).clone() };
        let node = full.iter().try_fold(self.root, |node, name| node.get(name));
        let node = node.unwrap_or(&empty).clone();
        let before = self.found.len();
        for (key, reason) in refused {
            let keys: Vec<_> = key.split('.').collect();
            if keys.iter().try_fold(&node, |node, name| node.get(name)).is_some() {
                let keys: Vec<_> = path.iter().copied().chain(keys).collect();
                self.add(&keys, &format!("not built; {reason}"));
            }
        }
        if self.found.len() > before {
            return None;
        }
        match decode::decode(&node) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(&full.join("."), &node, &error);
                None
            }
        }
    }

    fn wrong(&mut self, path: &str, node: &Node, error: &DecodeError) {
        let path = std::iter::once(path).chain(error.path()).collect::<Vec<_>>().join(".");
        self.at(&error.at().unwrap_or(&node.at).clone(), &path, error.problem());
    }

    pub(super) fn finish(mut self) -> Result<(), ConfigError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort();
        Err(ConfigError::Invalid(self.found.into_iter().map(|(_, line)| line).collect()))
    }
}
