//! The evidence of a case at one moment of waiting for its trace, and the findings then.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::super::{Settled, accounts::Reports};
use crate::{
    case::{Capability, Case, DRIVER_SERVICE, Evidence, Stray, View},
    finding::{Failure, Findings},
    judge::{self, Basis},
    rule,
    scenario::Scenario,
};

/// Name of the rule about the services that a request must reach.
const MISSING_HOP: &str = "missing-hop";

/// All that a case is judged by at one moment.
pub(super) struct Moment<'a> {
    pub(super) basis: &'a Basis<'a>,
    pub(super) case: &'a Case,
    pub(super) evidence: Evidence,
    pub(super) strays: Vec<Arc<Stray>>,
    pub(super) capabilities: Vec<Capability>,
    /// Findings so far; they are asked for several times of one moment.
    pub(super) so_far: Option<Findings>,
    pub(super) if_all_seen: Option<Findings>,
}

impl Moment<'_> {
    fn look<T>(&self, look: impl FnOnce(&Scenario, View<'_>) -> T) -> T {
        let strays: Vec<&Stray> = self.strays.iter().map(Arc::as_ref).collect();
        let Self { basis, case, evidence, capabilities, .. } = self;
        let of_case = std::iter::once((*case, evidence, strays.as_slice()));
        basis.look(capabilities, of_case, |views| look(basis.scenario, views[0]))
    }

    fn findings(&self) -> Findings {
        self.look(judge::case::findings)
    }

    /// Looks at the findings: those that are left once no more is waited for, else as if all were seen.
    pub(super) fn with_findings(&mut self, is_late: bool, look: impl FnOnce(&Findings)) {
        match is_late {
            true => look(&self.findings()),
            false => look(self.findings_if_all_were_seen()),
        }
    }

    /// Takes over what the ledgers say now.
    pub(super) fn take_ledgers(&mut self, ledgers: Reports) {
        self.evidence.ledgers = ledgers.services;
        self.evidence.collector = ledgers.collector;
        (self.so_far, self.if_all_seen) = (None, None);
    }

    /// Notes why it stays unknown what became of what is missing.
    pub(super) fn leave_open(&mut self, because: &str) {
        self.evidence.unsettled = Some(because.to_owned());
        (self.so_far, self.if_all_seen) = (None, None);
    }

    /// The same as if what is not seen had not arrived: what fails then is not complete yet.
    fn findings_if_all_were_seen(&mut self) -> &Findings {
        if let Some(found) = self.if_all_seen.take() {
            return self.if_all_seen.insert(found);
        }
        let unsettled = self.evidence.unsettled.take();
        let known = self.capabilities.len();
        self.capabilities.push(Capability::Completeness);
        let findings = self.findings();
        self.capabilities.truncate(known);
        self.evidence.unsettled = unsettled;
        self.if_all_seen.insert(findings)
    }

    /// The findings that do not hang on what is missing.
    fn findings_so_far(&mut self) -> &Findings {
        if let Some(found) = self.so_far.take() {
            return self.so_far.insert(found);
        }
        let unsettled = self.evidence.unsettled.replace(String::new());
        let findings = self.findings();
        self.evidence.unsettled = unsettled;
        self.so_far.insert(findings)
    }

    /// Returns whether the case fails, whatever is still to come, or once its spans had their time.
    pub(super) fn fails_anyway(&mut self) -> bool {
        let lasts = |failure: &Failure| rule::lasts(failure) || rule::lasts_in_time(failure);
        self.findings_so_far().failures.iter().any(lasts)
    }

    /// Returns whether the case fails by what lasts once its spans had their time.
    pub(super) fn fails_in_time(&mut self) -> bool {
        self.findings_so_far().failures.iter().any(rule::lasts_in_time)
    }

    /// Returns whether traces were captured that belong to the request and are not part of its own.
    pub(super) fn has_strays(&mut self) -> bool {
        self.findings_so_far().failures.iter().any(|failure| failure.rule == rule::STRAY)
    }

    /// The findings that hang on what is missing.
    fn missing(&mut self) -> Vec<Failure> {
        let so_far = self.findings_so_far().failures.iter();
        let so_far: BTreeSet<String> = so_far.map(|failure| failure.rule.clone()).collect();
        let all = self.findings_if_all_were_seen().failures.iter();
        all.filter(|failure| !so_far.contains(&failure.rule)).cloned().collect()
    }

    /// Returns whether a hop is missing whose service was not captured apart either: in a trace that belongs to the request and is not
    /// its own.
    pub(super) fn lacks_a_hop(&mut self) -> bool {
        let missing = self.missing();
        missing.iter().any(|failure| failure.rule == MISSING_HOP && !self.is_apart(failure))
    }

    /// Returns whether all that is missing was captured apart. What the scenario expects of the request's trace is missing with it.
    pub(super) fn is_elsewhere(&mut self) -> bool {
        let missing = self.missing();
        missing.iter().all(|failure| match failure.rule.as_str() {
            MISSING_HOP => self.is_apart(failure),
            rule => rule::named(rule).is_none(),
        })
    }

    /// Returns whether the service that a hop lacks is in a trace apart.
    fn is_apart(&self, missing: &Failure) -> bool {
        let mut apart = self.strays.iter().flat_map(|stray| &stray.trace.spans);
        let callee = missing.hop.as_ref().map(|hop| hop.callee.as_str());
        callee.is_some() && apart.any(|span| self.basis.topology.workload_of(span) == callee)
    }

    /// Returns whether it fails by its answer, of which nothing that is missing is the cause.
    pub(super) fn is_answered_wrong(&mut self) -> bool {
        let by_answer = ["response", "answer", "absent", "no-trace"];
        let findings = self.findings_so_far();
        findings.failures.iter().any(|failure| by_answer.contains(&failure.rule.as_str()))
    }

    /// Returns whether nothing that was found is about what is missing.
    pub(super) fn lacks_nothing(&mut self) -> bool {
        self.findings_if_all_were_seen().failures.len() == self.findings_so_far().failures.len()
    }

    pub(super) fn has_services(&self) -> bool {
        let spans = self.evidence.trace.iter().flat_map(|trace| &trace.spans);
        spans.into_iter().any(|span| span.service != DRIVER_SERVICE)
    }

    /// Ends the wait with what is known now. `progress` has the time of the trace's newest span.
    pub(super) fn settled(self, progress: Option<(usize, Instant)>) -> Settled {
        let findings = self.findings();
        let judged_after_ms =
            progress.map(|(_, at)| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        Settled { findings, evidence: self.evidence, judged_after_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        judge::testing::{World, case},
        record::Record,
    };

    #[test]
    fn what_was_not_waited_for_is_open_and_does_not_fail() {
        let mut world = World::healthy();
        world.lose("sample-app-2");
        let Record { scenario, topology, capabilities, cases, .. } = world.record;
        let (basis, case) = (Basis::new(&scenario, &topology), case());
        let mut now = Moment {
            basis: &basis,
            case: &case,
            evidence: cases[0].evidence.clone(),
            strays: Vec::new(),
            capabilities,
            so_far: None,
            if_all_seen: None,
        };
        assert_eq!(now.findings().failures.len(), 1);
        assert!(!now.lacks_nothing());
        now.leave_open("no more was waited for");
        let findings = now.settled(None).findings;
        assert_eq!(findings.failures.len(), 0, "{findings:#?}");
        let open = findings.not_evaluated.iter().filter(|open| open.required);
        let open: Vec<&str> = open.map(|open| open.because.as_str()).collect();
        assert!(!open.is_empty());
        assert!(open.iter().all(|because| because.starts_with("no more was waited for. Seen")));
    }
}
