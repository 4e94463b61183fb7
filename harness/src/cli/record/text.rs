//! Puts another `expect` into a scenario's text, and leaves the rest as it is written.

use anyhow::Context;

/// The text with another name and another `expect`.
///
/// # Errors
///
/// When its keys do not stand at the beginning of lines.
pub(super) fn with_expect(text: &str, name: &str, expect: &str) -> anyhow::Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = |key: &str| lines.iter().position(|line| line.starts_with(key));
    let named = at("name:").context(
        "no line begins with `name:`; write each of its keys on a line of its own, as in docs/scenario-reference.md",
    )?;
    let old = at("expect:");
    let end = old.map(|from| {
        let is_key =
            |line: &&str| line.starts_with(|c: char| c.is_alphabetic() || c == '"' || c == '\'');
        let rest = lines.iter().skip(from + 1);
        let mut end = rest.clone().position(is_key).map_or(lines.len(), |at| from + 1 + at);
        // What is written right above the next key is its own.
        while end > from + 1
            && lines.get(end - 1).is_some_and(|line| line.is_empty() || line.starts_with('#'))
        {
            end -= 1;
        }
        end
    });
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if old == Some(index) {
            out.push_str(expect);
        }
        if old.is_some_and(|from| from <= index) && end.is_some_and(|end| index < end) {
            continue;
        }
        match index == named {
            true => out.push_str(&format!("name: {name}")),
            false => out.push_str(line),
        }
        out.push('\n');
    }
    if old.is_none() {
        out.push_str(expect);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "expect:\n  services: [a]\n";

    #[test]
    fn only_the_name_and_what_is_expected_are_others() {
        let head = "# mine\nname: one\ndescription: x\nrequests:\n- { get: / }\n";
        let named = head.replace("name: one", "name: two");
        for (old, tail) in [
            ("", ""),
            ("expect: { within: 3s }\n", ""),
            ("expect:\n  tree:\n    server: a\n\n    children: []\n", "\n# why\ntolerate: []\n"),
        ] {
            let text = with_expect(&format!("{head}{old}{tail}"), "two", NEW).unwrap();
            assert_eq!(text, format!("{named}{NEW}{tail}"), "{old}");
        }
        let wrong = with_expect("{ name: one }", "two", NEW).unwrap_err();
        assert!(wrong.to_string().contains("on a line of its own"), "{wrong}");
    }
}
