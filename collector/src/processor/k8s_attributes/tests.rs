//! Resources before and behind the processor, by what is known of a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::advance;

use super::object::{Object, Owner};
use super::table::Table;
use super::{Config, Kind, PodAttributes};
use crate::settings::decode::decode;
use crate::settings::{Diagnostics, Purpose};

use crate::settings::node::Node;
use crate::telemetry::Registry;
use crate::trace_batch::{AnyValue, TraceBatch};

const MUCH: usize = 1 << 20;

/// A config of these settings, as a file has them.
pub(super) fn config(settings: &str) -> Config {
    let root = Node::parse("test", settings).unwrap();
    let mut diagnostics = Diagnostics::new(&root, Purpose::Run);
    let config = Config::decode(&mut diagnostics);
    assert_eq!(diagnostics.finish(), Ok(Vec::new()));
    config.unwrap()
}

/// All that is wrong with these settings.
fn findings(settings: &str) -> Vec<String> {
    let root = Node::parse("test", settings).unwrap();
    let mut diagnostics = Diagnostics::new(&root, Purpose::Run);
    Config::decode(&mut diagnostics);
    diagnostics.finish().unwrap_err()
}

struct Rig {
    table: Arc<Table>,
    processor: PodAttributes,
    registry: Registry,
}

impl Rig {
    fn new(settings: &str) -> Self {
        Self::bounded(settings, MUCH)
    }

    fn bounded(settings: &str, bytes: usize) -> Self {
        let registry = Registry::default();
        let table = Arc::new(Table::new(&config(settings), "k8s_attributes", &registry, bytes));
        let processor = PodAttributes::over(Arc::clone(&table), "k8s_attributes", &registry);
        Self { table, processor, registry }
    }

    fn knows(&self, pod: &Object) {
        self.table.apply(Kind::Pod, pod);
    }

    /// The attributes of a resource with these, sent from this address.
    fn attributes(&self, from: &str, attributes: &Value) -> BTreeSet<String> {
        let attributes: Vec<_> = attributes.as_object().unwrap().iter().collect();
        let attributes: Vec<_> = attributes
            .into_iter()
            .map(|(key, value)| match value.as_i64() {
                Some(number) => json!({ "key": key, "value": { "intValue": number } }),
                None => json!({ "key": key, "value": { "stringValue": value } }),
            })
            .collect();
        let request = json!({ "resourceSpans": [{
            "resource": { "attributes": attributes },
            "scopeSpans": [{ "spans": [{ "name": "s" }] }],
        }] });
        let batch = TraceBatch::from_json(request.to_string().as_bytes()).unwrap();
        let batch = self.processor.process(&batch, from.parse().ok());
        let batch = TraceBatch::from_protobuf(batch.to_protobuf().into()).unwrap();
        let resource = batch.resources().next().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        resource
            .attributes()
            .iter()
            .map(|(key, value)| match value {
                AnyValue::String(value) => format!("{}={}", text(key), text(value)),
                other => format!("{}={other:?}", text(key)),
            })
            .collect()
    }

