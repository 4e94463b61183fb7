//! Judging a case as evidence comes in, and once more when all is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{Session, Settled, Stopped, lock};
use crate::{
    case::{Capability, Case, Evidence, LedgerReport, Outcome, View},
    environment::UnexpectedExit,
    evidence::QUIET,
    judge,
    ledger::LedgerEntry,
    rule::{self, Findings},
    scenario::{Request, Scenario, fault},
    system::Role,
    trace::TraceId,
    verdict::CaseResult,
};

/// How soon what cannot wake the judge (a service's ledger) is looked at again; each time later, up to [`LOOK_AGAIN_MOST`].
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The longest time after which it is looked at again.
const LOOK_AGAIN_MOST: Duration = Duration::from_secs(1);

impl Session {
    /// Waits until a case can be judged and judges it: as soon as all rules and expectations hold and its trace has been
    /// quiet for a moment; at the deadline, or when the intake is gone, with whatever was found last.
    pub async fn settle(&self, scenario: &Scenario, case: &Case) -> Settled {
        let shape = judge::shape(scenario, &scenario.requests[case.request]);
        let services = self.services(scenario, &shape);
        self.source.look_for(case, &services);
        // What the answer says is its trace may be where the request's spans went.
        let told = match case.outcome {
            Outcome::Response { trace_id: Some(told), .. } if told != case.trace_id => Some(told),
            _ => None,
        };
        if let Some(told) = told {
            self.source.look_for(&Case { trace_id: told, ..case.clone() }, &services);
        }
        let settled = self.wait_and_judge(scenario, case, &shape).await;
        for id in [Some(case.trace_id), told].into_iter().flatten() {
            self.source.stop_looking(id);
        }
        settled
    }

    async fn wait_and_judge(
        &self,
        scenario: &Scenario,
        case: &Case,
        shape: &fault::Shape,
    ) -> Settled {
        let patience = self.source.patience();
        let began = Instant::now();
        let deadline = began + patience.unwrap_or(scenario.expect.within);
        let mut later_request = patience.map(|patience| began + patience / 3);
        let mut changes = self.source.changes();
        let mut exits = self.exits.clone();
        let mut ledgers = BTreeMap::new();
        let mut ledger_age: Option<Instant> = None;
        let mut judged_progress = None;
        let mut look_again = LOOK_AGAIN;
        let mut findings = Findings::default();
        loop {
            changes.borrow_and_update();
            let progress = self.source.progress(case.trace_id);
            let stale = ledger_age.is_none_or(|age| age.elapsed() >= look_again);
            if judged_progress != Some(progress) || stale {
                let late =
                    Instant::now() >= deadline || self.intake_ended() || self.source.is_over();
                let mut evidence = self.evidence(case, ledgers.clone());
                // Until then nothing that is missing is let pass: it may still come.
                if !late {
                    evidence = as_if_all_were_seen(evidence);
                }
                findings = judge::judge(scenario, case, &evidence, &self.topology, shape);
                // The ledgers are asked once the rest holds, as they are to confirm it, and once more at the end, to explain.
                let rest_holds =
                    findings.failures.iter().all(|failure| rule::needs_ledger(&failure.rule));
                if stale && (rest_holds || late) {
                    ledgers = self.read_ledgers(case.trace_id).await;
                    ledger_age = Some(Instant::now());
                    evidence.ledgers = ledgers.clone();
                    findings = judge::judge(scenario, case, &evidence, &self.topology, shape);
                }
                judged_progress = Some(progress);
                let quiet_since = progress.map(|(_, at)| at);
                let quiet = self.source.is_quiet(case.trace_id);
                if (findings.failures.is_empty() && quiet && ledger_age.is_some()) || late {
                    if !late {
                        evidence.capabilities = self.capabilities();
                        findings = judge::judge(scenario, case, &evidence, &self.topology, shape);
                    }
                    let result =
                        self.conclude(scenario, case, evidence, shape, findings, quiet_since);
                    return Settled { result, ledgers };
                }
            }
            let quiet_in = progress
                .map(|(_, at)| QUIET.saturating_sub(at.elapsed()))
                .filter(|left| !left.is_zero());
            let wake = match quiet_in {
                Some(quiet_in) if findings.failures.is_empty() => quiet_in,
                _ => look_again,
            };
            // What is missing can be told from what is late once something later has come.
            if later_request.is_some_and(|at| Instant::now() >= at) {
                later_request = None;
                self.send_later(scenario, case).await;
            }
            let wake = wake.min(deadline.saturating_duration_since(Instant::now()));
            tokio::select! {
                _ = changes.changed() => {}
                _ = exits.changed() => {}
                () = tokio::time::sleep(wake) => {
                    judged_progress = None;
                    if !findings.failures.is_empty() {
                        look_again = (look_again * 2).min(LOOK_AGAIN_MOST);
                    }
                }
            }
        }
    }

    /// The services whose spans a trace should hold, by the names that they have in their spans where those are known.
    fn services(&self, scenario: &Scenario, shape: &fault::Shape) -> BTreeSet<String> {
        let asked_for = asked_for(scenario, shape).into_iter();
        let named = asked_for.map(|name| {
            let known = self.topology.services.iter().find(|service| service.workload == name);
            known.and_then(|service| service.service.clone()).unwrap_or(name)
        });
        named.collect()
    }

    /// Sends a request like the scenario's, without its faults, unless one was sent since the case's own was answered.
    async fn send_later(&self, scenario: &Scenario, case: &Case) {
        let mut sent_at = self.later_sent_at.lock().await;
        if *sent_at <= case.ended_at {
            let like = Request { times: 1, ..scenario.harmless().clone() };
            *sent_at = self.send(&like, (scenario.harmless_index(), 0), &[]).await.sent_at;
        }
    }

