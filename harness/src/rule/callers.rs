//! The caller of a span whose parent was not captured.

use std::collections::{HashMap, HashSet};

use harness_core::family::{Family, by_id};

use super::ledgers::known_ledgers;
use crate::{
    case::{ServiceIdentity, View},
    finding::Stage,
    in_progress::InProgress,
    intake::decode::TakenSpan,
    ledger::{CollectorEntry, Exported, LedgerSpan},
    trace::{CLOCK_TOLERANCE, Span, SpanId},
};

/// All that shows who called whom, indexed once for all spans of a trace whose callers are asked for.
pub(super) struct Callers<'a> {
    view: View<'a>,
    family: Family<'a>,
    /// Spans that services ended, with the first service that did.
    made: HashMap<SpanId, (&'a str, &'a LedgerSpan)>,
    /// Spans that were captured under other traces, as some service ended them in this one.
    elsewhere: HashMap<SpanId, &'a Span>,
    /// Spans of the traces that belong to the request.
    apart: HashMap<SpanId, &'a Span>,
    /// Spans that a collector took, as far as it keeps them.
    taken: HashMap<SpanId, &'a TakenSpan>,
    /// The workloads that spans of services came of.
    heard: HashSet<&'a str>,
    /// Those of them with a call that nobody answers.
    calling: HashSet<&'a str>,
    /// Calls that nobody answers and that did not fail.
    open: InProgress<&'a Span>,
    /// Spans that answer calls.
    servers: InProgress<&'a Span>,
}

impl<'a> Callers<'a> {
    pub(super) fn new(view: View<'a>) -> Self {
        let family = view.family();
        let mut made = HashMap::new();
        for (workload, spans, _) in known_ledgers(view) {
            for span in spans {
                made.entry(span.span_id).or_insert((workload, span));
            }
        }
        let is_call = |span: &&Span| matches!(span.kind(), "client" | "producer");
        let is_open = |span: &&Span| is_call(span) && family.children(span.id).is_empty();
        let open: Vec<&Span> = view.spans().iter().filter(is_open).collect();
        let servers =
            view.service_spans().filter(|span| matches!(span.kind(), "server" | "consumer"));
        let taken = view.evidence.collector.iter().flat_map(|entry| &entry.spans);
        let calling = view.service_spans().filter(is_open).map(|span| view.workload_of(span));
        Self {
            view,
            made,
            elsewhere: by_id(&view.evidence.elsewhere),
            apart: by_id(view.strays.iter().flat_map(|stray| &stray.trace.spans)),
            taken: taken.map(|span| (span.id, span)).collect(),
            heard: view.service_spans().map(|span| view.workload_of(span)).collect(),
            calling: calling.collect(),
            open: InProgress::new(open.into_iter().filter(|call| !call.error).map(times)),
            servers: InProgress::new(servers.map(times)),
            family,
        }
    }

    /// Returns what became of a missing parent that a collector took, and the stage that lost it.
    pub(super) fn lost_by_collector(&self, parent: SpanId) -> Option<(Stage, String)> {
        let is_known = self.made.contains_key(&parent) || self.apart.contains_key(&parent);
        let taken = self.taken.get(&parent).filter(|_| !is_known)?;
        let sent = self.view.evidence.collector.as_ref().and_then(CollectorEntry::only_to_datadog);
        let is_sent = |of: &Exported| of.spans.iter().any(|sent| sent.id == parent);
        let (stage, became) = match (self.elsewhere.get(&parent), sent?) {
            (Some(span), _) => {
                let became = format!("it was captured under trace {}", span.trace_id);
                (Stage::BehindCollector, became)
            }
            (None, of) if is_sent(of) => {
                (Stage::BehindCollector, "sent it, and it did not arrive".to_owned())
            }
            // Of more than it keeps it is not known which were sent.
            (None, of) if of.spans.len() as u64 == of.exported => {
                (Stage::Collector, "did not send it".to_owned())
            }
            _ => return None,
        };
        let TakenSpan { name, kind, .. } = taken;
        Some((stage, format!("the collector took it, `{name}` ({kind}), and {became}")))
    }

