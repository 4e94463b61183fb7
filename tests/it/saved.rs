//! A saved run comes to the verdicts that it had: everything that a verdict is made of is in it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Ran, ScenarioFile, tracecheck};

/// Returns the outcome of a run or a replay.
fn summary(ran: &Ran) -> Value {
    let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap_or_default()).unwrap();
    last["summary"].clone()
}

/// The results of a run or a replay by scenario, but for the time that things took.
fn results(ran: &Ran) -> BTreeMap<String, Value> {
    let summary = summary(ran);
    let results = summary["scenarios"].as_array().unwrap().iter().cloned();
    let without_times = results.map(|mut result| {
        result.as_object_mut().unwrap().remove("took_ms").unwrap();
        for case in result["cases"].as_array_mut().unwrap() {
            case.as_object_mut().unwrap().remove("judged_after_ms").unwrap();
        }
        (result["name"].as_str().unwrap().to_owned(), result)
    });
    without_times.collect()
}

/// Runs scenarios and judges them again from what was saved; the results of both, which must be the same.
#[track_caller]
pub(crate) fn run_and_replay(
    args: &[&str],
    code: i32,
) -> (tempfile::TempDir, BTreeMap<String, Value>) {
    let saved = tempfile::tempdir().unwrap();
    let dir = saved.path().display().to_string();
    let form = ["--format", "json"];
    let ran = tracecheck(&[&["run"], args, &["--save", dir.as_str()], &form].concat());
    let ran = ran.expect_code(code);
    let replayed = tracecheck(&[&["replay", dir.as_str()], form.as_slice()].concat());
    let replayed = replayed.expect_code(code);
    assert_eq!(replayed.stderr, "");
    for of_the_run in ["warnings", "undecided", "notes"] {
        let (live, again) = (summary(&ran), summary(&replayed));
        assert_eq!(live[of_the_run], again[of_the_run], "`{of_the_run}` of the run");
    }
    let (live, again) = (results(&ran), results(&replayed));
    assert_eq!(live.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (name, live) in &live {
        assert_eq!(live, &again[name], "`{name}` comes to another result when it is judged again");
    }
    (saved, live)
}

/// Scenarios of systems that are broken, each in its way, with the verdict and a text of it.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    (
        "cut-at-the-entry",
        "system: { chain: { env: { sample-app-1: { OTEL_PROPAGATORS: none } } } }",
        "fail",
        "the link tracecheck -> sample-app-1 is broken",
    ),
    (
        "cut-between-the-hops",
        "system: { chain: { env: { sample-app-2: { OTEL_PROPAGATORS: none } } } }",
        "fail",
        "the link sample-app-1 -> sample-app-2 is broken; `sample-app-2` started trace",
    ),
    (
        "sampled-out",
        "system: { chain: { env: { sample-app-2: { OTEL_TRACES_SAMPLER: always_off } } } }",
        "fail",
        "`sample-app-2` sampled out 1 span(s)",
    ),
    ("without-a-collector", "faults: [{ at: collector, stop: true }]", "fail", "collector unknown"),
    (
        "forbidden",
        "faults: [{ at: intake, status: 403 }]",
        "fail",
        "answered 403 (the API key is refused)",
    ),
    (
        "without-an-outage",
        "expect: { refused_attempts: 1 }",
        "fail",
        "the outage did not take place",
    ),
    (
        "without-an-answer",
        "faults: [{ at: sample-app-1, stop: true }]",
        "inconclusive",
        "no traffic: `sample-app-1` answered none of 3 requests",
    ),
    (
        "absent-without-proof",
        "system: { chain: { env: { all: { OTEL_TRACES_EXPORTER: none } } } }\nexpect: { absent: true, within: 1s }",
        "inconclusive",
        "absence is not proved",
    ),
    (
        "stats-after-a-failure",
        "system: { chain: { env: { sample-app-2: { OTEL_PROPAGATORS: none } } } }\nexpect: { stats: [{ service: sample-app-1, hits: 3 }] }",
        "fail",
        "the scenario's traces are not as they should be",
    ),
    (
        "stats-of-too-many",
        "expect: { stats: [{ service: sample-app-1, kind: server, hits: 7 }] }",
        "fail",
        "`sample-app-1 server` should have 7 hits",
    ),
    ("whole", "expect: { within: 10s }", "pass", ""),
];

