//! The witness: what was captured, which of it belongs to the run's requests, and what responses report about the rest.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use super::{accounts::Reports, lock};
use crate::{
    case::{
        Capability, Case, DRIVER_SERVICE, Evidence, LateSpan, LedgerReport, Origin, Stray, Topology,
    },
    environment::UnexpectedExit,
    evidence::EvidenceSource,
    intake::client::IntakeClient,
    ledger::CollectorEntry,
    rule::{self, SILENT_SERVICE},
    strays::{self, Ground, Nobodys, Places, Requests, Strays, StraysNow},
    trace::{Span, SpanId, TraceId, unix_nanos},
};

/// Captured traces of a system and their owners.
pub struct Witness {
    /// The mock intake; `None` where the collector sends to Datadog itself.
    intake: Option<Arc<IntakeClient>>,
    source: Arc<dyn EvidenceSource>,
    topology: Topology,
    /// Capabilities of the evidence's source.
    capabilities: Vec<Capability>,
    /// Services that have a ledger.
    with_ledger: BTreeSet<String>,
    places: Places,
    requests: Mutex<Requests>,
    strays: Mutex<StraysNow>,
}

impl Witness {
    /// Creates a witness that has seen no request yet, of services that have ledgers and perhaps a collector that has one. Of a system that is `shared`, others may be the cause of what is captured.
    pub(super) fn new(
        intake: Option<Arc<IntakeClient>>,
        source: Arc<dyn EvidenceSource>,
        (topology, places): (Topology, Places),
        (with_ledger, collector_ledger): (BTreeSet<String>, bool),
        shared: bool,
    ) -> Self {
        let mut capabilities = source.capabilities();
        if shared {
            capabilities.retain(|capability| *capability != Capability::Exclusiveness);
        }
        if !with_ledger.is_empty() {
            capabilities.push(Capability::Ledger);
        }
        if collector_ledger {
            capabilities.push(Capability::CollectorLedger);
        }
        let (requests, strays) = Default::default();
        Self { intake, source, topology, capabilities, with_ledger, places, requests, strays }
    }

    /// Returns the client of the mock intake; `None` if evidence comes from elsewhere.
    pub fn intake(&self) -> Option<&IntakeClient> {
        self.intake.as_deref()
    }

    /// The same, for somebody who reads it beside the session.
    pub(crate) fn shared_intake(&self) -> Option<&Arc<IntakeClient>> {
        self.intake.as_ref()
    }

    /// Returns the source of evidence.
    pub fn source(&self) -> &dyn EvidenceSource {
        self.source.as_ref()
    }

    /// Returns the topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Returns the capabilities of the evidence's source.
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    /// Notes that a trace belongs to a request that is about to be sent.
    pub(super) fn claim(&self, id: TraceId) {
        lock(&self.requests).claim(id, unix_nanos(SystemTime::now()));
    }

    /// Notes whose trace a request for `path` became, and which other one its response named.
    pub(super) fn note_answer(&self, case: &Case, path: &str) {
        lock(&self.requests).note(case, path, &self.topology);
    }

    /// Notes the services that a scenario says take part in a request. Where others may send what is captured, what a request lacks shows
    /// nothing: it may as well be in the trace of theirs.
    pub(super) fn note_asked_for(&self, case: &Case, services: BTreeSet<String>) {
        if self.capabilities.contains(&Capability::Exclusiveness) {
            lock(&self.requests).note_asked_for(case.trace_id, services);
        }
    }

    /// Notes that a request was the harness's own, and no scenario's.
    pub(super) fn note_for_itself(&self, case: &Case) {
        lock(&self.requests).note_for_itself(case.trace_id);
    }

    /// Notes that a fault is about to stop a workload, or to freeze it.
    pub(super) fn note_out(&self, workload: &str, is_frozen: bool) {
        lock(&self.requests).note_out(workload, unix_nanos(SystemTime::now()), is_frozen);
    }

