//! The article's own manifest, applied by hand, is a collector that `--attach` finds and judges.
//!
//! `article.yaml` is the manifest as the article has it. What is replaced is its key, its image and its exporter's endpoint,
//! nothing else.

use std::process::Command;

use kube::Client;
use serde_json::{Value, json};

use crate::{HAPPY, TRACECHECK, install, rolled_out, run_with};

/// As it is copied out of the article.
const MANIFEST: &str = include_str!("article.yaml");
/// Namespace in which the user applies it.
const NAMESPACE: &str = "tracecheck-test-article";
/// Namespace in which the run creates the mock intake.
const INTAKE: &str = "tracecheck-test-article-intake";

/// The article's manifest with a key, an image and an endpoint.
fn manifest() -> String {
    let once = |text: &str, from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "`{from}` is not once in the article's manifest");
        text.replacen(from, to, 1)
    };
    let image = format!("  mode: deployment\n  image: {TRACECHECK}\n");
    let text = once(MANIFEST, "  mode: deployment\n", &image);
    let endpoint = format!("http://intake.{INTAKE}.svc:8080");
    let to = format!(
        "          key: any\n        traces:\n          endpoint: {endpoint}\n        metrics:\n          endpoint: {endpoint}\n"
    );
    once(&text, "          key: ${datadog_api_key}\n", &to)
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("---\n").filter(|text| !text.trim().is_empty());
    documents.map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// Two services of the article's names, as `tracecheck manifests` prints them.
fn services() -> Vec<Value> {
    let args = ["manifests", "--image", TRACECHECK, "--namespace", NAMESPACE];
    let printed = Command::new(env!("CARGO_BIN_EXE_tracecheck")).args(args).output().unwrap();
    let mut documents = documents(&String::from_utf8(printed.stdout).unwrap());
    documents.retain(|document| {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        name.starts_with("sample-app-") || name == "tracecheck"
    });
    // An account, and a Deployment and a Service of each.
    assert_eq!(documents.len(), 5, "{documents:?}");
    documents
}

/// Applies it, drives requests through what comes of it, and takes it out again with all else.
pub(crate) async fn is_found_and_judged(client: &Client) {
    install::namespace(client, NAMESPACE).await;
    for mut object in documents(&manifest()) {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        install::apply(client, object).await;
    }
    for object in services() {
        install::apply(client, object).await;
    }
    for name in ["my-collector-collector", "sample-app-1", "sample-app-2"] {
        crate::until("the operator has made the collector", async || {
            let deployments = install::api(client, "apps/v1", "Deployment", Some(NAMESPACE));
            deployments.get(name).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        rolled_out(client, NAMESPACE, name).await;
    }
    let entry = format!("{NAMESPACE}/sample-app-1");
    let attach = ["--attach", "--entry", &entry, "--intake-namespace", INTAKE];
    let (output, said) = run_with(HAPPY, &[], &attach);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("environment attached") && said.contains("1 passed"), "{said}");
    let left = install::api(client, "v1", "Namespace", None).get_opt(INTAKE).await.unwrap();
    assert!(left.is_none(), "the intake's namespace is left behind");

    // The same without propagation in the first service.
    let deployments = install::api(client, "apps/v1", "Deployment", Some(NAMESPACE));
    let mut app = deployments.get("sample-app-1").await.unwrap();
    let env = &mut app.data["spec"]["template"]["spec"]["containers"][0]["env"];
    env.as_array_mut().unwrap().push(json!({ "name": "OTEL_PROPAGATORS", "value": "none" }));
    deployments.replace("sample-app-1", &Default::default(), &app).await.unwrap();
    crate::until("its new pod is the only one", async || {
        let status = deployments.get("sample-app-1").await.map_err(|error| error.to_string())?;
        let generation = status.metadata.generation;
        let status = &status.data["status"];
        let current = status["observedGeneration"].as_i64() == generation
            && status["updatedReplicas"] == 1
            && status["availableReplicas"] == 1
            && status["replicas"] == 1;
        if current { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let (output, said) = run_with(HAPPY, &[], &attach);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the link tracecheck -> sample-app-1 is broken"), "{said}");
}
