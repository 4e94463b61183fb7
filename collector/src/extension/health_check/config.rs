//! Settings of the health check.

use serde::Deserialize;

use crate::config::Findings;
use crate::receiver::check_endpoint;

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
    pub(crate) fn decode(findings: &mut Findings<'_>) -> Option<Self> {
        let config: Self = findings.decode(&[], &REFUSED)?;
        check_endpoint(findings, &["endpoint"], &config.endpoint);
        if !config.path.starts_with('/') {
            findings.add(&["path"], "must begin with `/`");
        }
        Some(config)
    }
}
