//! Settings of the OTLP/gRPC exporter.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exporter::compression::Compression;
use crate::exporter::delivery::{self, Delivery};
use crate::exporter::http_client::check_url;
use crate::exporter::{queue, retry};
use crate::settings::secret::Secret;
use crate::settings::{Diagnostics, Unsupported, check_headers, duration, headers};
use crate::tls::ClientTls;

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("set the header in `headers`", &["auth"]),
    ("one connection is kept to the endpoint; remove the key", &["balancer_name"]),
    ("the endpoint's name is the authority; remove the key", &["authority"]),
    ("the connection is pinged every 30 s; remove the key", &["keepalive"]),
    ("buffers are sized automatically; remove the key", &["read_buffer_size", "write_buffer_size"]),
    ("it names this collector; remove the key", &["user_agent"]),
    ("requests always wait for the connection; remove the key", &["wait_for_ready"]),
    ("there is no middleware; remove the key", &["middlewares"]),
    ("use the `batch` processor", &["batcher"]),
]);

/// Destination of OTLP/gRPC, and how it is sent.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `host:port`, or a URL whose scheme says whether TLS is used. Required.
    pub(crate) endpoint: String,
    /// Metadata of each request.
    #[serde(deserialize_with = "headers::deserialize")]
    pub(crate) headers: BTreeMap<String, Secret>,
    /// `gzip` (default), `zstd`, `snappy` or `none`.
    pub(crate) compression: Compression,
    /// How long one attempt may take. Default `5s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) timeout: Duration,
    pub(crate) tls: ClientTls,
    pub(crate) sending_queue: queue::Config,
    pub(crate) retry_on_failure: retry::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: BTreeMap::new(),
            compression: Compression::Gzip,
            timeout: Duration::from_secs(5),
            tls: ClientTls::default(),
            sending_queue: queue::Config::default(),
            retry_on_failure: retry::Config::default(),
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = delivery::decode(diagnostics, &[UNSUPPORTED])?;
        if config.endpoint.is_empty() {
            diagnostics.add(&["endpoint"], "is not set; write for example `localhost:4317`");
        } else if let Err(error) = check_url(&config.url()) {
            let problem =
                format!("`{}` is not an address: {error}; write `host:port`", config.endpoint);
            diagnostics.add(&["endpoint"], &problem);
        }
        let kinds = [Compression::Gzip, Compression::Zstd, Compression::Snappy, Compression::None];
        if !kinds.contains(&config.compression) {
            let problem =
                "is not a supported gRPC compression; use `gzip`, `zstd`, `snappy` or `none`";
            diagnostics.add(&["compression"], problem);
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

    /// Returns whether the connection is made with TLS: as the URL says, else unless `tls.insecure`.
    pub(crate) fn is_secure(&self) -> bool {
        match self.endpoint.split_once("://") {
            Some((scheme, _)) => scheme == "https",
            None => !self.tls.insecure,
        }
    }

    /// The endpoint as a URL.
    pub(crate) fn url(&self) -> String {
        match (self.endpoint.contains("://"), self.is_secure()) {
            (true, _) => self.endpoint.clone(),
            (false, true) => format!("https://{}", self.endpoint),
            (false, false) => format!("http://{}", self.endpoint),
        }
    }
}
