//! Settings of the Datadog exporter, in the words of contrib's `datadogexporter`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exporter::compression::Compression;
use crate::exporter::delivery::{self, Delivery};
use crate::exporter::http_client::{self, check_url};
use crate::exporter::{queue, retry};
use crate::settings::pattern;
use crate::settings::secret::Secret;
use crate::settings::{Diagnostics, Unsupported, duration};
use crate::tls::ClientTls;

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("this exporter sends traces; remove the key", &["only_metadata"]),
    ("this exporter sends traces only; remove the key", &["orchestrator_explorer"]),
    ("set `api.site`, or `traces.endpoint` for traces", &["endpoint"]),
    ("`api.key` identifies the account; remove the key", &["auth"]),
    ("Datadog reads no other headers; remove the key", &["headers"]),
    ("the Collector has removed it as well; use `host_metadata.tags`", &["tags"]),
    ("the Collector has removed it as well; use `host_metadata.enabled`", &["send_metadata"]),
    (
        "the Collector has removed it as well; use `host_metadata.hostname_source`",
        &["use_resource_metadata"],
    ),
    ("connections are made within `timeout`; remove the key", &["traces.dialer"]),
    (
        "this collector handles traces only; remove the key",
        &[
            "metrics.dialer",
            "logs.dialer",
            "metrics.resource_attributes_as_tags",
            "metrics.instrumentation_scope_metadata_as_tags",
            "metrics.delta_ttl",
            "metrics.histograms",
            "metrics.summaries",
            "metrics.sums",
            "logs.use_compression",
            "logs.compression_level",
            "logs.batch_wait",
        ],
    ),
    ("it is deprecated; use `peer_tags_aggregation`", &["traces.peer_service_aggregation"]),
    ("no cloud provider is asked for a host name; set `hostname`", &["hostname_detection_timeout"]),
    (
        "the Collector has removed it as well, and this collector handles traces only; remove the key",
        &[
            "metrics.instrumentation_library_metadata_as_tags",
            "metrics.send_monotonic_counter",
            "metrics.report_quantiles",
        ],
    ),
]);

/// The reference has the same limit.
const MIN_REPORTER_PERIOD: Duration = Duration::from_secs(5 * 60);

/// How to reach Datadog, and how spans become Datadog's.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) api: Api,
    /// The host of spans that name none. Default: this machine's host name.
    pub(crate) hostname: String,
    pub(crate) traces: Traces,
    /// Accepted, so that a config for all signals is one for this collector; only traces are sent.
    pub(crate) metrics: Endpoint,
    /// Accepted, so that a config for all signals is one for this collector; only traces are sent.
    pub(crate) logs: Endpoint,
    pub(crate) host_metadata: HostMetadata,
    /// How long one attempt may take. Default `30s`, so that a reply that is merely slow is no reason to send again.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) timeout: Duration,
    /// `zstd` (default), `gzip` or `none`; Datadog's intake takes all of them.
    pub(crate) compression: Compression,
    /// The proxy, instead of that of the environment.
    pub(crate) proxy_url: Option<String>,
    pub(crate) tls: ClientTls,
    pub(crate) sending_queue: queue::Config,
    pub(crate) retry_on_failure: retry::Config,
}

/// The account.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Api {
    /// The API key. Required.
    pub(crate) key: Secret,
    /// The site, such as `datadoghq.eu`. Default `datadoghq.com`.
    pub(crate) site: String,
    /// Whether the collector ends when Datadog refuses the key at the start. Default `false`: it is logged.
    pub(crate) fail_on_invalid_key: bool,
}

/// How spans become Datadog's.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Traces {
    /// URL for trace payloads. Default `https://trace.agent.<site>`.
    pub(crate) endpoint: String,
    /// Traces whose root's resource name matches one of these regular expressions are dropped.
    pub(crate) ignore_resources: Vec<String>,
    /// Operation names to be replaced. Any of them switches to the first version of the naming.
    pub(crate) span_name_remappings: BTreeMap<String, String>,
    /// Whether the span's name is the operation name. Switches to the first version of the naming.
    pub(crate) span_name_as_resource_name: bool,
    /// Whether stats count spans by their kind. Default `true`.
    pub(crate) compute_stats_by_span_kind: bool,
    /// Whether top-level spans are determined by their kind (server, consumer, no parent).
    pub(crate) compute_top_level_by_span_kind: bool,
    /// Whether stats are grouped by peer tags. Default `true`.
    pub(crate) peer_tags_aggregation: bool,
    /// More peer tags.
    pub(crate) peer_tags: Vec<String>,
    pub(crate) obfuscation: Obfuscation,
    /// How many resources wait to be translated in the reference, which takes them from the sender before. Here a request is
    /// translated before it is queued, so that nothing waits in between: any number is accepted, and what waits is bounded
    /// by `sending_queue`.
    pub(crate) trace_buffer: u64,
}

