//! Testing the tests: a broken system turns red, and the message names the break.

use crate::support::{Ran, ScenarioFile, TRACECHECK};

/// One request through the chain, with whatever breaks it.
fn run(breaks: &str, more: &[&str]) -> Ran {
    let yaml = format!(
        "name: broken\ndescription: It breaks.\nrequests:\n  - {{ get: /outgoing-sampleapp, times: 2 }}\nexpect: {{ within: 3s }}\n{breaks}"
    );
    ScenarioFile::new(&yaml).run(more)
}

#[test]
fn propagation_switched_off_in_the_first_hop_is_named() {
    run("", &["--app-env", "sample-app-1:OTEL_PROPAGATORS=none"])
        .expect_code(1)
        .expect_stdout("no-trace")
        .expect_stdout("the link tracecheck -> sample-app-1 is broken")
        .expect_stdout("OTEL_PROPAGATORS");
}

#[test]
fn propagation_switched_off_in_the_second_hop_is_named() {
    run("", &["--app-env", "sample-app-2:OTEL_PROPAGATORS=none"])
        .expect_code(1)
        .expect_stdout("missing-hop")
        .expect_stdout(
            "the link sample-app-1 -> sample-app-2 is broken; `sample-app-2` started trace",
        );
}

#[test]
fn an_exporter_that_speaks_http_to_the_port_of_grpc_is_named() {
    run("", &["--app-env", "sample-app-2:OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"])
        .expect_code(1)
        .expect_stdout("lost between `sample-app-2` and the collector")
        .expect_stdout("likely an exporter that speaks HTTP (`OTel-OTLP-Exporter-Rust/")
        .expect_stdout("is pointed at the gRPC port of the collector")
        .expect_stdout("set OTEL_EXPORTER_OTLP_PROTOCOL=grpc there");
}

#[test]
fn services_that_speak_different_propagators_are_named() {
    run("", &["--app-env", "sample-app-2:OTEL_PROPAGATORS=xray"])
        .expect_code(1)
        .expect_stdout("the link sample-app-1 -> sample-app-2 is broken");
}

#[test]
fn a_stopped_collector_loses_what_the_services_made() {
    run("faults: [{ at: collector, stop: true }]", &[])
        .expect_code(1)
        .expect_stdout("no-trace")
        .expect_stdout("lost between the services and the intake")
        .expect_stdout("collector unknown")
        .expect_stdout("Connection refused");
}

#[test]
fn an_intake_that_forbids_for_ever_is_named() {
    run("faults: [{ at: intake, status: 403 }]", &[])
        .expect_code(1)
        .expect_stdout("no-trace")
        .expect_stdout("answered 403 (the API key is refused)");
}

#[test]
fn a_sampler_that_drops_half_is_named() {
    let sampler = ["--app-env", "sample-app-2:OTEL_TRACES_SAMPLER=traceidratio", "--app-env"];
    let ratio = "sample-app-2:OTEL_TRACES_SAMPLER_ARG=0.5";
    let yaml = "name: half\ndescription: Half is dropped.\nrequests:\n  - { get: /outgoing-sampleapp, times: 16 }\nexpect: { within: 3s }\n";
    let ran = ScenarioFile::new(yaml).run(&[sampler.as_slice(), &[ratio]].concat());
    // The chance that 16 trace ids all fall on one side of a half is 1 in 32,768.
    ran.expect_code(1)
        .expect_stdout("sampled-out: `sample-app-2` sampled out 1 span(s)")
        .expect_stdout("does not follow the parent");
}

#[test]
fn a_workload_that_reports_as_another_service_is_named() {
    run("", &["--app-env", "sample-app-2:OTEL_SERVICE_NAME=oops"])
        .expect_code(1)
        .expect_stdout("wrong-service: 1 span of `sample-app-2`")
        .expect_stdout("reach Datadog as service `oops`, and are meant to be of `sample-app-2`");
    let on_purpose = "system: { chain: { env: { sample-app-2: { OTEL_SERVICE_NAME: oops } } } }\n";
    run(on_purpose, &[]).expect_code(0);
}

