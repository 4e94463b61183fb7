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
    /// Returns the source's name for messages.
    fn name(&self) -> &'static str;
    /// Returns its capabilities.
    fn capabilities(&self) -> Vec<Capability>;
    /// Begins to poll for a trace, if the source has to be queried; `services` are those that should be in the trace,
    /// as the source names them where that is known.
    fn look_for(&self, _case: &Case, _services: &BTreeSet<String>) {}
    /// Stops polling for a trace, and keeps its data.
    fn stop_looking(&self, _id: TraceId) {}
    /// Discards the traces that are no longer polled for.
    fn forget(&self) {}
    /// Returns whether further queries are pointless.
    fn is_over(&self) -> bool {
        false
    }
    /// Returns the time that a trace may take to arrive, whatever the scenario allows; `None` if the scenario's limit
    /// applies.
    fn patience(&self) -> Option<Duration> {
        None
    }
    /// Returns whether a trace has been unchanged for long enough to count as complete, if all its checks hold.
    fn is_quiet(&self, id: TraceId) -> bool {
        self.progress(id).is_none_or(|(_, at)| at.elapsed() >= QUIET)
    }
    /// Returns the reason why missing spans of a trace may still arrive, or may have arrived unseen; `None` where they did not arrive.
    fn unsettled(&self, _id: TraceId) -> Option<String> {
        None
    }
    /// Returns the ids of all captured traces, in no particular order.
    fn trace_ids(&self) -> Vec<TraceId>;
    /// Returns what was captured for one trace so far.
    fn trace(&self, id: TraceId) -> Option<Trace>;
    /// Returns the number of spans captured for one trace so far, and when the last one arrived; cheaper than
    /// [`Self::trace`].
    fn progress(&self, id: TraceId) -> Option<(usize, Instant)>;
    /// Returns the captured traces whose ids are not among `claimed`.
    fn unclaimed(&self, claimed: &HashSet<TraceId>) -> Vec<Trace>;
    /// Calls `look` with every captured span.
    fn visit(&self, look: &mut dyn FnMut(&Span)) {
        for trace in self.trace_ids().into_iter().filter_map(|id| self.trace(id)) {
            trace.spans.iter().for_each(&mut *look);
        }
    }
    /// Changes its value whenever something was captured.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Counts the refused attempts to deliver traces so far, by reply.
    fn refused(&self) -> BTreeMap<String, u64>;
    /// Returns the gaps in the evidence, in words, each once; empty when it is complete.
    fn gaps(&self) -> Vec<String>;
    /// Waits until everything that has arrived at the source is known here.
    ///
    /// # Errors
    ///
    /// What prevented it, or was still missing at the limit.
    async fn drain(&self, limit: Duration) -> Result<(), String>;
    /// Returns the source's counts, for people.
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
