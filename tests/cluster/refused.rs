//! Systems that a cluster does not bring up: each cause has a message that says what to do, and nothing is left.

use std::time::{Duration, Instant};

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::{Pod, ResourceQuota},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::{cluster, one_at_a_time, wait_until};

const ARGS: [&str; 3] = ["scenarios", "--filter", "happy-path"];

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await.with_image("localhost/tracecheck:no-such-tag");
    let began = Instant::now();
    let ran = cluster.run(&ARGS).await.expect_code(3);
    let ran =
        ran.expect_stdout("its image cannot be pulled").expect_stdout("name it with `--image`");
    // The cluster's own words too, and long before the time for getting ready is over.
    let ran = ran.expect_stdout("localhost/tracecheck:no-such-tag").expect_stdout("Failed");
    assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
    cluster.expect_nothing_left(&ran).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_the_program() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await.with_image("localhost/testd:1");
    let ran = cluster.run(&ARGS).await.expect_code(3);
    let ran = ran.expect_stdout("/tracecheck").expect_stdout("does not start");
    cluster.expect_nothing_left(&ran).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_no_node_takes() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let name = "tracecheck-test-unschedulable";
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(cluster.client.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0);
    let node = node.metadata.name.unwrap();
    let cordon = async |cordoned: bool| {
        let patch = Patch::Merge(json!({ "spec": { "unschedulable": cordoned } }));
        let params = PatchParams { field_manager: Some(name.to_owned()), ..PatchParams::default() };
        nodes.patch(&node, &params, &patch).await.unwrap();
    };
    cordon(true).await;
    let ran = cluster.with(&["--start-limit", "8s"]).run(&ARGS).await;
    cordon(false).await;
    let ran = ran.expect_code(3).expect_stdout("no node takes pod").expect_stdout("add capacity");
    cluster.expect_nothing_left(&ran).await;
}

/// A quota can be put into the namespace only once it is there, so that it may come too late; then it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_refuses() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    for _ in 0..5 {
        let mut run = cluster.start(&ARGS);
        let id = run.run_id().await;
        let namespace = format!("tracecheck-{id}-0");
        let quotas = Api::<ResourceQuota>::namespaced(cluster.client.clone(), &namespace);
        let hard = json!({ "pods": "0" });
        let quota: ResourceQuota = serde_json::from_value(json!({
            "metadata": { "name": "none" }, "spec": { "hard": hard },
        }))
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while quotas.create(&PostParams::default(), &quota).await.is_err() {
            assert!(Instant::now() < deadline, "the namespace did not come");
        }
        // The API server asks what a controller would write only a moment later.
        let status = Patch::Merge(json!({ "status": { "hard": hard, "used": { "pods": "0" } } }));
        quotas.patch_status("none", &PatchParams::default(), &status).await.unwrap();
        let ran = run.ended().await;
        cluster.expect_nothing_left(&ran).await;
        if ran.stdout.contains("exceeded quota") {
            let ran = ran.expect_code(3).expect_stdout("the cluster refuses its pods");
            ran.expect_stdout("raise the namespace's quota");
            return;
        }
    }
    panic!("five times the quota came too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_policy_that_refuses() {
    let _alone = one_at_a_time().await;
    let cluster = cluster().await;
    let name = "tracecheck-test-policy";
    let policies = Api::<ValidatingAdmissionPolicy>::all(cluster.client.clone());
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(cluster.client.clone());
    let image = "localhost/tracecheck:refused";
    // Only this test's pods, whoever else uses the cluster.
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }] },
            "validations": [{
                "expression": format!("object.spec.containers.all(c, c.image != '{image}')"),
                "message": "no such images here",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    });
    let params = PatchParams::apply("tracecheck-test").force();
    policies.patch(name, &params, &Patch::Apply(&policy)).await.unwrap();
    bindings.patch(name, &params, &Patch::Apply(&binding)).await.unwrap();
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), "default");
    let refused_one: Pod = serde_json::from_value(json!({
        "metadata": { "name": "refused" },
        "spec": { "containers": [{ "name": "a", "image": image }] },
    }))
    .unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    wait_until("the policy is in force", Duration::from_secs(60), async || {
        pods.create(&dry, &refused_one)
            .await
            .is_err_and(|error| error.to_string().contains("no such images here"))
    })
    .await;
    let ran = cluster.with_image(image).run(&ARGS).await;
    bindings.delete(name, &DeleteParams::default()).await.unwrap();
    policies.delete(name, &DeleteParams::default()).await.unwrap();
    let ran = ran.expect_code(3).expect_stdout("no such images here");
    let ran = ran.expect_stdout("an admission policy of the cluster does not take them");
    cluster.expect_nothing_left(&ran).await;
}