    /// Whether the intake ended by itself.
    pub fn intake_ended(&self) -> bool {
        let role = |exit: &UnexpectedExit| Some(self.endpoints.workloads.get(&exit.workload)?.role);
        self.exits.borrow().iter().any(|exit| role(exit) == Some(Role::Intake))
    }

    fn conclude(
        &self,
        scenario: &Scenario,
        case: &Case,
        evidence: Evidence,
        shape: &fault::Shape,
        findings: Findings,
        captured_at: Option<Instant>,
    ) -> CaseResult {
        let view = View { case, evidence: &evidence, topology: &self.topology, shape };
        let after =
            captured_at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        judge::result(scenario, view, findings, after)
    }

    /// Judges a case once more from what is there now, without waiting; what its ledgers say is asked again, or given where
    /// the services are gone.
    pub async fn review(
        &self,
        scenario: &Scenario,
        case: &Case,
        ledgers: Option<BTreeMap<String, LedgerReport>>,
    ) -> Settled {
        let shape = judge::shape(scenario, &scenario.requests[case.request]);
        let ledgers = match ledgers {
            Some(ledgers) => ledgers,
            None => self.read_ledgers(case.trace_id).await,
        };
        let evidence = self.evidence(case, ledgers.clone());
        let findings = judge::judge(scenario, case, &evidence, &self.topology, &shape);
        let result = self.conclude(scenario, case, evidence, &shape, findings, None);
        Settled { result, ledgers }
    }

    /// Everything known of a case now; what its ledgers say is given.
    pub fn evidence(&self, case: &Case, ledgers: BTreeMap<String, LedgerReport>) -> Evidence {
        let claims = lock(&self.claims);
        let version = *self.source.changes().borrow();
        let mut strays = lock(&self.strays);
        strays.refresh(version, &claims, |claims| self.source.unclaimed(claims));
        let mut strays = strays.during(case);
        let told = lock(&self.told);
        // A stray that another request's answer told of is that one's; one's own comes first.
        strays.retain(|stray| told.get(&stray.id).is_none_or(|owner| *owner == case.trace_id));
        strays.sort_by_key(|stray| !told.contains_key(&stray.id));
        Evidence {
            trace: self.source.trace(case.trace_id),
            unsettled: self.source.unsettled(case.trace_id),
            ledgers,
            strays,
            capabilities: self.capabilities(),
            refused: self.source.refused(),
            ended: self
                .unexpected_exits()
                .iter()
                .map(|exit| format!("`{}` ended by itself ({})", exit.workload, exit.status))
                .collect(),
        }
    }

    /// What the evidence can give.
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = self.source.capabilities();
        if self.attached {
            capabilities.retain(|capability| *capability != Capability::Exclusiveness);
        }
        if !self.ledgers.is_empty() {
            capabilities.push(Capability::Ledger);
        }
        capabilities
    }

    /// What each service that has a ledger says of one trace. One that was stopped on purpose is not asked while it is down,
    /// and afterwards knows only part.
    pub async fn read_ledgers(&self, trace_id: TraceId) -> BTreeMap<String, LedgerReport> {
        let stopped = lock(&self.stopped).clone();
        let up = self
            .ledgers
            .iter()
            .filter(|(workload, _)| stopped.get(*workload) != Some(&Stopped::Down));
        let reads = up.map(|(workload, of)| (workload, of, stopped.contains_key(workload)));
        let reads = reads.map(|(workload, of_instances, partial)| async move {
            let entries = of_instances.iter().map(|ledger| async move {
                let _turn = self.ledger_turns.acquire().await;
                ledger.entry(trace_id).await
            });
            let report = match futures_util::future::try_join_all(entries).await {
                Ok(entries) => {
                    let all = LedgerEntry::of_instances(trace_id, entries);
                    LedgerReport::Known(LedgerEntry { evicted: all.evicted || partial, ..all })
                }
                Err(error) => LedgerReport::Unknown(error.to_string()),
            };
            (workload.clone(), report)
        });
        let mut reports: BTreeMap<_, _> =
            futures_util::future::join_all(reads).await.into_iter().collect();
        // One that was stopped on purpose while it was being asked is as one that was not asked.
        let stopped = lock(&self.stopped);
        reports.retain(|workload, report| {
            matches!(report, LedgerReport::Known(_)) || !stopped.contains_key(workload)
        });
        reports
    }
}

/// The evidence as if what is not seen had not arrived: what would fail then is not complete yet.
fn as_if_all_were_seen(evidence: Evidence) -> Evidence {
    let mut capabilities = evidence.capabilities;
    if !capabilities.contains(&Capability::Completeness) {
        capabilities.push(Capability::Completeness);
    }
    Evidence { unsettled: None, capabilities, ..evidence }
}

/// The workloads or services whose spans a trace should hold.
fn asked_for(scenario: &Scenario, shape: &fault::Shape) -> BTreeSet<String> {
    let reached = shape.hops.iter().filter(|hop| hop.reached == fault::Expected::Yes);
    let mut services: BTreeSet<String> = reached.map(|hop| hop.workload.clone()).collect();
    services.extend(scenario.expect.services.iter().cloned());
    let mut nodes: Vec<_> = scenario.expect.tree.iter().collect();
    while let Some(node) = nodes.pop() {
        services.extend(node.span.at.clone());
        nodes.extend(&node.children);
    }
    let counted = scenario.expect.spans.iter().filter(|count| count.at_least > 0);
    services.extend(counted.filter_map(|count| count.span.at.clone()));
    services
}
