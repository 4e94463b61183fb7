//! Settings of resource detection, in the words of contrib's `resourcedetectionprocessor`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::pattern;
use crate::settings::{Diagnostics, Unsupported, duration};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[
    ("resources are detected once, at the start; remove the key", &["refresh_interval"]),
    (
        "a start never fails for it: what cannot be detected is in the log, and in a counter; remove the key",
        &["fail_on_missing_metadata"],
    ),
    (
        "requests of detectors are as these services expect them; remove the key",
        &[
            "endpoint",
            "proxy_url",
            "tls",
            "headers",
            "auth",
            "compression",
            "cookies",
            "middlewares",
        ],
    ),
    (
        "requests of detectors are as these services expect them; remove the key",
        &[
            "max_idle_conns",
            "max_idle_conns_per_host",
            "max_conns_per_host",
            "idle_conn_timeout",
            "disable_keep_alives",
            "read_buffer_size",
            "write_buffer_size",
            "http2_read_idle_timeout",
            "http2_ping_timeout",
            "force_attempt_http2",
            "keepalive",
            "compression_params",
        ],
    ),
]);

/// Attributes that are found out about where the collector runs, for the resources of all spans. Of several detectors that find an
/// attribute, the first counts. The start waits for them, for `timeout` at most, and does not fail for them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Detectors that are asked: `env` (`OTEL_RESOURCE_ATTRIBUTES`), `system`, `docker`, `k8snode`, `ec2`, `ecs`, `eks`, `lambda`. Default `[env]`.
    pub(crate) detectors: Vec<Kind>,
    /// Replaces attributes that resources have already. Default `true`.
    #[serde(rename = "override")]
    pub(crate) replaces: bool,
    /// How long all detectors may take. Default `5s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) timeout: Duration,
    /// Taken, and of no effect: each detector is asked once.
    #[serde(skip_serializing)]
    retry: Retry,
    /// The host, as the operating system knows it.
    pub(crate) system: System,
    /// The host, as Docker knows it, by `DOCKER_HOST` or `/var/run/docker.sock`.
    pub(crate) docker: Plain,
    /// The node, as Kubernetes' API knows it; needs the right to `get` `nodes`.
    #[serde(alias = "k8s_node", alias = "k8s_api")]
    pub(crate) k8snode: Node,
    /// The instance, by its metadata service (IMDSv2, and IMDSv1 where there is no other).
    pub(crate) ec2: Ec2,
    /// The task, by ECS' metadata service.
    pub(crate) ecs: Plain,
    /// The node of a cluster, by the instance's metadata service.
    pub(crate) eks: Eks,
    /// The function, by the environment of AWS Lambda.
    pub(crate) lambda: Plain,
    /// Variables that the detectors need, as they were when the config was read.
    #[serde(skip)]
    pub(super) environment: BTreeMap<String, String>,
}

/// Detectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Env,
    System,
    Docker,
    #[serde(alias = "k8s_node", alias = "k8s_api")]
    K8snode,
    Ec2,
    Ecs,
    Eks,
    Lambda,
}

/// Switches of attributes, by their names.
pub(super) type Names = BTreeMap<String, Enabled>;

/// A switch of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Enabled {
    /// Whether it is set.
    pub(super) enabled: bool,
}

/// A detector without other settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plain {
    /// Attributes that are set, and that are not.
    pub(super) resource_attributes: Names,
}

/// Settings of `system`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct System {
    /// Sources of the host's name, the first that has one: `dns` (`/etc/hosts`), `os`. Default `[dns, os]`.
    pub(super) hostname_sources: Vec<Source>,
    /// Attributes that are set, and that are not. Default: `host.name`, `os.type`.
    pub(super) resource_attributes: Names,
}

/// Sources of the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Dns,
    Os,
}

