//! Places at which a user's system is broken: found in what its healthy traces show.

use std::collections::BTreeMap;

use harness::{
    case::DRIVER_SERVICE,
    record::Record,
    scenario::{Fault, FaultKind, fault::Between},
    system::{
        System,
        parts::{COLLECTOR, INTAKE},
    },
    trace::{Span, SpanId},
    wire::WireAction,
};
use harness_prove::{
    catalogue::Breakage,
    change::{Change, Sites},
};

/// Places of the breakages, and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// The services, as they call themselves.
    pub(super) services: Sites,
    /// The workloads that they are.
    pub(super) workloads: Sites,
    /// The edge from the caller to the callee, where something can stand on it.
    calls: Option<(String, String)>,
    /// The edges by which services export.
    exports: Vec<(String, String)>,
    /// The edge from the collector to the intake, where something can stand on it.
    delivers: Option<(String, String)>,
}

/// A call from one workload to another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    /// How many spans are above the callee's.
    depth: usize,
    caller: Who,
    callee: Who,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    workload: String,
    service: String,
}

impl Places {
    /// Finds them in what a sound run left behind: the deepest call on whose edge something can stand, else the deepest one, else the
    /// entry alone.
    pub(super) fn find(records: &[Record], system: &System) -> Self {
        let can_stand =
            |caller: &str, callee: &str| system.clone().put_between(caller, callee).is_ok();
        let edge = |caller: &str, callee: &str| {
            can_stand(caller, callee).then(|| (caller.to_owned(), callee.to_owned()))
        };
        let mut calls: Vec<Call> = records.iter().flat_map(calls).collect();
        calls.sort();
        let tappable = |call: &&Call| can_stand(&call.caller.workload, &call.callee.workload);
        let deepest = calls.iter().rev().find(tappable).or(calls.last());
        let entry = records.iter().find_map(entry).unwrap_or_else(|| Who {
            workload: system.entry.clone(),
            service: system.entry.clone(),
        });
        let (caller, callee) = match deepest {
            Some(call) => (call.caller.clone(), call.callee.clone()),
            // Nobody calls it, so that nothing strikes where a caller would be.
            None => (Who { workload: String::new(), service: String::new() }, entry.clone()),
        };
        let sites = |of: fn(&Who) -> &String| Sites {
            entry: of(&entry).clone(),
            caller: of(&caller).clone(),
            at: of(&callee).clone(),
        };
        Self {
            services: sites(|who| &who.service),
            workloads: sites(|who| &who.workload),
            calls: edge(&caller.workload, &callee.workload),
            exports: system.names().filter_map(|name| edge(name, COLLECTOR)).collect(),
            delivers: edge(COLLECTOR, INTAKE),
        }
    }

    /// Faults that stand on all edges and pass everything on as it comes.
    pub(super) fn nothing(&self) -> Vec<Fault> {
        let edges = self.calls.iter().chain(&self.exports).chain(&self.delivers);
        edges.map(|edge| between(edge, WireAction::Pass)).collect()
    }

    /// Faults that make a breakage on the wire; none where nothing stands there, or it is not made there.
    pub(super) fn strike(&self, breakage: &Breakage) -> Vec<Fault> {
        let Sites { entry, caller, at } = self.services.clone();
        let name = breakage.name.to_owned();
        let does = WireAction::Breakage { name, entry, caller, at };
        let edges: Vec<&(String, String)> = match breakage.how.change() {
            None => Vec::new(),
            Some(Change::Headers(_) | Change::Answer(_)) => self.calls.iter().collect(),
            Some(Change::Otlp(_) | Change::OtlpDelivery(_)) => self.exports.iter().collect(),
            Some(Change::Datadog(_) | Change::DatadogDelivery(_) | Change::Stats(_)) => {
                self.delivers.iter().collect()
            }
        };
        edges.into_iter().map(|edge| between(edge, does.clone())).collect()
    }
}

fn between((caller, callee): &(String, String), does: WireAction) -> Fault {
    let between = Between { caller: caller.clone(), does, next: None };
    Fault { at: callee.clone(), kind: FaultKind::Between(between), first: None, after: None }
}

fn who(record: &Record, span: &Span) -> Who {
    let workload = record.topology.workload_of(span).unwrap_or(&span.service);
    let named = record.topology.services.iter().find(|one| one.workload == workload);
    let service = named.and_then(|one| one.service.clone());
    Who { workload: workload.to_owned(), service: service.unwrap_or_else(|| span.service.clone()) }
}

fn entry(record: &Record) -> Option<Who> {
    let of = record.cases.first()?;
    let spans = &of.evidence.trace.as_ref()?.spans;
    let top = spans.iter().find(|span| {
        span.service != DRIVER_SERVICE
            && span.parent_id.is_none_or(|parent| parent == of.case.driver_span)
    })?;
    Some(who(record, top))
}

fn calls(record: &Record) -> Vec<Call> {
    let mut found = Vec::new();
    for of in &record.cases {
        let spans = of.evidence.trace.iter().flat_map(|trace| &trace.spans);
        let spans: BTreeMap<SpanId, &Span> = spans.map(|span| (span.id, span)).collect();
        let parent = |span: &Span| spans.get(&span.parent_id?).copied();
        for span in spans.values() {
            let Some(call) = parent(span).filter(|call| call.service != DRIVER_SERVICE) else {
                continue;
            };
            let (caller, callee) = (who(record, call), who(record, span));
            if caller.workload == callee.workload {
                continue;
            }
            let above = std::iter::successors(parent(span), |span| parent(span));
            // A trace that goes round is not sound, and none is whose tree is deeper.
            found.push(Call { depth: above.take(spans.len()).count(), caller, callee });
        }
    }
    found
}
