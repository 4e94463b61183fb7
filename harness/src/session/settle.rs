//! Judging a case as evidence comes in, and once more when all is there.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Session, Settled, accounts::Told};
use crate::{
    case::{Capability, Case, Evidence, Outcome, Stray, Topology, View},
    evidence::QUIET,
    finding::Findings,
    judge, rule,
    scenario::{Request, Scenario, fault},
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
        let shape = judge::case::shape(scenario, &scenario.requests[case.request]);
        let services = self.services(scenario, &shape);
        self.source().look_for(case, &services);
        // What the answer says is its trace may be where the request's spans went.
        let told = match case.outcome {
            Outcome::Response { trace_id: Some(told), .. } if told != case.trace_id => Some(told),
            _ => None,
        };
        if let Some(told) = told {
            self.source().look_for(&Case { trace_id: told, ..case.clone() }, &services);
        }
        let settled = self.wait_and_judge(scenario, case, &shape).await;
        for id in [Some(case.trace_id), told].into_iter().flatten() {
            self.source().stop_looking(id);
        }
        settled
    }

    async fn wait_and_judge(
        &self,
        scenario: &Scenario,
        case: &Case,
        shape: &fault::Shape,
    ) -> Settled {
        let patience = self.source().patience();
        let began = Instant::now();
        let deadline = began + patience.unwrap_or(scenario.expect.within);
        let mut later_request = patience.map(|patience| began + patience / 3);
        let mut changes = self.source().changes();
        let mut exits = self.up.exits();
        let mut ledgers = Told::default();
        let mut ledger_age: Option<Instant> = None;
        let mut judged_progress = None;
        let mut look_again = LOOK_AGAIN;
        let mut findings = Findings::default();
        loop {
            let version = *changes.borrow_and_update();
            let progress = self.source().progress(case.trace_id);
            // What is waited for may come in other traces.
            let seen = (progress, version * u64::from(!scenario.expect.linked.is_empty()));
            let stale = ledger_age.is_none_or(|age| age.elapsed() >= look_again);
            if judged_progress != Some(seen) || stale {
                let late =
                    Instant::now() >= deadline || self.up.intake_ended() || self.source().is_over();
                let mut now = self.moment((scenario, case, shape), ledgers.clone());
                // Until then nothing that is missing is let pass: it may still come.
                findings = if late { now.findings() } else { now.findings_if_all_were_seen() };
                // The ledgers are asked once the rest holds, as they are to confirm it, and once more at the end, to explain.
                let rest_holds =
                    findings.failures.iter().all(|failure| rule::needs_ledger(&failure.rule));
                if stale && (rest_holds || late) {
                    ledgers = self.read_ledgers(case.trace_id).await;
                    ledger_age = Some(Instant::now());
                    now.evidence.ledgers.clone_from(&ledgers.services);
                    now.evidence.collector.clone_from(&ledgers.collector);
                    findings = if late { now.findings() } else { now.findings_if_all_were_seen() };
                }
                judged_progress = Some(seen);
                let quiet = self.source().is_quiet(case.trace_id);
                if (findings.failures.is_empty() && quiet && ledger_age.is_some()) || late {
                    self.witness.look_elsewhere(case, &mut now.evidence);
                    let mut result = now.result();
                    result.judged_after_ms = progress
                        .map(|(_, at)| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
                    return Settled { result, evidence: now.evidence };
                }
            }
            let quiet_in = progress
                .map(|(_, at)| QUIET.saturating_sub(at.elapsed()))
                .filter(|left| !left.is_zero());
            let wake = match quiet_in {
                Some(quiet_in) if findings.failures.is_empty() => quiet_in,
                _ => look_again,
            };
            // What is missing can be distinguished from what is late once something later has come.
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
            let known =
                self.witness.topology().services.iter().find(|service| service.workload == name);
            known.and_then(|service| service.service.clone()).unwrap_or(name)
        });
        named.collect()
    }

    /// Sends a request like the scenario's, without its faults, unless one was sent since the case's own was answered.
    async fn send_later(&self, scenario: &Scenario, case: &Case) {
        let mut sent_at = self.later_sent_at.lock().await;
        if *sent_at <= case.ended_at {
            let like = Request { times: 1, ..scenario.harmless().clone() };
            let place = (scenario.harmless_index(), 0);
            *sent_at = self.send_for_itself(&like, place).await.sent_at;
        }
    }

    /// Everything known of a case now; what the ledgers say of its trace is asked again, or given where services and collectors are
    /// gone.
    pub(crate) async fn evidence_now(&self, case: &Case, ledgers: Option<Told>) -> Evidence {
        let ledgers = match ledgers {
            Some(ledgers) => ledgers,
            None => self.read_ledgers(case.trace_id).await,
        };
        let mut evidence = self.witness.evidence(case, ledgers, &self.up.unexpected_exits());
        self.witness.look_elsewhere(case, &mut evidence);
        evidence
    }

    fn moment<'a>(
        &'a self,
        (scenario, case, shape): (&'a Scenario, &'a Case, &'a fault::Shape),
        ledgers: Told,
    ) -> Moment<'a> {
        Moment {
            scenario,
            case,
            shape,
            topology: self.witness.topology(),
            evidence: self.witness.evidence(case, ledgers, &self.up.unexpected_exits()),
            strays: self.witness.strays_of_one(case),
            capabilities: self.witness.capabilities().to_vec(),
        }
    }

    /// Reads the ledger entries of services and collectors for one trace.
    async fn read_ledgers(&self, trace_id: TraceId) -> Told {
        self.accounts.of_trace(trace_id, || self.up.stopped()).await
    }
}

/// All that a case is judged by at one moment.
struct Moment<'a> {
    scenario: &'a Scenario,
    case: &'a Case,
    shape: &'a fault::Shape,
    topology: &'a Topology,
    evidence: Evidence,
    strays: Vec<Arc<Stray>>,
    capabilities: Vec<Capability>,
}

impl Moment<'_> {
    fn look<T>(&self, look: impl FnOnce(&Scenario, View<'_>) -> T) -> T {
        let strays: Vec<&Stray> = self.strays.iter().map(Arc::as_ref).collect();
        let Self { scenario, case, shape, topology, evidence, capabilities, .. } = self;
        look(scenario, View { case, evidence, strays: &strays, capabilities, topology, shape })
    }

    fn findings(&self) -> Findings {
        self.look(judge::case::findings)
    }

    /// The same as if what is not seen had not arrived: what fails then is not complete yet.
    fn findings_if_all_were_seen(&mut self) -> Findings {
        let unsettled = self.evidence.unsettled.take();
        let known = self.capabilities.len();
        self.capabilities.push(Capability::Completeness);
        let findings = self.findings();
        self.capabilities.truncate(known);
        self.evidence.unsettled = unsettled;
        findings
    }

    fn result(&self) -> CaseResult {
        let findings = self.findings();
        self.look(|scenario, view| judge::case::result(scenario, view, findings))
    }
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
    services.extend(scenario.expect.fails_at.clone());
    services
}