/// Settings of `k8snode`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Node {
    /// Must be `serviceAccount`, which is the default.
    pub(super) auth_type: String,
    /// The variable that has the node's name. Default `K8S_NODE_NAME`.
    pub(super) node_from_env_var: String,
    /// Attributes that are set, and that are not. Default: all.
    pub(super) resource_attributes: Names,
}

/// Settings of `ec2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ec2 {
    /// Regular expressions of the instance's tags that become attributes, as `ec2.tag.NAME`. They need `tags_from_imds`.
    pub(super) tags: Vec<String>,
    /// Whether tags are read from the metadata service, which must be allowed to have them. Default `false`.
    pub(super) tags_from_imds: bool,
    /// Taken, and of no effect: the service is asked once.
    max_attempts: i64,
    /// Taken, and of no effect: the service is asked once.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    max_backoff: Duration,
    /// Must be `false`: a start never fails for it.
    fail_on_missing_metadata: bool,
    /// Attributes that are set, and that are not. Default: all.
    pub(super) resource_attributes: Names,
}

/// Settings of `eks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Eks {
    /// Taken, and of no effect: it is for `k8s.cluster.name`, which is not supported.
    node_from_env_var: String,
    /// Attributes that are set, and that are not. Default: `cloud.provider`, `cloud.platform`.
    pub(super) resource_attributes: Names,
}

/// Waits between attempts.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
struct Retry {
    /// Whether there are more attempts.
    enabled: bool,
    /// First wait.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    initial_interval: Duration,
    /// Part of a wait that is random.
    randomization_factor: f64,
    /// Growth of waits.
    multiplier: f64,
    /// Longest wait.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    max_interval: Duration,
    /// Time for all.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    max_elapsed_time: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            auth_type: "serviceAccount".into(),
            node_from_env_var: "K8S_NODE_NAME".into(),
            resource_attributes: Names::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            detectors: vec![Kind::Env],
            replaces: true,
            timeout: Duration::from_secs(5),
            retry: Retry::default(),
            system: System::default(),
            docker: Plain::default(),
            k8snode: Node::default(),
            ec2: Ec2::default(),
            ecs: Plain::default(),
            eks: Eks::default(),
            lambda: Plain::default(),
            environment: BTreeMap::new(),
        }
    }
}

