//! Places in the files that people write, and what was found there.
//!
//! System files, scenario files and collector configs all report through [`Finding`], so that every message
//! about a file looks alike: `file:line:column: what is wrong; did you mean …`.

use std::{collections::HashSet, fmt, path::Path};

use serde_saphyr::Spanned;

pub use self::{
    guess::{FileKind, kind_of},
    typed::{Problem, Remedy, Wrong, read_all, read_yaml},
};

mod guess;
mod outline;
mod syntax;
mod typed;

/// From which likeness on a name is suggested for another one, 1 being the same.
const LIKE: f64 = 0.6;
/// From how many letters on one name is suggested for another that begins with it.
const PREFIX: usize = 4;

/// Something wrong in a file, where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Path of the file, as the user named it; or a name such as `built-in system chain`.
    pub file: String,
    /// Place in the file; `None` when the finding is about the file as a whole.
    pub place: Option<FilePlace>,
    /// The problem, lower-case, without a final period.
    pub message: String,
    /// The remedy, for example ``did you mean `collector`?``.
    pub suggestion: Option<String>,
}

/// A place in a text file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct FilePlace {
    /// First line is 1.
    pub line: u64,
    /// First column is 1; counted in characters.
    pub column: u64,
}

impl Finding {
    /// Creates a finding about a file as a whole.
    pub fn new(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.into(), place: None, message: message.into(), suggestion: None }
    }

    /// Sets the finding's place in the file.
    #[must_use]
    pub fn at(mut self, place: impl Into<Option<FilePlace>>) -> Self {
        self.place = place.into();
        self
    }

    /// Adds the remedy.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<Option<String>>) -> Self {
        self.suggestion = suggestion.into();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; {suggestion}")?;
        }
        Ok(())
    }
}

/// Returns whether a YAML text contains no value.
pub fn is_empty(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}

/// Returns the place of a value; for an alias, that of its use.
pub fn place_of<T>(value: &Spanned<T>) -> Option<FilePlace> {
    place(value.referenced)
}

/// Returns the name of the environment variable that is meant by what stands between the braces of `${…}`, as the collector, shells and
/// Docker Compose write it: `env:NAME`, or `NAME`, with or without a default.
pub fn variable(inside: &str) -> Option<&str> {
    let is_named = inside.starts_with("env:");
    let rest = inside.strip_prefix("env:").unwrap_or(inside);
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let end = rest.find(|letter| !is_letter(letter)).unwrap_or(rest.len());
    let (name, default) = rest.split_at(end);
    let is_name = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    let is_upper = !name.contains(|letter: char| letter.is_ascii_lowercase());
    let is_default = default.is_empty() || default.starts_with([':', '-', '?']);
    (is_name && is_default && (is_named || is_upper)).then_some(name)
}

/// Returns the name of a path in findings.
pub fn file_name(path: &Path) -> String {
    path.display().to_string()
}

/// Says why a file cannot be read, without the system's number of the error: `cannot be read: …`, or that it is not there.
pub fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a folder; a file is expected".to_owned(),
        std::io::ErrorKind::InvalidData => "cannot be read: it is not UTF-8 text".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "cannot be read: you do not have permission".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    }
}

/// Suggests the known name that is most similar to `name`, as ``did you mean `x`?``, whatever its case, else the only one that begins with
/// it, or that it begins with; `None` if there is none.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    let known: Vec<(String, &str)> =
        known.into_iter().map(|candidate| (candidate.to_lowercase(), candidate)).collect();
    let likeness = |one: &str| strsim::normalized_damerau_levenshtein(&name, one);
    let similar = known.iter().map(|(lower, candidate)| (likeness(lower), *candidate));
    let similar = similar
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let begins = |(lower, _): &&(String, &str)| {
        let (short, long) = if name.len() < lower.len() { (&name, lower) } else { (lower, &name) };
        short.len() >= PREFIX && long.starts_with(short.as_str())
    };
    let mut begun = known.iter().filter(begins).map(|(_, candidate)| *candidate);
    let only = begun.next().filter(|_| begun.next().is_none());
    let nearest = similar.map(|(_, candidate)| candidate).or(only)?;
    Some(format!("did you mean `{nearest}`?"))
}

/// Suggests the most similar known name, as [`nearest`] does, else lists all known names; `None` if there are none.
pub fn nearest_or_known<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    // A workload and its service may have one name.
    let mut seen = HashSet::new();
    known.retain(|name| seen.insert(*name));
    nearest(name, known.iter().copied()).or_else(|| match known.as_slice() {
        [] => None,
        names => Some(format!("known are {}", list(names.iter().copied()))),
    })
}

/// Returns the names in backquotes, separated by commas; `none` if there are none.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

fn place(location: serde_saphyr::Location) -> Option<FilePlace> {
    let place = FilePlace { line: location.line(), column: location.column() };
    (place.line > 0).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_comments_alone_is_empty() {
        assert!(is_empty("") && is_empty("# nothing\n\n---\n"));
        assert!(!is_empty("# name\nname: x\n"));
    }

    #[test]
    fn variables_are_known_by_their_usual_forms() {
        for inside in ["env:HOME", "HOME", "HOME:-/root", "env:HOME:-x", "HOME-x"] {
            assert_eq!(variable(inside), Some("HOME"), "{inside}");
        }
        assert_eq!(variable("env:home"), Some("home"));
        for inside in ["endpoint:a.b", "home", "saved:ID", "env:", "A.B", "1"] {
            assert_eq!(variable(inside), None, "{inside}");
        }
    }

    #[test]
    fn what_is_known_by_one_name_twice_is_listed_once() {
        let known = nearest_or_known("cart", ["shop", "pay", "shop"]);
        assert_eq!(known.as_deref(), Some("known are `shop`, `pay`"));
    }

    #[test]
    fn nothing_is_suggested_for_a_name_that_is_near_to_none() {
        assert_eq!(nearest("zebra", ["collector", "intake"]), None);
        assert_eq!(nearest("warning", ["error", "warn"]).as_deref(), Some("did you mean `warn`?"));
        assert_eq!(nearest("GET", ["put", "get"]).as_deref(), Some("did you mean `get`?"));
        assert_eq!(nearest("a", ["at", "after"]), None);
        assert_eq!(nearest("otlp", ["otlp-grpc", "otlp-http"]), None);
        assert_eq!(
            nearest("colector", ["intake", "collector"]).as_deref(),
            Some("did you mean `collector`?")
        );
    }
}
