//! A system in a live cluster, judged by what Datadog shows of it: driven from outside, exported in the cluster, shown late, asked
//! for and judged. A stand-in plays Datadog's API; it is fed with what the cluster's mock intake captures.
//!
//! Needs a cluster (KUBECONFIG) whose nodes have the image of `tracecheck` that TRACECHECK_TEST_IMAGE names, and whose pods reach
//! this machine at the address that TRACECHECK_TEST_HOST names. Fails without: `cargo test -p harness --test live`.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use harness::{
    environment::{
        Environment, EnvironmentError,
        kubernetes::{KubernetesEnvironment, Settings, cluster::Access},
    },
    run::new_run_id,
    scenario::{ChainChoice, SystemChoice},
    secret::Secret,
    session::Session,
    system::build::{self, Overrides, ToDatadog},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod, Secret as KubernetesSecret},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams},
    core::gvk::GroupVersionKind,
    discovery,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::stand_in::{API_KEY, APP_KEY, StandIn, collector_config, intake_with_key, without_keys};

#[path = "../datadog/stand_in.rs"]
mod stand_in;
mod tls;

/// How much later than captured the stand-in shows a span.
const DELAY: Duration = Duration::from_secs(4);
/// Longest run of the program.
const LIMIT: Duration = Duration::from_secs(300);

const HAPPY: &str = "\
name: happy
description: A request through both services is one whole trace.
requests: [{ get: /outgoing-sampleapp, times: 2 }]
expect:
  tree:
    server: sample-app-1
    children: [{ client: sample-app-1, children: [{ server: sample-app-2 }] }]
";

fn image() -> String {
    std::env::var("TRACECHECK_TEST_IMAGE")
        .expect("TRACECHECK_TEST_IMAGE names an image of tracecheck that the cluster's nodes have")
}

/// This machine, as the cluster's pods reach it.
fn host() -> String {
    std::env::var("TRACECHECK_TEST_HOST").expect(
        "TRACECHECK_TEST_HOST names the address at which the cluster's pods reach this machine",
    )
}

async fn client() -> Client {
    let found = Access { kubeconfig: None, context: None }.find().await.expect("a kubeconfig");
    found.connect("cluster").await.expect("a cluster that lets us in").0
}

