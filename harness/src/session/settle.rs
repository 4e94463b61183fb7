//! Judging a case as evidence comes in, and once more when all is there.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use self::moment::Moment;
use super::{Session, Settled, accounts::Reports};
use crate::{
    case::{Case, DRIVER_SERVICE, Evidence, Outcome, Shape, shape::Expected},
    evidence::QUIET,
    judge::Basis,
    rule,
    scenario::{Request, Scenario},
    trace::{Trace, TraceId},
};

mod moment;

/// How soon what cannot wake the judge (a service's ledger) is looked at again; each time later, up to [`LOOK_AGAIN_MOST`].
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The longest time after which it is looked at again.
const LOOK_AGAIN_MOST: Duration = Duration::from_secs(1);

impl Session {
    /// Waits until a case can be judged: as soon as all rules and expectations hold and its trace has been quiet for a
    /// moment; at the deadline, or when the intake is gone, with whatever was found last. The verdict is made of a
    /// [`Record`](crate::record::Record) with the evidence that is returned.
    pub async fn settle(&self, scenario: &Scenario, case: &Case) -> Settled {
        let basis = Basis::new(scenario, self.witness.topology());
        let asked_for = asked_for(scenario, basis.shape(case));
        let services = self.services(&asked_for);
        self.witness.note_asked_for(case, asked_for);
        self.source().look_for(case, &services);
        // What the answer says is its trace may be where the request's spans went.
        let reported = match case.outcome {
            Outcome::Response { trace_id: Some(reported), .. } if reported != case.trace_id => {
                Some(reported)
            }
            _ => None,
        };
        if let Some(reported) = reported {
            self.source().look_for(&Case { trace_id: reported, ..case.clone() }, &services);
        }
        let settled = self.wait(&basis, case).await;
        for id in [Some(case.trace_id), reported].into_iter().flatten() {
            self.source().stop_looking(id);
        }
        settled
    }