    /// Notes that a workload is back at its work, or will be after a time.
    pub(super) fn note_back(&self, workload: &str, after: Duration) {
        lock(&self.requests).note_back(workload, unix_nanos(SystemTime::now() + after));
    }

    /// Everything known of a case now, given what the ledgers say of its trace and which workloads ended.
    pub(super) fn evidence(
        &self,
        case: &Case,
        Reports { services: ledgers, collector }: Reports,
        exits: &[UnexpectedExit],
    ) -> Evidence {
        lock(&self.requests).note_ledgers(case, &ledgers);
        let ended = exits
            .iter()
            .map(|exit| format!("`{}` ended by itself ({})", exit.workload, exit.status));
        Evidence {
            trace: self.source.trace(case.trace_id),
            unsettled: self.source.unsettled(case.trace_id),
            ledgers,
            refused: self.source.refused(),
            ended: ended.collect(),
            collector,
            ..Evidence::default()
        }
    }

    /// Looks among everything that was captured for the spans that were ended in a case's trace and are not in it, and for who was
    /// heard of where nobody is in it.
    pub(super) fn look_elsewhere(&self, case: &Case, evidence: &mut Evidence) {
        let spans = evidence.trace.iter().flat_map(|trace| &trace.spans);
        if spans.filter(|span| span.service != DRIVER_SERVICE).count() == 0 {
            self.source.visit(&mut |span| {
                if span.service != DRIVER_SERVICE {
                    let name = self.topology.workload_of(span).unwrap_or(&span.service);
                    if !evidence.heard.contains(name) {
                        evidence.heard.insert(name.to_owned());
                    }
                }
            });
        }
        let Some(intake) = &self.intake else { return };
        // What came while the ledgers were asked is not elsewhere, but here.
        evidence.trace = self.source.trace(case.trace_id);
        let mut missing: HashSet<SpanId> = HashSet::new();
        for report in evidence.ledgers.values() {
            if let LedgerReport::Known(entry) = report {
                let sampled = entry.spans.iter().filter(|span| span.sampled);
                missing.extend(sampled.map(|span| span.span_id));
            }
        }
        if case.sampled && case.driver_exported {
            missing.insert(case.driver_span);
        }
        let sent = evidence.collector.as_ref().and_then(CollectorEntry::only_to_datadog);
        missing.extend(sent.into_iter().flat_map(|of| &of.spans).map(|span| span.id));
        for span in evidence.trace.iter().flat_map(|trace| &trace.spans) {
            missing.remove(&span.id);
        }
        if missing.is_empty() {
            return;
        }
        evidence.elsewhere = intake.with_store(|store| {
            let spans = store.traces().flat_map(|(_, spans)| spans);
            let mut found: Vec<Span> = spans
                .filter(|span| missing.contains(&span.id) && span.trace_id != case.trace_id)
                .map(|span| Span::clone(span))
                .collect();
            found.sort_by_key(|span| (span.start, span.id));
            found
        });
    }

    /// The spans of a case's trace that were captured since its evidence was gathered, each with how long after the answer it came.
    pub(crate) fn late_spans(&self, case: &Case, evidence: &Evidence) -> Vec<LateSpan> {
        let Some(intake) = &self.intake else { return Vec::new() };
        let known: HashSet<SpanId> =
            evidence.trace.iter().flat_map(|trace| &trace.spans).map(|span| span.id).collect();
        let now = SystemTime::now();
        intake.with_store(|store| {
            let spans = store.spans(case.trace_id);
            let late = spans
                .iter()
                .filter(|span| span.service != DRIVER_SERVICE && !known.contains(&span.id));
            let late = late.filter_map(|span| {
                let came = unix_nanos(now - store.entry(span.attempt)?.received.elapsed());
                let after = came.saturating_sub(case.ended_at).max(0) / 1_000_000;
                Some(LateSpan {
                    span: span.id,
                    workload: self.topology.workload_of(span).unwrap_or(&span.service).to_owned(),
                    after_ms: u64::try_from(after).unwrap_or_default(),
                })
            });
            let mut late: Vec<LateSpan> = late.collect();
            late.sort_by_key(|late| (late.after_ms, late.span));
            late
        })
    }

