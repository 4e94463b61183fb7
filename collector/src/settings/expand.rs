//! `${env:NAME}`, `${env:NAME:-default}`, `${NAME}`, `${file:PATH}`, `${yaml:TEXT}` and `$$` in a config's values.
//!
//! As in the Collector, what is referred to may refer to others again, and so may a name and a default; where a reference is
//! the whole value, it is of the type that its text has in YAML, lists and maps included.

use super::node::{Location, Node, Scalar, Style, Value};

/// Gives the value of an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Error for a reference that cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub(crate) struct ExpandError {
    pub(crate) at: Location,
    pub(crate) problem: String,
}

/// Most references that may lead from one to the next.
const MAX_STEPS: usize = 32;

/// Describes what is wrong with a reference to a variable that is not set, where something must stand.
pub(super) fn unset(name: &str) -> String {
    format!(
        "environment variable `{name}` is not set; set it, or give a default: `${{env:{name}:-default}}`"
    )
}

/// Replaces all references in the values of a tree; collects what is wrong with any of them.
///
/// A variable that is not set is nothing, as in the Collector; its value becomes one of the style [`Style::Unset`].
pub(crate) fn expand(node: &mut Node, environment: Environment<'_>) -> Vec<ExpandError> {
    let mut errors = Vec::new();
    visit(node, &mut Vec::new(), environment, 0, &mut errors);
    errors
}

fn visit(
    node: &mut Node,
    path: &mut Vec<String>,
    environment: Environment<'_>,
    steps: usize,
    errors: &mut Vec<ExpandError>,
) {
    match &mut node.value {
        Value::Null => {}
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                visit(item, path, environment, steps, errors);
                path.pop();
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                path.push(key.name.clone());
                visit(value, path, environment, steps, errors);
                path.pop();
            }
        }
        Value::Scalar(scalar) if scalar.text.contains('$') => {
            let problem = match scalar_of(&scalar.text, &node.at, environment, steps) {
                Ok(expanded @ Node { value: Value::Scalar(_), .. }) => {
                    *node = expanded;
                    return;
                }
                // What stands in a list or a map may refer to others again.
                Ok(expanded) => {
                    *node = expanded;
                    return visit(node, path, environment, steps + 1, errors);
                }
                Err(problem) => problem,
            };
            let problem = format!("`{}`: {problem}", path.join("."));
            errors.push(ExpandError { at: node.at.clone(), problem });
        }
        Value::Scalar(_) => {}
    }
}

/// The value that stands for a text with references: text, or the list or the map that is all a variable holds.
fn scalar_of(
    text: &str,
    at: &Location,
    environment: Environment<'_>,
    steps: usize,
) -> Result<Node, String> {
    let mut expander = Expander { environment, unset: None };
    // Only a value that is one reference may become anything but text.
    let Some(reference) = whole_reference(text) else {
        let text = expander.text(text, steps)?;
        let style = expander.unset.map_or(Style::Quoted, Style::Unset);
        return Ok(Node::new(Value::Scalar(Scalar { text, style }), at.clone()));
    };
    let held = expander.resolve(reference, steps)?;
    if let Some(node) = Node::held_by_variable(&held, at) {
        return Ok(node);
    }
    let text = expander.text(&held, steps + 1)?;
    let style = expander.unset.map_or(Style::Expanded, Style::Unset);
    Ok(Node::new(Value::Scalar(Scalar { text, style }), at.clone()))
}

/// Returns the inside of the braces of a text that is one reference.
fn whole_reference(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("${")?;
    let end = closing_brace(inside)?;
    (end + 1 == inside.len()).then(|| &inside[..end])
}

/// Returns the place of the brace that closes the one before `text`; references within it have their own.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut depth, mut position) = (0, 0);
    while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("${") {
            depth += 1;
            position += 2;
        } else if rest.starts_with('}') {
            if depth == 0 {
                return Some(position);
            }
            depth -= 1;
            position += 1;
        } else {
            position += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// Splits a reference into what it names and its default, which may be in `:-` of a reference within it too.
fn split_default(reference: &str) -> (&str, Option<&str>) {
    let mut depth = 0;
    for (position, _) in reference.char_indices() {
        let rest = &reference[position..];
        match () {
            () if rest.starts_with("${") => depth += 1,
            () if rest.starts_with('}') => depth -= 1,
            () if depth == 0 && rest.starts_with(":-") => {
                return (&reference[..position], Some(&rest[2..]));
            }
            () => {}
        }
    }
    (reference, None)
}

struct Expander<'a> {
    environment: Environment<'a>,
    /// The first variable that was found not to be set.
    unset: Option<String>,
}