/// Variables that detectors look at, beside the one that names the node.
const VARIABLES: [&str; 18] = [
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_RESOURCE",
    "DOCKER_HOST",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "ECS_CONTAINER_METADATA_URI_V4",
    "ECS_CONTAINER_METADATA_URI",
    "AWS_REGION",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "HOSTNAME",
];

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        if config.detectors.is_empty() {
            diagnostics.add(&["detectors"], "is empty; name at least one, or remove the processor");
        }
        if config.timeout.is_zero() {
            diagnostics.add(&["timeout"], "must be more than zero");
        }
        for kind in Kind::ALL {
            for (name, Enabled { enabled }) in config.names(kind) {
                let path = [kind.name(), "resource_attributes", name];
                match kind.attributes().iter().find(|(known, _)| known == name) {
                    Some(_) => {}
                    None if !enabled => {}
                    None => diagnostics.add(
                        &path,
                        "is not detected; set it by the detector `env` or the processor `resource`",
                    ),
                }
            }
        }
        if config.k8snode.auth_type != "serviceAccount" {
            diagnostics.add(&["k8snode", "auth_type"], "must be `serviceAccount`");
        }
        if config.ec2.fail_on_missing_metadata {
            diagnostics.add(
                &["ec2", "fail_on_missing_metadata"],
                "is not supported: a start never fails for it; remove the key",
            );
        }
        if !config.ec2.tags.is_empty() && !config.ec2.tags_from_imds {
            diagnostics.add(&["ec2", "tags"], "are read from the metadata service only; set `tags_from_imds: true`, and allow tags in the instance's metadata");
        }
        for (index, tag) in config.ec2.tags.iter().enumerate() {
            if pattern::compile(tag).is_err() {
                diagnostics
                    .add(&["ec2", "tags", &index.to_string()], "is not a regular expression");
            }
        }
        Some(config)
    }

    /// Reads the variables that detectors look at.
    pub(crate) fn look_up(&mut self, environment: &dyn Fn(&str) -> Option<String>) {
        let node = self.k8snode.node_from_env_var.clone();
        let names = VARIABLES.into_iter().chain([node.as_str()]);
        self.environment = names
            .filter_map(|name| Some((name.to_owned(), environment(name)?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
    }

    /// Returns whether a detector's attribute is set.
    pub(super) fn has(&self, kind: Kind, name: &str) -> bool {
        let by_default = kind.attributes().iter().find(|(known, _)| *known == name);
        match self.names(kind).get(name) {
            Some(Enabled { enabled }) => *enabled,
            // Tags have names of their own.
            None => by_default.is_none_or(|(_, is_set)| *is_set),
        }
    }

    fn names(&self, kind: Kind) -> &Names {
        static NONE: Names = Names::new();
        match kind {
            Kind::Env => &NONE,
            Kind::System => &self.system.resource_attributes,
            Kind::Docker => &self.docker.resource_attributes,
            Kind::K8snode => &self.k8snode.resource_attributes,
            Kind::Ec2 => &self.ec2.resource_attributes,
            Kind::Ecs => &self.ecs.resource_attributes,
            Kind::Eks => &self.eks.resource_attributes,
            Kind::Lambda => &self.lambda.resource_attributes,
        }
    }
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Env,
        Self::System,
        Self::Docker,
        Self::K8snode,
        Self::Ec2,
        Self::Ecs,
        Self::Eks,
        Self::Lambda,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::System => "system",
            Self::Docker => "docker",
            Self::K8snode => "k8snode",
            Self::Ec2 => "ec2",
            Self::Ecs => "ecs",
            Self::Eks => "eks",
            Self::Lambda => "lambda",
        }
    }

    /// The attributes that a detector finds, and whether they are set by default.
    fn attributes(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Env => &[],
            Self::System => &[("host.name", true), ("os.type", true), ("host.arch", false)],
            Self::Docker => &[("host.name", true), ("os.type", true)],
            Self::K8snode => {
                &[("k8s.node.name", true), ("k8s.node.uid", true), ("k8s.cluster.uid", true)]
            }
            Self::Ec2 => &[
                ("cloud.provider", true),
                ("cloud.platform", true),
                ("cloud.region", true),
                ("cloud.account.id", true),
                ("cloud.availability_zone", true),
                ("host.id", true),
                ("host.image.id", true),
                ("host.type", true),
                ("host.name", true),
            ],
            Self::Ecs => &[
                ("cloud.provider", true),
                ("cloud.platform", true),
                ("cloud.region", true),
                ("cloud.account.id", true),
                ("cloud.availability_zone", true),
                ("aws.ecs.task.arn", true),
                ("aws.ecs.task.family", true),
                ("aws.ecs.task.revision", true),
                ("aws.ecs.task.id", true),
                ("aws.ecs.cluster.arn", true),
                ("aws.ecs.launchtype", true),
                ("aws.log.group.names", true),
                ("aws.log.group.arns", true),
                ("aws.log.stream.names", true),
                ("aws.log.stream.arns", true),
            ],
            Self::Eks => &[
                ("cloud.provider", true),
                ("cloud.platform", true),
                ("cloud.region", false),
                ("cloud.account.id", false),
                ("cloud.availability_zone", false),
                ("host.id", false),
                ("host.image.id", false),
                ("host.type", false),
                ("host.name", false),
            ],
            Self::Lambda => &[
                ("cloud.provider", true),
                ("cloud.platform", true),
                ("cloud.region", true),
                ("faas.name", true),
                ("faas.version", true),
                ("faas.instance", true),
                ("faas.max_memory", true),
                ("aws.log.group.names", true),
                ("aws.log.stream.names", true),
            ],
        }
    }
}
