//! Taking a system down: what it sends at its end is judged, the run is saved, and logs are kept.

use super::{
    audit,
    group::{Live, report_logs},
    kept_logs, saved,
};
use crate::{
    event::Event, finding::Warning, judge, record::Record, rule, strays::Nobodys, verdict::Verdict,
};

impl Live<'_> {
    /// Stops the system, source by source, judges what came at the very end, saves the run if asked to, and removes the rest.
    pub(super) async fn take_down(&mut self) {
        // While all of it is still there, for its state; and once more when it has ended, for the last of its logs.
        if self.has_not_passed() {
            self.keep_logs().await;
        }
        let unclean = self.session.stop_sources().await;
        let ended_well = unclean.is_empty();
        self.events.send_notes(&self.session).await;
        if !self.plan.halt.is_cancelled() {
            let ended = (ended_well, self.unrest.as_ref());
            audit::last_audit(&self.session, &mut self.driven, ended, self.events).await;
        }
        let nobodys = self.judge_nobodys_strays(ended_well).await;
        let leak = rule::literals_warning(&self.group.name(), self.records());
        let breaches = rule::levels_warning(&self.group.name(), self.records());
        let judged = self.driven.iter().map(|driven| (&driven.record, &driven.result));
        let differing = judge::consistency_warning(&self.group.name(), judged);
        let results = self.driven.iter().map(|driven| &driven.result);
        let dropped = judge::sampled_warning(&self.group.name(), results);
        for Warning { text, more } in
            leak.into_iter().chain(breaches).chain(differing).chain(dropped)
        {
            self.events.send(Event::Warning { text: text.clone(), more }).await;
            self.outcome.warnings.push(text);
        }
        self.report_unclean(unclean).await;
        if !ended_well || self.has_not_passed() {
            self.keep_logs().await;
        }
        let mut unclean = Vec::new();
        let dir = self.plan.save.as_ref();
        let dir = dir.map(|dir| dir.join(format!("system-{}", self.group.number)));
        let mut saved = None;
        if let Some(at) = dir {
            match saved::save(&at, &self.session, &self.records(), &nobodys).await {
                Ok(attempts) => saved = Some((at, attempts)),
                Err(error) => unclean.push(format!("the run could not be saved: {error}")),
            }
        }
        if let Some(watch) = &self.plan.watch {
            watch.down(&self.group.scenario_names());
        }
        if let Err(error) = self.session.stop().await {
            unclean.push(error.to_string());
        }
        if !unclean.is_empty() {
            self.report_unclean(unclean).await;
            // What came after the run was saved is of its records, too.
            if let Some((at, attempts)) = saved
                && let Err(error) = saved::write_records(&at, &self.records(), &nobodys, attempts)
            {
                self.report_unclean(vec![format!("the run could not be saved: {error}")]).await;
            }
        }
        report_logs(self.group, self.logs.take(), true, self.events).await;
    }

    /// Says what the traces that belong to no request mean for the run. Where something that would show whose they are may be missing,
    /// nothing is concluded.
    async fn judge_nobodys_strays(&mut self, ended_well: bool) -> Nobodys {
        let mut scenarios = self.driven.iter().map(|driven| &driven.record.scenario);
        let not_judged =
            if self.plan.halt.is_cancelled() || self.driven.len() < self.group.scenarios.len() {
                Some("the run was cancelled")
            } else if !ended_well {
                Some("the system did not stop cleanly")
            } else if !self.session.source().gaps().is_empty() {
                Some("the evidence has a gap")
            } else if !self.session.up().unexpected_exits().is_empty() {
                Some("a workload ended by itself")
            } else if scenarios.any(|scenario| scenario.tolerate.contains_key("stray-trace")) {
                Some("a scenario tolerates `stray-trace`")
            } else {
                None
            };
        let (witness, system) = (self.session.witness(), self.group.name());
        let nobodys = witness.nobodys_strays(&system, not_judged.map(str::to_owned));
        let findings = nobodys.judge();
        for text in findings.warnings {
            self.events.send(Event::warning(&text)).await;
            self.outcome.warnings.push(text);
        }
        self.outcome.undecided.extend(findings.undecided);
        self.outcome.notes.extend(findings.notes);
        nobodys
    }

    fn records(&self) -> Vec<&Record> {
        self.driven.iter().map(|driven| &driven.record).collect()
    }

    /// Reports what did not end as it should: what could not be sent at the end may have been anybody's.
    async fn report_unclean(&mut self, unclean: Vec<String>) {
        for text in unclean {
            let text = format!("taking {} down: {text}", self.group.name());
            self.events.send(Event::warning(&text)).await;
            self.outcome.warnings.push(text.clone());
            for driven in &mut self.driven {
                driven.record.facts.undone.push(text.clone());
                driven.judge_again(self.events).await;
            }
        }
    }

    /// Returns whether a scenario failed or could not be decided, though the user let it run.
    fn has_not_passed(&self) -> bool {
        let results =
            self.driven.iter().map(|driven| &driven.result).chain(&self.outcome.not_judged);
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