#[test]
fn a_scenario_whose_tree_is_not_there_fails_with_both_trees() {
    let yaml = "name: tree\ndescription: The tree is another.\nrequests:\n  - { get: /outgoing-sampleapp }\nexpect:\n  within: 2s\n  tree: { server: sample-app-2 }\n";
    ScenarioFile::new(yaml)
        .run(&[])
        .expect_code(1)
        .expect_stdout("tree: `sample-app-2 server` is missing below tracecheck")
        .expect_stdout("sample-app-1 server GET /outgoing-sampleapp");
}

#[test]
fn an_outage_that_did_not_take_place_fails() {
    run("faults: [{ at: intake, status: 503, next: 1 }]\n", &[]).expect_code(0);
    let yaml = "name: calm\ndescription: No outage.\nrequests:\n  - { get: /outgoing-sampleapp }\nexpect: { refused_attempts: 1 }\n";
    ScenarioFile::new(yaml).run(&[]).expect_code(1).expect_stdout("the outage did not take place");
}

#[test]
fn no_scenario_and_no_traffic_are_inconclusive() {
    ScenarioFile::new("name: a\ndescription: b\nrequests: [{ get: / }]\n")
        .run(&["--filter", "something-else"])
        .expect_code(3)
        .expect_stdout("no scenario was run, so nothing is proved");
    let yaml = "name: silent\ndescription: Nobody answers.\nrequests: [{ get: /outgoing-sampleapp, any_status: true }]\nfaults: [{ at: sample-app-1, stop: true }]\nexpect: { within: 1s }\n";
    ScenarioFile::new(yaml)
        .run(&[])
        .expect_code(3)
        .expect_stdout("no traffic: `sample-app-1` answered none of 1 requests");
}

#[test]
fn a_service_that_dies_at_start_is_reported_with_its_log() {
    run("", &["--app-env", "sample-app-2:OTEL_PROPAGATORS=nonsense"])
        .expect_code(3)
        .expect_stdout("its system did not come up")
        .expect_stdout("`sample-app-2`")
        .expect_stdout("nonsense");
}

#[test]
fn absence_is_not_believed_where_later_traces_do_not_arrive_either() {
    let yaml = "name: absent\ndescription: Nothing comes.\nrequests: [{ get: /outgoing-sampleapp, sampled: false }]\nfaults: [{ at: collector, stop: true }]\nexpect: { absent: true, within: 2s }\n";
    // The collector is started again before the proof is made, and takes the proof's spans: so this one is proved …
    ScenarioFile::new(yaml).run(&[]).expect_code(0);
    // … and this one is not.
    let yaml = yaml.replace("{ at: collector, stop: true }", "");
    ScenarioFile::new(&yaml)
        .run(&["--app-env", "all:OTEL_TRACES_EXPORTER=none"])
        .expect_code(3)
        .expect_stdout("absence is not proved");
}

/// A collector config whose exporter is Datadog's OTLP intake, with these headers.
fn otlp_config(headers: &str) -> String {
    format!(
        "receivers: {{ otlp: {{ protocols: {{ grpc: , http: }} }} }}\nprocessors: {{ batch: {{ timeout: 50ms }} }}\nexporters: {{ otlphttp: {{ endpoint: 'https://otlp.example', headers: {{ {headers} }} }} }}\nservice: {{ pipelines: {{ traces: {{ receivers: [otlp], processors: [batch], exporters: [otlphttp] }} }} }}\n"
    )
}

fn run_over_otlp(headers: &str, expect: &str) -> Ran {
    let yaml = format!(
        "name: otlp\ndescription: Over OTLP.\nsystem: {{ chain: {{ collector_config: collector.yaml }} }}\nrequests: [{{ get: /outgoing-sampleapp }}]\nexpect: {{ within: 3s, {expect} }}\n"
    );
    ScenarioFile::new(&yaml).with("collector.yaml", &otlp_config(headers)).run(&["-v"])
}

