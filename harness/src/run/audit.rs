//! The audit: what was judged while a system ran is judged once more with all that has come.

use std::{collections::BTreeSet, time::Duration};

use tokio_util::task::AbortOnDropHandle;

use super::{
    Events,
    drive::Driven,
    refresh::{Services, gather, read_logs, refresh_cases, refresh_record},
};
use crate::{
    case::Outcome,
    event::Event,
    judge,
    record::{CaseRecord, Unrest},
    scenario::{Scenario, SystemChoice},
    session::{Restless, Session},
    verdict::Verdict,
};

/// Longest wait for the sentinel at the end: the slowest exporting path there is, twice.
const QUIESCE_WITHIN: Duration = Duration::from_secs(15);

/// A sentinel that is in progress; it is given up where nobody waits for it any more.
pub(super) type Sentinel = AbortOnDropHandle<Result<(), Restless>>;

/// Sends a sentinel by a request like a scenario's, and waits until it has arrived whole.
///
/// # Errors
///
/// What is missing of it.
pub(super) async fn quiesce(
    session: &Session,
    like: &Scenario,
    seen: &BTreeSet<String>,
) -> Result<(), Restless> {
    session.quiesce((&like.system, like.harmless()), seen, QUIESCE_WITHIN).await
}

/// Brings the system to rest, by a sentinel that is in progress already or else by one of its own, and judges every scenario that
/// passed by what has come until then. Gives the sentinel where it did not arrive whole.
pub(super) async fn audit(
    session: &Session,
    driven: &mut [Driven],
    sentinel: Option<Sentinel>,
    events: &Events,
) -> Option<Restless> {
    // A request that needs no fault to be answered proves most.
    let passed = driven.iter().filter(|driven| driven.result.verdict == Verdict::Pass);
    let passed = passed.map(|driven| &driven.record);
    let like = passed.min_by_key(|record| record.scenario.faults.len())?;
    let sent = like.cases.iter().filter(|of| of.case.request == like.scenario.harmless_index());
    let seen = match &like.scenario.system {
        // What some of them lack, the sentinel may lack too: a sampler of its own may have dropped it.
        SystemChoice::File(_) => {
            let each = sent.map(|of| session.witness().seen_in(of.case.trace_id));
            each.reduce(|all, one| &all & &one).unwrap_or_default()
        }
        SystemChoice::Chain(_) => BTreeSet::new(),
    };
    let quiesced = match sentinel {
        Some(sentinel) => sentinel.await,
        None => Ok(quiesce(session, &like.scenario, &seen).await),
    };
    let (missing, restless) = match quiesced {
        Ok(Ok(())) => (None, None),
        Ok(Err(restless)) => (Some(restless.missing.clone()), Some(restless)),
        Err(panicked) => (Some(panicked.to_string()), None),
    };
    for driven in driven.iter_mut().filter(|driven| driven.result.verdict == Verdict::Pass) {
        let record = &mut driven.record;
        refresh_record(session, record, Services::Up).await;
        let missing = missing.clone();
        record.facts.unrest = missing.map(|missing| Unrest { missing, failures: Vec::new() });
        gather(session, &mut record.facts).await;
        driven.judge_again(events).await;
    }
    restless
}

/// Adds what is missing of the sentinel when its senders have stopped cleanly: what is in the ledgers and was not captured is lost then, and
/// not late.
async fn note_losses(
    session: &Session,
    driven: &mut [Driven],
    restless: &Restless,
    events: &Events,
) {
    let CaseRecord { case, .. } = &restless.sentinel.1;
    let is_answered = matches!(case.outcome, Outcome::Response { status, .. } if status < 500);
    let up = session.up();
    let is_certain = session.source().gaps().is_empty() && up.unexpected_exits().is_empty();
    if !is_answered || !is_certain || up.is_attached() {
        return;
    }
    let failures = session.judge_sentinel(&restless.sentinel).await.failures;
    for driven in driven {
        if let Some(unrest) = &mut driven.record.facts.unrest {
            unrest.failures.clone_from(&failures);
            driven.judge_again(events).await;
        }
    }
}

