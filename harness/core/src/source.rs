//! Places in the files that people write, and what was found there.
//!
//! System files, scenario files and collector configs all report through [`Finding`], so that every message
//! about a file looks alike: `file:line:column: what is wrong; did you mean …`.

use std::{fmt, path::Path};

use serde_saphyr::Spanned;

/// Something wrong in a file, where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Path of the file, as the user named it; or a name such as `built-in system chain`.
    pub file: String,
    /// Place in the file; `None` when the finding is about the file as a whole.
    pub place: Option<Place>,
    /// The problem, lower-case, without a final period.
    pub message: String,
    /// The remedy, for example ``did you mean `collector`?``.
    pub suggestion: Option<String>,
}

/// A place in a text file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
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
    pub fn at(mut self, place: impl Into<Option<Place>>) -> Self {
        self.place = place.into();
        self
    }

    /// Adds the remedy.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<Option<String>>) -> Self {
        self.suggestion = suggestion.into();
        self
    }

    /// Converts the error of a YAML text that could not be deserialized: a syntax error, an unknown key, or a wrong
    /// type.
    pub fn from_yaml(file: impl Into<String>, text: &str, error: &serde_saphyr::Error) -> Self {
        let error = error.without_snippet();
        let at = error.location().and_then(place);
        let finding = match error {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                Self::new(file, format!("unknown key `{field}`"))
                    .suggest(nearest_or_known(field, expected.iter().copied()))
            }
            serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
                Self::new(file, format!("unknown value `{variant}`"))
                    .suggest(nearest_or_known(variant, expected.iter().copied()))
            }
            other => {
                let reported = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
                Self::new(file, with_key_and_value(plain(&reported), text, at))
            }
        };
        finding.at(at)
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

/// Reads a YAML text into its types. Only the first syntax or type error of a text is reported.
///
/// # Errors
/// The finding carries the place, and the nearest known key or value where a name was unknown.
pub fn read_yaml<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, Finding> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Finding::from_yaml(file, text, &error))
}

/// Returns whether a YAML text contains no value.
pub fn is_empty(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}

/// Returns the place of a value; for an alias, that of its use.
pub fn place_of<T>(value: &Spanned<T>) -> Option<Place> {
    place(value.referenced)
}

/// Returns the name of a path in findings.
pub fn file_name(path: &Path) -> String {
    path.display().to_string()
}

/// Suggests the known name that is most similar to `name`, as ``did you mean `x`?``; `None` if none is similar
/// enough.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// Suggests the most similar known name, as [`nearest`] does, else lists all known names; `None` if there are none.
pub fn nearest_or_known<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
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

fn place(location: serde_saphyr::Location) -> Option<Place> {
    let place = Place { line: location.line(), column: location.column() };
    (place.line > 0).then_some(place)
}

