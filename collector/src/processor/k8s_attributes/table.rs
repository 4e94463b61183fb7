//! Knowledge of a cluster: pods by what resources name them by, and other objects by name or uid. It has a bound, and what is left
//! out for it is counted.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::time::Instant;

use super::attribute::Attribute;
use super::config::{Config, From, Source};
use super::extract::{self, Containers};
use super::kind::Kind;
use super::object::Object;
use crate::telemetry::{Counter, Gauge, Registry};

/// How many bytes all that is known may come to.
pub(super) const MAX_BYTES: usize = 256 << 20;
/// Bytes of an entry beside its texts.
const ENTRY_BYTES: usize = 256;

/// Identifier of a pod: the sources of one way, each with its value.
pub(super) type Identifier = Vec<(String, String)>;

/// The key of the address that a request comes from.
pub(super) const CONNECTION: &str = "connection";

/// A pod, as its spans need it.
#[derive(Debug, Default)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) node: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) containers: Containers,
    /// The uids of its owners, by kind.
    pub(super) owners: Vec<(Kind, String)>,
    pub(super) is_excluded: bool,
    uid: String,
    started: String,
    identifiers: Vec<Identifier>,
}

/// An object that is no pod, as spans need it.
#[derive(Debug, Default)]
pub(super) struct Other {
    pub(super) uid: String,
    pub(super) attributes: BTreeMap<String, String>,
    /// The deployment of a replica set, or the cron job of a job: its name and uid.
    pub(super) owner: Option<(Kind, String, String)>,
}

/// All that is known, with its counters.
pub(super) struct Table {
    config: Config,
    known: RwLock<Known>,
    max_bytes: usize,
    bytes: Gauge,
    size: Gauge,
    added: Counter,
    updated: Counter,
    deleted: Counter,
    left_out: Counter,
    /// Watches that broke.
    pub(super) broken: Counter,
    id: String,
}

#[derive(Default)]
struct Known {
    pods: HashMap<String, Entry>,
    by_identifier: HashMap<Identifier, Arc<Pod>>,
    others: HashMap<(Kind, String), Arc<Other>>,
    /// Ends that have a time: of a pod, or one identifier of it.
    ends: VecDeque<(Instant, String, Option<Identifier>)>,
    bytes: usize,
    is_full: bool,
}

struct Entry {
    pod: Arc<Pod>,
    has_ended: bool,
}

