//! Attributes of the pods that spans come from, as Kubernetes' API has them.
//!
//! The API is watched by a task (`watch.rs`, the only part that knows a client of it), which keeps a table up to date (`table.rs`);
//! what becomes of a resource is read off the table, without waiting for anything.

mod attribute;
pub(crate) mod config;
mod extract;
mod image;
mod kind;
mod object;
mod resource;
mod table;
#[cfg(feature = "kubernetes")]
mod watch;
/// Without a client, every start is refused.
#[cfg(not(feature = "kubernetes"))]
mod watch {
    use std::path::Path;
    use std::sync::Arc;

    use super::config::Config;
    use super::table::Table;

    pub(super) struct Watching;

    pub(super) async fn start(
        _config: &Config,
        _id: &str,
        _service_account: &Path,
        _table: &Arc<Table>,
    ) -> Result<Watching, String> {
        Err("this program was built without a client of Kubernetes' API; build it with the feature `kubernetes`, or set `passthrough: true`".into())
    }
}

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use attribute::Attribute;
pub(crate) use config::Config;
use config::From;
use extract::Containers;
use kind::Kind;
use resource::Resource;
use table::{CONNECTION, Identifier, Pod, Table, canonical, source_key};

use crate::telemetry::{Counter, Registry};
use crate::trace_batch::TraceBatch;

/// Folder with the token and the authority's certificate of the pod's service account.
pub(crate) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The processor, shared by all pipelines that it is in.
pub(crate) struct PodAttributes {
    table: Arc<Table>,
    ways: Vec<Way>,
    /// Resources that nothing names a pod of.
    unnamed: Counter,
    /// Ends the watches when the processor goes.
    _watching: Option<watch::Watching>,
}

/// A way in which pods are known.
struct Way {
    /// Sources that a resource must have, by the keys of the table.
    sources: Vec<(From, String)>,
    found: Counter,
    missed: Counter,
}

impl PodAttributes {
    /// Begins to watch, and waits until the API has let it in.
    ///
    /// # Errors
    ///
    /// Why there is no way to the API, and what to do.
    pub(crate) async fn start(
        config: &Config,
        id: &str,
        service_account: &Path,
        registry: &Registry,
    ) -> Result<Self, String> {
        let table = Arc::new(Table::new(config, id, registry, table::MAX_BYTES));
        let watching = match config.watches() {
            true => Some(watch::start(config, id, service_account, &table).await?),
            false => None,
        };
        Ok(Self { _watching: watching, ..Self::over(table, id, registry) })
    }

    /// The processor over a table that something else keeps.
    fn over(table: Arc<Table>, id: &str, registry: &Registry) -> Self {
        let counter = |by: &str, status| {
            let labels = [("processor", id), ("pod_identifier", by), ("status", status)];
            let help = "Number of resources whose pod was known (success) or not (error).";
            registry.counter("otelcol_k8s_pod_association", help, &labels)
        };
        let way = |sources: Vec<(From, String)>, by: &str| Way {
            sources,
            found: counter(by, "success"),
            missed: counter(by, "error"),
        };
        let mut ways: Vec<_> = table
            .config()
            .pod_association
            .iter()
            .map(|association| {
                let sources = association.sources.iter();
                let by: Vec<_> = sources.clone().map(config::Source::written).collect();
                way(sources.map(|one| (one.from, source_key(one))).collect(), &by.join("+"))
            })
            .collect();
        if ways.is_empty() {
            ways.push(way(Vec::new(), CONNECTION));
        }
        Self { table, ways, unnamed: counter("", "error"), _watching: None }
    }

    /// Adds attributes to the resources of a batch that comes from this address, if that is known.
    pub(crate) fn process(&self, batch: &TraceBatch, from: Option<IpAddr>) -> TraceBatch {
        let address = from.map(|address| address.to_canonical().to_string());
        batch.map_resources(|message| {
            let mut resource = Resource::read(message);
            self.add_to(&mut resource, address.as_deref());
            resource.written()
        })
    }

    fn add_to(&self, resource: &mut Resource<'_>, address: Option<&str>) {
        let config = self.table.config();
        let named = self.identifier(resource, address);
        if config.passthrough || config.has(Attribute::PodIp) {
            let sources = named.iter().flat_map(|(_, identifier)| identifier);
            let address = sources.clone().find(|(source, _)| source == CONNECTION);
            if let Some((_, address)) = address {
                resource.put(Attribute::PodIp.name(), address);
            }
        }
        if config.passthrough {
            return;
        }
        let pod = named.as_ref().and_then(|(_, identifier)| self.table.pod(identifier));
        match (&named, &pod) {
            (Some((way, _)), Some(_)) => way.found.add(1),
            (Some((way, _)), None) => way.missed.add(1),
            (None, _) => self.unnamed.add(1),
        }
        if let Some(pod) = &pod {
            // What is watched is surer than what is read off a name.
            self.add_owners_names(resource, pod);
            for (name, value) in &pod.attributes {
                resource.put(name, value);
            }
            add_containers(resource, &pod.containers);
        }
        self.add_surroundings(resource, pod.as_deref());
    }

