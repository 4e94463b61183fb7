use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::manifests::{Objects, Settings},
    *,
};
use crate::kubernetes::manifests;
use harness_core::{secret::Secret, source};
use harness_system::{
    System,
    chain::Chain,
    collector_overlay::CollectorConfig,
    parts::{COLLECTOR, Collector},
};

const ARTICLE: &str = include_str!("../../../../../scenarios/collector/article.yaml");

fn system(text: &str) -> System {
    let config = CollectorConfig { file: "c.yaml".to_owned(), text: text.to_owned() };
    let collector = Collector { config, ..Collector::default() };
    Chain { collector, ..Chain::new(Secret::new("5ecret")) }.system().unwrap()
}

/// Returns what is applied for a system whose collector has that config.
fn objects(text: &str, operator: &Operator) -> Objects {
    let system = system(text);
    let workload = system.workload(COLLECTOR).unwrap();
    let fixed = BTreeMap::from([(COLLECTOR.to_owned(), config::ports(workload).unwrap())]);
    let host = |name: &str| super::super::names::object_name(&system, name);
    let images = BTreeMap::new();
    let choices =
        crate::container::Choices { environment: "cluster", host: &host, images: &images };
    let mut containers = crate::container::plan_with_ports(&system, &choices, &fixed).unwrap();
    let collector = containers.iter_mut().find(|one| one.workload == COLLECTOR).unwrap();
    config::take_over(collector).unwrap();
    let settings = Settings {
        namespace: "tracecheck-1-0".to_owned(),
        run: Some("1".to_owned()),
        expires: None,
        image: "localhost/tracecheck:1".to_owned(),
        replicas: BTreeMap::new(),
        role_arn: Some("arn:aws:iam::111122223333:role/aws-otel-collector".to_owned()),
        collector_user: None,
        operator: Some(operator.clone()),
    };
    manifests::objects(&containers, &settings)
}

fn collector(text: &str, version: Version) -> Value {
    serde_json::to_value(&objects(text, &Operator::of(version)).collectors[0]).unwrap()
}

