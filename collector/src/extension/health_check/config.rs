//! Settings of the health check.

use serde::Deserialize;

use crate::settings::Diagnostics;
use crate::settings::check_endpoint;

pub(crate) const REFUSED: [(&str, &str); 4] = [
    ("tls", "health is served without TLS; remove the key"),
    ("response_body", "the body tells what does not work; remove the key"),
    ("check_collector_pipeline", "health always tells of the pipelines; remove the key"),
    ("cors", "browsers do not ask for health; remove the key"),
];

/// Where health is served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The address to bind. Default `localhost:13133`.
    pub(crate) endpoint: String,
    /// The path. Default `/`.
    pub(crate) path: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { endpoint: "localhost:13133".into(), path: "/".into() }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &REFUSED)?;
        check_endpoint(diagnostics, &["endpoint"], &config.endpoint);
        if !config.path.starts_with('/') {
            diagnostics.add(&["path"], "must begin with `/`");
        }
        Some(config)
    }
}
