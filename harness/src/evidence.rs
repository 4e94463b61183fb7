//! Sources of evidence: captured traces, and the capabilities of the source.
//!
//! The mock intake pushes; a source that polls (Datadog's API) fits behind the same trait. Judging sees no difference
//! beyond the capabilities a source declares.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    case::{Capability, Case},
    intake::{client::IntakeClient, decode::Route, store::Store},
    trace::{Span, Trace, TraceId},
};

/// How long a pushed trace must not have changed before it counts as complete.
pub(crate) const QUIET: Duration = Duration::from_millis(100);

/// A source of captured traces.
#[async_trait]
pub trait EvidenceSource: Send + Sync {
    /// As messages name it.
    fn name(&self) -> &'static str;
    /// Returns its capabilities.
    fn capabilities(&self) -> Vec<Capability>;
    /// Begins to look for a trace, where it has to be asked for; `services` are those that should be in it, as the source names
    /// them where that is known.
    fn look_for(&self, _case: &Case, _services: &BTreeSet<String>) {}
    /// Ends the looking for a trace; what is known of it stays.
    fn stop_looking(&self, _id: TraceId) {}
    /// Forgets the traces that nobody looks for any more.
    fn forget(&self) {}
    /// Returns whether nothing more can come of asking.
    fn is_over(&self) -> bool {
        false
    }
    /// How long a trace may take, whatever a scenario says of it; `None` where the scenario's word holds.
    fn patience(&self) -> Option<Duration> {
        None
    }
    /// Returns whether a trace has not grown for long enough to be taken for complete, if all that is asked of it holds.
    fn is_quiet(&self, id: TraceId) -> bool {
        self.progress(id).is_none_or(|(_, at)| at.elapsed() >= QUIET)
    }
    /// Returns the reason why missing spans of a trace may still arrive, or may have arrived unseen; `None` where they did not arrive.
    fn unsettled(&self, _id: TraceId) -> Option<String> {
        None
    }
    /// Ids of all captured traces, in no order.
    fn trace_ids(&self) -> Vec<TraceId>;
    /// Returns what was captured for one trace so far.
    fn trace(&self, id: TraceId) -> Option<Trace>;
    /// How many spans were captured for one trace so far, and when the last of them came; cheaper than the trace.
    fn progress(&self, id: TraceId) -> Option<(usize, Instant)>;
    /// Captured traces that are not among `claimed`.
    fn unclaimed(&self, claimed: &HashSet<TraceId>) -> Vec<Trace>;
    /// Looks at every captured span.
    fn visit(&self, look: &mut dyn FnMut(&Span)) {
        for trace in self.trace_ids().into_iter().filter_map(|id| self.trace(id)) {
            trace.spans.iter().for_each(&mut *look);
        }
    }
    /// Changes its value whenever something was captured.
    fn changes(&self) -> watch::Receiver<u64>;
    /// How many attempts to deliver traces were not taken so far, by reply.
    fn refused(&self) -> BTreeMap<String, u64>;
    /// Returns the gaps in the evidence, in words, each once; empty when it is complete.
    fn gaps(&self) -> Vec<String>;
    /// Waits for what has arrived there and is not known here yet.
    ///
    /// # Errors
    ///
    /// What was in the way, or still missing at the limit.
    async fn drain(&self, limit: Duration) -> Result<(), String>;
    /// How much it has, in words.
    fn counted(&self) -> String;
    /// Returns used and remaining quota, in words; `None` for a source without one.
    fn usage(&self) -> Option<String> {
        None
    }
}

#[async_trait]
impl EvidenceSource for IntakeClient {
    fn name(&self) -> &'static str {
        "the intake"
    }

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

    fn trace_ids(&self) -> Vec<TraceId> {
        self.trace_ids()
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

    fn visit(&self, look: &mut dyn FnMut(&Span)) {
        self.with_store(|store| {
            for span in store.traces().flat_map(|(_, spans)| spans) {
                look(span);
            }
        });
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

    async fn drain(&self, limit: Duration) -> Result<(), String> {
        self.drain(limit).await.map_err(|error| error.to_string())
    }

    fn counted(&self) -> String {
        let refused: u64 = self.refused().values().sum();
        format!("intake took {} and refused {refused} attempts", self.counts().spans)
    }
}

/// Returns the traces of a store whose ids are not among `claimed`.
pub fn unclaimed(store: &Store, claimed: &HashSet<TraceId>) -> Vec<Trace> {
    let strays = store.trace_ids().filter(|id| !claimed.contains(id));
    strays.filter_map(|id| store.trace(id)).collect()
}

/// Counts the refused attempts to deliver traces that a store knows, by reply.
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
