//! Builds what a config describes, from the exporters backwards, and takes it down from the receivers forwards.

mod exporters;
mod extensions;
mod stages;
mod supervisor;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exporters::{Common, Exporters, open_storages};
use stages::{Around, Stage};
use supervisor::{finish, supervise, wait};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::consumer::{Consumer, Fanout};
use crate::exporter::queue;
use crate::extension::ExtensionConfig;
use crate::extension::health_check::{self, Health};
use crate::extension::trace_ledger::{Handle, Ledger};
use crate::journal::{Journal, Recovery};
use crate::processor::inbox::Inside;
use crate::receiver::ReceiverConfig;
use crate::receiver::otlp::{Receiver, ReceiverError, Surroundings};
use crate::server::{self, BindError, Bound, Limits};
use crate::settings::{ComponentId, MetricsEndpoint};
use crate::telemetry::{self, Registry};

/// How long storage may take to write its last marks.
const STORAGE_PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to refuse who is held.
const REFUSAL: Duration = Duration::from_millis(200);

/// Error for a collector that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be bound.
    #[error("{0}")]
    Bind(String),
    /// An exporter's storage cannot be opened.
    #[error("exporter `{id}`: `sending_queue.storage`: {problem}")]
    Storage {
        /// The exporter's id.
        id: String,
        /// The problem with its storage.
        problem: String,
    },
    /// A processor cannot reach what it needs.
    #[error("processor `{id}`: {problem}")]
    Processor {
        /// The processor's id.
        id: String,
        /// The problem, and what to do.
        problem: String,
    },
    /// An extension cannot be set up.
    #[error("extension `{id}`: {problem}")]
    Extension {
        /// The extension's id.
        id: String,
        /// The problem, and what to do.
        problem: String,
    },
    /// An exporter cannot be set up.
    #[error("exporter `{id}`: {problem}")]
    Exporter {
        /// The exporter's id.
        id: String,
        /// The problem.
        problem: String,
    },
}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error.to_string())
    }
}

impl From<ReceiverError> for StartError {
    fn from(error: ReceiverError) -> Self {
        Self::Bind(error.to_string())
    }
}

/// Spans that a stopped collector left unsent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Spans that were accepted and could not be sent in time, by the exporter or processor that had them: they are lost.
    pub left: BTreeMap<String, u64>,
    /// Spans that were accepted and could not be sent in time, by exporter, and are on disk for the next start.
    pub kept: BTreeMap<String, u64>,
    /// Whether Datadog refused the API key, and the config has the collector stop then.
    pub invalid_key: bool,
    /// A part of the collector ended or hung while it was to work, so the collector ended: which one, in words.
    pub failure: Option<String>,
}

impl Drained {
    /// Returns whether everything that was accepted was sent, was dropped for a counted reason, or is on disk.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty() && !self.invalid_key && self.failure.is_none()
    }
}

/// A collector whose ports are bound and whose storage is open, before it serves.
pub struct Collector {
    config: Config,
    receivers: BTreeMap<ComponentId, Receiver>,
    metrics: Vec<(Bound, MetricsEndpoint)>,
    health: Vec<(Bound, health_check::Config)>,
    ledger: Option<(Bound, Arc<Ledger>)>,
    storages: BTreeMap<ComponentId, (Arc<Journal>, Recovery)>,
    hostname: String,
    #[cfg(test)]
    sabotage: Option<tests::Sabotage>,
}

impl Collector {
    /// Binds every port of the config and opens its storage; `hostname` is the host of spans that name none.
    ///
    /// # Errors
    ///
    /// The first port that cannot be bound, or storage that cannot be opened, with its key in the config.
    pub async fn bind(config: Config, hostname: &str) -> Result<Self, StartError> {
        let mut metrics = Vec::new();
        for (index, endpoint) in config.service.metrics_endpoints().into_iter().enumerate() {
            let key = format!("service.telemetry.metrics.readers.{index}.pull.exporter.prometheus");
            let bound = server::bind(&format!("{}:{}", endpoint.host, endpoint.port), &key).await?;
            metrics.push((bound, endpoint));
        }
        let (mut health, mut ledger) = (Vec::new(), None);
        for id in &config.service.extensions {
            let key = format!("extensions.{id}.endpoint");
            match config.extensions.get(id) {
                Some(ExtensionConfig::HealthCheck(check)) => {
                    health.push((server::bind(&check.endpoint, &key).await?, check.clone()));
                }
                Some(ExtensionConfig::TraceLedger(config)) => {
                    let bound = server::bind(&config.endpoint, &key).await?;
                    ledger = Some((bound, Arc::new(Ledger::new(config))));
                }
                Some(
                    ExtensionConfig::BasicAuth(_)
                    | ExtensionConfig::BearerTokenAuth(_)
                    | ExtensionConfig::FileStorage(_),
                )
                | None => {}
            }
        }
        let storages = open_storages(&config).await?;
        let mut receivers = BTreeMap::new();
        for (id, receiver) in &config.receivers {
            let used =
                config.service.trace_pipelines().any(|pipeline| pipeline.receivers.contains(id));
            if !used {
                continue;
            }
            let ReceiverConfig::Otlp(otlp) = receiver;
            receivers.insert(id.clone(), Receiver::bind(&id.to_string(), otlp.clone()).await?);
        }
        let hostname = hostname.into();
        Ok(Self {
            config,
            receivers,
            metrics,
            health,
            ledger,
            storages,
            hostname,
            #[cfg(test)]
            sabotage: None,
        })
    }

