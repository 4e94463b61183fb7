//! What is applied for a system, as objects of Kubernetes: pure functions from the plan of its containers.
//!
//! Left out: applying them, and whatever depends on a cluster.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
        core::v1::{
            Capabilities, ConfigMap, ConfigMapVolumeSource, Container as PodContainer,
            ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath,
            Namespace, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            SeccompProfile, Secret, SecretKeySelector, SecurityContext, Service, ServiceAccount,
            ServicePort, ServiceSpec, TCPSocketAction, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use kube::api::DynamicObject;

use super::{
    names::{
        ACCOUNT, COLLECTOR, COLLECTOR_ACCOUNT, EXPIRES, MANAGED_BY, MANAGER, NAME, ROLE_ARN, RUN,
        WORKLOAD, port_names,
    },
    operator::{self, Operator},
};
use crate::{
    environment::container::{Container, FILES_DIR, Image},
    secret::Secret as SecretText,
    system::Role,
};

#[cfg(test)]
mod tests;

/// The container's name in every pod.
pub const CONTAINER: &str = "workload";
/// Who runs our own image, by number, as `runAsNonRoot` wants it.
const USER: i64 = 65_532;
/// How long a pod has to end after SIGTERM: longer than the collector drains (20 s), so that it can say itself what it
/// lost.
pub const STOP_GRACE_SECONDS: i64 = 30;
/// How often in a row a pod must not answer until no request goes to it any more: long enough for a workload that is frozen
/// for a scenario to be found by its callers all the same. Seconds, since it is asked each second.
const UNREADY_AFTER: i32 = 10;

/// What of the run is written into the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where everything is; nothing is made outside of it.
    pub namespace: String,
    /// The run's id; none where the objects are printed for a user to keep.
    pub run: Option<String>,
    /// When the namespace may be removed, as RFC 3339.
    pub expires: Option<String>,
    /// The image of `tracecheck` itself.
    pub image: String,
    /// How many pods each workload has where it is not one.
    pub replicas: BTreeMap<String, u32>,
    /// The role on AWS that the collector's account stands for.
    pub role_arn: Option<String>,
    /// The operator that makes the collector, where one does.
    pub operator: Option<Operator>,
}

/// All objects of a system, each kind in an order in which they can be made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Objects {
    /// Where all the others are.
    pub namespace: Namespace,
    /// One for the collector, which rights on AWS would be given to, and one for all others; neither has a right in the
    /// cluster.
    pub accounts: Vec<ServiceAccount>,
    /// Of workloads that have secrets.
    pub secrets: Vec<Secret>,
    /// Of workloads that have files.
    pub config_maps: Vec<ConfigMap>,
    /// Of workloads that have ports.
    pub services: Vec<Service>,
    /// One for each workload, but for one that the operator makes.
    pub deployments: Vec<Deployment>,
    /// What the operator makes a collector of.
    pub collectors: Vec<DynamicObject>,
}

/// The objects of these containers.
pub fn objects(containers: &[Container], settings: &Settings) -> Objects {
    let mut objects = Objects {
        namespace: namespace(settings),
        accounts: vec![account(ACCOUNT, settings), account(COLLECTOR_ACCOUNT, settings)],
        ..Objects::default()
    };
    for container in containers {
        let maker = Maker { container, settings };
        objects.secrets.extend(maker.secret());
        if let Some(operator) = settings.operator.as_ref().filter(|_| container.host == COLLECTOR) {
            objects.collectors.push(operator::resource(&maker, operator));
            continue;
        }
        objects.config_maps.extend(maker.config_map());
        objects.services.extend(maker.service());
        objects.deployments.push(maker.deployment());
    }
    objects
}

/// Labels of every object of the run.
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

fn account(name: &str, settings: &Settings) -> ServiceAccount {
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
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Makes the objects of one container.
pub(super) struct Maker<'a> {
    pub(super) container: &'a Container,
    pub(super) settings: &'a Settings,
}

