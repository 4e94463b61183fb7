//! A Service that is there already, at an address of this machine: each connection goes to a pod of it that is ready then, over
//! the API server.
//!
//! Only reads what is there, and makes nothing.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    super::{EnvironmentError, attached},
    typed::Typed,
};
use harness_core::source;

/// Longest wait for one answer of the API server, or for one connection to a pod.
const LIMIT: Duration = Duration::from_secs(15);
/// Most connections at once; beyond, new ones wait to be taken.
const MAX_CONNECTIONS: usize = 512;

/// Name of a Service and its port, as `NAMESPACE/NAME[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name or number of its port; its only one where `None`.
    pub port: Option<String>,
}

impl std::str::FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, port) = match text.split_once(':') {
            Some((path, port)) => (path, Some(port.to_owned())),
            None => (text, None),
        };
        match path.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty()
                    && !name.is_empty()
                    && !name.contains('/')
                    && port.as_ref().is_none_or(|port| !port.is_empty()) =>
            {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), port })
            }
            _ => Err("write NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT".to_owned()),
        }
    }
}

/// A forwarded Service. Dropping it ends all its connections.
#[derive(Debug)]
pub struct ForwardedService {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl ForwardedService {
    /// Listens at a free port of the loopback address and forwards connections to the Service.
    ///
    /// # Errors
    ///
    /// If the Service or its port does not exist, or cannot be queried.
    pub async fn open(client: Client, wanted: &ServiceName) -> Result<Self, EnvironmentError> {
        let target = Target::find(client, wanted).await?;
        let listen = TcpListener::bind("127.0.0.1:0").await;
        let listener =
            listen.and_then(|listener| Ok((listener.local_addr()?, listener))).map_err(|source| {
                EnvironmentError::NoFreePort { workload: wanted.name.clone(), source }
            });
        let (address, listener) = listener?;
        Ok(Self { address, task: tokio::spawn(accept(listener, target)) })
    }

    /// Returns the service's base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for ForwardedService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Target {
    client: Client,
    namespace: String,
    selector: String,
    port: IntOrString,
}

impl Target {
    async fn find(client: Client, wanted: &ServiceName) -> Result<Self, EnvironmentError> {
        let ServiceName { namespace, name, port } = wanted;
        let unavailable = |reason: String, remedy: String| EnvironmentError::Unavailable {
            environment: attached::NAME,
            reason,
            remedy,
        };
        let services = Typed::<Service>::namespaced(&client, namespace);
        let listed = timeout(LIMIT, services.list(&ListParams::default())).await;
        let listed = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => {
                let reason = format!(
                    "the Services of namespace `{namespace}`: {}",
                    super::cluster::described(&error)
                );
                return Err(unavailable(reason, super::cluster::remedy(&error).to_owned()));
            }
            Err(_) => {
                let reason = format!("the API server did not answer within {LIMIT:?}");
                return Err(unavailable(
                    reason,
                    "look whether the cluster can be reached".to_owned(),
                ));
            }
        };
        let names: Vec<String> = listed.iter().map(ResourceExt::name_any).collect();
        let service = listed.into_iter().find(|service| &service.name_any() == name);
        let known = || source::list(names.iter().map(String::as_str));
        let Some(spec) = service.and_then(|service| service.spec) else {
            let reason = format!("there is no Service `{name}` in namespace `{namespace}`");
            return Err(unavailable(
                reason,
                format!(
                    "there are: {}",
                    if names.is_empty() { "none".to_owned() } else { known() }
                ),
            ));
        };
        let selector: BTreeMap<String, String> = spec.selector.unwrap_or_default();
        if selector.is_empty() {
            let reason = format!("Service `{namespace}/{name}` selects no pods");
            return Err(unavailable(reason, "give the address behind it as a URL".to_owned()));
        }
        let ports = spec.ports.unwrap_or_default();
        let is_wanted = |one: &&k8s_openapi::api::core::v1::ServicePort| match port {
            None => true,
            Some(port) => one.port.to_string() == *port || one.name.as_ref() == Some(port),
        };
        let fitting: Vec<_> = ports.iter().filter(is_wanted).collect();
        let [only] = fitting.as_slice() else {
            let reported = ports.iter().map(|one| match &one.name {
                Some(name) => format!("{} ({name})", one.port),
                None => one.port.to_string(),
            });
            let asked = port
                .as_ref()
                .map_or("one port alone".to_owned(), |port| format!("a port `{port}`"));
            let reason = format!("Service `{namespace}/{name}` does not have {asked}");
            let remedy = format!(
                "name one of {}: {namespace}/{name}:PORT",
                reported.collect::<Vec<_>>().join(", ")
            );
            return Err(unavailable(reason, remedy));
        };
        let port = only.target_port.clone().unwrap_or(IntOrString::Int(only.port));
        let selector = selector.iter().map(|(key, value)| format!("{key}={value}"));
        let selector = selector.collect::<Vec<_>>().join(",");
        Ok(Self { client, namespace: namespace.clone(), selector, port })
    }

