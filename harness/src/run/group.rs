//! One group of scenarios: its system up, its scenarios driven and judged, quiesced, audited, and down again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use super::{
    Group, Plan, Teller,
    facts::{self, Facts},
    kept_logs, millis, saved,
};
use crate::{
    case::{Case, LedgerReport},
    environment::UnexpectedExit,
    event::Event,
    evidence::EvidenceSource,
    scenario::{Fault, FaultKind, Scenario, SystemChoice, request::SavedValues},
    session::{Session, SessionError, Settled},
    stats::{self, Captured},
    trace::TraceId,
    verdict::{CaseResult, ScenarioResult, Verdict},
};

/// Longest wait for the sentinel at the end: the slowest exporting path there is, twice.
const QUIESCE_WITHIN: Duration = Duration::from_secs(15);
/// How many cases are judged once more at the same time; each asks the services' ledgers.
const REVIEWS_AT_ONCE: usize = 32;
/// Lines of a dead workload's log that are told.
const LOG_LINES: usize = 12;

/// What became of a group.
#[derive(Default)]
pub(super) struct GroupOutcome {
    pub(super) results: Vec<ScenarioResult>,
    pub(super) warnings: Vec<String>,
}

/// A scenario that was driven, with what is needed to judge it again.
struct Driven {
    scenario: Arc<Scenario>,
    cases: Vec<Case>,
    /// What the ledgers said last, by case.
    ledgers: Vec<BTreeMap<String, LedgerReport>>,
    facts: Facts,
    result: ScenarioResult,
    /// Number of the attempt up to which its stats were judged.
    stats_until: Option<u64>,
}

/// Runs a group. `place` is given up when the group is judged, also where its system is kept.
pub(super) async fn run(
    group: Group,
    plan: &Plan,
    run_id: &str,
    tell: &Teller,
    place: OwnedSemaphorePermit,
) -> GroupOutcome {
    let names: Vec<String> = group.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    if plan.halt.is_cancelled() {
        return give_up(group, tell, "the run ended before it began").await;
    }
    let began = Instant::now();
    let Some(system) = plan.systems.get(&group.choice) else {
        return give_up(group, tell, "nobody says what its system is").await;
    };
    let environment = match (plan.environment)() {
        Ok(environment) => environment,
        Err(error) => {
            return give_up(group, tell, &format!("its environment cannot be set up: {error}"))
                .await;
        }
    };
    let source = plan.evidence.clone();
    let logs_at = || match &plan.logs {
        Some(logs) => logs.of_system(group.number).map(Some),
        None => Ok(None),
    };
    let started = Session::start_with(environment, system, run_id, source, &logs_at, &plan.halt);
    let session = match started.await {
        Ok(session) => Arc::new(session),
        Err(error @ SessionError::Halted) => {
            return give_up(group, tell, &error.to_string()).await;
        }
        Err(error) => {
            if plan.logs.is_some() {
                tell_logs(&group, kept_logs::finish(logs_at()), false, tell).await;
            }
            return give_up(group, tell, &format!("its system did not come up: {error}")).await;
        }
    };
    let system_name = group.name();
    tell.tell(Event::SystemReady {
        system: system_name,
        took_ms: millis(began.elapsed()),
        scenarios: names,
    })
    .await;

    let mut outcome = GroupOutcome::default();
    let mut driven = Vec::new();
    let begin = async {
        let Some(first) = group.scenarios.first() else { return };
        if let Err(text) = session.await_pointing(first.harmless()).await {
            tell.tell(Event::Warning { text }).await;
        }
    };
    tokio::select! {
        () = begin => {}
        () = plan.halt.cancelled() => {}
    }
    tokio::select! {
        () = drive_and_audit(&session, &group, plan, tell, &mut driven, &mut outcome) => {}
        () = plan.halt.cancelled() => {}
    }
    for scenario in &group.scenarios {
        if !driven.iter().any(|driven| driven.scenario.name == scenario.name) {
            let because = match plan.cancel.is_cancelled() {
                true => "it was interrupted",
                false => "the run ended before it was judged",
            };
            let result = ScenarioResult::undecided(&scenario.name, &scenario.description, because);
            tell.tell(Event::ScenarioFinished { result: Box::new(result.clone()) }).await;
            outcome.results.push(result);
        }
    }
    if session.intake().is_some_and(|intake| intake.with_store(stats::lacks_trace_metrics)) {
        let text = format!("{}: {}", group.name(), stats::no_trace_metrics_warning());
        tell.tell(Event::Warning { text: text.clone() }).await;
        outcome.warnings.push(text);
    }
    drop(place);
    if plan.keep && !plan.cancel.is_cancelled() {
        tell.tell(Event::Warning { text: kept(&group, &session) }).await;
        plan.cancel.cancelled().await;
    }
    // While all of it is still there, for its state; and once more when it has ended, for the last of its logs.
    let mut logs = Vec::new();
    if has_not_passed(&driven, &outcome) {
        logs.push(keep_logs(&session, &group, plan).await);
    }
    take_down(&session, &group, plan, tell, &mut driven, &mut outcome, &mut logs).await;
    tell_logs(&group, logs.into_iter().flatten().last(), true, tell).await;
    outcome.results.extend(driven.into_iter().map(|driven| driven.result));
    outcome
}

