//! Needs of a collector that watches the cluster, as its processor `k8s_attributes` does: rights, its account's token, and its node's
//! name.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector},
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{super::names::COLLECTOR_ACCOUNT, Settings, run_labels};
use crate::container::Container;
use harness_core::source;
use harness_system::{Role, parts::CONFIG_FILE};

/// Names of the processor in a config.
const PROCESSORS: [&str; 2] = ["k8s_attributes", "k8sattributes"];
/// Resources by their groups, each with the attributes of `extract.metadata` for which it is watched, and the kinds that labels and
/// annotations come from.
const WATCHED: [(&str, &str, &[&str], &[&str]); 8] = [
    ("", "namespaces", &["k8s.cluster.uid"], &["namespace"]),
    ("", "nodes", &["k8s.node.uid"], &["node"]),
    ("apps", "replicasets", &["k8s.deployment.uid"], &["replicaset", "deployment"]),
    ("apps", "deployments", &[], &["deployment"]),
    ("apps", "statefulsets", &[], &["statefulset"]),
    ("apps", "daemonsets", &[], &["daemonset"]),
    ("batch", "jobs", &["k8s.cronjob.uid"], &["job", "cronjob"]),
    ("batch", "cronjobs", &[], &["cronjob"]),
];

/// Resources that a collector watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watching {
    /// Resources, by their groups.
    resources: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// Variables that are to have the name of its node.
    node_variables: BTreeSet<String>,
}

/// Returns what the collector of a container watches, if it is one and does.
pub(super) fn of(container: &Container) -> Option<Watching> {
    let text = container.files.get(CONFIG_FILE).filter(|_| container.role == Role::Collector)?;
    // One that cannot be read is refused by whoever reads it.
    let root: Value = source::read_yaml(CONFIG_FILE, text).ok()?;
    let pipelines = root["service"]["pipelines"].as_object()?;
    let used: BTreeSet<&str> = pipelines
        .values()
        .filter_map(|pipeline| pipeline["processors"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .filter(|id| PROCESSORS.contains(&id.split('/').next().unwrap_or_default()))
        .collect();
    let mut watching = Watching { resources: BTreeMap::new(), node_variables: BTreeSet::new() };
    for id in used {
        let settings = &root["processors"][id];
        let is_in_pod = settings["auth_type"].as_str().is_none_or(|by| by == "serviceAccount");
        if settings["passthrough"] != true && is_in_pod {
            watching.add(settings);
        }
    }
    (!watching.resources.is_empty()).then_some(watching)
}

impl Watching {
    fn add(&mut self, settings: &Value) {
        let extract = &settings["extract"];
        let listed = |list: &Value, is: &dyn Fn(&Value) -> bool| {
            list.as_array().is_some_and(|items| items.iter().any(is))
        };
        let has = |names: &[&str]| {
            let is = |name: &Value| name.as_str().is_some_and(|name| names.contains(&name));
            listed(&extract["metadata"], &is)
        };
        let from = |kinds: &[&str]| {
            let is =
                |field: &Value| field["from"].as_str().is_some_and(|kind| kinds.contains(&kind));
            listed(&extract["labels"], &is) || listed(&extract["annotations"], &is)
        };
        self.resources.entry("").or_default().insert("pods");
        for (group, resource, names, kinds) in WATCHED {
            if has(names) || from(kinds) {
                self.resources.entry(group).or_default().insert(resource);
            }
        }
        let variable = settings["filter"]["node_from_env_var"].as_str();
        self.node_variables.extend(variable.filter(|name| !name.is_empty()).map(str::to_owned));
    }

    /// The variables with the name of the node, but for those that the container sets itself.
    pub(super) fn env(&self, container: &Container) -> Vec<EnvVar> {
        let missing = self.node_variables.iter().filter(|name| !container.env.contains_key(*name));
        missing
            .map(|name| EnvVar {
                name: name.clone(),
                value: None,
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        api_version: None,
                        field_path: "spec.nodeName".to_owned(),
                    }),
                    ..EnvVarSource::default()
                }),
            })
            .collect()
    }

    /// The role with the rights, and what gives it to the collector's account. A role of the namespace would not do: pods are
    /// watched in all of them, and nodes and namespaces belong to none.
    pub(super) fn roles(&self, settings: &Settings) -> (ClusterRole, ClusterRoleBinding) {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let rules = self.resources.iter().map(|(group, resources)| PolicyRule {
            api_groups: Some(owned(&[group])),
            resources: Some(resources.iter().map(|resource| (*resource).to_owned()).collect()),
            verbs: owned(&["get", "list", "watch"]),
            ..PolicyRule::default()
        });
        let name = format!("{}-{COLLECTOR_ACCOUNT}", settings.namespace);
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            labels: Some(run_labels(settings)),
            ..ObjectMeta::default()
        };
        let role = ClusterRole {
            metadata: metadata.clone(),
            rules: Some(rules.collect()),
            ..ClusterRole::default()
        };
        let binding = ClusterRoleBinding {
            metadata,
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "ClusterRole".to_owned(),
                name,
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: COLLECTOR_ACCOUNT.to_owned(),
                namespace: Some(settings.namespace.clone()),
                ..Subject::default()
            }]),
        };
        (role, binding)
    }
}
