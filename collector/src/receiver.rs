//! Where traces come in.

pub(crate) mod otlp;

use crate::settings::node::Node;
use crate::settings::{Component, Diagnostics};

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
        ("skywalking", "send OTLP"),
        ("datadog", "send OTLP"),
        ("faro", "send OTLP"),
        ("sapm", "send OTLP"),
        ("signalfx", "send OTLP"),
        ("otelarrow", "send OTLP"),
        ("awsxray", "send OTLP; the X-Ray header is a matter of the SDK's propagator"),
        ("kafka", "read it by another collector that sends OTLP to this one"),
        ("googlecloudpubsub", "read it by another collector that sends OTLP to this one"),
        ("azureeventhub", "read it by another collector that sends OTLP to this one"),
        ("pulsar", "read it by another collector that sends OTLP to this one"),
        ("solace", "read it by another collector that sends OTLP to this one"),
        ("otlpjsonfile", "read it by another collector that sends OTLP to this one"),
        ("awss3", "read it by another collector that sends OTLP to this one"),
        ("nop", "leave it out"),
        ("prometheus", "this collector carries traces only; run another one for metrics"),
        ("prometheus_simple", "this collector carries traces only; run another one for metrics"),
        (
            "prometheusremotewrite",
            "this collector carries traces only; run another one for metrics",
        ),
        ("hostmetrics", "this collector carries traces only; run another one for metrics"),
        ("kubeletstats", "this collector carries traces only; run another one for metrics"),
        ("k8s_cluster", "this collector carries traces only; run another one for metrics"),
        ("docker_stats", "this collector carries traces only; run another one for metrics"),
        ("podman_stats", "this collector carries traces only; run another one for metrics"),
        ("statsd", "this collector carries traces only; run another one for metrics"),
        ("carbon", "this collector carries traces only; run another one for metrics"),
        ("collectd", "this collector carries traces only; run another one for metrics"),
        ("influxdb", "this collector carries traces only; run another one for metrics"),
        ("jmx", "this collector carries traces only; run another one for metrics"),
        ("snmp", "this collector carries traces only; run another one for metrics"),
        ("httpcheck", "this collector carries traces only; run another one for metrics"),
        ("sqlquery", "this collector carries traces only; run another one for metrics"),
        ("mysql", "this collector carries traces only; run another one for metrics"),
        ("postgresql", "this collector carries traces only; run another one for metrics"),
        ("mongodb", "this collector carries traces only; run another one for metrics"),
        ("redis", "this collector carries traces only; run another one for metrics"),
        ("nginx", "this collector carries traces only; run another one for metrics"),
        ("apache", "this collector carries traces only; run another one for metrics"),
        ("haproxy", "this collector carries traces only; run another one for metrics"),
        ("elasticsearch", "this collector carries traces only; run another one for metrics"),
        ("rabbitmq", "this collector carries traces only; run another one for metrics"),
        ("zookeeper", "this collector carries traces only; run another one for metrics"),
        (
            "awscontainerinsightreceiver",
            "this collector carries traces only; run another one for metrics",
        ),
        (
            "awsecscontainermetrics",
            "this collector carries traces only; run another one for metrics",
        ),
        ("receiver_creator", "this collector carries traces only; run another one for metrics"),
        ("windowsperfcounters", "this collector carries traces only; run another one for metrics"),
        ("filelog", "this collector carries traces only; run another one for logs"),
        ("journald", "this collector carries traces only; run another one for logs"),
        ("syslog", "this collector carries traces only; run another one for logs"),
        ("tcplog", "this collector carries traces only; run another one for logs"),
        ("udplog", "this collector carries traces only; run another one for logs"),
        ("fluentforward", "this collector carries traces only; run another one for logs"),
        ("k8s_events", "this collector carries traces only; run another one for logs"),
        ("k8sobjects", "this collector carries traces only; run another one for logs"),
        ("awscloudwatch", "this collector carries traces only; run another one for logs"),
        ("awsfirehose", "this collector carries traces only; run another one for logs"),
        ("loki", "this collector carries traces only; run another one for logs"),
        ("splunk_hec", "this collector carries traces only; run another one for logs"),
        ("webhookevent", "this collector carries traces only; run another one for logs"),
        ("windowseventlog", "this collector carries traces only; run another one for logs"),
    ];

    fn decode(_kind: &str, _node: &Node, diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        otlp::Config::decode(diagnostics).map(Self::Otlp)
    }
}