impl Expander<'_> {
    fn text(&mut self, text: &str, steps: usize) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let end = closing_brace(after).ok_or_else(|| match steps {
                    0 => format!("`${{{after}` has no closing brace; write `$$` for a dollar sign"),
                    // It may be a secret.
                    _ => "what it refers to has a `${` without a closing brace; write `$$` for a dollar sign".into(),
                })?;
                let held = self.resolve(&after[..end], steps)?;
                out.push_str(&self.text(&held, steps + 1)?);
                rest = &after[end + 1..];
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Returns what a reference refers to, as it stands there.
    fn resolve(&mut self, reference: &str, steps: usize) -> Result<String, String> {
        if steps > MAX_STEPS {
            return Err(format!(
                "more than {MAX_STEPS} references lead from one to the next; a variable refers to itself"
            ));
        }
        let (name, default) = split_default(reference);
        let name = self.text(name, steps + 1)?;
        let (scheme, rest) = match name.split_once(':') {
            Some((scheme, rest)) => (scheme, rest),
            None => ("env", name.as_str()),
        };
        match scheme {
            "env" => self.variable(reference, rest, default),
            "file" if default.is_none() => read_file(rest),
            "yaml" if default.is_none() => Ok(rest.into()),
            "file" | "yaml" => {
                Err(format!("`${{{reference}}}` has a default; only `env:` may have one"))
            }
            _ => Err(format!(
                "`${{{reference}}}` has the unknown scheme `{scheme}`; known are `env:`, `file:` and `yaml:`"
            )),
        }
    }

    fn variable(
        &mut self,
        reference: &str,
        name: &str,
        default: Option<&str>,
    ) -> Result<String, String> {
        let valid = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
        if !valid {
            return Err(format!(
                "`${{{reference}}}` does not name a variable: letters, digits and `_` are allowed"
            ));
        }
        if default.is_some() && !reference.starts_with("env:") && !reference.starts_with("${") {
            // In the Collector too, only a name with its scheme may have a default.
            return Err(format!(
                "`${{{reference}}}` gives a default to a name without a scheme; write `${{env:{reference}}}`"
            ));
        }
        match ((self.environment)(name), default) {
            // Also an empty one: it was set so.
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default.into()),
            (None, None) => {
                self.unset.get_or_insert_with(|| name.into());
                Ok(String::new())
            }
        }
    }
}

