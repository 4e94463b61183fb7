//! The processors of a pipeline, put in front of what comes behind them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use tokio::task::JoinHandle;

use super::{Collector, StartError};
use crate::consumer::{Consumer, Edit};
use crate::extension::health_check::Health;
use crate::extension::trace_ledger::Handle;
use crate::processor::inbox::{Inbox, Inside};
use crate::processor::k8s_attributes::PodAttributes;
use crate::processor::memory_limiter::MemoryLimiter;
use crate::processor::probabilistic_sampler::Sampler;
use crate::processor::resource_detection::{Found, Places};
use crate::processor::{
    ProcessorConfig, attributes, batch, group_by_trace, k8s_attributes, resource,
    resource_detection, span, tail_sampling,
};
use crate::settings::ComponentId;
use crate::telemetry::{self, Registry};

/// Places that processors report to.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) registry: &'a Registry,
    pub(super) health: &'a Health,
    pub(super) ledger: &'a Handle,
    /// Resources that processors detected, by their ids.
    pub(super) detected: &'a BTreeMap<ComponentId, Arc<Found>>,
    /// Processors that watch pods, by their ids.
    pub(super) pods: &'a BTreeMap<ComponentId, Arc<PodAttributes>>,
}

/// A processor with a task of its own.
pub(super) struct Stage {
    pub(super) id: String,
    pub(super) task: JoinHandle<()>,
    /// The spans inside, where their senders were answered OK and nothing else keeps them.
    pub(super) inside: Option<Inside>,
}

impl Stage {
    fn new(id: String, input: &Inbox, task: JoinHandle<()>) -> Self {
        Self { id, task, inside: input.is_answered().then(|| input.inside()) }
    }
}

impl Collector {
    /// Asks the detectors of all processors that are used.
    pub(super) async fn detect(&self, registry: &Registry) -> BTreeMap<ComponentId, Arc<Found>> {
        let places = Places::new(&self.hostname);
        let is_used = |id: &ComponentId| self.is_used(id);
        let detections = self.config.processors.iter().filter_map(|(id, config)| match config {
            ProcessorConfig::ResourceDetection(config) if is_used(id) => {
                let places = &places;
                Some(async move {
                    let name = id.to_string();
                    let found = resource_detection::detect(config, &name, places, registry).await;
                    (id.clone(), Arc::new(found))
                })
            }
            _ => None,
        });
        join_all(detections).await.into_iter().collect()
    }

    /// Begins to watch the cluster for all processors that are used and do so.
    pub(super) async fn pod_attributes(
        &self,
        registry: &Registry,
    ) -> Result<BTreeMap<ComponentId, Arc<PodAttributes>>, StartError> {
        let folder = Path::new(k8s_attributes::SERVICE_ACCOUNT);
        let all = self.config.processors.iter().filter_map(|(id, config)| match config {
            ProcessorConfig::K8sAttributes(config) if self.is_used(id) => Some(async move {
                let name = id.to_string();
                match PodAttributes::start(config, &name, folder, registry).await {
                    Ok(pods) => Ok((id.clone(), Arc::new(pods))),
                    Err(problem) => Err(StartError::Processor { id: name, problem }),
                }
            }),
            _ => None,
        });
        try_join_all(all).await.map(|all| all.into_iter().collect())
    }

    fn is_used(&self, id: &ComponentId) -> bool {
        self.config.service.trace_pipelines().any(|pipeline| pipeline.processors.contains(id))
    }

    /// The processors of a pipeline in the order in which they are built: batches are made of what samplers leave. A sampler judges
    /// each span alone, so that no more nor less is sampled for it.
    fn in_order<'a>(&self, ids: &'a [ComponentId]) -> Vec<&'a ComponentId> {
        let is = |id: &ComponentId, kind: fn(&ProcessorConfig) -> bool| {
            self.config.processors.get(id).is_some_and(kind)
        };
        let is_sampler = |id: &ComponentId| {
            is(id, |one| matches!(one, ProcessorConfig::ProbabilisticSampler(_)))
        };
        let Some(last) = ids.iter().rposition(is_sampler) else { return ids.iter().collect() };
        let (to_sampler, behind) = ids.split_at(last + 1);
        let (batches, others): (Vec<_>, Vec<_>) = to_sampler
            .iter()
            .partition(|id| is(id, |one| matches!(one, ProcessorConfig::Batch(_))));
        others.into_iter().chain(batches).chain(behind).collect()
    }

    /// Puts processors in front of what comes behind them; those that have tasks, the first of them first.
    pub(super) fn stages(
        &self,
        ids: &[ComponentId],
        mut next: Arc<dyn Consumer>,
        around: Around<'_>,
    ) -> (Arc<dyn Consumer>, Vec<Stage>) {
        let Around { registry, health, ledger, detected, pods } = around;
        let mut tasks = Vec::new();
        for id in self.in_order(ids).into_iter().rev() {
            let name = id.to_string();
            next = match self.config.processors.get(id).cloned() {
                Some(ProcessorConfig::Batch(config)) => {
                    let (input, task) = batch::start(config, &name, registry, next);
                    tasks.push(Stage::new(name, &input, task));
                    Arc::new(input)
                }
                Some(ProcessorConfig::MemoryLimiter(config)) => {
                    let measure = Box::new(telemetry::process::own_bytes);
                    let limiter =
                        MemoryLimiter::new(config, &name, registry, health, measure, next);
                    let limiter = Arc::new(limiter);
                    limiter.watch();
                    limiter
                }
                Some(ProcessorConfig::ProbabilisticSampler(config)) => {
                    Arc::new(Sampler::new(&config, &name, registry, ledger.clone(), next))
                }
                Some(ProcessorConfig::TailSampling(config)) => {
                    let (input, task) =
                        tail_sampling::start(&config, &name, registry, ledger, next);
                    tasks.push(Stage::new(name, &input, task));
                    Arc::new(input)
                }
                Some(ProcessorConfig::GroupByTrace(config)) => {
                    let (input, task) = group_by_trace::start(&config, &name, registry, next);
                    tasks.push(Stage::new(name, &input, task));
                    Arc::new(input)
                }
                Some(ProcessorConfig::K8sAttributes(_)) => match pods.get(id).map(Arc::clone) {
                    Some(pods) => Arc::new(Edit::by_sender(
                        move |batch, sender| {
                            pods.process(batch, sender.and_then(|sender| sender.peer.address()))
                        },
                        next,
                    )),
                    None => next,
                },
                Some(ProcessorConfig::Attributes(config)) => {
                    let edit = move |batch: &_, sender: Option<&_>| {
                        attributes::process(&config, batch, sender)
                    };
                    Arc::new(Edit::by_sender(edit, next))
                }
                Some(ProcessorConfig::Resource(config)) => {
                    let edit = move |batch: &_, sender: Option<&_>| {
                        resource::process(&config, batch, sender)
                    };
                    Arc::new(Edit::by_sender(edit, next))
                }
                Some(ProcessorConfig::ResourceDetection(config)) => {
                    let found = detected.get(id).map(Arc::clone).unwrap_or_default();
                    let edit = move |batch: &_| {
                        resource_detection::process(&found, config.replaces, batch)
                    };
                    Arc::new(Edit::new(edit, next))
                }
                Some(ProcessorConfig::Span(config)) => {
                    Arc::new(Edit::new(move |batch| span::process(&config, batch), next))
                }
                // That it is configured was checked with the config.
                None => next,
            };
        }
        tasks.reverse();
        (next, tasks)
    }
}