/// Stops the system, source by source, judges what came at the very end, saves the run if asked to, and removes the rest.
async fn take_down(
    session: &Session,
    group: &Group,
    plan: &Plan,
    tell: &Teller,
    driven: &mut [Driven],
    outcome: &mut GroupOutcome,
    logs: &mut Vec<Option<kept_logs::Kept>>,
) {
    let mut unclean = session.stop_sources().await;
    tell_notes(session, tell).await;
    if !plan.halt.is_cancelled() {
        last_audit(session, driven, tell).await;
    }
    if !unclean.is_empty() || has_not_passed(driven, outcome) {
        logs.push(keep_logs(session, group, plan).await);
    }
    if let Some(dir) = &plan.save {
        let dir = dir.join(format!("system-{}", group.number));
        let systems = driven.iter().map(|driven| saved::Kept {
            scenario: &driven.scenario,
            cases: &driven.cases,
            ledgers: &driven.ledgers,
            facts: &driven.facts,
            stats_until: driven.stats_until,
        });
        if let Err(error) = saved::save(&dir, session, systems).await {
            unclean.push(format!("the run could not be saved: {error}"));
        }
    }
    if let Err(error) = session.stop().await {
        unclean.push(error.to_string());
    }
    for text in unclean {
        let text = format!("taking {} down: {text}", group.name());
        tell.tell(Event::Warning { text: text.clone() }).await;
        outcome.warnings.push(text.clone());
        // What could not be sent at the end may have been anybody's.
        for driven in driven.iter_mut() {
            driven.facts.undone.push(text.clone());
            driven.conclude(session, tell).await;
        }
    }
}

/// Tells how workloads ended that were stopped on purpose, where that is worth a word.
async fn tell_notes(session: &Session, tell: &Teller) {
    for text in session.take_notes() {
        tell.tell(Event::Warning { text }).await;
    }
}

/// Whether a scenario failed or could not be decided, though the user let it run.
fn has_not_passed(driven: &[Driven], outcome: &GroupOutcome) -> bool {
    let results = driven.iter().map(|driven| &driven.result).chain(&outcome.results);
    results.into_iter().any(|result| result.verdict != Verdict::Pass)
}

/// Keeps the logs of a system, where they are not saved with the run; `None` where there are none to keep.
async fn keep_logs(session: &Session, group: &Group, plan: &Plan) -> Option<kept_logs::Kept> {
    let logs = plan.logs.as_ref().filter(|_| !plan.cancel.is_cancelled())?;
    let dir = match logs.of_system(group.number) {
        Ok(dir) => dir,
        Err(error) => return Some(Err(error.to_string())),
    };
    match session.collect_logs(&dir).await {
        Ok(()) => kept_logs::finish(Ok(Some(dir))),
        Err(error) => Some(Err(error.to_string())),
    }
}

/// Tells where a system's logs are, with the end of each, unless that is told elsewhere.
async fn tell_logs(group: &Group, kept: Option<kept_logs::Kept>, with_end: bool, tell: &Teller) {
    let text = match kept {
        None => return,
        Some(Ok((dir, end))) => {
            let end = if with_end { end } else { String::new() };
            format!("logs of {} are kept in {}{end}", group.name(), dir.display())
        }
        Some(Err(reason)) => format!("logs of {} could not be kept: {reason}", group.name()),
    };
    tell.tell(Event::Warning { text }).await;
}