    /// Returns the bound addresses by port name: `otlp-grpc`, `otlp-http`, `metrics`, `health`, `ledger`; further
    /// ports of a kind are numbered from 2, as in `metrics-2`.
    pub fn ports(&self) -> BTreeMap<String, SocketAddr> {
        let mut ports: BTreeMap<_, _> = self.receivers.values().flat_map(Receiver::ports).collect();
        let numbered = |name: &str, index: usize| match index {
            0 => name.to_owned(),
            index => format!("{name}-{}", index + 1),
        };
        for (index, (bound, _)) in self.metrics.iter().enumerate() {
            ports.insert(numbered("metrics", index), bound.address);
        }
        for (index, (bound, _)) in self.health.iter().enumerate() {
            ports.insert(numbered("health", index), bound.address);
        }
        if let Some((bound, _)) = &self.ledger {
            ports.insert("ledger".into(), bound.address);
        }
        ports
    }

    /// Serves until `shutdown`; then accepts no more, and sends what it holds within `drain`.
    ///
    /// # Errors
    ///
    /// If a processor or an exporter cannot be set up.
    pub async fn run(
        self,
        shutdown: CancellationToken,
        drain: Duration,
    ) -> Result<Drained, StartError> {
        crate::install_crypto_provider();
        let registry = Registry::default();
        let health = Health::default();
        let stop = shutdown.child_token();
        let authenticators = extensions::authenticators(&self.config, &registry)?;
        let pods = self.pod_attributes(&registry).await?;
        let mut exporters = Exporters { storages: self.storages.clone(), ..Exporters::default() };
        let ledger: Handle = self.ledger.as_ref().map(|(_, ledger)| Arc::clone(ledger));
        let common = Common {
            hostname: &self.hostname,
            gates: self.config.gates,
            ledger: &ledger,
            health: &health,
            ending: &stop,
        };
        let mut key_checks = JoinSet::new();
        for (id, config) in &self.config.exporters {
            let used = self.config.service.trace_pipelines();
            if used.into_iter().any(|pipeline| pipeline.exporters.contains(id)) {
                exporters.start(id, config, common, &registry, &mut key_checks)?;
            }
        }
        let mut stages = Vec::new();
        let detected = self.detect(&registry).await;
        let around = Around {
            registry: &registry,
            health: &health,
            ledger: &ledger,
            detected: &detected,
            pods: &pods,
        };
        let entries = self.entries(&exporters, around, &mut stages);
        let Exporters { inputs, tasks, counters, stats, stats_end, .. } = exporters;
        drop(inputs);

        // Self-metrics and health are served until the very end, the receivers until the shutdown.
        let end = CancellationToken::new();
        let mut pages = JoinSet::new();
        for (bound, endpoint) in self.metrics {
            let registry = registry.clone();
            let page = server::page(move |request| {
                let path = request.uri().path();
                telemetry::server::answer(&registry, &endpoint, request.method(), path)
            });
            pages.spawn(server::serve(bound, page, Limits::default(), end.clone()));
        }
        for (bound, config) in self.health {
            let health = health.clone();
            let page = server::page(move |request| health.answer(&config, request.uri().path()));
            pages.spawn(server::serve(bound, page, Limits::default(), end.clone()));
        }
        if let Some((bound, ledger)) = self.ledger {
            let page = server::page(move |request| ledger.answer(request.method(), request.uri()));
            pages.spawn(server::serve(bound, page, Limits::default(), end.clone()));
        }
        let no_more_time = CancellationToken::new();
        let mut receivers = JoinSet::new();
        for (id, receiver) in self.receivers {
            let Some(to) = entries.get(&id).map(Arc::clone) else { continue };
            let (registry, ledger, stop) = (registry.clone(), ledger.clone(), stop.clone());
            let around = Surroundings {
                ledger,
                authenticators: authenticators.clone(),
                shutdown: stop,
                no_more_time: no_more_time.clone(),
            };
            receivers.spawn(async move { receiver.serve(&registry, to, around).await });
        }
        drop(entries);
        let receiver_count = receivers.len();
        health.set_ready(true);
        tracing::info!("everything is ready");
        #[cfg(test)]
        if let Some(sabotage) = self.sabotage {
            let queue = tasks.first().map(|(_, task)| task);
            sabotage.strike(&stages, &mut receivers, &mut pages, &stats, queue);
        }

        let failure = supervise(&shutdown, || {
            let is_over = |task: &JoinHandle<()>| task.is_finished();
            let died = |what: &str| Some(format!("{what} ended by itself"));
            // A processor ends when nobody is in front of it any more, and so is looked at behind the receivers.
            if receivers.len() < receiver_count || receivers.try_join_next().is_some() {
                return died("a receiver");
            }
            if stages.iter().any(|stage| is_over(&stage.task)) {
                return died("a processor");
            }
            if pages.try_join_next().is_some() {
                return died("the server of self-metrics, health or the ledger");
            }
            if stats.iter().any(is_over) {
                return died("the sender of APM stats or of usage");
            }
            tasks.iter().find_map(|(id, task)| match counters.get(id).map(queue::Counters::state) {
                _ if task.is_finished() => died(&format!("the queue of exporter `{id}`")),
                Some(queue::State::Panicked) => {
                    Some(format!("a worker of exporter `{id}` failed; its spans are not sent"))
                }
                Some(queue::State::Stuck) => {
                    Some(format!("the queue of exporter `{id}` is stuck: no attempt has ended"))
                }
                _ => None,
            })
        });
        let mut drained = Drained::default();
        tokio::select! {
            biased;
            invalid_key = wait(&shutdown, key_checks, &health) => drained.invalid_key = invalid_key,
            failure = failure => {
                tracing::error!(failure, "a part of the collector does not work, so it ends");
                health.report(&failure);
                drained.failure = Some(failure);
            }
        }
        tracing::info!(?drain, "shutting down: no more traces are accepted");
        health.set_ready(false);
        stop.cancel();
        let deadline = Instant::now() + drain;
        // Half of the time is for senders that are slow to finish, the rest for what they sent.
        let patience = Instant::now() + drain / 2;
        while let Ok(Some(_)) = timeout_at(patience, receivers.join_next()).await {}
        // Whoever is held is refused rather than cut off.
        no_more_time.cancel();
        let patience = deadline.min(Instant::now() + REFUSAL);
        while let Ok(Some(_)) = timeout_at(patience, receivers.join_next()).await {}
        receivers.shutdown().await;
        for Stage { id, task, inside } in stages {
            finish(task, deadline).await;
            let left = inside.as_ref().map_or(0, Inside::spans);
            if left > 0 {
                tracing::error!(
                    processor = id,
                    spans = left,
                    "spans could not be handed on before the deadline of the shutdown"
                );
                drained.left.insert(id, left);
            }
        }
        for (id, task) in tasks {
            finish(task, deadline).await;
            let is_kept = self.storages.keys().any(|kept| kept.to_string() == id);
            let left = counters.get(&id).map_or(0, queue::Counters::left);
            if left > 0 && !is_kept {
                tracing::error!(
                    exporter = id,
                    spans = left,
                    "spans could not be sent before the deadline of the shutdown"
                );
                drained.left.insert(id, left);
            }
        }
        // All spans are counted now.
        stats_end.cancel();
        for task in stats {
            finish(task, deadline).await;
        }
        for (id, (journal, _)) in &self.storages {
            let kept = journal.unsent_spans();
            if kept > 0 {
                let exporter = id.to_string();
                tracing::warn!(exporter, spans = kept, "spans stay on disk for the next start");
                drained.kept.insert(exporter, kept);
            }
            // The marks are small; the disk may be slow.
            let patience = deadline.max(Instant::now() + STORAGE_PATIENCE);
            if timeout_at(patience, journal.close()).await.is_err() {
                tracing::error!(%id, "storage does not answer; spans will be sent again after the next start");
            }
        }
        end.cancel();
        while let Ok(Some(_)) =
            timeout_at(deadline.max(Instant::now() + Duration::from_millis(200)), pages.join_next())
                .await
        {}
        Ok(drained)
    }

