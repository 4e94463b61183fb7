//! The collector through the OpenTelemetry operator, in a real cluster, with a stand-in for the operator: no registry that
//! tests may use has the real one. `stand_in` says what it does of what the real one was seen to do.
//!
//! Changes things that belong to the cluster as a whole, so it is one program that does one thing after the other, and a
//! cluster of its own, or one that is for tests, is what it should have. Needs KUBECONFIG, and TRACECHECK_LOAD_IMAGE: a
//! program that brings the docker-archive it is given into the cluster's nodes. The very program is also what runs in the
//! stand-in's pods.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

use std::{
    panic::AssertUnwindSafe,
    path::Path,
    process::{Command, ExitCode, Output},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use harness::image::{Image, Sources};
use kube::{
    Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

mod article;
mod eks;
mod install;
mod stand_in;

const TRACECHECK: &str = "localhost/tracecheck:operator-test";
const STAND_IN: &str = "localhost/operator-stand-in:test";
/// A program that ends as soon as it has started.
const ENDS: &str = "localhost/ends-at-once:test";
const HAPPY: &str = "scenarios/happy-path.yaml";
const LIMIT: Duration = Duration::from_secs(120);

/// How long after its start the other collector listens; the operator calls it ready long before.
const LATE: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word.starts_with("--config=")) {
        return other_collector();
    }
    rustls::crypto::ring::default_provider().install_default().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        match words.first().map(String::as_str) {
            Some("serve") => stand_in::serve(&words[1]).await,
            Some("idle") => std::future::pending().await,
            _ => test().await,
        }
    });
    ExitCode::SUCCESS
}

/// Runs this program where the operator runs its image as a collector: one of which nothing is known but the image.
fn other_collector() -> ExitCode {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: collector::command::Args,
    }
    eprintln!("another collector, which takes its time");
    #[expect(
        clippy::disallowed_methods,
        reason = "the delay is what it stands for: nothing is waited for"
    )]
    std::thread::sleep(LATE);
    collector::command::run(<Cli as clap::Parser>::parse().args)
}

async fn test() {
    stand_in::check_itself();
    let load = std::env::var("TRACECHECK_LOAD_IMAGE").expect(
        "TRACECHECK_LOAD_IMAGE: name the program that loads an image archive into the nodes of the cluster",
    );
    let client = Client::try_default().await.expect("KUBECONFIG: name a cluster for tests");
    load_image(&load, Path::new(env!("CARGO_BIN_EXE_tracecheck")), TRACECHECK);
    load_image(&load, &std::env::current_exe().unwrap(), STAND_IN);
    load_image(&load, Path::new("/bin/false"), ENDS);
    install::remove(&client).await;
    // Whatever panics, what belongs to the cluster is taken out again.
    let cases = AssertUnwindSafe(cases(client.clone())).catch_unwind().await;
    install::remove(&client).await;
    let left = install::api(&client, "v1", "Namespace", None)
        .list(&ListParams::default().labels("tracecheck/run"))
        .await
        .unwrap();
    let mine: Vec<String> = left.items.iter().map(ResourceExt::name_any).collect();
    println!("namespaces of runs, others' among them: {mine:?}");
    if let Err(panic) = cases {
        std::panic::resume_unwind(panic);
    }
    println!("all cases passed");
}