#[test]
fn the_resource_is_the_articles_with_image_key_and_destination_replaced() {
    let beta = collector(ARTICLE, Version::V1Beta1);
    assert_eq!(beta["apiVersion"], "opentelemetry.io/v1beta1");
    assert_eq!(beta["kind"], "OpenTelemetryCollector");
    assert_eq!(beta["metadata"]["name"], "my-collector");
    assert_eq!(beta["metadata"]["labels"]["tracecheck/workload"], "collector");
    let spec = &beta["spec"];
    assert_eq!((&spec["mode"], &spec["replicas"]), (&json!("deployment"), &json!(1)));
    assert_eq!(spec["serviceAccount"], "aws-otel-collector");
    assert_eq!(spec["image"], "localhost/tracecheck:1");
    assert_eq!(spec.get("args"), None);
    let config = &spec["config"];
    assert_eq!(config["exporters"]["datadog"]["traces"]["endpoint"], "http://intake:8080");
    assert_eq!(config["exporters"]["datadog"]["api"]["site"], "datadoghq.com");
    assert_eq!(config["processors"]["batch/traces"]["send_batch_size"], 50);
    assert_eq!(config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"], "0.0.0.0:4317");
    // Its own telemetry is the operator's to set up.
    assert_eq!(config["service"].get("telemetry"), None);
    let text = collector(ARTICLE, Version::V1Alpha1);
    assert_eq!(text["apiVersion"], "opentelemetry.io/v1alpha1");
    let same: Value = source::read_yaml("x", text["spec"]["config"].as_str().unwrap()).unwrap();
    assert_eq!(&same, config);
}

#[test]
fn the_key_is_in_the_secret_only_and_every_variable_of_it_is_set() {
    let objects = objects(ARTICLE, &Operator::of(Version::V1Beta1));
    let resource = serde_json::to_value(&objects.collectors).unwrap();
    assert!(!resource.to_string().contains("5ecret"), "{resource}");
    let env = resource[0]["spec"]["env"].as_array().unwrap().clone();
    for name in ["TRACECHECK_API_KEY", "datadog_api_key"] {
        let one = env.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(one["valueFrom"]["secretKeyRef"]["name"], "my-collector-collector");
    }
    let kept = |name: &Option<String>| name.as_deref() == Some("my-collector-collector");
    assert!(objects.secrets.iter().any(|one| kept(&one.metadata.name)));
    // The operator makes these itself.
    assert!(!objects.deployments.iter().any(|one| kept(&one.metadata.name)));
    assert!(!objects.services.iter().any(|one| kept(&one.metadata.name)));
    assert!(!objects.config_maps.iter().any(|one| kept(&one.metadata.name)));
    let accounts = serde_json::to_value(&objects.accounts).unwrap();
    let annotations = |index: usize| accounts[index]["metadata"].get("annotations").cloned();
    assert_eq!(annotations(0), None);
    assert_eq!(
        annotations(1).unwrap()["eks.amazonaws.com/role-arn"],
        "arn:aws:iam::111122223333:role/aws-otel-collector"
    );
}

#[test]
fn an_object_has_no_nulls_and_protocols_have_addresses() {
    let text = "x-anchors: 1\nreceivers: {otlp: {protocols: {grpc: , http: }}}\nprocessors: {batch: }\nexporters: \
                {datadog: {api: {key: '${env:DD_API_KEY}', site: }}, debug: }\nservice: {pipelines: {traces: {receivers: [otlp], \
                processors: [batch], exporters: [datadog, debug]}}}\n";
    let config = collector(text, Version::V1Beta1)["spec"]["config"].clone();
    assert!(!config.to_string().contains("null"), "{config}");
    assert_eq!(config["processors"]["batch"], json!({}));
    assert_eq!(config["exporters"]["debug"], json!({}));
    assert_eq!(config["receivers"]["otlp"]["protocols"]["http"]["endpoint"], "0.0.0.0:4318");
    assert_eq!(config.get("x-anchors"), None);
}

#[test]
fn ports_are_those_of_the_config() {
    let text = ARTICLE.replace("0.0.0.0:4317", "0.0.0.0:5317");
    let ports = |text: &str| config::ports(system(text).workload(COLLECTOR).unwrap());
    assert_eq!(ports(&text).unwrap()["otlp-grpc"], 5317);
    assert_eq!(ports(ARTICLE).unwrap()["metrics"], 8888);
    let error = ports(&ARTICLE.replace("0.0.0.0:4317", "localhost:4317")).unwrap_err().to_string();
    assert!(error.contains("receivers.otlp.protocols.grpc.endpoint: localhost:4317"), "{error}");
    assert!(error.contains("write `0.0.0.0:4317`"), "{error}");
    let error = ports(&ARTICLE.replace("0.0.0.0:4318", "${env:AT:-x}")).unwrap_err().to_string();
    assert!(error.contains("no port number"), "{error}");
    // The services are given the port that the config has.
    let objects = objects(&text, &Operator::of(Version::V1Beta1));
    let deployments = serde_json::to_string(&objects.deployments).unwrap();
    assert!(deployments.contains("http://my-collector-collector:5317"), "{deployments}");
}

#[test]
fn what_an_older_operator_does_not_know_is_left_out_but_not_what_is_needed() {
    let known = ["config", "mode", "replicas"].map(str::to_owned);
    let operator = Operator { version: Version::V1Alpha1, fields: Some(known.into()) };
    let objects = objects(ARTICLE, &operator);
    let spec = objects.collectors[0].data["spec"].as_object().unwrap().clone();
    let fields: Vec<&String> = spec.keys().collect();
    assert_eq!(fields, ["config", "env", "image", "mode", "replicas", "serviceAccount"]);
}

#[test]
fn another_collectors_options_are_args_and_what_is_none_is_refused() {
    assert_eq!(config::argument("--feature-gates=+a=b"), Some(("feature-gates", "+a=b")));
    for none in ["--set", "-x=y", "--=y", "collector"] {
        assert_eq!(config::argument(none), None);
    }
}

#[test]
fn the_ledger_of_traces_is_our_collectors_alone() {
    let config = collector(ARTICLE, Version::V1Beta1)["spec"]["config"].clone();
    assert_eq!(config["extensions"]["trace_ledger"]["endpoint"], "0.0.0.0:9000", "{config}");
    let used = config["service"]["extensions"].as_array().unwrap();
    assert!(used.contains(&"trace_ledger".into()), "{config}");
    // Another one does not start with it.
    let system = system(ARTICLE);
    for operator in [true, false] {
        let placing = super::super::Placing {
            environment: "cluster",
            image: "r/t:1",
            images: &BTreeMap::new(),
            operator,
            collector_image: Some("r/adot:1"),
        };
        let containers = placing.plan(&system).unwrap();
        let collector = containers.iter().find(|one| one.workload == COLLECTOR).unwrap();
        assert!(collector.files.values().all(|text| !text.contains("trace_ledger")), "{operator}");
        assert!(!collector.ports.contains_key("ledger"), "{operator}");
    }
    // `tracecheck` from an image of one's own is ours.
    let placing = super::super::Placing {
        environment: "cluster",
        image: "r/t:1",
        images: &BTreeMap::from([(COLLECTOR.to_owned(), "r/with-tracecheck:1".to_owned())]),
        operator: false,
        collector_image: None,
    };
    let containers = placing.plan(&system).unwrap();
    let collector = containers.iter().find(|one| one.workload == COLLECTOR).unwrap();
    assert!(collector.files.values().any(|text| text.contains("trace_ledger")));
    assert!(collector.ports.contains_key("ledger"));
}
