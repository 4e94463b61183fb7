//! Driving one scenario: its faults, its requests, and its record, judged for the first time.

use std::{
    collections::{BTreeSet, HashSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{
    Events,
    driven::Driven,
    millis,
    refresh::{self, LoggedReports, Services},
};
use crate::{
    case::Case,
    event::Event,
    evidence::EvidenceSource,
    intake::client::IntakeClient,
    judge,
    record::{CaseRecord, Record},
    scenario::{Fault, FaultKind, Scenario, request::SavedValues},
    session::{Session, Settled},
    stages::Stages,
    stats::{Captured, Forms, StatsExpect, StatsRecord},
    trace::TraceId,
};

/// Held by a scenario until its requests are answered; its other end is closed when no scenario holds one any more.
pub(super) type Answering = mpsc::Sender<Infallible>;

/// Drives one scenario and judges it. Lets go of `answering` as soon as its requests are answered.
pub(super) async fn drive(
    session: &Arc<Session>,
    scenario: Arc<Scenario>,
    answering: Answering,
    events: &Events,
) -> Driven {
    let began = Instant::now();
    let name = scenario.name.clone();
    events
        .send(Event::ScenarioStarted { name: name.clone(), requests: scenario.request_count() })
        .await;
    let refused_before: u64 = session.source().refused().values().sum();
    let exports_before = refused_exports(session, &scenario).await;
    let mut record = session.record(Scenario::clone(&scenario));
    let undone = &mut record.facts.undone;
    let (meanwhile, before): (Vec<Fault>, Vec<Fault>) =
        scenario.faults.iter().cloned().partition(|fault| fault.after.is_some());
    if before.iter().any(|fault| fault.kind.is_over_before_requests()) {
        // Whoever is not connected has nothing to find again.
        let like = (&scenario.system, scenario.harmless());
        let first = session.quiesce(like, &BTreeSet::new(), scenario.expect.within).await;
        if let Err(missing) = first {
            undone.push(format!("the request before the fault did not arrive: {missing}"));
        }
    }
    if let Err(error) = session.inject(&before).await {
        undone.push(format!("a fault could not be injected: {error}"));
    }
    let mut judging: JoinSet<(Case, Settled)> = JoinSet::new();
    if undone.is_empty() {
        let (thawed, thaw) = watch::channel(false);
        let (answered, answers) = watch::channel(0);
        let injected = inject_meanwhile(session, &meanwhile, answers);
        let sent = send_all(session, &scenario, &mut judging, thaw, answered);
        let ((), not_injected) = future::join(sent, injected).await;
        undone.extend(not_injected);
        // What a frozen workload does once it goes on belongs to the trace, so judging waits for it.
        if let Err(error) = session.thaw(&scenario.faults).await {
            undone.push(format!("a fault could not be removed: {error}"));
        }
        thawed.send_replace(true);
    }
    events.send_notes(session).await;
    drop(answering);
    let mut judged: Vec<(Case, Settled)> = Vec::new();
    while let Some(finished) = judging.join_next().await {
        match finished {
            Ok(case) => {
                judged.push(case);
                events.send(Event::CaseJudged { name: name.clone(), judged: judged.len() }).await;
            }
            Err(panicked) => undone.push(format!("a case was not judged: {panicked}")),
        }
    }
    // Before anything is mended, as a stage that is down is part of the explanation.
    if judged.iter().any(|(_, settled)| !settled.findings.failures.is_empty()) {
        record.facts.stages_at_failure = Some(session.stages().await);
    }
    if let Err(error) = session.heal(&scenario.faults).await {
        undone.push(format!("a fault could not be removed: {error}"));
    }
    judged.sort_by_key(|(case, _)| (case.request, case.ordinal));
    let judged_after: Vec<Option<u64>> =
        judged.iter().map(|(_, settled)| settled.judged_after_ms).collect();
    let has_passed: Vec<bool> =
        judged.iter().map(|(_, settled)| settled.findings.failures.is_empty()).collect();
    let cases = judged.into_iter();
    record.cases =
        cases.map(|(case, Settled { evidence, .. })| CaseRecord { case, evidence }).collect();
    // What one request lacks may have come in the trace of another, which was judged before.
    if has_passed.contains(&false) {
        let each = record.cases.iter_mut().zip(&has_passed);
        let passed = each.filter_map(|(of, has_passed)| has_passed.then_some(of));
        refresh::refresh_cases(session, passed.collect(), Services::Up).await;
        LoggedReports::read(session).await.put_into(&mut record.cases);
    }
    if scenario.expect.absent {
        let like = (&scenario.system, scenario.harmless());
        match session.quiesce(like, &BTreeSet::new(), scenario.expect.within).await {
            // Nothing came; that it would have come is proved by a later request that did.
            Ok(()) => {
                let cases = record.cases.iter_mut().collect();
                refresh::refresh_cases(session, cases, Services::Up).await;
            }
            Err(missing) => undone.push(format!(
                "absence is not proved, since a later sampled request did not arrive either: {missing}"
            )),
        }
    }
    record.strays = session.witness().strays_of(record.cases.iter().map(|of| &of.case));
    record.facts.refused = Some(session.source().refused().values().sum::<u64>() - refused_before);
    let exports = refused_exports(session, &scenario).await;
    record.facts.refused_exports =
        exports.zip(exports_before).map(|(now, before)| now.saturating_sub(before));
    look_at_the_whole(session, &mut record).await;
    match session.let_pass(&scenario.faults).await {
        Ok(passed) => record.facts.passed = passed,
        Err(error) => record.facts.undone.push(format!("a fault could not be removed: {error}")),
    }
    refresh::gather(session, &mut record.facts).await;
    Driven::new(record, millis(began.elapsed()), &judged_after)
}

/// How many requests of services the collectors refused so far, where a scenario asks for that and all of them report it.
async fn refused_exports(session: &Session, scenario: &Scenario) -> Option<u64> {
    if scenario.expect.refused_exports == 0 {
        return None;
    }
    let collectors = session.stages().await.collectors.into_iter();
    collectors.map(|(_, counted)| counted.ok().map(|counted| counted.refused_requests)).sum()
}

/// Looks at what the requests of a scenario leave behind together: the balance of the stages, and APM stats.
async fn look_at_the_whole(session: &Session, record: &mut Record) {
    let expect = record.scenario.expect.clone();
    let asks = expect.balance.is_some() || !expect.totals.is_empty() || expect.stats.is_some();
    let mut has_failed = asks && has_failed_cases(record);
    if let Some(balance) = expect.balance {
        // Where traces failed, more time would not mend it.
        let within = if has_failed { Duration::ZERO } else { expect.within };
        let balances = |stages: &Stages| stages.is_balanced(balance);
        record.facts.stages = Some(session.stages_when(balances, within).await);
    } else if let Some(lost) = expect.lost_by_senders {
        let is_so = |stages: &Stages| stages.lost_by_senders().is_ok_and(|so| so.contains(&lost));
        record.facts.stages = Some(session.stages_when(is_so, expect.within).await);
    }
    if !expect.totals.is_empty() && !has_failed {
        await_totals(session, record).await;
        // More spans came, perhaps.
        has_failed = expect.stats.is_some() && has_failed_cases(record);
    }
    let Some(intake) = session.intake() else { return };
    let Some(expect) = &expect.stats else {
        record.stats = StatsRecord::NotAsked(intake.with_store(Forms::of));
        return;
    };
    record.stats = match has_failed {
        true => StatsRecord::NotReached(intake.with_store(Forms::of)),
        false => captured_stats(session, intake, expect, record).await,
    };
}

/// Waits until the traces of all requests have together what is asked for, for as long as a trace may take.
async fn await_totals(session: &Session, record: &mut Record) {
    let deadline = tokio::time::Instant::now() + record.scenario.expect.within;
    let mut changes = session.source().changes();
    while !judge::totals_are_final(record)
        && matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(())))
    {
        let cases = record.cases.iter_mut().collect();
        refresh::refresh_cases(session, cases, Services::Up).await;
    }
}

