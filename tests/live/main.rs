//! A system in a live cluster, judged by what Datadog shows of it: driven from outside, exported in the cluster, shown late, asked
//! for and judged. A stand-in plays Datadog's API; it is fed with what the cluster's mock intake captures.
//!
//! Needs a cluster (KUBECONFIG) whose nodes have the image of `tracecheck` that TRACECHECK_TEST_IMAGE names, and fails without:
//! `cargo test -p harness --test live`.

use std::{process::Stdio, time::Duration};

use harness::{
    environment::kubernetes::{KubernetesEnvironment, Settings, cluster::Access},
    run::new_run_id,
    scenario::{Chain, SystemChoice},
    session::Session,
    system::build::{self, Overrides},
};
use tokio_util::sync::CancellationToken;

use self::stand_in::{API_KEY, APP_KEY, StandIn};

#[path = "../datadog/stand_in.rs"]
mod stand_in;

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

/// A chain that is up in a namespace of its own, with Datadog's stand-in over what it sends.
struct World {
    run_id: String,
    session: Session,
    datadog: StandIn,
    dir: tempfile::TempDir,
}

impl World {
    async fn new(chain: Chain, search_alone: bool) -> Self {
        let image = std::env::var("TRACECHECK_TEST_IMAGE").expect(
            "TRACECHECK_TEST_IMAGE names an image of tracecheck that the cluster's nodes have",
        );
        let found = Access { kubeconfig: None, context: None }.find().await.expect("a kubeconfig");
        let (client, _version) = found.connect("cluster").await.expect("a cluster that lets us in");
        let run_id = new_run_id();
        let settings = Settings::new("cluster", client, &run_id, image);
        let environment = KubernetesEnvironment::new(settings, 0).expect("a folder for logs");
        let choice = SystemChoice::Chain(chain);
        let system = build::system(&choice, &Overrides::default()).expect("a sound system").system;
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

    /// Runs the program, and fails unless it ends with this code and has said these things; gives its stdout.
    #[expect(
        clippy::print_stdout,
        reason = "what a user sees, for whoever reads the test's output"
    )]
    async fn tracecheck(&self, args: &[&str], code: i32, said: &[&str]) -> String {
        let running = tokio::process::Command::new(env!("CARGO_BIN_EXE_tracecheck"))
            .args(args)
            .env_remove("DD_SITE")
            .env("DD_API_KEY", API_KEY)
            .env("DD_APP_KEY", APP_KEY)
            .env("TRACECHECK_DATADOG_API_URL", self.datadog.url())
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
            assert!(stdout.contains(text), "`{text}` is not in {all}");
        }
        for key in [API_KEY, APP_KEY] {
            assert!(!all.contains(key), "a key is told: {all}");
        }
        stdout
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
    let world = World::new(Chain::default(), false).await;
    let (entry, happy, saved) = (world.entry(), world.path("happy.yaml"), world.path("saved"));
    let attach = ["--attach", "--entry", &entry, "--evidence", "datadog", "--patience", "90s"];
    let run = [&["run", &happy, "-v", "--save", &saved], attach.as_slice()].concat();
    let not_evaluated =
        "not evaluated: stray-trace, because the evidence does not give exclusive evidence";
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
    let told =
        world.tracecheck(&[canary.as_slice(), &attach].concat(), 0, &["\"canary\":\"pass\""]).await;
    assert_eq!(told.lines().count(), 1, "{told}");
    world.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_broken_in_the_cluster_is_named() {
    let env = [("OTEL_PROPAGATORS".to_owned(), "none".to_owned())].into();
    let chain = Chain { env: [("sample-app-2".to_owned(), env)].into(), ..Chain::default() };
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
