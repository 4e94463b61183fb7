//! Strays: captured traces that belong to no request of the run.

use std::{collections::HashSet, sync::Arc};

use crate::{
    case::Case,
    trace::{Trace, TraceId},
};

/// How far a stray trace may begin outside the request that caused it: nanoseconds.
const SLACK: i64 = 5_000_000;
/// How many strays are kept with one case: enough to see what goes on.
const KEPT: usize = 10;

/// The strays of a system, found once for each change of the evidence and not once for each case.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// What was captured and claimed when they were found.
    found_at: Option<(u64, usize)>,
    by_start: Vec<Arc<Trace>>,
}

impl Strays {
    /// Strays among these traces.
    pub(crate) fn new(unclaimed: Vec<Trace>) -> Self {
        let mut by_start: Vec<Arc<Trace>> = unclaimed.into_iter().map(Arc::new).collect();
        by_start.sort_by_key(|trace| start(trace));
        Self { found_at: None, by_start }
    }

    /// Looks again if anything was captured (`version` of the evidence) or claimed since.
    pub(crate) fn refresh(
        &mut self,
        version: u64,
        claims: &HashSet<TraceId>,
        unclaimed: impl FnOnce(&HashSet<TraceId>) -> Vec<Trace>,
    ) {
        let now = Some((version, claims.len()));
        if self.found_at != now {
            *self = Self { found_at: now, ..Self::new(unclaimed(claims)) };
        }
    }

    /// Those that began while a case's request was under way, the first few of them.
    pub(crate) fn during(&self, case: &Case) -> Vec<Trace> {
        let from = self.by_start.partition_point(|trace| start(trace) < case.sent_at - SLACK);
        let until = case.ended_at + SLACK;
        let during = self.by_start[from..].iter().take_while(|trace| start(trace) <= until);
        during.take(KEPT).map(|trace| Trace::clone(trace)).collect()
    }
}

fn start(trace: &Trace) -> i64 {
    trace.spans.first().map_or(i64::MAX, |span| span.start)
}
