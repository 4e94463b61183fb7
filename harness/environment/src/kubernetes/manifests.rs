//! Objects of Kubernetes that are applied for a system: pure functions from the plan of its containers.
//!
//! Left out: applying them, and whatever depends on a cluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::DynamicObject;

pub(super) use self::workload::{
    Maker, container_security, escape, key, mount, pod_security, stop_grace,
};
use super::{
    names::{ACCOUNT, COLLECTOR, COLLECTOR_ACCOUNT, EXPIRES, MANAGED_BY, MANAGER, ROLE_ARN, RUN},
    operator::Operator,
};
use crate::container::Container;

mod collector;
#[cfg(test)]
mod tests;
mod watching;
mod workload;

/// Grace period of a pod after SIGTERM, in seconds: longer than the collector drains (20 s), so that the collector
/// can report what it lost.
pub const STOP_GRACE_SECONDS: i64 = 30;

/// Settings of the run that are written into the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of everything; nothing is created outside of it but the role of a collector that watches the cluster.
    pub namespace: String,
    /// The run's id; none where the objects are printed for a user to keep.
    pub run: Option<String>,
    /// Time from which the namespace may be removed, as RFC 3339.
    pub expires: Option<String>,
    /// The image of `tracecheck` itself.
    pub image: String,
    /// Number of pods of each workload that does not have exactly one.
    pub replicas: BTreeMap<String, u32>,
    /// The role on AWS that the collector's account stands for.
    pub role_arn: Option<String>,
    /// User that runs the collector's image, by number, where it is a third party's that has a name for it.
    pub collector_user: Option<i64>,
    /// The operator that makes the collector, where one does.
    pub operator: Option<Operator>,
}

/// All objects of a system, each kind in an order in which they can be made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Objects {
    /// Namespace of all the others.
    pub namespace: Namespace,
    /// One for the collector, which rights on AWS would be given to, and one for all others; neither has a right in the
    /// cluster, unless the collector watches it.
    pub accounts: Vec<ServiceAccount>,
    /// Rights of a collector that watches the cluster; with the next, all that is outside of the namespace.
    pub cluster_roles: Vec<ClusterRole>,
    /// Bindings of those roles to the collector's account.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// Secrets of the workloads that have any.
    pub secrets: Vec<Secret>,
    /// ConfigMaps with the files of workloads.
    pub config_maps: Vec<ConfigMap>,
    /// Services for the workloads that have ports.
    pub services: Vec<Service>,
    /// One for each workload, but for one that the operator makes.
    pub deployments: Vec<Deployment>,
    /// Resources from which the operator creates a collector.
    pub collectors: Vec<DynamicObject>,
}

/// Builds the Kubernetes objects for these containers.
pub fn objects(containers: &[Container], settings: &Settings) -> Objects {
    let watching = containers.iter().find_map(watching::of);
    let mut objects = Objects {
        namespace: namespace(settings),
        accounts: vec![
            account(ACCOUNT, settings, false),
            account(COLLECTOR_ACCOUNT, settings, watching.is_some()),
        ],
        ..Objects::default()
    };
    if let Some(watching) = watching {
        let (role, binding) = watching.roles(settings);
        objects.cluster_roles.push(role);
        objects.cluster_role_bindings.push(binding);
    }
    for container in containers {
        let maker = Maker { container, settings };
        objects.secrets.extend(maker.secret());
        if let Some(operator) = settings.operator.as_ref().filter(|_| container.host == COLLECTOR) {
            objects.collectors.push(collector::resource(&maker, operator));
            continue;
        }
        objects.config_maps.extend(maker.config_map());
        objects.services.extend(maker.service());
        objects.deployments.push(maker.deployment());
    }
    objects
}

/// Returns the labels that every object of the run has.
pub fn run_labels(settings: &Settings) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())]);
    labels.extend(settings.run.iter().map(|run| (RUN.to_owned(), run.clone())));
    labels
}

fn namespace(settings: &Settings) -> Namespace {
    let mut labels = run_labels(settings);
    let enforced = "pod-security.kubernetes.io/enforce";
    labels.insert(enforced.to_owned(), "restricted".to_owned());
    let expires = settings.expires.iter().map(|at| (EXPIRES.to_owned(), at.clone()));
    Namespace {
        metadata: ObjectMeta {
            name: Some(settings.namespace.clone()),
            labels: Some(labels),
            annotations: settings.expires.is_some().then(|| expires.collect()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// An account, and whether pods of it have its token.
fn account(name: &str, settings: &Settings, has_token: bool) -> ServiceAccount {
    let role = settings.role_arn.iter().filter(|_| name == COLLECTOR_ACCOUNT);
    let annotations = role.map(|role| (ROLE_ARN.to_owned(), role.clone()));
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(settings.namespace.clone()),
            labels: Some(run_labels(settings)),
            annotations: Some(annotations.collect()).filter(|all: &BTreeMap<_, _>| !all.is_empty()),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(has_token),
        ..ServiceAccount::default()
    }
}
