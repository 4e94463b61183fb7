//! Two saved runs compared: by the folders, and by one command with two collectors.

use std::fs;

use serde_json::Value;

use crate::support::{ScenarioFile, tracecheck};

/// A config that adds an attribute to each span that has a method.
const OTHER: &str = "receivers:
  otlp:
    protocols:
      grpc:
      http:
processors:
  attributes/rename:
    actions:
      - { key: http.way, from_attribute: http.request.method, action: insert }
exporters:
  datadog:
    api:
      key: ${env:DD_API_KEY}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [attributes/rename]
      exporters: [datadog]
";

fn page_of(dir: &tempfile::TempDir) -> String {
    dir.path().join("page.html").display().to_string()
}

fn scenario() -> ScenarioFile {
    ScenarioFile::new(
        "name: twice\ndescription: Two requests.\nrequests:\n  - { get: /outgoing-sampleapp, times: 2 }\nexpect: { within: 5s }\n",
    )
    .with("other.yaml", OTHER)
}

#[test]
fn two_runs_of_the_same_are_equal_and_another_config_differs_by_what_it_does() {
    let (file, dir) = (scenario(), tempfile::tempdir().unwrap());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (before, again, other) = (path("before"), path("again"), path("other"));
    let config = file.path().replace("scenario.yaml", "other.yaml");
    file.run(&["--save", &before]).expect_code(0);
    file.run(&["--save", &again]).expect_code(0);
    file.run(&["--save", &other, "--collector-config", &config]).expect_code(0);

    let equal = tracecheck(&["compare", &before, &again]).expect_code(0);
    equal.expect_stdout("EQUAL  nothing differs in 8 pairs of spans of 1 scenario");

    let page = path("differences.html");
    let ran = tracecheck(&["compare", &before, &other, "--format", "json", "--html", &page]);
    let found: Value = serde_json::from_str(&ran.expect_code(1).stdout).unwrap();
    assert_eq!((&found["schema"], &found["outcome"]), (&1.into(), &"different".into()));
    let titles: Vec<&str> = found["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["title"].as_str().unwrap())
        .collect();
    assert_eq!(titles, ["`http.way` in B only"]);
    assert_eq!(found["differences"][0]["count"], 8);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("`http.way` in B only"));

    for (wrong, message) in
        [(path("nothing"), "RUN_B: the run cannot be read: "), (path(""), "holds no saved run")]
    {
        tracecheck(&["compare", &before, &wrong]).expect_code(2).expect_stderr(message);
    }
    tracecheck(&["compare", &before, &again, "--html", "no/such/folder/page.html"])
        .expect_code(2)
        .expect_stderr("--html: the report no/such/folder/page.html cannot be written");
    let attempts = dir.path().join("again/system-0/attempts.jsonl");
    let text = fs::read_to_string(&attempts).unwrap();
    fs::write(&attempts, &text[..text.len() / 2]).unwrap();
    tracecheck(&["compare", &before, &again])
        .expect_code(2)
        .expect_stderr("attempts.jsonl:")
        .expect_stderr("it ends in the middle: the saved run was cut off; copy it whole");
    // What is cut between two attempts still reads well, and is another run.
    let lines = text.lines().count();
    let end = text.trim_end().rfind('\n').unwrap();
    fs::write(&attempts, &text[..=end]).unwrap();
    let wrong =
        format!("it ends after {} of {lines} attempts: the saved run was cut off", lines - 1);
    tracecheck(&["compare", &before, &again]).expect_code(2).expect_stderr(&wrong);
    tracecheck(&["replay", &again, "--html", &page_of(&dir)]).expect_code(2).expect_stderr(&wrong);
}

#[test]
fn one_command_runs_two_collectors_and_says_what_differs() {
    let (file, dir) = (scenario(), tempfile::tempdir().unwrap());
    let saved = dir.path().display().to_string();
    let config = file.path().replace("scenario.yaml", "other.yaml");
    let ran = file.run(&["--compare-with-collector", &config, "--save", &saved]).expect_code(1);
    ran.expect_stdout("DIFFERENT  1 cause in 8 pairs of spans of 1 scenario")
        .expect_stdout("`http.way` in B only: 8 spans in 1 scenario");
    let compared = dir.path().join("compared").display().to_string();
    tracecheck(&["compare", &saved, &compared]).expect_code(1);
    file.run(&["--compare-with-collector", "no/such/config.yaml"])
        .expect_code(2)
        .expect_stderr("--compare-with-collector: there is no config at no/such/config.yaml");
    file.run(&["--compare-with-collector", &config, "--env", "docker", "--keep"]).expect_code(2);
}

#[test]
fn a_second_collector_that_cannot_be_started_is_refused_before_anything_runs() {
    let file = scenario().with("plain", "");
    let plain = file.path().replace("scenario.yaml", "plain");
    for (collector, wrong) in [
        ("./no/such/otelcol --x", "the program `./no/such/otelcol` does not exist; build it"),
        ("no-such-otelcol", "the program `no-such-otelcol` is not in PATH; install it"),
        (&plain, "may not be executed; make it executable"),
    ] {
        for option in ["--compare-with-collector", "--collector-command"] {
            let ran = file.run(&[option, collector]).expect_code(2);
            assert_eq!(ran.stdout, "", "nothing was run");
            ran.expect_stderr(&format!("error: {option} ")).expect_stderr(wrong);
        }
    }
    // What ends at once is only known once it was started.
    file.run(&["--compare-with-collector", "false"])
        .expect_code(2)
        .expect_stdout("its system did not come up")
        .expect_stderr("nothing was compared, since no system came up with false");
}
