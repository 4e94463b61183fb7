//! Bringing a system to rest: the sentinel, who was heard of, and stopping what sends before what is sent to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use super::{DRAIN_TIMEOUT, Reports, Session, SessionError, Settled, up::Stopped};
use crate::{
    case::Outcome,
    expectation::{AnswerExpect, Expect, Matcher, SpanCount},
    finding::Findings,
    intake::store::Store,
    judge::{self, CHAIN_PATH},
    record::CaseRecord,
    scenario::{Method, Request, Scenario, SystemChoice},
    system::Role,
};

/// How often a sentinel without an answer is sent again.
const SENT_AGAIN: usize = 2;

impl Session {
    /// Sends a sentinel, modelled on `like`, through every exporting path, and waits until its trace has arrived
    /// completely: whatever was sent before it had the same time and more. In a chain every hop must be in it;
    /// elsewhere every service in `seen`.
    ///
    /// # Errors
    ///
    /// What was still missing of the sentinel at the deadline.
    pub async fn quiesce(
        &self,
        like: (&SystemChoice, &Request),
        seen: &BTreeSet<String>,
        within: Duration,
    ) -> Result<(), Restless> {
        let scenario = sentinel(like, seen, within);
        // The harness's own span goes to the collector's instances in turn.
        for _ in 0..self.driver.exported().len().max(1) {
            let mut case = self.send_for_itself(&scenario.requests[0], (0, 0)).await;
            // One without an answer proves nothing, as where the way to the system broke while it was sent.
            for _ in 0..SENT_AGAIN {
                if let Outcome::Response { .. } = case.outcome {
                    break;
                }
                case = self.send_for_itself(&scenario.requests[0], (0, 0)).await;
            }
            let Settled { findings, evidence, .. } = self.settle(&scenario, &case).await;
            if let Some(failure) = findings.failures.first() {
                let missing = format!("{}: {}", failure.rule, failure.detail);
                let sentinel = Box::new((scenario, CaseRecord { case, evidence }));
                return Err(Restless { missing, sentinel });
            }
        }
        Ok(())
    }

    /// Judges a sentinel by everything that has arrived since, when its senders have ended.
    pub(crate) async fn judge_sentinel(&self, sentinel: &(Scenario, CaseRecord)) -> Findings {
        let (scenario, CaseRecord { case, evidence }) = sentinel;
        let evidence = self.evidence_now(case, Some(Reports::of(evidence))).await;
        let record = self.record_of(scenario.clone(), case.clone(), evidence);
        let judged = judge::judge(&record).cases.into_iter().next();
        judged.map(|case| case.findings).unwrap_or_default()
    }

    /// Stops the collectors, which flushes them, and returns the number of the last attempt that the intake had
    /// received by then.
    ///
    /// # Errors
    ///
    /// When one does not end well, or the intake cannot be read.
    pub async fn stop_collectors(&self) -> Result<u64, SessionError> {
        for collector in self.up.named(Role::Collector) {
            // What it knew of the traces so far is gone with it.
            self.up.note_stopped(&collector, Stopped::Again);
            self.up.environment().await.stop(&collector).await?;
        }
        let Some(intake) = self.intake() else { return Ok(0) };
        intake.drain(DRAIN_TIMEOUT).await?;
        Ok(intake.with_store(Store::newest))
    }

    /// Starts the collectors again.
    ///
    /// # Errors
    ///
    /// When one does not come up.
    pub async fn start_collectors(&self) -> Result<(), SessionError> {
        for collector in self.up.named(Role::Collector) {
            self.up.environment().await.start(&collector).await?;
        }
        Ok(())
    }

    /// Stops the services, then the collectors, which flushes them, and waits for what reached the intake. Returns
    /// reports of what did not stop cleanly.
    pub async fn stop_sources(&self) -> Vec<String> {
        let mut unclean = Vec::new();
        // What the run did not start is not its to stop.
        let attached = self.up.is_attached();
        let roles: &[Role] = if attached { &[] } else { &[Role::Service, Role::Collector] };
        for &role in roles {
            let names = self.up.named(role);
            if let Err(error) = self.up.environment().await.stop_all(&names).await {
                match error.foreseen() {
                    Ok(reported) => self.up.note(reported),
                    Err(error) => unclean.push(error.to_string()),
                }
            }
        }
        if let Err(error) = self.source().drain(DRAIN_TIMEOUT).await {
            unclean.push(error);
        }
        unclean
    }
}

/// A sentinel that did not arrive whole.
#[derive(Debug, Clone)]
pub struct Restless {
    /// The missing evidence.
    pub missing: String,
    /// The sentinel, with what was known of it then.
    pub(crate) sentinel: Box<(Scenario, CaseRecord)>,
}

impl fmt::Display for Restless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.missing)
    }
}

/// A request of the harness's own, whose arrival proves that what came before it had its time.
fn sentinel(
    (system, like): (&SystemChoice, &Request),
    seen: &BTreeSet<String>,
    within: Duration,
) -> Scenario {
    let tolerate = [
        "error-not-injected",
        "error-not-marked",
        "stray-trace",
        "unnamed-resource",
        "missing-service-name",
        "wrong-service",
        "resource-mixed",
        "outside-request",
        "priority-lost",
        "top-level-lost",
        "altered-span",
        "tracestate-lost",
        "wrong-service-edge",
        "status-disagrees",
    ];
    let of_each = seen.iter().map(|service| SpanCount {
        span: Matcher { at: Some(service.clone()), ..Matcher::default() },
        at_least: 1,
        at_most: None,
    });
    let like = match system {
        SystemChoice::Chain(_) => &Request {
            method: Method::Get,
            path: CHAIN_PATH.to_owned(),
            entry: None,
            body: None,
            descriptors: None,
            ..like.clone()
        },
        SystemChoice::File(_) => like,
    };
    Scenario {
        name: "sentinel".to_owned(),
        description: String::new(),
        file: PathBuf::new(),
        system: system.clone(),
        requests: vec![Request {
            times: 1,
            concurrency: 1,
            status: None,
            answer: AnswerExpect::default(),
            save: BTreeMap::new(),
            sampled: true,
            ..like.clone()
        }],
        faults: Vec::new(),
        expect: Expect { within, spans: of_each.collect(), ..Expect::default() },
        tolerate: tolerate.iter().map(|rule| ((*rule).to_owned(), String::new())).collect(),
        levels: BTreeMap::new(),
        requires: BTreeMap::new(),
    }
}
