//! One group of scenarios: its system up, its scenarios driven and judged, quiesced, audited, and down again.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Instant,
};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Events, Group, Plan,
    audit::{self, Sentinel},
    drive,
    driven::Driven,
    foreseen::foreseen,
    kept_logs, millis, not_judged, panic_text,
    refresh::{Latest, Services},
};
use crate::{
    event::Event,
    finding::{SystemFindings, Warning},
    judge,
    record::SystemFacts,
    scenario::{Scenario, SystemChoice},
    session::{Restless, Session, SessionError},
    stats,
    strays::Nobodys,
    system::System,
    verdict::ScenarioResult,
};

/// The outcome of a group.
#[derive(Default)]
pub(super) struct GroupOutcome {
    /// Results of the scenarios that have a record.
    pub(super) results: Vec<ScenarioResult>,
    /// Those of the others.
    pub(super) not_judged: Vec<ScenarioResult>,
    /// Findings about the group's system.
    pub(super) findings: SystemFindings,
}

/// A group whose system is up.
pub(super) struct Live<'a> {
    pub(super) group: &'a Group,
    pub(super) plan: &'a Plan,
    pub(super) events: &'a Events,
    pub(super) session: Arc<Session>,
    /// The scenarios that were driven so far.
    pub(super) driven: Vec<Driven>,
    /// Results of the scenarios that have no record.
    pub(super) not_judged: Vec<ScenarioResult>,
    /// Facts about the system so far.
    pub(super) facts: SystemFacts,
    /// Findings about it that were reported.
    pub(super) findings: SystemFindings,
    /// The sentinel at the end, where it did not arrive whole.
    pub(super) restless: Option<Restless>,
    /// The logs that were kept last.
    pub(super) logs: Option<kept_logs::Kept>,
}

/// Runs a group. `place` is given up when the group is judged, also where its system is kept.
pub(super) async fn run(
    group: Group,
    plan: &Plan,
    run_id: &str,
    events: &Events,
    place: Option<OwnedSemaphorePermit>,
) -> GroupOutcome {
    let session = match start(&group, plan, run_id, events).await {
        Ok(session) => Arc::new(session),
        Err(because) => return give_up(group, events, &because).await,
    };
    let mut live = Live {
        group: &group,
        plan,
        events,
        session,
        driven: Vec::new(),
        not_judged: Vec::new(),
        facts: SystemFacts { name: group.name(), ..SystemFacts::default() },
        findings: SystemFindings::default(),
        restless: None,
        logs: None,
    };
    live.warn_of_what_is_foreseen().await;
    tokio::select! {
        () = live.await_pointing() => {}
        () = plan.halt.cancelled() => {}
    }
    live.drive_and_audit().await;
    live.give_up_the_rest().await;
    live.listen().await;
    live.warn_of_missing_metrics().await;
    drop(place);
    live.stay().await;
    live.take_down().await;
    let Live { driven, not_judged, findings, .. } = live;
    let results = driven.into_iter().map(Driven::into_result).collect();
    GroupOutcome { results, not_judged, findings }
}

/// Brings the system of a group up; why not, where it does not come up.
async fn start(
    group: &Group,
    plan: &Plan,
    run_id: &str,
    events: &Events,
) -> Result<Session, String> {
    if plan.halt.is_cancelled() {
        return Err("the run ended before its system was started".to_owned());
    }
    let began = Instant::now();
    let system = plan.systems.get(&group.choice).ok_or("its system is not specified")?;
    let environment = (plan.environment)()
        .map_err(|error| format!("its environment cannot be set up: {error}"))?;
    let system = &with_taps(system, &group.scenarios, environment.is_attached())?;
    let logs_at = || match &plan.logs {
        Some(logs) => logs.of_system(group.number).map(Some),
        None => Ok(None),
    };
    let source = plan.evidence.clone();
    let started = Session::start_with(environment, system, run_id, source, &logs_at, &plan.halt);
    let session = match started.await {
        Ok(session) => session,
        Err(error @ SessionError::Halted) => return Err(error.to_string()),
        Err(error) => {
            if plan.logs.is_some() {
                report_logs(group, kept_logs::finish(logs_at()), false, events).await;
            }
            return Err(format!("its system did not come up: {error}"));
        }
    };
    let scenarios = group.scenario_names();
    if let (Some(watch), Some(intake)) = (&plan.watch, session.witness().shared_intake()) {
        watch.up(&scenarios, intake);
    }
    let took_ms = millis(began.elapsed());
    events.send(Event::SystemReady { system: group.name(), took_ms, scenarios }).await;
    Ok(session)
}

