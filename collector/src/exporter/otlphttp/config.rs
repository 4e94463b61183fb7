//! Settings of the OTLP/HTTP exporter.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exporter::compression::Compression;
use crate::exporter::delivery::{self, Delivery};
use crate::exporter::http_client::{self, check_url};
use crate::exporter::{queue, retry};
use crate::settings::secret::Secret;
use crate::settings::{Diagnostics, Unsupported, check_headers, duration, headers};
use crate::tls::ClientTls;

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("protobuf is sent; remove the key", &["encoding"]),
    (
        "this collector handles traces only; remove the key",
        &["metrics_endpoint", "logs_endpoint", "profiles_endpoint"],
    ),
    ("set the header in `headers`", &["auth"]),
]);

/// Destination of OTLP/HTTP, and how it is sent.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The base URL; `/v1/traces` is added. Required, unless `traces_endpoint` is set.
    pub(crate) endpoint: String,
    /// The whole URL for traces, instead of `endpoint`.
    pub(crate) traces_endpoint: String,
    /// Headers of each request, for example `dd-api-key` for Datadog's OTLP intake.
    #[serde(deserialize_with = "headers::deserialize")]
    pub(crate) headers: BTreeMap<String, Secret>,
    /// `gzip` (default), `zstd`, `zlib`, `deflate`, `snappy`, `x-snappy-framed`, `lz4` or `none`.
    pub(crate) compression: Compression,
    /// How long one attempt may take. Default `30s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) timeout: Duration,
    /// The proxy, instead of that of the environment.
    pub(crate) proxy_url: Option<String>,
    pub(crate) tls: ClientTls,
    pub(crate) sending_queue: queue::Config,
    pub(crate) retry_on_failure: retry::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            traces_endpoint: String::new(),
            headers: BTreeMap::new(),
            compression: Compression::Gzip,
            timeout: Duration::from_secs(30),
            proxy_url: None,
            tls: ClientTls::default(),
            sending_queue: queue::Config::default(),
            retry_on_failure: retry::Config::default(),
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = delivery::decode(diagnostics, &[UNSUPPORTED, http_client::UNSUPPORTED])?;
        let key = if config.traces_endpoint.is_empty() { "endpoint" } else { "traces_endpoint" };
        let endpoint = match key {
            "endpoint" => &config.endpoint,
            _ => &config.traces_endpoint,
        };
        if endpoint.is_empty() {
            diagnostics.add(&["endpoint"], "is not set; write for example `http://localhost:4318`");
        } else if let Err(error) = check_url(endpoint) {
            diagnostics.add(&[key], &format!("`{endpoint}` is not a URL: {error}"));
        }
        check_headers(diagnostics, &config.headers);
        let delivery = Delivery {
            timeout: config.timeout,
            tls: &config.tls,
            sending_queue: &config.sending_queue,
            retry_on_failure: &config.retry_on_failure,
        };
        delivery.check(diagnostics);
        Some(config)
    }

    /// Returns the URL for traces.
    pub(crate) fn traces_url(&self) -> String {
        match self.traces_endpoint.as_str() {
            "" => format!("{}/v1/traces", self.endpoint.trim_end_matches('/')),
            url => url.into(),
        }
    }
}
