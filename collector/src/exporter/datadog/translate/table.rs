//! The table of the mapping: what becomes of an attribute. What fields of Datadog's are made of is in
//! [`concepts`](super::concepts).
//!
//! Both ways of translating read it, as do their tests and the page [`docs/mapping.md`](super::page). A rule is given with the
//! version of `pkg/trace` (marked A: of `otlp/attributes`) that has it first; [`BEFORE`] stands for those that contrib 0.155 has
//! already. Sources: agent, `pkg/trace/transform`, `pkg/opentelemetry-mapping-go/otlp/attributes`.

/// The version of a rule that contrib 0.155 (`pkg/trace` 0.77) has already.
pub(super) const BEFORE: &str = "0.77 or before";

/// A key that means something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) class: Class,
    /// The version of the library that understands it as it is understood here.
    pub(super) since: &'static str,
    /// The recorded case, below `collector/testdata`, that has it; or the test that proves it without one.
    pub(super) proof: &'static str,
}

/// Treatment of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It is copied.
    Same,
    /// It is copied under another name.
    Renamed(&'static [u8]),
    /// It becomes a field of the span, and nothing else.
    Skipped,
    /// It is HTTP's status code.
    StatusCode,
    /// It is gRPC's status code.
    GrpcCode,
    /// Its value is made a normal tag.
    PeerService,
    /// It is an address, which may hold a password.
    Url,
    /// It is a query, whose literals are taken out.
    Query,
    /// It is the name of a database, which is also made of another attribute.
    DbName,
    /// It is one of the resource's facts, and unusual on a span.
    OfResource,
    /// It is a header of a request, and copied under another prefix.
    Header,
    /// The plain translation knows what to do.
    Unusual,
}

/// Datadog's key for the URL of a request.
pub(super) const URL: &[u8] = b"http.url";
/// Datadog's key for HTTP's status code: a metric.
pub(super) const STATUS_CODE: &[u8] = b"http.status_code";
/// Datadog's key for gRPC's status code, beside a metric of the attribute's name.
pub(super) const GRPC_STATUS_CODE: &[u8] = b"rpc.grpc.status_code";
/// The prefix of a request's headers, and Datadog's.
pub(super) const HEADERS: (&[u8], &[u8]) = (b"http.request.header.", b"http.request.headers.");

impl Class {
    /// Returns Datadog's key for an attribute with this key; `None` for one that becomes a field of the span. A header has
    /// another prefix besides.
    #[inline]
    pub(super) fn key(self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Skipped => None,
            Self::Renamed(name) => Some(name),
            Self::StatusCode => Some(STATUS_CODE),
            Self::Url => Some(URL),
            _ => Some(key),
        }
    }
}

const fn row(key: &'static str, class: Class, since: &'static str, proof: &'static str) -> Row {
    Row { key, class, since, proof }
}

const EDGES: &str = "golden/30-edges";
const HTTP: &str = "golden-085/40-http";
const DB: &str = "golden-085/41-db";
const MESSAGING: &str = "golden-085/42-messaging";
const RPC: &str = "golden-085/43-rpc-aws";
const APP: &str = "golden-085/44-app";
const SAMPLING: &str = "golden-085/47-sampling";
const DATADOG: &str = "golden-085/48-dd-attributes";
const CLOUD: &str = "golden-085/49-cloud";
const STATS: &str = "golden-085/60-stats";
/// Folder of the test that compares generated requests with what the agent sends for them.
pub(super) const DIFFERENTIAL: &str = "tests/differential";

