//! Bringing a system to rest: the sentinel, who was heard of, and stopping what sends before what is sent to.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use super::{DRAIN_TIMEOUT, Session, lock};
use crate::{
    case::DRIVER_SERVICE,
    expectation::{Expect, Matcher, SpanCount},
    judge::CHAIN_PATH,
    rule::{self, SILENT_SERVICE},
    scenario::{Method, Request, Scenario, SystemChoice, request::AnswerExpect},
    system::Role,
    trace::TraceId,
};

impl Session {
    /// Sends a sentinel trace, by a request like one that the system takes, through every exporting path, and waits until it has
    /// arrived whole: whatever was sent before it had the same time and more. In a chain every hop must be in it; elsewhere
    /// every service in `seen`.
    ///
    /// # Errors
    ///
    /// What was still missing of the sentinel at the deadline.
    pub async fn quiesce(
        &self,
        like: (&SystemChoice, &Request),
        seen: &BTreeSet<String>,
        within: Duration,
    ) -> Result<(), String> {
        let scenario = sentinel(like, seen, within);
        // The harness's own span goes to the collector's instances in turn.
        for _ in 0..self.driver.exported().len().max(1) {
            let case = self.send(&scenario.requests[0], (0, 0), &[]).await;
            let result = self.settle(&scenario, &case).await.result;
            if let Some(failure) = result.findings.failures.first() {
                return Err(format!("{}: {}", failure.rule, failure.detail));
            }
        }
        Ok(())
    }

    /// The workloads, or services where they are not known, that spans of a trace came from.
    pub fn seen_in(&self, trace_id: TraceId) -> BTreeSet<String> {
        let Some(trace) = self.source.trace(trace_id) else { return BTreeSet::new() };
        let services = trace.spans.iter().filter(|span| span.service != DRIVER_SERVICE);
        services
            .map(|span| self.topology.workload_of(span).unwrap_or(&span.service).to_owned())
            .collect()
    }

    /// The services that have no ledger, and that no captured span can be told to be of, though every span can be told.
    pub fn silent_services(&self) -> Vec<String> {
        let capabilities = self.capabilities();
        let needs = rule::named(SILENT_SERVICE).map_or(&[][..], |rule| rule.needs);
        if !needs.iter().all(|need| capabilities.contains(need)) {
            return Vec::new();
        }
        let seen: BTreeSet<String> =
            self.source.trace_ids().into_iter().flat_map(|id| self.seen_in(id)).collect();
        let services = self.topology.services.iter().map(|service| &service.workload);
        let silent = services
            .filter(|workload| !self.ledgers.contains_key(*workload) && !seen.contains(*workload));
        let silent: Vec<String> = silent.cloned().collect();
        // A service's name in its spans may differ from its workload's: as many strangers as silent ones are no silence.
        let known =
            |name: &String| self.topology.services.iter().any(|service| &service.workload == name);
        let strangers = seen.iter().filter(|name| !known(name)).count();
        if strangers >= silent.len() { Vec::new() } else { silent }
    }

    /// Stops the services, then the collectors, so that everything they keep back is sent, and waits for what reached the intake.
    /// What does not end as it should is told.
    pub async fn stop_sources(&self) -> Vec<String> {
        let mut unclean = Vec::new();
        // What the run did not start is not its to stop.
        let roles: &[Role] = if self.attached { &[] } else { &[Role::Service, Role::Collector] };
        for &role in roles {
            let of_role =
                self.endpoints.workloads.iter().filter(|(_, workload)| workload.role == role);
            let names: Vec<String> = of_role.map(|(name, _)| name.clone()).collect();
            if let Err(error) = self.environment.lock().await.stop_all(&names).await {
                match error.foreseen() {
                    Ok(told) => lock(&self.notes).extend(told),
                    Err(error) => unclean.push(error.to_string()),
                }
            }
        }
        if let Err(error) = self.source.drain(DRAIN_TIMEOUT).await {
            unclean.push(error);
        }
        unclean
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
        requires: BTreeMap::new(),
    }
}
