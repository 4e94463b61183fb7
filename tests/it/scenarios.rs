//! The scenarios that are shipped hold on the system that is shipped.

use crate::support::{root, tracecheck};

#[test]
fn every_scenario_passes_and_can_be_judged_again_from_what_was_saved() {
    let saved = tempfile::tempdir().unwrap();
    let dir = saved.path().display().to_string();
    let junit = saved.path().join("junit.xml");
    let ran =
        tracecheck(&["run", "scenarios", "--save", &dir, "--junit", &junit.display().to_string()])
            .expect_code(0);
    let files = std::fs::read_dir(root().join("scenarios")).unwrap();
    let scenarios = files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "yaml"))
        .count();
    assert!(scenarios >= 10, "{scenarios}");
    let ran = ran.expect_stdout(&format!("{scenarios} passed"));
    let report = std::fs::read_to_string(junit).unwrap();
    assert!(
        report.contains(&format!("tests=\"{scenarios}\"")) && report.contains("failures=\"0\""),
        "{report}"
    );

    let replayed =
        tracecheck(&["replay", &dir]).expect_code(0).expect_stdout(&format!("{scenarios} passed"));
    assert_eq!(replayed.stderr, "", "{}", ran.stdout);

    // What was captured can be shown; what was not is said.
    let attempts =
        std::fs::read_to_string(saved.path().join("system-0").join("system.json")).unwrap();
    let system: serde_json::Value = serde_json::from_str(&attempts).unwrap();
    let id = system["scenarios"][0]["cases"][0]["case"]["trace_id"].as_str().unwrap().to_owned();
    tracecheck(&["show", &id, "--run", &dir])
        .expect_code(0)
        .expect_stdout("server GET /outgoing-sampleapp 200");
    tracecheck(&["show", &"0".repeat(32), "--run", &dir])
        .expect_code(2)
        .expect_stderr("was not captured");
}

#[test]
fn the_schema_for_editors_is_current() {
    let schema = tracecheck(&["schema"]).expect_code(0).stdout;
    let stored = std::fs::read_to_string(root().join("scenarios/schema.json")).unwrap();
    assert!(schema == stored, "run `tracecheck schema > scenarios/schema.json`");
}
