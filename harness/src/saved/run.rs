//! A saved run as a whole, to be judged again.

use std::path::Path;

use super::{SavedError, SavedSystem, read, read_not_judged};
use crate::{
    finding::Warning,
    judge::{judge, judge_system},
    verdict::{ScenarioResult, Summary},
};

/// A saved run: its systems, and the results of the scenarios that have no record.
#[derive(Debug)]
pub struct SavedRun {
    systems: Vec<SavedSystem>,
    not_judged: Vec<ScenarioResult>,
}

impl SavedRun {
    /// Reads a run that was saved in `dir`.
    ///
    /// # Errors
    ///
    /// When nothing is there, or a file cannot be read.
    pub fn read(dir: &Path) -> Result<Self, SavedError> {
        let mut not_judged = read_not_judged(dir)?;
        let systems = match read(dir) {
            // No system came up.
            Err(SavedError::Empty { .. }) if !not_judged.is_empty() => Vec::new(),
            read => read?,
        };
        // Until a run ends, each of its scenarios is among those without a record.
        let has_record = |name: &str| {
            let mut records = systems.iter().flat_map(SavedSystem::records);
            records.any(|record| record.scenario.name == name)
        };
        not_judged.retain(|result| !has_record(&result.name));
        Ok(Self { systems, not_judged })
    }

    /// Returns its systems.
    pub fn systems(&self) -> &[SavedSystem] {
        &self.systems
    }

    /// Returns the names of its scenarios: those with a record, by system, then the others.
    pub fn names(&self) -> Vec<String> {
        let records = self.systems.iter().flat_map(SavedSystem::records);
        let records = records.map(|record| &record.scenario.name);
        let not_judged = self.not_judged.iter().map(|result| &result.name);
        records.chain(not_judged).cloned().collect()
    }

    /// Judges its scenarios again as the run did, all of them or those with the names in `wanted`. Returns the warnings about
    /// its systems with their details, too, of which the summary has the texts.
    pub fn judge(&self, run_id: &str, wanted: Option<&[String]>) -> (Summary, Vec<Warning>) {
        let is_wanted = |name: &String| wanted.is_none_or(|wanted| wanted.contains(name));
        let records = self.systems.iter().flat_map(SavedSystem::records);
        let records = records.filter(|record| is_wanted(&record.scenario.name));
        let not_judged = self.not_judged.iter().filter(|result| is_wanted(&result.name));
        let results: Vec<_> = records.map(judge).chain(not_judged.cloned()).collect();
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        for system in &self.systems {
            let records: Vec<_> = system.records().iter().collect();
            if wanted.is_some() && !records.iter().any(|record| is_wanted(&record.scenario.name)) {
                continue;
            }
            let results: Vec<_> = results.iter().collect();
            found.push(judge_system(system.facts(), system.nobodys(), &records, &results));
        }
        let mut summary = Summary { scenarios: results, ..Summary::new(run_id) };
        for found in found {
            warnings.extend(found.warnings.iter().cloned());
            summary.add(found);
        }
        (summary, warnings)
    }
}
