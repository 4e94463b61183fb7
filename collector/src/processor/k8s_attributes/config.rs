//! Settings of Kubernetes' attributes, in the words of contrib's `k8sattributesprocessor`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::attribute::Attribute;
use super::kind::Kind;
use crate::settings::pattern;
use crate::settings::{Diagnostics, Unsupported, duration};

pub(crate) const UNSUPPORTED: Unsupported = Unsupported(&[(
    "pods are watched in Kubernetes' API; remove the key, and limit what is watched by `filter.node_from_env_var`",
    &["kubelet"],
)]);

/// How many sources one way of `pod_association` may have.
const MOST_SOURCES: usize = 4;

/// Attributes of the pod that spans come from, for their resources: as Kubernetes' API has them, which is watched. A pod is known by
/// the address that a request comes from, or by attributes that the resource has already. What a resource has is never replaced,
/// unless it is empty. Stands before `batch`, `groupbytrace` and `tail_sampling`, behind which the address is not known any more.
///
/// Needs the right to `get`, `list` and `watch` pods, and what else its settings ask for: `replicasets` for `k8s.deployment.uid`,
/// `jobs` for `k8s.cronjob.uid`, `nodes` for `k8s.node.uid`, `namespaces` for `k8s.cluster.uid`, and each kind that a label or an
/// annotation comes from. A start fails where the API cannot be reached or refuses.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// How the API is asked: as the pod's account (`serviceAccount`), as `KUBECONFIG` or `~/.kube/config` say (`kubeConfig`), or without credentials, which are not asked for theirs either (`none`). Default `serviceAccount`.
    pub(super) auth_type: AuthType,
    /// The context of the kubeconfig. Default: its current one.
    pub(super) context: String,
    /// Taken, and of no effect: what is watched is asked for once.
    kube_api_qps: f64,
    /// Taken, and of no effect: what is watched is asked for once.
    kube_api_burst: i64,
    /// Sets `k8s.pod.ip` alone, to the address that the request comes from, and asks no API. Default `false`.
    pub(super) passthrough: bool,
    /// Waits with the start until all that is watched is known. Default `false`: it waits for the first answer only.
    pub(super) wait_for_metadata: bool,
    /// How long a start waits for it before it fails. Default `10s`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) wait_for_metadata_timeout: Duration,
    /// Taken, and of no effect: what is known is not read again.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    watch_sync_period: Duration,
    /// How long a pod that has ended is still known, for spans that come late. Default `2m`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) pod_delete_grace_period: Duration,
    /// Attributes that are set.
    pub(super) extract: Extract,
    /// Pods that are watched.
    pub(super) filter: Filter,
    /// Ways in which a pod is known, of which the first counts whose sources a resource has all. Default: `k8s.pod.ip`, then the address of the request.
    pub(super) pod_association: Vec<Association>,
    /// Pods whose spans get no attributes.
    pub(super) exclude: Exclude,
    /// Patterns of `exclude`, ready.
    #[serde(skip)]
    pub(super) excluded: Vec<Regex>,
    /// Variables that it needs, as they were when the config was read.
    #[serde(skip)]
    pub(super) environment: BTreeMap<String, String>,
}

/// Ways to be let in by the API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) enum AuthType {
    #[default]
    ServiceAccount,
    KubeConfig,
    None,
}

/// Attributes that are set.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Extract {
    /// Attributes by their names. Those of containers (`container.*`, `k8s.container.name`, `service.version`, `service.instance.id`) are of the container that `k8s.container.name` or `container.id` names, or of the only one. `k8s.deployment.name` is read off the name of the pod's replica set. `container.image.tag` is taken and not set, as in the Collector: it is called `container.image.tags` there now. Default: `container.image.name`, `container.image.tags`, `k8s.deployment.name`, `k8s.namespace.name`, `k8s.node.name`, `k8s.pod.name`, `k8s.pod.start_time`, `k8s.pod.uid`.
    pub(super) metadata: Vec<Attribute>,
    /// Labels that become attributes.
    pub(super) labels: Vec<Field>,
    /// Annotations that become attributes.
    pub(super) annotations: Vec<Field>,
    /// Whether a pod's annotation `resource.opentelemetry.io/NAME` becomes the attribute `NAME`. Default `false`.
    pub(super) otel_annotations: bool,
    /// Taken, and of no effect: it is what is done.
    deployment_name_from_replicaset: bool,
}

/// A label or an annotation, or several.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Field {
    /// The attribute's name; with `key_regex`, `$1` and `$NAME` are what its groups matched. Default: `k8s.KIND.label.KEY` or `k8s.KIND.annotation.KEY`.
    pub(super) tag_name: String,
    /// The label's or annotation's key.
    pub(super) key: String,
    /// Regular expression of keys, instead of `key`; it must match all of a key.
    pub(super) key_regex: String,
    /// Kind that it is of: `pod`, `namespace`, `node`, `deployment`, `replicaset`, `statefulset`, `daemonset`, `job` or `cronjob`. Default `pod`.
    #[serde(rename = "from")]
    pub(super) kind: Kind,
    /// `key_regex`, ready.
    #[serde(skip)]
    pub(super) pattern: Option<Regex>,
}

