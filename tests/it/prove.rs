//! The catalogue of breakages: its page is current, and what it says is so.

use std::fs;

use crate::support::{root, tracecheck};

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
        .expect_stdout("caught  traceparent-dropped-now-and-then")
        .expect_stdout("4 of 4 breakages caught (100 %), 0 with a misleading finding, 0 false alarms on 4 clean twins");
}

#[test]
fn a_name_that_no_breakage_has_is_told() {
    tracecheck(&["prove", "--filter", "no-such-thing"])
        .expect_code(2)
        .expect_stderr("no breakage's name contains that");
}
