//! Knowledge of a session, beside captured spans, that decides to which request a trace belongs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    case::{Case, LedgerReport, Outcome, Topology, call_facts::without_query},
    environment::Endpoints,
    system::{OwnTraces, Role, System, reference},
    trace::{Span, SpanId, TraceId},
};

/// Knowledge about a system before any request is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Places {
    /// The ports of each workload, as the harness reaches them; within one network, others do so too.
    pub(super) ports: BTreeMap<String, BTreeSet<u16>>,
    /// The path by which each workload is asked whether it is well.
    pub(super) health: BTreeMap<String, String>,
    /// Workloads that make no spans, and may pass on what they are asked: proxies.
    pub(super) untraced: BTreeSet<String>,
    /// The workloads whose addresses each is given, and that it may call.
    pub(super) callees: BTreeMap<String, BTreeSet<String>>,
    /// Workloads that have ledger routes.
    pub(super) with_ledger: BTreeSet<String>,
    /// Traces that services begin by themselves.
    pub(super) own_traces: Vec<OwnTraces>,
}

impl Places {
    pub(crate) fn of(system: &System, endpoints: &Endpoints) -> Self {
        let services = || system.workloads.iter().filter(|of| of.role == Role::Service);
        let port = |address: &str| {
            let address = address.split_once("://").map_or(address, |(_, rest)| rest);
            let address = address.split('/').next().unwrap_or_default();
            address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok())
        };
        // Who calls what stands before a workload calls that workload.
        let behind = |name: &str| system.behind(name).unwrap_or(name).to_owned();
        let mut ports: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for (name, workload) in &endpoints.workloads {
            let addresses = workload.instances.iter().flat_map(|instance| instance.ports.values());
            let of = ports.entry(behind(name)).or_default();
            of.extend(addresses.filter_map(|address| port(address)));
        }
        let health = services().filter_map(|of| Some((of.name.clone(), of.health.clone()?.path)));
        let callees = services().map(|of| {
            let references = reference::references(of);
            let to = references.iter().filter_map(|one| Some(behind(one.edge()?.0)));
            (of.name.clone(), to.collect())
        });
        let with_ledger = services().filter(|of| of.ledger.is_some());
        let untraced = services().filter(|of| !of.traced).map(|of| of.name.clone()).collect();
        Self {
            ports,
            untraced,
            health: health.collect(),
            callees: callees.collect(),
            with_ledger: with_ledger.map(|of| of.name.clone()).collect(),
            own_traces: system.own_traces.clone(),
        }
    }

    /// Returns whether the addresses that workloads are given lead from one to another, through none but those for which `passes` holds.
    fn leads_to(&self, from: &str, to: &str, passes: &dyn Fn(&str) -> bool) -> bool {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut next = vec![from];
        while let Some(name) = next.pop() {
            if passes(name) && seen.insert(name) {
                next.extend(self.callees.get(name).into_iter().flatten().map(String::as_str));
            }
        }
        seen.contains(to)
    }

    /// Returns whether a call to one workload may reach another: it is that one, or is given its address and makes no spans, or none that
    /// was captured; `heard` has those of which some were.
    pub(super) fn passes_on(&self, from: &str, to: &str, heard: &HashSet<String>) -> bool {
        let is_silent = |name: &str| self.untraced.contains(name) || !heard.contains(name);
        from == to || self.leads_to(from, to, &|name| name == to || is_silent(name))
    }

    /// Returns whether a workload may call another, by itself or through silent ones.
    pub(super) fn may_call(&self, caller: &str, to: &str, heard: &HashSet<String>) -> bool {
        let callees = self.callees.get(caller);
        callees
            .is_some_and(|callees| callees.iter().any(|callee| self.passes_on(callee, to, heard)))
    }

    /// The workload that has a port, where only one has.
    pub(super) fn workload_at(&self, port: u16) -> Option<&str> {
        let mut having = self.ports.iter().filter(|(_, ports)| ports.contains(&port));
        match (having.next(), having.next()) {
            (Some((only, _)), None) => Some(only),
            _ => None,
        }
    }
}

/// A request that was answered, or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) trace_id: TraceId,
    pub(super) driver_span: SpanId,
    pub(super) context_sent: bool,
    /// The workload that it was sent to, where that is known.
    pub(super) to: Option<String>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) is_rpc: bool,
    pub(super) status: Option<u16>,
    /// Whether the response reports no failure of a service.
    pub(super) went_well: bool,
    pub(super) sent_at: i64,
    pub(super) ended_at: i64,
}

/// A time in which a fault kept a workload from its work: nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Out {
    from: i64,
    /// When it was up again, and its start-up over; `None` while it is not.
    until: Option<i64>,
    /// Whether it was frozen, so that it does not start up afterwards.
    is_frozen: bool,
}

impl Out {
    fn is_at(&self, at: i64) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// Knowledge about the requests sent so far, and the services' work for them.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// The traces that belong to requests.
    pub(super) claims: HashSet<TraceId>,
    /// Traces that responses named though the request belonged to another one, with that other one.
    pub(super) answers: HashMap<TraceId, TraceId>,
    pub(super) sent: Vec<Sent>,
    /// The services that scenarios say take part in requests, by the requests' traces.
    pub(super) asked_for: HashMap<TraceId, BTreeSet<String>>,
    /// Requests that the harness sent for itself, and no scenario.
    pub(super) for_itself: HashSet<TraceId>,
    /// Spans that were ended, by the harness and as services' ledgers list them, with the trace that they were ended in.
    pub(super) ended: HashMap<SpanId, TraceId>,
    /// When the first request was about to be sent.
    pub(super) first_sent_at: Option<i64>,
    /// When faults kept workloads from their work.
    out: BTreeMap<String, Vec<Out>>,
    changes: u64,
}

