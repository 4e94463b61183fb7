//! Finds out whose each stray trace is.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
};

use serde::Deserialize;

use super::{
    facts::{self, CallFacts},
    ground::{Ground, Sent},
};
use crate::{
    case::{DRIVER_SERVICE, Origin, Stray},
    trace::{Span, SpanId, Trace, TraceId},
};

/// How far clocks of different machines may lie apart: nanoseconds.
const CLOCKS: i64 = 5_000_000;
/// Meta in which a span's links stand, as JSON.
const LINKS: &str = "_dd.span_links";
/// How those call themselves who ask a service whether it is well.
const PROBES: [&str; 4] = ["kube-probe/", "ELB-HealthChecker/", "GoogleHC/", "Consul Health Check"];
/// Services by which a gRPC server is asked whether it is well, and what it can do.
const PROBED_SERVICES: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Looks at every captured span.
pub(crate) type Visit<'a> = &'a dyn Fn(&mut dyn FnMut(&Span));

/// Finds out whose each of these traces is, which no request claims. `visit` shows all captured spans; they are only looked at where
/// the strays alone do not say.
pub(crate) fn resolve(strays: Vec<Trace>, ground: Ground<'_>, visit: Visit<'_>) -> Vec<Stray> {
    if strays.is_empty() {
        return Vec::new();
    }
    let mut search = Search::new(&strays, ground);
    search.by_answer();
    search.by_link(&Seen::default());
    let mut seen = Seen::default();
    if search.is_open() {
        seen = search.look(visit);
        search.follow(&seen);
        search.by_call(&seen);
    }
    let origins: Vec<Origin> =
        (0..strays.len()).map(|index| search.origin_of(index, &seen)).collect();
    let strays = strays.into_iter().zip(origins);
    strays.map(|(trace, origin)| Stray { trace, origin }).collect()
}

/// A call that nobody is seen to answer in its caller's trace.
#[derive(Debug)]
struct Call {
    of: TraceId,
    span: SpanId,
    caller: String,
    what: String,
    /// The workload that was called, where that is known for certain.
    to: Option<String>,
    /// Whether it is a message, and not a call that is answered.
    is_message: bool,
    start: i64,
    end: i64,
    facts: CallFacts,
}

/// Index over the spans of claimed traces.
#[derive(Debug, Default)]
struct Seen {
    /// Spans that strays name as parents, with the traces that they are of.
    parents: HashMap<SpanId, TraceId>,
    /// Traces that claimed ones link to, with those that do.
    linked: HashMap<TraceId, BTreeSet<TraceId>>,
    calls: Vec<Call>,
    /// Strays that began while a service of a request's trace was under way that is given the address of the stray's and is never seen to
    /// call anybody, though the stray's own service is not in that trace.
    within: HashSet<usize>,
}

struct Search<'a> {
    strays: &'a [Trace],
    ground: Ground<'a>,
    /// The place of each stray, by its id.
    index: HashMap<TraceId, usize>,
    /// The traces that each links to.
    links: Vec<Vec<TraceId>>,
    /// The strays that link to a trace.
    linked_from: HashMap<TraceId, Vec<usize>>,
    found: Vec<Option<Origin>>,
}

impl<'a> Search<'a> {
    fn new(strays: &'a [Trace], ground: Ground<'a>) -> Self {
        let index = strays.iter().enumerate().map(|(index, trace)| (trace.id, index)).collect();
        let links: Vec<Vec<TraceId>> =
            strays.iter().map(|trace| trace.spans.iter().flat_map(links).collect()).collect();
        let mut linked_from: HashMap<TraceId, Vec<usize>> = HashMap::new();
        for (from, to) in links.iter().enumerate() {
            for to in to {
                linked_from.entry(*to).or_default().push(from);
            }
        }
        Self { strays, ground, index, links, linked_from, found: vec![None; strays.len()] }
    }

    fn owner(&self, index: usize) -> Option<TraceId> {
        self.found.get(index)?.as_ref()?.owner()
    }

    /// The request's trace that a trace is, or belongs to.
    fn owner_of(&self, id: TraceId) -> Option<TraceId> {
        match self.ground.requests.claims.contains(&id) {
            true => Some(id),
            false => self.owner(*self.index.get(&id)?),
        }
    }

    fn set(&mut self, index: usize, origin: Origin) {
        if let Some(found) = self.found.get_mut(index) {
            found.get_or_insert(origin);
        }
    }

