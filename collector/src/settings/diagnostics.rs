//! Problems of a config, collected so that all of them are reported at once.

use serde::de::DeserializeOwned;

use super::decode::{self, DecodeError};
use super::inert;
use super::node::{Location, Node, Removed, Value};
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
    /// Parts that were wrong and left out, so that the rest could be read, by their full paths.
    left_out: Vec<(Vec<String>, Removed)>,
}

impl<'a> Diagnostics<'a> {
    pub(crate) fn new(root: &'a Node, purpose: Purpose) -> Self {
        Self {
            root,
            purpose,
            path: Vec::new(),
            found: Vec::new(),
            notes: Vec::new(),
            left_out: Vec::new(),
        }
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
    ///
    /// Nothing where just that was left out for being wrong, or was all that there was: that is reported.
    pub(crate) fn add(&mut self, path: &[&str], problem: &str) {
        let full = self.as_written(path);
        if !self.follows(&full) {
            let line = self.line(&full, problem);
            self.found.push(line);
        }
    }

    /// Adds something that a user should know of what is not wrong.
    pub(crate) fn note(&mut self, path: &[&str], text: &str) {
        let line = self.line(&self.as_written(path), text);
        self.notes.push(line);
    }

    /// Adds a finding about a secret, which need not be here unless the config is to run.
    pub(crate) fn add_for_run(&mut self, path: &[&str], problem: &str) {
        let full = self.as_written(path);
        if self.follows(&full) {
            return;
        }
        let line = self.line(&full, problem);
        match self.purpose {
            Purpose::Run => self.found.push(line),
            Purpose::Check => self.notes.push(line),
        }
    }

    fn line(&self, full: &[String], problem: &str) -> (Location, String) {
        let at = self.root.locate(full.iter().map(String::as_str)).clone();
        let line = format!("{at}: `{}`: {problem}", full.join("."));
        (at, line)
    }

    /// The full path of a part, with the numbers that items of lists have in the config, where some may be left out now.
    fn as_written(&self, path: &[&str]) -> Vec<String> {
        let mut full: Vec<String> = Vec::new();
        for name in self.path.iter().map(String::as_str).chain(path.iter().copied()) {
            let mut left_out: Vec<usize> = self
                .left_out
                .iter()
                .filter(|(_, removed)| *removed == Removed::Item)
                .filter_map(|(gone, _)| gone.strip_prefix(full.as_slice()))
                .filter_map(|rest| if let [index] = rest { index.parse().ok() } else { None })
                .collect();
            left_out.sort_unstable();
            let name = match name.parse::<usize>() {
                Ok(index) if !left_out.is_empty() => {
                    let written = |index, gone| if gone <= index { index + 1 } else { index };
                    left_out.into_iter().fold(index, written).to_string()
                }
                _ => name.to_owned(),
            };
            full.push(name);
        }
        full
    }

    /// Returns whether a finding about this may come of what was left out.
    fn follows(&self, full: &[String]) -> bool {
        self.left_out.iter().any(|(gone, _)| {
            full.starts_with(gone) || gone.split_last().is_some_and(|(_, around)| around == full)
        })
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
            let asks = !inert::changes_nothing(&keys, found);
            let below: Vec<_> = path.iter().copied().chain(keys.iter().copied()).collect();
            if asks {
                self.add(&below, &format!("not supported; {instead}"));
            }
            let below = self.as_written(&below);
            if let Some(removed) = node.remove(&keys).filter(|_| asks) {
                self.left_out.push((below, removed));
            }
        }
        // All that is wrong is reported: what was reported is left out, and the rest is read again, and checked by who asked.
        loop {
            match decode::decode(&node, self.purpose) {
                Ok(value) => return Some(value),
                Err(error) => {
                    self.wrong(path, &node, &error);
                    let wrong: Vec<_> = error.path().chain(error.unknown_key()).collect();
                    let below: Vec<_> = path.iter().copied().chain(wrong.iter().copied()).collect();
                    let below = self.as_written(&below);
                    let removed = node.remove(&wrong)?;
                    self.left_out.push((below, removed));
                }
            }
        }
    }

    fn wrong(&mut self, path: &[&str], node: &Node, error: &DecodeError) {
        let path: Vec<_> = path.iter().copied().chain(error.path()).collect();
        let full = self.as_written(&path);
        if !self.follows(&full) || error.unknown_key().is_some() {
            self.at(&error.at().unwrap_or(&node.at).clone(), &full.join("."), error.problem());
        }
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
