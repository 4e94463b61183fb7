//! Accounts of a system's stages: the services' ledgers, the collectors' metrics.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future;
use tokio::sync::Semaphore;

use super::up::Stopped;
use crate::{
    case::{Evidence, LedgerReport},
    environment::Endpoints,
    ledger::{CollectorEntry, LedgerClient, LedgerEntry, LedgerError},
    stages::{self, CollectorCounts},
    system::{Role, collector_overlay::LEDGER_PORT},
    trace::TraceId,
};

/// How many ledgers are asked at once.
const LEDGERS_AT_ONCE: usize = 32;

/// Asks the stages of a system for their spans.
pub(super) struct Accounts {
    http: reqwest::Client,
    /// By service, one for each of its instances.
    ledgers: BTreeMap<String, Vec<LedgerClient>>,
    /// Lets so many ledgers be asked at once; each answer has a time limit, and waiting for a turn is not to count.
    turns: Semaphore,
    /// By instance, the base URL of its metrics.
    collectors: Vec<(String, Option<String>)>,
    /// The collectors' ledgers, with the workload of each; none where one of them has none.
    collector_ledgers: Vec<(String, LedgerClient)>,
}

/// Ledger entries of services and collectors for one trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reports {
    /// By service.
    pub(crate) services: BTreeMap<String, LedgerReport>,
    /// All collectors together.
    pub(crate) collector: Option<CollectorEntry>,
}

impl Reports {
    /// Returns their last counts.
    pub(crate) fn of(evidence: &Evidence) -> Self {
        Self { services: evidence.ledgers.clone(), collector: evidence.collector.clone() }
    }
}

impl Accounts {
    pub(super) fn new(
        http: reqwest::Client,
        ledgers: BTreeMap<String, Vec<LedgerClient>>,
        endpoints: &Endpoints,
    ) -> Self {
        let of_role = || endpoints.workloads.iter().filter(|(_, of)| of.role == Role::Collector);
        let of_ledgers = of_role().flat_map(|(workload, of)| {
            let urls = of.instances.iter().map(|instance| instance.url(LEDGER_PORT));
            urls.map(|url| Some((workload.clone(), LedgerClient::new(http.clone(), url?))))
        });
        let collector_ledgers: Option<Vec<_>> = of_ledgers.collect();
        let collector_ledgers = collector_ledgers.unwrap_or_default();
        let collectors = of_role().flat_map(|(workload, of)| {
            let is_one = of.instances.len() == 1;
            of.instances.iter().map(move |instance| {
                let name = if is_one { workload } else { &instance.name };
                (name.clone(), instance.url("metrics"))
            })
        });
        let collectors = collectors.collect();
        let turns = Semaphore::new(LEDGERS_AT_ONCE);
        Self { http, ledgers, turns, collectors, collector_ledgers }
    }

    /// Services that have a ledger.
    pub(super) fn services(&self) -> BTreeSet<String> {
        self.ledgers.keys().cloned().collect()
    }

    /// Returns whether every collector reports what became of a trace's spans.
    pub(super) fn has_collector_ledger(&self) -> bool {
        !self.collector_ledgers.is_empty()
    }

    /// Has every collector answer services what a query says; as usual again without one.
    pub(super) async fn script(&self, query: Option<&str>) -> Result<(), LedgerError> {
        for (_, ledger) in &self.collector_ledgers {
            ledger.script(query).await?;
        }
        Ok(())
    }

    /// Reads the ledger entries of services and collectors for one trace; `stopped` are the workloads stopped on purpose by now.
    pub(super) async fn of_trace(
        &self,
        trace_id: TraceId,
        stopped: impl Fn() -> BTreeMap<String, Stopped>,
    ) -> Reports {
        let services = self.services_of_trace(trace_id, &stopped);
        let collector = self.collector_of_trace(trace_id, &stopped);
        let (services, collector) = future::join(services, collector).await;
        Reports { services, collector }
    }

    /// Reads the ledger entry of all collectors for one trace, unless one has none, or was stopped and lost it.
    async fn collector_of_trace(
        &self,
        trace_id: TraceId,
        stopped: &impl Fn() -> BTreeMap<String, Stopped>,
    ) -> Option<CollectorEntry> {
        let knows = |stopped: &BTreeMap<String, Stopped>| {
            self.collector_ledgers.iter().all(|(workload, _)| !stopped.contains_key(workload))
        };
        if !self.has_collector_ledger() || !knows(&stopped()) {
            return None;
        }
        let entries = self.collector_ledgers.iter().map(|(_, ledger)| async move {
            let _turn = self.turns.acquire().await;
            ledger.collector_entry(trace_id).await
        });
        let entries = future::try_join_all(entries).await.ok()?;
        knows(&stopped()).then(|| CollectorEntry::of_instances(entries))
    }

    /// Reads the ledger entry of each service that has a ledger; `stopped` are the workloads stopped on purpose by now. One is not queried
    /// while it is down, and afterwards knows only part.
    async fn services_of_trace(
        &self,
        trace_id: TraceId,
        stopped: &impl Fn() -> BTreeMap<String, Stopped>,
    ) -> BTreeMap<String, LedgerReport> {
        let before = stopped();
        let up = self
            .ledgers
            .iter()
            .filter(|(workload, _)| before.get(*workload) != Some(&Stopped::Down));
        let reads = up.map(|(workload, of)| (workload, of, before.contains_key(workload)));
        let reads = reads.map(|(workload, of_instances, partial)| async move {
            let entries = of_instances.iter().map(|ledger| async move {
                let _turn = self.turns.acquire().await;
                ledger.entry(trace_id).await
            });
            let report = match future::try_join_all(entries).await {
                Ok(entries) => {
                    let all = LedgerEntry::of_instances(trace_id, entries);
                    LedgerReport::Known(LedgerEntry { evicted: all.evicted || partial, ..all })
                }
                Err(error) => LedgerReport::Unknown(error.to_string()),
            };
            (workload.clone(), report)
        });
        let mut reports: BTreeMap<_, _> = future::join_all(reads).await.into_iter().collect();
        // One that was stopped on purpose while it was being asked is as one that was not asked.
        let after = stopped();
        reports.retain(|workload, report| {
            matches!(report, LedgerReport::Known(_)) || !after.contains_key(workload)
        });
        reports
    }

    /// How many spans each instance of a service ended, by the service, or why that is unknown.
    pub(super) async fn of_services(&self) -> Vec<(String, Result<u64, String>)> {
        let asked = self.ledgers.iter().flat_map(|(workload, of_instances)| {
            of_instances.iter().map(move |ledger| async move {
                let totals = ledger.totals().await.map_err(|error| error.to_string());
                (workload.clone(), totals.map(|totals| totals.spans_ended))
            })
        });
        future::join_all(asked).await
    }

    /// Reads the counters of each instance of a collector, or the reason why they are unknown.
    pub(super) async fn of_collectors(&self) -> Vec<(String, Result<CollectorCounts, String>)> {
        let asked = self.collectors.iter().map(|(name, url)| async move {
            let counted = match url {
                None => Err("it has no port `metrics`".to_owned()),
                Some(url) => stages::collector(&self.http, url).await,
            };
            (name.clone(), counted)
        });
        future::join_all(asked).await
    }
}
