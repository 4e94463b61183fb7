//! What runs beside the pipelines.

pub(crate) mod file_storage;
pub(crate) mod health_check;
pub(crate) mod trace_ledger;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics};

/// The settings of an extension.
#[derive(Debug, Clone)]
pub(crate) enum ExtensionConfig {
    FileStorage(file_storage::Config),
    HealthCheck(health_check::Config),
    /// Ours: the Collector has none.
    TraceLedger(trace_ledger::Config),
}

impl Component for ExtensionConfig {
    const SECTION: &'static str = "extensions";
    const NOUN: &'static str = "extension";
    const KINDS: &'static [&'static str] = &["file_storage", "health_check", "trace_ledger"];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("pprof", "use the operating system's profilers"),
        ("zpages", "use the self-metrics and the log"),
        ("healthcheckv2", "use `health_check`"),
        (
            "basicauth",
            "set the header in the exporter's `headers`; in front of a receiver, put a proxy that authenticates, or ask for client certificates by `tls.client_ca_file`",
        ),
        (
            "bearertokenauth",
            "set the header in the exporter's `headers`; in front of a receiver, put a proxy that authenticates, or ask for client certificates by `tls.client_ca_file`",
        ),
        (
            "oauth2client",
            "set the header in the exporter's `headers`; in front of a receiver, put a proxy that authenticates, or ask for client certificates by `tls.client_ca_file`",
        ),
        (
            "headers_setter",
            "set the header in the exporter's `headers`; in front of a receiver, put a proxy that authenticates, or ask for client certificates by `tls.client_ca_file`",
        ),
        ("oidc", "put a proxy there that authenticates"),
        ("asapclient", "put a proxy there that authenticates"),
        ("azure_auth", "put a proxy there that authenticates"),
        ("azureauth", "put a proxy there that authenticates"),
        ("googleclientauth", "put a proxy there that authenticates"),
        ("sigv4auth", "put a proxy there that authenticates"),
        ("db_storage", "use `file_storage`"),
        ("redis_storage", "use `file_storage`"),
        ("memory_ballast", "there is no garbage collector; remove it"),
        ("memory_limiter", "use the processor `memory_limiter`"),
        ("opamp", "restart the collector with its new config"),
        ("jaegerremotesampling", "sample in the SDK (`OTEL_TRACES_SAMPLER`)"),
        ("awsproxy", "put a proxy there"),
        ("http_forwarder", "put a proxy there"),
        ("k8s_observer", "receivers are named in the config; remove it"),
        ("host_observer", "receivers are named in the config; remove it"),
        ("docker_observer", "receivers are named in the config; remove it"),
        ("ecs_observer", "receivers are named in the config; remove it"),
        ("ecs_task_observer", "receivers are named in the config; remove it"),
        ("k8s_leader_elector", "each collector receives for itself; remove it"),
        ("datadog", "the exporter tells Datadog of the host; remove it"),
        ("remotetap", "use the exporter `debug`"),
        ("otlp_encoding", "OTLP is what is received and sent; remove it"),
        ("json_log_encoding", "OTLP is what is received and sent; remove it"),
        ("text_encoding", "OTLP is what is received and sent; remove it"),
        ("zipkin_encoding", "OTLP is what is received and sent; remove it"),
        ("jaeger_encoding", "OTLP is what is received and sent; remove it"),
    ];

    fn decode(kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        match kind {
            "file_storage" => file_storage::Config::decode(diagnostics).map(Self::FileStorage),
            "trace_ledger" => trace_ledger::Config::decode(diagnostics).map(Self::TraceLedger),
            _ => health_check::Config::decode(diagnostics).map(Self::HealthCheck),
        }
    }
}