/// The keys of spans, each with what is done with it. One's place here is its number.
pub(super) static TABLE: [Row; 58] = [
    row("", Class::Skipped, BEFORE, EDGES),
    row("analytics.event", Class::Unusual, BEFORE, EDGES),
    row("client.address", Class::Renamed(b"http.client_ip"), BEFORE, EDGES),
    row("db.name", Class::DbName, BEFORE, EDGES),
    row("db.namespace", Class::Same, BEFORE, EDGES),
    row("db.query.text", Class::Query, "0.85.0", DB),
    row("db.statement", Class::Query, "0.85.0", DB),
    row("db.system", Class::Same, BEFORE, DB),
    row("db.system.name", Class::Same, "0.83.0", DB),
    row("deployment.environment", Class::Same, BEFORE, EDGES),
    row("deployment.environment.name", Class::Same, BEFORE, DATADOG),
    row("env", Class::Unusual, BEFORE, DATADOG),
    row("error.msg", Class::Unusual, BEFORE, EDGES),
    row("events", Class::Unusual, BEFORE, EDGES),
    row("faas.invoked_name", Class::Same, BEFORE, EDGES),
    row("faas.invoked_provider", Class::Same, BEFORE, EDGES),
    row("faas.trigger", Class::Same, BEFORE, APP),
    row("graphql.operation.name", Class::Same, BEFORE, EDGES),
    row("graphql.operation.type", Class::Same, BEFORE, EDGES),
    row("grpc.code", Class::GrpcCode, "0.80.2", DIFFERENTIAL),
    row("grpc.status.code", Class::GrpcCode, "0.80.2", DIFFERENTIAL),
    row("http.method", Class::Same, BEFORE, EDGES),
    row("http.request.body.size", Class::Renamed(b"http.request.content_length"), BEFORE, HTTP),
    row("http.request.header.referrer", Class::Renamed(b"http.referrer"), BEFORE, EDGES),
    row("http.request.method", Class::Renamed(b"http.method"), BEFORE, HTTP),
    row("http.response.body.size", Class::Renamed(b"http.response.content_length"), BEFORE, HTTP),
    row("http.response.status_code", Class::StatusCode, "0.80.2", HTTP),
    row("http.route", Class::Same, BEFORE, HTTP),
    row("http.status_code", Class::StatusCode, "0.80.2", HTTP),
    row("http.url", Class::Url, BEFORE, HTTP),
    row("messaging.destination", Class::Same, BEFORE, EDGES),
    row("messaging.destination.name", Class::Same, BEFORE, MESSAGING),
    row("messaging.operation", Class::Same, BEFORE, MESSAGING),
    row("messaging.system", Class::Same, BEFORE, MESSAGING),
    row("network.protocol.name", Class::Same, BEFORE, APP),
    row("network.protocol.version", Class::Renamed(b"http.version"), BEFORE, EDGES),
    row("operation.name", Class::Skipped, "0.80.2", DATADOG),
    row("peer.service", Class::PeerService, BEFORE, APP),
    row("resource.name", Class::Skipped, "0.80.2", DATADOG),
    row("rpc.grpc.status.code", Class::GrpcCode, "0.80.2", DIFFERENTIAL),
    row("rpc.grpc.status_code", Class::GrpcCode, "0.80.2", RPC),
    row("rpc.method", Class::Same, BEFORE, RPC),
    row("rpc.response.status_code", Class::GrpcCode, "0.80.2", RPC),
    row("rpc.service", Class::Same, BEFORE, RPC),
    row("rpc.system", Class::Same, BEFORE, RPC),
    row("rpc.system.name", Class::Same, "0.80.2", RPC),
    row("sampling.priority", Class::Unusual, BEFORE, SAMPLING),
    row("server.address", Class::Renamed(b"http.server_name"), BEFORE, STATS),
    row("service.name", Class::Skipped, "0.80.2", DATADOG),
    row("service.version", Class::OfResource, BEFORE, DATADOG),
    row("span.kind", Class::Unusual, BEFORE, EDGES),
    row("span.type", Class::Skipped, "0.80.2", DB),
    row("sql.query", Class::Unusual, "0.85.0", DB),
    row("url.full", Class::Url, BEFORE, HTTP),
    row("url.template", Class::Same, "0.84.0", HTTP),
    row("user_agent.original", Class::Renamed(b"http.useragent"), BEFORE, EDGES),
    row("version", Class::Unusual, BEFORE, DATADOG),
    row("w3c.tracestate", Class::Unusual, BEFORE, EDGES),
];

/// An attribute of a resource that its payload has a field from.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) key: &'static str,
    /// When, or how, the field comes from this attribute.
    pub(super) when: &'static str,
    pub(super) since: &'static str,
    pub(super) proof: &'static str,
    /// A resource that has it.
    pub(super) example: &'static [(&'static str, &'static str)],
    pub(super) field: Field,
    /// Value of the field then; without the attribute it is another.
    pub(super) result: &'static str,
}

/// A field of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    HostName,
    ContainerId,
    Language,
    TracerVersion,
    Env,
    ContainerTags,
    HasStats,
}

impl Field {
    /// Returns what a reader calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HostName => "host name",
            Self::ContainerId => "container id",
            Self::Language => "language",
            Self::TracerVersion => "tracer version",
            Self::Env => "environment",
            Self::ContainerTags => "container tags",
            Self::HasStats => "stats are computed elsewhere",
        }
    }
}

