//! Strays: captured traces that no request claims. Whose each is, is decided by what the evidence shows of its cause; see
//! docs/strays.md.

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

pub use crate::case::{Origin, Stray};
use crate::{case::Case, trace::TraceId};

mod ground;
mod lacking;
mod nobodys;
mod origin;
mod recurring;
#[cfg(test)]
mod tests;
mod upon;

pub use self::nobodys::{Group, Nobodys, When};
pub(crate) use self::{
    ground::{Ground, Places, Requests},
    origin::{called, resolve},
};

/// How many strays are kept with one case: enough to see what goes on.
const KEPT: usize = 10;
/// How many linked traces are kept with one case.
const LINKED_KEPT: usize = 100;

/// Strays by the request's trace that each belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Strays<S> {
    /// In the order in which they began.
    all: Vec<S>,
    /// Their places in it.
    of: HashMap<TraceId, Vec<usize>>,
}

impl<S> Default for Strays<S> {
    fn default() -> Self {
        Self { all: Vec::new(), of: HashMap::new() }
    }
}

impl<S: Borrow<Stray>> Strays<S> {
    /// Sorts strays, so that those of a case are found.
    pub(crate) fn new(mut all: Vec<S>) -> Self {
        all.sort_by_key(|stray| (stray.borrow().start(), stray.borrow().trace.id));
        let mut of: HashMap<TraceId, Vec<usize>> = HashMap::new();
        for (index, stray) in all.iter().enumerate() {
            for owner in stray.borrow().origin.owners() {
                of.entry(owner).or_default().push(index);
            }
        }
        Self { all, of }
    }

    /// Returns those that belong to a case's request: first those that should not be there, then the linked ones; the first few of
    /// each.
    pub(crate) fn of(&self, case: &Case) -> Vec<&S> {
        let own = self.of.get(&case.trace_id).into_iter().flatten();
        let own = own.filter_map(|index| self.all.get(*index));
        let (linked, apart): (Vec<&S>, Vec<&S>) =
            own.partition(|stray| (**stray).borrow().origin.is_link());
        apart.into_iter().take(KEPT).chain(linked.into_iter().take(LINKED_KEPT)).collect()
    }

    /// Returns those that belong to any of these cases' requests.
    pub(crate) fn of_all<'a>(&self, cases: impl Iterator<Item = &'a Case>) -> Vec<Stray> {
        let mut seen = BTreeSet::new();
        let found = cases.flat_map(|case| self.of(case)).map(S::borrow);
        let found = found.filter(|stray| seen.insert(stray.trace.id)).cloned().collect();
        Strays::<Stray>::new(found).all
    }

    /// Returns those that belong to no request.
    pub(crate) fn nobodys(&self) -> impl Iterator<Item = &Stray> {
        let all = self.all.iter().map(S::borrow);
        all.filter(|stray| stray.origin.owner().is_none())
    }
}

/// State of the evidence when strays were found: its version, the number of known requests, and of spans that
/// were ended.
pub(crate) type Version = (u64, u64, usize);

/// The strays of a system that is up, found once for each change of the evidence and not once for each case.
#[derive(Debug, Default)]
pub(crate) struct StraysNow {
    found_at: Option<Version>,
    found: Strays<Arc<Stray>>,
}

impl StraysNow {
    /// Looks again if anything was captured, or became known, since.
    pub(crate) fn refresh(
        &mut self,
        (version, known, ended): Version,
        find: impl FnOnce() -> Vec<Stray>,
    ) -> &Strays<Arc<Stray>> {
        // Where there is no stray, what services ended has nothing to explain.
        let is_same = self.found_at.is_some_and(|(then, knew, had)| {
            (then, knew) == (version, known) && (had == ended || self.found.all.is_empty())
        });
        if !is_same {
            let strays = find().into_iter().map(Arc::new);
            *self = Self {
                found_at: Some((version, known, ended)),
                found: Strays::new(strays.collect()),
            };
        }
        &self.found
    }
}