/// Obfuscation of texts before they leave, in the words of the agent's `apm_config.obfuscation`. SQL of clients, the
/// arguments of Redis's commands in resource names, and users and passwords in URLs of HTTP spans are taken out
/// always; all below only where it is asked for. A query that a resource name, `db.query.text` or `db.statement` has is
/// covered, and so are Datadog's own attributes for it (`mongodb.query`, for example). Not in contrib's exporter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Obfuscation {
    /// Whether all of the parts below are taken out that do not say otherwise. Not in the agent. Default `false`.
    pub(crate) enabled: bool,
    /// MongoDB's queries: the values of their documents.
    pub(crate) mongodb: Documents,
    /// Elasticsearch's queries: the values of their documents, and what stands behind a path's question mark.
    pub(crate) elasticsearch: Documents,
    /// OpenSearch's queries, as Elasticsearch's.
    pub(crate) opensearch: Documents,
    /// DynamoDB's queries: the values of their documents, and the literals of PartiQL. Not in the agent.
    pub(crate) dynamodb: Documents,
    /// Redis's commands: their values.
    pub(crate) redis: Arguments,
    /// Valkey's commands: their values.
    pub(crate) valkey: Arguments,
    /// Memcached's commands.
    pub(crate) memcached: Commands,
    /// SQL on spans whose type is neither `sql` nor `cassandra`: those that are no client's, and those of Spanner, Cosmos DB,
    /// Hive, Snowflake and Trino. Not in the agent.
    pub(crate) sql: Part,
    /// `db.query.parameter.*` and `db.operation.parameter.*`. Not in the agent.
    pub(crate) query_parameters: Part,
    pub(crate) http: Urls,
}

/// Queries that are documents.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Documents {
    /// Whether they lose their values.
    pub(crate) enabled: Option<bool>,
    /// The keys whose values stay.
    pub(crate) keep_values: Vec<String>,
}

/// Commands with arguments.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Arguments {
    /// Whether they lose their values; keys stay.
    pub(crate) enabled: Option<bool>,
    /// Whether keys go, too.
    pub(crate) remove_all_args: bool,
}

/// Commands as a whole.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Commands {
    /// Whether they are taken out.
    pub(crate) enabled: Option<bool>,
    /// Whether the command itself stays, and its data alone goes.
    pub(crate) keep_command: bool,
}

/// One part, whole.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Part {
    /// Whether it is taken out.
    pub(crate) enabled: Option<bool>,
}

/// URLs: `url.full`, `http.url`, `http.target` and `url.query`, of spans of any type; users and passwords go with either.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Urls {
    /// Whether what stands behind the question mark is taken out.
    pub(crate) remove_query_string: Option<bool>,
    /// Whether parts of the path that have a digit are taken out; `enabled` above does not ask for it.
    pub(crate) remove_paths_with_digits: bool,
}

/// An endpoint of a signal that is not sent.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Endpoint {
    pub(crate) endpoint: String,
}

/// Facts about the host.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HostMetadata {
    /// Whether they are sent. Default `true`.
    pub(crate) enabled: bool,
    /// Source of the host's name.
    pub(crate) hostname_source: HostnameSource,
    /// Tags of the host.
    pub(crate) tags: Vec<String>,
    /// How often they are sent again. Default `30m`, at least `5m`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) reporter_period: Duration,
}