/// The attributes of resources, apart from those that are container tags and nothing else.
pub(super) static FACTS: [Fact; 21] = [
    Fact {
        key: "host",
        when: "before any other",
        since: BEFORE,
        proof: EDGES,
        example: &[("host", "h"), ("host.name", "node-1")],
        field: Field::HostName,
        result: "h",
    },
    Fact {
        key: "datadog.host.name",
        when: "before all but `host`",
        since: BEFORE,
        proof: EDGES,
        example: &[("datadog.host.name", "h"), ("host.name", "node-1")],
        field: Field::HostName,
        result: "h",
    },
    Fact {
        key: "host.id",
        when: "on no platform of Google's; before it the node of Kubernetes, on no platform of a provider",
        since: BEFORE,
        proof: EDGES,
        example: &[("host.id", "i-1"), ("host.name", "node-1")],
        field: Field::HostName,
        result: "i-1",
    },
    Fact {
        key: "host.name",
        when: "where there is no `host.id`, or on Google's platforms",
        since: BEFORE,
        proof: DATADOG,
        example: &[("host.name", "node-1")],
        field: Field::HostName,
        result: "node-1",
    },
    Fact {
        key: "cloud.provider",
        when: "which attribute it is made of (`aws`, `gcp`, `azure`)",
        since: BEFORE,
        proof: CLOUD,
        example: &[("cloud.provider", "aws"), ("host.id", "i-1"), ("k8s.node.name", "node-1")],
        field: Field::HostName,
        result: "i-1",
    },
    Fact {
        key: "cloud.account.id",
        when: "on Google's platforms: `<host.name>.<project>`",
        since: BEFORE,
        proof: CLOUD,
        example: &[("cloud.provider", "gcp"), ("host.name", "vm"), ("cloud.account.id", "project")],
        field: Field::HostName,
        result: "vm.project",
    },
    Fact {
        key: "k8s.node.name",
        when: "where no provider has another one",
        since: BEFORE,
        proof: CLOUD,
        example: &[("k8s.node.name", "node-1"), ("host.id", "i-1")],
        field: Field::HostName,
        result: "node-1",
    },
    Fact {
        key: "k8s.cluster.name",
        when: "behind that of the node: `<node>-<cluster>`",
        since: BEFORE,
        proof: CLOUD,
        example: &[("k8s.node.name", "node-1"), ("k8s.cluster.name", "shop")],
        field: Field::HostName,
        result: "node-1-shop",
    },
    Fact {
        key: "aws.ecs.launchtype",
        when: "none, where it is `fargate` and there is a task",
        since: BEFORE,
        proof: CLOUD,
        example: &[("aws.ecs.launchtype", "fargate"), ("aws.ecs.task.arn", "arn:t")],
        field: Field::HostName,
        result: "",
    },
    Fact {
        key: "cloud.platform",
        when: "none on Cloud Run, Cloud Functions, Azure Container Apps, App Service and Functions",
        since: "A 0.85.0",
        proof: CLOUD,
        example: &[("cloud.platform", "azure.container_apps"), ("host.name", "node-1")],
        field: Field::HostName,
        result: "",
    },
    Fact {
        key: "faas.name",
        when: "none on Google's functions, with `faas.instance`, `cloud.account.id` and `cloud.region`",
        since: "A 0.85.0",
        proof: CLOUD,
        example: &[
            ("cloud.platform", "gcp_cloud_run"),
            ("cloud.account.id", "p"),
            ("cloud.region", "r"),
            ("faas.name", "f"),
            ("faas.instance", "i"),
        ],
        field: Field::HostName,
        result: "",
    },
    Fact {
        key: "faas.instance",
        when: "as `faas.name`",
        since: "A 0.85.0",
        proof: CLOUD,
        example: &[
            ("cloud.platform", "gcp_cloud_run"),
            ("cloud.account.id", "p"),
            ("cloud.region", "r"),
            ("faas.name", "f"),
            ("faas.instance", "i"),
        ],
        field: Field::HostName,
        result: "",
    },
    Fact {
        key: "azure.resource_group.name",
        when: "none on Azure App Service and Functions, with `service.name` and `cloud.account.id`",
        since: "A 0.85.0",
        proof: CLOUD,
        example: &[
            ("cloud.platform", "azure_app_service"),
            ("service.name", "s"),
            ("cloud.account.id", "a"),
            ("azure.resource_group.name", "g"),
            ("host.name", "node-1"),
        ],
        field: Field::HostName,
        result: "",
    },
    Fact {
        key: "container.id",
        when: "always",
        since: BEFORE,
        proof: CLOUD,
        example: &[("container.id", "abc")],
        field: Field::ContainerId,
        result: "abc",
    },
    Fact {
        key: "telemetry.sdk.language",
        when: "always",
        since: BEFORE,
        proof: DATADOG,
        example: &[("telemetry.sdk.language", "java")],
        field: Field::Language,
        result: "java",
    },
    Fact {
        key: "telemetry.sdk.version",
        when: "always: `otlp-<version>`",
        since: BEFORE,
        proof: DATADOG,
        example: &[("telemetry.sdk.version", "1.40.0")],
        field: Field::TracerVersion,
        result: "otlp-1.40.0",
    },
    Fact {
        key: "deployment.environment.name",
        when: "before the old name",
        since: BEFORE,
        proof: DATADOG,
        example: &[
            ("deployment.environment.name", "production"),
            ("deployment.environment", "staging"),
        ],
        field: Field::Env,
        result: "production",
    },
    Fact {
        key: "deployment.environment",
        when: "where the current name has none",
        since: BEFORE,
        proof: EDGES,
        example: &[("deployment.environment", "staging")],
        field: Field::Env,
        result: "staging",
    },
    Fact {
        key: "datadog.container.tag.*",
        when: "a tag of the user's, and no attribute of the spans",
        since: "0.81.0",
        proof: CLOUD,
        example: &[("datadog.container.tag.team", "a")],
        field: Field::ContainerTags,
        result: "team:a",
    },
    Fact {
        key: "kube_namespace",
        when: "in Datadog's own words, as all tags below, and no attribute of the spans",
        since: "0.81.0",
        proof: CLOUD,
        example: &[("kube_namespace", "shop")],
        field: Field::ContainerTags,
        result: "kube_namespace:shop",
    },
    Fact {
        key: "_dd.stats_computed",
        when: "unless it is `false` or empty: then stats are computed here, whatever the gate",
        since: "0.81.0",
        proof: STATS,
        example: &[("_dd.stats_computed", "true")],
        field: Field::HasStats,
        result: "true",
    },
];