    async fn wait(&self, basis: &Basis<'_>, case: &Case) -> Settled {
        let scenario = basis.scenario;
        let patience = self.source().patience();
        let began = Instant::now();
        let deadline = began + patience.unwrap_or(scenario.expect.within);
        let mut later_request = patience.map(|patience| began + patience / 3);
        let mut changes = self.source().changes();
        let mut exits = self.up.exits();
        let mut ledgers = Reports::default();
        let mut ledger_age: Option<Instant> = None;
        let mut judged_progress = None;
        let mut look_again = LOOK_AGAIN;
        let mut holds = true;
        let mut time = TraceTime { delay: self.export_delay, began, own_seen: None };
        let mut fails_anyway = false;
        loop {
            let version = *changes.borrow_and_update();
            let progress = self.source().progress(case.trace_id);
            // What is waited for may come in other traces.
            let seen = (progress, version * u64::from(!scenario.expect.linked.is_empty()));
            let stale = ledger_age.is_none_or(|age| age.elapsed() >= look_again);
            if judged_progress != Some(seen) || stale {
                let late =
                    Instant::now() >= deadline || self.up.intake_ended() || self.source().is_over();
                let mut now = self.moment(basis, case, ledgers.clone());
                // Until then nothing that is missing is let pass: it may still come.
                let mut rest_holds = true;
                now.with_findings(late, |findings| {
                    holds = findings.failures.is_empty();
                    rest_holds =
                        findings.failures.iter().all(|failure| rule::needs_ledger(&failure.rule));
                });
                // The ledgers are asked once the rest holds, as they are to confirm it, and once more at the end, to explain; and where
                // nothing came, since a sampler may have dropped the trace.
                if stale && (rest_holds || late || !now.has_services()) {
                    ledgers = self.read_ledgers(case.trace_id).await;
                    ledger_age = Some(Instant::now());
                    now.take_ledgers(ledgers.clone());
                    now.with_findings(late, |findings| holds = findings.failures.is_empty());
                }
                judged_progress = Some(seen);
                let quiet = self.source().is_quiet(case.trace_id);
                time.note(now.evidence.trace.as_ref());
                fails_anyway = !late && now.fails_anyway();
                if fails_anyway && quiet && self.fails_early(case, &mut now, &time).await {
                    return now.settled(progress);
                }
                if (holds && quiet && ledger_age.is_some()) || late {
                    self.witness.look_elsewhere(case, &mut now.evidence);
                    return now.settled(progress);
                }
            }
            let quiet_in = progress
                .map(|(_, at)| QUIET.saturating_sub(at.elapsed()))
                .filter(|left| !left.is_zero());
            let wake = match quiet_in {
                Some(quiet_in) if holds || fails_anyway => quiet_in,
                _ => look_again,
            };
            let wake = match time.left().filter(|left| fails_anyway && !left.is_zero()) {
                Some(left) => wake.min(left),
                None => wake,
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
                    if !holds {
                        look_again = (look_again * 2).min(LOOK_AGAIN_MOST);
                    }
                }
            }
        }
    }

    /// Returns whether a case that fails whatever is still to come need not wait for it: nothing is missing of its trace, or its spans had
    /// the time that SDKs and collectors keep them. What is missing then is left open, unless it is seen where it went instead.
    async fn fails_early(&self, case: &Case, now: &mut Moment<'_>, time: &TraceTime) -> bool {
        // A hop that is not seen apart yet may come there.
        let had_its_time = time.left().is_some_and(|left| left.is_zero())
            && (now.is_answered_wrong() || now.fails_in_time() && !now.lacks_a_hop());
        let may_be_whole = |now: &mut Moment<'_>| now.has_services() && now.lacks_nothing();
        if !had_its_time && !may_be_whole(now) {
            return false;
        }
        let ledgers = self.read_ledgers(case.trace_id).await;
        now.take_ledgers(ledgers);
        if !now.lacks_nothing() {
            if !had_its_time {
                return false;
            }
            if !now.has_strays() || !now.is_elsewhere() {
                now.leave_open(NOT_AWAITED);
            }
        }
        self.witness.look_elsewhere(case, &mut now.evidence);
        true
    }

    /// The services whose spans a trace should hold, by the names that they have in their spans where those are known.
    fn services(&self, asked_for: &BTreeSet<String>) -> BTreeSet<String> {
        let known = |name: &str| {
            self.witness.topology().services.iter().find(|service| service.workload == name)
        };
        let named = asked_for.iter().map(|name| {
            known(name).and_then(|service| service.service.clone()).unwrap_or_else(|| name.clone())
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
    pub(crate) async fn evidence_now(&self, case: &Case, ledgers: Option<Reports>) -> Evidence {
        let ledgers = match ledgers {
            Some(ledgers) => ledgers,
            None => self.read_ledgers(case.trace_id).await,
        };
        let mut evidence = self.witness.evidence(case, ledgers, &self.up.unexpected_exits());
        self.witness.look_elsewhere(case, &mut evidence);
        evidence
    }

    fn moment<'a>(&'a self, basis: &'a Basis<'a>, case: &'a Case, ledgers: Reports) -> Moment<'a> {
        Moment {
            basis,
            case,
            evidence: self.witness.evidence(case, ledgers, &self.up.unexpected_exits()),
            strays: self.witness.strays_of_one(case),
            capabilities: self.witness.capabilities().to_vec(),
            so_far: None,
            if_all_seen: None,
        }
    }

    /// Reads the ledger entries of services and collectors for one trace.
    async fn read_ledgers(&self, trace_id: TraceId) -> Reports {
        self.accounts.of_trace(trace_id, || self.up.stopped()).await
    }
}

/// Reason why it is unknown what became of what is missing, where a case fails without it.
const NOT_AWAITED: &str = "the request fails in any case, so that no more spans were waited for";

/// How long the spans of a trace may be in flight.
struct TraceTime {
    /// Longest time that they wait in their SDKs; `None` where that is not known.
    delay: Option<Duration>,
    /// When the request was answered, and the harness's own span sent.
    began: Instant,
    /// When that span was captured.
    own_seen: Option<Instant>,
}

impl TraceTime {
    /// Notes that the harness's own span was captured.
    fn note(&mut self, trace: Option<&Trace>) {
        let own = |trace: &Trace| trace.spans.iter().any(|span| span.service == DRIVER_SERVICE);
        if self.own_seen.is_none() && trace.is_some_and(own) {
            self.own_seen = Some(Instant::now());
        }
    }

    /// Returns how long spans may still be in flight: the collector has kept the harness's own span once already, and may keep those of
    /// the services as long again.
    fn left(&self) -> Option<Duration> {
        let way = self.own_seen?.saturating_duration_since(self.began);
        let all = self.delay?.saturating_add(way.saturating_mul(2)).saturating_add(QUIET);
        Some(all.saturating_sub(self.began.elapsed()))
    }
}

/// The workloads or services whose spans a trace should hold.
fn asked_for(scenario: &Scenario, shape: &Shape) -> BTreeSet<String> {
    let reached = shape.hops.iter().filter(|hop| hop.reached == Expected::Yes);
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
