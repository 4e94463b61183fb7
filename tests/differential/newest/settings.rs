//! Running a collector that has one processor in many settings, each in a pipeline of its own, over the same requests.

use std::path::Path;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;

use crate::running::{Running, Sink};

/// Sends requests through a collector. What each setting makes of them comes to the sink, at the setting's number as path.
pub(crate) async fn through(
    name: &'static str,
    program: &Path,
    args: &[&str],
    folder: &Path,
    processor: &str,
    settings: &[&str],
    requests: &[Vec<ResourceSpans>],
) -> (Running, Sink) {
    let sink = Sink::start().await;
    let (mut processors, mut exporters, mut pipelines) =
        (String::new(), String::new(), String::new());
    for (number, settings) in settings.iter().enumerate() {
        processors.push_str(&format!("  {processor}/{number}: {settings}\n"));
        exporters.push_str(&format!("  otlp_http/{number}: {{traces_endpoint: 'http://127.0.0.1:{}/{number}', compression: none}}\n", sink.port));
        pipelines.push_str(&format!("    traces/{number}: {{receivers: [otlp], processors: [{processor}/{number}], exporters: [otlp_http/{number}]}}\n"));
    }
    let rest = format!(
        "processors:\n{processors}exporters:\n{exporters}service:\n  pipelines:\n{pipelines}"
    );
    let running = Running::start(name, program, args, folder, &rest).await;
    for request in requests {
        let url = format!("http://127.0.0.1:{}/v1/traces", running.http);
        let body = ExportTraceServiceRequest { resource_spans: request.clone() }.encode_to_vec();
        let request = running.client.post(url).header("content-type", "application/x-protobuf");
        let status = request.body(body).send().await.unwrap().status();
        assert_eq!(status, 200, "{}", running.log());
    }
    (running, sink)
}

/// Returns what came of a setting.
pub(crate) fn resources_of(sink: &Sink, number: usize) -> Vec<ResourceSpans> {
    let requests = sink.of(&format!("/{number}"));
    requests.into_iter().flat_map(|request| request.resource_spans).collect()
}

/// How many spans came of a setting.
pub(crate) fn count_of(sink: &Sink, number: usize) -> usize {
    let resources = resources_of(sink, number).into_iter();
    resources.flat_map(|resource| resource.scope_spans).map(|scope| scope.spans.len()).sum()
}
