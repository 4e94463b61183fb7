//! Makes the verdict of a record. Pure: no clock, no I/O, and the same record always comes to the same verdict.
//!
//! A run, a saved run that is judged again, and `tracecheck verify` all come here; there is no other place where a verdict is put
//! together.

use crate::{
    case::{Stray, View},
    record::Record,
    stats,
    strays::Strays,
    verdict::{CaseResult, ScenarioResult},
};

pub mod case;
mod consistency;
mod facts;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod tree;

pub(crate) use self::case::CHAIN_PATH;

/// Judges a scenario. Times are left out; they are the run's to add.
pub fn judge(record: &Record) -> ScenarioResult {
    let Record { scenario, capabilities, .. } = record;
    let mut result = ScenarioResult::new(&scenario.name, &scenario.description);
    result.cases = cases(record);
    let tolerated = |rule: &str| scenario.tolerate.contains_key(rule);
    let found = stats::judge(&record.stats, &scenario.expect, capabilities, tolerated);
    result.failures.extend(found.failures);
    result.not_evaluated.extend(found.not_evaluated);
    facts::apply(record, &mut result);
    consistency::apply(record, &mut result);
    result.conclude();
    result.revised = record.facts.first_verdict.is_some_and(|first| first != result.verdict);
    result
}

fn cases(record: &Record) -> Vec<CaseResult> {
    let Record { scenario, topology, capabilities, .. } = record;
    let strays = Strays::new(record.strays.iter().collect());
    let shapes: Vec<_> =
        scenario.requests.iter().map(|request| case::shape(scenario, request)).collect();
    let cases = record.cases.iter().map(|record| {
        let strays: Vec<&Stray> = strays.of(&record.case).into_iter().copied().collect();
        let view = View {
            case: &record.case,
            evidence: &record.evidence,
            strays: &strays,
            capabilities,
            topology,
            shape: &shapes[record.case.request],
        };
        case::result(scenario, view, case::findings(scenario, view))
    });
    cases.collect()
}
