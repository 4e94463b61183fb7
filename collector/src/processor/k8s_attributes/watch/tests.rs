//! Watches of an API that is played by a stub.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stub_server::StubServer;
use tokio::time::{Instant, sleep};
use wiremock::matchers::{method, path, query_param, query_param_is_missing};
use wiremock::{Mock, ResponseTemplate};

use super::super::kind::Kind;
use super::super::table::{CONNECTION, MAX_BYTES, Table};
use super::super::tests::config;
use super::{Watching, start};
use crate::telemetry::Registry;

/// How long a test waits for anything.
const SOON: Duration = Duration::from_secs(20);

struct Rig {
    server: StubServer,
    folder: tempfile::TempDir,
    registry: Registry,
}

impl Rig {
    async fn new() -> Self {
        let server = StubServer::start().await;
        Self { server, folder: tempfile::tempdir().unwrap(), registry: Registry::default() }
    }

    /// Begins to watch with these settings, by a kubeconfig that names the stub.
    async fn start(&self, settings: &str, url: &str) -> Result<(Watching, Arc<Table>), String> {
        let kubeconfig = self.folder.path().join("kubeconfig");
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: '{url}'}}}}], users: [{{name: u, user: {{}}}}], contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}"
        );
        std::fs::write(&kubeconfig, text).unwrap();
        let mut config = config(&format!("{{auth_type: kubeConfig, {settings}}}"));
        let kubeconfig = kubeconfig.display().to_string();
        config.look_up(&|name| (name == "KUBECONFIG").then(|| kubeconfig.clone()));
        let table = Arc::new(Table::new(&config, "k8s_attributes", &self.registry, MAX_BYTES));
        let watching = start(&config, "k8s_attributes", Path::new("/none"), &table).await?;
        Ok((watching, table))
    }

    /// Answers lists of pods, then a watch that has these events once, and then none.
    async fn pods(&self, listed: &[Value], events: &[(&str, Value)]) {
        let list = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": listed });
        Mock::given(method("GET"))
            .and(path("/api/v1/pods"))
            .and(query_param_is_missing("watch"))
            .respond_with(ResponseTemplate::new(200).set_body_json(list))
            .mount(&self.server)
            .await;
        let lines: Vec<_> = events
            .iter()
            .map(|(kind, object)| json!({ "type": kind, "object": object }).to_string() + "\n")
            .collect();
        Mock::given(method("GET"))
            .and(path("/api/v1/pods"))
            .and(query_param("watch", "true"))
            .respond_with(ResponseTemplate::new(200).set_body_string(lines.concat()))
            .up_to_n_times(1)
            .with_priority(1)
            .mount(&self.server)
            .await;
        let silent = ResponseTemplate::new(200).set_delay(Duration::from_secs(600));
        Mock::given(method("GET"))
            .and(query_param("watch", "true"))
            .respond_with(silent)
            .mount(&self.server)
            .await;
    }
}

fn pod(name: &str, uid: &str, address: &str, version: u32) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1",
        "metadata": { "name": name, "namespace": "shop", "uid": uid, "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-11-29T19:33:20Z" },
        "spec": { "nodeName": "node-a", "containers": [{ "name": "app", "image": "cart:1" }] },
        "status": { "podIP": address, "startTime": format!("2026-11-29T19:33:{version:02}Z") } })
}

