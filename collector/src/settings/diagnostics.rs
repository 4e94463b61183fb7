//! Problems of a config, collected so that all of them are reported at once.

use serde::de::DeserializeOwned;

use super::decode::{self, DecodeError};
use super::inert;
use super::node::{Location, Node, Value};
use super::purpose::Purpose;
use super::unsupported::Unsupported;

/// Collects what is wrong, and knows where in the config one is looking.
#[derive(Debug)]
pub(crate) struct Diagnostics<'a> {
    root: &'a Node,
    purpose: Purpose,
    path: Vec<String>,
    found: Vec<(Location, String)>,
    notes: Vec<(Location, String)>,
}

impl<'a> Diagnostics<'a> {
    pub(crate) fn new(root: &'a Node, purpose: Purpose) -> Self {
        Self { root, purpose, path: Vec::new(), found: Vec::new(), notes: Vec::new() }
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
        let line = self.line(path, problem);
        self.found.push(line);
    }

    /// Adds a finding about a secret, which need not be here unless the config is to run.
    pub(crate) fn add_for_run(&mut self, path: &[&str], problem: &str) {
        let line = self.line(path, problem);
        match self.purpose {
            Purpose::Run => self.found.push(line),
            Purpose::Check => self.notes.push(line),
        }
    }

    fn line(&self, path: &[&str], problem: &str) -> (Location, String) {
        let full: Vec<&str> =
            self.path.iter().map(String::as_str).chain(path.iter().copied()).collect();
        let at = self.root.locate(full.iter().copied()).clone();
        let line = format!("{at}: `{}`: {problem}", full.join("."));
        (at, line)
    }

    /// Adds a finding whose place is known.
    pub(crate) fn at(&mut self, at: &Location, path: &str, problem: &str) {
        self.found.push((at.clone(), format!("{at}: `{path}`: {problem}")));
    }

    /// Decodes the value at this path; a key in a table of `unsupported` ones is answered with what to do instead.
    /// The keys of a table are below its prefix, such as `protocols.grpc.`.
    pub(crate) fn decode<T: DeserializeOwned>(
        &mut self,
        path: &[&str],
        unsupported: &[(&str, Unsupported)],
    ) -> Option<T> {
        let full: Vec<String> =
            self.path.iter().cloned().chain(path.iter().map(|name| (*name).to_owned())).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        let empty = Node::new(Value::Null, self.root.locate(full.iter().copied()).clone());
        let node = full.iter().try_fold(self.root, |node, name| node.get(name));
        let mut node = node.unwrap_or(&empty).clone();
        let before = self.found.len();
        let groups = unsupported.iter().flat_map(|(prefix, table)| {
            table.0.iter().flat_map(move |(instead, keys)| {
                keys.iter().map(move |key| (format!("{prefix}{key}"), instead))
            })
        });
        for (key, instead) in groups {
            let keys: Vec<_> = key.split('.').collect();
            let Some(found) = keys.iter().try_fold(&node, |node, name| node.get(name)) else {
                continue;
            };
            if !inert::changes_nothing(&keys, found) {
                let keys: Vec<_> = path.iter().copied().chain(keys.iter().copied()).collect();
                self.add(&keys, &format!("not supported; {instead}"));
            }
            node.remove(&keys);
        }
        // All that is wrong is reported: what was reported is left out, and the rest is read again.
        loop {
            match decode::decode(&node, self.purpose) {
                Ok(value) if self.found.len() == before => return Some(value),
                Ok(_) => return None,
                Err(error) => {
                    self.wrong(&full.join("."), &node, &error);
                    let wrong: Vec<_> = error.path().chain(error.unknown_key()).collect();
                    if !node.remove(&wrong) {
                        return None;
                    }
                }
            }
        }
    }

    fn wrong(&mut self, path: &str, node: &Node, error: &DecodeError) {
        let path = std::iter::once(path).chain(error.path()).collect::<Vec<_>>().join(".");
        self.at(&error.at().unwrap_or(&node.at).clone(), &path, error.problem());
    }

    /// Returns the notes, in the order of their places.
    ///
    /// # Errors
    ///
    /// All findings, if there are any, one line each.
    pub(crate) fn finish(mut self) -> Result<Vec<String>, Vec<String>> {
        let end = match self.purpose {
            Purpose::Run => "set; it is taken as empty, as the Collector does",
            Purpose::Check => "set here; set it where the config runs",
        };
        let mut unset = Vec::new();
        self.root.each_unset(&mut Vec::new(), &mut |path, node, name| {
            let place = format!("{}: `{}`", node.at, path.join("."));
            let problem = format!("environment variable `{name}` is not {end}");
            unset.push((node.at.clone(), place, problem));
        });
        let is_wrong = !self.found.is_empty();
        let lines = if is_wrong { &mut self.found } else { &mut self.notes };
        for (at, place, problem) in unset {
            // It may be why something is wrong, unless just that was reported of it.
            if !is_wrong
                || !lines.iter().any(|(_, line)| line.starts_with(&format!("{place}: environment")))
            {
                lines.push((at, format!("{place}: {problem}")));
            }
        }
        lines.sort();
        let lines = std::mem::take(lines).into_iter().map(|(_, line)| line).collect();
        if is_wrong { Err(lines) } else { Ok(lines) }
    }
}
