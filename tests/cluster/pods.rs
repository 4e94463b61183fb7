//! Attributes of pods, as the collector has them of the cluster: of the pods that spans really come from, also after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use k8s_openapi::api::{core::v1::Pod, rbac::v1::ClusterRole};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, LogParams, Patch, PatchParams},
    core::gvk::GroupVersionKind,
    discovery,
};
use serde_json::Value;

use crate::{
    collect,
    support::{
        Cluster, Run, cluster, keep, one_at_a_time, remove_namespace, scenario_file, wait_until,
    },
};

/// Watches pods and who made them; `NODE` is set by the downward API.
const CONFIG: &str = "\
receivers: {otlp: {protocols: {grpc: , http: }}}
processors:
  k8s_attributes:
    wait_for_metadata: true
    filter: {node_from_env_var: NODE}
    extract:
      metadata: [k8s.pod.name, k8s.pod.uid, k8s.pod.ip, k8s.namespace.name, k8s.node.name, k8s.deployment.name, k8s.deployment.uid]
      labels: [{tag_name: workload, key: tracecheck/workload}]
  batch: {timeout: 50ms}
exporters: {datadog: {api: {key: '${env:TRACECHECK_API_KEY}'}}}
service: {pipelines: {traces: {receivers: [otlp], processors: [k8s_attributes, batch], exporters: [datadog]}}}
";

/// The pods of a namespace, for as long as it is there: node and address by name and uid.
type Pods = BTreeMap<(String, String), (String, String)>;

/// Runs a scenario until it has ended, and notes all pods that there were meanwhile.
async fn watched(cluster: &Cluster, args: &[&str]) -> (crate::support::Ran, Pods) {
    let mut run: Run = cluster.start(args);
    let id = run.run_id().await;
    let namespace = format!("tracecheck-{id}-0");
    let api = Api::<Pod>::namespaced(cluster.client.clone(), &namespace);
    let mut pods = Pods::new();
    let ended = run.ended();
    tokio::pin!(ended);
    loop {
        let listed = api.list(&ListParams::default()).await.expect("pods can be listed");
        for pod in listed {
            let key = (pod.name_any(), pod.uid().unwrap_or_default());
            let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
            let address = pod.status.and_then(|status| status.pod_ip).unwrap_or_default();
            // What a pod has once, it keeps.
            let known = pods.entry(key).or_default();
            for (known, now) in [(&mut known.0, node), (&mut known.1, address)] {
                if !now.is_empty() {
                    *known = now;
                }
            }
        }
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! {
            ran = &mut ended => return (ran, pods),
            () = pause => {}
        }
    }
}

/// The meta of all spans of a saved run, by their services.
fn spans(value: &Value, all: &mut Vec<(String, BTreeMap<String, String>)>) {
    match value {
        Value::Object(fields) => {
            if let (Some(service), Some(meta)) = (fields.get("service"), fields.get("meta")) {
                let meta = serde_json::from_value(meta.clone()).unwrap();
                all.push((service.as_str().unwrap().to_owned(), meta));
            }
            fields.values().for_each(|value| spans(value, all));
        }
        Value::Array(items) => items.iter().for_each(|value| spans(value, all)),
        _ => {}
    }
}