/// The text of a file, without the end of its last line: who writes a key into a file ends the line.
fn read_file(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{path}` (`${{file:{path}}}`): {error}"))?;
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::expand;
    use crate::settings::node::{Node, Resolved, Style, Value};

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "PORT" => "4317",
            "KEY" => "0123",
            "EMPTY" => "",
            "NAME" => "PORT",
            "CHAIN" => "a-${env:NAME}-$$x",
            "NUMBER" => "${env:PORT}",
            "LOOP" => "${env:LOOP}",
            "LIST" => "[a, '${env:PORT}', 7]",
            "MAP" => "{key: '$$1', deep: '${env:LIST}'}",
            "BRACE" => "${x",
            _ => return None,
        };
        Some(value.into())
    }

    fn node(yaml: &str) -> Node {
        let mut node = Node::parse("test", &format!("v: {yaml}")).unwrap();
        assert_eq!(expand(&mut node, &environment), []);
        node.get("v").unwrap().clone()
    }

    fn value(yaml: &str) -> (String, Resolved) {
        match node(yaml).value {
            Value::Scalar(scalar) => (scalar.text.clone(), scalar.resolve()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn references_are_replaced_and_dollars_kept() {
        assert_eq!(value("${env:PORT}"), ("4317".into(), Resolved::Int(4317)));
        assert_eq!(value("${PORT}"), ("4317".into(), Resolved::Int(4317)));
        assert_eq!(value("0.0.0.0:${env:PORT}"), ("0.0.0.0:4317".into(), Resolved::Text));
        assert_eq!(value("${env:NO:-a:-b}"), ("a:-b".into(), Resolved::Text));
        assert_eq!(value("a$$b$c"), ("a$b$c".into(), Resolved::Text));
        assert_eq!(value("$${PORT}"), ("${PORT}".into(), Resolved::Text));
        assert_eq!(value("\"${yaml:5}\""), ("5".into(), Resolved::Int(5)));
    }

    #[test]
    fn a_default_is_for_what_is_not_set_and_what_is_set_empty_stays_so() {
        assert_eq!(value("'${env:EMPTY:-x}'"), (String::new(), Resolved::Null));
        assert_eq!(value("'a${env:EMPTY:-x}'"), ("a".into(), Resolved::Text));
        assert_eq!(value("${env:NO:-x}"), ("x".into(), Resolved::Text));
    }

    #[test]
    fn references_are_followed_through_defaults_names_and_values() {
        assert_eq!(value("${env:NO:-${env:PORT}}"), ("4317".into(), Resolved::Int(4317)));
        assert_eq!(value("'${env:NO:-${env:NO2:-x}}!'"), ("x!".into(), Resolved::Text));
        // What is not needed is not looked at.
        assert_eq!(value("${env:PORT:-${env:NO}}"), ("4317".into(), Resolved::Int(4317)));
        assert_eq!(value("${env:${env:NAME}}"), ("4317".into(), Resolved::Int(4317)));
        assert_eq!(value("${env:${env:NO:-PORT}:-7}"), ("4317".into(), Resolved::Int(4317)));
        assert_eq!(value("${env:CHAIN}"), ("a-PORT-$x".into(), Resolved::Text));
        assert_eq!(value("${env:NUMBER}"), ("4317".into(), Resolved::Int(4317)));
    }

    #[test]
    fn a_variable_may_hold_a_list_or_a_map() {
        let text = |node: &Node| match &node.value {
            Value::Scalar(scalar) => scalar.text.clone(),
            other => panic!("{other:?}"),
        };
        let texts = |node: &Node| match &node.value {
            Value::List(items) => items.iter().map(text).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let list = node("${env:LIST}");
        assert_eq!(texts(&list), ["a", "4317", "7"]);
        assert_eq!((list.at.line, list.at.column), (1, 4), "it stands where the reference does");
        let map = node("${env:MAP}");
        assert_eq!(text(map.get("key").unwrap()), "$1");
        assert_eq!(texts(map.get("deep").unwrap()), ["a", "4317", "7"]);
        // Within other text it is text.
        assert_eq!(value("'x${env:LIST}'").0, "x[a, '4317', 7]");
    }

    #[test]
    fn a_file_gives_its_text_without_the_end_of_its_last_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cr$$et-${env:PORT}\n").unwrap();
        let path = file.path().display();
        assert_eq!(value(&format!("${{file:{path}}}")).0, "s3cr$et-4317");
        assert_eq!(value(&format!("'Bearer ${{file:{path}}}'")).0, "Bearer s3cr$et-4317");
    }

    #[test]
    fn all_broken_references_are_reported_with_their_places() {
        let yaml = "a: ${env:LOOP}\nb:\n  - x\n  - ${NO2\nc: ${vault:x}\nd: ${env:1x}\ne: ${NO:-x}\nf: ${file:/no/such}\ng: ${env:BRACE}\n";
        let mut node = Node::parse("c.yaml", yaml).unwrap();
        let errors = expand(&mut node, &environment);
        let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "c.yaml:1:4: `a`: more than 32 references lead from one to the next; a variable refers to itself",
                "c.yaml:4:5: `b.1`: `${NO2` has no closing brace; write `$$` for a dollar sign",
                "c.yaml:5:4: `c`: `${vault:x}` has the unknown scheme `vault`; known are `env:`, `file:` and `yaml:`",
                "c.yaml:6:4: `d`: `${env:1x}` does not name a variable: letters, digits and `_` are allowed",
                "c.yaml:7:4: `e`: `${NO:-x}` gives a default to a name without a scheme; write `${env:NO:-x}`",
                "c.yaml:8:4: `f`: cannot read `/no/such` (`${file:/no/such}`): No such file or directory (os error 2)",
                "c.yaml:9:4: `g`: what it refers to has a `${` without a closing brace; write `$$` for a dollar sign",
            ]
        );
    }

    #[test]
    fn what_is_not_set_is_nothing_and_remembered() {
        let mut node = Node::parse("c.yaml", "a: x${NO}y\nb: ${env:PORT}\nc: ${NO}\n").unwrap();
        assert_eq!(expand(&mut node, &environment), []);
        let style = |key: &str| match &node.get(key).unwrap().value {
            Value::Scalar(scalar) => (scalar.text.clone(), scalar.style.clone()),
            other => panic!("{other:?}"),
        };
        assert_eq!(style("a"), ("xy".into(), Style::Unset("NO".into())));
        assert_eq!(style("b"), ("4317".into(), Style::Expanded));
        assert_eq!(style("c"), (String::new(), Style::Unset("NO".into())));
    }
}
