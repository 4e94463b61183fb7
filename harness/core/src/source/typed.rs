//! Reads YAML texts into their types, and says what does not fit.

use std::ops::Range;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::Error;

use super::{
    FilePlace, Finding, nearest, nearest_or_known,
    outline::{Form, Outline},
    place, syntax,
};

/// Most findings of one text.
const MAX_FINDINGS: usize = 30;
/// Longest part of a value that a message shows, in characters.
const SHOWN: usize = 40;

/// Something in a text that its types do not take, for those who know what was likely meant.
#[derive(Debug, Clone, Copy)]
pub struct Wrong<'a> {
    /// The keys that lead to it, `[]` for an item of a list; an unknown key is the last of them.
    pub path: &'a [&'a str],
    /// The value as it is written, on one line.
    pub value: &'a str,
    /// The mistake in it.
    pub problem: Problem<'a>,
}

/// Mistake in a part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem<'a> {
    /// There is no such key.
    UnknownKey,
    /// There is no such word among those that it may be.
    UnknownWord,
    /// This key is missing.
    Missing(&'a str),
    /// The value is of another type.
    Type,
}

/// Returns what to write in place of something wrong; `None` where the usual remedy will do.
pub type Remedy = fn(&Wrong<'_>) -> Option<String>;

/// Reads a YAML text into its types. Only the first syntax or type error of a text is reported.
///
/// # Errors
/// The finding carries the place, and the nearest known key or value where a name was unknown.
pub fn read_yaml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Finding> {
    read(text).map_err(|error| match Outline::of(text) {
        Some(outline) => finding(file, text, Some(&outline), &error, |_| None),
        None => syntax_error(file, text, error),
    })
}

/// Reads a YAML text into its types, with all that is wrong at once: after each finding, what was wrong is left out and the rest
/// read again.
///
/// # Errors
/// The findings, sorted by place; a syntax error is the only one. `remedy` gives what to write, where it knows better.
pub fn read_all<T: DeserializeOwned>(
    file: &str,
    text: &str,
    remedy: Remedy,
) -> Result<T, Vec<Finding>> {
    let mut letters: Vec<char> = text.chars().collect();
    let whole = Outline::of(text);
    let (mut findings, mut removed) = (Vec::new(), Vec::new());
    let mut rest = text.to_owned();
    while findings.len() < MAX_FINDINGS {
        let error = match read(&rest) {
            Ok(value) if findings.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let (Some(outline), Some(left)) = (&whole, Outline::of(&rest)) else {
            // What is no YAML only without a part, for an anchor in it, is none of its author's mistakes.
            if findings.is_empty() {
                findings.push(syntax_error(file, text, error));
            }
            break;
        };
        let at = place_of_error(&error).map(|at| position(text, at));
        let missing = missing_field(&error);
        let whole = at.is_some_and(|at| is_of_holder(&error, outline, at));
        // One that is misspelt is not missing as well.
        let is_misspelt = at.zip(missing).is_some_and(|(at, missing)| {
            let keys = outline.beside(at).into_iter().filter(|(place, _)| removed.contains(place));
            keys.into_iter().any(|(_, key)| key == missing || nearest(key, [missing]).is_some())
        });
        if !is_misspelt {
            findings.push(finding(file, text, Some(outline), &error, remedy));
        }
        let Some(range) = at.and_then(|at| left.entry(at, whole, &letters)) else {
            break;
        };
        removed.extend(range.clone());
        letters = blanked(&letters, &range);
        rest = letters.iter().collect();
    }
    findings.sort_by_key(|finding| finding.place);
    Err(findings)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// A text with blanks in place of a part of it, so that all else stays where it is.
pub(super) fn blanked(text: &[char], range: &Range<usize>) -> Vec<char> {
    let letters = text.iter().enumerate();
    let blank = |(at, letter): (usize, &char)| match range.contains(&at) && *letter != '\n' {
        true => ' ',
        false => *letter,
    };
    letters.map(blank).collect()
}

fn place_of_error(error: &Error) -> Option<FilePlace> {
    error.without_snippet().location().and_then(place)
}

fn missing_field(error: &Error) -> Option<&'static str> {
    match error.without_snippet() {
        Error::SerdeMissingField { field, .. } => Some(field),
        _ => None,
    }
}

/// Returns whether an error is about what holds the entry at its place: a missing key is reported at the first one, and so is a block that should
/// be no mapping, since a key itself is of the right type.
fn is_of_holder(error: &Error, outline: &Outline, at: usize) -> bool {
    match error.without_snippet() {
        Error::SerdeMissingField { .. } => true,
        Error::SerdeUnknownField { .. }
        | Error::SerdeUnknownVariant { .. }
        | Error::DuplicateMappingKey { .. } => false,
        _ => outline.is_key(at),
    }
}

/// The position of a place in a text, in characters from 0.
fn position(text: &str, at: FilePlace) -> usize {
    let line = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
    let column = usize::try_from(at.column).unwrap_or(usize::MAX).saturating_sub(1);
    let above: usize = text.split_inclusive('\n').take(line).map(|line| line.chars().count()).sum();
    above.saturating_add(column)
}

/// Converts the error of a text that is no YAML; `error` is another one in front of it, perhaps only because of it.
fn syntax_error(file: &str, text: &str, error: Error) -> Finding {
    let error = read::<IgnoredAny>(text).err().unwrap_or(error);
    finding(file, text, None, &error, |_| None)
}

/// Converts the error of a YAML text that could not be read: a syntax error, an unknown key, or a wrong type.
fn finding(
    file: &str,
    text: &str,
    outline: Option<&Outline>,
    error: &Error,
    remedy: impl Fn(&Wrong<'_>) -> Option<String>,
) -> Finding {
    let at = place_of_error(error);
    let found = outline.zip(at).map(|(outline, at)| {
        let position = position(text, at);
        let whole = is_of_holder(error, outline, position);
        (outline.path(position, whole), outline.value(position, whole))
    });
    let value = found.as_ref().map_or_else(String::new, |(_, (_, range))| {
        let letters = text.chars().skip(range.start).take(range.len());
        letters.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
    });
    let path = found.as_ref().map_or(&[][..], |(path, _)| path);
    let meant = |path, problem| remedy(&Wrong { path, value: &value, problem });
    let finding = match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            let known = || nearest_or_known(field, expected.iter().copied());
            Finding::new(file, format!("unknown key `{field}`"))
                .suggest(meant(path, Problem::UnknownKey).or_else(known))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let similar = nearest(variant, expected.iter().copied());
            let known = || nearest_or_known(variant, expected.iter().copied());
            Finding::new(file, format!("unknown value `{variant}`"))
                .suggest(similar.or_else(|| meant(path, Problem::UnknownWord)).or_else(known))
        }
        Error::SerdeMissingField { field, .. } => {
            Finding::new(file, format!("missing field `{field}`"))
                .suggest(meant(path, Problem::Missing(field)))
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Finding::new(file, format!("the key `{key}` is there already"))
                .suggest("keep one of the two".to_owned())
        }
        Error::NullIntoString { .. } => {
            let name = path.iter().rev().find(|name| **name != "[]").copied().unwrap_or_default();
            Finding::new(file, format!("`{name}` has no value"))
                .suggest("write one, or `\"\"` for an empty text".to_owned())
        }
        other => {
            let reported = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            let form = found.as_ref().map(|(_, (form, _))| *form);
            let message = with_key_and_value(plain(&reported, form), path, &value, form);
            let suggestion = match outline {
                Some(_) if message.contains("should ") => meant(path, Problem::Type),
                _ => syntax::remedy(&message, text, at),
            };
            Finding::new(file, message).suggest(suggestion)
        }
    };
    finding.at(at)
}

/// The YAML library's text without its own place and capital, since a finding has its place already.
fn plain(text: &str, form: Option<Form>) -> String {
    let text = text.trim();
    let text = text.find(" at line ").map_or(text, |end| &text[..end]);
    let text = text.trim_end_matches(['.', ',', ':']);
    // The library names its own types and tokens.
    let text = match text {
        "invalid u8" | "invalid u16" | "invalid u32" | "invalid u64" | "invalid usize" => {
            "should be a non-negative integer within bounds"
        }
        "invalid i8" | "invalid i16" | "invalid i32" | "invalid i64" => {
            "should be a whole number within bounds"
        }
        "invalid f32" | "invalid f64" => "should be a number",
        "externally tagged enum expected scalar or mapping" => "should not be a list",
        "expected sequence start" => "should be a list",
        "expected mapping start" => "should be a mapping of keys",
        "expected string scalar" => match form {
            Some(Form::List) => "should be a single value, not a list",
            Some(Form::Mapping) => "should be a single value, not a mapping of keys",
            _ => "should be a single value",
        },
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

/// Says of a message `should …` which key it is about and what was written there.
fn with_key_and_value(message: String, path: &[&str], value: &str, form: Option<Form>) -> String {
    if !message.starts_with("should ") {
        return message;
    }
    let mut reported = match path {
        [.., list, "[]"] => format!("an item of `{list}` {message}"),
        [.., key] if *key != "[]" => format!("`{key}` {message}"),
        _ => message,
    };
    if form == Some(Form::Scalar) && !value.is_empty() && value.chars().count() <= SHOWN {
        reported = format!("{reported}, is `{value}`");
    }
    reported
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_saphyr::Spanned;

    use super::*;
    use crate::source::place_of;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        colour: Spanned<String>,
        kind: Option<Kind>,
        size: Option<u8>,
        #[expect(dead_code, reason = "only read")]
        tags: Option<Vec<std::collections::BTreeMap<String, String>>>,
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
            "x.yaml:1:1: unknown key `zzz`; known are `colour`, `kind`, `size`, `tags`"
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
        let number = "should be a non-negative integer within bounds";
        assert_eq!(message("size: big # as it is\n"), format!("`size` {number}, is `big`"));
        assert_eq!(message("{ size: -1, round: true }\n"), format!("`size` {number}, is `-1`"));
        assert_eq!(message("round: 3\n"), "`round` should be true or false, is `3`");
        assert_eq!(message("names: one\n"), "`names` should be a list, is `one`");
        assert_eq!(message("names:\n  one: two\n"), "`names` should be a list");
        assert_eq!(message("of:\n  - one\n"), "`of` should be a mapping of keys");
        assert_eq!(message("of: red\n"), "`of` should be a mapping of keys, is `red`");
        assert_eq!(
            message("names: [[one]]\n"),
            "an item of `names` should be a single value, not a list"
        );
        assert_eq!(
            message("names: [one: two]\n"),
            "an item of `names` should be a single value, not a mapping of keys"
        );
    }

    #[test]
    fn a_spanned_value_knows_its_place() {
        let sample: Sample = read_yaml("x.yaml", "size: 1\ncolour: red\n").unwrap();
        assert_eq!(place_of(&sample.colour), Some(FilePlace { line: 2, column: 9 }));
        assert!(matches!(sample.kind, None | Some(Kind::Round | Kind::Square)));
        assert_eq!(sample.size, Some(1));
    }

    fn all(text: &str) -> Vec<String> {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Whole {
            name: String,
            samples: Vec<Sample>,
            env: Option<std::collections::BTreeMap<String, String>>,
        }
        let remedy: Remedy = |wrong| match (wrong.path, wrong.problem) {
            (["samples", "[]"], Problem::Type) => {
                Some(format!("write {{ colour: {} }}", wrong.value))
            }
            (["samples", "[]"], Problem::Missing(key)) => Some(format!("add `{key}: red`")),
            (["samples", "[]", "paint"], Problem::UnknownKey) => Some("write `colour`".to_owned()),
            _ => None,
        };
        let findings = read_all::<Whole>("x", text, remedy).map(|_| ()).unwrap_err();
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn all_that_is_wrong_is_reported_at_once_each_with_its_place() {
        assert_eq!(
            all(
                "nam: one\nsamples:\n  - colour: red\n    kind: rund\n    sice: 2\n  - paint: red\n    size: big\n  - blue\n  - { size: 2 }\n"
            ),
            [
                "x:1:1: unknown key `nam`; did you mean `name`?",
                "x:4:11: unknown value `rund`; did you mean `round`?",
                "x:5:5: unknown key `sice`; did you mean `size`?",
                "x:6:5: unknown key `paint`; write `colour`",
                "x:7:11: `size` should be a non-negative integer within bounds, is `big`",
                "x:8:5: an item of `samples` should be a mapping of keys, is `blue`; write { colour: blue }",
                "x:9:7: missing field `colour`; add `colour: red`",
            ]
        );
    }

    #[test]
    fn what_is_left_out_makes_nothing_else_wrong() {
        assert_eq!(
            all(
                "name: &n one\nsamples: [{ colur: red }, { colour: red, kind: [] }]\nenv: { A: , B: [1] }\n"
            ),
            [
                "x:2:13: unknown key `colur`; did you mean `colour`?",
                "x:2:48: `kind` should not be a list",
                "x:3:9: `A` has no value; write one, or `\"\"` for an empty text",
                "x:3:16: `B` should be a single value, not a list",
            ]
        );
        assert_eq!(all("name: [&n one]\nsamples: [{ colour: *n }]\n").len(), 1);
        assert_eq!(
            all("name: one\nname: two\nsamples: []\n"),
            ["x:2:1: the key `name` is there already; keep one of the two"]
        );
        assert_eq!(
            all("name: [one\nsamplse: 1\n"),
            [
                "x:2:8: illegal placement of ':' indicator; close the `[` or `{` before it, or quote what has one in it"
            ]
        );
        for text in [
            "samples: []\nenv: { A: b }\n",
            "env: { A: b, C: d }\nsamples: [{ colour: a, kind: round }]\n",
            "samples:\n  - colour: a\n    kind: round\n",
        ] {
            let reported = all(text);
            assert!(
                reported.len() == 1 && reported[0].ends_with("missing field `name`"),
                "{reported:?}"
            );
        }
        let reported = all(
            "name: x\nsamples:\n  - kind: round\n    size: 1\n  - colour: blue\n    kind: rund\n  - kind: round\n    tags: [{ a: b }]\n",
        );
        assert_eq!(
            reported.iter().map(|one| one.split_once(": ").unwrap().1).collect::<Vec<_>>(),
            [
                "missing field `colour`; add `colour: red`",
                "unknown value `rund`; did you mean `round`?",
                "missing field `colour`; add `colour: red`",
            ]
        );
    }
}
