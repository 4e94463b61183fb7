//! Attributes that are set by their names.

use serde::{Deserialize, Serialize};

macro_rules! attributes {
    ($($variant:ident = $name:literal,)*) => {
        /// An attribute of `extract.metadata`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub(super) enum Attribute {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl Attribute {
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

attributes! {
    ContainerId = "container.id",
    ContainerImageName = "container.image.name",
    ContainerImageRepoDigests = "container.image.repo_digests",
    ContainerImageTag = "container.image.tag",
    ContainerImageTags = "container.image.tags",
    ClusterUid = "k8s.cluster.uid",
    ContainerName = "k8s.container.name",
    CronJobName = "k8s.cronjob.name",
    CronJobUid = "k8s.cronjob.uid",
    DaemonSetName = "k8s.daemonset.name",
    DaemonSetUid = "k8s.daemonset.uid",
    DeploymentName = "k8s.deployment.name",
    DeploymentUid = "k8s.deployment.uid",
    JobName = "k8s.job.name",
    JobUid = "k8s.job.uid",
    NamespaceName = "k8s.namespace.name",
    NodeName = "k8s.node.name",
    NodeUid = "k8s.node.uid",
    PodHostname = "k8s.pod.hostname",
    PodIp = "k8s.pod.ip",
    PodName = "k8s.pod.name",
    PodStartTime = "k8s.pod.start_time",
    PodUid = "k8s.pod.uid",
    ReplicaSetName = "k8s.replicaset.name",
    ReplicaSetUid = "k8s.replicaset.uid",
    StatefulSetName = "k8s.statefulset.name",
    StatefulSetUid = "k8s.statefulset.uid",
    ServiceInstanceId = "service.instance.id",
    ServiceName = "service.name",
    ServiceNamespace = "service.namespace",
    ServiceVersion = "service.version",
}

impl Attribute {
    /// Those that are set where the config names none.
    pub(super) const BY_DEFAULT: [Self; 9] = [
        Self::ContainerImageName,
        Self::ContainerImageTag,
        Self::ContainerImageTags,
        Self::DeploymentName,
        Self::NamespaceName,
        Self::NodeName,
        Self::PodName,
        Self::PodStartTime,
        Self::PodUid,
    ];
}
