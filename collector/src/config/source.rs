//! Sources of configs: `--config` with a path or a URI, and `--set`.

use std::path::Path;

use crate::settings::expand::Environment;
use crate::settings::node::{Key, Location, Node, Value, YamlError};

/// Error for a source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("cannot read config file `{path}`: {error}; pass an existing file with `--config`")]
    Unreadable { path: String, error: std::io::Error },
    #[error("config `{uri}`: environment variable `{name}` is not set")]
    Unset { uri: String, name: String },
    #[error(
        "config `{uri}` has the unknown scheme `{scheme}`; known are `file:`, `env:` and `yaml:`"
    )]
    Scheme { uri: String, scheme: String },
    #[error("{0}")]
    Yaml(#[from] YamlError),
    #[error(
        "{at}: a config is a map of `receivers`, `processors`, `exporters` and `service`; found {found}"
    )]
    NotAMap { at: Location, found: String },
    #[error("`--set {setting}`: write `--set path.to.key=value`")]
    Setting { setting: String },
}

/// Reads one `--config`: a path, or a URI with the scheme `file:`, `env:` or `yaml:`.
pub(crate) fn read(uri: &str, environment: Environment<'_>) -> Result<Node, SourceError> {
    let (name, text) = match uri.split_once(':') {
        Some(("yaml", text)) => ("yaml:".to_owned(), text.to_owned()),
        Some(("env", name)) => {
            let Some(text) = environment(name) else {
                return Err(SourceError::Unset { uri: uri.into(), name: name.into() });
            };
            (uri.to_owned(), text)
        }
        Some(("file", path)) => (path.to_owned(), read_file(path)?),
        // One letter is a drive, and what exists under that name is a file.
        Some((scheme, _))
            if scheme.len() > 1 && !scheme.contains('/') && !Path::new(uri).exists() =>
        {
            return Err(SourceError::Scheme { uri: uri.into(), scheme: scheme.into() });
        }
        _ => (uri.to_owned(), read_file(uri)?),
    };
    let mut node = Node::parse(&name, &text)?;
    nest(&mut node);
    match node.value {
        Value::Map(_) | Value::Null => Ok(node),
        _ => Err(SourceError::NotAMap { found: node.describe(), at: node.at }),
    }
}

/// Reads one `--set`: keys joined by `.` or `::`, `=`, and a value in YAML.
pub(crate) fn setting(setting: &str) -> Result<Node, SourceError> {
    let wrong = || SourceError::Setting { setting: setting.into() };
    let (path, value) = setting.split_once('=').ok_or_else(wrong)?;
    let keys: Vec<_> = path.split("::").flat_map(|part| part.split('.')).collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(wrong());
    }
    let mut node = Node::parse(&format!("--set {path}"), value)?;
    for key in keys.iter().rev() {
        let at = node.at.clone();
        let key = Key { name: (*key).to_owned(), at: at.clone() };
        node = Node::new(Value::Map(vec![(key, node)]), at);
    }
    Ok(node)
}

/// Makes `a::b: c` the same as `a: {b: c}`, as the Collector does.
fn nest(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else { return };
    let mut nested = Node::new(Value::Map(Vec::new()), node.at.clone());
    for (key, mut value) in std::mem::take(entries) {
        nest(&mut value);
        for part in key.name.rsplit("::") {
            let at = value.at.clone();
            let key = Key { name: part.to_owned(), at: key.at.clone() };
            value = Node::new(Value::Map(vec![(key, value)]), at);
        }
        nested.merge(value);
    }
    *node = nested;
}

fn read_file(path: &str) -> Result<String, SourceError> {
    std::fs::read_to_string(path)
        .map_err(|error| SourceError::Unreadable { path: path.into(), error })
}