/// Pods that are watched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    /// Those on this node. Default: on all.
    pub(super) node: String,
    /// Those on the node that this variable names; set it by the downward API, from `spec.nodeName`. Goes before `node`.
    pub(super) node_from_env_var: String,
    /// Those of this namespace. Default: of all.
    pub(super) namespace: String,
    /// Those with these fields.
    pub(super) fields: Vec<FieldFilter>,
    /// Those with these labels.
    pub(super) labels: Vec<LabelFilter>,
}

/// A field that pods have, or have not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct FieldFilter {
    /// The field, such as `status.phase`.
    pub(super) key: String,
    /// Its value.
    pub(super) value: String,
    /// `equals` or `not-equals`. Default `equals`.
    pub(super) op: FieldOperation,
}

/// A label that pods have, or have not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct LabelFilter {
    /// The label.
    pub(super) key: String,
    /// Its value.
    pub(super) value: String,
    /// `equals`, `not-equals`, `exists` or `does-not-exist`. Default `equals`.
    pub(super) op: LabelOperation,
}

/// Comparisons of fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum FieldOperation {
    #[default]
    Equals,
    NotEquals,
}

/// Comparisons of labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum LabelOperation {
    #[default]
    Equals,
    NotEquals,
    Exists,
    DoesNotExist,
}

/// A way in which a pod is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Association {
    /// Sources that a resource must have and match, four at most.
    pub(super) sources: Vec<Source>,
}

/// Something by which a pod is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Source {
    /// `connection`, the address that the request comes from, or `resource_attribute`.
    pub(super) from: From,
    /// The attribute: `k8s.pod.uid`, `k8s.pod.ip`, `k8s.pod.name`, `k8s.namespace.name`, `container.id`, `host.name` where it is the pod's address, or another one that is set.
    pub(super) name: String,
}

/// Places of what a pod is known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    #[default]
    Connection,
    ResourceAttribute,
}

/// Pods whose spans get no attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Exclude {
    /// Those of these names. Default: `jaeger-agent`, `jaeger-collector`. A pod with the annotation `opentelemetry.io/k8s-processor/ignore: "true"` gets none either.
    pub(super) pods: Vec<Excluded>,
}

/// Names of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Excluded {
    /// Regular expression that matches a part of the name.
    pub(super) name: String,
}

impl Default for Extract {
    fn default() -> Self {
        Self {
            metadata: Attribute::BY_DEFAULT.to_vec(),
            labels: Vec::new(),
            annotations: Vec::new(),
            otel_annotations: false,
            deployment_name_from_replicaset: false,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth_type: AuthType::default(),
            context: String::new(),
            kube_api_qps: 0.0,
            kube_api_burst: 0,
            passthrough: false,
            wait_for_metadata: false,
            wait_for_metadata_timeout: Duration::from_secs(10),
            watch_sync_period: Duration::from_secs(300),
            pod_delete_grace_period: Duration::from_secs(120),
            extract: Extract::default(),
            filter: Filter::default(),
            pod_association: Vec::new(),
            exclude: Exclude::default(),
            excluded: Vec::new(),
            environment: BTreeMap::new(),
        }
    }
}

impl Config {
    pub(crate) fn decode(diagnostics: &mut Diagnostics<'_>) -> Option<Self> {
        let mut config: Self = diagnostics.decode(&[], &[("", UNSUPPORTED)])?;
        if config.wait_for_metadata_timeout.is_zero() {
            diagnostics.add(&["wait_for_metadata_timeout"], "must be more than zero");
        }
        if !config.context.is_empty() && config.auth_type != AuthType::KubeConfig {
            diagnostics.add(&["context"], "is of a kubeconfig; set `auth_type: kubeConfig`");
        }
        let extract = &mut config.extract;
        for (list, fields) in
            [("labels", &mut extract.labels), ("annotations", &mut extract.annotations)]
        {
            for (index, field) in fields.iter_mut().enumerate() {
                let index = index.to_string();
                let path = ["extract", list, &index];
                diagnostics.within(&path, |diagnostics| field.prepare(diagnostics));
            }
        }
        config.check_associations(diagnostics);
        let all = config.exclude.pods.iter().map(|pod| pod.name.as_str());
        let names: Vec<_> = match config.exclude.pods.is_empty() {
            true => vec!["jaeger-agent", "jaeger-collector"],
            false => all.collect(),
        };
        for (index, name) in names.into_iter().enumerate() {
            match pattern::compile(name) {
                Ok(pattern) => config.excluded.push(pattern),
                Err(_) => {
                    let path = ["exclude", "pods", &index.to_string(), "name"];
                    diagnostics.add(&path, "is not a regular expression");
                }
            }
        }
        for (list, keys) in [
            ("fields", config.filter.fields.iter().map(|one| &one.key).collect::<Vec<_>>()),
            ("labels", config.filter.labels.iter().map(|one| &one.key).collect()),
        ] {
            for (index, key) in keys.into_iter().enumerate() {
                if key.is_empty() {
                    let path = ["filter", list, &index.to_string(), "key"];
                    diagnostics.add(&path, "is empty; name what pods are chosen by");
                }
            }
        }
        Some(config)
    }