    /// Returns whether there is a stray that may belong to a request and is not known to.
    fn is_open(&self) -> bool {
        (0..self.strays.len()).any(|index| self.is_open_at(index))
    }

    fn is_open_at(&self, index: usize) -> bool {
        self.found.get(index).is_some_and(Option::is_none) && !self.is_before_all(index)
    }

    /// Returns whether a stray began before any request was sent.
    fn is_before_all(&self, index: usize) -> bool {
        let first = self.ground.requests.first_sent_at;
        let start = self.strays.get(index).and_then(|trace| trace.spans.first());
        start.is_none_or(|span| first.is_none_or(|first| span.start < first))
    }

    fn by_answer(&mut self) {
        let strays = self.strays;
        for (index, trace) in strays.iter().enumerate() {
            if let Some(of) = self.ground.requests.answers.get(&trace.id) {
                self.set(index, Origin::Answer { of: *of });
            }
        }
    }

    /// Follows links from requests' traces, and from strays whose owner is known: first to those that link to them, which belong to
    /// all that they link to; then the other way, to those that are nobody's yet.
    fn by_link(&mut self, seen: &Seen) {
        let by_other_evidence = |search: &Self, index: usize| {
            search.owner(index).filter(|_| {
                search
                    .found
                    .get(index)
                    .is_some_and(|found| !found.as_ref().is_some_and(Origin::is_link))
            })
        };
        let claims = &self.ground.requests.claims;
        let mut owners: Vec<BTreeSet<TraceId>> = Vec::new();
        for (index, trace) in self.strays.iter().enumerate() {
            let of = match by_other_evidence(self, index) {
                Some(of) => BTreeSet::from([of]),
                None => {
                    let to = self.links.get(index).into_iter().flatten();
                    let from = seen.linked.get(&trace.id).into_iter().flatten();
                    to.filter(|id| claims.contains(id)).chain(from).copied().collect()
                }
            };
            owners.push(of);
        }
        let mut is_open: Vec<bool> =
            (0..owners.len()).map(|index| by_other_evidence(self, index).is_none()).collect();
        self.spread(&mut owners, &is_open, |search, index| {
            let from = search.strays.get(index).and_then(|trace| search.linked_from.get(&trace.id));
            from.into_iter().flatten().copied().collect()
        });
        for (is_open, owners) in is_open.iter_mut().zip(&owners) {
            *is_open &= owners.is_empty();
        }
        self.spread(&mut owners, &is_open, |search, index| {
            let to = search.links.get(index).into_iter().flatten();
            let to = to.filter_map(|id| search.index.get(id).copied());
            let from = search.strays.get(index).and_then(|trace| search.linked_from.get(&trace.id));
            to.chain(from.into_iter().flatten().copied()).collect()
        });
        for (index, owners) in owners.into_iter().enumerate() {
            let mut owners = owners.into_iter();
            if by_other_evidence(self, index).is_none()
                && let Some(of) = owners.next()
                && let Some(found) = self.found.get_mut(index)
            {
                *found = Some(Origin::Link { of, also: owners.collect() });
            }
        }
    }

    /// Hands the owners of each stray on to those that are open and `next` to it, until nothing changes.
    fn spread(
        &self,
        owners: &mut [BTreeSet<TraceId>],
        is_open: &[bool],
        next: impl Fn(&Self, usize) -> Vec<usize>,
    ) {
        let mut queue: VecDeque<usize> = (0..owners.len()).collect();
        while let Some(index) = queue.pop_front() {
            let Some(of) = owners.get(index).filter(|of| !of.is_empty()).cloned() else { continue };
            for index in next(self, index) {
                if is_open.get(index).copied().unwrap_or_default()
                    && let Some(owners) = owners.get_mut(index)
                {
                    let before = owners.len();
                    owners.extend(of.iter().copied());
                    if owners.len() > before {
                        queue.push_back(index);
                    }
                }
            }
        }
    }

    /// Follows links and parents until nothing more is found.
    fn follow(&mut self, seen: &Seen) {
        loop {
            self.by_link(seen);
            let before = self.found.iter().flatten().count();
            let strays = self.strays;
            for (index, trace) in strays.iter().enumerate() {
                if self.is_open_at(index)
                    && let Some(origin) = self.by_parent(trace, seen)
                {
                    self.set(index, origin);
                }
            }
            if self.found.iter().flatten().count() == before {
                return;
            }
        }
    }