impl Requests {
    /// Notes that a trace belongs to a request that is about to be sent now.
    pub(crate) fn claim(&mut self, id: TraceId, now: i64) {
        self.first_sent_at.get_or_insert(now);
        self.changes += u64::from(self.claims.insert(id));
    }

    /// Notes a request that came to its end: whose trace it became, and which other one its response named.
    pub(crate) fn note(&mut self, case: &Case, path: &str, topology: &Topology) {
        self.changes += 1;
        self.claims.insert(case.trace_id);
        if let Outcome::Response { trace_id: Some(reported), .. } = case.outcome
            && reported != case.trace_id
        {
            self.answers.insert(reported, case.trace_id);
        }
        if case.driver_exported {
            self.ended.insert(case.driver_span, case.trace_id);
        }
        let is_rpc = case.method == crate::scenario::Method::Grpc;
        self.sent.push(Sent {
            trace_id: case.trace_id,
            driver_span: case.driver_span,
            context_sent: case.context_sent,
            to: case.entry(topology).map(str::to_owned),
            method: case.method.name().to_owned(),
            path: without_query(path).to_owned(),
            is_rpc,
            status: match case.outcome {
                Outcome::Response { status, .. } if !is_rpc => Some(status),
                _ => None,
            },
            went_well: match case.outcome {
                Outcome::Response { status, .. } if is_rpc => status == 0,
                Outcome::Response { status, .. } => status < 500,
                Outcome::Failed { .. } | Outcome::Unobserved { .. } => false,
            },
            sent_at: case.sent_at,
            ended_at: case.ended_at,
        });
    }

    /// Notes the services that a scenario says take part in a request.
    pub(crate) fn note_asked_for(&mut self, id: TraceId, services: BTreeSet<String>) {
        self.changes += u64::from(self.asked_for.insert(id, services).is_none());
    }

    /// Notes that a request was the harness's own, and no scenario's.
    pub(crate) fn note_for_itself(&mut self, id: TraceId) {
        self.for_itself.insert(id);
    }

    /// Notes which spans services say that they ended in a request's trace.
    pub(crate) fn note_ledgers(&mut self, case: &Case, ledgers: &BTreeMap<String, LedgerReport>) {
        for report in ledgers.values() {
            if let LedgerReport::Known(entry) = report {
                let spans = entry.spans.iter().filter(|span| span.sampled);
                self.ended.extend(spans.map(|span| (span.span_id, case.trace_id)));
            }
        }
    }

    /// Notes that a fault is about to stop a workload now, or to freeze it.
    pub(crate) fn note_out(&mut self, workload: &str, now: i64, is_frozen: bool) {
        let out = Out { from: now, until: None, is_frozen };
        self.out.entry(workload.to_owned()).or_default().push(out);
        self.changes += 1;
    }

    /// Notes when a workload was back at its work: it goes on, or it is up again and its start-up is over.
    pub(crate) fn note_back(&mut self, workload: &str, at: i64) {
        for out in self.out.get_mut(workload).into_iter().flatten() {
            out.until.get_or_insert(at);
        }
        self.changes += 1;
    }

    /// Returns whether a workload that was stopped on purpose was down at a moment, or starting up again.
    pub(super) fn is_starting(&self, workload: &str, at: i64) -> bool {
        let mut out = self.out.get(workload).into_iter().flatten();
        out.any(|out| !out.is_frozen && out.is_at(at))
    }

    /// Returns whether any request could have led to a workload. One could not while faults kept the workload itself from its work, or all
    /// by whom the system's addresses lead to it from the entry. A request of the harness's own that was answered with a failure shows
    /// nothing: it came while others were finding their way back.
    pub(crate) fn could_reach(&self, workload: &str, places: &Places) -> bool {
        self.sent.iter().any(|sent| {
            if self.for_itself.contains(&sent.trace_id) && !sent.went_well {
                return false;
            }
            let is_out = |name: &str| {
                let mut out = self.out.get(name).into_iter().flatten();
                out.any(|out| out.is_at(sent.sent_at) && out.is_at(sent.ended_at))
            };
            let Some(entry) = sent.to.as_deref().filter(|_| !is_out(workload)) else {
                return !is_out(workload);
            };
            // Where no address leads to it at all, nothing is known of who calls it.
            places.leads_to(entry, workload, &|name| !is_out(name))
                || !places.leads_to(entry, workload, &|_| true)
        })
    }

    pub(crate) fn claims(&self) -> &HashSet<TraceId> {
        &self.claims
    }

    /// Counts up whenever something became known, and how many spans are known to have been ended.
    pub(crate) fn version(&self) -> (u64, usize) {
        (self.changes, self.ended.len())
    }
}

/// Looks at every captured span.
pub(crate) type Visit<'a> = &'a dyn Fn(&mut dyn FnMut(&Span));

/// All that bears on whose a trace is, beside what was captured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) places: &'a Places,
    pub(crate) requests: &'a Requests,
}
