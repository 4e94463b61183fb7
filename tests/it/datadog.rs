//! Evidence from Datadog, of which a stand-in plays the API: what is driven through a system that is up, and asked for late.

use std::{process::Stdio, time::Duration};

use harness::{scenario::FaultKind, test_system::TestSystem};

use crate::{
    stand_in::{API_KEY, APP_KEY, StandIn, collector_config, intake_with_key, without_keys},
    support::{Ran, TRACECHECK, root},
};

/// How much later than captured the stand-in shows a span.
const DELAY: Duration = Duration::from_millis(1500);

/// Runs the program with the keys of the stand-in at `url`; nothing that it says may hold them.
async fn tracecheck(url: &str, args: &[&str]) -> Ran {
    with_keys(url, (API_KEY, APP_KEY), args).await
}

async fn with_keys(url: &str, (api_key, app_key): (&str, &str), args: &[&str]) -> Ran {
    let output = tokio::process::Command::new(TRACECHECK)
        .args(args)
        .current_dir(root())
        .env_remove("DD_SITE")
        .env("DD_API_KEY", api_key)
        .env("DD_APP_KEY", app_key)
        .env("TRACECHECK_DATADOG_API_URL", url)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program can be started");
    let ran = Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    for key in [API_KEY, APP_KEY] {
        assert!(!ran.stdout.contains(key) && !ran.stderr.contains(key), "{ran:?}");
    }
    ran
}

struct World {
    chain: TestSystem,
    datadog: StandIn,
}

