//! Which request of one run is which of the other.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    case::{Case, Outcome},
    record::{CaseRecord, Record},
    scenario::fault::FaultKind,
};

/// Two requests that are the same.
pub(super) type Both<'a> = (&'a CaseRecord, &'a CaseRecord);

/// The requests of a scenario in both runs.
#[derive(Debug, Default)]
pub(super) struct Matched<'a> {
    /// Answered alike.
    pub(super) alike: Vec<Both<'a>>,
    /// Answered otherwise, so that their spans cannot be the same.
    pub(super) otherwise: Vec<Both<'a>>,
    /// How many only one of the runs has.
    pub(super) single: usize,
}

/// Matches the repetitions of each request: those of the same number and outcome, then those of the same outcome, since a fault may strike
/// others each time.
pub(super) fn matched<'a>(a: &'a Record, b: &'a Record) -> Matched<'a> {
    let mut all = Matched::default();
    let (a, mut b) = (by_request(a), by_request(b));
    for (request, left) in a {
        let mut right = b.remove(&request).unwrap_or_default();
        let mut pairs: Vec<(Both<'a>, bool)> = Vec::new();
        let mut take =
            |left: VecDeque<&'a CaseRecord>, fits: fn(&Case, &Case) -> bool, is_alike| {
                let mut rest = VecDeque::new();
                for one in left {
                    match right.iter().position(|other| fits(&one.case, &other.case)) {
                        Some(at) => {
                            pairs.extend(right.remove(at).map(|other| ((one, other), is_alike)))
                        }
                        None => rest.push_back(one),
                    }
                }
                rest
            };
        let rest = take(left, |a, b| a.ordinal == b.ordinal && outcome(a) == outcome(b), true);
        let rest = take(rest, |a, b| outcome(a) == outcome(b), true);
        let rest = take(rest, |_, _| true, false);
        all.single += rest.len() + right.len();
        pairs.sort_by_key(|((one, _), _)| one.case.ordinal);
        let (alike, otherwise): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|(_, is_alike)| *is_alike);
        all.alike.extend(alike.into_iter().map(|(both, _)| both));
        all.otherwise.extend(otherwise.into_iter().map(|(both, _)| both));
    }
    all.single += b.values().map(VecDeque::len).sum::<usize>();
    all
}

fn by_request(record: &Record) -> BTreeMap<usize, VecDeque<&CaseRecord>> {
    let mut all: BTreeMap<usize, VecDeque<&CaseRecord>> = BTreeMap::new();
    for of in &record.cases {
        all.entry(of.case.request).or_default().push_back(of);
    }
    all
}

/// How a request ended, without the reason, which may be another one each time.
fn outcome(case: &Case) -> Option<u16> {
    match &case.outcome {
        Outcome::Response { status, .. } => Some(*status),
        Outcome::Failed { .. } | Outcome::Unobserved { .. } => None,
    }
}

/// Returns whether a fault of the scenario strikes some of its requests, others in each run.
pub(super) fn is_random(record: &Record) -> bool {
    record.scenario.faults.iter().any(|fault| matches!(fault.kind, FaultKind::ErrorRate { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::testing::World;

    fn answered(statuses: &[u16]) -> Record {
        let mut record = World::healthy().record;
        let first = record.cases.remove(0);
        for (ordinal, status) in (0_u32..).zip(statuses) {
            let mut of = first.clone();
            of.case.ordinal = ordinal;
            of.case.outcome = Outcome::Response { status: *status, trace_id: None };
            record.cases.push(of);
        }
        record
    }

    #[test]
    fn requests_are_matched_by_how_they_were_answered() {
        let (a, b) = (answered(&[502, 200, 502, 200]), answered(&[200, 200, 502, 200, 200]));
        let all = matched(&a, &b);
        let numbers = |pairs: &[Both<'_>]| -> Vec<(u32, u32)> {
            pairs.iter().map(|(a, b)| (a.case.ordinal, b.case.ordinal)).collect()
        };
        assert_eq!(numbers(&all.alike), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!((numbers(&all.otherwise), all.single), (vec![(0, 0)], 1));
        let (a, b) = (answered(&[200, 502]), answered(&[502, 200]));
        assert_eq!(numbers(&matched(&a, &b).alike), [(0, 1), (1, 0)]);
    }
}
