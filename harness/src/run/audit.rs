//! The audit: what was judged while a system ran is judged once more with all that has come.

use std::{collections::BTreeSet, time::Duration};

use tokio_util::task::AbortOnDropHandle;

use super::{
    Teller,
    drive::Driven,
    refresh::{Services, gather, refresh_record},
};
use crate::{
    scenario::{Scenario, SystemChoice},
    session::Session,
    verdict::Verdict,
};

/// Longest wait for the sentinel at the end: the slowest exporting path there is, twice.
const QUIESCE_WITHIN: Duration = Duration::from_secs(15);

/// A sentinel that is under way; it is given up where nobody waits for it any more.
pub(super) type Sentinel = AbortOnDropHandle<Result<(), String>>;

/// Sends a sentinel by a request like a scenario's, and waits until it has arrived whole.
///
/// # Errors
///
/// What is missing of it.
pub(super) async fn quiesce(
    session: &Session,
    like: &Scenario,
    seen: &BTreeSet<String>,
) -> Result<(), String> {
    session.quiesce((&like.system, like.harmless()), seen, QUIESCE_WITHIN).await
}

/// Brings the system to rest, by a sentinel that is under way already or else by one of its own, and judges every scenario that
/// passed by what has come until then.
pub(super) async fn audit(
    session: &Session,
    driven: &mut [Driven],
    sentinel: Option<Sentinel>,
    tell: &Teller,
) {
    // A request that needs no fault to be answered tells most.
    let passed = driven.iter().filter(|driven| driven.result.verdict == Verdict::Pass);
    let passed = passed.map(|driven| &driven.record);
    let Some(like) = passed.min_by_key(|record| record.scenario.faults.len()) else { return };
    let sent = like.cases.iter().find(|of| of.case.request == like.scenario.harmless_index());
    let seen = match (&like.scenario.system, sent) {
        (SystemChoice::File(_), Some(of)) => session.witness().seen_in(of.case.trace_id),
        _ => BTreeSet::new(),
    };
    let quiesced = match sentinel {
        Some(sentinel) => sentinel.await.unwrap_or_else(|panicked| Err(panicked.to_string())),
        None => quiesce(session, &like.scenario, &seen).await,
    };
    for driven in driven.iter_mut().filter(|driven| driven.result.verdict == Verdict::Pass) {
        let record = &mut driven.record;
        refresh_record(session, record, Services::Up).await;
        if let Err(missing) = &quiesced {
            record.facts.undone.push(format!(
                "the system did not come to rest, so late or lost spans could go unseen: {missing}"
            ));
        }
        gather(session, &mut record.facts).await;
        driven.judge_again(tell).await;
    }
}

/// Judges what passed so far by what the services and collectors sent when they were stopped. They cannot be asked any more.
/// `ended_well` says whether all of them ended in peace.
pub(super) async fn last_audit(
    session: &Session,
    driven: &mut [Driven],
    ended_well: bool,
    tell: &Teller,
) {
    // Only now: until it was stopped, a service may have kept back all that it had.
    let silent = session.witness().silent_services();
    for driven in driven.iter_mut().filter(|driven| driven.result.verdict == Verdict::Pass) {
        refresh_record(session, &mut driven.record, Services::Gone).await;
        driven.record.facts.silent.clone_from(&silent);
        driven.record.facts.gaps = session.source().gaps();
        driven.record.facts.sources_ended = ended_well && !session.up().is_attached();
        driven.judge_again(tell).await;
    }
}
