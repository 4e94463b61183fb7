//! One group of scenarios: its system up, its scenarios driven and judged, quiesced, audited, and down again.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::{Group, Plan, Teller, millis, saved};
use crate::{
    case::{Case, Outcome},
    event::Event,
    evidence::EvidenceSource,
    rule::Failure,
    scenario::{FaultKind, Scenario},
    session::Session,
    stats::{self, Captured},
    trace::TraceId,
    verdict::{CaseResult, ScenarioResult, Verdict},
};

/// Longest wait for the sentinel at the end: the slowest exporting path there is, twice.
const QUIESCE_WITHIN: Duration = Duration::from_secs(15);
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
    result: ScenarioResult,
    /// Number of the attempt up to which its stats were judged.
    stats_until: Option<u64>,
}

pub(super) async fn run(group: Group, plan: &Plan, run_id: &str, tell: &Teller) -> GroupOutcome {
    let names: Vec<String> = group.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    if plan.cancel.is_cancelled() {
        return give_up(group, tell, "the run was interrupted before it began").await;
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
    let session = tokio::select! {
        started = Session::start(environment, system, run_id) => started,
        () = plan.cancel.cancelled() => return give_up(group, tell, "the run was interrupted while its system came up").await,
    };
    let session = match session {
        Ok(session) => Arc::new(session),
        Err(error) => {
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
    tokio::select! {
        () = drive_and_audit(&session, &group, plan, tell, &mut driven, &mut outcome) => {}
        () = plan.cancel.cancelled() => {}
    }
    if session.intake().with_store(stats::lacks_trace_metrics) {
        let text = format!("{}: {}", group.name(), stats::no_trace_metrics_warning());
        tell.tell(Event::Warning { text: text.clone() }).await;
        outcome.warnings.push(text);
    }
    if plan.keep && !plan.cancel.is_cancelled() {
        tell.tell(Event::Warning { text: kept(&group, &session) }).await;
        plan.cancel.cancelled().await;
    }
    if let Some(dir) = &plan.save {
        let dir = dir.join(format!("system-{}", group.number));
        let kept = driven
            .iter()
            .map(|driven| (driven.scenario.as_ref(), driven.cases.as_slice(), driven.stats_until));
        if let Err(error) = saved::save(&dir, &session, kept).await {
            outcome.warnings.push(format!("the run could not be saved: {error}"));
        }
    }
    if let Err(error) = session.stop().await {
        let text = format!("taking {} down: {error}", group.name());
        tell.tell(Event::Warning { text: text.clone() }).await;
        outcome.warnings.push(text.clone());
        // What could not be sent at the end may have been anybody's.
        for driven in &mut driven {
            driven.result.undecided.push(text.clone());
            driven.result.conclude();
        }
    }
    outcome.results.extend(driven.into_iter().map(|driven| driven.result));
    for scenario in &group.scenarios {
        if !outcome.results.iter().any(|result| result.name == scenario.name) {
            let because = "the run ended before it was judged";
            outcome.results.push(ScenarioResult::undecided(
                &scenario.name,
                &scenario.description,
                because,
            ));
        }
    }
    outcome
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
                    plan.cancel.cancel();
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
    let refused_before: u64 = session.intake().refused().values().sum();
    let mut result = ScenarioResult::undecided(&name, &scenario.description, "");
    result.undecided.clear();
    if let Err(error) = session.inject(&scenario.faults).await {
        result.undecided.push(format!("a fault could not be injected: {error}"));
    }
    let mut judging: JoinSet<(Case, CaseResult)> = JoinSet::new();
    if result.undecided.is_empty() {
        let (thawed, thaw) = watch::channel(false);
        send_all(session, &scenario, &mut judging, thaw).await;
        // What a frozen workload does once it goes on belongs to the trace, so judging waits for it.
        if let Err(error) = session.thaw(&scenario.faults).await {
            result.undecided.push(format!("a fault could not be taken back: {error}"));
        }
        thawed.send_replace(true);
    }
    let mut judged: Vec<(Case, CaseResult)> = Vec::new();
    while let Some(finished) = judging.join_next().await {
        match finished {
            Ok(case) => {
                judged.push(case);
                tell.tell(Event::CaseJudged { name: name.clone(), judged: judged.len() }).await;
            }
            Err(panicked) => result.undecided.push(format!("a case was not judged: {panicked}")),
        }
    }
    // Before anything is mended, as a stage that is down is part of the explanation.
    if judged.iter().any(|(_, case)| !case.findings.failures.is_empty()) {
        result.ledger = Some(session.stages().await);
    }
    if let Err(error) = session.heal(&scenario.faults).await {
        result.undecided.push(format!("a fault could not be taken back: {error}"));
    }
    judged.sort_by_key(|(_, case)| case.place);
    let (cases, results): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
    result.cases = results;
    if scenario.expect.absent {
        prove_absence(session, &scenario, &cases, &mut result).await;
    }
    let refused = session.intake().refused().values().sum::<u64>() - refused_before;
    if refused < scenario.expect.refused_attempts {
        result.failures.push(Failure::new(
            "refused-attempts",
            format!(
                "the intake should have refused at least {} attempts, but refused {refused}: the outage did not take place",
                scenario.expect.refused_attempts
            ),
        ));
    }
    let stats_until = judge_stats(session, &scenario, &cases, &mut result).await;
    explain(session, &scenario, &cases, &mut result);
    result.took_ms = millis(began.elapsed());
    result.conclude();
    tell.tell(Event::ScenarioFinished { result: Box::new(result.clone()) }).await;
    Driven { scenario, cases, result, stats_until }
}

/// Judges the APM stats of a scenario that asks for them, once the collector has sent all it has; gives the number of the
/// attempt up to which they were judged.
async fn judge_stats(
    session: &Session,
    scenario: &Scenario,
    cases: &[Case],
    result: &mut ScenarioResult,
) -> Option<u64> {
    let intake = session.intake();
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
        result
            .undecided
            .push(format!("the collector could not be made to send its stats: {error}"));
    }
    stopped.ok()
}

/// Sends a scenario's requests, each entry after the one before, and has each case judged as soon as it is sent.
async fn send_all(
    session: &Arc<Session>,
    scenario: &Arc<Scenario>,
    judging: &mut JoinSet<(Case, CaseResult)>,
    thaw: watch::Receiver<bool>,
) {
    let frozen = scenario.faults.iter().any(|fault| fault.kind == FaultKind::Pause);
    for (index, request) in scenario.requests.iter().enumerate() {
        let places = Arc::new(Semaphore::new(request.concurrency as usize));
        for ordinal in 0..request.times {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (session, scenario) = (Arc::clone(session), Arc::clone(scenario));
            let mut thaw = thaw.clone();
            judging.spawn(async move {
                let request = &scenario.requests[index];
                let case = session.send(request, (index, ordinal), &scenario.faults).await;
                drop(place);
                if frozen {
                    let _thawed_or_over = thaw.wait_for(|thawed| *thawed).await;
                }
                let result = session.settle(&scenario, &case).await;
                (case, result)
            });
        }
        // The next entry begins when all of this one are answered.
        let _all_answered = places.acquire_many(request.concurrency).await;
    }
}

/// Nothing came; that it would have come is proved by a later request that did.
async fn prove_absence(
    session: &Session,
    scenario: &Scenario,
    cases: &[Case],
    result: &mut ScenarioResult,
) {
    match session.quiesce(&scenario.requests[0], scenario.expect.within).await {
        Ok(()) => {
            result.cases.clear();
            for case in cases {
                result.cases.push(session.review(scenario, case).await);
            }
        }
        Err(missing) => result.undecided.push(format!(
            "absence is not proved, since a later sampled request did not arrive either: {missing}"
        )),
    }
}

/// Adds what is known of why a scenario could not be decided.
fn explain(session: &Session, scenario: &Scenario, cases: &[Case], result: &mut ScenarioResult) {
    for exit in session.unexpected_exits() {
        let log =
            exit.log_tail.iter().rev().take(LOG_LINES).rev().map(|line| format!("\n    {line}"));
        result.undecided.push(format!(
            "`{}` ended by itself ({}); the end of its log:{}",
            exit.workload,
            exit.status,
            log.collect::<String>()
        ));
    }
    result.undecided.extend(
        session.intake().gaps().into_iter().map(|gap| format!("the evidence has a gap: {gap}")),
    );
    let unseen = result.cases.iter().all(|case| case.service_spans == 0);
    if cases.is_empty() || scenario.expect.absent || !unseen {
        return;
    }
    let unanswered = |case: &Case| matches!(case.outcome, Outcome::Failed { .. });
    if cases.iter().all(unanswered) {
        // What failed for want of an answer says nothing about traces.
        for case in &mut result.cases {
            case.findings.failures.clear();
        }
        let entry =
            session.topology().services.first().map_or("the entry", |service| &service.workload);
        let why = cases.first().map_or_else(String::new, |case| case.outcome.describe());
        result.undecided.push(format!(
            "no traffic: `{entry}` answered none of {} requests ({why})",
            cases.len()
        ));
    } else if result.cases.iter().all(|case| case.findings.failures.is_empty()) {
        result.undecided.push("no span of any service was seen, so nothing is proved".to_owned());
    }
}

/// Quiesces the system and judges every case that passed once more, with all that has come by then.
async fn audit(session: &Session, driven: &mut [Driven], tell: &Teller) {
    let Some(request) = driven.first().map(|driven| driven.scenario.requests[0].clone()) else {
        return;
    };
    let quiesced = session.quiesce(&request, QUIESCE_WITHIN).await;
    for driven in driven.iter_mut().filter(|driven| driven.result.verdict == Verdict::Pass) {
        let before = driven.result.verdict;
        for (case, result) in driven.cases.iter().zip(&mut driven.result.cases) {
            let reviewed = session.review(&driven.scenario, case).await;
            if !reviewed.findings.failures.is_empty() {
                *result = reviewed;
            }
        }
        if let Err(missing) = &quiesced {
            driven.result.undecided.push(format!(
                "the system did not come to rest, so late or lost spans could go unseen: {missing}"
            ));
        }
        explain(session, &driven.scenario, &driven.cases, &mut driven.result);
        driven.result.conclude();
        if driven.result.verdict != before {
            driven.result.revised = true;
            tell.tell(Event::VerdictRevised {
                from: before,
                result: Box::new(driven.result.clone()),
            })
            .await;
        }
    }
}
