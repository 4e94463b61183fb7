//! The scenario that `tracecheck record` writes loads, passes, and is not vacuous.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;

use crate::{
    own_services,
    support::{ScenarioFile, tracecheck},
};

const CHAIN: &str = "name: seen\ndescription: Seen once.\nrequests:\n  - { get: /outgoing-sampleapp, times: 4, concurrency: 2 }\nexpect:\n  within: 5s\n  services: [sample-app-1]\n";

/// Records a scenario, and runs what was written; its path and its text.
#[track_caller]
fn recorded(file: &ScenarioFile) -> (String, String) {
    let path = file.path();
    let to = path.replace(".yaml", "-recorded.yaml");
    tracecheck(&["record", &path])
        .expect_code(0)
        .expect_stdout(&format!("run it:  tracecheck run {to}"));
    tracecheck(&["check", &to]).expect_code(0);
    tracecheck(&["run", &to]).expect_code(0).expect_stdout("1 passed");
    let text = fs::read_to_string(&to).unwrap();
    (to, text)
}

#[test]
fn the_chain_is_recorded_as_a_tree_that_passes_and_fails_where_it_is_changed() {
    let file = ScenarioFile::new(CHAIN);
    let (to, text) = recorded(&file);
    insta::assert_snapshot!("chain", text);
    tracecheck(&["record", &file.path()])
        .expect_code(2)
        .expect_stderr("is there already; name another file with --to");
    let other = text.replace("- server: sample-app-2", "- server: sample-app-1");
    assert_ne!(other, text);
    fs::write(&to, &other).unwrap();
    tracecheck(&["run", &to]).expect_code(1).expect_stdout("`sample-app-1 server");
    tracecheck(&["record", &file.path(), "--write-over"]).expect_code(0);
    assert_eq!(fs::read_to_string(&to).unwrap(), text);
}

#[test]
fn own_services_with_requests_that_differ_are_recorded_by_totals() {
    let more = "  - { get: /, times: 2 }\n";
    let (_, text) = recorded(&own_services::scenario("OTEL_BSP_SCHEDULE_DELAY: \"50\"", more));
    let expect = text.split_once("expect:\n").unwrap().1;
    assert!(expect.starts_with("  services: [shop]\n  totals:\n"), "{text}");
    assert!(expect.contains("{ at: shop, kind: server, is: { name: http.server.request, resource: \"GET /\", status: 200, error: false }, count: 2 }"), "{text}");
    assert!(
        expect.contains("at: pay, kind: server") && text.contains("name: own-recorded\n"),
        "{text}"
    );
    let one = own_services::scenario("OTEL_BSP_SCHEDULE_DELAY: \"50\"", "");
    let (_, text) = recorded(&one);
    assert!(text.contains("          - server: pay\n"), "{text}");
}

#[test]
fn a_run_that_does_not_pass_is_not_written() {
    let file = ScenarioFile::new(&CHAIN.replace("within: 5s", "within: 1s"));
    let path = file.path();
    let to = path.replace(".yaml", "-recorded.yaml");
    tracecheck(&["record", &path, "--app-env", "sample-app-2:OTEL_PROPAGATORS=none"])
        .expect_code(1)
        .expect_stdout("missing-hop")
        .expect_stderr("was not written: the run did not pass");
    assert!(!fs::exists(&to).unwrap());
    let nowhere = format!("{path}.d/x.yaml");
    tracecheck(&["record", &path, "--to", &nowhere]).expect_code(2).expect_stderr("cannot write");
}
