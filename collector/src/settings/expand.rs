//! `${env:NAME}`, `${env:NAME:-default}`, `${NAME}` and `$$` in a config's values.

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

/// Treatment of a variable that is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    /// The config cannot be used.
    IsWrong,
    /// It is set where the config is to run, perhaps: the value becomes one of the style [`Style::Unset`].
    IsKept,
}

/// Reason for which a value cannot be replaced.
enum Broken {
    Unset(String),
    Malformed(String),
}

/// Describes a reference to a variable that is not set.
pub(super) fn unset(name: &str) -> String {
    format!(
        "environment variable `{name}` is not set; set it, or give a default: `${{env:{name}:-default}}`"
    )
}

/// Replaces all references in the values of a tree; collects what is wrong with any of them.
pub(crate) fn expand(
    node: &mut Node,
    environment: Environment<'_>,
    if_unset: Unset,
) -> Vec<ExpandError> {
    let mut errors = Vec::new();
    visit(node, &mut Vec::new(), environment, if_unset, &mut errors);
    errors
}

fn visit(
    node: &mut Node,
    path: &mut Vec<String>,
    environment: Environment<'_>,
    if_unset: Unset,
    errors: &mut Vec<ExpandError>,
) {
    match &mut node.value {
        Value::Null => {}
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index.to_string());
                visit(item, path, environment, if_unset, errors);
                path.pop();
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                path.push(key.name.clone());
                visit(value, path, environment, if_unset, errors);
                path.pop();
            }
        }
        Value::Scalar(scalar) if scalar.text.contains('$') => {
            match text(&scalar.text, environment) {
                Ok(Expanded { text, whole }) => {
                    // Only a value that is one reference may become a number or a boolean.
                    let style = if whole { Style::Expanded } else { Style::Quoted };
                    *scalar = Scalar { text, style };
                }
                Err(Broken::Unset(name)) if if_unset == Unset::IsKept => {
                    *scalar = Scalar { text: name, style: Style::Unset };
                }
                Err(broken) => {
                    let problem = match broken {
                        Broken::Unset(name) => unset(&name),
                        Broken::Malformed(problem) => problem,
                    };
                    let problem = format!("`{}`: {problem}", path.join("."));
                    errors.push(ExpandError { at: node.at.clone(), problem });
                }
            }
        }
        Value::Scalar(_) => {}
    }
}

struct Expanded {
    text: String,
    whole: bool,
}

fn text(text: &str, environment: Environment<'_>) -> Result<Expanded, Broken> {
    let (mut out, mut rest, mut whole) = (String::new(), text, false);
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or_else(|| {
                let problem =
                    format!("`${{{after}` has no closing brace; write `$$` for a dollar sign");
                Broken::Malformed(problem)
            })?;
            let value = reference(&after[..end], environment)?;
            whole = out.is_empty() && dollar == 0 && after[end + 1..].is_empty();
            out.push_str(&value);
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(Expanded { text: out, whole })
}

fn reference(reference: &str, environment: Environment<'_>) -> Result<String, Broken> {
    let (scheme, rest) = match reference.split_once(':') {
        Some((scheme, rest)) => (scheme, rest),
        None => ("env", reference),
    };
    if scheme != "env" {
        // `${NAME:-default}`: in the Collector too, only a name with its scheme may have a default.
        let problem = match rest.starts_with('-') {
            true => format!(
                "`${{{reference}}}` gives a default to a name without a scheme; write `${{env:{reference}}}`"
            ),
            false => format!(
                "`${{{reference}}}` has the unknown scheme `{scheme}`; a value may refer to `env:` only"
            ),
        };
        return Err(Broken::Malformed(problem));
    }
    let (name, default) = match rest.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (rest, None),
    };
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
    if !valid {
        return Err(Broken::Malformed(format!(
            "`${{{reference}}}` does not name a variable: letters, digits and `_` are allowed"
        )));
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.into()),
        (None, None) => Err(Broken::Unset(name.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Unset, expand};
    use crate::settings::node::{Node, Resolved, Style, Value};

    fn environment(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("4317".into()),
            "KEY" => Some("0123".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn value(yaml: &str) -> (String, Resolved) {
        let mut node = Node::parse("test", &format!("v: {yaml}")).unwrap();
        assert_eq!(expand(&mut node, &environment, Unset::IsWrong), []);
        match &node.get("v").unwrap().value {
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
        assert_eq!(value("${env:EMPTY:-x}"), ("x".into(), Resolved::Text));
        assert_eq!(value("a$$b$c"), ("a$b$c".into(), Resolved::Text));
        assert_eq!(value("$${PORT}"), ("${PORT}".into(), Resolved::Text));
    }

    #[test]
    fn all_broken_references_are_told_with_their_places() {
        let yaml = "a: ${env:NO}\nb:\n  - x\n  - ${NO2\nc: ${vault:x}\nd: ${env:1x}\ne: ${NO:-x}\n";
        let mut node = Node::parse("c.yaml", yaml).unwrap();
        let errors = expand(&mut node, &environment, Unset::IsWrong);
        let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "c.yaml:1:4: `a`: environment variable `NO` is not set; set it, or give a default: `${env:NO:-default}`",
                "c.yaml:4:5: `b.1`: `${NO2` has no closing brace; write `$$` for a dollar sign",
                "c.yaml:5:4: `c`: `${vault:x}` has the unknown scheme `vault`; a value may refer to `env:` only",
                "c.yaml:6:4: `d`: `${env:1x}` does not name a variable: letters, digits and `_` are allowed",
                "c.yaml:7:4: `e`: `${NO:-x}` gives a default to a name without a scheme; write `${env:NO:-x}`",
            ]
        );
    }

    #[test]
    fn what_is_not_set_may_be_kept_and_what_is_malformed_may_not() {
        let mut node = Node::parse("c.yaml", "a: x${NO}\nb: ${env:PORT}\nc: ${vault:x}\n").unwrap();
        let errors = expand(&mut node, &environment, Unset::IsKept);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let style = |key: &str| match &node.get(key).unwrap().value {
            Value::Scalar(scalar) => (scalar.text.as_str(), scalar.style),
            other => panic!("{other:?}"),
        };
        assert_eq!(style("a"), ("NO", Style::Unset));
        assert_eq!(style("b"), ("4317", Style::Expanded));
    }
}