    /// Returns the unclaimed traces that belong to `case`.
    pub(super) fn strays_of_one(&self, case: &Case) -> Vec<Arc<Stray>> {
        self.strays(|strays| strays.of(case).into_iter().cloned().collect())
    }

    /// Returns the unclaimed traces that belong to one of `cases`.
    pub fn strays_of<'a>(&self, cases: impl Iterator<Item = &'a Case>) -> Vec<Stray> {
        self.strays(|strays| strays.of_all(cases))
    }

    fn strays<T>(&self, look: impl FnOnce(&Strays<Arc<Stray>>) -> T) -> T {
        let requests = lock(&self.requests);
        let (known, ended) = requests.version();
        let version = *self.source.changes().borrow();
        let mut strays = lock(&self.strays);
        let found = strays.refresh((version, known, ended), || {
            let unclaimed = self.source.unclaimed(requests.claims());
            strays::resolve(unclaimed, self.ground(&requests), &|look| self.source.visit(look))
        });
        look(found)
    }

    fn ground<'a>(&'a self, requests: &'a Requests) -> Ground<'a> {
        Ground { topology: &self.topology, places: &self.places, requests }
    }

    /// Returns the captured traces that belong to no request at all.
    pub fn nobodys_strays(&self) -> Nobodys {
        let nobodys: Vec<Stray> = self.strays(|strays| strays.nobodys().cloned().collect());
        let requests = lock(&self.requests);
        Nobodys::new(nobodys.iter(), self.ground(&requests))
    }

    /// Returns the workloads that spans of a trace came from; services where the workload is unknown.
    pub fn seen_in(&self, trace_id: TraceId) -> BTreeSet<String> {
        let Some(trace) = self.source.trace(trace_id) else { return BTreeSet::new() };
        let services = trace.spans.iter().filter(|span| span.service != DRIVER_SERVICE);
        services
            .map(|span| self.topology.workload_of(span).unwrap_or(&span.service).to_owned())
            .collect()
    }

    /// Returns the services without a ledger and without a captured span, if every span can be attributed and a
    /// request could have reached the service.
    pub fn silent_services(&self) -> Vec<String> {
        let needs = rule::named(SILENT_SERVICE).map_or(&[][..], |rule| rule.needs);
        if !needs.iter().all(|need| self.capabilities.contains(need)) {
            return Vec::new();
        }
        let aside: HashSet<TraceId> = self.strays(|strays| {
            let aside = strays
                .nobodys()
                .filter(|stray| matches!(stray.origin, Origin::Probe | Origin::StartUp));
            aside.map(|stray| stray.trace.id).collect()
        });
        let (aside, traces): (Vec<_>, Vec<_>) =
            self.source.trace_ids().into_iter().partition(|id| aside.contains(id));
        let mut seen: BTreeSet<String> =
            traces.into_iter().flat_map(|id| self.seen_in(id)).collect();
        // Who answers probes, or reports its start, and is called, must answer the calls too.
        let idle: BTreeSet<String> = aside.into_iter().flat_map(|id| self.seen_in(id)).collect();
        let called = {
            let requests = lock(&self.requests);
            strays::called(idle.clone(), self.ground(&requests), &|look| self.source.visit(look))
        };
        seen.extend(idle.into_iter().filter(|workload| !called.contains(workload)));
        let services = self.topology.services.iter().map(|service| &service.workload);
        let requests = lock(&self.requests);
        let silent = services.filter(|workload| {
            !self.with_ledger.contains(*workload)
                && !seen.contains(*workload)
                && requests.could_reach(workload, &self.places)
        });
        let silent: Vec<String> = silent.cloned().collect();
        // A service's name in its spans may differ from its workload's: as many strangers as silent ones are no silence.
        let known =
            |name: &String| self.topology.services.iter().any(|service| &service.workload == name);
        let strangers = seen.iter().filter(|name| !known(name)).count();
        if strangers >= silent.len() { Vec::new() } else { silent }
    }
}