impl World {
    async fn new() -> Self {
        let chain = TestSystem::chain(TRACECHECK).await.expect("a chain");
        let datadog =
            StandIn::over(chain.session().intake().expect("the mock intake").url(), DELAY, 600)
                .await;
        Self { chain, datadog }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_for_an_intake_is_refused_where_there_is_none() {
    let words = ["run", "scenarios/happy-path.yaml", "--env", "cluster", "--image", "r/t:1"];
    let options = ["--evidence", "datadog", "--intake-listen", "10.0.0.1:0"];
    let ran = tracecheck("http://127.0.0.1:1", &[&words[..], &options].concat()).await;
    ran.expect_code(2).expect_stderr("there is no mock intake; leave it out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_trace_is_verified_by_every_spelling_of_its_id() {
    let world = World::new().await;
    let answer = world.chain.get("/outgoing-sampleapp").send().await;
    let id = answer.whole_trace().unwrap().id;
    let spelled =
        [id.to_string(), id.to_xray(), format!("{:016x}", id.low()), id.low().to_string()];
    let ids: Vec<&str> = spelled.iter().map(String::as_str).collect();
    let url = world.datadog.url();
    let ran = tracecheck(&url, &[&["verify", "--patience", "2s"], ids.as_slice()].concat())
        .await
        .expect_code(0)
        .expect_stdout(&format!("trace {id}\n4 spans, 3 services"))
        .expect_stdout("held: no-trace, orphan-span, ")
        .expect_stdout("not evaluated: trace-id-halves-disagree, because the evidence does not give raw Datadog payloads")
        .expect_stdout("trace API: ")
        .expect_stdout("left of 600 in 1m");
    assert!(ran.stdout.contains("passed"), "{}", ran.stdout);

    // By the search alone, and by what a scenario asks for.
    let scenario = "scenarios/happy-path.yaml";
    let intake = world.chain.session().intake().unwrap().url();
    let search = StandIn::search_alone(intake, DELAY).await;
    tracecheck(&search.url(), &["verify", &spelled[0], "--patience", "2s", "--expect", scenario])
        .await
        .expect_code(0)
        .expect_stdout("Asked by the spans search alone, since trace API: ")
        .expect_stdout("not evaluated: response, because");
    let other = "scenarios/second-hop-answers-503.yaml";
    tracecheck(&url, &["verify", &spelled[0], "--patience", "2s", "--expect", other])
        .await
        .expect_code(1)
        .expect_stdout("error-not-marked");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_a_broken_hop_and_prints_the_budget() {
    let system = chain_with("sample-app-2", "OTEL_PROPAGATORS", "none");
    let chain = TestSystem::start(TRACECHECK, system).await.unwrap();
    let datadog = StandIn::over(chain.session().intake().unwrap().url(), DELAY, 600).await;
    let answer = chain.get("/outgoing-sampleapp").within(Duration::from_secs(1)).send().await;
    let id = answer.result().trace_id.to_string();
    let args = ["verify", &id, "--patience", "2s", "--expect", "scenarios/happy-path.yaml"];
    tracecheck(&datadog.url(), &args)
        .await
        .expect_code(1)
        .expect_stdout("the link sample-app-1 -> sample-app-2 is broken")
        .expect_stdout("left of 600 in 1m");
}

fn chain_with(app: &str, name: &str, value: &str) -> harness::scenario::SystemChoice {
    let env = [(name.to_owned(), value.to_owned())].into();
    let chain = harness::scenario::ChainChoice {
        env: [(app.to_owned(), env)].into(),
        ..Default::default()
    };
    harness::scenario::SystemChoice::Chain(chain)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_can_be_followed_through_a_verified_trace() {
    let world = World::new().await;
    let request =
        world.chain.get("/outgoing-sampleapp").fault("sample-app-2", FaultKind::Status(503));
    let id = request.send().await.result().trace_id.to_string();
    let url = world.datadog.url();
    let args =
        ["verify", &id, "--patience", "2s", "--expect", "scenarios/second-hop-answers-503.yaml"];
    tracecheck(&url, &args).await.expect_code(0).expect_stdout("503 ERROR");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decided_says_what_to_set_and_is_neither_pass_nor_fail() {
    let world = World::new().await;
    let (url, id) = (world.datadog.url(), "0af7651916cd43dd8448eb211c80319c");
    tracecheck(&url, &["verify", id, "--patience", "1s"])
        .await
        .expect_code(3)
        .expect_stdout("has shown no span of this trace within 1s")
        .expect_stdout("DD_SITE");
    with_keys(&url, ("wrong", "wrong"), &["verify", id]).await.expect_code(3).expect_stdout(
        "refused the keys (403: Forbidden): check that DD_API_KEY and DD_APP_KEY are valid",
    );
    with_keys(&url, ("", ""), &["verify", id]).await.expect_code(2).expect_stderr(
        "DD_API_KEY and DD_APP_KEY not set. To ask Datadog for traces, set DD_API_KEY",
    );
    with_keys(&url, ("line\nend", "x"), &["verify", id])
        .await
        .expect_code(2)
        .expect_stderr("DD_API_KEY holds characters that a header cannot carry");
    tracecheck("http://127.0.0.1:1", &["verify", id, "--patience", "1s"])
        .await
        .expect_code(3)
        .expect_stdout("127.0.0.1:1 cannot be reached")
        .expect_stdout("check the network");
    tracecheck(&url, &["verify", "nonsense"])
        .await
        .expect_code(2)
        .expect_stderr("write 32 hex digits");
    let empty = StandIn::over(world.chain.session().intake().unwrap().url(), DELAY, 0).await;
    tracecheck(&empty.url(), &["verify", id, "--patience", "1s"])
        .await
        .expect_code(3)
        .expect_stdout("the rate limit of Datadog's API is used up")
        .expect_stdout("0 left of 600");
}

/// A scenario in a folder of its own.
fn scenario(yaml: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a file of this test");
    let path = dir.path().join("scenario.yaml");
    std::fs::write(&path, yaml).expect("a file of this test");
    let path = path.display().to_string();
    (dir, path)
}

const HAPPY: &str = "name: happy\ndescription: One request.\nrequests: [{ get: /outgoing-sampleapp, times: 2 }]\nexpect: { tree: { server: sample-app-1, children: [{ client: sample-app-1, children: [{ server: sample-app-2 }] }] } }\n";
const FAULTY: &str = "name: faulty\ndescription: The second hop fails.\nrequests: [{ get: /outgoing-sampleapp, status: 502 }]\nfaults: [{ at: sample-app-2, status: 503 }]\n";
const ABSENT: &str = "name: absent\ndescription: Nothing comes.\nrequests: [{ get: /outgoing-sampleapp, sampled: false }]\nexpect: { absent: true }\n";
const NEEDS_MOCK: &str = "name: needs-mock\ndescription: It scripts the intake.\nrequests: [{ get: /outgoing-sampleapp }]\nfaults: [{ at: intake, status: 503, next: 1 }]\nexpect: { refused_attempts: 1 }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_there_is_driven_and_judged_by_what_datadog_shows_late() {
    let world = World::new().await;
    let session = world.chain.session();
    let entry = session.endpoints().url("sample-app-1", "http").unwrap();
    let url = world.datadog.url();
    let (dir, happy) = scenario(HAPPY);
    std::fs::write(dir.path().join("faulty.yaml"), FAULTY).unwrap();
    let (saved, junit) = (dir.path().join("saved"), dir.path().join("junit.xml"));
    let (saved, junit) = (saved.display().to_string(), junit.display().to_string());
    let folder = dir.path().display().to_string();
    let args = [
        "run",
        &folder,
        "--attach",
        "--entry",
        &entry,
        "--evidence",
        "datadog",
        "--patience",
        "20s",
    ];
    let ran = tracecheck(
        &url,
        &[args.as_slice(), &["-vv", "--save", &saved, "--junit", &junit]].concat(),
    )
    .await
    .expect_code(0)
    .expect_stdout("environment attached")
    .expect_stdout("2 passed")
    .expect_stdout("not evaluated, because the evidence does not give APM stats: stats-disagree")
    .expect_stdout("trace API: ");
    let id = saved_trace(&saved);
    tracecheck(&url, &["replay", &saved]).await.expect_code(0).expect_stdout("2 passed");
    tracecheck(&url, &["show", &id, "--run", &saved])
        .await
        .expect_code(0)
        .expect_stdout("sample-app-2 server");
    // No file of the run holds a key, nor does anything that it said.
    let mut files = 0;
    for path in [saved, junit, happy] {
        files += without_keys(std::path::Path::new(&path)).0;
    }
    assert!(files >= 4, "{files}: {ran:?}");

    std::fs::write(dir.path().join("faulty.yaml"), ABSENT).unwrap();
    std::fs::write(dir.path().join("needs-mock.yaml"), NEEDS_MOCK).unwrap();
    let few = ["--filter", "absent", "--filter", "needs-mock", "--patience", "4s"];
    let args = [&args[..7], few.as_slice()].concat();
    tracecheck(&url, &args)
        .await
        .expect_code(3)
        .expect_stdout(
            "absent: not evaluated, because the evidence does not give complete evidence",
        )
        .expect_stdout(
            "a fault at `intake` needs the mock intake, but evidence comes from Datadog",
        );
}

/// The trace of the first case of a saved run.
fn saved_trace(dir: &str) -> String {
    let path = std::path::Path::new(dir).join("system-0/system.json");
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("a file of this test"))
            .expect("a file of this test");
    saved["scenarios"][0]["cases"][0]["case"]["trace_id"]
        .as_str()
        .expect("a file of this test")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_propagation_is_named_by_what_datadog_shows() {
    for (app, named) in [
        ("sample-app-1", "the link tracecheck -> sample-app-1 is broken"),
        ("sample-app-2", "`sample-app-2` started trace "),
    ] {
        let chain = TestSystem::start(TRACECHECK, chain_with(app, "OTEL_PROPAGATORS", "none"))
            .await
            .unwrap();
        let datadog = StandIn::over(chain.session().intake().unwrap().url(), DELAY, 600).await;
        let entry = chain.session().endpoints().url("sample-app-1", "http").unwrap();
        let (_dir, happy) = scenario(HAPPY);
        let args = [
            "run",
            &happy,
            "--attach",
            "--entry",
            &entry,
            "--evidence",
            "datadog",
            "--patience",
            "9s",
        ];
        tracecheck(&datadog.url(), &args).await.expect_code(1).expect_stdout(named);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_datadog_shows_too_late_is_neither_passed_nor_failed() {
    let world = World::new().await;
    let session = world.chain.session();
    let entry = session.endpoints().url("sample-app-1", "http").unwrap();
    let (_dir, happy) = scenario(HAPPY);
    let late = StandIn::over(session.intake().unwrap().url(), Duration::from_secs(60), 600).await;
    let args =
        ["run", &happy, "--attach", "--entry", &entry, "--evidence", "datadog", "--patience", "3s"];
    tracecheck(&late.url(), &args)
        .await
        .expect_code(3)
        .expect_stdout("has shown no span of this trace within 3s")
        .expect_stdout("1 inconclusive");
    with_keys(&late.url(), ("wrong", "wrong"), &args)
        .await
        .expect_code(3)
        .expect_stdout("Datadog cannot be asked. trace API: ");
    with_keys(&late.url(), ("", ""), &args)
        .await
        .expect_code(2)
        .expect_stderr("DD_APP_KEY not set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_the_run_starts_may_send_where_its_config_says() {
    // Its own Datadog: an intake that nobody reads but the stand-in.
    let other = TestSystem::chain(TRACECHECK).await.unwrap();
    let intake = other.session().intake().unwrap().url().to_owned();
    let datadog = StandIn::over(&intake, DELAY, 600).await;
    let (dir, happy) = scenario(HAPPY);
    let path = dir.path().join("collector.yaml");
    std::fs::write(&path, collector_config(&intake)).unwrap();
    let path = path.display().to_string();
    let args = ["run", &happy, "--evidence", "datadog", "--collector-config", &path];
    // The other chain's intake refuses the key, so nothing can be seen: what is checked here is that it was sent there.
    let ran = tracecheck(&datadog.url(), &[args.as_slice(), &["--patience", "3s"]].concat())
        .await
        .expect_code(3);
    assert!(ran.stdout.contains("has shown no span of this trace"), "{}", ran.stdout);
    let refused = harness::evidence::EvidenceSource::refused(other.session().intake().unwrap());
    assert!(refused.get("403").is_some_and(|count| *count > 0), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_the_run_starts_is_judged_by_what_datadog_shows() {
    let (intake, _port) = intake_with_key().await;
    let datadog = StandIn::over(&intake.url(), DELAY, 600).await;
    let (dir, happy) = scenario(HAPPY);
    let beside = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(beside("collector.yaml"), collector_config(&intake.url())).unwrap();
    let config = beside("collector.yaml");
    let args =
        ["run", &happy, "-v", "--evidence", "datadog", "--collector-config", &config, "--patience"];
    let (saved, junit) = (beside("saved"), beside("junit.xml"));
    let kept = ["20s", "--save", &saved, "--junit", &junit];
    tracecheck(&datadog.url(), &[args.as_slice(), &kept].concat())
        .await
        .expect_code(0)
        .expect_stdout("environment process")
        .expect_stdout("1 passed")
        .expect_stdout("8 spans")
        .expect_stdout("trace API: ");
    // Its services and its collector, which has the key, have all said something.
    let (files, logs) = without_keys(dir.path());
    assert!(files >= 8 && logs >= 3, "{files} files, {logs} logs");

    let broken = ["9s", "--app-env", "sample-app-2:OTEL_PROPAGATORS=none"];
    tracecheck(&datadog.url(), &[args.as_slice(), &broken].concat())
        .await
        .expect_code(1)
        .expect_stdout("the link sample-app-1 -> sample-app-2 is broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_there_is_judged_by_a_mock_intake_alone_too() {
    let world = World::new().await;
    let session = world.chain.session();
    let entry = session.endpoints().url("sample-app-1", "http").unwrap();
    let intake = session.intake().unwrap().url().to_owned();
    let (_dir, happy) = scenario(HAPPY);
    let args = ["run", &happy, "--attach", "--entry", &entry, "--intake", &intake];
    tracecheck("http://127.0.0.1:1", &[args.as_slice(), &["-v"]].concat())
        .await
        .expect_code(0)
        .expect_stdout(
            "not evaluated, because the evidence does not give exclusive evidence: stray-trace",
        )
        .expect_stderr(&format!("traces: {{ endpoint: {intake} }}"));
    // Whose collector it is that sends there is seen by requests of the run's own.
    let waits = [args.as_slice(), &["--attach-wait", "60s"]].concat();
    tracecheck("http://127.0.0.1:1", &waits).await.expect_code(0).expect_stdout("1 passed");
    // What came before proves nothing: the collector of this entry does not send there.
    let elsewhere = ["run", &happy, "--attach", "--entry", &intake, "--intake", &intake];
    tracecheck("http://127.0.0.1:1", &[elsewhere.as_slice(), &["--attach-wait", "200ms"]].concat())
        .await
        .expect_code(1)
        .expect_stdout("holds no span of a request that was sent for it within 200ms");
    tracecheck("http://127.0.0.1:1", &["run", &happy, "--attach"])
        .await
        .expect_code(2)
        .expect_stderr("--entry <URL|NAMESPACE/SERVICE[:PORT]>");
    tracecheck("http://127.0.0.1:1", &["run", &happy, "--attach", "--entry", "shop"])
        .await
        .expect_code(2)
        .expect_stderr("write NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT, or a base URL");
}
