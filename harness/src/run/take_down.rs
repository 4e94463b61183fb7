//! Taking a system down: what it sends at its end is judged, the run is saved, and logs are kept.

use std::collections::BTreeMap;

use super::{audit, driven::Driven, group::Live, group::report_logs, kept_logs, refresh};
use crate::{judge, record::Record, saved, strays::Nobodys, verdict::Verdict};

impl Live<'_> {
    /// Stops the system, source by source, judges what came at the very end, saves the run if asked to, and removes the rest.
    pub(super) async fn take_down(&mut self) {
        // While all of it is still there, for its state; and once more when it has ended, for the last of its logs.
        if self.has_not_passed() {
            self.keep_logs().await;
        }
        self.facts.export_errors = self.export_errors().await;
        self.facts.unclean = self.session.stop_sources().await;
        let ended_well = self.facts.unclean.is_empty();
        self.events.send_notes(&self.session).await;
        if !self.plan.halt.is_cancelled() {
            let ended = (ended_well, self.restless.as_ref());
            audit::last_audit(&self.session, &mut self.driven, ended, self.events).await;
        }
        self.facts.is_cancelled =
            self.plan.halt.is_cancelled() || self.driven.len() < self.group.scenarios.len();
        self.facts.gaps = self.session.source().gaps();
        self.facts.exits = refresh::exits(&self.session);
        let nobodys = self.session.witness().nobodys_strays();
        self.judge_system(&nobodys).await;
        if !ended_well || self.has_not_passed() {
            self.keep_logs().await;
        }
        let dir = self.plan.save.as_ref();
        let dir = dir.map(|dir| dir.join(format!("system-{}", self.group.number)));
        let mut saved = None;
        if let Some(at) = dir {
            match saved::save(&at, &self.session, &self.records(), (&self.facts, &nobodys)).await {
                Ok(attempts) => saved = Some((at, attempts)),
                Err(error) => {
                    self.facts.undone.push(format!("the run could not be saved: {error}"));
                }
            }
        }
        if let Some(watch) = &self.plan.watch {
            watch.down(&self.group.scenario_names());
        }
        if let Err(error) = self.session.stop().await {
            self.facts.undone.push(error.to_string());
        }
        if !self.facts.undone.is_empty() {
            self.judge_system(&nobodys).await;
            // What came after the run was saved is of its records, too.
            let of_system = (&self.facts, &nobodys);
            if let Some((at, attempts)) = saved
                && let Err(error) = saved::write_records(&at, &self.records(), of_system, attempts)
            {
                self.facts.undone.push(format!("the run could not be saved: {error}"));
                self.judge_system(&nobodys).await;
            }
        }
        report_logs(self.group, self.logs.take(), true, self.events).await;
    }

    /// Judges the run of the system by all that is known of it now. What could not be sent when it was taken down may have been anybody's.
    async fn judge_system(&mut self, nobodys: &Nobodys) {
        for driven in &mut self.driven {
            let mut undone: Vec<String> = self.facts.taking_down().collect();
            undone.retain(|text| !driven.record().facts.undone.contains(text));
            if !undone.is_empty() {
                driven.revise(self.events, |record| record.facts.undone.extend(undone)).await;
            }
        }
        let results: Vec<_> = self.driven.iter().map(Driven::result).collect();
        let found = judge::judge_system(&self.facts, nobodys, &self.records(), &results);
        self.report(found).await;
    }

    /// Reads what services and collectors log of spans that they did not pass on, unless a scenario made something fail.
    async fn export_errors(&self) -> BTreeMap<String, String> {
        let records = self.records();
        let cases = || records.iter().flat_map(|record| &record.cases);
        let first = cases().map(|of| of.case.sent_at).min();
        let is_disturbed = self.group.scenarios.iter().any(|of| !of.faults.is_empty());
        match first.filter(|_| !is_disturbed && !self.plan.halt.is_cancelled()) {
            Some(first) => refresh::LoggedReports::read(&self.session).await.since(first),
            None => BTreeMap::new(),
        }
    }

    fn records(&self) -> Vec<&Record> {
        self.driven.iter().map(Driven::record).collect()
    }

    /// Returns whether a scenario failed or could not be decided, though the user let it run.
    fn has_not_passed(&self) -> bool {
        let results = self.driven.iter().map(Driven::result).chain(&self.not_judged);
        results.into_iter().any(|result| result.verdict != Verdict::Pass)
    }

    /// Keeps the logs of the system, where they are not saved with the run.
    async fn keep_logs(&mut self) {
        let Some(logs) = &self.plan.logs else { return };
        if self.plan.cancel.is_cancelled() {
            return;
        }
        let kept = match logs.of_system(self.group.number) {
            Ok(dir) => match self.session.up().collect_logs(&dir).await {
                Ok(()) => kept_logs::finish(Ok(Some(dir))),
                Err(error) => Some(Err(error.to_string())),
            },
            Err(error) => Some(Err(error.to_string())),
        };
        // The last ones that there are.
        self.logs = kept.or(self.logs.take());
    }
}
