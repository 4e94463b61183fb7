//! The harness and the sample apps spell faults alike, though neither crate knows the other.

use std::time::Duration;

use harness::scenario::{Fault, FaultKind, fault};

#[test]
fn every_fault_that_the_harness_sends_is_read_by_the_sample_apps_as_it_was_meant() {
    let kinds = [
        FaultKind::Status(503),
        FaultKind::Delay(Duration::from_millis(250)),
        FaultKind::Abort,
        FaultKind::Hang,
        FaultKind::Panic,
        FaultKind::ErrorRate { rate: 0.33, seed: 7 },
    ];
    let faults: Vec<Fault> = kinds
        .into_iter()
        .enumerate()
        .map(|(index, kind)| Fault {
            at: format!("sample-app-{index}"),
            kind,
            after: None,
            first: (index % 2 == 1).then_some(1),
        })
        .collect();
    let header = fault::header_value(&faults).unwrap();
    let read: sample_apps::fault::Faults = header.parse().unwrap();
    assert_eq!(read.to_string(), header);
}

#[test]
fn both_sides_name_the_header_alike() {
    assert_eq!(harness::driver::FAULT_HEADER, sample_apps::fault::FAULT_HEADER);
}
