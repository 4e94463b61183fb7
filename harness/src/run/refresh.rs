//! Bringing a record up to what is known by now.

use futures_util::future;

use crate::{
    environment::UnexpectedExit,
    record::{CaseRecord, Facts, Record},
    session::{Reports, Session, export_errors},
    system::Role,
};

/// Of how many cases the services' ledgers are asked at the same time.
const READS_AT_ONCE: usize = 32;
/// Lines of a dead workload's log that are reported.
const LOG_LINES: usize = 12;

/// Adds what the session knows that bears on every scenario.
pub(super) async fn gather(session: &Session, facts: &mut Facts) {
    facts.exits = exits(session);
    facts.intake_ended = session.up().intake_ended();
    facts.gaps = session.source().gaps();
    facts.disturbances = session.up().disturbances().await;
}

/// Describes the workloads that ended by themselves, each with the end of its log.
pub(super) fn exits(session: &Session) -> Vec<String> {
    let described = |exit: UnexpectedExit| {
        let log = exit.log_tail.iter().rev().take(LOG_LINES).rev();
        let log: String = log.map(|line| format!("\n        {line}")).collect();
        format!("`{}` ended by itself ({}); the end of its log:{log}", exit.workload, exit.status)
    };
    session.up().unexpected_exits().into_iter().map(described).collect()
}

/// State of a system's services: whether their ledgers can still be queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Services {
    Up,
    /// They are stopped; what their ledgers said last holds.
    Gone,
}

/// Brings the evidence of cases up to what has come by now.
pub(super) async fn refresh_cases(
    session: &Session,
    mut cases: Vec<&mut CaseRecord>,
    services: Services,
) {
    for some in cases.chunks_mut(READS_AT_ONCE) {
        let reads = some.iter_mut().map(|of| async {
            let known = (services == Services::Gone).then(|| Reports::of(&of.evidence));
            let export_errors = std::mem::take(&mut of.evidence.export_errors);
            of.evidence = session.evidence_now(&of.case, known).await;
            of.evidence.export_errors = export_errors;
        });
        future::join_all(reads).await;
    }
}

/// Adds what services and collectors report in their logs about spans that they did not pass on since each request was sent.
pub(super) async fn read_logs(session: &Session, cases: &mut [CaseRecord]) {
    for role in [Role::Service, Role::Collector] {
        for workload in session.up().named(role) {
            let lines = session.up().logged(&workload, export_errors::is_report).await;
            for of in cases.iter_mut().filter(|_| !lines.is_empty()) {
                if let Some(line) = export_errors::since(&lines, of.case.sent_at) {
                    of.evidence.export_errors.insert(workload.clone(), line);
                }
            }
        }
    }
}

/// Brings a record up to what has come by now.
pub(super) async fn refresh_record(session: &Session, record: &mut Record, services: Services) {
    refresh_cases(session, record.cases.iter_mut().collect(), services).await;
    record.strays = session.witness().strays_of(record.cases.iter().map(|of| &of.case));
}