fn saved_spans(dir: &Path) -> Vec<(String, BTreeMap<String, String>)> {
    let mut files = Vec::new();
    collect(dir, "system.json", &mut files);
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut all = Vec::new();
    spans(&saved, &mut all);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_have_the_attributes_of_the_pods_that_they_come_from() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let config = keep(CONFIG).display().to_string();
    // The first hop is another pod in the end, of another name and address. Requests take long enough for some to be left when it is.
    let scenario = scenario_file(
        "name: pods\ndescription: A pod takes the place of another one.\n\
         requests: [{ get: /outgoing-sampleapp, times: 40, concurrency: 2, any_status: true }]\n\
         faults: [{ at: sample-app-1, restart: true, after: 4 }, { at: sample-app-2, delay: 500ms }]\n",
    );
    let saved = tempfile::tempdir().unwrap();
    let dir = saved.path().display().to_string();
    let path = scenario.path().display().to_string();
    let args = [path.as_str(), "--collector-config", &config, "--save", &dir];
    let (ran, pods) = watched(&cluster, &args).await;
    let ran = ran.expect_code(0);
    let namespace = format!("tracecheck-{}-0", ran.run_id());

    let spans = saved_spans(saved.path());
    assert!(spans.len() >= 80, "{} spans", spans.len());
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    // The harness' own spans come through a port-forward, and so from no pod.
    for (service, meta) in spans.iter().filter(|(service, _)| service != "tracecheck") {
        let of = |name: &str| meta.get(name).map(String::as_str).unwrap_or_default();
        let key = (of("k8s.pod.name").to_owned(), of("k8s.pod.uid").to_owned());
        let (node, address) = pods
            .get(&key)
            .unwrap_or_else(|| panic!("{key:?} of {service} is none of {pods:#?}\n{meta:#?}"));
        assert_eq!((of("k8s.node.name"), of("k8s.pod.ip")), (node.as_str(), address.as_str()));
        assert_eq!(of("k8s.namespace.name"), namespace, "{meta:?}");
        assert_eq!(
            (of("k8s.deployment.name"), of("workload")),
            (service.as_str(), service.as_str())
        );
        assert!(!of("k8s.deployment.uid").is_empty(), "{meta:?}");
        assert!(key.0.starts_with(&format!("{service}-")), "{service}: {key:?}");
        names.entry(service).or_default().insert(&meta["k8s.pod.name"]);
    }
    let count = |service: &str| names[service].len();
    assert_eq!((count("sample-app-1"), count("sample-app-2")), (2, 1), "{names:?}");

    cluster.expect_nothing_left(&ran).await;
    // What is outside of the namespace goes with it.
    let roles = Api::<ClusterRole>::all(cluster.client.clone());
    let params = ListParams::default().labels(&format!("tracecheck/run={}", ran.run_id()));
    wait_until("the role is gone", Duration::from_secs(60), async || {
        roles.list(&params).await.expect("roles can be listed").items.is_empty()
    })
    .await;
}

/// Printed with its role, the collector may watch; without that, its log says what it lacks, and it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_without_its_role_says_what_it_lacks() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let config = keep(CONFIG).display().to_string();
    let namespace = "tracecheck-test-without-role";
    let words = ["--namespace", namespace, "--collector-config", &config];
    let printed = cluster.manifests(&words).await.expect_code(0).stdout;
    let documents: Vec<_> = printed.split("---\n").filter(|one| !one.trim().is_empty()).collect();
    let of_kind = |kind: &str| {
        let kind = format!("kind: {kind}\n");
        documents.iter().copied().filter(move |one| one.contains(&kind))
    };
    let role = of_kind("ClusterRole").next().expect("a role");
    for word in ["pods", "replicasets", "get", "list", "watch"] {
        assert!(role.contains(word), "{word}: {role}");
    }
    assert!(!role.contains("nodes") && !role.contains("secrets"), "{role}");
    assert_eq!(of_kind("ClusterRoleBinding").count(), 1);

    let lacking = documents.iter().filter(|one| !one.contains("kind: ClusterRole"));
    for document in lacking.filter(|one| one.contains("Namespace\n") || one.contains("collector")) {
        apply(&cluster, document).await;
    }
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let mut log = String::new();
    wait_until("the collector says what it lacks", Duration::from_secs(90), async || {
        for pod in pods.list(&ListParams::default()).await.expect("pods") {
            // Until its container has begun, there is no log.
            log = pods.logs(&pod.name_any(), &LogParams::default()).await.unwrap_or_default();
        }
        log.contains("`get`, `list` and `watch`")
    })
    .await;
    assert!(log.contains("processor `k8s_attributes`: Kubernetes' API at "), "{log}");
    assert!(log.contains("is forbidden"), "{log}");
    remove_namespace(&cluster.client, namespace).await;
}

async fn apply(cluster: &Cluster, document: &str) {
    let object: DynamicObject = serde_saphyr::from_str(document).expect("a manifest");
    let types = object.types.clone().expect("its kind");
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let kind = GroupVersionKind::gvk(group, version, &types.kind);
    let found =
        discovery::pinned_kind(&cluster.client, &kind).await.expect("a kind that is served");
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), &namespace, &found.0),
        None => Api::all_with(cluster.client.clone(), &found.0),
    };
    let params = PatchParams::apply("tracecheck-test");
    api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.expect("it is taken");
}