    fn by_parent(&self, trace: &Trace, seen: &Seen) -> Option<Origin> {
        let ended = &self.ground.requests.ended;
        let moved = trace.spans.iter().find_map(|span| Some((span.id, *ended.get(&span.id)?)));
        if let Some((span, of)) = moved {
            return Some(Origin::Moved { of, span });
        }
        outer_parents(trace).find_map(|(span, parent)| {
            let of = ended.get(&parent).or_else(|| seen.parents.get(&parent))?;
            Some(Origin::Parent { of: self.owner_of(*of)?, span, parent })
        })
    }

    /// Looks at all captured spans for what bears on the strays that are open.
    fn look(&self, visit: Visit<'_>) -> Seen {
        let open: Vec<usize> =
            (0..self.strays.len()).filter(|index| self.is_open_at(*index)).collect();
        let of = |index: &usize| self.strays.get(*index);
        let wanted: HashSet<SpanId> = open
            .iter()
            .filter_map(of)
            .flat_map(|trace| outer_parents(trace).map(|(_, parent)| parent))
            .collect();
        // Those that a call may have begun.
        let mut begun: Vec<(i64, usize)> = open
            .iter()
            .filter_map(|index| Some((root(of(index)?)?, *index)))
            .filter(|(root, _)| is_called(root))
            .map(|(root, index)| (root.start, index))
            .collect();
        begun.sort_unstable();
        let during = |start: i64, end: i64| {
            let from = begun.partition_point(|(at, _)| *at < start.saturating_sub(CLOCKS));
            begun.iter().skip(from).take_while(move |(at, _)| *at <= end.saturating_add(CLOCKS))
        };
        let is_stray = |span: &Span| self.index.contains_key(&span.trace_id);
        let mut seen = Seen::default();
        let mut callers: HashSet<String> = HashSet::new();
        let mut within: Vec<(usize, TraceId, String)> = Vec::new();
        visit(&mut |span| {
            if wanted.contains(&span.id) {
                seen.parents.insert(span.id, span.trace_id);
            }
            if span.service == DRIVER_SERVICE {
                return;
            }
            if !is_stray(span) {
                for to in links(span).filter(|to| self.index.contains_key(to)) {
                    seen.linked.entry(to).or_default().insert(span.trace_id);
                }
            }
            let is_call = matches!(span.kind(), "client" | "producer");
            if is_call {
                callers.insert(self.workload(span).to_owned());
            }
            if is_call && !facts::is_of_a_store(span) {
                if during(span.start, span.end()).next().is_some() {
                    seen.calls.push(self.call(span));
                }
            } else if !is_stray(span) && !is_call {
                let at = self.workload(span);
                within.extend(
                    during(span.start, span.end())
                        .map(|(_, index)| (*index, span.trace_id, at.to_owned())),
                );
            }
        });
        let calls = self.ground.requests.sent.iter();
        let calls = calls.filter(|sent| during(sent.sent_at, sent.ended_at).next().is_some());
        seen.calls.extend(calls.map(asked));
        within.retain(|(_, _, at)| !callers.contains(at));
        self.leave_out_what_is_answered(&mut seen, &mut within, visit);
        seen
    }

    /// Takes away the calls that somebody answers in the caller's trace, and the traces in which a stray's service is.
    fn leave_out_what_is_answered(
        &self,
        seen: &mut Seen,
        within: &mut Vec<(usize, TraceId, String)>,
        visit: Visit<'_>,
    ) {
        let calls: HashMap<(TraceId, SpanId), usize> = seen
            .calls
            .iter()
            .enumerate()
            .map(|(index, call)| ((call.of, call.span), index))
            .collect();
        let without_context: HashSet<TraceId> = {
            let sent = self.ground.requests.sent.iter();
            sent.filter(|sent| !sent.context_sent).map(|sent| sent.trace_id).collect()
        };
        let of_interest: HashSet<TraceId> = within.iter().map(|(_, id, _)| *id).collect();
        let mut answered: HashSet<(TraceId, SpanId)> = HashSet::new();
        let mut begun_without: HashSet<TraceId> = HashSet::new();
        let mut present: HashSet<(TraceId, String)> = HashSet::new();
        visit(&mut |span| {
            if span.service == DRIVER_SERVICE {
                return;
            }
            if without_context.contains(&span.trace_id) {
                begun_without.insert(span.trace_id);
            }
            if of_interest.contains(&span.trace_id) {
                present.insert((span.trace_id, self.workload(span).to_owned()));
            }
            let Some(parent) = span.parent_id else { return };
            let key = (span.trace_id, parent);
            if let Some(call) = calls.get(&key).and_then(|index| seen.calls.get(*index))
                && (is_called(span) || self.workload(span) != call.caller)
            {
                answered.insert(key);
            }
        });
        seen.calls.retain(|call| {
            let is_answered = answered.contains(&(call.of, call.span))
                || (call.caller == DRIVER_SERVICE && begun_without.contains(&call.of));
            !is_answered
        });
        within.retain(|(index, id, at)| {
            let root = self.strays.get(*index).and_then(root);
            root.is_some_and(|root| {
                let callees = self.ground.places.callees.get(at);
                let to = self.workload(root);
                callees.is_some_and(|callees| callees.contains(to))
                    && !present.contains(&(*id, to.to_owned()))
            })
        });
        seen.within = within.iter().map(|(index, ..)| *index).collect();
    }

