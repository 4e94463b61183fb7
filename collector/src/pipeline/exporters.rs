//! The exporters of a config: their storage, their queues, and what runs behind them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::config::Config;
use crate::consumer::Consumer;
use crate::exporter::datadog::{Datadog, KeyCheck};
use crate::exporter::debug::Debug;
use crate::exporter::http_client::ClientError;
use crate::exporter::otlp::Otlp;
use crate::exporter::otlphttp::OtlpHttp;
use crate::exporter::{ExporterConfig, queue, retry};
use crate::extension::health_check::Health;
use crate::extension::trace_ledger::Handle;
use crate::extension::{ExtensionConfig, file_storage};
use crate::journal::{Journal, Recovery};
use crate::settings::{ComponentId, FeatureGates};
use crate::telemetry::Registry;

/// Opens the storage of each exporter that has one.
pub(super) async fn open_storages(
    config: &Config,
) -> Result<BTreeMap<ComponentId, (Arc<Journal>, Recovery)>, StartError> {
    let mut storages = BTreeMap::new();
    for (id, exporter) in &config.exporters {
        let storage = exporter.sending_queue().and_then(|queue| queue.storage.as_ref());
        let is_used =
            config.service.trace_pipelines().any(|pipeline| pipeline.exporters.contains(id));
        let Some(ExtensionConfig::FileStorage(storage)) =
            storage.filter(|_| is_used).and_then(|storage| config.extensions.get(storage))
        else {
            continue;
        };
        let (storage, name) = (storage.clone(), id.to_string());
        let open = move || file_storage::open(&storage, &name);
        let failed = |problem| StartError::Storage { id: id.to_string(), problem };
        let opened = tokio::task::spawn_blocking(open).await;
        let opened = opened.map_err(|error| failed(error.to_string()))?;
        let (journal, recovery) = opened.map_err(|error| failed(error.to_string()))?;
        storages.insert(id.clone(), (Arc::new(journal), recovery));
    }
    Ok(storages)
}

/// The queues of exporters, and what runs behind them.
#[derive(Default)]
pub(super) struct Exporters {
    pub(super) inputs: BTreeMap<ComponentId, Arc<dyn Consumer>>,
    pub(super) tasks: Vec<(String, JoinHandle<()>)>,
    pub(super) counters: BTreeMap<String, queue::Counters>,
    /// Tasks that send stats, and report this exporter, until `stats_end`.
    pub(super) stats: Vec<JoinHandle<()>>,
    pub(super) stats_end: CancellationToken,
    pub(super) storages: BTreeMap<ComponentId, (Arc<Journal>, Recovery)>,
}

/// Context of exporters besides their own settings.
#[derive(Clone, Copy)]
pub(super) struct Common<'a> {
    pub(super) hostname: &'a str,
    pub(super) gates: FeatureGates,
    pub(super) ledger: &'a Handle,
    pub(super) health: &'a Health,
    /// Notes that the collector ends.
    pub(super) ending: &'a CancellationToken,
}

/// An exporter's id, whether its key must be valid, and what Datadog says about it.
pub(super) type CheckedKey = (String, bool, KeyCheck);

impl Exporters {
    pub(super) fn start(
        &mut self,
        id: &ComponentId,
        config: &ExporterConfig,
        common: Common<'_>,
        registry: &Registry,
        key_checks: &mut JoinSet<CheckedKey>,
    ) -> Result<(), StartError> {
        let name = id.to_string();
        let failed = |error: ClientError| StartError::Exporter {
            id: name.clone(),
            problem: error.to_string(),
        };
        let storage = self.storages.get(id).cloned();
        let setup = |config, retry| queue::Setup {
            id: &name,
            config,
            retry,
            registry,
            ledger: common.ledger,
            health: common.health,
            storage: storage.clone(),
            ending: common.ending.clone(),
        };
        let (input, counters, task) = match config {
            ExporterConfig::Datadog(config) => {
                let exporter =
                    Datadog::new(config, common.hostname, common.gates).map_err(failed)?;
                let (check, must, id) =
                    (exporter.key_checker(), config.api.fail_on_invalid_key, name.clone());
                key_checks.spawn(async move { (id, must, check.await) });
                let stats = exporter.stats_sender(registry, &name, self.stats_end.clone());
                self.stats.push(tokio::spawn(stats));
                self.stats.push(tokio::spawn(exporter.usage_sender(self.stats_end.clone())));
                queue::start(exporter, setup(&config.sending_queue, &config.retry_on_failure))
            }
            ExporterConfig::Otlp(config) => {
                let exporter = Otlp::new(config).map_err(failed)?;
                queue::start(exporter, setup(&config.sending_queue, &config.retry_on_failure))
            }
            ExporterConfig::OtlpHttp(config) => {
                let exporter = OtlpHttp::new(config).map_err(failed)?;
                queue::start(exporter, setup(&config.sending_queue, &config.retry_on_failure))
            }
            ExporterConfig::Debug(config) => {
                let (queue, retry) = (queue::Config::default(), retry::Config::default());
                queue::start(Debug::new(*config, &name), setup(&queue, &retry))
            }
        };
        self.inputs.insert(id.clone(), Arc::new(input));
        self.counters.insert(name.clone(), counters);
        self.tasks.push((name, task));
        Ok(())
    }
}