impl Table {
    pub(super) fn new(config: &Config, id: &str, registry: &Registry, max_bytes: usize) -> Self {
        let labels = [("processor", id)];
        let counter = |name, help| registry.counter(name, help, &labels);
        Self {
            config: config.clone(),
            known: RwLock::default(),
            max_bytes,
            bytes: registry.gauge(
                "otelcol_processor_k8s_attributes_bytes",
                "Size of the cluster cache, in bytes.",
                &labels,
            ),
            size: registry.gauge(
                "otelcol_k8s_watcher_pod_cache_size",
                "Number of pods known, including those that have just ended.",
                &labels,
            ),
            added: counter("otelcol_k8s_watcher_pod_added", "Number of pods added."),
            updated: counter("otelcol_k8s_watcher_pod_updated", "Number of changes of pods."),
            deleted: counter("otelcol_k8s_watcher_pod_deleted", "Number of pods deleted."),
            left_out: counter(
                "otelcol_processor_k8s_attributes_left_out",
                "Number of objects of the cluster not cached for lack of room; spans lack their attributes.",
            ),
            broken: counter(
                "otelcol_processor_k8s_attributes_watch_errors",
                "Number of watches of the cluster that broke; they are restarted.",
            ),
            id: id.to_owned(),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod that is known by this; none for one whose spans get no attributes.
    pub(super) fn pod(&self, identifier: &Identifier) -> Option<Arc<Pod>> {
        let pod = self.known().by_identifier.get(identifier).cloned();
        pod.filter(|pod| !pod.is_excluded)
    }

    /// The object that is no pod, by its name or uid.
    pub(super) fn other(&self, kind: Kind, key: &str) -> Option<Arc<Other>> {
        self.known().others.get(&(kind, key.to_owned())).cloned()
    }

    /// Takes an object that came or changed.
    pub(super) fn apply(&self, kind: Kind, object: &Object) {
        let mut known = self.change();
        match kind {
            Kind::Pod => self.apply_pod(&mut known, object),
            _ => self.apply_other(&mut known, kind, object),
        }
        self.measure(&known);
    }

    /// Takes an object that went. A pod is known for a while.
    pub(super) fn delete(&self, kind: Kind, object: &Object) {
        let mut known = self.change();
        match kind {
            Kind::Pod => self.end(&mut known, &object.uid),
            _ => known.forget_other(kind, key(kind, object)),
        }
        self.measure(&known);
    }

    /// Takes it that these are all objects of a kind.
    pub(super) fn keep_only(&self, kind: Kind, seen: &HashSet<String>) {
        let mut known = self.change();
        if kind == Kind::Pod {
            let gone = known
                .pods
                .iter()
                .filter(|(uid, entry)| !entry.has_ended && !seen.contains(uid.as_str()));
            for uid in gone.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
                self.end(&mut known, &uid);
            }
        } else {
            let gone = known
                .others
                .iter()
                .filter(|((of, _), other)| *of == kind && !seen.contains(&other.uid));
            for key in gone.map(|((_, key), _)| key.clone()).collect::<Vec<_>>() {
                known.forget_other(kind, &key);
            }
        }
        self.measure(&known);
    }

    /// Forgets what is due, and returns when the next is.
    pub(super) fn forget_ended(&self) -> Option<Instant> {
        let mut known = self.change();
        let now = Instant::now();
        while let Some((due, _, _)) = known.ends.front() {
            if *due > now {
                break;
            }
            if let Some((_, uid, identifier)) = known.ends.pop_front() {
                known.forget(&uid, identifier.as_ref());
            }
        }
        self.measure(&known);
        known.ends.front().map(|(due, _, _)| *due)
    }

    fn measure(&self, known: &Known) {
        self.bytes.set(known.bytes as u64);
        self.size.set(known.pods.len() as u64);
    }

    fn end(&self, known: &mut Known, uid: &str) {
        let Some(entry) = known.pods.get_mut(uid).filter(|entry| !entry.has_ended) else { return };
        entry.has_ended = true;
        self.deleted.add(1);
        known.ends.push_back((self.due(), uid.to_owned(), None));
    }

    fn due(&self) -> Instant {
        Instant::now() + self.config.pod_delete_grace_period
    }

    /// Returns whether there is room for so much; if not, it is counted, and the first time logged.
    fn has_room(&self, known: &mut Known, bytes: usize, kind: Kind, name: &str) -> bool {
        let has_room = known.bytes + bytes <= self.max_bytes;
        if !has_room {
            self.left_out.add(1);
            if !known.is_full {
                tracing::warn!(
                    processor = self.id,
                    kind = kind.name(),
                    name,
                    bytes = self.max_bytes,
                    "what is known of the cluster has come to its bound; spans lack the attributes of what is left out; watch less, by `filter`, or extract fewer labels and annotations"
                );
            }
        }
        known.is_full = !has_room;
        has_room
    }

    fn apply_pod(&self, known: &mut Known, object: &Object) {
        let pod = Arc::new(self.pod_of(object));
        let old = known.pods.get(&pod.uid).map(|entry| Arc::clone(&entry.pod));
        match &old {
            Some(_) => self.updated.add(1),
            None => self.added.add(1),
        }
        let freed = old.as_ref().map_or(0, |old| old.byte_count());
        let bytes = pod.byte_count();
        if bytes > freed && !self.has_room(known, bytes - freed, Kind::Pod, &object.name) {
            // What was known of it is not so any more.
            if old.is_some() {
                known.forget(&pod.uid, None);
            }
            return;
        }
        known.bytes = (known.bytes + bytes).saturating_sub(freed);
        for identifier in &pod.identifiers {
            // An address is a newer pod's where news of an older one come later.
            let is_of_newer = known.by_identifier.get(identifier).is_some_and(|other| {
                let is_there = known.pods.get(&other.uid).is_some_and(|entry| !entry.has_ended);
                other.uid != pod.uid && is_there && other.started > pod.started
            });
            if !is_of_newer {
                known.by_identifier.insert(identifier.clone(), Arc::clone(&pod));
            }
        }
        for identifier in old.iter().flat_map(|old| &old.identifiers) {
            if !pod.identifiers.contains(identifier) {
                known.ends.push_back((self.due(), pod.uid.clone(), Some(identifier.clone())));
            }
        }
        known.pods.insert(pod.uid.clone(), Entry { pod, has_ended: false });
    }

    fn apply_other(&self, known: &mut Known, kind: Kind, object: &Object) {
        let above = match kind {
            Kind::ReplicaSet => Some(Kind::Deployment),
            Kind::Job => Some(Kind::CronJob),
            _ => None,
        };
        let is_above = |owner: &&super::object::Owner| {
            owner.is_controller && above.is_some() && Kind::of_api(&owner.kind) == above
        };
        let owner = object.owners.iter().find(is_above);
        let other = Other {
            uid: object.uid.clone(),
            attributes: extract::of_other(&self.config, kind, object),
            owner: above
                .zip(owner)
                .map(|(kind, owner)| (kind, owner.name.clone(), owner.uid.clone())),
        };
        let key = key(kind, object);
        let bytes = other.byte_count(key);
        known.forget_other(kind, key);
        if self.has_room(known, bytes, kind, &object.name) {
            known.bytes += bytes;
            known.others.insert((kind, key.to_owned()), Arc::new(other));
        }
    }

    fn pod_of(&self, object: &Object) -> Pod {
        let is_excluded = extract::is_excluded(&self.config, object);
        let owners = object
            .owners
            .iter()
            .filter_map(|owner| Some((Kind::of_api(&owner.kind)?, owner.uid.clone())));
        let mut pod = Pod {
            namespace: object.namespace.clone(),
            node: object.spec.node_name.clone(),
            owners: owners.collect(),
            is_excluded,
            uid: object.uid.clone(),
            started: object.status.start_time.clone(),
            ..Pod::default()
        };
        if !is_excluded {
            pod.attributes = extract::of_pod(&self.config, object);
            pod.containers = extract::containers(&self.config, object);
        }
        pod.identifiers = identifiers(&self.config, object, &pod);
        pod
    }
}

impl Known {
    /// Forgets a pod, if it has ended, or one identifier, if it has that no more.
    fn forget(&mut self, uid: &str, identifier: Option<&Identifier>) {
        let is_its = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| pod.uid == uid);
        if let Some(identifier) = identifier {
            let has_it =
                self.pods.get(uid).is_some_and(|entry| entry.pod.identifiers.contains(identifier));
            if !has_it && is_its(self.by_identifier.get(identifier)) {
                self.by_identifier.remove(identifier);
            }
            return;
        }
        let Some(entry) = self.pods.remove(uid) else { return };
        self.bytes = self.bytes.saturating_sub(entry.pod.byte_count());
        for identifier in &entry.pod.identifiers {
            if is_its(self.by_identifier.get(identifier)) {
                self.by_identifier.remove(identifier);
            }
        }
    }

