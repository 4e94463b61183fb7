//! The canary: rounds of the same scenarios, and the one verdict that they come to.

use crate::support::{Ran, ScenarioFile, tracecheck};

const HAPPY: &str =
    "name: happy\ndescription: One request.\nrequests: [{ get: /outgoing-sampleapp }]\n";

fn rounds(ran: &Ran) -> Vec<serde_json::Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("a round a line")).collect()
}

#[test]
fn rounds_that_pass_are_a_line_each_and_are_reported_together() {
    let file = ScenarioFile::new(HAPPY);
    let path = file.path();
    let beside = |name: &str| path.replace("scenario.yaml", name);
    let (junit, prometheus) = (beside("junit.xml"), beside("canary.prom"));
    let args = ["canary", &path, "--every", "200ms", "--for", "6s", "--format", "json"];
    let ran =
        tracecheck(&[args.as_slice(), &["--junit", &junit, "--prometheus", &prometheus]].concat())
            .expect_code(0);
    let rounds = rounds(&ran);
    let last = rounds.last().unwrap();
    assert!(rounds.len() > 1, "{ran:?}");
    assert_eq!(last["round"], rounds.len());
    assert_eq!((&last["verdict"], &last["canary"]), (&"pass".into(), &"pass".into()));
    assert_eq!(last["rounds"]["passed"], rounds.len());
    assert_eq!(last["scenarios"][0]["trace_ids"].as_array().unwrap().len(), 1);
    let junit = std::fs::read_to_string(junit).unwrap();
    for round in 1..=rounds.len() {
        assert!(junit.contains(&format!("name=\"round {round}: happy\"")), "{junit}");
    }
    let prometheus = std::fs::read_to_string(prometheus).unwrap();
    let passed = format!("tracecheck_canary_rounds_total{{verdict=\"pass\"}} {}", rounds.len());
    assert!(prometheus.contains(&passed), "{prometheus}");
}

#[test]
fn the_first_round_that_fails_ends_it_unless_it_is_to_go_on() {
    let file = ScenarioFile::new(HAPPY);
    let args = [
        "canary",
        &file.path(),
        "--every",
        "1ms",
        "--for",
        "1s",
        "--app-env",
        "sample-app-2:OTEL_PROPAGATORS=none",
    ];
    tracecheck(&args)
        .expect_code(1)
        .expect_stdout("round 1    ")
        .expect_stdout("the link sample-app-1 -> sample-app-2 is broken")
        .expect_stdout("fail: 0 passed, 1 failed, 0 inconclusive of 1 rounds");
}

#[test]
fn rounds_that_decide_nothing_never_pass() {
    let file = ScenarioFile::new(HAPPY);
    let attach = ["--attach", "--entry", "http://127.0.0.1:1", "--intake-listen", "127.0.0.1:0"];
    let args = ["canary", &file.path(), "--every", "1ms", "--for", "1ms", "--format", "json"];
    let ran = tracecheck(&[args.as_slice(), attach.as_slice()].concat()).expect_code(3);
    let rounds = rounds(&ran);
    assert_eq!((rounds.len(), &rounds[0]["verdict"]), (1, &"inconclusive".into()), "{ran:?}");
    assert!(
        rounds[0]["scenarios"][0]["undecided"][0].as_str().unwrap().contains("nothing listens at"),
        "{ran:?}"
    );
    tracecheck(&["canary", &file.path(), "--keep"])
        .expect_code(2)
        .expect_stderr("--keep: a canary takes");
    tracecheck(&["canary", &file.path(), "--every", "0s"])
        .expect_code(2)
        .expect_stderr("more than zero");
}