/// The YAML library's text without its own place and capital, since a finding has its place already.
fn plain(text: &str) -> String {
    let text = text.trim();
    let text = text.find(" at line ").map_or(text, |end| &text[..end]);
    let text = text.trim_end_matches(['.', ',', ':']);
    // The library names its own types and tokens.
    let text = match text {
        "invalid u8" | "invalid u16" | "invalid u32" | "invalid u64" | "invalid usize" => {
            "should be a whole number, 0 or more and within bounds"
        }
        "invalid i8" | "invalid i16" | "invalid i32" | "invalid i64" => {
            "should be a whole number within bounds"
        }
        "invalid f32" | "invalid f64" => "should be a number",
        "expected sequence start" => "should be a list",
        "expected mapping start" => "should be a mapping of keys",
        "expected string scalar" => "should be a string",
        _ if text.starts_with("invalid boolean") || text.starts_with("invalid bool") => {
            "should be true or false"
        }
        _ => text,
    };
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain([second]).chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Says of a message `should be …` which key it is about and what was written there, as far as the text shows it.
fn with_key_and_value(message: String, text: &str, at: Option<Place>) -> String {
    let (true, Some(at)) = (message.starts_with("should be "), at) else { return message };
    let column = usize::try_from(at.column).unwrap_or(usize::MAX).saturating_sub(1);
    let line = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
    let Some(of_error) = text.lines().nth(line) else { return message };
    let head: String = of_error.chars().take(column).collect();
    let value: String = of_error.chars().skip(column).collect();
    let mut reported = message;
    let key = match head.trim() {
        // A block below its key.
        "" => text.lines().take(line).filter(|line| !line.trim().is_empty()).last().and_then(key),
        _ => key(&head),
    };
    if let Some(key) = key {
        reported = format!("`{key}` {reported}");
    }
    let value = value.split(" #").next().unwrap_or_default();
    let end = value.find([',', '}', ']']).unwrap_or(value.len());
    let value = value[..end].trim();
    let is_plain = !value.starts_with(['{', '[', '|', '>'])
        && !value.starts_with("- ")
        && !value.contains(": ");
    if is_plain && !value.is_empty() && !value.ends_with(':') && value.chars().count() <= 40 {
        reported = format!("{reported}, is `{value}`");
    }
    reported
}

/// The key that ends a line, or the part of it before a value.
fn key(head: &str) -> Option<&str> {
    let key = head.trim_end().strip_suffix(':')?;
    let key = key.rsplit([' ', '{', ',']).next()?.trim_matches(['"', '\'']);
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        colour: Spanned<String>,
        kind: Option<Kind>,
        size: Option<u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Round,
        Square,
    }

    fn message(text: &str) -> String {
        read_yaml::<Sample>("x.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
        assert_eq!(
            message("kind: round\n\ncolor: red\n"),
            "x.yaml:3:1: unknown key `color`; did you mean `colour`?"
        );
    }

    #[test]
    fn an_unknown_key_far_from_all_lists_those_there_are() {
        assert_eq!(
            message("zzz: 1\n"),
            "x.yaml:1:1: unknown key `zzz`; known are `colour`, `kind`, `size`"
        );
    }

    #[test]
    fn an_unknown_value_of_a_list_of_words_is_named() {
        assert_eq!(
            message("colour: red\nkind: rund\n"),
            "x.yaml:2:7: unknown value `rund`; did you mean `round`?"
        );
    }

    #[test]
    fn a_wrong_type_and_a_syntax_error_carry_their_place() {
        let wrong_type = message("colour: red\nsize: big\n");
        assert!(wrong_type.starts_with("x.yaml:2:7: "), "{wrong_type}");
        assert!(!wrong_type.contains("line 2"), "{wrong_type}");
        let syntax = message("colour: [red\nsize: 1\n");
        assert!(syntax.starts_with("x.yaml:"), "{syntax}");
        let missing = message("size: 1\n");
        assert!(missing.contains("`colour`"), "{missing}");
    }

    #[test]
    fn a_wrong_type_names_its_key_what_it_should_be_and_what_it_is() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Typed {
            size: Option<u8>,
            round: Option<bool>,
            names: Option<Vec<String>>,
            of: Option<Sample>,
        }
        let message = |text: &str| {
            let reported = read_yaml::<Typed>("x", text).unwrap_err().to_string();
            reported.split_once(": ").unwrap().1.to_owned()
        };
        let number = "should be a whole number, 0 or more and within bounds";
        assert_eq!(message("size: big # as it is\n"), format!("`size` {number}, is `big`"));
        assert_eq!(message("{ size: -1, round: true }\n"), format!("`size` {number}, is `-1`"));
        assert_eq!(message("round: 3\n"), "`round` should be true or false, is `3`");
        assert_eq!(message("names: one\n"), "`names` should be a list, is `one`");
        assert_eq!(message("names:\n  one: two\n"), "`names` should be a list");
        assert_eq!(message("of: red\n"), "`of` should be a mapping of keys, is `red`");
        assert_eq!(message("names: [[one]]\n"), "should be a string");
    }

    #[test]
    fn a_text_of_comments_alone_is_empty() {
        assert!(is_empty("") && is_empty("# nothing\n\n---\n"));
        assert!(!is_empty("# name\nname: x\n"));
    }

    #[test]
    fn a_spanned_value_knows_its_place() {
        let sample: Sample = read_yaml("x.yaml", "size: 1\ncolour: red\n").unwrap();
        assert_eq!(place_of(&sample.colour), Some(Place { line: 2, column: 9 }));
        assert!(matches!(sample.kind, None | Some(Kind::Round | Kind::Square)));
        assert_eq!(sample.size, Some(1));
    }

    #[test]
    fn nothing_is_suggested_for_a_name_that_is_near_to_none() {
        assert_eq!(nearest("zebra", ["collector", "intake"]), None);
        assert_eq!(
            nearest("colector", ["intake", "collector"]).as_deref(),
            Some("did you mean `collector`?")
        );
    }
}