fn has_failed_cases(record: &Record) -> bool {
    judge::judge(record).cases.iter().any(|case| !case.findings.failures.is_empty())
}

/// Looks at the APM stats of a scenario once the collector has sent all it has.
async fn captured_stats(
    session: &Session,
    intake: &IntakeClient,
    expect: &StatsExpect,
    record: &mut Record,
) -> StatsRecord {
    let traces: HashSet<TraceId> = record.cases.iter().map(|of| of.case.trace_id).collect();
    let captured = |until: u64| intake.with_store(|store| Captured::until(store, until, &traces));
    let mut changes = intake.changes();
    let _came_by_themselves_or_not = tokio::time::timeout(expect.within, async {
        while !judge::stats_are_whole(expect, &captured(u64::MAX)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    })
    .await;
    let stopped = session.stop_collectors().await;
    let found = match &stopped {
        Ok(until) => StatsRecord::Captured(captured(*until)),
        Err(_) => StatsRecord::NotSent(intake.with_store(Forms::of)),
    };
    // The audit is still to come, and the user may want to look around.
    let started = session.start_collectors().await;
    for error in [stopped.as_ref().err(), started.as_ref().err()].into_iter().flatten() {
        let undone = &mut record.facts.undone;
        undone.push(format!("the collector could not be made to send its stats: {error}"));
    }
    found
}

/// Does what faults ask for in the middle of the requests, each when so many are answered; reports what could not be done.
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