/// Source of the host's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostnameSource {
    FirstResource,
    #[default]
    ConfigOrSystem,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api: Api::default(),
            hostname: String::new(),
            traces: Traces::default(),
            metrics: Endpoint::default(),
            logs: Endpoint::default(),
            host_metadata: HostMetadata::default(),
            timeout: Duration::from_secs(30),
            compression: Compression::Zstd,
            proxy_url: None,
            tls: ClientTls::default(),
            sending_queue: queue::Config::default(),
            retry_on_failure: retry::Config::default(),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { key: Secret::default(), site: "datadoghq.com".into(), fail_on_invalid_key: false }
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            ignore_resources: Vec::new(),
            span_name_remappings: BTreeMap::new(),
            span_name_as_resource_name: false,
            compute_stats_by_span_kind: true,
            compute_top_level_by_span_kind: false,
            peer_tags_aggregation: true,
            peer_tags: Vec::new(),
            obfuscation: Obfuscation::default(),
            trace_buffer: 0,
        }
    }
}

impl Default for HostMetadata {
    fn default() -> Self {
        Self {
            enabled: true,
            hostname_source: HostnameSource::default(),
            tags: Vec::new(),
            reporter_period: Duration::from_secs(30 * 60),
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = delivery::decode(diagnostics, &[UNSUPPORTED, http_client::UNSUPPORTED])?;
        config.check(diagnostics);
        Some(config)
    }

    fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        let key = self.api.key.expose();
        if self.api.key.is_elsewhere() {
            // The variable that is not set is reported.
        } else if key.is_empty() {
            let problem = "is not set; give Datadog's API key: `key: ${env:DD_API_KEY}`";
            diagnostics.add_for_run(&["api", "key"], problem);
        } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "has a character that no API key has (a space or a line break?)";
            diagnostics.add(&["api", "key"], problem);
        }
        if ![Compression::Zstd, Compression::Gzip, Compression::None].contains(&self.compression) {
            let problem =
                "is not a compression that Datadog's intake accepts; use `zstd`, `gzip` or `none`";
            diagnostics.add(&["compression"], problem);
        }
        let site = &self.api.site;
        if site.is_empty() || site.contains("://") || site.contains('/') {
            let problem = "is not a Datadog site; write for example `datadoghq.com`";
            diagnostics.add(&["api", "site"], problem);
        }
        for (section, endpoint) in [
            ("traces", &self.traces.endpoint),
            ("metrics", &self.metrics.endpoint),
            ("logs", &self.logs.endpoint),
        ] {
            if !endpoint.is_empty()
                && let Err(error) = check_url(endpoint)
            {
                let problem = format!("`{endpoint}` is not a URL: {error}");
                diagnostics.add(&[section, "endpoint"], &problem);
            }
        }
        for (index, pattern) in self.traces.ignore_resources.iter().enumerate() {
            if let Err(error) = pattern::compile(pattern) {
                let problem =
                    format!("`{pattern}` is not a regular expression: {}", last_line(&error));
                diagnostics.add(&["traces", "ignore_resources", &index.to_string()], &problem);
            }
        }
        for (name, mapped) in &self.traces.span_name_remappings {
            if name.is_empty() || mapped.is_empty() {
                let problem = "maps from or to an empty name";
                diagnostics.add(&["traces", "span_name_remappings", name], problem);
            }
        }
        if self.host_metadata.reporter_period < MIN_REPORTER_PERIOD {
            let problem = "is too short; write `5m` or more";
            diagnostics.add(&["host_metadata", "reporter_period"], problem);
        }
        if let Some(url) = &self.proxy_url
            && let Err(error) = check_url(url)
        {
            diagnostics.add(&["proxy_url"], &format!("is not a URL: {error}"));
        }
        let delivery = Delivery {
            timeout: self.timeout,
            tls: &self.tls,
            sending_queue: &self.sending_queue,
            retry_on_failure: &self.retry_on_failure,
        };
        delivery.check(diagnostics);
    }

    /// Returns the URL for trace payloads.
    pub(crate) fn traces_endpoint(&self) -> String {
        match self.traces.endpoint.as_str() {
            "" => format!("https://trace.agent.{}", self.api.site),
            endpoint => endpoint.trim_end_matches('/').into(),
        }
    }

    /// Returns the URL for checking the API key.
    pub(crate) fn api_endpoint(&self) -> String {
        match self.metrics.endpoint.as_str() {
            "" => format!("https://api.{}", self.api.site),
            endpoint => endpoint.trim_end_matches('/').into(),
        }
    }
}

fn last_line(error: &regex::Error) -> String {
    error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").into()
}