    async fn serve(&self, mut connection: TcpStream) {
        let _slower_without = connection.set_nodelay(true);
        if let Err(reason) = self.forward(&mut connection).await {
            tracing::warn!(selector = self.selector, reason, "a connection to a Service's pod");
        }
    }

    async fn forward(&self, connection: &mut TcpStream) -> Result<(), String> {
        let wanted = ListParams::default().labels(&self.selector);
        let pods = Typed::<Pod>::namespaced(&self.client, &self.namespace);
        let listed = timeout(LIMIT, pods.list(&wanted)).await;
        let listed = listed.map_err(|_| format!("no answer within {LIMIT:?}"))?;
        let listed = listed.map_err(|error| super::cluster::described(&error))?;
        let pod = listed.into_iter().find(is_ready).ok_or("no pod of it is ready")?;
        let port = number(&self.port, &pod).ok_or("the pod has no such port")?;
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let opened = timeout(LIMIT, pods.portforward(&pod.name_any(), &[port])).await;
        let opened = opened.map_err(|_| format!("no connection within {LIMIT:?}"))?;
        let mut forwarder = opened.map_err(|error| super::cluster::described(&error))?;
        let mut stream = forwarder.take_stream(port).ok_or("no stream to the pod")?;
        let _ended = copy_bidirectional(connection, &mut stream).await;
        Ok(())
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The number that a Service's target port has in a pod.
fn number(port: &IntOrString, pod: &Pod) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let containers = &pod.spec.as_ref()?.containers;
            let mut ports = containers.iter().flat_map(|one| one.ports.iter().flatten());
            let found = ports.find(|one| one.name.as_ref() == Some(name))?;
            u16::try_from(found.container_port).ok()
        }
    }
}

async fn accept(listener: TcpListener, target: Target) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((connection, _)) => {
                let target = target.clone();
                connections.spawn(async move { target.serve(connection).await });
            }
            // Out of file handles, for example; it may get better.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_by_namespace_name_and_port() {
        let read = |text: &str| text.parse::<ServiceName>();
        let name = read("shop/web:http").unwrap();
        assert_eq!(
            (name.namespace.as_str(), name.name.as_str(), name.port.as_deref()),
            ("shop", "web", Some("http"))
        );
        assert_eq!(read("shop/web").unwrap().port, None);
        for bad in ["shop", "/web", "shop/", "shop/web:", "a/b/c", "http://shop"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_named_target_port_is_the_pods_own() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1"},
            "spec": {"containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}
        }))
        .unwrap();
        assert!(is_ready(&pod) && !is_ready(&Pod::default()));
        assert_eq!(number(&IntOrString::String("http".to_owned()), &pod), Some(8080));
        assert_eq!(number(&IntOrString::String("grpc".to_owned()), &pod), None);
        assert_eq!(number(&IntOrString::Int(80), &pod), Some(80));
    }
}
