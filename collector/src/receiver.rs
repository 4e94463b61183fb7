//! Where traces come in.

pub(crate) mod otlp;

use crate::config::node::Node;
use crate::config::{Component, Findings};

/// The settings of a receiver.
#[derive(Debug, Clone)]
pub(crate) enum ReceiverConfig {
    Otlp(otlp::Config),
}

impl Component for ReceiverConfig {
    const SECTION: &'static str = "receivers";
    const NOUN: &'static str = "receiver";
    const KINDS: &'static [&'static str] = &["otlp"];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("jaeger", "send OTLP; Jaeger's clients were replaced by OpenTelemetry's"),
        ("zipkin", "send OTLP"),
        ("opencensus", "send OTLP"),
        ("awsxray", "send OTLP; the X-Ray header is a matter of the SDK's propagator"),
        ("datadog", "send OTLP"),
        ("prometheus", "this collector carries traces only"),
        ("hostmetrics", "this collector carries traces only"),
        ("filelog", "this collector carries traces only"),
    ];

    fn decode(_kind: &str, _node: &Node, findings: &mut Findings<'_>) -> Option<Self> {
        otlp::Config::decode(findings).map(Self::Otlp)
    }
}

/// Checks that an endpoint is `host:port`.
pub(crate) fn check_endpoint(findings: &mut Findings<'_>, path: &[&str], endpoint: &str) {
    let port = endpoint.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    let problem = match port {
        Some((host, Ok(_))) if !host.contains("://") && !host.contains('/') => return,
        Some((host, _)) if host.contains("://") || host.contains("//") => "it has a scheme",
        Some(_) => "its port is not a number from 0 to 65535",
        None => "it has no port",
    };
    let problem = format!(
        "`{endpoint}` is not an address: {problem}; write `host:port`, for example `0.0.0.0:4317`"
    );
    findings.add(path, &problem);
}