/// OpenTelemetry's resource attributes that become container tags: key, tag, since, proof.
pub(super) static CONTAINER_TAGS: [(&str, &str, &str, &str); 25] = [
    ("container.id", "container_id", BEFORE, CLOUD),
    ("container.name", "container_name", BEFORE, CLOUD),
    ("container.image.name", "image_name", BEFORE, EDGES),
    ("container.image.tag", "image_tag", BEFORE, STATS),
    (IMAGE_TAGS, "image_tag", "A 0.85.0", CLOUD),
    ("container.runtime", "runtime", BEFORE, EDGES),
    ("cloud.provider", "cloud_provider", BEFORE, CLOUD),
    ("cloud.region", "region", BEFORE, CLOUD),
    ("cloud.availability_zone", "zone", BEFORE, EDGES),
    ("aws.ecs.task.family", "task_family", BEFORE, CLOUD),
    ("aws.ecs.task.arn", "task_arn", BEFORE, CLOUD),
    ("aws.ecs.cluster.arn", "ecs_cluster_name", BEFORE, CLOUD),
    ("aws.ecs.task.revision", "task_version", BEFORE, CLOUD),
    ("aws.ecs.container.arn", "ecs_container_name", BEFORE, EDGES),
    ("k8s.container.name", "kube_container_name", BEFORE, DIFFERENTIAL),
    ("k8s.cluster.name", "kube_cluster_name", BEFORE, CLOUD),
    ("k8s.deployment.name", "kube_deployment", BEFORE, DIFFERENTIAL),
    ("k8s.replicaset.name", "kube_replica_set", BEFORE, EDGES),
    ("k8s.statefulset.name", "kube_stateful_set", BEFORE, EDGES),
    ("k8s.daemonset.name", "kube_daemon_set", BEFORE, EDGES),
    ("k8s.job.name", "kube_job", BEFORE, EDGES),
    ("k8s.cronjob.name", "kube_cronjob", BEFORE, EDGES),
    ("k8s.namespace.name", "kube_namespace", BEFORE, CLOUD),
    ("k8s.pod.name", "pod_name", BEFORE, CLOUD),
    ("k8s.node.name", "kube_node", "A 0.84.0", CLOUD),
];

/// A list, or text; its first tag is the container's.
pub(super) const IMAGE_TAGS: &str = "container.image.tags";