/// Waits for something, and shows the last evidence where it does not come.
async fn until(what: &str, limit: Duration, holds: impl AsyncFn() -> Result<(), String>) {
    let deadline = Instant::now() + limit;
    loop {
        let Err(why) = holds().await else { return };
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}: {why}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn remove_namespace(client: &Client, name: &str) {
    let namespaces = Api::<Namespace>::all(client.clone());
    let _gone_already = namespaces.delete(name, &DeleteParams::default()).await;
    until("the namespace is gone", Duration::from_secs(90), async || {
        match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Runs the program, and fails unless it ends with this code and has said these things; gives its stdout.
#[expect(clippy::print_stdout, reason = "what a user sees, for whoever reads the test's output")]
async fn tracecheck(datadog: &str, args: &[&str], code: i32, said: &[&str]) -> String {
    let running = tokio::process::Command::new(env!("CARGO_BIN_EXE_tracecheck"))
        .args(args)
        .env_remove("DD_SITE")
        .env("DD_API_KEY", API_KEY)
        .env("DD_APP_KEY", APP_KEY)
        .env("TRACECHECK_DATADOG_API_URL", datadog)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, running).await.expect("it ends in time");
    let output = output.expect("the program can be started");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let all = format!("{args:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
    println!("{all}");
    assert_eq!(output.status.code(), Some(code), "{all}");
    for text in said {
        assert!(all.contains(text), "`{text}` is not in {all}");
    }
    for key in [API_KEY, APP_KEY] {
        assert!(!all.contains(key), "a key is shown: {all}");
    }
    stdout
}

/// A chain that is up in a namespace of its own, with Datadog's stand-in over what it sends.
struct World {
    run_id: String,
    session: Session,
    datadog: StandIn,
    dir: tempfile::TempDir,
}

impl World {
    async fn new(chain: ChainChoice, search_alone: bool) -> Self {
        let run_id = new_run_id();
        let settings = Settings::new("cluster", client().await, &run_id, image());
        let environment = KubernetesEnvironment::new(settings, 0).expect("a folder for logs");
        let choice = SystemChoice::Chain(chain);
        let system = build::system(&choice, &Overrides::default()).expect("a valid system").system;
        let halt = CancellationToken::new();
        let session = Session::start(Box::new(environment), &system, &run_id, &halt).await;
        let session = session.expect("the chain comes up");
        let intake = session.intake().expect("the mock intake").url().to_owned();
        let datadog = match search_alone {
            true => StandIn::search_alone(&intake, DELAY).await,
            false => StandIn::over(&intake, DELAY, 600).await,
        };
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("happy.yaml"), HAPPY).expect("a scenario in it");
        Self { run_id, session, datadog, dir }
    }

    fn entry(&self) -> String {
        self.session.endpoints().url("sample-app-1", "http").expect("the entry")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    async fn tracecheck(&self, args: &[&str], code: i32, said: &[&str]) -> String {
        tracecheck(&self.datadog.url(), args, code, said).await
    }

    /// The chain's entry as a Service of the cluster.
    fn service(&self) -> String {
        format!("tracecheck-{}-0/sample-app-1", self.run_id)
    }

    async fn down(self) {
        self.session.stop().await.expect("everything can be removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_in_the_cluster_is_driven_and_judged_by_what_datadog_shows() {
    let world = World::new(ChainChoice::default(), false).await;
    let (entry, happy, saved) = (world.entry(), world.path("happy.yaml"), world.path("saved"));
    let attach = ["--attach", "--entry", &entry, "--evidence", "datadog", "--patience", "90s"];
    let run = [&["run", &happy, "-v", "--save", &saved], attach.as_slice()].concat();
    let not_evaluated =
        "not evaluated, because the evidence does not give exclusive evidence: stray-trace";
    world.tracecheck(&run, 0, &["1 passed", "trace API: ", not_evaluated]).await;

    let saved =
        std::fs::read_to_string(world.dir.path().join("saved/system-0/system.json")).unwrap();
    for key in [API_KEY, APP_KEY] {
        assert!(!saved.contains(key));
    }
    let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
    let case = &saved["scenarios"][0]["cases"][0]["case"];
    let (id, own) = (case["trace_id"].as_str().unwrap(), case["driver_span"].as_str().unwrap());
    // The harness's own span is not in Datadog, since the collector's OTLP port was not named.
    let hint = format!("--virtual-parent {own}");
    world.tracecheck(&["verify", id, "--patience", "5s"], 1, &["orphan-span: ", &hint]).await;
    let verify = ["verify", id, "--patience", "5s", "--expect", &happy, "--virtual-parent", own];
    let held = ["1 passed", "held: no-trace, missing-hop, orphan-span", "sample-app-2 server"];
    world.tracecheck(&verify, 0, &held).await;

    // Over a Service's name, and with a span of the harness's own.
    let otlp = world.service().replace("sample-app-1", "my-collector-collector:4317");
    let service =
        ["--attach", "--entry", &world.service(), "--otlp", &otlp, "--evidence", "datadog"];
    let run = [&["run", &happy, "--patience", "90s"], service.as_slice()].concat();
    world.tracecheck(&run, 0, &["1 passed", "8 spans"]).await;
    let elsewhere =
        ["run", &happy, "--attach", "--entry", "default/nowhere", "--evidence", "datadog"];
    world.tracecheck(&elsewhere, 3, &[]).await;

    let canary = ["canary", &happy, "--every", "1s", "--for", "1s", "--format", "json"];
    let reported =
        world.tracecheck(&[canary.as_slice(), &attach].concat(), 0, &["\"canary\":\"pass\""]).await;
    assert_eq!(reported.lines().count(), 1, "{reported}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_broken_in_the_cluster_is_named() {
    let env = [("OTEL_PROPAGATORS".to_owned(), "none".to_owned())].into();
    let chain =
        ChainChoice { env: [("sample-app-2".to_owned(), env)].into(), ..ChainChoice::default() };
    // With keys that may only search, as where the preview is not to be had.
    let world = World::new(chain, true).await;
    let (entry, happy) = (world.entry(), world.path("happy.yaml"));
    let run = [
        "run",
        &happy,
        "--attach",
        "--entry",
        &entry,
        "--evidence",
        "datadog",
        "--patience",
        "30s",
    ];
    let broken = "the link sample-app-1 -> sample-app-2 is broken";
    world.tracecheck(&run, 1, &[broken, "`sample-app-2` started trace "]).await;
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_the_run_starts_in_the_cluster_is_judged_by_what_datadog_shows() {
    let (intake, port) = intake_with_key().await;
    let datadog = StandIn::over(&intake.url(), DELAY, 600).await;
    let dir = tempfile::tempdir().expect("a folder");
    let beside = |name: &str| dir.path().join(name).display().to_string();
    let (happy, config, saved) = (beside("happy.yaml"), beside("collector.yaml"), beside("saved"));
    std::fs::write(&happy, HAPPY).expect("a scenario");
    std::fs::write(&config, collector_config(&format!("http://{}:{port}", host()))).unwrap();
    let image = image();
    let run = ["run", &happy, "-v", "--env", "cluster", "--image", &image, "--evidence", "datadog"];
    let run = [run.as_slice(), &["--collector-config", &config, "--patience"]].concat();
    let kept = ["90s", "--save", &saved, "--junit", &beside("junit.xml")];
    let said = ["environment cluster", "1 passed", "8 spans", "trace API: "];
    tracecheck(&datadog.url(), &[run.as_slice(), &kept].concat(), 0, &said).await;
    // The keys are in a Secret of the cluster, and in nothing that was kept: logs, events, states of resources, reports.
    let (files, logs) = without_keys(dir.path());
    assert!(files >= 10 && logs >= 3, "{files} files, {logs} logs");
    let kubernetes = Path::new(&saved).join("system-0");
    assert!(find(&kubernetes, "kubernetes-resources.json"), "{}", kubernetes.display());

    let broken = ["30s", "--app-env", "sample-app-2:OTEL_PROPAGATORS=none"];
    let named = "the link sample-app-1 -> sample-app-2 is broken";
    tracecheck(&datadog.url(), &[run.as_slice(), &broken].concat(), 1, &[named]).await;
}

fn find(dir: &Path, name: &str) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => find(&path, name),
        false => path.file_name().is_some_and(|file| file == name),
    })
}

/// A chain whose collector sends to an intake that is not there before a run makes it.
struct Pointed {
    environment: KubernetesEnvironment,
    entry: String,
}

impl Pointed {
    async fn at(intake_namespace: &str, dir: &Path, env: &[(&str, &str)]) -> Self {
        let config = dir.join("pointed.yaml");
        let intake = format!("http://intake.{intake_namespace}.svc:8080");
        std::fs::write(&config, collector_config(&intake)).expect("a config");
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env: BTreeMap<String, String> = env.collect();
        let chain = ChainChoice {
            env: [("sample-app-2".to_owned(), env)].into(),
            ..ChainChoice::default()
        };
        let overrides = Overrides {
            datadog: Some(ToDatadog {
                site: "datadoghq.com".to_owned(),
                api_key: Secret::new(API_KEY),
            }),
            collector_config: Some(config),
            ..Overrides::default()
        };
        let system = build::system(&SystemChoice::Chain(chain), &overrides).unwrap().system;
        let run_id = new_run_id();
        let settings = Settings::new("cluster", client().await, &run_id, image());
        let mut environment = KubernetesEnvironment::new(settings, 0).expect("a folder for logs");
        environment.up(&system).await.expect("the chain comes up");
        Self { entry: format!("{}/sample-app-1", environment.namespace()), environment }
    }

    async fn down(mut self) {
        match self.environment.down().await {
            // What it has left for an intake that is gone, its collector cannot send.
            Ok(()) | Err(EnvironmentError::UncleanStop(_)) => {}
            Err(error) => panic!("not everything can be removed: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_there_is_judged_by_a_mock_intake_that_the_run_makes_in_the_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let happy = dir.path().join("happy.yaml").display().to_string();
    std::fs::write(&happy, HAPPY).expect("a scenario");
    let (namespace, image, client) = ("tracecheck-test-intake", image(), client().await);
    let run = async |pointed: &Pointed, more: &[&str], code, said: &[&str]| {
        let args = ["run", &happy, "--env", "cluster", "--attach", "--entry", &pointed.entry];
        let args = [args.as_slice(), &["--image", &image], more].concat();
        // Nothing is asked of Datadog, so no key is needed.
        tracecheck("http://127.0.0.1:1", &args, code, said).await;
    };
    let whole = Pointed::at(namespace, dir.path(), &[]).await;
    let saved = dir.path().join("saved").display().to_string();
    let reported = format!("traces: {{ endpoint: http://intake.{namespace}.svc:8080 }}");
    let named = ["--intake-namespace", namespace];
    let more = [named.as_slice(), &["--save", &saved]].concat();
    run(&whole, &more, 0, &["1 passed", "environment attached", &reported]).await;
    let gone = Api::<Namespace>::all(client.clone()).get_opt(namespace).await.unwrap();
    assert!(gone.is_none(), "the intake's namespace is left behind");
    without_keys(dir.path());
    // One for the run alone, to which nobody points the collector.
    let nothing = "nothing has arrived at the mock intake within 3s";
    run(&whole, &["--attach-wait", "3s"], 1, &[nothing, "-intake.svc:8080"]).await;
    whole.down().await;

    let broken = Pointed::at(namespace, dir.path(), &[("OTEL_PROPAGATORS", "none")]).await;
    run(&broken, &named, 1, &["the link sample-app-1 -> sample-app-2 is broken"]).await;
    broken.down().await;
}

/// Lets a canary's pod trust the stand-in's authority, as it trusts Datadog's.
fn trust(object: &mut DynamicObject, authority: &str) {
    let push = |list: &mut serde_json::Value, item| {
        list.as_array_mut().expect("a list").push(item);
    };
    if object.types.as_ref().is_some_and(|types| types.kind == "ConfigMap") {
        object.data["data"]["ca.pem"] = authority.into();
    }
    if object.types.as_ref().is_some_and(|types| types.kind == "CronJob") {
        let pod = &mut object.data["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let items = &mut pod["volumes"][0]["configMap"]["items"];
        push(items, json!({ "key": "ca.pem", "path": "ca.pem" }));
        let env = &mut pod["containers"][0]["env"];
        push(env, json!({ "name": "SSL_CERT_FILE", "value": "/scenarios/ca.pem" }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_on_a_schedule_comes_to_its_verdict_in_the_cluster() {
    const NAMESPACE: &str = "tracecheck-test-canary";
    let world = World::new(ChainChoice::default(), false).await;
    let client = client().await;
    remove_namespace(&client, NAMESPACE).await;
    let restricted = json!({
        "metadata": { "name": NAMESPACE, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    let post = PostParams::default();
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&post, &serde_json::from_value(restricted).unwrap()).await.unwrap();
    let secret = json!({
        "metadata": { "name": "datadog" }, "stringData": { "api-key": API_KEY, "app-key": APP_KEY },
    });
    let secrets = Api::<KubernetesSecret>::namespaced(client.clone(), NAMESPACE);
    secrets.create(&post, &serde_json::from_value(secret).unwrap()).await.unwrap();

    let (happy, image, entry) = (world.path("happy.yaml"), image(), world.service() + ":8080");
    let port = world.datadog.url().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let datadog = ([127, 0, 0, 1], port.expect("a port")).into();
    let tls = tls::Tls::before(&host(), datadog).await;
    let api = format!("--datadog-api-url=https://{}:{}", host(), tls.port);
    let args = ["manifests", "--canary", &happy, "--schedule", "0 0 1 1 *", "--entry", &entry];
    let more = ["--image", &image, "--namespace", NAMESPACE, &api, "--patience", "60s"];
    let printed = world.tracecheck(&[args.as_slice(), &more].concat(), 0, &["kind: CronJob"]).await;
    let mut template = None;
    for document in printed.split("---\n").filter(|text| !text.trim().is_empty()) {
        let mut object: DynamicObject = serde_saphyr::from_str(document).expect("a manifest");
        trust(&mut object, &tls.authority);
        let types = object.types.clone().expect("its kind");
        let (group, version) =
            types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let kind = GroupVersionKind::gvk(group, version, &types.kind);
        let (resource, _) = discovery::pinned_kind(&client, &kind).await.expect("it is served");
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &resource);
        let name = object.metadata.name.clone().expect("a name");
        let params = PatchParams::apply("tracecheck-test");
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await.expect("it is taken");
        if types.kind == "CronJob" {
            template = Some(applied.data["spec"]["jobTemplate"]["spec"].clone());
        }
    }
    let job = json!({ "metadata": { "name": "first" }, "spec": template.expect("a CronJob") });
    let jobs = Api::<Job>::namespaced(client.clone(), NAMESPACE);
    jobs.create(&post, &serde_json::from_value(job).unwrap()).await.expect("it is taken");
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let said = async || {
        let list = pods.list(&ListParams::default().labels("job-name=first")).await;
        let name = list.ok().and_then(|list| list.items.into_iter().next()?.metadata.name);
        match name {
            Some(name) => pods.logs(&name, &LogParams::default()).await.unwrap_or_default(),
            None => "no pod".to_owned(),
        }
    };
    until("the Job has completed", Duration::from_secs(150), async || {
        let status = jobs.get("first").await.map_err(|error| error.to_string())?.status;
        match status.as_ref().and_then(|status| status.succeeded) {
            Some(1) => Ok(()),
            None if status.as_ref().and_then(|status| status.failed).is_some() => {
                panic!("the Job failed: {}", said().await)
            }
            _ => Err(format!("{status:?}\n{}", said().await)),
        }
    })
    .await;
    let log = said().await;
    assert!(log.contains("\"canary\":\"pass\""), "{log}");
    for key in [API_KEY, APP_KEY] {
        assert!(!log.contains(key) && !printed.contains(key), "a key is shown");
    }
    remove_namespace(&client, NAMESPACE).await;
    world.down().await;
}