    fn metric(&self, line: &str) -> bool {
        self.registry.render(true).lines().any(|one| one == line)
    }
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn object(name: &str, uid: &str) -> Object {
    Object {
        name: name.into(),
        namespace: "shop".into(),
        uid: uid.into(),
        created: 1_796_000_000,
        created_text: "2026-11-29T19:33:20Z".into(),
        ..Object::default()
    }
}

/// A pod of a deployment.
fn pod(name: &str, uid: &str, address: &str) -> Object {
    let mut pod = object(name, uid);
    pod.owners = vec![Owner {
        kind: "ReplicaSet".into(),
        name: "cart-5d4f8c".into(),
        uid: "rs-1".into(),
        is_controller: true,
    }];
    pod.labels.insert("pod-template-hash".into(), "5d4f8c".into());
    pod.labels.insert("app.kubernetes.io/name".into(), "cart".into());
    pod.spec = serde_json::from_value(json!({
        "nodeName": "node-a", "containers": [{ "name": "app", "image": "reg:5000/cart:1.2" }],
    }))
    .unwrap();
    pod.status = serde_json::from_value(json!({
        "podIP": address, "podIPs": [{ "ip": address }, { "ip": format!("fd00::{}", uid.len()) }],
        "startTime": "2026-11-29T19:33:21Z",
        "containerStatuses": [{ "name": "app", "containerID": "containerd://c1", "restartCount": 2,
            "imageID": "reg:5000/cart@sha256:ab" }],
    }))
    .unwrap();
    pod
}

const BY_DEFAULT: [&str; 8] = [
    "container.image.name=reg:5000/cart",
    "k8s.deployment.name=cart",
    "k8s.namespace.name=shop",
    "k8s.node.name=node-a",
    "k8s.pod.name=cart-1",
    "k8s.pod.start_time=2026-11-29T19:33:20Z",
    "k8s.pod.uid=u1",
    "container.image.tags=",
];

/// The same set without what is no text.
fn texts(all: BTreeSet<String>) -> BTreeSet<String> {
    all.into_iter()
        .map(|one| match one.split_once("container.image.tags=") {
            Some(_) => "container.image.tags=".to_owned(),
            None => one,
        })
        .collect()
}

#[test]
fn a_pod_is_known_by_the_address_that_a_request_comes_from() {
    let rig = Rig::new("");
    rig.knows(&pod("cart-1", "u1", "10.0.0.7"));
    for from in ["10.0.0.7", "::ffff:10.0.0.7", "fd00::2"] {
        assert_eq!(texts(rig.attributes(from, &json!({}))), set(&BY_DEFAULT), "{from}");
    }
    assert_eq!(rig.attributes("10.0.0.8", &json!({})), set(&[]));
    assert_eq!(rig.attributes("", &json!({})), set(&[]));
    // What an agent put there goes before the agent's own address.
    let named = rig.attributes("10.0.0.9", &json!({ "k8s.pod.ip": "10.0.0.7" }));
    assert!(named.contains("k8s.pod.name=cart-1"), "{named:?}");
    let found = "otelcol_k8s_pod_association_total{processor=\"k8s_attributes\",pod_identifier=\"connection\",status=\"success\"} 4";
    assert!(rig.metric(found), "{}", rig.registry.render(true));
    let missed = "otelcol_k8s_pod_association_total{processor=\"k8s_attributes\",pod_identifier=\"connection\",status=\"error\"} 1";
    assert!(rig.metric(missed), "{}", rig.registry.render(true));
}

#[test]
fn what_a_resource_has_is_kept_unless_it_is_empty() {
    let rig = Rig::new("{extract: {metadata: [k8s.pod.name, k8s.node.name]}}");
    rig.knows(&pod("cart-1", "u1", "10.0.0.7"));
    let had = json!({ "k8s.pod.name": "mine", "k8s.node.name": "", "other": "x" });
    let expected = set(&["k8s.pod.name=mine", "k8s.node.name=node-a", "other=x"]);
    assert_eq!(rig.attributes("10.0.0.7", &had), expected);
}

#[test]
fn ways_are_tried_in_their_order_and_need_all_their_sources() {
    let rig = Rig::new(
        "{extract: {metadata: [k8s.pod.uid]}, pod_association: [
            {sources: [{from: resource_attribute, name: k8s.pod.name}, {from: resource_attribute, name: k8s.namespace.name}]},
            {sources: [{from: resource_attribute, name: container.id}]},
            {sources: [{from: resource_attribute, name: host.name}]},
            {sources: [{from: connection}]}]}",
    );
    rig.knows(&pod("cart-1", "u1", "10.0.0.7"));
    rig.knows(&{
        let mut other = pod("cart-2", "u22", "10.0.0.8");
        other.status.container_statuses[0].container_id = "containerd://c2".into();
        other
    });
    let uid = |attributes: Value| {
        let all = rig.attributes("10.0.0.8", &attributes);
        all.into_iter().find(|one| one.starts_with("k8s.pod.uid="))
    };
    let first = Some("k8s.pod.uid=u1".to_owned());
    assert_eq!(uid(json!({ "k8s.pod.name": "cart-1", "k8s.namespace.name": "shop" })), first);
    assert_eq!(uid(json!({ "container.id": "c1" })), first);
    assert_eq!(uid(json!({ "host.name": "10.0.0.7" })), first);
    // One source is missing, or is no address: the next way.
    let second = Some("k8s.pod.uid=u22".to_owned());
    assert_eq!(uid(json!({ "k8s.pod.name": "cart-1", "host.name": "web" })), second);
    // The first way that a resource has all of counts, be it right or not.
    assert_eq!(uid(json!({ "container.id": "c9" })), None);
}

