//! Counters of a store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Entry, Outcome};
use crate::{attempt::Reply, decode::Route};

/// Totals since the store was made; what was pushed out of it stays counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Attempts by path, then by what they were answered: a status, `reset` or `client-gone`. Paths that no Datadog
    /// client is known to call are counted together as `other`.
    pub attempts: BTreeMap<String, BTreeMap<String, u64>>,
    /// Spans that were accepted, without those of redeliveries.
    pub spans: u64,
    /// Groups of APM stats that were accepted, without those of redeliveries.
    pub stats_groups: u64,
    /// Payloads whose same bytes had been accepted before.
    pub redelivered: u64,
    /// Attempts that could not be read.
    pub undecodable: u64,
    /// Bytes of all bodies, as received.
    pub body_bytes: u64,
    /// Entries that the bound pushed out.
    pub dropped: Dropped,
    /// Entries that are kept.
    pub kept: Kept,
}

/// Entries that the bound pushed out of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Attempts.
    pub attempts: u64,
    /// Spans that these had brought.
    pub spans: u64,
    /// Estimated bytes of memory.
    pub bytes: u64,
}

/// Entries that a store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Attempts.
    pub attempts: u64,
    /// Spans.
    pub spans: u64,
    /// Different trace ids among the spans.
    pub traces: u64,
    /// Estimated bytes of memory.
    pub bytes: u64,
}

impl Counts {
    pub(super) fn add(&mut self, entry: &Entry) {
        let attempt = &entry.attempt;
        let path = Route::of(&attempt.path).map_or("other", Route::path);
        let reply = match attempt.reply {
            Reply::Status(status) => status.to_string(),
            Reply::Reset => "reset".to_owned(),
            Reply::ClientGone => "client-gone".to_owned(),
        };
        *self.attempts.entry(path.to_owned()).or_default().entry(reply).or_default() += 1;
        self.spans += entry.spans.len() as u64;
        self.stats_groups += entry.stats.as_ref().map_or(0, |stats| stats.groups.len() as u64);
        self.redelivered += u64::from(entry.outcome == Outcome::Redelivered);
        self.undecodable += u64::from(entry.undecodable.is_some());
        self.body_bytes += attempt.body.len() as u64;
        self.kept.attempts += 1;
        self.kept.spans += entry.spans.len() as u64;
        self.kept.bytes += entry.bytes as u64;
    }

    pub(super) fn drop(&mut self, entry: &Entry) {
        let (spans, bytes) = (entry.spans.len() as u64, entry.bytes as u64);
        self.kept.attempts -= 1;
        self.kept.spans -= spans;
        self.kept.bytes -= bytes;
        self.dropped.attempts += 1;
        self.dropped.spans += spans;
        self.dropped.bytes += bytes;
    }
}
