//! Component types of the OpenTelemetry Collector that this collector does not support, and what to use instead.

/// Names that are not supported, grouped by the answer to them: component types, or keys with the keys around them (`a.b`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsupported(pub(crate) &'static [(&'static str, &'static [&'static str])]);

impl Unsupported {
    /// Returns what to use instead of a name, if the name is in the table.
    pub(crate) fn instead_of(self, name: &str) -> Option<&'static str> {
        self.0.iter().find(|(_, names)| names.contains(&name)).map(|(instead, _)| *instead)
    }
}

/// Types of receivers.
pub(crate) const RECEIVERS: Unsupported = Unsupported(&[
    ("send OTLP; Jaeger's clients were replaced by OpenTelemetry's", &["jaeger"]),
    (
        "send OTLP",
        &["zipkin", "opencensus", "skywalking", "datadog", "faro", "sapm", "signalfx", "otelarrow"],
    ),
    ("send OTLP; the X-Ray header is a matter of the SDK's propagator", &["awsxray"]),
    (
        "receive it with another collector that sends OTLP to this one",
        &[
            "kafka",
            "googlecloudpubsub",
            "azureeventhub",
            "pulsar",
            "solace",
            "otlpjsonfile",
            "awss3",
        ],
    ),
    ("leave it out", &["nop"]),
    (
        "this collector handles traces only; run another collector for metrics",
        &[
            "prometheus",
            "prometheus_simple",
            "prometheusremotewrite",
            "hostmetrics",
            "host_metrics",
            "kubeletstats",
            "k8s_cluster",
            "docker_stats",
            "podman_stats",
            "statsd",
            "carbon",
            "collectd",
            "influxdb",
            "jmx",
            "snmp",
            "httpcheck",
            "sqlquery",
            "mysql",
            "postgresql",
            "mongodb",
            "redis",
            "nginx",
            "apache",
            "haproxy",
            "elasticsearch",
            "rabbitmq",
            "zookeeper",
            "awscontainerinsightreceiver",
            "awsecscontainermetrics",
            "receiver_creator",
            "windowsperfcounters",
        ],
    ),
    (
        "this collector handles traces only; run another collector for logs",
        &[
            "filelog",
            "journald",
            "syslog",
            "tcplog",
            "udplog",
            "fluentforward",
            "k8s_events",
            "k8sobjects",
            "awscloudwatch",
            "awsfirehose",
            "loki",
            "splunk_hec",
            "webhookevent",
            "windowseventlog",
        ],
    ),
]);

/// Types of processors.
pub(crate) const PROCESSORS: Unsupported = Unsupported(&[
    (
        "drop spans with the SDK's sampler, or whole traces with the exporter's `traces.ignore_resources`",
        &["filter"],
    ),
    ("set attributes where the spans are created", &["transform", "geoip", "dns_lookup"]),
    (
        "delete or replace attributes with the processor `attributes`, or keep secrets out of spans where they are created",
        &["redaction"],
    ),
    ("resources are kept as they were sent; remove it", &["groupbyattrs"]),
    ("old and current semantic conventions are both understood; remove it", &["schema"]),
    ("use the exporter `debug`", &["remotetap"]),
    (
        "this collector handles traces only; run another collector for metrics",
        &[
            "metricstransform",
            "cumulativetodelta",
            "deltatocumulative",
            "deltatorate",
            "interval",
            "metricsgeneration",
            "experimental_metricsgeneration",
            "metricstarttime",
        ],
    ),
    (
        "this collector handles traces only; run another collector for logs",
        &["logstransform", "logdedup"],
    ),
    (
        "this collector sends to Datadog and by OTLP; run another collector behind it",
        &["sumologic", "coralogix"],
    ),
]);