fn name(table: &Table, address: &str) -> Option<String> {
    let pod = table.pod(&vec![(CONNECTION.into(), address.into())])?;
    pod.attributes.get("k8s.pod.name").cloned()
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come about within {SOON:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn pods_are_listed_and_followed() {
    let rig = Rig::new().await;
    let (old, new) = (pod("old", "u1", "10.0.0.7", 2), pod("new", "u2", "10.0.0.7", 4));
    let events =
        [("DELETED", old.clone()), ("ADDED", new), ("ADDED", pod("b", "u3", "10.0.0.8", 5))];
    rig.pods(&[old], &events).await;
    let url = rig.server.uri();
    let settings = "wait_for_metadata: true, filter: {node: node-a, labels: [{key: app, op: exists}], fields: [{key: status.phase, value: Failed, op: not-equals}]}";
    let (_watching, table) = rig.start(settings, &url).await.unwrap();
    until(|| name(&table, "10.0.0.8").as_deref() == Some("b")).await;
    assert_eq!(name(&table, "10.0.0.7").as_deref(), Some("new"));
    let asked = rig.server.received_requests().await.unwrap();
    assert!(!asked.is_empty());
    for request in asked {
        let query: Vec<(String, String)> = request.url.query_pairs().into_owned().collect();
        let of =
            |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(of("fieldSelector"), Some("status.phase!=Failed,spec.nodeName=node-a"));
        assert_eq!(of("labelSelector"), Some("app"));
    }
}

#[tokio::test]
async fn who_made_pods_is_known_before_them() {
    let rig = Rig::new().await;
    let mut of_set = pod("cart-1", "u1", "10.0.0.7", 2);
    of_set["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-x", "uid": "rs-1" }]);
    rig.pods(&[of_set], &[]).await;
    let set = json!({ "metadata": { "name": "cart-x", "namespace": "shop", "uid": "rs-1", "ownerReferences":
        [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart", "uid": "d-1", "controller": true }] } });
    let list = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": "1" }, "items": [set] });
    Mock::given(method("GET"))
        .and(path("/apis/apps/v1/namespaces/shop/replicasets"))
        .and(query_param_is_missing("watch"))
        .respond_with(ResponseTemplate::new(200).set_body_json(list))
        .mount(&rig.server)
        .await;
    // Pods of a namespace alone are asked for there.
    let none = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [] });
    Mock::given(method("GET"))
        .and(path("/api/v1/namespaces/shop/pods"))
        .and(query_param_is_missing("watch"))
        .respond_with(ResponseTemplate::new(200).set_body_json(none))
        .mount(&rig.server)
        .await;
    let settings = "wait_for_metadata: true, filter: {namespace: shop}, extract: {metadata: [k8s.deployment.uid]}";
    let (_watching, table) = rig.start(settings, &rig.server.uri()).await.unwrap();
    let set = table.other(Kind::ReplicaSet, "rs-1").unwrap();
    assert_eq!(set.owner, Some((Kind::Deployment, "cart".into(), "d-1".into())));
}

#[tokio::test]
async fn missing_rights_to_watch_are_reported_at_the_start() {
    let rig = Rig::new().await;
    let refusal = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "pods is forbidden: User \"system:serviceaccount:shop:default\" cannot list resource \"pods\"" });
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(403).set_body_json(refusal))
        .mount(&rig.server)
        .await;
    let problem = rig.start("wait_for_metadata: false", &rig.server.uri()).await.err().unwrap();
    assert!(problem.contains("refuses: pods is forbidden"), "{problem}");
    assert!(problem.contains("`get`, `list` and `watch` `pods`"), "{problem}");
}

#[tokio::test]
async fn a_missing_cluster_is_reported_at_the_start() {
    let rig = Rig::new().await;
    // Nobody listens there.
    let url = "http://127.0.0.1:1";
    let problem = rig.start("wait_for_metadata_timeout: 1s", url).await.err().unwrap();
    assert!(problem.contains("cannot be reached"), "{problem}");
    assert!(problem.contains("kubeconfig"), "it says where: {problem}");

    let alone = config("");
    let table = Arc::new(Table::new(&alone, "k8s_attributes", &rig.registry, MAX_BYTES));
    let folder = rig.folder.path();
    let problem = start(&alone, "k", folder, &table).await.err().unwrap();
    assert!(problem.contains("there is no service account in"), "{problem}");
    for file in ["token", "ca.crt"] {
        std::fs::write(folder.join(file), "").unwrap();
    }
    let problem = start(&alone, "k", folder, &table).await.err().unwrap();
    assert!(problem.contains("KUBERNETES_SERVICE_HOST is not set"), "{problem}");
}

#[tokio::test]
async fn a_start_waits_for_all_pods_where_it_is_asked_to() {
    let rig = Rig::new().await;
    let first = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": [] });
    Mock::given(method("GET"))
        .and(query_param("limit", "1"))
        .respond_with(ResponseTemplate::new(200).set_body_json(first))
        .with_priority(1)
        .mount(&rig.server)
        .await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_delay(Duration::from_secs(600)))
        .mount(&rig.server)
        .await;
    let settings = "wait_for_metadata_timeout: 1s, wait_for_metadata";
    let url = rig.server.uri();
    let problem = rig.start(&format!("{settings}: true"), &url).await.err().unwrap();
    assert!(problem.contains("were not all known within 1s"), "{problem}");
    assert!(rig.start(&format!("{settings}: false"), &url).await.is_ok());
}

#[tokio::test]
async fn a_broken_watch_is_counted_and_what_was_known_stays() {
    let rig = Rig::new().await;
    rig.pods(&[pod("a", "u1", "10.0.0.7", 2)], &[]).await;
    let gone = json!({ "type": "ERROR", "object": { "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": "InternalError", "message": "no", "code": 500 } });
    Mock::given(method("GET"))
        .and(query_param("watch", "true"))
        .respond_with(ResponseTemplate::new(200).set_body_string(gone.to_string() + "\n"))
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&rig.server)
        .await;
    let (_watching, table) = rig.start("wait_for_metadata: true", &rig.server.uri()).await.unwrap();
    let errors =
        "otelcol_processor_k8s_attributes_watch_errors_total{processor=\"k8s_attributes\"} 1";
    until(|| rig.registry.render(true).lines().any(|line| line == errors)).await;
    assert_eq!(name(&table, "10.0.0.7").as_deref(), Some("a"));
}