#[test]
fn spans_that_go_out_as_otlp_are_judged_as_any_other() {
    run_over_otlp("", "tree: { server: sample-app-2 }")
        .expect_code(1)
        .expect_stdout("tree: `sample-app-2 server` is missing below tracecheck");
    let otlp = otlp_config("");
    let broken = "name: broken\ndescription: It breaks.\nsystem: { chain: { collector_config: collector.yaml } }\nrequests: [{ get: /outgoing-sampleapp }]\nexpect: { within: 3s }\n";
    ScenarioFile::new(broken)
        .with("collector.yaml", &otlp)
        .run(&["--app-env", "sample-app-2:OTEL_PROPAGATORS=none"])
        .expect_code(1)
        .expect_stdout("the link sample-app-1 -> sample-app-2 is broken");
    let forbidden = format!("{broken}faults: [{{ at: intake, status: 403 }}]\n");
    ScenarioFile::new(&forbidden)
        .with("collector.yaml", &otlp)
        .run(&[])
        .expect_code(1)
        .expect_stdout("answered 403 (the API key is refused)");
}

#[test]
fn what_only_datadogs_payloads_carry_is_never_passed_on_otlp() {
    let tree = "tree: { server: sample-app-1, more: true, is: { meta: { _dd.p.dm: '-9' } } }";
    run_over_otlp("compute_stats: 'true'", tree)
        .expect_code(3)
        .expect_stdout("only Datadog's own payloads carry `_dd.p.dm`");
    run_over_otlp("compute_stats: 'true'", "")
        .expect_code(0)
        .expect_stdout("not evaluated, because the spans came as OTLP");
}

#[test]
fn otlp_without_compute_stats_is_reported_and_fails_who_asks_for_stats() {
    let missing = "there will be no trace metrics in Datadog";
    run_over_otlp("", "").expect_code(0).expect_stdout("warning: ").expect_stdout(missing);
    let stats = "stats: [{ service: sample-app-1, kind: server, hits: 1 }]";
    run_over_otlp("", stats).expect_code(1).expect_stdout(&format!(
        "stats: the spans were sent as OTLP without the header `compute_stats: \"true\"`: {missing}"
    ));
    run_over_otlp("compute_stats: 'true'", stats)
        .expect_code(3)
        .expect_stdout("of which Datadog computes the stats on its side");
}

#[test]
fn stats_that_do_not_count_what_was_asked_for_fail() {
    let yaml = |stats: &str| {
        format!(
            "name: stats\ndescription: Counts.\nrequests: [{{ get: /outgoing-sampleapp, times: 2 }}]\nexpect: {{ within: 3s, stats: [{{ {stats} }}] }}\n"
        )
    };
    ScenarioFile::new(&yaml("service: sample-app-1, kind: server, hits: 3"))
        .run(&[])
        .expect_code(1)
        .expect_stdout("stats: `sample-app-1 server` should have 3 hits, has 2 hits, 0 errors");
    ScenarioFile::new(&yaml("service: sample-app-1, kind: server, hits: 2, errors: 1"))
        .run(&[])
        .expect_code(1)
        .expect_stdout("should have 2 hits, 1 errors, has 2 hits, 0 errors");
}

#[test]
fn a_collector_that_loses_its_stats_disagrees_with_its_spans() {
    // The reference exporter's gate, which switches the stats off.
    let yaml = "name: stats\ndescription: Counts.\nrequests: [{ get: /outgoing-sampleapp }]\nexpect: { within: 3s, stats: [{ service: nobody, hits: 0 }] }\n";
    let collector =
        format!("{TRACECHECK} collector --feature-gates=exporter.datadogexporter.DisableAPMStats");
    ScenarioFile::new(yaml)
        .run(&["--collector-command", &collector])
        .expect_code(1)
        .expect_stdout("stats-disagree: no APM stats were captured at all, and the captured spans make those of")
        .expect_stdout("sample-app-1 server GET /outgoing-sampleapp (http.server.request)")
        .expect_stdout("tracecheck explain stats-disagree");
}
