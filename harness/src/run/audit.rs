//! The audit: what was judged while a system ran is judged once more with all that has come.

use std::{collections::BTreeSet, time::Duration};

use tokio_util::task::AbortOnDropHandle;

use super::{
    Events,
    driven::Driven,
    refresh::{Latest, LoggedReports, Services, gather, refresh_cases},
};
use crate::{
    case::Outcome,
    judge,
    record::{CaseRecord, Record, Unrest},
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
    let passed = driven.iter().filter(|driven| driven.passes()).map(Driven::record);
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
    let unrest = missing.map(|missing| Unrest { missing, failures: Vec::new() });
    for driven in driven.iter_mut().filter(|driven| driven.passes()) {
        let latest = Latest::of(session, driven.record(), Services::Up).await;
        let mut facts = driven.record().facts.clone();
        facts.unrest.clone_from(&unrest);
        gather(session, &mut facts).await;
        let change = |record: &mut Record| {
            latest.put_into(record);
            record.facts = facts;
        };
        driven.revise(events, change).await;
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
    for driven in driven.iter_mut().filter(|driven| driven.record().facts.unrest.is_some()) {
        let change = |record: &mut Record| {
            if let Some(unrest) = &mut record.facts.unrest {
                unrest.failures.clone_from(&failures);
            }
        };
        driven.revise(events, change).await;
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
    let record = driven.record();
    // What came of linked traces, and of those that belong to a request, is in them now.
    let strays = session.witness().strays_of(record.cases.iter().map(|of| &of.case));
    let failed = driven.result().cases.iter().map(|judged| !judged.findings.failures.is_empty());
    let failed: Vec<bool> = failed.collect();
    let mut cases = record.cases.clone();
    let is_certain =
        driven.result().verdict == Verdict::Fail && ended_well && !session.up().is_attached();
    if is_certain {
        // What the others lack beside these is sure to be lacking now.
        let others = cases.iter_mut().zip(&failed);
        let others = others.filter_map(|(of, failed)| (!failed).then_some(of)).collect();
        refresh_cases(session, others, Services::Gone).await;
    }
    let mut any_late = false;
    let mut is_new = is_certain || strays != record.strays;
    for (of, _) in cases.iter_mut().zip(&failed).filter(|(_, failed)| **failed) {
        let late = session.witness().late_spans(&of.case, &of.evidence);
        any_late |= !late.is_empty();
        // Of who did not end well it is not known whether more would have come.
        if ended_well || !late.is_empty() {
            of.evidence.late = Some(late);
            is_new = true;
        }
    }
    if !is_new {
        return;
    }
    let gaps = session.source().gaps();
    let (from, found) = (driven.result().verdict, driven.result().failures.len());
    let change = |record: &mut Record| {
        (record.cases, record.strays) = (cases, strays);
        if is_certain {
            record.facts.sources_ended = true;
            record.facts.gaps = gaps;
        }
    };
    driven.revise(events, change).await;
    let result = driven.result();
    if result.verdict == from && (any_late || result.failures.len() != found) {
        driven.report_revised(from, events).await;
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
    for driven in driven.iter_mut().filter(|driven| !driven.passes()) {
        note_late_spans(session, driven, ended_well, events).await;
    }
    // Only now: until it was stopped, a service may have kept back all that it had.
    let silent = session.witness().silent_services();
    let logged = match silent.is_empty() {
        true => LoggedReports::default(),
        false => LoggedReports::read(session).await,
    };
    for driven in driven.iter_mut().filter(|driven| driven.passes()) {
        let latest = Latest::of(session, driven.record(), Services::Gone).await;
        let change = |record: &mut Record| {
            latest.put_into(record);
            logged.put_into(&mut record.cases);
            record.facts.silent.clone_from(&silent);
            record.facts.gaps = session.source().gaps();
            record.facts.sources_ended = ended_well && !session.up().is_attached();
        };
        driven.revise(events, change).await;
    }
    // Beside equal requests' traces it shows why a service is missing. What they were judged by stays, as does that they failed.
    for driven in driven.iter_mut().filter(|driven| judge::lacks_only_services(driven.result())) {
        let change = |record: &mut Record| {
            record.facts.gaps = session.source().gaps();
            record.facts.sources_ended = ended_well && !session.up().is_attached();
        };
        driven.revise(events, change).await;
    }
}
