//! Kinds of objects that attributes come from.

use serde::{Deserialize, Serialize};

/// A kind of object in Kubernetes' API.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    #[default]
    Pod,
    Namespace,
    Node,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::ReplicaSet,
        Self::Job,
        Self::Namespace,
        Self::Node,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::CronJob,
        Self::Pod,
    ];

    /// The name that attributes and settings have for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::Node => "node",
            Self::ReplicaSet => "replicaset",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job => "job",
            Self::CronJob => "cronjob",
        }
    }

    /// The kind that the API has that name for.
    pub(super) fn of_api(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.of_resource().2 == name)
    }

    /// Group, plural and name in the API.
    pub(super) fn of_resource(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Pod => ("", "pods", "Pod"),
            Self::Namespace => ("", "namespaces", "Namespace"),
            Self::Node => ("", "nodes", "Node"),
            Self::ReplicaSet => ("apps", "replicasets", "ReplicaSet"),
            Self::Deployment => ("apps", "deployments", "Deployment"),
            Self::StatefulSet => ("apps", "statefulsets", "StatefulSet"),
            Self::DaemonSet => ("apps", "daemonsets", "DaemonSet"),
            Self::Job => ("batch", "jobs", "Job"),
            Self::CronJob => ("batch", "cronjobs", "CronJob"),
        }
    }

    /// Returns whether it belongs to no namespace.
    pub(super) fn is_of_cluster(self) -> bool {
        matches!(self, Self::Namespace | Self::Node)
    }

    /// Returns whether objects of it are looked up by their name rather than their uid.
    pub(super) fn is_by_name(self) -> bool {
        self.is_of_cluster()
    }
}
