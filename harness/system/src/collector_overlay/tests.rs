use super::*;

/// The article's config.
const ARTICLE: &str = "\
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 0.0.0.0:4317
      http:
        endpoint: 0.0.0.0:4318
processors:
  batch/traces:
    timeout: 5s
    send_batch_size: 50
exporters:
  datadog:
    api:
      site: datadoghq.com
      key: ${datadog_api_key}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [batch/traces]
      exporters: [datadog]
";

fn made(text: &str, reader: Reader) -> Result<Overlay, Vec<String>> {
    let config = CollectorConfig { file: "c.yaml".to_owned(), text: text.to_owned() };
    let env = BTreeMap::from([("SET".to_owned(), "1".to_owned())]);
    overlay(&config, reader, Some("intake"), &env)
        .map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

fn contents(overlay: &Overlay) -> Value {
    // As an environment that lets the collector choose: the number is JSON only once it is known.
    serde_json::from_str(&overlay.contents.replace(METRICS_PORT, "0")).unwrap()
}

#[test]
fn the_articles_config_is_bound_to_the_run_and_pointed_at_the_mock() {
    let overlay = made(ARTICLE, Reader::Builtin).unwrap();
    assert_eq!(
        contents(&overlay),
        json!({
            "receivers": { "otlp": { "protocols": {
                "grpc": { "endpoint": "${listen:otlp-grpc}" },
                "http": { "endpoint": "${listen:otlp-http}" },
            } } },
            "exporters": { "datadog": {
                "api": { "key": "$${env:TRACECHECK_API_KEY}" },
                "traces": { "endpoint": "${endpoint:intake.http}" },
                "metrics": { "endpoint": "${endpoint:intake.http}" },
                "logs": { "endpoint": "${endpoint:intake.http}" },
            } },
            "extensions": { "trace_ledger": { "endpoint": "${listen:ledger}" } },
            "service": {
                "extensions": ["trace_ledger"],
                "telemetry": { "metrics": { "readers": [
                    { "pull": { "exporter": { "prometheus": { "host": "${host:metrics}", "port": 0 } } } },
                ] } },
            },
        })
    );
    assert_eq!(overlay.ports, ["otlp-grpc", "otlp-http", "ledger", "metrics"]);
    assert_eq!(overlay.api_key_variables, BTreeSet::from(["datadog_api_key".to_owned()]));
    assert_eq!(overlay.health, None);
}

#[test]
fn a_foreign_collector_serves_no_metrics_and_listens_where_the_run_says() {
    let text = "\
receivers: {otlp: {protocols: {http: }}, otlp/x: {protocols: {grpc: {transport: unix}}}, otlp/unused: {protocols: {grpc: }}}
extensions: {health_check: {path: /up}, zpages: , health_check/unused: }
exporters: {datadog/a: {api: {key: '${env:KEY}'}}, debug: }
connectors: {datadog/connector: }
service:
  extensions: [health_check, zpages]
  pipelines:
    traces: {receivers: [otlp, otlp/x], exporters: [datadog/a, debug, datadog/connector]}
    metrics: {receivers: [datadog/connector], exporters: [datadog/a]}
";
    let overlay = made(text, Reader::Foreign).unwrap();
    let contents = contents(&overlay);
    assert_eq!(overlay.ports, ["otlp-http", "otlp/x-grpc", "health", "zpages"]);
    assert_eq!(
        contents["receivers"]["otlp/x"]["protocols"]["grpc"],
        json!({ "endpoint": "${listen:otlp/x-grpc}", "transport": "tcp" })
    );
    assert_eq!(
        contents["extensions"],
        json!({ "health_check": { "endpoint": "${listen:health}" }, "zpages": { "endpoint": "${listen:zpages}" } })
    );
    assert_eq!(contents["service"], json!({ "telemetry": { "metrics": { "level": "none" } } }));
    assert_eq!(
        contents["exporters"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["datadog/a"]
    );
    assert_eq!(overlay.health, Some(Health { port: "health".to_owned(), path: "/up".to_owned() }));
}

#[test]
fn metrics_that_the_user_switched_off_stay_off() {
    let text = ARTICLE.replace("service:\n", "service:\n  telemetry: {metrics: {level: none}}\n");
    let overlay = made(&text, Reader::Builtin).unwrap();
    assert_eq!(overlay.ports, ["otlp-grpc", "otlp-http", "ledger"]);
    assert_eq!(contents(&overlay)["service"]["telemetry"]["metrics"], json!({ "level": "none" }));
}

#[test]
fn a_destination_that_is_not_the_mock_is_refused_with_exporter_file_and_remedy() {
    let text = ARTICLE
        .replace("exporters: [datadog]", "exporters: [datadog, otlp/vendor, kafka]")
        .replace("exporters:\n", "exporters:\n  otlp/vendor:\n    endpoint: x:4317\n  kafka:\n")
        .replace(
            "service:\n",
            "service:\n  extensions: [datadog]\n  telemetry: {traces: {processors: [{batch: }]}}\n",
        );
    let findings = made(&text, Reader::Builtin).unwrap_err();
    assert_eq!(
        findings[0],
        "c.yaml:13:3: exporter `otlp/vendor` sends to a destination that is not the mock intake; Datadog takes no OTLP \
         over gRPC: use `otlphttp` or `datadog`, take it out of the pipelines of this config, or let its `endpoint` be a \
         variable that the collector's `env` sets to another workload, such as `${address:gateway.otlp-grpc}`"
    );
    assert!(
        findings[1].starts_with("c.yaml:15:3: exporter `kafka` sends to a destination"),
        "{findings:?}"
    );
    assert!(findings[2].contains("extension `datadog` reports to Datadog"), "{findings:?}");
    assert!(findings[3].contains("`service.telemetry.traces.processors`"), "{findings:?}");
    assert_eq!(findings.len(), 4);
}

/// The article's config with this exporter in place of its own.
fn with_exporter(id: &str, settings: &str) -> String {
    let (before, rest) = ARTICLE.split_once("  datadog:").unwrap();
    let (_, after) = rest.split_once("service:").unwrap();
    let after = after.replace("[datadog]", &format!("[{id}]"));
    format!("{before}  {id}: {settings}\nservice:{after}")
}

#[test]
fn an_otlphttp_exporter_is_pointed_at_the_mocks_otlp_intake_and_keeps_its_other_headers() {
    let text = with_exporter(
        "otlphttp/dd",
        "{ traces_endpoint: https://otlp.datadoghq.com/v1/traces, metrics_endpoint: https://x, headers: { DD-API-KEY: '${env:DD_KEY}', compute_stats: 'true' } }",
    );
    let overlay = made(&text, Reader::Builtin).unwrap();
    assert_eq!(
        contents(&overlay)["exporters"],
        json!({ "otlphttp/dd": {
            "endpoint": "${endpoint:intake.http}",
            "traces_endpoint": "${endpoint:intake.http}/v1/traces",
            "metrics_endpoint": "${endpoint:intake.http}/v1/metrics",
            "headers": { "DD-API-KEY": "$${env:TRACECHECK_API_KEY}" },
        } })
    );
    assert_eq!(overlay.api_key_variables, BTreeSet::from(["DD_KEY".to_owned()]));

    let listed = "{ endpoint: 'https://x', headers: [{ name: dd-api-key, value: x }, { name: compute_stats, value: '${env:SET}' }] }";
    let overlay = made(&with_exporter("otlp_http", listed), Reader::Foreign).unwrap();
    assert_eq!(
        contents(&overlay)["exporters"]["otlp_http"]["headers"],
        json!([
            { "name": "compute_stats", "value": "$${env:SET}" },
            { "name": "dd-api-key", "value": "$${env:TRACECHECK_API_KEY}" },
        ])
    );

    let proxied = with_exporter("otlphttp", "{ endpoint: 'https://x', proxy_url: 'http://proxy' }");
    let findings = made(&proxied, Reader::Builtin).unwrap_err();
    assert!(findings[0].contains("`otlphttp` sends through a proxy"), "{findings:?}");
}

#[test]
fn an_otlp_exporter_may_send_to_another_workload_and_nowhere_else() {
    let overlay_of = |endpoint: &str, next: &str| {
        let text = with_exporter("otlp", &format!("{{ endpoint: '{endpoint}' }}"));
        let config = CollectorConfig { file: "c.yaml".to_owned(), text };
        let env = BTreeMap::from([("NEXT".to_owned(), next.to_owned())]);
        overlay(&config, Reader::Builtin, Some("intake"), &env)
    };
    let inside = overlay_of("${env:NEXT}", "${address:gateway.otlp-grpc}").unwrap();
    assert_eq!(contents(&inside).get("exporters"), None);
    assert!(overlay_of("${NEXT}", "${endpoint:gateway.otlp-grpc}").is_ok());
    for (endpoint, next) in [
        ("${env:NEXT}", "vendor:4317"),
        ("${env:NEXT}", "${address:gateway.otlp-grpc}.vendor.example"),
        ("${env:NEXT}.vendor.example", "${address:gateway.otlp-grpc}"),
        ("${env:OTHER:-vendor:4317}", "${address:gateway.otlp-grpc}"),
        ("gateway:4317", ""),
    ] {
        let findings = overlay_of(endpoint, next).unwrap_err();
        assert!(findings[0].message.contains("not the mock intake"), "{endpoint} {next}");
    }
}

#[test]
fn a_variable_that_nobody_set_is_reported_with_its_place() {
    let text = ARTICLE
        .replace("5s", "${env:BATCH_TIMEOUT}")
        .replace("50\n", "${SET}\n")
        .replace("datadoghq.com", "${env:SITE:-datadoghq.com}$${LITERAL}${file:x}");
    let findings = made(&text, Reader::Builtin).unwrap_err();
    assert_eq!(
        findings,
        [
            "c.yaml:10:14: environment variable `BATCH_TIMEOUT` is not set for the collector; set it in the collector's \
          `env`, or give a default: `${env:BATCH_TIMEOUT:-…}`"
        ]
    );
}

#[test]
fn a_config_without_otlp_or_that_is_no_yaml_is_reported() {
    let findings = made(&ARTICLE.replace("[otlp]", "[zipkin]"), Reader::Builtin).unwrap_err();
    assert!(
        findings[0].starts_with("c.yaml:18:3: no pipeline has an `otlp` receiver"),
        "{findings:?}"
    );
    let findings = made("receivers: [", Reader::Builtin).unwrap_err();
    assert!(findings[0].starts_with("c.yaml:"), "{findings:?}");
}

#[test]
fn the_trace_ledger_of_our_collector_stands_beside_the_users_extensions() {
    let with = |extensions: &str| {
        let text =
            ARTICLE.replace("service:\n", &format!("service:\n  extensions: {extensions}\n"));
        let overlay = made(&text, Reader::Builtin).unwrap();
        let contents = contents(&overlay);
        (contents["extensions"].clone(), contents["service"]["extensions"].clone())
    };
    let ledger = json!({ "endpoint": "${listen:ledger}" });
    let (settings, used) = with("[health_check]");
    assert_eq!(settings["trace_ledger"], ledger);
    assert_eq!(used, json!(["health_check", "trace_ledger"]));
    // Where the user has one, it stays the only one.
    let (settings, used) = with("[trace_ledger/own]");
    assert_eq!((settings, used), (json!({ "trace_ledger/own": ledger }), Value::Null));
}

#[test]
fn what_is_for_other_signals_is_left_out_where_only_traces_are_wanted() {
    let of_metrics =
        "    metrics:\n      receivers: [otlp, prometheus]\n      exporters: [awsemf]\n";
    let text = ARTICLE
        .replace("exporters:\n", "exporters:\n  awsemf: { namespace: \"${env:NOBODY_SET}\" }\n")
        + of_metrics;
    let findings = made(&text, Reader::Builtin).unwrap_err();
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].contains("leaves out with `--traces-only`"), "{findings:?}");
    let overlay = made(&text, Reader::BuiltinOfTraces).unwrap();
    assert_eq!(overlay, made(ARTICLE, Reader::Builtin).unwrap());
}