    fn call(&self, span: &Span) -> Call {
        let facts = CallFacts::of(span);
        Call {
            of: span.trace_id,
            span: span.id,
            caller: self.workload(span).to_owned(),
            what: span.resource.clone(),
            to: self.called(&facts),
            is_message: span.kind() == "producer",
            start: span.start,
            end: span.end(),
            facts,
        }
    }

    /// The workload of the system that a call says it went to.
    fn called(&self, facts: &CallFacts) -> Option<String> {
        let services = || self.ground.topology.services.iter();
        if let Some(host) = &facts.host {
            let label = host.split('.').next().unwrap_or_default();
            if let Some(named) = services().find(|of| of.workload == label) {
                return Some(named.workload.clone());
            }
        }
        // An address of this machine: its port identifies who listens there.
        let host = facts.host.as_deref().unwrap_or_default();
        let is_here = host == "localhost" || host.starts_with("127.") || host.contains("::1");
        let at = self.ground.places.workload_at(facts.port.filter(|_| is_here)?)?;
        services().find(|of| of.workload == at).map(|of| of.workload.clone())
    }

    /// Gives each call that nobody answers the stray that fits it best, and follows what that shows.
    fn by_call(&mut self, seen: &Seen) {
        let mut taken: HashSet<usize> = HashSet::new();
        loop {
            let mut pairs = Vec::new();
            for (index, trace) in self.strays.iter().enumerate() {
                let Some(root) =
                    root(trace).filter(|root| self.is_open_at(index) && is_called(root))
                else {
                    continue;
                };
                let facts = CallFacts::of(root);
                for (number, call) in seen.calls.iter().enumerate() {
                    if !taken.contains(&number)
                        && self.owner_of(call.of).is_some()
                        && let Some(fit) = self.fit(call, root, &facts)
                    {
                        let narrow = call.end.saturating_sub(call.start);
                        let near = root.start.saturating_sub(call.start).abs();
                        pairs.push((Reverse(fit), narrow, near, index, number));
                    }
                }
            }
            pairs.sort_unstable();
            let mut is_done = true;
            for (.., index, number) in pairs {
                let Some(call) = seen.calls.get(number) else { continue };
                if self.is_open_at(index)
                    && let Some(of) = self.owner_of(call.of)
                    && taken.insert(number)
                {
                    let (caller, what) = (call.caller.clone(), call.what.clone());
                    self.set(index, Origin::Call { of, call: call.span, caller, what });
                    is_done = false;
                }
            }
            if is_done {
                return;
            }
            self.follow(seen);
        }
    }

    /// How well a stray's beginning fits a call; `None` where it cannot be its answer.
    fn fit(&self, call: &Call, root: &Span, facts: &CallFacts) -> Option<u32> {
        let at = self.workload(root);
        let during = call.start.saturating_sub(CLOCKS)..=call.end.saturating_add(CLOCKS);
        let possible = during.contains(&root.start)
            && call.of != root.trace_id
            && (root.kind() == "consumer") == call.is_message
            && at != call.caller
            && call.to.as_ref().is_none_or(|to| to == at)
            && call.facts.may_be(facts);
        possible.then(|| 8 * u32::from(call.to.is_some()) + call.facts.in_common(facts))
    }

