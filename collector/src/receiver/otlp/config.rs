//! Settings of the OTLP receiver.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::cors;
use crate::server::Limits;
use crate::settings::check_endpoint;
use crate::settings::{ComponentId, Diagnostics, Unsupported, component_id, duration};
use crate::tls::{self, ServerTls};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    (
        "what is in a URL ends up in logs; send it in a header, and remove the key",
        &["protocols.http.auth.request_params"],
    ),
    (
        "a client may ping as often as it likes; remove the key",
        &["protocols.grpc.keepalive.enforcement_policy"],
    ),
    (
        "only TCP is served; remove the key",
        &["protocols.grpc.transport", "protocols.http.transport"],
    ),
    (
        "a receiver opens no connections; remove the key",
        &["protocols.grpc.dialer", "protocols.http.dialer"],
    ),
    (
        "buffers are sized automatically; remove the key",
        &["protocols.grpc.read_buffer_size", "protocols.grpc.write_buffer_size"],
    ),
    (
        "there is no middleware; remove the key",
        &["protocols.grpc.middlewares", "protocols.http.middlewares"],
    ),
    ("connections are reused; remove the key", &["protocols.http.keep_alives_enabled"]),
    ("put a proxy in front that adds headers", &["protocols.http.response_headers"]),
    (
        "gzip, zstd, deflate, snappy and lz4 are understood; remove the key",
        &["protocols.http.compression_algorithms"],
    ),
    (
        "this collector handles traces only; remove the key",
        &["protocols.http.metrics_url_path", "protocols.http.logs_url_path"],
    ),
    ("a request has 30 s to arrive; remove the key", &["protocols.http.read_timeout"]),
    (
        "a request's head has 30 s to arrive; remove the key",
        &["protocols.http.read_header_timeout"],
    ),
    ("replies are short; remove the key", &["protocols.http.write_timeout"]),
    (
        "idle connections are closed after 30 s (HTTP/1), or kept (HTTP/2); remove the key",
        &["protocols.http.idle_timeout", "protocols.http.keepalive"],
    ),
]);

/// Protocols that are received, and their endpoints.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) protocols: Protocols,
}

/// The protocols; each is served if its key is there, with or without settings.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Protocols {
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) grpc: Option<Grpc>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<Http>,
}

/// OTLP over gRPC.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Grpc {
    /// The address to bind. Default `localhost:4317`; `0.0.0.0:4317` for every interface.
    pub(crate) endpoint: String,
    /// The largest request, decompressed, in MiB. Default 4.
    pub(crate) max_recv_msg_size_mib: usize,
    /// How many requests a client may have in progress on one connection. Default 1024.
    pub(crate) max_concurrent_streams: Option<u32>,
    /// When connections are tried and ended.
    pub(crate) keepalive: Keepalive,
    /// Whether the metadata of requests is kept for `from_context` of the processors `attributes` and `resource`. Default
    /// `false`.
    pub(crate) include_metadata: bool,
    /// Senders that are let in. Default: all.
    pub(crate) auth: Option<Auth>,
    /// If set, connections are made with TLS.
    pub(crate) tls: Option<ServerTls>,
}

/// Senders that are let in.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    /// The extension that authenticates senders, `basicauth` or `bearertokenauth`. Others are answered 401, or UNAUTHENTICATED by
    /// gRPC, and counted (`otelcol_receiver_unauthenticated_requests`). Pages in browsers ask without credentials whether they may
    /// send, and are answered by `cors`.
    #[serde(deserialize_with = "component_id::referred")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) authenticator: Option<ComponentId>,
}

/// When connections are tried and ended.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keepalive {
    /// The server's side of it.
    pub(crate) server_parameters: ServerParameters,
}

/// The server's side of keepalive.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerParameters {
    /// How long a connection may be idle before it is closed. Default 0: for ever.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) max_connection_idle: Duration,
    /// How long a connection may last before it is closed. Default 0: for ever. Clients made with tonic, OpenTelemetry's for Rust
    /// among them, may still open a request on a connection that they were asked to leave, and fail it: at 50 ms, 12 to 25 of
    /// 3,000 did, and 10 to 14 with the reference.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) max_connection_age: Duration,
    /// How long the requests in flight may then go on. Default 0: for ever.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) max_connection_age_grace: Duration,
    /// After how much silence a client is asked whether it is still there. Default `60s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) time: Duration,
    /// How long its answer may take before the connection is closed. Default `20s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) timeout: Duration,
}

impl Default for ServerParameters {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_connection_idle: Duration::ZERO,
            max_connection_age: Duration::ZERO,
            max_connection_age_grace: Duration::ZERO,
            time: limits.ping_after,
            timeout: limits.ping_timeout,
        }
    }
}

impl Grpc {
    /// The limits of its connections.
    pub(crate) fn limits(&self) -> Limits {
        let parameters = &self.keepalive.server_parameters;
        let unless_never = |time: Duration| (!time.is_zero()).then_some(time);
        let default = Limits::default();
        Limits {
            max_concurrent_streams: self
                .max_concurrent_streams
                .unwrap_or(default.max_concurrent_streams),
            // The Collector's default, as gRPC's, is what 0 stands for.
            ping_after: unless_never(parameters.time).unwrap_or(default.ping_after),
            ping_timeout: unless_never(parameters.timeout).unwrap_or(default.ping_timeout),
            max_idle: unless_never(parameters.max_connection_idle),
            max_age: unless_never(parameters.max_connection_age),
            max_age_grace: unless_never(parameters.max_connection_age_grace),
        }
    }
}