async fn cases(client: Client) {
    case("no operator and no cert-manager", || {
        refused(
            &[],
            &[
                "cert-manager, which makes the certificate",
                "cert-manager.yaml",
                "operator is not installed",
                "addon-name adot",
            ],
        );
    });
    install::cert_manager(&client, STAND_IN).await;
    case("no operator", || {
        let said = refused(&[], &["operator is not installed"]);
        assert!(!said.contains("definition `certificates"), "{said}");
    });
    let authority = install::Authority::new();
    install::operator(&client, STAND_IN, &authority).await;
    rolled_out(&client, install::NAMESPACE, install::DEPLOYMENT).await;
    for name in ["cert-manager", "cert-manager-cainjector", "cert-manager-webhook"] {
        rolled_out(&client, "cert-manager", name).await;
    }
    case("the default config", || passes(HAPPY, &[]));
    // `cargo test … --test operator -- failures` leaves out what takes long.
    if std::env::args().nth(1).as_deref() != Some("failures") {
        case("all scenarios, the article's config among them", || passes("scenarios", &[]));
        case("three replicas of the collector", || {
            passes("scenarios/kubernetes/three-collectors-share-a-load.yaml", &[]);
        });
    }
    case("the article's config, as the article has it, in v1alpha1", || {
        let filters = ["--filter", "article", "--filter", "collector-is-killed"];
        let version = ["--collector-api-version", "v1alpha1"];
        passes("scenarios", &[filters.as_slice(), &version].concat());
    });
    case("two systems in a cluster of EKS", eks::two_systems_reach_their_verdicts);
    println!("case: a system that stays in a cluster of EKS");
    eks::a_system_stays(&client).await;
    println!("case: the article's manifest, applied by hand, and judged by --attach");
    article::is_found_and_judged(&client).await;
    case("another collector's image, which listens long after it is called ready", || {
        let began = Instant::now();
        passes(HAPPY, &["--collector-image", STAND_IN]);
        assert!(began.elapsed() > LATE, "it was not the other collector");
    });
    case("a collector that ends again and again", || {
        let said =
            refused(&["--collector-image", ENDS], &["ends again and again", "its last log lines"]);
        assert!(said.contains("`collector` does not start"), "{said}");
    });
    case("an image that nobody has", || {
        refused(&["--collector-image", "localhost/nobody-has-this:1"], &["image cannot be pulled"]);
    });
    broken(&client, &authority).await;
}

/// The installation is spoilt in one way after the other; each is named.
async fn broken(client: &Client, authority: &install::Authority) {
    let definitions =
        install::api(client, "apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
    let patch = async |patch: Value| {
        let patch = Patch::Merge(patch);
        definitions.patch(install::DEFINITION, &PatchParams::default(), &patch).await.unwrap();
    };
    let serve = async |alpha: bool, beta: bool| {
        let mut definition = definitions.get(install::DEFINITION).await.unwrap();
        definition.data["spec"]["versions"][0]["served"] = alpha.into();
        definition.data["spec"]["versions"][1]["served"] = beta.into();
        patch(json!({ "spec": { "versions": definition.data["spec"]["versions"] } })).await;
    };
    let bundle = |bundle: Value| json!({ "spec": { "conversion": { "webhook": { "clientConfig": { "caBundle": bundle } } } } });

    scale_to_none(client, install::NAMESPACE, install::DEPLOYMENT).await;
    case("the operator scaled to 0", || {
        refused(
            &[],
            &[
                "the operator is not ready",
                "has no ready endpoint",
                "is scaled to 0",
                "--replicas=1",
            ],
        );
    });
    // Not waited for: an operator that has only just started is looked at again.
    set_replicas(client, install::NAMESPACE, install::DEPLOYMENT, 1).await;
    case("the operator is on its way back", || passes(HAPPY, &[]));

    patch(bundle(install::Authority::new().encoded())).await;
    until_refused(
        "an authority that does not fit",
        &["--collector-api-version", "v1alpha1"],
        &["x509", "cainjector"],
    )
    .await;
    patch(bundle(Value::Null)).await;
    case("no authority", || {
        refused(
            &[],
            &["the conversion webhook of the definition", "has no `caBundle`", "cainjector"],
        );
    });
    patch(bundle(authority.encoded())).await;

    serve(true, false).await;
    case("v1beta1 is not served", || {
        refused(
            &["--collector-api-version", "v1beta1"],
            &["does not serve OpenTelemetryCollector as v1beta1", "it serves `v1alpha1`"],
        );
    });
    until_passes("v1alpha1 is what is served", &[]).await;
    serve(false, true).await;
    case("v1alpha1 is not served", || {
        refused(
            &["--collector-api-version", "v1alpha1"],
            &["does not serve OpenTelemetryCollector as v1alpha1"],
        );
    });
    serve(true, true).await;

    scale_to_none(client, "cert-manager", "cert-manager-cainjector").await;
    case("cert-manager in part", || {
        refused(&[], &["cert-manager is not ready", "cert-manager-cainjector` is scaled to 0"]);
    });
    let delete = DeleteParams::default();
    definitions.delete("certificates.cert-manager.io", &delete).await.unwrap();
    until("cert-manager's kind is gone", async || {
        match definitions.get_opt("certificates.cert-manager.io").await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|one| one.is_some()))),
        }
    })
    .await;
    case("cert-manager gone", || {
        refused(&[], &["cert-manager, which makes the certificate", "is not installed"]);
    });
    let validating = install::api(
        client,
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        None,
    );
    validating
        .delete("opentelemetry-operator-validating-webhook-configuration", &delete)
        .await
        .unwrap();
    case("no validating webhook", || {
        refused(&[], &["has no validating webhook for `opentelemetrycollectors`"]);
    });
}