/// The system with something on the edges on which a fault is to do something to what passes.
fn with_taps(system: &System, scenarios: &[Scenario], is_there: bool) -> Result<System, String> {
    let mut system = system.clone();
    for fault in scenarios.iter().flat_map(|scenario| &scenario.faults) {
        let Some(between) = fault.kind.between() else { continue };
        if is_there {
            return Err(format!(
                "nothing can be put between `{}` and `{}` in a system that is up already; run it without --attach",
                between.caller, fault.at
            ));
        }
        system.put_between(&between.caller, &fault.at).map_err(|error| error.to_string())?;
    }
    Ok(system)
}

async fn give_up(group: Group, events: &Events, because: &str) -> GroupOutcome {
    let mut outcome = GroupOutcome::default();
    for scenario in group.scenarios {
        let result = not_judged(&scenario, because);
        events.send(Event::ScenarioFinished { result: Box::new(result.clone()) }).await;
        outcome.not_judged.push(result);
    }
    outcome
}

/// Reports where a system's logs are, with the end of each, unless that is reported elsewhere.
pub(super) async fn report_logs(
    group: &Group,
    kept: Option<kept_logs::Kept>,
    with_end: bool,
    events: &Events,
) {
    let text = match kept {
        None => return,
        Some(Ok((dir, end))) => {
            let end = if with_end { end } else { String::new() };
            format!("logs of {} are kept in {}{end}", group.name(), dir.display())
        }
        Some(Err(reason)) => format!("logs of {} could not be kept: {reason}", group.name()),
    };
    events.send(Event::warning(text)).await;
}