#[test]
fn attributes_are_made_of_labels_and_annotations() {
    let rig = Rig::new(
        "{extract: {metadata: [], otel_annotations: true,
            labels: [{key: app.kubernetes.io/name, tag_name: app}, {key: none}, {key: pod-template-hash},
                {key_regex: 'tier-(.*)', tag_name: 't.$1'}, {key_regex: 'plain.*'}, {key: team, from: namespace},
                {key: zone, from: node, tag_name: zone}, {key: owner, from: deployment}],
            annotations: [{key: note, tag_name: note}]}}",
    );
    let mut pod = pod("cart-1", "u1", "10.0.0.7");
    for label in ["tier-one", "tier-two", "plain-x"] {
        pod.labels.insert(label.into(), "1".into());
    }
    pod.annotations.insert("note".into(), "n".into());
    pod.annotations.insert("resource.opentelemetry.io/service.name".into(), "named".into());
    rig.knows(&pod);
    let labelled = |kind, name: &str, uid: &str, label: &str| {
        let mut object = object(name, uid);
        object.labels.insert(label.into(), "yes".into());
        rig.table.apply(kind, &object);
    };
    labelled(Kind::Namespace, "shop", "n1", "team");
    labelled(Kind::Node, "node-a", "n2", "zone");
    labelled(Kind::Deployment, "cart", "d1", "owner");
    let mut replicas = object("cart-5d4f8c", "rs-1");
    replicas.owners = vec![Owner {
        kind: "Deployment".into(),
        name: "cart".into(),
        uid: "d1".into(),
        is_controller: true,
    }];
    rig.table.apply(Kind::ReplicaSet, &replicas);
    let expected = set(&[
        "app=cart",
        "k8s.pod.label.pod-template-hash=5d4f8c",
        "t.one=1",
        "t.two=1",
        "k8s.pod.label.plain-x=1",
        "note=n",
        "service.name=named",
        "k8s.namespace.label.team=yes",
        "zone=yes",
        "k8s.deployment.label.owner=yes",
    ]);
    assert_eq!(rig.attributes("10.0.0.7", &json!({})), expected);
    // A resource that names what it is in has these attributes even where its pod is not known.
    let named = rig.attributes("10.9.9.9", &json!({ "k8s.namespace.name": "shop" }));
    assert_eq!(named, set(&["k8s.namespace.name=shop", "k8s.namespace.label.team=yes"]));
}

#[test]
fn names_of_owners_are_read_off_or_looked_up() {
    let all = "{extract: {metadata: [k8s.deployment.name, k8s.deployment.uid, k8s.replicaset.name, k8s.job.name, k8s.cronjob.name, service.name]}}";
    let rig = Rig::new(all);
    let mut alone = pod("cart-1", "u1", "10.0.0.1");
    alone.labels.remove("app.kubernetes.io/name");
    let mut of_job = object("tidy-29933333-x", "u2");
    of_job.status.pod_ip = "10.0.0.2".into();
    of_job.owners =
        vec![Owner { kind: "Job".into(), name: "tidy-29933333".into(), ..Owner::default() }];
    let mut of_own_job = of_job.clone();
    (of_own_job.uid, of_own_job.status.pod_ip) = ("u3".into(), "10.0.0.3".into());
    of_own_job.owners[0].name = "tidy-20260407".into();
    let mut bare = alone.clone();
    (bare.uid, bare.status.pod_ip) = ("u4".into(), "10.0.0.4".into());
    bare.status.pod_ips.clear();
    bare.labels.remove("pod-template-hash");
    for pod in [&alone, &of_job, &of_own_job, &bare] {
        rig.knows(pod);
    }
    let of = |address: &str| rig.attributes(address, &json!({}));
    let deployed =
        ["k8s.deployment.name=cart", "k8s.replicaset.name=cart-5d4f8c", "service.name=cart"];
    assert_eq!(of("10.0.0.1"), set(&deployed));
    let made = ["k8s.job.name=tidy-29933333", "k8s.cronjob.name=tidy", "service.name=tidy"];
    assert_eq!(of("10.0.0.2"), set(&made));
    assert_eq!(of("10.0.0.3"), set(&["k8s.job.name=tidy-20260407", "service.name=tidy-20260407"]));
    assert_eq!(
        of("10.0.0.4"),
        set(&["k8s.replicaset.name=cart-5d4f8c", "service.name=cart-5d4f8c"])
    );
    // A replica set that comes later is looked up all the same.
    let mut replicas = object("cart-5d4f8c", "rs-1");
    replicas.owners = vec![Owner {
        kind: "Deployment".into(),
        name: "the-cart".into(),
        uid: "d1".into(),
        is_controller: true,
    }];
    rig.table.apply(Kind::ReplicaSet, &replicas);
    let found = of("10.0.0.1");
    assert!(found.contains("k8s.deployment.name=the-cart"), "{found:?}");
    assert!(found.contains("k8s.deployment.uid=d1"), "{found:?}");
}