fn case(name: &str, check: impl FnOnce()) {
    let began = Instant::now();
    println!("case: {name}");
    check();
    println!("      passed in {:.1?}", began.elapsed());
}

/// `tracecheck run` in operator mode.
fn run(scenarios: &str, options: &[&str]) -> (Output, String) {
    run_with(scenarios, &["--collector-install", "operator"], options)
}

/// `tracecheck run` in the cluster.
pub(crate) fn run_with(scenarios: &str, way: &[&str], options: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tracecheck"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["run", scenarios, "--env", "cluster", "--image", TRACECHECK])
        .args(way)
        .args(options)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    // Lines are broken where they are too long.
    let words: Vec<&str> = said.split_whitespace().collect();
    let joined = words.join(" ");
    if std::env::var_os("TRACECHECK_SHOW").is_some() {
        println!("{said}");
    }
    (output, joined)
}

fn passes(scenarios: &str, options: &[&str]) {
    let (output, said) = run(scenarios, options);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(" passed"), "{said}");
}

/// Nothing was decided, and it was said why.
fn refused(options: &[&str], reasons: &[&str]) -> String {
    let (output, said) = run(HAPPY, options);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for reason in reasons {
        assert!(said.contains(reason), "`{reason}` is not said: {said}");
    }
    said
}

/// As [`refused`], when the API server has taken notice of what was changed.
async fn until_refused(name: &str, options: &[&str], reasons: &[&str]) {
    println!("case: {name}");
    until(name, async || {
        let (output, said) = run(HAPPY, options);
        let reported =
            output.status.code() == Some(3) && reasons.iter().all(|reason| said.contains(reason));
        if reported { Ok(()) } else { Err(said) }
    })
    .await;
}

async fn until_passes(name: &str, options: &[&str]) {
    println!("case: {name}");
    until(name, async || {
        let (output, said) = run(HAPPY, options);
        if output.status.code() == Some(0) { Ok(()) } else { Err(said) }
    })
    .await;
}

fn load_image(load: &str, program: &Path, reference: &str) {
    let sources = Sources { reference: Some(reference.to_owned()), ..Sources::default() };
    let image = Image::of_program(program, &sources).unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    image.save(archive.path()).unwrap();
    let status = Command::new(load).arg(archive.path()).status();
    assert!(status.unwrap().success(), "{load} did not load {reference}");
}

async fn set_replicas(client: &Client, namespace: &str, name: &str, replicas: u32) {
    let deployments = install::api(client, "apps/v1", "Deployment", Some(namespace));
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    deployments.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn scale_to_none(client: &Client, namespace: &str, name: &str) {
    set_replicas(client, namespace, name, 0).await;
    let deployments = install::api(client, "apps/v1", "Deployment", Some(namespace));
    until("its pods are gone", async || {
        let status =
            deployments.get(name).await.map_err(|error| error.to_string())?.data["status"].clone();
        if status["replicas"].is_null() { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

async fn rolled_out(client: &Client, namespace: &str, name: &str) {
    let deployments = install::api(client, "apps/v1", "Deployment", Some(namespace));
    until(&format!("{name} is available"), async || {
        let status =
            deployments.get(name).await.map_err(|error| error.to_string())?.data["status"].clone();
        if status["availableReplicas"].as_i64() >= Some(1) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
}

/// Waits for something, and shows the last evidence where it does not come.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> Result<(), String>) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let Err(why) = holds().await else { return };
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}: {why}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