impl Driven {
    /// Works the verdict out anew, and tells it where it is another one.
    async fn conclude(&mut self, session: &Session, tell: &Teller) {
        let from = self.result.verdict;
        let topology = session.topology();
        facts::conclude(&self.scenario, &self.cases, topology, &self.facts, &mut self.result);
        if self.result.verdict != from {
            self.result.revised = true;
            tell.tell(Event::VerdictRevised { from, result: Box::new(self.result.clone()) }).await;
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

async fn give_up(group: Group, tell: &Teller, because: &str) -> GroupOutcome {
    let mut outcome = GroupOutcome::default();
    for scenario in group.scenarios {
        let result = ScenarioResult::undecided(&scenario.name, &scenario.description, because);
        tell.tell(Event::ScenarioFinished { result: Box::new(result.clone()) }).await;
        outcome.results.push(result);
    }
    outcome
}

async fn drive_and_audit(
    session: &Arc<Session>,
    group: &Group,
    plan: &Plan,
    tell: &Teller,
    driven: &mut Vec<Driven>,
    outcome: &mut GroupOutcome,
) {
    let mut running = JoinSet::new();
    for scenario in &group.scenarios {
        let (session, scenario, tell) =
            (Arc::clone(session), Arc::new(scenario.clone()), tell.clone());
        running.spawn(async move { drive(&session, scenario, &tell).await });
    }
    while let Some(finished) = running.join_next().await {
        match finished {
            Ok(finished) => {
                if plan.fail_fast && finished.result.verdict != Verdict::Pass {
                    driven.push(finished);
                    plan.halt.cancel();
                    return;
                }
                driven.push(finished);
            }
            Err(panicked) => {
                outcome.warnings.push(format!("a scenario was not judged: {panicked}"))
            }
        }
    }
    // A system that has been seen to be broken proves nothing by a sentinel.
    if driven.iter().any(|driven| driven.result.verdict == Verdict::Pass) {
        audit(session, driven, tell).await;
    }
}

/// Drives one scenario and judges its cases.
async fn drive(session: &Arc<Session>, scenario: Arc<Scenario>, tell: &Teller) -> Driven {
    let began = Instant::now();
    let name = scenario.name.clone();
    tell.tell(Event::ScenarioStarted { name: name.clone(), requests: scenario.request_count() })
        .await;
    let refused_before: u64 = session.source().refused().values().sum();
    let mut facts = Facts::default();
    let mut result = ScenarioResult::undecided(&name, &scenario.description, "");
    let (meanwhile, before): (Vec<Fault>, Vec<Fault>) =
        scenario.faults.iter().cloned().partition(|fault| fault.after.is_some());
    if before.iter().any(|fault| fault.kind.is_over_before_requests()) {
        // Whoever is not connected has nothing to find again.
        let like = (&scenario.system, scenario.harmless());
        let first = session.quiesce(like, &BTreeSet::new(), scenario.expect.within).await;
        if let Err(missing) = first {
            facts.undone.push(format!("the request before the fault did not arrive: {missing}"));
        }
    }
    if let Err(error) = session.inject(&before).await {
        facts.undone.push(format!("a fault could not be injected: {error}"));
    }
    let mut judging: JoinSet<(Case, Settled)> = JoinSet::new();
    if facts.undone.is_empty() {
        let (thawed, thaw) = watch::channel(false);
        let (answered, answers) = watch::channel(0);
        let injected = inject_meanwhile(session, &meanwhile, answers);
        let sent = send_all(session, &scenario, &mut judging, thaw, answered);
        let ((), undone) = future::join(sent, injected).await;
        facts.undone.extend(undone);
        // What a frozen workload does once it goes on belongs to the trace, so judging waits for it.
        if let Err(error) = session.thaw(&scenario.faults).await {
            facts.undone.push(format!("a fault could not be taken back: {error}"));
        }
        thawed.send_replace(true);
    }
    tell_notes(session, tell).await;
    let mut judged: Vec<(Case, Settled)> = Vec::new();
    while let Some(finished) = judging.join_next().await {
        match finished {
            Ok(case) => {
                judged.push(case);
                tell.tell(Event::CaseJudged { name: name.clone(), judged: judged.len() }).await;
            }
            Err(panicked) => facts.undone.push(format!("a case was not judged: {panicked}")),
        }
    }
    // Before anything is mended, as a stage that is down is part of the explanation.
    if judged.iter().any(|(_, settled)| !settled.result.findings.failures.is_empty()) {
        result.ledger = Some(session.stages().await.text());
    }
    if let Err(error) = session.heal(&scenario.faults).await {
        facts.undone.push(format!("a fault could not be taken back: {error}"));
    }
    judged.sort_by_key(|(_, settled)| settled.result.place);
    let (cases, settled): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
    let (mut ledgers, results): (Vec<_>, Vec<_>) =
        settled.into_iter().map(|settled| (settled.ledgers, settled.result)).unzip();
    result.cases = results;
    if scenario.expect.absent {
        let like = (&scenario.system, scenario.harmless());
        match session.quiesce(like, &BTreeSet::new(), scenario.expect.within).await {
            // Nothing came; that it would have come is proved by a later request that did.
            Ok(()) => {
                review_all(session, &scenario, &cases, &mut ledgers, &mut result, false).await;
            }
            Err(missing) => facts.undone.push(format!(
                "absence is not proved, since a later sampled request did not arrive either: {missing}"
            )),
        }
    }
    facts.refused = session.source().refused().values().sum::<u64>() - refused_before;
    let wanted = scenario.expect.trace_metrics;
    let found = match session.intake() {
        Some(intake) => intake.with_store(|store| stats::judge_trace_metrics(wanted, Some(store))),
        None => stats::judge_trace_metrics(wanted, None),
    };
    result.failures.extend(found.failures);
    result.not_evaluated.extend(found.not_evaluated);
    if let Some(expect) = scenario.expect.balance {
        // Where traces failed, more time would not mend it.
        let failed = result.cases.iter().any(|case| !case.findings.failures.is_empty());
        let within = if failed { Duration::ZERO } else { scenario.expect.within };
        facts.stages = Some(session.balanced_stages(expect, within).await);
    }
    let stats_until = judge_stats(session, &scenario, &cases, &mut facts, &mut result).await;
    gather(session, &mut facts).await;
    result.took_ms = millis(began.elapsed());
    facts::conclude(&scenario, &cases, session.topology(), &facts, &mut result);
    tell.tell(Event::ScenarioFinished { result: Box::new(result.clone()) }).await;
    Driven { scenario, cases, ledgers, facts, result, stats_until }
}

/// Judges the APM stats of a scenario that asks for them, once the collector has sent all it has; gives the number of the
/// attempt up to which they were judged.
async fn judge_stats(
    session: &Session,
    scenario: &Scenario,
    cases: &[Case],
    facts: &mut Facts,
    result: &mut ScenarioResult,
) -> Option<u64> {
    let Some(intake) = session.intake() else {
        result.not_evaluated.push(stats::unseen(scenario.expect.stats.is_some()));
        return None;
    };
    let captured = |until: u64| intake.with_store(|store| Captured::until(store, until));
    let Some(expect) = &scenario.expect.stats else {
        result.not_evaluated.push(stats::not_asked(&captured(u64::MAX)));
        return None;
    };
    if !result.failures.is_empty()
        || result.cases.iter().any(|case| !case.findings.failures.is_empty())
    {
        result.not_evaluated.push(stats::not_reached());
        return None;
    }
    let traces: HashSet<TraceId> = cases.iter().map(|case| case.trace_id).collect();
    let mut changes = intake.changes();
    let _came_by_themselves_or_not = tokio::time::timeout(expect.within, async {
        while !stats::is_whole(expect, &captured(u64::MAX), &traces) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    })
    .await;
    let stopped = session.stop_collectors().await;
    if let Ok(until) = &stopped {
        let tolerated = |rule: &str| scenario.tolerate.contains_key(rule);
        let capabilities = intake.capabilities();
        let findings = stats::judge(expect, &captured(*until), &traces, &capabilities, tolerated);
        result.failures.extend(findings.failures);
        result.not_evaluated.extend(findings.not_evaluated);
    }
    // The audit is still to come, and the user may want to look around.
    let started = session.start_collectors().await;
    for error in [stopped.as_ref().err(), started.as_ref().err()].into_iter().flatten() {
        facts.undone.push(format!("the collector could not be made to send its stats: {error}"));
    }
    stopped.ok()
}

/// Does what faults ask for in the middle of the requests, each when so many are answered; tells what could not be done.
async fn inject_meanwhile(
    session: &Session,
    faults: &[Fault],
    answers: watch::Receiver<u32>,
) -> Vec<String> {
    let each = faults.iter().map(|fault| {
        let mut answers = answers.clone();
        async move {
            let after = fault.after.unwrap_or_default();
            if answers.wait_for(|answered| *answered >= after).await.is_err() {
                let at = &fault.at;
                return Some(format!(
                    "the fault at `{at}` did not happen: the requests ended before"
                ));
            }
            let injected = session.inject(std::slice::from_ref(fault)).await.err();
            injected.map(|error| format!("a fault could not be injected: {error}"))
        }
    });
    future::join_all(each).await.into_iter().flatten().collect()
}

/// Sends a scenario's requests, each entry after the one before, and has each case judged as soon as it is sent.
async fn send_all(
    session: &Arc<Session>,
    scenario: &Arc<Scenario>,
    judging: &mut JoinSet<(Case, Settled)>,
    thaw: watch::Receiver<bool>,
    answered: watch::Sender<u32>,
) {
    let answered = Arc::new(answered);
    let values = Arc::new(SavedValues::default());
    let frozen = scenario.faults.iter().any(|fault| fault.kind == FaultKind::Pause);
    for (index, request) in scenario.requests.iter().enumerate() {
        let places = Arc::new(Semaphore::new(request.concurrency as usize));
        for ordinal in 0..request.times {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (session, scenario) = (Arc::clone(session), Arc::clone(scenario));
            let (mut thaw, answered) = (thaw.clone(), Arc::clone(&answered));
            let values = Arc::clone(&values);
            judging.spawn(async move {
                let request = &scenario.requests[index];
                let at = (index, ordinal);
                let case = session.send_filled(request, at, &scenario.faults, &values).await;
                drop(place);
                answered.send_modify(|answered| *answered += 1);
                drop(answered);
                if frozen {
                    let _thawed_or_over = thaw.wait_for(|thawed| *thawed).await;
                }
                let settled = session.settle(&scenario, &case).await;
                (case, settled)
            });
        }
        // The next entry begins when all of this one are answered.
        let _all_answered = places.acquire_many(request.concurrency).await;
    }
}

/// Adds what the session knows that bears on every scenario.
async fn gather(session: &Session, facts: &mut Facts) {
    let told = |exit: UnexpectedExit| {
        let log = exit.log_tail.iter().rev().take(LOG_LINES).rev();
        let log: String = log.map(|line| format!("\n        {line}")).collect();
        format!("`{}` ended by itself ({}); the end of its log:{log}", exit.workload, exit.status)
    };
    facts.exits = session.unexpected_exits().into_iter().map(told).collect();
    facts.intake_ended = session.intake_ended();
    facts.gaps = session.source().gaps();
    facts.disturbances = session.disturbances().await;
}

/// Judges every case of a scenario once more, with all that has come by now. Where the services are `gone`, by
/// what their ledgers said last.
async fn review_all(
    session: &Session,
    scenario: &Scenario,
    cases: &[Case],
    ledgers: &mut [BTreeMap<String, LedgerReport>],
    result: &mut ScenarioResult,
    gone: bool,
) {
    for at in (0..cases.len()).step_by(REVIEWS_AT_ONCE) {
        let until = cases.len().min(at + REVIEWS_AT_ONCE);
        let mut reviews = Vec::with_capacity(until - at);
        for index in at..until {
            let known = gone.then(|| ledgers[index].clone());
            reviews.push(session.review(scenario, &cases[index], known));
        }
        for (offset, settled) in future::join_all(reviews).await.into_iter().enumerate() {
            let result = &mut result.cases[at + offset];
            let judged_after_ms = result.judged_after_ms;
            *result = CaseResult { judged_after_ms, ..settled.result };
            ledgers[at + offset] = settled.ledgers;
        }
    }
}

/// Quiesces the system and judges every scenario that passed once more.
async fn audit(session: &Session, driven: &mut [Driven], tell: &Teller) {
    // A request that needs no fault to be answered tells most.
    let passed = driven.iter().filter(|driven| driven.result.verdict == Verdict::Pass);
    let Some(like) = passed.min_by_key(|driven| driven.scenario.faults.len()) else { return };
    let sent = like.cases.iter().find(|case| case.request == like.scenario.harmless_index());
    let seen = match (&like.scenario.system, sent) {
        (SystemChoice::File(_), Some(case)) => session.seen_in(case.trace_id),
        _ => BTreeSet::new(),
    };
    let request = (&like.scenario.system, like.scenario.harmless());
    let quiesced = session.quiesce(request, &seen, QUIESCE_WITHIN).await;
    let silent = session.silent_services();
    for driven in driven.iter_mut().filter(|driven| driven.result.verdict == Verdict::Pass) {
        let Driven { scenario, cases, ledgers, result, .. } = driven;
        review_all(session, scenario, cases, ledgers, result, false).await;
        if let Err(missing) = &quiesced {
            driven.facts.undone.push(format!(
                "the system did not come to rest, so late or lost spans could go unseen: {missing}"
            ));
        }
        driven.facts.silent.clone_from(&silent);
        gather(session, &mut driven.facts).await;
        driven.conclude(session, tell).await;
    }
}

/// Judges what passed so far by what the services and collectors sent when they were stopped. They cannot be asked any more.
async fn last_audit(session: &Session, driven: &mut [Driven], tell: &Teller) {
    for driven in driven.iter_mut().filter(|driven| driven.result.verdict == Verdict::Pass) {
        let Driven { scenario, cases, ledgers, result, .. } = driven;
        review_all(session, scenario, cases, ledgers, result, true).await;
        driven.facts.gaps = session.source().gaps();
        driven.conclude(session, tell).await;
    }
}