impl Live<'_> {
    /// Waits until the collector sends to the mock intake, where it may have to be pointed there first.
    async fn await_pointing(&self) {
        let Some(first) = self.group.scenarios.first() else { return };
        if let Err(text) = self.session.await_pointing(first.harmless()).await {
            self.events.send(Event::warning(text)).await;
        }
    }

    /// Warns of settings that will not do for the scenarios. Of a system that somebody else set up, they are not known.
    async fn warn_of_what_is_foreseen(&mut self) {
        let Some(system) = self.plan.systems.get(&self.group.choice) else { return };
        if self.session.up().is_attached() {
            return;
        }
        self.facts.foreseen = foreseen(system, &self.group.scenarios);
        self.warn().await;
    }

    /// Reports the warnings about the system that are known before its scenarios are all judged.
    async fn warn(&mut self) {
        let found = judge::judge_system(&self.facts, &Nobodys::default(), &[], &[]);
        self.report(found).await;
    }

    /// Takes over the findings about the system, and reports the warnings that are new. Findings come after those that were known before.
    pub(super) async fn report(&mut self, found: SystemFindings) {
        for Warning { text, more } in found.warnings.iter().skip(self.findings.warnings.len()) {
            self.events.send(Event::Warning { text: text.clone(), more: more.clone() }).await;
        }
        self.findings = found;
    }

    async fn drive_and_audit(&mut self) {
        let (mut running, mut names) = (JoinSet::new(), HashMap::new());
        let (answering, answered) = mpsc::channel(1);
        for scenario in &self.group.scenarios {
            let (session, scenario, events) =
                (Arc::clone(&self.session), Arc::new(scenario.clone()), self.events.clone());
            let answering = answering.clone();
            let name = scenario.name.clone();
            let task = running
                .spawn(async move { drive::drive(&session, scenario, answering, &events).await });
            names.insert(task.id(), name);
        }
        drop(answering);
        let sentinel = self.early_sentinel(answered);
        while !self.plan.halt.is_cancelled() {
            let finished = tokio::select! {
                finished = running.join_next_with_id() => finished,
                () = self.plan.halt.cancelled() => break,
            };
            let Some(finished) = finished else { break };
            self.take(finished, &names).await;
        }
        // What was judged when the run was ended is judged.
        while let Some(finished) = running.try_join_next_with_id() {
            self.take(finished, &names).await;
        }
        drop(running);
        // A system that has been seen to be broken proves nothing by a sentinel.
        if self.driven.iter().any(Driven::passes) && !self.plan.halt.is_cancelled() {
            let audited = audit::audit(&self.session, &mut self.driven, sentinel, self.events);
            tokio::select! {
                restless = audited => self.restless = restless,
                () = self.plan.halt.cancelled() => {}
            }
        }
    }

    /// Takes over a scenario that was driven, reports it, and ends the run where it is to end at the first one that does not pass.
    async fn take(
        &mut self,
        finished: Result<(Id, Driven), JoinError>,
        names: &HashMap<Id, String>,
    ) {
        let passes = match finished {
            Ok((_, driven)) => {
                self.events.show_judged(driven.record(), driven.result());
                let result = Box::new(driven.result().clone());
                let passes = driven.passes();
                self.driven.push(driven);
                self.events.send(Event::ScenarioFinished { result }).await;
                passes
            }
            Err(error) => {
                let name = names.get(&error.id()).map_or("", String::as_str);
                let panicked = panic_text(error);
                self.facts.panicked.push(format!("`{name}`: {panicked}"));
                self.warn().await;
                let because = format!("it was not judged: {panicked}");
                self.give_up_each(&because, |scenario| scenario.name == name).await;
                false
            }
        };
        if self.plan.fail_fast && !passes {
            self.plan.halt.cancel();
        }
    }

    /// Sends the sentinel as soon as all requests are answered: where a collector keeps spans back for long, one batch carries
    /// both. `None` where it has to wait until all is judged: a fault may still hold up a scenario that has its system to itself, and
    /// of somebody else's services it is not known before which of them it must pass.
    fn early_sentinel(&self, mut answered: mpsc::Receiver<Infallible>) -> Option<Sentinel> {
        let scenarios = &self.group.scenarios;
        if self.session.intake().is_none()
            || !matches!(self.group.choice, SystemChoice::Chain(_))
            || scenarios.iter().any(Scenario::is_exclusive)
        {
            return None;
        }
        let like = scenarios.iter().min_by_key(|scenario| scenario.faults.len())?.clone();
        let session = Arc::clone(&self.session);
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let _closed = answered.recv().await;
            audit::quiesce(&session, &like, &BTreeSet::new()).await
        })))
    }

    /// Waits for what may come again, or too late, and judges what passed by that.
    async fn listen(&mut self) {
        // A system that has been seen to be broken needs no more proof.
        if self.plan.listen.is_zero() || !self.driven.iter().any(Driven::passes) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(self.plan.listen) => {}
            () = self.plan.halt.cancelled() => return,
        }
        // While the ledgers can still report what came of it.
        for driven in self.driven.iter_mut().filter(|driven| driven.passes()) {
            let latest = Latest::of(&self.session, driven.record(), Services::Up).await;
            driven.revise(self.events, |record| latest.put_into(record)).await;
        }
    }

    /// Gives every scenario a result that has none.
    async fn give_up_the_rest(&mut self) {
        let because = match self.plan.cancel.is_cancelled() {
            true => "it was interrupted",
            false => "the run ended before it was judged",
        };
        self.give_up_each(because, |_| true).await;
    }

    /// Gives each scenario that is meant and has no result one that says why.
    async fn give_up_each(&mut self, because: &str, is_meant: impl Fn(&Scenario) -> bool) {
        for scenario in self.group.scenarios.iter().filter(|scenario| is_meant(scenario)) {
            let driven = self.driven.iter().map(Driven::result);
            if driven.chain(&self.not_judged).any(|result| result.name == scenario.name) {
                continue;
            }
            let result = not_judged(scenario, because);
            self.not_judged.push(result.clone());
            self.events.send(Event::ScenarioFinished { result: Box::new(result) }).await;
        }
    }

    /// Warns where Datadog would make no trace metrics of what was sent.
    async fn warn_of_missing_metrics(&mut self) {
        let intake = self.session.intake();
        self.facts.lacks_trace_metrics =
            intake.is_some_and(|intake| intake.with_store(stats::lacks_trace_metrics));
        self.warn().await;
    }

    /// Leaves the system running for a look around, where that is asked for.
    async fn stay(&self) {
        if self.plan.keep && !self.plan.cancel.is_cancelled() {
            self.events.send(Event::warning(kept(self.group, &self.session))).await;
            self.plan.cancel.cancelled().await;
        }
    }
}

fn kept(group: &Group, session: &Session) -> String {
    let mut text = format!("{} is kept running until Ctrl-C:", group.name());
    for (name, workload) in &session.endpoints().workloads {
        for instance in &workload.instances {
            for (port, address) in &instance.ports {
                text.push_str(&format!("\n  {name} {port} http://{address}"));
            }
        }
    }
    text
}
