//! Traces that no request claims: whose they are, alone and beside other scenarios.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use harness::{case::Origin, strays::Nobodys, test_system::TestSystem};

use crate::{
    saved::run_and_replay,
    support::{Ran, ScenarioFile, TRACECHECK, tracecheck},
};

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn chain(name: &str, get: &str) -> String {
    format!(
        "name: {name}\ndescription: It does what it does.\nrequests: [{{ get: '{get}', times: 4, concurrency: 4 }}]\n"
    )
}

/// Runs a scenario for `get` beside eleven healthy ones.
fn run_beside_others(get: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..11 {
        let name = format!("healthy-{number}");
        let text = chain(&name, "/outgoing-sampleapp");
        std::fs::write(dir.path().join(format!("{name}.yaml")), text).unwrap();
    }
    std::fs::write(dir.path().join("apart.yaml"), chain("apart", get)).unwrap();
    tracecheck(&["run", &dir.path().display().to_string()])
}

/// A shop that is asked for its health by a route that is traced.
fn shop(own_traces: &str, get: &str) -> ScenarioFile {
    let system = format!(
        "entry: shop
workloads:
  - name: shop
    builtin: sample-app
    env:
      OTEL_SERVICE_NAME: shop
      LISTEN_ADDR: ${{listen:http}}
      OTEL_EXPORTER_OTLP_ENDPOINT: ${{endpoint:collector.otlp-grpc}}
      OTEL_BSP_SCHEDULE_DELAY: \"50\"
    ports: [http]
    health: {{ port: http, path: / }}
{own_traces}"
    );
    let scenario = format!(
        "name: shop\ndescription: Our own service.\nsystem: {{ file: shop.system.yaml }}\nrequests: [{{ get: '{get}' }}]\n"
    );
    ScenarioFile::new(&scenario).with("shop.system.yaml", &system)
}

#[test]
fn a_linked_consumer_fails_nothing_alone_and_beside_others() {
    let alone = ScenarioFile::new(&chain("apart", "/later")).run(&["-v"]);
    let alone = alone.expect_code(0);
    assert!(!alone.stdout.contains("no known request"), "{}", alone.stdout);
    run_beside_others("/later").expect_code(0).expect_stdout("12 passed");
}

#[test]
fn a_lost_context_is_named_at_the_run_alone_and_beside_others() {
    let reported = "`sample-app-1` began `process later` (consumer) 4 times; the first is trace ";
    let alone = ScenarioFile::new(&chain("apart", "/later?linked=false")).run(&[]);
    alone
        .expect_code(3)
        .expect_stdout("1 passed")
        .expect_stdout("undecided: chain of 2: 4 traces began by no known request")
        .expect_stdout(reported)
        .expect_stdout("own_traces");
    let beside = run_beside_others("/later?linked=false");
    beside.expect_code(3).expect_stdout("12 passed").expect_stdout(reported);
}

#[test]
fn a_context_that_is_lost_after_a_restart_is_not_taken_for_the_start() {
    // The first request takes longer than a start is given after the last that was heard of it.
    let scenario = "name: apart\ndescription: It starts anew and loses contexts.\nrequests:\n  - { get: /outgoing-sampleapp }\n  - { get: '/later?linked=false', times: 4 }\nfaults:\n  - { at: sample-app-1, restart: true }\n  - { at: sample-app-2, delay: 700ms }\n";
    ScenarioFile::new(scenario)
        .run(&[])
        .expect_code(3)
        .expect_stdout("1 passed")
        .expect_stdout("`sample-app-1` began `process later` (consumer) 4 times");
}

#[test]
fn what_is_undecided_of_a_run_is_in_its_saved_form_and_its_junit_report() {
    let lost = ScenarioFile::new(&chain("apart", "/later?linked=false"));
    let (saved, results) = run_and_replay(&[&lost.path()], 3);
    assert_eq!(results["apart"]["verdict"], "pass");
    let junit = saved.path().join("junit.xml");
    let (dir, file) = (saved.path().display().to_string(), junit.display().to_string());
    tracecheck(&["replay", &dir, "--junit", &file]).expect_code(3);
    let report = std::fs::read_to_string(junit).unwrap();
    assert!(report.contains("name=\"the run\"") && report.contains("process later"), "{report}");
}

#[test]
fn a_job_that_the_system_file_declares_is_the_services_own() {
    let declared = "own_traces: [{ service: shop, resource: process * }]\n";
    shop("", "/later?linked=false").run(&[]).expect_code(3).expect_stdout("`process later`");
    shop(declared, "/later?linked=false").run(&["-v"]).expect_code(0).expect_stdout(
        "began as declared under `own_traces` in the system file: `process later` of `shop`",
    );
}

#[test]
fn a_traced_start_fails_nothing() {
    shop("", "/outgoing-sampleapp")
        .run(&["-v"])
        .expect_code(0)
        .expect_stdout("at the start of services")
        .expect_stdout("`GET /` of `shop`");
}

#[tokio::test]
async fn somebody_elses_request_fails_no_scenario_and_is_reported() -> TestResult {
    let chain = TestSystem::chain(TRACECHECK).await?;
    chain.get("/outgoing-sampleapp").send().await.whole_trace()?;
    let session = chain.session();
    let url = session.endpoints().url("sample-app-2", "http").ok_or("no address")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    assert_eq!(client.post(format!("{url}/login")).send().await?.status(), 404);
    chain.get("/outgoing-sampleapp").send().await.whole_trace()?;
    let nobodys = || session.witness().nobodys_strays();
    let mut changes = session.source().changes();
    let came = async {
        while nobodys().groups.is_empty() {
            changes.changed().await?;
        }
        Ok::<Nobodys, Box<dyn std::error::Error>>(nobodys())
    };
    let found = tokio::time::timeout(Duration::from_secs(20), came).await??;
    assert_eq!(found.groups[0].origin, Origin::Foreign);
    let found = found.judge("the chain", None);
    assert!(found.undecided.is_empty(), "{found:?}");
    let reported = "`sample-app-2` began `POST` (server, answered 404)";
    assert!(found.warnings[0].text.contains(reported), "{found:?}");
    chain.stop().await?;
    Ok(())
}
