//! `--listen`: what comes again, or too late, once all looked whole.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use harness_prove::{
    change::{Change, Delivery, Sites},
    tap::Tap,
};

use crate::support::{Ran, ScenarioFile, TRACECHECK, ran, root};

const SCENARIO: &str = "name: once\ndescription: Each span comes once.\n\
     system: { chain: { protocol: http/protobuf, collector_config: collector.yaml } }\n\
     requests: [{ get: /outgoing-sampleapp }]\n";

/// A collector that waits for all spans of the request, so that the second app's do not fill a payload of their own: the same payload
/// once more would count as sent again for want of an answer.
const COLLECTOR: &str = "receivers: { otlp: { protocols: { grpc: , http: } } }
processors: { batch: { timeout: 500ms } }
exporters: { datadog: { api: { key: '${env:DD_API_KEY}' } } }
service: { pipelines: { traces: { receivers: [otlp], processors: [batch], exporters: [datadog] } } }
";

/// Runs it with something between the second app and the collector, and listens for so long.
async fn run_with(change: Change, listen: &str) -> Ran {
    let tap = Tap::start(Some(change), Sites::default()).await.expect("a tap");
    let endpoint = tap.instead_of("${address:collector.otlp-http}");
    let variable = format!("sample-app-2:OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}");
    let scenario = ScenarioFile::new(SCENARIO).with("collector.yaml", COLLECTOR);
    let path = scenario.path();
    let mut command = Command::new(TRACECHECK);
    command.args(["run", &path, "--app-env", &variable, "--listen", listen]);
    command.current_dir(root()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran(output.expect("it ends"));
    assert!(tap.changed() > 0, "nothing passed: {}", ran.stdout);
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_after_all_was_whole_fails_a_run_that_listens_for_it() {
    let again = Change::OtlpDelivery(|_, _| Delivery::Again(Duration::from_secs(1)));
    run_with(again, "10s").await.expect_code(1).expect_stdout("duplicate-span");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_when_nobody_listens_any_more_fails_nothing() {
    let much_later = Change::OtlpDelivery(|_, _| Delivery::Again(Duration::from_secs(3600)));
    run_with(much_later, "1s").await.expect_code(0);
}
