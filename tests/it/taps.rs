//! Tests of what is done to what passes between two workloads: what a scenario asks for is done, reported where it has no effect, and
//! nothing else is changed by what stands there.

use crate::support::{Ran, ScenarioFile, tracecheck};

/// Requests through the chain, with faults.
fn chain(faults: &str, requests: &str) -> Ran {
    let yaml = format!(
        "name: tapped\ndescription: Something stands in between.\nsystem: {{ chain: {{ apps: 3 }} }}\nrequests:\n  - {{ get: /outgoing-sampleapp{requests} }}\nfaults:\n{faults}expect: {{ within: 5s }}\n"
    );
    ScenarioFile::new(&yaml).run(&[])
}

fn between(caller: &str, callee: &str, does: &str) -> String {
    format!("  - {{ between: [{caller}, {callee}], {does} }}\n")
}

#[test]
fn a_dropped_context_makes_the_callee_begin_a_trace_of_its_own_which_is_what_the_fault_implies() {
    chain(&between("sample-app-1", "sample-app-2", "drop_header: traceparent"), ", times: 3")
        .expect_code(0)
        .expect_stdout("1 passed");
}

#[test]
fn what_is_between_passes_calls_grpc_and_payloads_on_as_they_came() {
    let late = "delay: 20ms";
    let all = [
        between("sample-app-2", "sample-app-3", late),
        between("sample-app-3", "collector", late),
        between("collector", "intake", late),
        between("sample-app-1", "sample-app-2", "drop_header: x-nobody-sends-this, next: 0"),
    ];
    // The last one has no effect, which is reported; all the others have.
    chain(&all.concat(), ", times: 3")
        .expect_code(1)
        .expect_stdout("fault-without-effect: `drop_header: x-nobody-sends-this` between `sample-app-1` and `sample-app-2` had no effect")
        .expect_stdout("requests passed there, and the fault applied to none of them");
    chain(&all[..3].concat(), ", times: 3").expect_code(0);
}

#[test]
fn an_answer_in_place_of_the_callee_fails_its_callers_and_cuts_the_trace_there() {
    chain(&between("sample-app-2", "sample-app-3", "status: 503"), ", status: 502").expect_code(0);
}

#[test]
fn what_the_collector_never_gets_is_lost_in_front_of_it() {
    chain(&between("sample-app-3", "collector", "swallow: true"), "")
        .expect_code(1)
        .expect_stdout("lost-span")
        .expect_stdout("lost between `sample-app-3` and the collector");
}

#[test]
fn what_is_refused_once_is_sent_again_and_what_is_delivered_twice_unchanged_is_no_failure() {
    let faults = [
        between("sample-app-3", "collector", "status: 503, next: 1"),
        between("collector", "intake", "duplicate: true"),
    ];
    chain(&faults.concat(), ", times: 2").expect_code(0);
}

#[test]
fn what_cannot_stand_between_two_workloads_is_reported_before_anything_runs() {
    let check = |faults: &str| {
        let yaml =
            format!("name: tapped\ndescription: x\nrequests: [{{ get: / }}]\nfaults:\n{faults}");
        tracecheck(&["check", &ScenarioFile::new(&yaml).path()]).expect_code(2)
    };
    check(&between("sample-app-2", "sample-app-1", "delay: 1s")).expect_stderr(
        "`sample-app-2` is not given the address of `sample-app-1` by a reference such as `${endpoint:sample-app-1.http}`; it is given that of `collector`",
    );
    check(&between("sample-app-1", "sample-ap-2", "delay: 1s")).expect_stderr(
        "there is no workload `sample-ap-2` in the system; did you mean `sample-app-2`?",
    );
    check(&between("sample-app-1", "sample-app-2", "stop: true, delay: 1s"))
        .expect_stderr("`stop` is done `at` a workload, and not to what passes between two");
    check("  - { at: sample-app-2, drop_header: traceparent }\n").expect_stderr(
        "`drop_header` is done to what passes between two workloads: `between: [CALLER, sample-app-2]` in place of `at`",
    );
    check(&between("sample-app-1", "sample-app-2", "swallow: true, duplicate: true"))
        .expect_stderr("does several things: write a fault of its own for each");
    check(&between("sample-app-1", "sample-app-2", "drop_header: 'a b'"))
        .expect_stderr("`a b` cannot be the name of a header");
    let two = "set_header: { name: x-a, value: b }";
    let refused = check(&between("sample-app-1", "sample-app-2", two))
        .expect_stderr("one header, with its value: `set_header: { traceparent: … }`");
    assert!(!refused.stderr.contains("says nothing of what is done"), "{}", refused.stderr);
}