    /// Determines what became of a missing parent, and who created it, as far as ledgers and the rest of the trace show.
    pub(super) fn orphan_cause(&self, span: &'a Span, parent: SpanId) -> (Option<&'a str>, String) {
        let view = self.view;
        let workload = view.workload_of(span);
        let made = |id: SpanId| self.made.get(&id).copied();
        if let Some((_, own)) = made(span.id)
            && own.parent_span_id != Some(parent)
        {
            let changes = format!(
                "`{workload}` ended it below another one, so something between `{workload}` and the intake changes parents"
            );
            return (None, changes);
        }
        if let Some((maker, made)) = made(parent) {
            let elsewhere = self.elsewhere.get(&parent);
            let became = match (made.sampled, elsewhere) {
                (false, _) => "sampled it out".to_owned(),
                (true, Some(span)) => {
                    format!("ended it, and it was captured under trace {}", span.trace_id)
                }
                (true, None) => "ended it, and it did not arrive".to_owned(),
            };
            return (Some(maker), format!("`{maker}` {became}"));
        }
        if let Some(above) = self.apart.get(&parent) {
            let maker = view.workload_of(above);
            let elsewhere = format!(
                "it is {}, which was captured under trace {}: its trace id was changed on the way, or `{maker}` made it in another trace",
                view.name(above),
                above.trace_id
            );
            return (Some(maker), elsewhere);
        }
        if span.kind() != "server" {
            let own = format!(
                "a span of `{workload}` itself was lost, or never ended (a crash, a handler that was cancelled)"
            );
            return (None, own);
        }
        if let Some(silent) = self.silent_caller(workload) {
            let lost = format!(
                "`{silent}` is the one that is given the address of `{workload}` and has no span in the trace: they were lost on their way, or sampled out, or `{silent}` does not export"
            );
            return (Some(silent), lost);
        }
        if let Some(call) = self.unanswered(span) {
            let caller = view.workload_of(call);
            let between = view.topology.between(caller, workload);
            let replaced = format!(
                "no span answers the call {}, which was in progress then, so {} on the link {caller} -> {workload} changes the parent's id, or is a proxy that makes spans and does not send them here",
                view.name(call),
                between.as_deref().unwrap_or("something")
            );
            return (Some(caller), replaced);
        }
        let hops = &view.shape.hops;
        match hops.iter().position(|hop| hop.workload == workload) {
            Some(index) if index > 0 => {
                let caller = hops[index - 1].workload.as_str();
                let lost = format!(
                    "the client span of `{caller}` was lost on its way, or sampled out there"
                );
                (Some(caller), lost)
            }
            _ => match self.only_caller(workload).or_else(|| self.at_work(span)) {
                Some(caller) => {
                    let lost = format!(
                        "`{caller}` was at work on the request, so a span of its own was lost on its way, sampled out, or never ended"
                    );
                    (Some(caller), lost)
                }
                None => {
                    let lost = "its caller's span was lost on its way, sampled out, or its caller does not export";
                    (None, lost.to_owned())
                }
            },
        }
    }

    /// The only workload that is given another one's address, where it has a span in the trace.
    fn only_caller(&self, workload: &str) -> Option<&'a str> {
        let is_given =
            |one: &&'a ServiceIdentity| one.callees.iter().any(|callee| callee == workload);
        let mut callers = self.view.topology.services.iter().filter(is_given);
        let (Some(only), None) = (callers.next(), callers.next()) else { return None };
        let here = only.workload.as_str();
        self.heard.contains(here).then_some(here)
    }

    /// The workload that was at work on the request when this span began, where one was deeper in it than all others.
    fn at_work(&self, span: &Span) -> Option<&'a str> {
        let view = self.view;
        let here = view.topology.workload_of(span)?;
        let in_progress = self.servers.at(span.start, tolerance(span));
        let in_progress: Vec<&Span> = in_progress.filter(|server| server.id != span.id).collect();
        let deepest = *in_progress.last()?;
        let caller = view.topology.workload_of(deepest).filter(|caller| *caller != here)?;
        // All others are to be found on the way up from it, which a cycle makes endless.
        let mut others: HashSet<SpanId> = in_progress.iter().map(|server| server.id).collect();
        let mut seen = HashSet::new();
        let mut next = Some(deepest);
        while let Some(above) = next.filter(|above| !others.is_empty() && seen.insert(above.id)) {
            others.remove(&above.id);
            next = self.family.parent(above);
        }
        others.is_empty().then_some(caller)
    }

    /// The only one of those that are given a workload's address of which there is no span in the trace; `None` too where one of the
    /// others made a call then that nobody answers.
    pub(super) fn silent_caller(&self, workload: &str) -> Option<&'a str> {
        let services = &self.view.topology.services;
        let is_given = |one: &&ServiceIdentity| one.callees.iter().any(|callee| callee == workload);
        let callers = || services.iter().filter(is_given).map(|one| one.workload.as_str());
        let mut silent = callers().filter(|caller| !self.heard.contains(caller));
        let (Some(only), None) = (silent.next(), silent.next()) else { return None };
        // One that is heard of may have called as well, and then the answer to that call is what is missing.
        let is_open = callers().any(|caller| self.calling.contains(caller));
        (!is_open).then_some(only)
    }

    /// The only call that a server span could be the answer to, and that no other span answers.
    fn unanswered(&self, server: &Span) -> Option<&'a Span> {
        let topology = self.view.topology;
        let workload = topology.workload_of(server);
        // Who is given addresses, and not this workload's, did not call it.
        let may_call = |call: &'a Span| {
            let of = self.view.workload_of(call);
            let caller = topology.services.iter().find(|one| one.workload == of);
            caller.is_none_or(|one| {
                one.callees.is_empty() || one.callees.iter().any(|to| Some(to.as_str()) == workload)
            })
        };
        let open = self.open.at(server.start, tolerance(server));
        let mut calls =
            open.filter(|call| topology.workload_of(call) != workload && may_call(call));
        let first = calls.next()?;
        calls.next().is_none().then_some(first)
    }
}

/// When a span was in progress, with the span.
fn times(span: &Span) -> (i64, i64, &Span) {
    (span.start, span.end(), span)
}

/// By how much the clock by which a span's start was taken may differ from others'.
fn tolerance(span: &Span) -> i64 {
    if span.hostname.is_empty() { 0 } else { CLOCK_TOLERANCE }
}
