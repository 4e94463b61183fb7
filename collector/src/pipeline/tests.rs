//! A running collector whose parts are killed: it must not go on half alive.

use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Collector, Stage};
use crate::config::{Config, Sources};

/// Which part is killed as soon as everything is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    Processor,
    Receiver,
    Page,
    Stats,
    Queue,
}

impl Sabotage {
    pub(super) fn strike(
        self,
        stages: &[Stage],
        receivers: &mut JoinSet<()>,
        pages: &mut JoinSet<()>,
        stats: &[JoinHandle<()>],
        queue: Option<&JoinHandle<()>>,
    ) {
        match self {
            Self::Processor => stages[0].task.abort(),
            Self::Receiver => receivers.abort_all(),
            Self::Page => pages.abort_all(),
            Self::Stats => stats[0].abort(),
            Self::Queue => queue.expect("there is an exporter").abort(),
        }
    }
}

async fn collector(sabotage: Option<Sabotage>) -> Collector {
    let yaml = "yaml:{receivers: {otlp: {protocols: {http: {endpoint: '127.0.0.1:0'}}}}, processors: {batch: }, exporters: {datadog: {api: {key: a}, metrics: {endpoint: 'http://127.0.0.1:1'}, traces: {endpoint: 'http://127.0.0.1:1'}}}, extensions: {health_check: {endpoint: '127.0.0.1:0'}}, service: {extensions: [health_check], telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [datadog]}}}}";
    let gates = vec!["-exporter.datadogexporter.DisableAPMStats".to_owned()];
    let sources =
        Sources { configs: vec![yaml.into()], feature_gates: gates, ..Sources::default() };
    let config = Config::load(&sources, &|_| None).unwrap();
    Collector { sabotage, ..Collector::bind(config, "test").await.unwrap() }
}

#[tokio::test]
async fn a_collector_ends_when_any_of_its_parts_dies() {
    let cases = [
        (Sabotage::Processor, "a processor ended by itself"),
        (Sabotage::Receiver, "a receiver ended by itself"),
        (Sabotage::Page, "the server of self-metrics, health or the ledger ended by itself"),
        (Sabotage::Stats, "the sender of APM stats or of usage ended by itself"),
        (Sabotage::Queue, "the queue of exporter `datadog` ended by itself"),
    ];
    for (sabotage, failure) in cases {
        let running = collector(Some(sabotage)).await;
        // Nobody asks it to end.
        let running = running.run(CancellationToken::new(), Duration::from_secs(1));
        let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
        let drained = ended.unwrap_or_else(|_| panic!("{sabotage:?}: it goes on")).unwrap();
        assert_eq!(drained.failure.as_deref(), Some(failure), "{sabotage:?}");
        assert!(!drained.is_clean(), "{sabotage:?}");
    }
}

#[tokio::test]
async fn a_collector_whose_parts_all_live_goes_on_until_it_is_asked_to_end() {
    let shutdown = CancellationToken::new();
    let running = collector(None).await.run(shutdown.clone(), Duration::from_secs(10));
    let mut running = std::pin::pin!(running);
    let second = Duration::from_secs(1);
    assert!(tokio::time::timeout(second, &mut running).await.is_err(), "it ended by itself");
    shutdown.cancel();
    assert!(running.await.unwrap().is_clean());
}