    /// Returns the origin of a stray, once everything that leads to requests was followed.
    fn origin_of(&self, index: usize, seen: &Seen) -> Origin {
        if let Some(Some(found)) = self.found.get(index) {
            return found.clone();
        }
        let Some(root) = self.strays.get(index).and_then(root) else { return Origin::Foreign };
        let at = self.workload(root);
        let declares = |own: &crate::system::OwnTraces| {
            (own.service == at || own.service.eq_ignore_ascii_case(&root.service))
                && own.is_about(&root.resource)
        };
        if self.is_before_all(index) {
            Origin::StartUp
        } else if self.ground.places.own_traces.iter().any(declares) {
            Origin::Declared
        } else if self.is_probe(root) {
            Origin::Probe
        } else if self.ground.requests.is_starting(at, root.start) {
            Origin::StartUp
        } else if root.parent_id.is_some() || root.service == DRIVER_SERVICE {
            // It goes on with what somebody began who is not of this run.
            Origin::Foreign
        } else if root.kind() == "server" && !self.may_be_lost(index, root, seen) {
            Origin::Foreign
        } else {
            Origin::Unexplained
        }
    }

    fn is_probe(&self, root: &Span) -> bool {
        if root.kind() != "server" {
            return false;
        }
        let agent =
            facts::text(root, &["user_agent.original", "http.user_agent", "http.useragent"]);
        let agent = agent.unwrap_or_default();
        let service = facts::text(root, &["rpc.service"]).unwrap_or_default();
        if PROBES.iter().any(|known| agent.starts_with(known))
            || PROBED_SERVICES.contains(&service.as_str())
        {
            return true;
        }
        let Some(path) = CallFacts::of(root).path else { return false };
        let at = self.workload(root);
        let is_health = |of: &String| facts::without_query(of) == path;
        let is_ledger = path == "/ledger" || path.starts_with("/ledger/");
        self.ground.places.health.get(at).is_some_and(is_health)
            || (is_ledger && self.ground.places.with_ledger.contains(at))
    }

    /// Returns whether a service that was called by nobody known may have been called by one of this run whose calls leave no span.
    fn may_be_lost(&self, index: usize, root: &Span, seen: &Seen) -> bool {
        let is_refused =
            CallFacts::of(root).status.is_some_and(|status| (400..500).contains(&status));
        !is_refused && seen.within.contains(&index)
    }

    fn workload<'s>(&'s self, span: &'s Span) -> &'s str {
        self.ground.topology.workload_of(span).unwrap_or(&span.service)
    }
}

/// A request as the call that it is to its entry.
fn asked(sent: &Sent) -> Call {
    let Sent { method, path, is_rpc, .. } = sent;
    let procedure = path.rsplit('/').next().unwrap_or_default();
    Call {
        of: sent.trace_id,
        span: sent.driver_span,
        caller: DRIVER_SERVICE.to_owned(),
        what: format!("{method} {path}"),
        to: sent.to.clone(),
        is_message: false,
        start: sent.sent_at,
        end: sent.ended_at,
        facts: CallFacts {
            method: (!is_rpc).then(|| method.clone()),
            path: (!is_rpc).then(|| path.clone()),
            procedure: is_rpc.then(|| procedure.to_owned()),
            status: sent.status,
            ..CallFacts::default()
        },
    }
}

/// Returns whether a span is the answer to a call, or takes a message.
fn is_called(span: &Span) -> bool {
    matches!(span.kind(), "server" | "consumer")
}

/// The span that a trace begins with, as far as it was captured: the first without a parent, else the first whose parent is not in it.
pub(super) fn root(trace: &Trace) -> Option<&Span> {
    let roots = trace.spans.iter().find(|span| span.parent_id.is_none());
    roots.or_else(|| {
        let ids: BTreeSet<SpanId> = trace.spans.iter().map(|span| span.id).collect();
        trace.spans.iter().find(|span| span.parent_id.is_some_and(|id| !ids.contains(&id)))
    })
}

/// The spans of a trace whose parents are not in it, with those.
fn outer_parents(trace: &Trace) -> impl Iterator<Item = (SpanId, SpanId)> {
    let ids: HashSet<SpanId> = trace.spans.iter().map(|span| span.id).collect();
    let named = trace.spans.iter().filter_map(|span| Some((span.id, span.parent_id?)));
    named.filter(move |(_, parent)| !ids.contains(parent))
}

/// The traces that a span links to.
fn links(span: &Span) -> impl Iterator<Item = TraceId> {
    #[derive(Deserialize)]
    struct Link {
        trace_id: String,
    }
    let listed = span.meta.get(LINKS).and_then(|text| serde_json::from_str::<Vec<Link>>(text).ok());
    let ids = listed.into_iter().flatten().filter_map(|link| link.trace_id.parse().ok());
    let own = span.trace_id;
    ids.filter(move |id| *id != own)
}
