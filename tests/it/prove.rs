//! The catalogue of breakages: its page is current, and what it says is so.

use std::fs;

use crate::support::{Ran, ScenarioFile, root, tracecheck};

#[test]
fn the_page_about_what_is_detected_is_the_catalogues() {
    let page = fs::read_to_string(root().join("docs/detection.md")).unwrap();
    let ran = tracecheck(&["prove", "--page"]).expect_code(0);
    assert!(
        ran.stdout == page,
        "docs/detection.md is not current: `tracecheck prove --page >docs/detection.md`"
    );
}

#[test]
fn breakages_of_each_edge_are_caught_and_their_clean_twins_pass() {
    // HTTP between services, OTLP, Datadog's payloads, and a service's own settings.
    let names = ["traceparent-dropped-now", "parent-removed", "priority-zero", "exporter-off"];
    let filters = names.iter().flat_map(|name| ["--filter", name]);
    let args: Vec<&str> = ["prove", "--parallel", "2"].into_iter().chain(filters).collect();
    tracecheck(&args)
        .expect_code(0)
        .expect_stdout("caught  chain  traceparent-dropped-now-and-then")
        .expect_stdout("caught  own    exporter-off")
        .expect_stdout("8 of 8 breakages caught (100 %; chain 4 of 4, own 4 of 4), 0 with a misleading finding, 0 false alarms on 5 clean twins");
}

/// The services of the catalogue.
const OWN_SYSTEM: &str = include_str!("../../harness/prove/src/catalogue/own.system.yaml");

/// These services, and a scenario of theirs.
fn own_services(expect: &str) -> ScenarioFile {
    let scenario = format!(
        "name: happy\ndescription: It works.\nsystem: {{ file: own.system.yaml }}\nrequests: [{{ get: /outgoing-sampleapp, times: 3 }}]\nexpect: {{ within: 3s{expect} }}\n"
    );
    ScenarioFile::new(&scenario).with("own.system.yaml", OWN_SYSTEM)
}

fn prove_scenario(file: &ScenarioFile, filters: &[&str], more: &[&str]) -> Ran {
    let path = file.path();
    let filters = filters.iter().flat_map(|text| ["--filter", text]);
    let args = ["prove", "--scenario", &path, "--parallel", "2"].into_iter().chain(filters);
    tracecheck(&args.chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn what_a_users_scenario_misses_is_reported_with_what_would_report_it_and_then_it_does() {
    let file = own_services("");
    let filters = ["route-lost", "client-span-lost", "error-lost", "stats-hits"];
    let would = "spans: [{ at: pay, kind: server, is: { resource: \"GET /outgoing-sampleapp\" }, count: 1 }]";
    prove_scenario(&file, &filters, &[])
        .expect_code(1)
        .expect_stdout("caught     client-span-lost                               orphan-span\n")
        .expect_stdout("MISSED     route-lost")
        .expect_stdout(&format!("`happy` would report it by `expect: {{ {would} }}`"))
        .expect_stdout("not there  error-lost")
        .expect_stdout(
            "`happy` would report it by `expect: { stats: [{ service: web, kind: server, hits: 3 }] }`",
        )
        .expect_stdout(
            "2 missed, 0 undecided; 1 cannot be made there; between shop and pay, entered at web",
        );
    let advised = own_services(&format!(", {would}"));
    let ran = prove_scenario(&advised, &["route-lost"], &["--format", "json"]).expect_code(0);
    let reported: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&reported["caught"], &reported["missed"]), (&1.into(), &0.into()), "{reported}");
    assert_eq!(reported["sites"], serde_json::json!(["web", "shop", "pay"]));
    let one = &reported["breakages"][0];
    assert_eq!((&one["outcome"], &one["by"][0]), (&"caught".into(), &"spans".into()), "{reported}");
}

#[test]
fn a_scenario_that_does_not_pass_while_nothing_is_broken_proves_nothing() {
    let file = own_services(", spans: [{ at: pay, kind: server, count: 2 }]");
    prove_scenario(&file, &["kind-changed"], &[])
        .expect_code(2)
        .expect_stderr("`happy` does not pass while nothing is broken");
}

#[test]
fn a_name_that_no_breakage_has_is_reported() {
    tracecheck(&["prove", "--filter", "no-such-thing"])
        .expect_code(2)
        .expect_stderr("no breakage's name contains it");
}
