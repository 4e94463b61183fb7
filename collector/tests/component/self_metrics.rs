//! The page of self-metrics: written from what a collector with every part reports.
//!
//! `UPDATE_DOCS=1 cargo test -p collector self_metrics` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::support::{DEADLINE, answer, intake, request, start, until};

/// One expected metric.
#[derive(Default)]
struct Metric {
    help: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// Reads Prometheus text.
fn metrics(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (what, rest) = rest.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            let metric = metrics.entry(name.into()).or_default();
            match what {
                "HELP" => metric.help = rest.into(),
                "TYPE" => metric.kind = rest.into(),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            name.strip_suffix(end).filter(|name| metrics.contains_key(*name)).map(str::to_owned)
        });
        let name = of_histogram.unwrap_or_else(|| name.to_owned());
        let metric = metrics.get_mut(&name).unwrap_or_else(|| panic!("{name} has no help"));
        let keys = labels.trim_end_matches('}').split("\",").filter(|part| !part.is_empty());
        let keys = keys.map(|part| part.split_once('=').unwrap().0.to_owned());
        metric.labels.extend(keys.filter(|key| key != "le"));
    }
    metrics
}

fn page(metrics: &BTreeMap<String, Metric>) -> String {
    let mut out = String::from(
        "# The collector's self-metrics\n\n\
         Written from what a collector with every part exports; a test keeps it up to date.\n\n\
         They are served as Prometheus text at `/metrics` of `service.telemetry.metrics.readers`, by default on `localhost:8888`. Names \
         that the OpenTelemetry Collector has mean what they mean there; with `without_type_suffix: false` those of counters end in \
         `_total`. \
         Some are there only once they count something, or with the setting that they are about.\n\n\
         | metric | kind | labels | |\n| --- | --- | --- | --- |\n",
    );
    for (name, Metric { help, kind, labels }) in metrics {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    out
}

#[tokio::test]
async fn self_metrics_are_as_their_page_says() {
    let intake = intake().await;
    answer(&intake, 400, 1).await;
    answer(&intake, 202, u64::MAX).await;
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "secret").unwrap();
    let settings = [
        "receivers.otlp.protocols.grpc.auth.authenticator=bearertokenauth",
        &format!("extensions.bearertokenauth.filename={}", tokens.display()),
        "processors.memory_limiter.limit_mib=4000",
        "processors.memory_limiter.check_interval=1s",
        // It asks nobody so.
        "processors.k8s_attributes={passthrough: true}",
        "processors.resource_detection={detectors: [env]}",
        "processors.span={status: {code: Ok}}",
        "processors.probabilistic_sampler={sampling_percentage: 100}",
        "processors.groupbytrace={wait_duration: 10ms}",
        "processors.tail_sampling={decision_wait: 10ms, decision_cache: {sampled_cache_size: 10, non_sampled_cache_size: 10}, policies: [{name: all, type: always_sample}]}",
        "service.pipelines.traces.processors=[memory_limiter, k8s_attributes, resource_detection, span, probabilistic_sampler, groupbytrace, tail_sampling, batch]",
        "exporters.datadog.sending_queue.storage=file_storage",
        &format!("extensions.file_storage.directory={}", directory.path().join("queue").display()),
        "extensions.file_storage.create_directory=true",
        "service.extensions=[health_check, file_storage, bearertokenauth]",
    ];
    let rig = start(intake, &settings, DEADLINE).await;
    rig.send(request([1])).await;
    until("it is dropped", async || rig.metric("otelcol_exporter_dropped_spans").await == 1).await;
    let text = rig.metrics().await;
    assert!(rig.stop().await.0.is_clean());
    let metrics = metrics(&text);
    assert!(metrics.values().all(|metric| !metric.help.is_empty() && !metric.kind.is_empty()));
    let page = page(&metrics);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/self-metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page).unwrap();
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == page, "docs/self-metrics.md is out of date: UPDATE_DOCS=1 writes it");
}