/// Notes what came of traces that something was missing of after they were judged: it is late, and not lost. They are judged again by what
/// they were judged by, and that, and by the traces beside them as they are at the end.
async fn note_late_spans(
    session: &Session,
    driven: &mut Driven,
    ended_well: bool,
    events: &Events,
) {
    let (mut is_new, mut any) = (false, false);
    // What came of linked traces, and of those that belong to a request, is in them now.
    let cases = driven.record.cases.iter().map(|of| &of.case);
    let strays = session.witness().strays_of(cases);
    if strays != driven.record.strays {
        driven.record.strays = strays;
        is_new = true;
    }
    let failed = driven.result.cases.iter().map(|judged| !judged.findings.failures.is_empty());
    let failed: Vec<bool> = failed.collect();
    let cases = driven.record.cases.iter_mut().zip(&failed);
    let is_failed = driven.result.verdict == Verdict::Fail;
    if is_failed && ended_well && !session.up().is_attached() {
        // What the others lack beside these is sure to be lacking now.
        let others = cases.filter_map(|(of, failed)| (!failed).then_some(of)).collect();
        refresh_cases(session, others, Services::Gone).await;
        driven.record.facts.sources_ended = true;
        driven.record.facts.gaps = session.source().gaps();
        is_new = true;
    }
    for (of, _) in driven.record.cases.iter_mut().zip(&failed).filter(|(_, failed)| **failed) {
        let late = session.witness().late_spans(&of.case, &of.evidence);
        any |= !late.is_empty();
        // Of who did not end well it is not known whether more would have come.
        if ended_well || !late.is_empty() {
            of.evidence.late = Some(late);
            is_new = true;
        }
    }
    if is_new {
        let (from, found) = (driven.result.verdict, driven.result.failures.len());
        driven.judge_again(events).await;
        any |= driven.result.failures.len() != found;
        if any && driven.result.verdict == from {
            let result = Box::new(driven.result.clone());
            events.send(Event::VerdictRevised { from, result }).await;
        }
    }
}

/// Judges what passed so far by what the services and collectors sent when they were stopped. They cannot be asked any more.
/// `ended_well` says whether all of them stopped cleanly, and `restless` which sentinel had not arrived whole before.
pub(super) async fn last_audit(
    session: &Session,
    driven: &mut [Driven],
    (ended_well, restless): (bool, Option<&Restless>),
    events: &Events,
) {
    if let (true, Some(restless)) = (ended_well, restless) {
        note_losses(session, driven, restless, events).await;
    }
    let others = driven.iter_mut().filter(|driven| driven.result.verdict != Verdict::Pass);
    for driven in others {
        note_late_spans(session, driven, ended_well, events).await;
    }
    // Only now: until it was stopped, a service may have kept back all that it had.
    let silent = session.witness().silent_services();
    for driven in driven.iter_mut().filter(|driven| driven.result.verdict == Verdict::Pass) {
        refresh_record(session, &mut driven.record, Services::Gone).await;
        driven.record.facts.silent.clone_from(&silent);
        if !silent.is_empty() {
            read_logs(session, &mut driven.record.cases).await;
        }
        driven.record.facts.gaps = session.source().gaps();
        driven.record.facts.sources_ended = ended_well && !session.up().is_attached();
        driven.judge_again(events).await;
    }
    // Beside equal requests' traces it shows why a service is missing. What they were judged by stays, as does that they failed.
    for driven in driven.iter_mut().filter(|driven| judge::lacks_only_services(&driven.result)) {
        driven.record.facts.gaps = session.source().gaps();
        driven.record.facts.sources_ended = ended_well && !session.up().is_attached();
        driven.judge_again(events).await;
    }
}
