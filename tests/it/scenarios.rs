//! The scenarios that are shipped hold on the system that is shipped.

use crate::{
    saved::run_and_replay,
    support::{ScenarioFile, root, tracecheck},
};

#[test]
fn every_scenario_passes_and_comes_to_the_same_result_when_it_is_judged_again() {
    let reports = tempfile::tempdir().unwrap();
    let junit = reports.path().join("junit.xml");
    let args = ["scenarios", "--junit", &junit.display().to_string()];
    let (saved, results) = run_and_replay(&args, 0);
    let files = std::fs::read_dir(root().join("scenarios")).unwrap();
    let scenarios = files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "yaml"))
        .count();
    assert!(scenarios >= 10, "{scenarios}");
    let passed = results.values().filter(|result| result["verdict"] == "pass").count();
    assert_eq!((passed, results.len()), (scenarios, scenarios));
    let report = std::fs::read_to_string(junit).unwrap();
    assert!(
        report.contains(&format!("tests=\"{scenarios}\"")) && report.contains("failures=\"0\""),
        "{report}"
    );

    // What was captured can be shown; what was not is said.
    let dir = saved.path().display().to_string();
    let records =
        std::fs::read_to_string(saved.path().join("system-0").join("system.json")).unwrap();
    let system: serde_json::Value = serde_json::from_str(&records).unwrap();
    let id = system["scenarios"][0]["cases"][0]["case"]["trace_id"].as_str().unwrap().to_owned();
    tracecheck(&["show", &id, "--run", &dir])
        .expect_code(0)
        .expect_stdout("server GET /outgoing-sampleapp 200");
    tracecheck(&["show", &"0".repeat(32), "--run", &dir])
        .expect_code(2)
        .expect_stderr("was not captured");
}

#[test]
fn every_scenario_passes_over_datadogs_otlp_intake_but_for_stats_which_datadog_makes_itself() {
    let ran = tracecheck(&[
        "run",
        "scenarios",
        "--collector-config",
        "scenarios/collector/otlp-intake.yaml",
    ])
    .expect_code(0)
    .expect_stdout("SKIP  apm-stats")
    .expect_stdout("has no `datadog` exporter: Datadog computes the stats on its side");
    ran.expect_stdout(" passed, 1 skipped in");
}

/// A service whose collector sends its spans to the mock and, as OTLP over gRPC, to another collector of the system.
#[test]
fn a_collector_may_send_a_copy_to_another_workload_of_the_system() {
    let scenario = "name: copied\ndescription: A copy goes to another collector.\nsystem: { file: system.yaml }\nrequests: [{ get: /, times: 2 }]\nexpect: { within: 5s, spans: [{ kind: server, count: 1 }] }\ntolerate: [{ rule: silent-service, because: a collector makes no spans }]\n";
    let system = r#"
entry: web
workloads:
  - name: web
    builtin: sample-app
    env:
      NAME: web
      LISTEN_ADDR: ${listen:http}
      OTEL_SERVICE_NAME: web
      OTEL_EXPORTER_OTLP_ENDPOINT: ${endpoint:collector.otlp-grpc}
      OTEL_BSP_SCHEDULE_DELAY: "50"
    ports: [http]
    health: { port: http, path: /health }
    ledger: http
  - name: copies
    builtin: collector
    args: ["--config=${file:copies.yaml}"]
    ports: [otlp-grpc]
    files:
      copies.yaml: !text |
        receivers: { otlp: { protocols: { grpc: { endpoint: "${listen:otlp-grpc}" } } } }
        exporters: { debug: { verbosity: normal } }
        service:
          telemetry: { metrics: { level: none } }
          pipelines: { traces: { receivers: [otlp], exporters: [debug] } }
collector:
  config: collector.yaml
  env: { COPIES: "${address:copies.otlp-grpc}" }
"#;
    let collector = |endpoint: &str| {
        format!(
            r#"
receivers: {{ otlp: {{ protocols: {{ grpc: }} }} }}
processors: {{ batch: {{ timeout: 50ms }} }}
exporters:
  datadog: {{ api: {{ key: "${{env:DD_API_KEY}}" }} }}
  otlp: {{ endpoint: "{endpoint}", tls: {{ insecure: true }} }}
service: {{ pipelines: {{ traces: {{ receivers: [otlp], processors: [batch], exporters: [datadog, otlp] }} }} }}
"#
        )
    };
    let file = ScenarioFile::new(scenario)
        .with("system.yaml", system)
        .with("collector.yaml", &collector("${env:COPIES}"));
    let saved = file.path().replace("scenario.yaml", "saved");
    file.run(&["--save", &saved]).expect_code(0).expect_stdout("1 passed");
    let log = std::fs::read_to_string(format!("{saved}/system-0/copies.log")).unwrap();
    assert!(log.contains(r#"service.name="web""#), "{log}");

    file.with("collector.yaml", &collector("vendor.example:4317"))
        .run(&[])
        .expect_code(2)
        .expect_stderr("exporter `otlp` sends to a destination that is not the mock intake");
}

#[test]
fn the_schema_for_editors_is_current() {
    let schema = tracecheck(&["schema"]).expect_code(0).stdout;
    let stored = std::fs::read_to_string(root().join("scenarios/schema.json")).unwrap();
    assert!(schema == stored, "run `tracecheck schema > scenarios/schema.json`");
}

#[test]
fn moving_to_the_otlp_intake_without_asking_for_stats_is_named() {
    tracecheck(&["run", "scenarios/otlp"])
        .expect_code(0)
        .expect_stdout("2 passed")
        .expect_stdout("there will be no trace metrics in Datadog");
    let lossy = "scenarios/otlp/collector/without-stats.yaml";
    tracecheck(&[
        "run",
        "scenarios/otlp",
        "--filter",
        "moved-with-apm",
        "--collector-config",
        lossy,
    ])
    .expect_code(1)
    .expect_stdout(
        "trace-metrics: the spans were sent as OTLP without the header `compute_stats: \"true\"`",
    );
    let asking = "scenarios/collector/otlp-intake.yaml";
    tracecheck(&[
        "run",
        "scenarios/otlp",
        "--filter",
        "moved-without",
        "--collector-config",
        asking,
    ])
    .expect_code(1)
    .expect_stdout("trace-metrics: there should be none");
    // With the datadog exporter it is for `stats` to say.
    let exporter = "scenarios/collector/article.yaml";
    tracecheck(&[
        "run",
        "scenarios/otlp",
        "--filter",
        "moved-with-apm",
        "--collector-config",
        exporter,
    ])
    .expect_code(3)
    .expect_stdout("trace-metrics: not evaluated, because no span came as OTLP");
}

#[test]
fn a_config_for_all_signals_runs_where_only_traces_are_wanted() {
    let all = "collector/testdata/config/traces-only/adot.yaml";
    let run = |more: &[&str]| {
        let run = ["run", "scenarios/happy-path.yaml", "--collector-config", all];
        tracecheck(&[&run[..], more].concat())
    };
    run(&["--traces-only"]).expect_code(0).expect_stdout("1 passed");
    run(&[]).expect_code(2).expect_stderr("leaves out with `--traces-only`");
    run(&["--traces-only", "--env", "cluster", "--collector-image", "registry.example/otelcol:1"])
        .expect_code(2)
        .expect_stderr("--traces-only is the built-in collector's");
    run(&["--traces-only", "--collector-command", "otelcol"])
        .expect_code(2)
        .expect_stderr("cannot be used with");
}