#[test]
fn containers_are_those_that_resources_name() {
    let rig = Rig::new(
        "{extract: {metadata: [container.id, container.image.tags, container.image.repo_digests, k8s.container.name, service.version, service.instance.id]}}",
    );
    let mut two = pod("cart-1", "u1", "10.0.0.7");
    two.spec.containers.push(super::object::Planned { name: "side".into(), image: "side".into() });
    rig.knows(&two);
    let of = |attributes: Value| rig.attributes("10.0.0.7", &attributes);
    let app = of(json!({ "k8s.container.name": "app" }));
    for expected in [
        "container.id=c1",
        "k8s.container.name=app",
        "service.version=1.2",
        "service.instance.id=shop.cart-1.app",
    ] {
        assert!(app.contains(expected), "{expected}: {app:?}");
    }
    assert!(app.iter().any(|one| one.starts_with("container.image.repo_digests=")), "{app:?}");
    let other_run = of(json!({ "k8s.container.name": "app", "k8s.container.restart_count": 1 }));
    assert!(!other_run.contains("container.id=c1"), "{other_run:?}");
    assert_eq!(of(json!({ "k8s.container.name": "none" })).len(), 1);
    assert!(of(json!({ "container.id": "c1" })).contains("k8s.container.name=app"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_took_the_place_of_another_has_its_address() {
    let rig = Rig::new("{extract: {metadata: [k8s.pod.name]}, pod_delete_grace_period: 60s}");
    let name = |address: &str| rig.attributes(address, &json!({})).into_iter().next();
    let (old, mut new) = (pod("old", "u1", "10.0.0.7"), pod("new", "u22", "10.0.0.7"));
    rig.knows(&old);
    rig.table.delete(Kind::Pod, &old);
    // Spans that come late are still those of the pod that ended.
    advance(Duration::from_secs(59)).await;
    rig.table.forget_ended();
    assert_eq!(name("10.0.0.7").as_deref(), Some("k8s.pod.name=old"));
    new.status.start_time = "2026-11-29T20:00:00Z".into();
    rig.knows(&new);
    assert_eq!(name("10.0.0.7").as_deref(), Some("k8s.pod.name=new"));
    advance(Duration::from_secs(2)).await;
    assert_eq!(rig.table.forget_ended(), None);
    assert_eq!(name("10.0.0.7").as_deref(), Some("k8s.pod.name=new"));
    // News of an older pod that has not ended come late.
    rig.knows(&pod("older", "u333", "10.0.0.7"));
    assert_eq!(name("10.0.0.7").as_deref(), Some("k8s.pod.name=new"));
    // One whose address changes is known by the new one at once, and by the old one for a while.
    new.status.pod_ip = "10.0.0.9".into();
    new.status.pod_ips.clear();
    rig.knows(&new);
    assert_eq!(name("10.0.0.9").as_deref(), Some("k8s.pod.name=new"));
    advance(Duration::from_secs(61)).await;
    rig.table.forget_ended();
    assert_eq!(name("10.0.0.7"), None);
    // What a new list does not have has ended.
    rig.table.keep_only(Kind::Pod, &["u22".to_owned()].into());
    advance(Duration::from_secs(61)).await;
    rig.table.forget_ended();
    assert_eq!(name("10.0.0.9").as_deref(), Some("k8s.pod.name=new"));
    assert!(rig.metric("otelcol_k8s_watcher_pod_cache_size{processor=\"k8s_attributes\"} 1"));
}

#[test]
fn some_pods_get_no_attributes() {
    let rig = Rig::new("{exclude: {pods: [{name: '^agent'}]}}");
    let mut ignored = pod("cart-1", "u1", "10.0.0.1");
    ignored.annotations.insert("opentelemetry.io/k8s-processor/ignore".into(), " True".into());
    let mut of_host = pod("host-1", "u22", "10.0.0.3");
    of_host.spec.host_network = true;
    for pod in [&ignored, &pod("agent-1", "u333", "10.0.0.2"), &of_host] {
        rig.knows(pod);
    }
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        assert_eq!(rig.attributes(address, &json!({})), set(&[]), "{address}");
    }
}

#[test]
fn passing_through_sets_the_address_alone() {
    let rig = Rig::new("{passthrough: true}");
    rig.knows(&pod("cart-1", "u1", "10.0.0.7"));
    assert_eq!(rig.attributes("10.0.0.7", &json!({})), set(&["k8s.pod.ip=10.0.0.7"]));
    let had = json!({ "k8s.pod.ip": "10.0.0.1" });
    assert_eq!(rig.attributes("10.0.0.7", &had), set(&["k8s.pod.ip=10.0.0.1"]));
}

#[test]
fn what_is_known_has_a_bound() {
    let rig = Rig::bounded("{extract: {metadata: [k8s.pod.name]}}", 6_000);
    for index in 0..10 {
        rig.knows(&pod(&format!("cart-{index}"), &format!("u{index}"), &format!("10.0.0.{index}")));
    }
    let known =
        (0..10).filter(|index| !rig.attributes(&format!("10.0.0.{index}"), &json!({})).is_empty());
    let known = known.count();
    assert!((1..10).contains(&known), "{known}");
    let left_out = format!(
        "otelcol_processor_k8s_attributes_left_out_total{{processor=\"k8s_attributes\"}} {}",
        10 - known
    );
    assert!(rig.metric(&left_out), "{}", rig.registry.render(true));
    // What goes makes room.
    rig.table.keep_only(Kind::Pod, &BTreeSet::new().into_iter().collect());
}

#[test]
fn all_that_is_wrong_is_reported_at_once() {
    let found = findings(
        "{wait_for_metadata_timeout: 0s, context: x, kubelet: {enabled: true}, exclude: {pods: [{name: '('}]},
          extract: {metadata: [k8s.pod.nam], labels: [{key: a, key_regex: b}, {}, {key_regex: '('}, {key: a, from: pot}]},
          filter: {labels: [{op: exists}], fields: [{key: a, op: like}]},
          pod_association: [{sources: []}, {sources: [{from: resource_attribute}]}, {sources: [{from: connection}]}, {sources: [{from: connection}]}]}",
    );
    let all = found.join("\n");
    for part in [
        "wait_for_metadata_timeout`: must be more than zero",
        "context`: is of a kubeconfig",
        "kubelet`: not supported",
        "exclude.pods.0.name`: is not a regular expression",
        "extract.metadata.0`: unknown",
        "extract.labels.0.key_regex`: stands beside `key`",
        "extract.labels.1`: names no key",
        "extract.labels.2.key_regex`: is not a regular expression",
        "extract.labels.3.from`: unknown",
        "filter.labels.0.key`: is empty",
        "filter.fields.0.op`: unknown",
        "pod_association.0.sources`: is empty",
        "pod_association.1.sources.0.name`: is missing",
        "pod_association.3.sources`: is listed twice",
    ] {
        assert!(all.contains(part), "{part}:\n{all}");
    }
}

#[test]
fn only_what_is_asked_for_is_watched() {
    let kinds = |settings: &str| config(settings).kinds();
    assert_eq!(kinds(""), []);
    let metadata = |name: &str| kinds(&format!("{{extract: {{metadata: [{name}]}}}}"));
    assert_eq!(metadata("k8s.deployment.uid"), [Kind::ReplicaSet]);
    assert_eq!(metadata("k8s.cronjob.uid"), [Kind::Job]);
    assert_eq!(metadata("k8s.cluster.uid"), [Kind::Namespace]);
    assert_eq!(metadata("k8s.node.uid"), [Kind::Node]);
    let from = |kind: &str| kinds(&format!("{{extract: {{labels: [{{key: a, from: {kind}}}]}}}}"));
    assert_eq!(from("deployment"), [Kind::ReplicaSet, Kind::Deployment]);
    assert_eq!(from("cronjob"), [Kind::Job, Kind::CronJob]);
    assert_eq!(from("statefulset"), [Kind::StatefulSet]);
}

#[test]
fn the_node_is_named_by_a_variable() {
    let mut config = config("{filter: {node: fixed, node_from_env_var: NODE}}");
    let (key, problem) = config.look_up(&|_| None).unwrap();
    assert_eq!(key, ["filter", "node_from_env_var"]);
    assert!(problem.contains("`NODE` is not set"), "{problem}");
    assert!(config.look_up(&|name| (name == "NODE").then(|| "node-a".into())).is_none());
    assert_eq!(config.node(), Some("node-a"));
    let words: Config =
        decode(&Node::parse("test", "{auth_type: kubeconfig}").unwrap(), Purpose::Run).unwrap();
    assert_eq!(words.auth_type, super::config::AuthType::KubeConfig);
}
