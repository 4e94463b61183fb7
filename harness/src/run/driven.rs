//! A scenario that was driven: its record, and the verdict on it.

use super::Events;
use crate::{
    event::Event,
    judge,
    record::Record,
    verdict::{ScenarioResult, Verdict},
};

/// A record with its result.
///
/// The two always agree, so that a saved run comes to the verdict that was reported: a record is changed by [`Driven::revise`] alone, which
/// judges it at once, without a wait between at which a run may be cancelled.
pub(super) struct Driven {
    record: Record,
    result: ScenarioResult,
}

impl Driven {
    /// Judges a record for the first time. The times are the run's: of the whole scenario in milliseconds, and of each case how long after
    /// its last span it was judged.
    pub(super) fn new(mut record: Record, took_ms: u64, judged_after_ms: &[Option<u64>]) -> Self {
        let mut result = judge::judge(&record);
        record.facts.first_verdict = Some(result.verdict);
        result.took_ms = took_ms;
        for (case, judged_after_ms) in result.cases.iter_mut().zip(judged_after_ms) {
            case.judged_after_ms = *judged_after_ms;
        }
        Self { record, result }
    }

    /// Returns all that is known of the scenario so far.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Returns the result of judging the record as it is.
    pub(super) fn result(&self) -> &ScenarioResult {
        &self.result
    }

    /// Takes the result, once nothing more comes.
    pub(super) fn into_result(self) -> ScenarioResult {
        self.result
    }

    /// Returns whether the scenario passes so far.
    pub(super) fn passes(&self) -> bool {
        self.result.verdict == Verdict::Pass
    }

    /// Changes the record, judges it anew, and reports the verdict where it is another one.
    pub(super) async fn revise(&mut self, events: &Events, change: impl FnOnce(&mut Record)) {
        let from = self.result.verdict;
        change(&mut self.record);
        let mut result = judge::judge(&self.record);
        result.took_ms = self.result.took_ms;
        for (now, before) in result.cases.iter_mut().zip(&self.result.cases) {
            now.judged_after_ms = before.judged_after_ms;
        }
        self.result = result;
        events.show_judged(&self.record, &self.result);
        if self.result.verdict != from {
            self.report_revised(from, events).await;
        }
    }

    /// Reports the result in the place of the one before, whose verdict was `from`.
    pub(super) async fn report_revised(&self, from: Verdict, events: &Events) {
        events.send(Event::VerdictRevised { from, result: Box::new(self.result.clone()) }).await;
    }
}