    fn check_associations(&self, diagnostics: &mut Diagnostics<'_>) {
        let mut known = BTreeSet::new();
        for (index, association) in self.pod_association.iter().enumerate() {
            let index = index.to_string();
            let path = ["pod_association", &index, "sources"];
            let count = association.sources.len();
            if count == 0 {
                diagnostics.add(&path, "is empty; name `connection`, or a `resource_attribute`");
            }
            if count > MOST_SOURCES {
                let problem = format!("has {count} sources; {MOST_SOURCES} at most are looked at");
                diagnostics.add(&path, &problem);
            }
            for (at, source) in association.sources.iter().enumerate() {
                if source.from == From::ResourceAttribute && source.name.is_empty() {
                    let path = [path[0], path[1], path[2], &at.to_string(), "name"];
                    diagnostics.add(&path, "is missing; name the attribute");
                }
            }
            let mut sources: Vec<_> = association.sources.iter().map(Source::written).collect();
            sources.sort_unstable();
            if count > 0 && !known.insert(sources) {
                diagnostics.add(&path, "is listed twice; remove one");
            }
        }
    }

    /// Reads the variables that it looks at. Returns the problem with one, and the key that names it.
    pub(crate) fn look_up(
        &mut self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Option<(&'static [&'static str], String)> {
        let node = self.filter.node_from_env_var.clone();
        let names = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG", "HOME"];
        self.environment = names
            .into_iter()
            .chain([node.as_str()])
            .filter_map(|name| Some((name.to_owned(), environment(name)?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let is_missing =
            !self.passthrough && !node.is_empty() && !self.environment.contains_key(&node);
        is_missing.then(|| {
            let problem = format!(
                "environment variable `{node}` is not set; set it by the downward API, from `spec.nodeName`"
            );
            (["filter", "node_from_env_var"].as_slice(), problem)
        })
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// The node whose pods are watched; all where there is none.
    pub(super) fn node(&self) -> Option<&str> {
        match self.filter.node_from_env_var.as_str() {
            "" => Some(self.filter.node.as_str()).filter(|node| !node.is_empty()),
            name => self.variable(name),
        }
    }

    /// Returns whether pods are known by the address that a request comes from.
    pub(crate) fn needs_connection(&self) -> bool {
        let is = |source: &Source| source.from == From::Connection;
        self.passthrough
            || self.pod_association.is_empty()
            || self.pod_association.iter().any(|way| way.sources.iter().any(is))
    }

    /// Returns whether the API is asked.
    pub(crate) fn watches(&self) -> bool {
        !self.passthrough
    }

    /// Returns whether an attribute is set.
    pub(super) fn has(&self, attribute: Attribute) -> bool {
        self.extract.metadata.contains(&attribute)
    }

    /// The kinds that are watched beside pods, those first that others are looked up by.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let fields = || self.extract.labels.iter().chain(&self.extract.annotations);
        let from = |kind| fields().any(|field| field.kind == kind);
        let is_needed = |kind| match kind {
            Kind::Pod => false,
            Kind::Namespace => from(kind) || self.has(Attribute::ClusterUid),
            Kind::Node => from(kind) || self.has(Attribute::NodeUid),
            Kind::ReplicaSet => {
                from(kind) || from(Kind::Deployment) || self.has(Attribute::DeploymentUid)
            }
            Kind::Job => from(kind) || from(Kind::CronJob) || self.has(Attribute::CronJobUid),
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::CronJob => from(kind),
        };
        Kind::ALL.into_iter().filter(|kind| is_needed(*kind)).collect()
    }
}

impl Source {
    /// The source as counters name it.
    pub(super) fn written(&self) -> String {
        match self.from {
            From::Connection => "connection".into(),
            From::ResourceAttribute => format!("resource_attribute/{}", self.name),
        }
    }
}

impl Field {
    fn prepare(&mut self, diagnostics: &mut Diagnostics<'_>) {
        match (self.key.is_empty(), self.key_regex.is_empty()) {
            (true, true) => diagnostics.add(&[], "names no key; set `key` or `key_regex`"),
            (false, false) => {
                diagnostics.add(&["key_regex"], "stands beside `key`; remove one of them");
            }
            (false, true) => {}
            (true, false) => match pattern::compile(&format!("^(?:{})$", self.key_regex)) {
                Ok(pattern) => self.pattern = Some(pattern),
                Err(_) => diagnostics.add(&["key_regex"], "is not a regular expression"),
            },
        }
    }
}