impl Maker<'_> {
    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.container.host.clone()),
            namespace: Some(self.settings.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.run_and_workload();
        labels.extend(self.selector());
        labels
    }

    /// The labels that say what an object belongs to.
    pub(super) fn run_and_workload(&self) -> BTreeMap<String, String> {
        let mut labels = run_labels(self.settings);
        labels.insert(WORKLOAD.to_owned(), self.container.workload.clone());
        labels
    }

    fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(NAME.to_owned(), self.container.host.clone())])
    }

    fn secret(&self) -> Option<Secret> {
        let secrets = &self.container.secrets;
        let bytes = |secret: &SecretText| ByteString(secret.reveal().as_bytes().to_vec());
        let keyed = secrets.iter().enumerate();
        let data = keyed.map(|(index, (name, secret))| (key(name, index), bytes(secret))).collect();
        (!secrets.is_empty()).then(|| Secret {
            metadata: self.metadata(),
            data: Some(data),
            ..Secret::default()
        })
    }

    fn config_map(&self) -> Option<ConfigMap> {
        let files = &self.container.files;
        let keyed = files.iter().enumerate();
        let data = keyed.map(|(index, (name, text))| (key(name, index), text.clone())).collect();
        (!files.is_empty()).then(|| ConfigMap {
            metadata: self.metadata(),
            data: Some(data),
            ..ConfigMap::default()
        })
    }

    fn service(&self) -> Option<Service> {
        let names = port_names(&self.container.ports);
        let port = |(port, number): (&String, &u16)| ServicePort {
            name: names.get(port.as_str()).cloned(),
            port: i32::from(*number),
            target_port: names.get(port.as_str()).cloned().map(IntOrString::String),
            app_protocol: app_protocol(port).map(str::to_owned),
            ..ServicePort::default()
        };
        let ports: Vec<ServicePort> = self.container.ports.iter().map(port).collect();
        (!ports.is_empty()).then(|| Service {
            metadata: self.metadata(),
            spec: Some(ServiceSpec {
                selector: Some(self.selector()),
                ports: Some(ports),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        })
    }

    fn deployment(&self) -> Deployment {
        let replicas = self.settings.replicas.get(&self.container.workload).copied().unwrap_or(1);
        Deployment {
            metadata: self.metadata(),
            spec: Some(DeploymentSpec {
                replicas: i32::try_from(replicas).ok(),
                selector: LabelSelector {
                    match_labels: Some(self.selector()),
                    ..LabelSelector::default()
                },
                // Never two generations of a workload at once: what is judged has one config.
                strategy: Some(DeploymentStrategy {
                    type_: Some("Recreate".to_owned()),
                    rolling_update: None,
                }),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(self.labels()),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(self.pod()),
                },
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        }
    }

    fn pod(&self) -> PodSpec {
        let account = match self.container.role {
            Role::Collector => COLLECTOR_ACCOUNT,
            Role::Intake | Role::Service => ACCOUNT,
        };
        PodSpec {
            service_account_name: Some(account.to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            // A process that is not the first one of its namespace can be frozen and killed.
            share_process_namespace: Some(true),
            termination_grace_period_seconds: Some(STOP_GRACE_SECONDS),
            security_context: Some(self.pod_security()),
            containers: vec![self.pod_container()],
            volumes: Some(self.volumes()),
            ..PodSpec::default()
        }
    }

    pub(super) fn pod_security(&self) -> PodSecurityContext {
        PodSecurityContext {
            run_as_non_root: Some(true),
            // An image of somebody else's says itself who runs it.
            run_as_user: self.is_ours().then_some(USER),
            run_as_group: self.is_ours().then_some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }
    }

    pub(super) fn container_security(&self) -> SecurityContext {
        SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }
    }

    /// Reference of the image that it runs from.
    pub(super) fn image(&self) -> String {
        match &self.container.image {
            Image::Tracecheck => self.settings.image.clone(),
            Image::Named(reference) => reference.clone(),
        }
    }

    fn pod_container(&self) -> PodContainer {
        let Container { entrypoint, args, ports, .. } = self.container;
        let names = port_names(ports);
        let escaped = |words: &Vec<String>| words.iter().map(|word| escape(word)).collect();
        let container_ports = ports.iter().map(|(port, number)| ContainerPort {
            name: names.get(port.as_str()).cloned(),
            container_port: i32::from(*number),
            ..ContainerPort::default()
        });
        let mut mounts = vec![mount("tmp", "/tmp", false)];
        if !self.container.files.is_empty() {
            mounts.push(mount("files", FILES_DIR, true));
        }
        PodContainer {
            name: CONTAINER.to_owned(),
            image: Some(self.image()),
            // Also for a tag `latest`: an image may be one that was loaded and that no registry has.
            image_pull_policy: Some("IfNotPresent".to_owned()),
            command: (!entrypoint.is_empty()).then(|| escaped(entrypoint)),
            args: (!args.is_empty()).then(|| escaped(args)),
            env: Some(self.env()),
            ports: (!ports.is_empty()).then(|| container_ports.collect()),
            readiness_probe: self.readiness(),
            resources: Some(self.resources()),
            security_context: Some(self.container_security()),
            volume_mounts: Some(mounts),
            ..PodContainer::default()
        }
    }

    pub(super) fn env(&self) -> Vec<EnvVar> {
        let plain = self.container.env.iter().map(|(name, value)| EnvVar {
            name: name.clone(),
            value: Some(escape(value)),
            value_from: None,
        });
        let secret = self.container.secrets.keys().enumerate().map(|(index, name)| EnvVar {
            name: name.clone(),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: self.container.host.clone(),
                    key: key(name, index),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
        });
        plain.chain(secret).collect()
    }

    /// Whether it takes requests. There is no liveness probe: a restart would hide the hang that a scenario is to find.
    fn readiness(&self) -> Option<Probe> {
        let ports = &self.container.ports;
        let number = |port: &str| ports.get(port).map(|number| IntOrString::Int((*number).into()));
        let health = self.container.health.as_ref();
        let http_get = health.and_then(|health| {
            let port = number(&health.port)?;
            Some(HTTPGetAction {
                path: Some(health.path.clone()),
                port,
                ..HTTPGetAction::default()
            })
        });
        let first = ports.values().next().map(|number| IntOrString::Int((*number).into()));
        let tcp_socket = match (&http_get, first) {
            (None, Some(port)) => Some(TCPSocketAction { host: None, port }),
            _ => None,
        };
        (http_get.is_some() || tcp_socket.is_some()).then(|| Probe {
            http_get,
            tcp_socket,
            period_seconds: Some(1),
            timeout_seconds: Some(1),
            failure_threshold: Some(UNREADY_AFTER),
            ..Probe::default()
        })
    }

    /// No limit of the processor: being throttled is a fault that nobody asked for.
    pub(super) fn resources(&self) -> ResourceRequirements {
        let (requested, limit) = match self.container.role {
            // It keeps 256 MiB, and decodes besides.
            Role::Intake => ("64Mi", "768Mi"),
            Role::Collector | Role::Service => ("32Mi", "512Mi"),
        };
        let quantity = |name: &str, text: &str| (name.to_owned(), Quantity(text.to_owned()));
        ResourceRequirements {
            requests: Some([quantity("cpu", "10m"), quantity("memory", requested)].into()),
            limits: Some([quantity("memory", limit)].into()),
            ..ResourceRequirements::default()
        }
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = vec![scratch()];
        let files = &self.container.files;
        if !files.is_empty() {
            let items = files.keys().enumerate().map(|(index, name)| KeyToPath {
                key: key(name, index),
                path: name.clone(),
                mode: None,
            });
            volumes.push(Volume {
                name: "files".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: self.container.host.clone(),
                    items: Some(items.collect()),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        volumes
    }

    fn is_ours(&self) -> bool {
        self.container.image == Image::Tracecheck
    }
}

/// Room for what a workload writes.
pub(super) fn scratch() -> Volume {
    Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity("256Mi".to_owned())),
            medium: None,
        }),
        ..Volume::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A key in a ConfigMap or Secret: the name itself where such a key may be called so.
fn key(name: &str, index: usize) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_key = name.bytes().all(fits) && !name.starts_with("..") && name.len() <= 253;
    if is_key { name.to_owned() } else { format!("item-{index}") }
}

/// A text of which Kubernetes, which replaces `$(NAME)`, makes the given one.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(one) = rest.next() {
        escaped.push(one);
        if one == '$' && matches!(rest.peek(), Some('$' | '(')) {
            escaped.push('$');
        }
    }
    escaped
}

/// What is spoken at a port, for meshes and gateways that ask; by the port's name.
fn app_protocol(port: &str) -> Option<&'static str> {
    if port.ends_with("grpc") {
        Some("grpc")
    } else if port.ends_with("http") || matches!(port, "metrics" | "health") {
        Some("http")
    } else {
        None
    }
}
