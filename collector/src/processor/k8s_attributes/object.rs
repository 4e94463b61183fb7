//! Objects of Kubernetes, as far as attributes are made of them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An object of any kind; what only pods have is empty in others.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    /// When it was created, in seconds since 1970.
    pub(super) created: i64,
    /// The same as RFC 3339.
    pub(super) created_text: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owners: Vec<Owner>,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

/// An object that another one belongs to.
#[derive(Debug, Clone, Default)]
pub(super) struct Owner {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) is_controller: bool,
}

/// A pod's plan.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) node_name: String,
    pub(super) hostname: String,
    pub(super) host_network: bool,
    pub(super) containers: Vec<Planned>,
    pub(super) init_containers: Vec<Planned>,
}

/// A container as it is planned.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) image: String,
}

/// The state of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    #[serde(rename = "podIP")]
    pub(super) pod_ip: String,
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Vec<Address>,
    /// When it began, as RFC 3339 in UTC, which sorts as text.
    pub(super) start_time: String,
    pub(super) container_statuses: Vec<Running>,
    pub(super) init_container_statuses: Vec<Running>,
}

/// An address of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Address {
    pub(super) ip: String,
}

/// The state of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Running {
    pub(super) name: String,
    #[serde(rename = "containerID")]
    pub(super) container_id: String,
    #[serde(rename = "imageID")]
    pub(super) image_id: String,
    pub(super) restart_count: i64,
}

impl Object {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The owner of a kind.
    pub(super) fn owner(&self, kind: &str) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.kind == kind)
    }

    /// The addresses of a pod, the first one first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        let first = self.status.pod_ip.as_str();
        let others = self.status.pod_ips.iter().map(|address| address.ip.as_str());
        std::iter::once(first)
            .chain(others.filter(move |address| *address != first))
            .filter(|address| !address.is_empty())
    }
}
