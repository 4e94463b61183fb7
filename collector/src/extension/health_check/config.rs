//! Settings of the health check.

use serde::{Deserialize, Serialize};

use crate::settings::check_endpoint;
use crate::settings::{Diagnostics, Unsupported};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("health is served without TLS; remove the key", &["tls"]),
    ("the body lists the problems; remove the key", &["response_body"]),
    ("health always covers the pipelines; remove the key", &["check_collector_pipeline"]),
    ("browsers do not ask for health; remove the key", &["cors"]),
    ("health is served over HTTP at `endpoint`; remove the key", &["transport", "http", "grpc"]),
    ("health is that of the whole collector; remove the key", &["use_v2", "component_health"]),
    (
        "a request for health is short; remove the key",
        &["read_timeout", "read_header_timeout", "write_timeout", "idle_timeout", "keepalive"],
    ),
]);

/// Settings of the health endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        check_endpoint(diagnostics, &["endpoint"], &config.endpoint);
        if !config.path.starts_with('/') {
            diagnostics.add(&["path"], "must begin with `/`");
        }
        Some(config)
    }
}
