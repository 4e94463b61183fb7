//! Where evidence comes from: a source of captured traces, and what it can give.
//!
//! The mock intake pushes; a source that polls (Datadog's API) fits behind the same trait. Judging sees no difference
//! beyond the capabilities a source declares.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use tokio::sync::watch;

use crate::{
    case::Capability,
    intake::{client::IntakeClient, decode::Route, store::Store},
    trace::{Trace, TraceId},
};

/// A source of captured traces.
pub trait EvidenceSource: Send + Sync {
    /// What it can give.
    fn capabilities(&self) -> Vec<Capability>;
    /// What was captured for one trace so far.
    fn trace(&self, id: TraceId) -> Option<Trace>;
    /// How many spans were captured for one trace so far, and when the last of them came; cheaper than the trace.
    fn progress(&self, id: TraceId) -> Option<(usize, Instant)>;
    /// Captured traces that are not among `claimed`.
    fn unclaimed(&self, claimed: &HashSet<TraceId>) -> Vec<Trace>;
    /// Changes its value whenever something was captured.
    fn changes(&self) -> watch::Receiver<u64>;
    /// How many attempts to deliver traces were not taken so far, by reply.
    fn refused(&self) -> BTreeMap<String, u64>;
    /// What is missing from the evidence, each told once in words; empty when it is whole.
    fn gaps(&self) -> Vec<String>;
}

impl EvidenceSource for IntakeClient {
    fn capabilities(&self) -> Vec<Capability> {
        vec![
            Capability::RawPayloads,
            Capability::Stats,
            Capability::Exclusiveness,
            Capability::Completeness,
        ]
    }

    fn trace(&self, id: TraceId) -> Option<Trace> {
        self.trace(id)
    }

    fn progress(&self, id: TraceId) -> Option<(usize, Instant)> {
        self.with_store(|store| {
            let spans = store.spans(id);
            let newest = spans.iter().map(|span| span.attempt).max()?;
            Some((spans.len(), store.entry(newest)?.received))
        })
    }

    fn unclaimed(&self, claimed: &HashSet<TraceId>) -> Vec<Trace> {
        self.with_store(|store| unclaimed(store, claimed))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changed()
    }

    fn refused(&self) -> BTreeMap<String, u64> {
        self.with_store(refused)
    }

    fn gaps(&self) -> Vec<String> {
        let mut gaps: Vec<String> = self.gaps().iter().map(ToString::to_string).collect();
        let undecodable = self.with_store(|store| store.counts().undecodable);
        if undecodable > 0 {
            gaps.push(format!(
                "the intake could not read {undecodable} of the payloads it was sent"
            ));
        }
        gaps
    }
}

/// The traces of a store that are not among `claimed`.
pub fn unclaimed(store: &Store, claimed: &HashSet<TraceId>) -> Vec<Trace> {
    let strays = store.trace_ids().filter(|id| !claimed.contains(id));
    strays.filter_map(|id| store.trace(id)).collect()
}

/// How many attempts to deliver traces a store knows that were not taken, by reply.
pub fn refused(store: &Store) -> BTreeMap<String, u64> {
    let mut refused = BTreeMap::new();
    for route in Route::OF_SPANS {
        let attempts = store.counts().attempts.get(route.path()).into_iter().flatten();
        for (reply, count) in attempts.filter(|(reply, _)| !reply.starts_with('2')) {
            *refused.entry(reply.clone()).or_default() += count;
        }
    }
    refused
}
