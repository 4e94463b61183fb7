//! Regular expressions as Go's `regexp` reads them, which the Collector uses. Ours knows more: there `\d`, `\w`, `\s` and `\b` are of
//! ASCII alone, and `[`, `&&` and `~~` within a class are themselves.

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

/// Compiles a pattern of a config.
///
/// # Errors
///
/// If it is not a regular expression.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&translated(pattern))
}

fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '\\' => match rest.next() {
                Some('Q') => quoted(&mut rest, &mut out),
                Some('b') => out.push_str(r"(?-u:\b)"),
                escaped => escape(escaped, &mut out),
            },
            '[' => class(&mut rest, &mut out),
            char => out.push(char),
        }
    }
    out
}

/// Translates what stands behind a backslash.
fn escape(escaped: Option<char>, out: &mut String) {
    match escaped {
        Some('d') => out.push_str("[0-9]"),
        Some('D') => out.push_str("[^0-9]"),
        Some('w') => out.push_str("[0-9A-Za-z_]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        Some('s') => out.push_str(r"[\t\n\f\r ]"),
        Some('S') => out.push_str(r"[^\t\n\f\r ]"),
        other => {
            out.push('\\');
            out.extend(other);
        }
    }
}

/// Translates literal text, up to `\E` or the end.
fn quoted(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(char) = rest.next() {
        if char == '\\' && rest.next_if_eq(&'E').is_some() {
            break;
        }
        text.push(char);
    }
    out.push_str(&regex::escape(&text));
}

/// Translates a class behind its bracket.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if rest.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    while let Some(char) = rest.next() {
        match char {
            '\\' => escape(rest.next(), out),
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                for char in rest.by_ref() {
                    out.push(char);
                    if char == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' => out.extend(['\\', char]),
            ']' => {
                out.push(']');
                return;
            }
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, matched, not) in [
            (r"^\d+$", "12", "١٢"),
            (r"^\w+$", "a_1", "é"),
            (r"^\s$", " ", "\u{a0}"),
            (r"^[\w.]+$", "a.b", "é.b"),
            (r"^[^\W]$", "a", "é"),
            (r"^[^[]+$", "a]", "a[b"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[[:alpha:]_]+$", "a_b", "a1"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^\Qa.b\E+$", "a.bb", "axb"),
            (r"\bb", "éb", "ab"),
            (r"^\[\]\\$", r"[]\", "[]"),
            (r"^.[^/]$", "éü", "é/"),
            (r"^\x{e9}\.$", "é.", "e."),
        ] {
            let compiled = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(compiled.is_match(matched), "{pattern}: {matched}");
            assert!(!compiled.is_match(not), "{pattern}: {not}");
        }
        for wrong in ["(", "[", r"\", r"[\", "[[:"] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
    }
}