#[test]
fn broken_systems_come_to_the_same_results_when_they_are_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    for (name, more, ..) in BROKEN {
        let sampled = if *name == "absent-without-proof" { ", sampled: false" } else { "" };
        let within = if more.contains("expect:") { "" } else { "expect: { within: 1s }\n" };
        let yaml = format!(
            "name: {name}\ndescription: It breaks.\nrequests: [{{ get: /outgoing-sampleapp, times: 3, concurrency: 3, any_status: true{sampled} }}]\n{within}{more}\n"
        );
        std::fs::write(dir.path().join(format!("{name}.yaml")), yaml).unwrap();
    }
    let (_saved, results) = run_and_replay(&[&dir.path().display().to_string()], 1);
    for (name, _, verdict, text) in BROKEN {
        let result = &results[*name];
        assert_eq!(result["verdict"], *verdict, "{name}: {result:#}");
        let reported = result.to_string().replace("\\\"", "\"");
        assert!(reported.contains(text), "`{text}` is not said of {name}: {result:#}");
    }
}

#[test]
fn a_services_silence_and_what_it_sent_at_the_very_end_are_in_a_saved_run() {
    use crate::own_services::scenario;
    let silent = scenario("OTEL_TRACES_EXPORTER: none", "");
    let (_saved, results) = run_and_replay(&[&silent.path()], 3);
    assert!(results["own"]["undecided"].to_string().contains("silent-service"));
    // Its stray trace comes when it is stopped, after the verdict was given.
    let late = "OTEL_PROPAGATORS: none\n      OTEL_BSP_SCHEDULE_DELAY: \"60000\"";
    let tolerate = "tolerate: [{ rule: silent-service, because: it sends late }]\n";
    let (_saved, results) = run_and_replay(&[&scenario(late, tolerate).path()], 1);
    assert_eq!(results["own"]["revised"], true);
}

#[test]
fn what_was_not_judged_is_no_pass_when_a_run_is_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = |name: &str, more: &str| {
        let yaml =
            format!("name: {name}\ndescription: One request.\nrequests: [{{ get: / }}]\n{more}\n");
        std::fs::write(dir.path().join(format!("{name}.yaml")), yaml).unwrap();
    };
    scenario("comes-up", "");
    let path = dir.path().display().to_string();
    scenario(
        "does-not-come-up",
        "system: { chain: { env: { sample-app-1: { OTEL_PROPAGATORS: nonsense } } } }",
    );
    let (saved, results) = run_and_replay(&[&path], 3);
    assert_eq!(results["comes-up"]["verdict"], "pass");
    let because = results["does-not-come-up"]["undecided"].to_string();
    assert!(because.contains("its system did not come up"), "{because}");
    // A filter takes what was not judged as well.
    let dir = saved.path().display().to_string();
    tracecheck(&["replay", &dir, "--filter", "comes-up"]).expect_code(0);
    tracecheck(&["replay", &dir, "--filter", "does-not"]).expect_code(3);
    std::fs::write(saved.path().join("not-judged.json"), "[").unwrap();
    tracecheck(&["replay", &dir])
        .expect_code(2)
        .expect_stderr("not-judged.json:1: it ends in the middle: the saved run was cut off");
    // Where no system came up at all, there is nothing else to be read.
    std::fs::remove_file(std::path::Path::new(&path).join("comes-up.yaml")).unwrap();
    run_and_replay(&[&path], 3);
}

#[test]
fn a_saved_run_of_another_form_is_refused() {
    let file = ScenarioFile::new("name: one\ndescription: One request.\nrequests: [{ get: / }]\n");
    let (saved, _) = run_and_replay(&[&file.path()], 0);
    let path = saved.path().join("system-0/system.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"form\":4", "\"form\":1", 1)).unwrap();
    tracecheck(&["replay", &saved.path().display().to_string()])
        .expect_code(2)
        .expect_stderr("its form is 1, this version reads 4");
}
