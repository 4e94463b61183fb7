//! Evidence from Datadog, of which a stand-in plays the API: what is driven through a system that is up, and asked for late.

use std::{process::Stdio, time::Duration};

use harness::{scenario::FaultKind, test_system::TestSystem};

use crate::{
    stand_in::{API_KEY, APP_KEY, StandIn},
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
    let chain =
        harness::scenario::Chain { env: [(app.to_owned(), env)].into(), ..Default::default() };
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
