//! The objects of one workload: its Secret, ConfigMap, Service and Deployment, and what its pods are made of.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy},
        core::v1::{
            Capabilities, ConfigMap, ConfigMapVolumeSource, Container as PodContainer,
            ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath,
            PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            SeccompProfile, Secret, SecretKeySelector, SecurityContext, Service, ServicePort,
            ServiceSpec, TCPSocketAction, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    super::names::{ACCOUNT, COLLECTOR_ACCOUNT, CONTAINER, NAME, WORKLOAD, port_names},
    STOP_GRACE_SECONDS, Settings, run_labels, watching,
};
use crate::container::{Container, FILES_DIR, Image};
use harness_core::secret::Secret as SecretText;
use harness_system::Role;

/// How often in a row a pod must not answer until no request goes to it any more: long enough for a workload that is frozen
/// for a scenario to be found by its callers all the same. Seconds, since it is asked each second.
const UNREADY_AFTER: i32 = 10;
/// User that runs our own image, by number, as `runAsNonRoot` asks for it.
const USER: i64 = 65_532;
/// Makes the objects of one container.
pub(in super::super) struct Maker<'a> {
    pub(in super::super) container: &'a Container,
    pub(in super::super) settings: &'a Settings,
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
    pub(in super::super) fn run_and_workload(&self) -> BTreeMap<String, String> {
        let mut labels = run_labels(self.settings);
        labels.insert(WORKLOAD.to_owned(), self.container.workload.clone());
        labels
    }

    fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(NAME.to_owned(), self.container.host.clone())])
    }

    pub(super) fn secret(&self) -> Option<Secret> {
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

    pub(super) fn config_map(&self) -> Option<ConfigMap> {
        let files = &self.container.files;
        let keyed = files.iter().enumerate();
        let data = keyed.map(|(index, (name, text))| (key(name, index), text.clone())).collect();
        (!files.is_empty()).then(|| ConfigMap {
            metadata: self.metadata(),
            data: Some(data),
            ..ConfigMap::default()
        })
    }

    pub(super) fn service(&self) -> Option<Service> {
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

    pub(super) fn deployment(&self) -> Deployment {
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
            Role::Intake | Role::Service | Role::Tap => ACCOUNT,
        };
        PodSpec {
            service_account_name: Some(account.to_owned()),
            automount_service_account_token: Some(watching::of(self.container).is_some()),
            enable_service_links: Some(false),
            // A process that is not the first one of its namespace can be frozen and killed.
            share_process_namespace: Some(true),
            termination_grace_period_seconds: Some(stop_grace(self.container)),
            security_context: Some(self.pod_security()),
            containers: vec![self.pod_container()],
            volumes: Some(self.volumes()),
            ..PodSpec::default()
        }
    }

    pub(in super::super) fn pod_security(&self) -> PodSecurityContext {
        let mut security = pod_security(self.is_ours());
        // A third party's image says itself who runs it, unless by a name, which the kubelet cannot distinguish from root's.
        if let (Image::Named(reference), Role::Collector) =
            (&self.container.image, self.container.role)
        {
            security.run_as_user = self.settings.collector_user.or_else(|| known_user(reference));
        }
        if let Some(user) = self.container.user {
            security.run_as_user = Some(user.into());
        }
        security
    }

    /// Reference of the image that it runs from.
    pub(in super::super) fn image(&self) -> String {
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
            security_context: Some(container_security()),
            volume_mounts: Some(mounts),
            ..PodContainer::default()
        }
    }

    pub(in super::super) fn env(&self) -> Vec<EnvVar> {
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
        let node = watching::of(self.container).map(|watching| watching.env(self.container));
        plain.chain(secret).chain(node.unwrap_or_default()).collect()
    }

    /// Returns whether it takes requests. There is no liveness probe: a restart would hide the hang that a scenario is to find.
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
    pub(in super::super) fn resources(&self) -> ResourceRequirements {
        let (requested, limit) = match self.container.role {
            // It keeps 256 MiB, and decodes besides.
            Role::Intake => ("64Mi", "768Mi"),
            Role::Collector | Role::Service | Role::Tap => ("32Mi", "512Mi"),
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

/// How long a workload's pods have to end: seconds.
pub(in super::super) fn stop_grace(container: &Container) -> i64 {
    let seconds = container.stop_seconds(STOP_GRACE_SECONDS.unsigned_abs());
    i64::try_from(seconds).unwrap_or(STOP_GRACE_SECONDS)
}

/// Returns who runs a collector's image whose Dockerfile has a name for it.
fn known_user(reference: &str) -> Option<i64> {
    // Its Dockerfile at v0.49.0: `USER aoc`, made with the number 4317.
    let name = reference.rsplit('/').next().unwrap_or_default();
    let name = name.split(['@', ':']).next().unwrap_or_default();
    (name == "aws-otel-collector").then_some(4317)
}

/// Security context of a pod under the restricted policy, and, for our own image, the user that runs it.
pub(in super::super) fn pod_security(ours: bool) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: ours.then_some(USER),
        run_as_group: ours.then_some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// Security context of a container under that policy, with a root that nothing is written to.
pub(in super::super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// Room for what a workload writes.
pub(in super::super) fn scratch() -> Volume {
    Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity("256Mi".to_owned())),
            medium: None,
        }),
        ..Volume::default()
    }
}

pub(in super::super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// A key in a ConfigMap or Secret: the name itself where such a key may be called so.
pub(in super::super) fn key(name: &str, index: usize) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_key = name.bytes().all(fits) && !name.starts_with("..") && name.len() <= 253;
    if is_key { name.to_owned() } else { format!("item-{index}") }
}

/// A text of which Kubernetes, which replaces `$(NAME)`, makes the given one.
pub(in super::super) fn escape(text: &str) -> String {
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

/// Protocol of a port, for meshes and gateways that ask; by the port's name.
fn app_protocol(port: &str) -> Option<&'static str> {
    if port.ends_with("grpc") {
        Some("grpc")
    } else if port.ends_with("http") || matches!(port, "metrics" | "health") {
        Some("http")
    } else {
        None
    }
}
