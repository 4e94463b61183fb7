//! Remedies for texts that are no YAML.

use super::FilePlace;

/// How many lines above an error its cause is looked for.
const ABOVE: usize = 3;

/// Returns the remedy for a syntax error, where its usual cause stands in the text.
pub(super) fn remedy(message: &str, text: &str, at: Option<FilePlace>) -> Option<String> {
    if message.contains("multiple found") {
        return Some("put each document into a file of its own, without `---`".to_owned());
    }
    let at = at?;
    let lines: Vec<&str> = text.lines().collect();
    let line = usize::try_from(at.line).ok()?.checked_sub(1)?.min(lines.len().checked_sub(1)?);
    let near = lines[line.saturating_sub(ABOVE)..=line].iter().rev();
    if let Some(reference) = near.filter_map(|line| unquoted_reference(line)).next()
        && message.contains("flow")
    {
        return Some(format!("quote what has braces in it: `\"{reference}\"`"));
    }
    if message.contains("unclosed quote") {
        return Some("close it".to_owned());
    }
    // One of a regular expression is none of YAML.
    if message.contains("unclosed") && !message.contains("regular expression") {
        return Some("close it, or quote the text that it is a part of".to_owned());
    }
    if message.contains("flow") || message.contains("illegal placement of ':'") {
        let remedy = "close the `[` or `{` before it, or quote what has one in it";
        return Some(remedy.to_owned());
    }
    if message.contains("tabs ") {
        return Some("indent with spaces".to_owned());
    }
    if message.contains("mapping values are not allowed") {
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let before: String = lines[line].chars().take(column).collect();
        return Some(match before.contains(": ") {
            true => "quote a value that has `: ` in it".to_owned(),
            false => "indent it as the keys beside it".to_owned(),
        });
    }
    None
}

/// The first `${…}` of a line that stands outside of quotes.
fn unquoted_reference(line: &str) -> Option<&str> {
    let mut quote = None;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '$') if line[at..].starts_with("${") => {
                let end = line[at..].find('}')?;
                return Some(&line[at..=at + end]);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::source::read_yaml;

    #[test]
    fn usual_mistakes_are_answered_with_what_to_write() {
        for (text, remedy) in [
            ("a: { b: ${listen:http} }\n", "quote what has braces in it: `\"${listen:http}\"`"),
            ("a: {b: ${x}}\n", "quote what has braces in it: `\"${x}\"`"),
            ("a: [\"${x}\", ${port:y}]\n", "quote what has braces in it: `\"${port:y}\"`"),
            ("a: {\n  b: ${x},\n  c: 1\n}\n", "quote what has braces in it: `\"${x}\"`"),
            ("a:\n\t- b\n", "indent with spaces"),
            ("a: b: c\n", "quote a value that has `: ` in it"),
            ("a: b\n c: d\n", "indent it as the keys beside it"),
            ("a: b\n---\na: c\n", "put each document into a file of its own, without `---`"),
        ] {
            let finding = read_yaml::<serde_json::Value>("x", text).unwrap_err();
            assert_eq!(finding.suggestion.as_deref(), Some(remedy), "{text}: {finding}");
        }
        let finding = read_yaml::<serde_json::Value>("x", "a: ['${x}', b\n").unwrap_err();
        let unclosed = "close it, or quote the text that it is a part of";
        assert_eq!(finding.suggestion.as_deref(), Some(unclosed), "{finding}");
    }
}
