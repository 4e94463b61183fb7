//! Taking a system down: what it sends at its end is judged, the run is saved, and logs are kept.

use super::{
    audit,
    group::{Live, tell_logs},
    kept_logs, saved,
};
use crate::{event::Event, record::Record, rule, strays::Nobodys, verdict::Verdict};

impl Live<'_> {
    /// Stops the system, source by source, judges what came at the very end, saves the run if asked to, and removes the rest.
    pub(super) async fn take_down(&mut self) {
        // While all of it is still there, for its state; and once more when it has ended, for the last of its logs.
        if self.has_not_passed() {
            self.keep_logs().await;
        }
        let unclean = self.session.stop_sources().await;
        let ended_well = unclean.is_empty();
        self.tell.tell_notes(&self.session).await;
        if !self.plan.halt.is_cancelled() {
            let ended = (ended_well, self.unrest.as_ref());
            audit::last_audit(&self.session, &mut self.driven, ended, self.tell).await;
        }
        let nobodys = self.judge_nobodys_strays(ended_well).await;
        if let Some(text) = rule::literals_warning(&self.group.name(), self.records()) {
            self.tell.tell(Event::Warning { text: text.clone() }).await;
            self.outcome.warnings.push(text);
        }
        self.tell_unclean(unclean).await;
        if !ended_well || self.has_not_passed() {
            self.keep_logs().await;
        }
        let mut unclean = Vec::new();
        let dir = self.plan.save.as_ref();
        let mut dir = dir.map(|dir| dir.join(format!("system-{}", self.group.number)));
        if let Some(at) = &dir
            && let Err(error) = saved::save(at, &self.session, &self.records(), &nobodys).await
        {
            unclean.push(format!("the run could not be saved: {error}"));
            dir = None;
        }
        if let Err(error) = self.session.stop().await {
            unclean.push(error.to_string());
        }
        if !unclean.is_empty() {
            self.tell_unclean(unclean).await;
            // What came after the run was saved is of its records, too.
            if let Some(at) = &dir
                && let Err(error) = saved::write_records(at, &self.records(), &nobodys)
            {
                self.tell_unclean(vec![format!("the run could not be saved: {error}")]).await;
            }
        }
        tell_logs(self.group, self.logs.take(), true, self.tell).await;
    }

    /// Says what the traces that belong to no request mean for the run. Where something that would show whose they are may be missing,
    /// nothing is concluded.
    async fn judge_nobodys_strays(&mut self, ended_well: bool) -> Nobodys {
        let mut scenarios = self.driven.iter().map(|driven| &driven.record.scenario);
        let not_judged =
            if self.plan.halt.is_cancelled() || self.driven.len() < self.group.scenarios.len() {
                Some("the run was cancelled")
            } else if !ended_well {
                Some("the system did not end in peace")
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
            self.tell.tell(Event::Warning { text: text.clone() }).await;
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
    async fn tell_unclean(&mut self, unclean: Vec<String>) {
        for text in unclean {
            let text = format!("taking {} down: {text}", self.group.name());
            self.tell.tell(Event::Warning { text: text.clone() }).await;
            self.outcome.warnings.push(text.clone());
            for driven in &mut self.driven {
                driven.record.facts.undone.push(text.clone());
                driven.judge_again(self.tell).await;
            }
        }
    }

    /// Returns whether a scenario failed or could not be decided, though the user let it run.
    fn has_not_passed(&self) -> bool {
        let results = self.driven.iter().map(|driven| &driven.result).chain(&self.outcome.results);
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
