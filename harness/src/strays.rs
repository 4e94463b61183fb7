//! Strays: captured traces that belong to no request of the run.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    case::Case,
    trace::{Trace, TraceId},
};

/// How far a stray trace may begin outside the request that caused it: nanoseconds.
const SLACK: i64 = 5_000_000;
/// How many strays are kept with one case: enough to see what goes on.
const KEPT: usize = 10;

/// A captured trace that no request claims.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stray {
    /// What was captured of it.
    pub trace: Trace,
    /// The trace of the request whose answer told of it; `None` where none did.
    pub owner: Option<TraceId>,
}

impl Stray {
    fn start(&self) -> i64 {
        self.trace.spans.first().map_or(i64::MAX, |span| span.start)
    }
}

/// Strays in the order in which they began.
#[derive(Debug, Clone)]
pub(crate) struct Strays<S>(Vec<S>);

impl<S: Borrow<Stray>> Strays<S> {
    /// Sorts strays, so that those of a case are found.
    pub(crate) fn new(mut strays: Vec<S>) -> Self {
        strays.sort_by_key(|stray| stray.borrow().start());
        Self(strays)
    }

    /// Returns those that a case's request may have caused: first the one that its own answer told of, then those that began while
    /// the request was under way and that no other request's answer told of; the first few of them.
    pub(crate) fn of(&self, case: &Case) -> Vec<&S> {
        let from = self.0.partition_point(|stray| stray.borrow().start() < case.sent_at - SLACK);
        let until = case.ended_at + SLACK;
        let during = self.0[from..].iter().take_while(|stray| (*stray).borrow().start() <= until);
        let owner = |stray: &S| stray.borrow().owner;
        let (own, nobodys): (Vec<_>, Vec<_>) = during
            .filter(|stray| owner(stray).is_none_or(|owner| owner == case.trace_id))
            .partition(|stray| owner(stray).is_some());
        own.into_iter().chain(nobodys).take(KEPT).collect()
    }

    /// Returns those that any of these cases' requests may have caused, each once.
    pub(crate) fn of_all<'a>(&self, cases: impl Iterator<Item = &'a Case>) -> Vec<Stray> {
        let mut seen = BTreeSet::new();
        let found = cases.flat_map(|case| self.of(case)).map(S::borrow);
        let found = found.filter(|stray| seen.insert(stray.trace.id)).cloned().collect();
        Strays::<Stray>::new(found).0
    }
}

/// The strays of a system that is up, found once for each change of the evidence and not once for each case.
#[derive(Debug)]
pub(crate) struct StraysNow {
    /// What was captured, claimed and told when they were found.
    found_at: Option<(u64, usize, usize)>,
    found: Strays<Arc<Stray>>,
}

impl Default for StraysNow {
    fn default() -> Self {
        Self { found_at: None, found: Strays::new(Vec::new()) }
    }
}

impl StraysNow {
    /// Looks again if anything was captured (`version` of the evidence), claimed, or told by answers (`owners`) since.
    pub(crate) fn refresh(
        &mut self,
        version: u64,
        claims: &HashSet<TraceId>,
        owners: &HashMap<TraceId, TraceId>,
        unclaimed: impl FnOnce(&HashSet<TraceId>) -> Vec<Trace>,
    ) -> &Strays<Arc<Stray>> {
        let now = Some((version, claims.len(), owners.len()));
        if self.found_at != now {
            let strays = unclaimed(claims).into_iter().map(|trace| {
                let owner = owners.get(&trace.id).copied();
                Arc::new(Stray { trace, owner })
            });
            *self = Self { found_at: now, found: Strays::new(strays.collect()) };
        }
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::testing::{case, span};

    fn stray(id: u128, start: i64, owner: Option<u128>) -> Stray {
        let trace = Trace::new(TraceId(id), vec![span(1, 0, "app-2", "server", start, 1)]);
        Stray { trace, owner: owner.map(TraceId) }
    }

    fn ids(strays: Vec<&Stray>) -> Vec<u128> {
        strays.into_iter().map(|stray| stray.trace.id.0).collect()
    }

    #[test]
    fn a_stray_is_of_the_request_that_told_of_it_and_else_of_those_that_were_under_way() {
        let case = Case { trace_id: TraceId(1), sent_at: 0, ended_at: 100 * SLACK, ..case() };
        let strays = Strays::new(vec![
            stray(14, 50 * SLACK, Some(1)),
            stray(13, 40 * SLACK, Some(2)),
            stray(12, 30 * SLACK, None),
            stray(11, -SLACK, None),
            stray(10, -SLACK - 1, None),
            stray(15, 101 * SLACK, None),
            stray(16, 101 * SLACK + 1, None),
        ]);
        assert_eq!(ids(strays.of(&case)), [14, 11, 12, 15]);
        let other = Case { trace_id: TraceId(2), ..case };
        assert_eq!(ids(strays.of(&other)), [13, 11, 12, 15]);
    }

    #[test]
    fn a_cases_own_stray_is_kept_behind_many_of_others() {
        let case = Case { trace_id: TraceId(1), sent_at: 0, ended_at: 100, ..case() };
        let others = (0..50).map(|n| stray(100 + n, 1, (n % 2 == 0).then_some(2)));
        let strays = Strays::new(others.chain([stray(99, 50, Some(1))]).collect());
        let found = ids(strays.of(&case));
        assert_eq!((found[0], found.len()), (99, KEPT));
        // What a record keeps for its cases gives each of them the same.
        let kept = Strays::new(strays.of_all([&case].into_iter()));
        assert_eq!(ids(kept.of(&case)), found);
        assert_eq!(kept.0.len(), KEPT);
    }
}