    /// The identifier of the pod of a resource, and the way that gave it.
    fn identifier(
        &self,
        resource: &Resource<'_>,
        address: Option<&str>,
    ) -> Option<(&Way, Identifier)> {
        if let [way] = self.ways.as_slice()
            && way.sources.is_empty()
        {
            let host = resource.text("host.name").filter(|host| is_address(host));
            let named = resource.text("k8s.pod.ip").or_else(|| resource.text("ip"));
            let address = named.or(address).or(host)?;
            return Some((way, vec![(CONNECTION.into(), canonical(address))]));
        }
        self.ways.iter().find_map(|way| {
            let value = |(from, name): &(From, String)| {
                let value = match from {
                    From::Connection => address?,
                    From::ResourceAttribute => resource.text(name)?,
                };
                let is_usable = name != "host.name" || is_address(value);
                let value = match name.as_str() {
                    "host.name" | "k8s.pod.ip" => canonical(value),
                    _ => value.to_owned(),
                };
                is_usable.then(|| (name.clone(), value))
            };
            Some((way, way.sources.iter().map(value).collect::<Option<_>>()?))
        })
    }

    /// Adds the names of who made a pod's owner, where that is watched.
    fn add_owners_names(&self, resource: &mut Resource<'_>, pod: &Pod) {
        let config = self.table.config();
        for (kind, uid) in &pod.owners {
            let Some(other) = self.table.other(*kind, uid) else { continue };
            let Some((above, name, uid)) = &other.owner else { continue };
            let (by_name, by_uid) = match above {
                Kind::Deployment => (Attribute::DeploymentName, Attribute::DeploymentUid),
                _ => (Attribute::CronJobName, Attribute::CronJobUid),
            };
            for (attribute, value) in [(by_name, name), (by_uid, uid)] {
                if config.has(attribute) {
                    resource.put(attribute.name(), value);
                }
            }
        }
    }

    /// Adds attributes of what a pod is in and belongs to; of a pod that is not known, those that the resource names.
    fn add_surroundings(&self, resource: &mut Resource<'_>, pod: Option<&Pod>) {
        let config = self.table.config();
        let of_pod = |kind: Kind| -> Option<String> {
            let pod = pod?;
            match kind {
                Kind::Namespace => Some(pod.namespace.clone()),
                Kind::Node => Some(pod.node.clone()),
                Kind::Deployment | Kind::CronJob => pod.owners.iter().find_map(|(of, uid)| {
                    let other = self.table.other(*of, uid)?;
                    let (above, _, uid) = other.owner.as_ref()?;
                    (*above == kind).then(|| uid.clone())
                }),
                _ => {
                    let own = pod.owners.iter().find(|(of, _)| *of == kind);
                    own.map(|(_, uid)| uid.clone())
                }
            }
        };
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod) {
            let by = if kind.is_by_name() { "name" } else { "uid" };
            let named = || resource.text(&format!("k8s.{}.{by}", kind.name())).map(str::to_owned);
            let key = of_pod(kind).filter(|key| !key.is_empty()).or_else(named);
            let Some(key) = key else { continue };
            if let Some(other) = self.table.other(kind, &key) {
                for (name, value) in &other.attributes {
                    resource.put(name, value);
                }
                if kind == Kind::Node && config.has(Attribute::NodeUid) {
                    resource.put(Attribute::NodeUid.name(), &other.uid);
                }
            }
            if kind == Kind::Namespace && config.has(Attribute::ServiceNamespace) {
                resource.put(Attribute::ServiceNamespace.name(), &key);
            }
        }
        // The cluster has no id of its own.
        if pod.is_some()
            && config.has(Attribute::ClusterUid)
            && let Some(namespace) = self.table.other(Kind::Namespace, "kube-system")
        {
            resource.put(Attribute::ClusterUid.name(), &namespace.uid);
        }
    }
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Adds attributes of the container that a resource names, or of the only one.
fn add_containers(resource: &mut Resource<'_>, containers: &Containers) {
    let by_id = || resource.text(Attribute::ContainerId.name());
    let name = match (resource.text(Attribute::ContainerName.name()), by_id()) {
        (Some(name), _) => Some(name),
        (None, Some(id)) => containers.names.get(id).map(String::as_str),
        (None, None) if containers.names.len() == 1 => {
            containers.names.values().next().map(String::as_str)
        }
        (None, None) if containers.by_name.len() == 1 => {
            containers.by_name.keys().next().map(String::as_str)
        }
        (None, None) => None,
    };
    let Some(container) = name.and_then(|name| containers.by_name.get(name)) else { return };
    let run = match resource.number("k8s.container.restart_count") {
        Some(count) => container.runs.get(&count),
        None => container.runs.values().next_back(),
    };
    for (name, value) in &container.texts {
        resource.put(name, value);
    }
    for (name, value) in &container.lists {
        resource.put_list(name, value);
    }
    if let Some((id, digest)) = run {
        if let Some(id) = id {
            resource.put(Attribute::ContainerId.name(), id);
        }
        if let Some(digest) = digest {
            resource.put_list(Attribute::ContainerImageRepoDigests.name(), digest);
        }
    }
}

#[cfg(test)]
mod tests;
