//! Reads what is known by now of a record's cases, and beside them.

use std::{collections::BTreeMap, time::SystemTime};

use futures_util::future;

use crate::{
    case::{Evidence, Stray},
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
    let now = evidence_of(session, cases.iter().map(|of| &**of).collect(), services).await;
    for (of, evidence) in cases.iter_mut().zip(now) {
        of.evidence = evidence;
    }
}

async fn evidence_of(
    session: &Session,
    cases: Vec<&CaseRecord>,
    services: Services,
) -> Vec<Evidence> {
    let mut now = Vec::with_capacity(cases.len());
    for some in cases.chunks(READS_AT_ONCE) {
        let reads = some.iter().map(|of| async move {
            let known = (services == Services::Gone).then(|| Reports::of(&of.evidence));
            let export_errors = of.evidence.export_errors.clone();
            Evidence { export_errors, ..session.evidence_now(&of.case, known).await }
        });
        now.extend(future::join_all(reads).await);
    }
    now
}

/// The reports in the logs of services and collectors about spans that they did not pass on.
#[derive(Default)]
pub(super) struct LoggedReports {
    /// By workload, each with the time when it was read.
    lines: Vec<(String, Vec<(SystemTime, String)>)>,
}

impl LoggedReports {
    /// Reads them.
    pub(super) async fn read(session: &Session) -> Self {
        let mut lines = Vec::new();
        let named = |role| session.up().named(role);
        for workload in [Role::Service, Role::Collector].into_iter().flat_map(named) {
            let of_it = session.up().logged(&workload, export_errors::is_report).await;
            lines.push((workload, of_it));
        }
        Self { lines }
    }

    /// Returns the report of each workload since a time, in nanoseconds since the Unix epoch.
    pub(super) fn since(&self, time: i64) -> BTreeMap<String, String> {
        let reports = self.lines.iter();
        reports
            .filter_map(|(workload, lines)| {
                Some((workload.clone(), export_errors::since(lines, time)?))
            })
            .collect()
    }

    /// Adds to each case the report of each workload since its request was sent.
    pub(super) fn put_into(&self, cases: &mut [CaseRecord]) {
        for (workload, lines) in &self.lines {
            for of in cases.iter_mut() {
                if let Some(line) = export_errors::since(lines, of.case.sent_at) {
                    of.evidence.export_errors.insert(workload.clone(), line);
                }
            }
        }
    }
}

/// The evidence of a record's cases and their strays as they are by now, to be put into it in one step.
pub(super) struct Latest {
    evidence: Vec<Evidence>,
    strays: Vec<Stray>,
}

impl Latest {
    /// Reads them.
    pub(super) async fn of(session: &Session, record: &Record, services: Services) -> Self {
        let evidence = evidence_of(session, record.cases.iter().collect(), services).await;
        let strays = session.witness().strays_of(record.cases.iter().map(|of| &of.case));
        Self { evidence, strays }
    }

    /// Replaces what the record has.
    pub(super) fn put_into(self, record: &mut Record) {
        for (of, evidence) in record.cases.iter_mut().zip(self.evidence) {
            of.evidence = evidence;
        }
        record.strays = self.strays;
    }
}