/// OTLP over HTTP.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    /// The address to bind. Default `localhost:4318`; `0.0.0.0:4318` for every interface.
    pub(crate) endpoint: String,
    /// The path for traces. Default `/v1/traces`.
    pub(crate) traces_url_path: String,
    /// The largest request, decompressed, in bytes. Default 20971520 (20 MiB).
    pub(crate) max_request_body_size: usize,
    /// Whether the headers of requests are kept for `from_context` of the processors `attributes` and `resource`. Default `false`.
    pub(crate) include_metadata: bool,
    /// Senders that are let in. Default: all.
    pub(crate) auth: Option<Auth>,
    /// Pages in browsers that may send, by CORS. Default: none.
    pub(crate) cors: cors::Config,
    /// If set, connections are made with TLS.
    pub(crate) tls: Option<ServerTls>,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".into(),
            max_recv_msg_size_mib: 4,
            max_concurrent_streams: None,
            keepalive: Keepalive::default(),
            include_metadata: false,
            auth: None,
            tls: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".into(),
            traces_url_path: "/v1/traces".into(),
            max_request_body_size: 20 << 20,
            include_metadata: false,
            auth: None,
            cors: cors::Config::default(),
            tls: None,
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let unsupported = [
            ("", UNSUPPORTED),
            ("protocols.grpc.", tls::UNSUPPORTED),
            ("protocols.grpc.", tls::UNSUPPORTED_BY_SERVERS),
            ("protocols.http.", tls::UNSUPPORTED),
            ("protocols.http.", tls::UNSUPPORTED_BY_SERVERS),
        ];
        let config: Self = diagnostics.decode(&[], &unsupported)?;
        if config.protocols.grpc.is_none() && config.protocols.http.is_none() {
            diagnostics.add(&["protocols"], "names no protocol; add `grpc:`, `http:` or both");
        }
        if let Some(grpc) = &config.protocols.grpc {
            diagnostics.within(&["protocols", "grpc"], |diagnostics| {
                check_endpoint(diagnostics, &["endpoint"], &grpc.endpoint);
                if !(1..=2048).contains(&grpc.max_recv_msg_size_mib) {
                    diagnostics.add(&["max_recv_msg_size_mib"], "must be from 1 to 2048");
                }
                check_auth(diagnostics, &grpc.auth);
                if let Some(tls) = &grpc.tls {
                    tls.check(diagnostics);
                }
            });
        }
        if let Some(http) = &config.protocols.http {
            diagnostics.within(&["protocols", "http"], |diagnostics| {
                check_endpoint(diagnostics, &["endpoint"], &http.endpoint);
                if !http.traces_url_path.starts_with('/') {
                    diagnostics.add(&["traces_url_path"], "must begin with `/`");
                }
                if http.max_request_body_size == 0 {
                    diagnostics.add(&["max_request_body_size"], "must be more than zero");
                }
                http.cors.check(diagnostics);
                check_auth(diagnostics, &http.auth);
                if let Some(tls) = &http.tls {
                    tls.check(diagnostics);
                }
            });
        }
        Some(config)
    }

    /// The authenticators that it names, each with the protocol.
    pub(crate) fn authenticators(&self) -> impl Iterator<Item = (&'static str, &ComponentId)> {
        let Protocols { grpc, http } = &self.protocols;
        let grpc = grpc.as_ref().and_then(|grpc| grpc.auth.as_ref()).map(|auth| ("grpc", auth));
        let http = http.as_ref().and_then(|http| http.auth.as_ref()).map(|auth| ("http", auth));
        let all = grpc.into_iter().chain(http);
        all.filter_map(|(protocol, auth)| Some((protocol, auth.authenticator.as_ref()?)))
    }

    /// The protocols that keep the metadata of requests.
    pub(crate) fn keeps_metadata(&self) -> impl Iterator<Item = &'static str> {
        let Protocols { grpc, http } = &self.protocols;
        let grpc = grpc.as_ref().filter(|grpc| grpc.include_metadata).map(|_| "grpc");
        let http = http.as_ref().filter(|http| http.include_metadata).map(|_| "http");
        grpc.into_iter().chain(http)
    }

    /// The largest request that is taken by any protocol, in bytes.
    pub(crate) fn largest_request(&self) -> usize {
        let Protocols { grpc, http } = &self.protocols;
        let grpc = grpc.as_ref().map_or(0, |grpc| grpc.max_recv_msg_size_mib << 20);
        grpc.max(http.as_ref().map_or(0, |http| http.max_request_body_size))
    }
}

fn check_auth(diagnostics: &mut Diagnostics<'_>, auth: &Option<Auth>) {
    if auth.as_ref().is_some_and(|auth| auth.authenticator.is_none()) {
        let problem = "names no `authenticator`; write the id of an extension, such as `basicauth`";
        diagnostics.add(&["auth"], problem);
    }
}

/// A key without a value stands for its defaults.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