/// Types of exporters.
pub(crate) const EXPORTERS: Unsupported = Unsupported(&[
    ("this collector sends to Datadog; run another collector beside it for X-Ray", &["awsxray"]),
    ("it was renamed; use `debug`", &["logging"]),
    ("leave it out", &["nop"]),
    ("use `debug`, or send to another collector by `otlp`", &["file"]),
    ("put a load balancer in front of the receivers and name it in `otlp`", &["loadbalancing"]),
    (
        "this collector handles traces only; the collector's own metrics are served by `service.telemetry.metrics`",
        &["prometheus", "prometheusremotewrite", "awsemf", "carbon", "influxdb", "signalfx"],
    ),
    (
        "this collector handles traces only; run another collector for logs",
        &["loki", "awscloudwatchlogs", "syslog", "splunk_hec"],
    ),
    ("it accepts OTLP itself; use `otlp` or `otlphttp`", &["jaeger", "zipkin", "opencensus"]),
    (
        "this collector sends to Datadog and by OTLP; send it to another collector by `otlp`",
        &[
            "honeycombmarker",
            "sentry",
            "kafka",
            "pulsar",
            "rabbitmq",
            "awss3",
            "awskinesis",
            "elasticsearch",
            "opensearch",
            "clickhouse",
            "cassandra",
            "googlecloud",
            "googlecloudpubsub",
            "azuremonitor",
            "azuredataexplorer",
            "azureblob",
            "logzio",
            "coralogix",
            "sumologic",
            "dataset",
            "mezmo",
            "tinybird",
            "otelarrow",
            "stef",
            "sapm",
            "alibabacloud_logservice",
            "tencentcloud_logservice",
            "logicmonitor",
        ],
    ),
]);

/// Types of connectors.
pub(crate) const CONNECTORS: Unsupported = Unsupported(&[
    ("name the exporters in each pipeline", &["forward", "routing"]),
    (
        "this collector handles traces only; APM stats are computed by the exporter",
        &["spanmetrics", "span_metrics"],
    ),
    (
        "this collector handles traces only",
        &[
            "servicegraph",
            "count",
            "sum",
            "exceptions",
            "signaltometrics",
            "grafanacloud",
            "slowsql",
            "metricsaslogs",
            "otlpjson",
        ],
    ),
    (
        "name the exporters in each pipeline; each keeps what it cannot send",
        &["failover", "roundrobin"],
    ),
]);

/// Types of extensions.
pub(crate) const EXTENSIONS: Unsupported = Unsupported(&[
    ("use the operating system's profilers", &["pprof"]),
    ("use the self-metrics and the log", &["zpages"]),
    ("use `health_check`", &["healthcheckv2"]),
    ("set the header in the exporter's `headers`", &["oauth2client", "headers_setter"]),
    (
        "use `basicauth` or `bearertokenauth`, or a proxy that authenticates",
        &["oidc", "asapclient", "azure_auth", "azureauth", "googleclientauth", "sigv4auth"],
    ),
    ("use `file_storage`", &["db_storage", "redis_storage"]),
    ("there is no garbage collector; remove it", &["memory_ballast"]),
    ("use the processor `memory_limiter`", &["memory_limiter"]),
    ("restart the collector with its new config", &["opamp"]),
    ("sample in the SDK (`OTEL_TRACES_SAMPLER`)", &["jaegerremotesampling"]),
    ("use a proxy", &["awsproxy", "http_forwarder"]),
    (
        "receivers are named in the config; remove it",
        &["k8s_observer", "host_observer", "docker_observer", "ecs_observer", "ecs_task_observer"],
    ),
    ("each collector receives on its own; remove it", &["k8s_leader_elector"]),
    ("the exporter reports the host to Datadog; remove it", &["datadog"]),
    ("use the exporter `debug`", &["remotetap"]),
    (
        "only OTLP is received and sent; remove it",
        &[
            "otlp_encoding",
            "json_log_encoding",
            "text_encoding",
            "zipkin_encoding",
            "jaeger_encoding",
        ],
    ),
]);
