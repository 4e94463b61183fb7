//! How a run comes to rest, and what it proves where it does not.

use std::process::{Command, Stdio};

use serde_json::Value;

use harness_prove::{catalogue, change::Sites, tap::Tap};

use crate::support::{ScenarioFile, TRACECHECK, ran, root};

const SCENARIO: &str = "name: later\ndescription: Its own trace is whole.\n\
     system: { chain: { protocol: http/protobuf } }\n\
     requests: [{ get: /outgoing-sampleapp?of=scenario }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_is_proven_behind_the_scenario_fails_and_is_not_undecided() {
    let breakage = catalogue::all().find(|one| one.name == "what-comes-later-is-lost").unwrap();
    let sites = Sites { entry: "sample-app-1".to_owned(), ..Sites::default() };
    let tap = Tap::start(breakage.how.change(), sites).await.expect("a tap");
    let endpoint = tap.instead_of("${address:collector.otlp-http}");
    let variable = format!("sample-app-1:OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}");
    let scenario = ScenarioFile::new(SCENARIO);
    let path = scenario.path();
    let mut command = Command::new(TRACECHECK);
    command.args(["run", &path, "--format", "json", "--app-env", &variable]);
    command.current_dir(root()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran(output.expect("it ends"));
    assert!(tap.changed() > 0, "nothing was lost: {}", ran.stdout);
    let stdout = ran.expect_code(1).stdout;
    let mut lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let revised = lines.rfind(|line| line["event"] == "verdict-revised");
    let result = &revised.expect("a verdict was revised")["result"];
    assert_eq!(result["verdict"], "fail", "{result}");
    let lost = &result["failures"][0];
    assert_eq!(lost["rule"], "lost-span", "{lost}");
    for text in [
        "in a request like the scenario's that followed it: `sample-app-1` ended",
        "lost between `sample-app-1` and the collector, which took ",
    ] {
        assert!(lost["detail"].as_str().unwrap().contains(text), "{text}: {lost}");
    }
    let of = [&lost["service"], &lost["stage"]];
    assert_eq!(of, ["sample-app-1", "before-collector"], "{lost}");
}
