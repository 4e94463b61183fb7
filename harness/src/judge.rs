//! Makes the verdict of a record. Pure: no clock, no I/O, and the same record always comes to the same verdict.
//!
//! A run, a saved run that is judged again, and `tracecheck verify` all come here; there is no other place where a verdict is put
//! together.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    case::{Around, Capability, Case, Evidence, Shape, Stray, Topology, View},
    expectation,
    record::Record,
    rule,
    scenario::Scenario,
    strays::Strays,
    verdict::ScenarioResult,
};

pub(crate) mod case;
mod consistency;
mod diagnosis;
mod facts;
mod late;
mod merged;
mod parallel;
mod public;
mod sampled;
mod silenced;
mod stats;
mod system;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

pub use self::system::judge_system;
pub(crate) use self::{
    case::CHAIN_PATH, consistency::lacks_only_services, stats::is_whole as stats_are_whole,
};

/// Judges a scenario. Times are left out; they are the run's to add.
pub fn judge(record: &Record) -> ScenarioResult {
    let Record { scenario, capabilities, .. } = record;
    let mut result =
        ScenarioResult::new(&scenario.name, &scenario.description).in_file(&scenario.file);
    let tolerated = |rule: &str| scenario.tolerate.contains_key(rule);
    let totals = look(record, |views| {
        let of_case =
            |view: &View<'_>| case::result(scenario, *view, case::findings(scenario, *view));
        result.cases = parallel::map(views, of_case);
        let dropped: BTreeSet<_> =
            views.iter().filter_map(|view| rule::dropping_samplers(*view)).collect();
        let is_dropped = |view: &View<'_>| rule::dropping_samplers(*view).is_some();
        if !views.is_empty() && views.iter().all(is_dropped) {
            let by = dropped.into_iter().collect::<Vec<_>>().join(", ");
            result.undecided.push(format!(
                "the collector's sampler {by} dropped every trace, so that none was seen; send more requests, or some that it keeps"
            ));
        }
        expectation::totals(&scenario.expect, views)
    });
    let stats = stats::judge(&record.stats, &scenario.expect, capabilities, tolerated);
    for found in [totals, stats] {
        result.failures.extend(found.failures);
        result.not_evaluated.extend(found.not_evaluated);
    }
    merged::apply(record, &mut result.cases);
    facts::apply(record, &mut result);
    consistency::apply(record, &mut result);
    result.failures.extend(rule::leveled_failures(record));
    result.conclude();
    result.revised = record.facts.first_verdict.is_some_and(|first| first != result.verdict);
    result
}

/// Returns whether the traces of all requests have together as many spans as the scenario asks for.
fn totals_hold(record: &Record) -> bool {
    let found = look(record, |views| expectation::totals(&record.scenario.expect, views));
    found.failures.is_empty() && found.not_evaluated.is_empty()
}

/// Returns whether waiting for more of the requests' traces can change nothing about their totals: they hold, or are exceeded.
pub(crate) fn totals_are_final(record: &Record) -> bool {
    totals_hold(record)
        || look(record, |views| expectation::totals_are_exceeded(&record.scenario.expect, views))
}

/// Looks at all cases of a record.
fn look<T>(record: &Record, look: impl FnOnce(&[View<'_>]) -> T) -> T {
    let Record { scenario, topology, capabilities, .. } = record;
    let strays = Strays::new(record.strays.iter().collect());
    let of_cases: Vec<Vec<&Stray>> =
        record.cases.iter().map(|of| strays.of(&of.case).into_iter().copied().collect()).collect();
    let cases = record.cases.iter().zip(&of_cases);
    let cases = cases.map(|(of, strays)| (&of.case, &of.evidence, strays.as_slice()));
    Basis::new(scenario, topology).look(capabilities, cases, look)
}

/// The part of what cases are judged by that all of a scenario's have in common.
#[derive(Debug, Clone)]
pub(crate) struct Basis<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) topology: &'a Topology,
    /// Of each request.
    shapes: Arc<[Shape]>,
}

impl<'a> Basis<'a> {
    pub(crate) fn new(scenario: &'a Scenario, topology: &'a Topology) -> Self {
        let shapes = scenario.requests.iter().map(|request| case::shape(scenario, request));
        Self { scenario, topology, shapes: shapes.collect() }
    }

    /// Returns the shape that the faults imply for the traces of a request.
    pub(crate) fn shape(&self, case: &Case) -> &Shape {
        &self.shapes[case.request]
    }

    /// Looks at cases as they are judged, each with its evidence and the strays that belong to it.
    pub(crate) fn look<'c, T>(
        &self,
        capabilities: &[Capability],
        cases: impl Iterator<Item = (&'c Case, &'c Evidence, &'c [&'c Stray])>,
        look: impl FnOnce(&[View<'_>]) -> T,
    ) -> T {
        let cases: Vec<_> = cases.collect();
        let traces = cases.iter().filter_map(|(_, evidence, _)| evidence.trace.as_ref());
        let around = Around::new(traces);
        let views = cases.into_iter().map(|(case, evidence, strays)| View {
            case,
            evidence,
            strays,
            capabilities,
            topology: self.topology,
            shape: self.shape(case),
            around: &around,
        });
        public::looked_at(&views.collect::<Vec<_>>(), look)
    }
}