    /// Returns the consumer of each receiver's batches.
    fn entries(
        &self,
        exporters: &Exporters,
        around: Around<'_>,
        stages: &mut Vec<Stage>,
    ) -> BTreeMap<ComponentId, Arc<dyn Consumer>> {
        let mut entries: BTreeMap<ComponentId, Vec<Arc<dyn Consumer>>> = BTreeMap::new();
        // Pipelines behind connectors are built first, and end last.
        let (mut behind, front): (Vec<_>, Vec<_>) =
            self.config.service.trace_pipelines().partition(|pipeline| {
                pipeline.receivers.iter().any(|id| self.config.connectors.contains_key(id))
            });
        behind.extend(front);
        let mut built = Vec::new();
        for pipeline in behind {
            let exporters = pipeline.exporters.iter().filter_map(|id| exporters.inputs.get(id));
            let connectors = pipeline
                .exporters
                .iter()
                .filter_map(|id| self.config.connectors.get(id).and_then(|_| entries.get(id)));
            let to = exporters.chain(connectors.flatten()).cloned().collect();
            let (next, tasks) = self.stages(&pipeline.processors, Fanout::join(to), around);
            built.push(tasks);
            for id in &pipeline.receivers {
                entries.entry(id.clone()).or_default().push(Arc::clone(&next));
            }
        }
        stages.extend(built.into_iter().rev().flatten());
        entries.into_iter().map(|(id, to)| (id, Fanout::join(to))).collect()
    }
}

#[cfg(test)]
mod tests;
