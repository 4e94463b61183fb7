//! Output of `print-config`: a config as it is understood, or as it was put together.

use serde_json::{Map, Number, Value as Json, json};

use super::Config;
use crate::settings::node::{Key, Node, Resolved, Value};

impl Config {
    /// Returns the config as it is understood: every setting that there is, by its default where it is not given, and no secret.
    pub(crate) fn as_understood(&self) -> Json {
        json!({
            "receivers": self.receivers,
            "processors": self.processors,
            "exporters": self.exporters,
            "connectors": self.connectors,
            "extensions": self.extensions,
            "service": self.service,
        })
    }
}

/// Returns a tree as it was put together, with what its references hold.
pub(super) fn as_put_together(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::List(items) => items.iter().map(as_put_together).collect(),
        Value::Map(entries) => {
            let entry = |(key, node): &(Key, Node)| (key.name.clone(), as_put_together(node));
            Json::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        Value::Scalar(scalar) => {
            let text = || Json::String(scalar.text.clone());
            match scalar.resolve() {
                Resolved::Null => Json::Null,
                Resolved::Bool(value) => Json::Bool(value),
                Resolved::Int(value) => i64::try_from(value).map_or_else(|_| text(), Json::from),
                Resolved::Float(value) => Number::from_f64(value).map_or_else(text, Json::Number),
                Resolved::Text => text(),
            }
        }
    }
}
