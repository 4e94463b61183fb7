//! The ledger of one trace, or of all of a scenario's: how many spans each stage had.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    case::{DRIVER_SERVICE, LedgerReport},
    record::{CaseRecord, Record},
};

/// Span counts of each stage.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct LedgerView {
    services: BTreeMap<String, OfService>,
    /// `None` where no collector reports what it had of a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    collector: Option<OfCollector>,
    captured: u64,
}

/// Span counts of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct OfService {
    /// Spans that it ended and handed to its exporter; `None` where it has no ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    /// Spans that it ended and that its sampler dropped.
    #[serde(skip_serializing_if = "is_zero")]
    sampled_out: u64,
    captured: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

/// Span counts of the collectors.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct OfCollector {
    accepted: u64,
    #[serde(skip_serializing_if = "is_zero")]
    refused: u64,
    exported: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    dropped: BTreeMap<String, u64>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl LedgerView {
    /// Creates the ledger of a case.
    pub(super) fn new(record: &Record, of: &CaseRecord) -> Self {
        let CaseRecord { case, evidence } = of;
        let mut view = Self::default();
        for (workload, report) in &evidence.ledgers {
            let own = view.services.entry(workload.clone()).or_default();
            match report {
                LedgerReport::Known(entry) => {
                    let sampled = entry.spans.iter().filter(|span| span.sampled).count() as u64;
                    own.ended = Some(sampled);
                    own.sampled_out = entry.spans.len() as u64 - sampled;
                }
                LedgerReport::Unknown(reason) => own.unknown = Some(reason.clone()),
            }
        }
        if case.sampled && case.driver_exported {
            view.services.entry(DRIVER_SERVICE.to_owned()).or_default().ended = Some(1);
        }
        for span in evidence.trace.iter().flat_map(|trace| &trace.spans) {
            let workload = record.topology.workload_of(span).unwrap_or(&span.service);
            view.services.entry(workload.to_owned()).or_default().captured += 1;
            view.captured += 1;
        }
        view.collector = evidence.collector.as_ref().map(|entry| {
            let exporters = entry.exporters.iter();
            let mut dropped = BTreeMap::new();
            for (reason, count) in exporters.clone().flat_map(|(_, one)| &one.dropped) {
                *dropped.entry(reason.clone()).or_default() += count;
            }
            for (sampler, reasons) in &entry.sampled_out {
                for (reason, count) in reasons {
                    *dropped.entry(format!("{sampler}: {reason}")).or_default() += count;
                }
            }
            OfCollector {
                accepted: entry.accepted,
                refused: entry.refused,
                exported: exporters.map(|(id, one)| (id.clone(), one.exported)).collect(),
                dropped,
            }
        });
        view
    }

    /// Adds another trace's. A stage that is unknown for one of them is unknown for all.
    pub(super) fn add(&mut self, other: &Self) {
        let is_first = self.captured == 0 && self.services.is_empty();
        for (workload, one) in &other.services {
            let is_new = !self.services.contains_key(workload);
            let own = self.services.entry(workload.clone()).or_default();
            own.ended = match (own.ended, one.ended) {
                (Some(own), Some(more)) => Some(own + more),
                (None, Some(more)) if is_new => Some(more),
                _ => None,
            };
            own.sampled_out += one.sampled_out;
            own.captured += one.captured;
            own.unknown = own.unknown.take().or_else(|| one.unknown.clone());
        }
        self.captured += other.captured;
        self.collector = match (self.collector.take(), &other.collector) {
            (None, more) if is_first => more.clone(),
            (Some(mut own), Some(more)) => {
                own.accepted += more.accepted;
                own.refused += more.refused;
                sum(&mut own.exported, &more.exported);
                sum(&mut own.dropped, &more.dropped);
                Some(own)
            }
            _ => None,
        };
    }
}

fn sum(own: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (name, count) in more {
        *own.entry(name.clone()).or_default() += count;
    }
}