    fn forget_other(&mut self, kind: Kind, key: &str) {
        if let Some(other) = self.others.remove(&(kind, key.to_owned())) {
            self.bytes = self.bytes.saturating_sub(other.byte_count(key));
        }
    }
}

fn key(kind: Kind, object: &Object) -> &str {
    if kind.is_by_name() { &object.name } else { &object.uid }
}

/// All that a pod is known by: each way of the config, and always its uid and its addresses.
fn identifiers(config: &Config, object: &Object, pod: &Pod) -> Vec<Identifier> {
    // Pods in the network of their node share its address.
    let addresses: Vec<String> = object.addresses().map(canonical).collect();
    let own = |address: &&String| !object.spec.host_network && !address.is_empty();
    let values = |source: &Source| -> Vec<String> {
        let text = |text: &str| vec![text.to_owned()];
        match (source.from, source.name.as_str()) {
            (From::Connection, _) => addresses.iter().filter(own).cloned().collect(),
            (_, "k8s.namespace.name") => text(&object.namespace),
            (_, "k8s.pod.name") => text(&object.name),
            (_, "k8s.pod.uid") => text(&object.uid),
            (_, "host.name" | "k8s.pod.ip") => addresses.clone(),
            (_, name) if name == Attribute::ContainerId.name() => {
                pod.containers.names.keys().cloned().collect()
            }
            (_, name) => pod.attributes.get(name).cloned().into_iter().collect(),
        }
    };
    let mut all: Vec<Identifier> = Vec::new();
    for way in &config.pod_association {
        let mut ways: Vec<Identifier> = vec![Vec::new()];
        for source in &way.sources {
            let values: Vec<_> =
                values(source).into_iter().filter(|value| !value.is_empty()).collect();
            ways = ways
                .iter()
                .flat_map(|way| {
                    values.iter().map(|value| {
                        let mut way = way.clone();
                        way.push((source_key(source), value.clone()));
                        way
                    })
                })
                .collect();
        }
        all.extend(ways.into_iter().filter(|way| !way.is_empty()));
    }
    let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    if !object.uid.is_empty() {
        all.push(one("k8s.pod.uid", &object.uid));
    }
    for address in addresses.iter().filter(own) {
        all.push(one(CONNECTION, address));
        all.push(one("k8s.pod.ip", address));
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The key of a source within an identifier.
pub(super) fn source_key(source: &Source) -> String {
    match source.from {
        From::Connection => CONNECTION.into(),
        From::ResourceAttribute => source.name.clone(),
    }
}

/// An address as it is always written; what is none stays as it is.
pub(super) fn canonical(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => address.to_owned(),
    }
}

impl Pod {
    fn byte_count(&self) -> usize {
        let attributes = texts(&self.attributes);
        let identifiers = self.identifiers.iter().flatten().map(|(a, b)| a.len() + b.len());
        let containers = self.containers.by_name.iter().map(|(name, container)| {
            let all = container.texts.iter().chain(&container.lists);
            let runs = container.runs.values().map(|(id, digest)| {
                [id, digest].into_iter().flatten().map(String::len).sum::<usize>()
            });
            name.len()
                + ENTRY_BYTES
                + all.map(|(_, value)| value.len()).sum::<usize>()
                + runs.sum::<usize>()
        });
        let names = self.containers.names.iter().map(|(id, name)| id.len() + name.len());
        2 * ENTRY_BYTES
            + attributes
            + identifiers.map(|bytes| bytes + 64).sum::<usize>()
            + containers.sum::<usize>()
            + names.sum::<usize>()
            + self.owners.len() * 64
    }
}

impl Other {
    fn byte_count(&self, key: &str) -> usize {
        let owner = self.owner.as_ref().map_or(0, |(_, name, uid)| name.len() + uid.len());
        ENTRY_BYTES + key.len() + self.uid.len() + texts(&self.attributes) + owner
    }
}

/// The bytes of a map's keys and values.
fn texts(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len() + 64).sum()
}
