//! Tests of what a report says of records, before the page shows it.

use serde_json::Value;

use super::*;
use crate::{
    judge::{judge, testing::World},
    strays::Nobodys,
};

/// The index of a report on one record, and its traces.
fn report(world: &World, max_bytes: usize) -> (Value, usize) {
    let dir = tempfile::tempdir().unwrap();
    let system = dir.path().join("system-0");
    std::fs::create_dir(&system).unwrap();
    crate::saved::testing::write(&system, &[&world.record], &Nobodys::default());
    let systems = crate::saved::read(dir.path()).unwrap();
    let mut summary = Summary::new("run");
    summary.scenarios.push(judge(&world.record));
    let run = Run { summary: &summary, environment: "process", systems: &systems };
    let (index, blocks) = put_together(run, max_bytes).unwrap();
    (serde_json::to_value(&index).unwrap(), blocks.left_out())
}

#[test]
fn a_run_that_passed_has_its_traces_its_map_and_its_ledger() {
    let (index, left_out) = report(&World::healthy(), MAX_TRACES);
    assert_eq!((index["verdict"].as_str(), left_out), (Some("pass"), 0));
    let row = &index["traces"][0];
    assert_eq!((row["verdict"].as_str(), row["spans"].as_u64()), (Some("pass"), Some(4)));
    assert_eq!(row["place"], serde_json::json!([0, 0]));
    let scenario = &index["scenarios"][0];
    let edges = serde_json::json!([
        ["sample-app-1", "sample-app-2", 1, 0, 0],
        ["tracecheck", "sample-app-1", 1, 0, 0],
    ]);
    assert_eq!((&scenario["map"]["edges"], &index["map"]["edges"]), (&edges, &edges));
    let ledger = &scenario["ledger"];
    assert_eq!(ledger["captured"], 4);
    assert_eq!(
        ledger["services"]["sample-app-1"],
        serde_json::json!({ "ended": 2, "captured": 2 })
    );
    assert_eq!(ledger["services"]["tracecheck"]["ended"], 1);
    assert_eq!(scenario["first_failure"], Value::Null);
}

#[test]
fn a_broken_hop_is_missing_in_the_map_and_what_was_lost_is_in_the_ledger() {
    let mut world = World::healthy();
    world.lose("sample-app-2");
    let (index, _) = report(&world, MAX_TRACES);
    assert_eq!(index["verdict"], "fail");
    let scenario = &index["scenarios"][0];
    let first = scenario["first_failure"].as_str().unwrap();
    assert_eq!(index["traces"][0]["failure"], first);
    let lost = &scenario["ledger"]["services"]["sample-app-2"];
    assert_eq!(lost, &serde_json::json!({ "ended": 1, "captured": 0 }));
    let record = &world.record;
    let missing = detail::missing(record, &record.cases[0]);
    let [span] = missing.as_slice() else { panic!("{missing:?}") };
    assert_eq!((span.service.as_str(), span.elsewhere), ("sample-app-2", None));
    assert_eq!(span.parent, Some(crate::trace::SpanId(0xa2)));
}

#[test]
fn a_trace_that_hangs_apart_is_with_its_request_and_has_a_row_of_its_own() {
    let mut world = World::healthy();
    world.lose("sample-app-2");
    world.stray("sample-app-2");
    let (index, _) = report(&world, MAX_TRACES);
    let rows = index["traces"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let request = rows[1]["request"].as_str().unwrap();
    assert!(
        request.starts_with("began while the call `GET` of `sample-app-1` in trace 6740"),
        "{request}"
    );
    let edges = &index["scenarios"][0]["map"]["edges"];
    let broken = serde_json::json!(["sample-app-1", "sample-app-2", 0, 0, 1]);
    assert!(edges.as_array().unwrap().contains(&broken), "{edges}");
}

#[test]
fn traces_without_room_are_listed_and_counted() {
    let mut world = World::healthy();
    let again = world.record.cases[0].clone();
    world.record.cases.push(again);
    let (index, left_out) = report(&world, 1);
    assert_eq!((index["left_out"].as_u64(), left_out), (Some(1), 1));
    assert_eq!(index["traces"][1]["place"], Value::Null);
}

#[test]
fn ledgers_add_up_and_what_one_of_them_does_not_know_is_unknown() {
    let mut world = World::healthy();
    let known = LedgerView::new(&world.record, &world.record.cases[0]);
    let mut sum = LedgerView::default();
    sum.add(&known);
    assert_eq!(sum, known);
    sum.add(&known);
    let twice = serde_json::to_value(&sum).unwrap();
    assert_eq!(twice["services"]["sample-app-1"]["ended"], 4);
    assert_eq!(twice["captured"], 8);
    let unknown = crate::case::LedgerReport::Unknown("it has none".to_owned());
    world.evidence().ledgers.insert("sample-app-1".to_owned(), unknown);
    sum.add(&LedgerView::new(&world.record, &world.record.cases[0]));
    let sum = serde_json::to_value(&sum).unwrap();
    assert_eq!(sum["services"]["sample-app-1"]["ended"], Value::Null);
    assert_eq!(sum["services"]["sample-app-1"]["unknown"], "it has none");
    assert_eq!(sum["services"]["sample-app-2"]["ended"], 3);
}
