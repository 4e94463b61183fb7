//! Finds out whose each stray trace is.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
};

use super::{
    ground::{Ground, Sent},
    recurring,
};
use crate::{
    case::{
        DRIVER_SERVICE, Origin, Stray,
        call_facts::{self, CallFacts},
    },
    span_links,
    trace::{Span, SpanId, Trace, TraceId},
    under_way::UnderWay,
};

/// How far clocks of different machines may lie apart: nanoseconds.
const CLOCKS: i64 = 5_000_000;
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
    let mut origins: Vec<Origin> =
        (0..strays.len()).map(|index| search.origin_of(index, &seen)).collect();
    recurring::assign(&strays, &mut origins, ground);
    let strays = strays.into_iter().zip(origins);
    strays.map(|(trace, origin)| Stray { trace, origin }).collect()
}

/// Those of these workloads that captured calls went to, or may have been passed on to, and which answered them, as the calls themselves
/// say.
pub(crate) fn called(
    workloads: BTreeSet<String>,
    ground: Ground<'_>,
    visit: Visit<'_>,
) -> BTreeSet<String> {
    if workloads.is_empty() {
        return workloads;
    }
    let search = Search::new(&[], ground);
    let (mut called, mut heard) = (BTreeSet::new(), HashSet::new());
    visit(&mut |span| {
        let is_call = matches!(span.kind(), "client" | "producer");
        // What could not be reached answers nothing.
        let is_answered = is_call && !span.error && !call_facts::is_of_a_store(span);
        if span.service != DRIVER_SERVICE && is_answered {
            called.extend(search.called(&CallFacts::of(span)));
        }
        if !heard.contains(search.workload(span)) {
            heard.insert(search.workload(span).to_owned());
        }
    });
    let is_called = |workload: &String| {
        called.iter().any(|to| search.ground.places.passes_on(to, workload, &heard))
    };
    workloads.into_iter().filter(is_called).collect()
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
    /// Strays that began while a service of a request's trace was at work that is given the address of the stray's and is never seen to
    /// call it, though the stray's own service is not in that trace; with that service.
    within: HashMap<usize, String>,
    /// Workloads of which some span was captured.
    heard: HashSet<String>,
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

    /// Returns whether all of a stray began before any request was sent.
    fn is_before_all(&self, index: usize) -> bool {
        self.is_before_requests(self.strays.get(index).and_then(|trace| trace.spans.last()))
    }

    /// Returns whether a stray began before any request was sent.
    fn is_begun_before_all(&self, index: usize) -> bool {
        self.is_before_requests(self.strays.get(index).and_then(|trace| trace.spans.first()))
    }

    fn is_before_requests(&self, span: Option<&Span>) -> bool {
        let first = self.ground.requests.first_sent_at;
        span.is_none_or(|span| first.is_none_or(|first| span.start < first))
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
            .filter_map(|index| Some((of(index)?.root()?, *index)))
            .filter(|(root, _)| is_called(root))
            .map(|(root, index)| (root.start, index))
            .collect();
        begun.sort_unstable();
        let mut served: HashMap<&str, HashSet<&str>> = HashMap::new();
        for root in open.iter().filter_map(|index| of(index)?.root()) {
            served.entry(self.workload(root)).or_default().insert(&root.resource);
        }
        // What services are asked to do in requests' traces as in strays.
        let mut usual: HashSet<(&str, &str)> = HashSet::new();
        let during = |start: i64, end: i64| {
            let from = begun.partition_point(|(at, _)| *at < start.saturating_sub(CLOCKS));
            begun.iter().skip(from).take_while(move |(at, _)| *at <= end.saturating_add(CLOCKS))
        };
        let is_stray = |span: &Span| self.index.contains_key(&span.trace_id);
        // Work on a request goes on in traces that a link connects with its own.
        let is_of_a_request = |span: &Span| self.owner_of(span.trace_id).is_some();
        let mut seen = Seen::default();
        let mut edges = Edges::default();
        let mut within: Vec<(usize, TraceId, String)> = Vec::new();
        visit(&mut |span| {
            if wanted.contains(&span.id) {
                seen.parents.insert(span.id, span.trace_id);
            }
            if span.service == DRIVER_SERVICE {
                return;
            }
            let workload = self.workload(span);
            if !seen.heard.contains(workload) {
                seen.heard.insert(workload.to_owned());
            }
            if !is_stray(span) {
                if span.kind() == "server"
                    && let Some((at, resources)) = served.get_key_value(workload)
                    && let Some(resource) = resources.get(span.resource.as_str())
                {
                    usual.insert((*at, *resource));
                }
                for to in links(span).filter(|to| self.index.contains_key(to)) {
                    seen.linked.entry(to).or_default().insert(span.trace_id);
                }
            }
            let is_call = matches!(span.kind(), "client" | "producer");
            if is_call && !call_facts::is_of_a_store(span) {
                if span.kind() == "client" {
                    edges.note(self, span);
                }
                if during(span.start, span.end()).next().is_some() {
                    seen.calls.push(self.call(span));
                }
            } else if (!is_stray(span) || is_of_a_request(span)) && !is_call {
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
        self.leave_out_what_is_answered(&mut seen, &mut within, visit);
        within.retain(|(index, _, at)| {
            let root = self.strays.get(*index).and_then(Trace::root);
            let heard = &seen.heard;
            root.is_some_and(|root| {
                let to = self.workload(root);
                let is_usual = usual.contains(&(to, root.resource.as_str()));
                self.may_call_unseen((at, to), is_usual, &edges, heard)
            })
        });
        seen.within = within.into_iter().rev().map(|(index, _, at)| (index, at)).collect();
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
            let root = self.strays.get(*index).and_then(Trace::root);
            root.is_some_and(|root| {
                let to = self.workload(root);
                self.ground.places.may_call(at, to, &seen.heard)
                    && !present.contains(&(*id, to.to_owned()))
            })
        });
    }

    /// Returns whether a workload is given an address behind which another is, and none of its calls that left a span could have gone there;
    /// or some have, and it was asked for what it is asked for in requests' own traces, which third parties hardly know.
    fn may_call_unseen(
        &self,
        (caller, to): (&str, &str),
        is_usual: bool,
        edges: &Edges,
        heard: &HashSet<String>,
    ) -> bool {
        let places = self.ground.places;
        let callees = places.callees.get(caller).into_iter().flatten();
        !edges.anywhere.contains(caller)
            && callees.filter(|callee| places.passes_on(callee, to, heard)).any(|callee| {
                is_usual || !edges.seen.contains(&(caller.to_owned(), callee.clone()))
            })
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
        let is_known = |name: &str| {
            self.ground.topology.services.iter().any(|of| of.workload == name)
                || self.ground.places.untraced.contains(name)
        };
        if let Some(host) = &facts.host {
            let label = host.split('.').next().unwrap_or_default();
            if is_known(label) {
                return Some(label.to_owned());
            }
        }
        // An address of this machine: its port identifies who listens there.
        let host = facts.host.as_deref().unwrap_or_default();
        let is_here = host == "localhost" || host.starts_with("127.") || host.contains("::1");
        let at = self.ground.places.workload_at(facts.port.filter(|_| is_here)?)?;
        is_known(at).then(|| at.to_owned())
    }

    /// Gives each call that nobody answers the stray that fits it best, and follows what that shows.
    fn by_call(&mut self, seen: &Seen) {
        let mut taken: HashSet<usize> = HashSet::new();
        let calls = seen.calls.iter().enumerate();
        let calls = UnderWay::new(calls.map(|of| (of.1.start, of.1.end, of)));
        loop {
            let mut pairs = Vec::new();
            for (index, trace) in self.strays.iter().enumerate() {
                let Some(root) =
                    trace.root().filter(|root| self.is_open_at(index) && is_called(root))
                else {
                    continue;
                };
                let facts = CallFacts::of(root);
                for (number, call) in calls.at(root.start, CLOCKS) {
                    if !taken.contains(&number)
                        && self.owner_of(call.of).is_some()
                        && let Some(fit) = self.fit(call, root, &facts, seen)
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
    fn fit(&self, call: &Call, root: &Span, facts: &CallFacts, seen: &Seen) -> Option<u32> {
        let at = self.workload(root);
        let during = call.start.saturating_sub(CLOCKS)..=call.end.saturating_add(CLOCKS);
        let reaches = |to: &String| self.ground.places.passes_on(to, at, &seen.heard);
        let through_a_proxy = call.to.as_ref().is_some_and(|to| to != at);
        let possible = during.contains(&root.start)
            && call.of != root.trace_id
            && (root.kind() == "consumer") == call.is_message
            && at != call.caller
            && call.to.as_ref().is_none_or(reaches)
            && call.facts.may_be(facts, through_a_proxy);
        possible.then(|| 8 * u32::from(call.to.is_some()) + call.facts.in_common(facts))
    }

    /// Returns the origin of a stray, once everything that leads to requests was followed.
    fn origin_of(&self, index: usize, seen: &Seen) -> Origin {
        if let Some(Some(found)) = self.found.get(index) {
            return found.clone();
        }
        let Some(root) = self.strays.get(index).and_then(Trace::root) else {
            return Origin::Foreign;
        };
        let at = self.workload(root);
        let declares = |own: &crate::system::OwnTraces| {
            (own.service == at || own.service.eq_ignore_ascii_case(&root.service))
                && own.is_about(&root.resource)
        };
        if self.is_begun_before_all(index) {
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
        } else if root.kind() == "server" {
            match seen.within.get(&index).filter(|_| !is_refused(root)) {
                Some(caller) => Origin::Unrecorded { caller: caller.clone() },
                None => match self.silent_caller(at, seen).filter(|_| !is_refused(root)) {
                    Some(caller) => Origin::Unrecorded { caller },
                    None => Origin::Foreign,
                },
            }
        } else {
            Origin::Unexplained
        }
    }

    /// The only traced service of which no span was captured and that is given the address of a workload.
    fn silent_caller(&self, to: &str, seen: &Seen) -> Option<String> {
        let services = self.ground.topology.services.iter().map(|one| &one.workload);
        let mut silent = services.filter(|caller| {
            *caller != to
                && !seen.heard.contains(*caller)
                && self.ground.places.may_call(caller, to, &seen.heard)
        });
        let only = silent.next()?;
        silent.next().is_none().then(|| only.clone())
    }

    fn is_probe(&self, root: &Span) -> bool {
        if root.kind() != "server" {
            return false;
        }
        let agent =
            call_facts::text(root, &["user_agent.original", "http.user_agent", "http.useragent"]);
        let agent = agent.unwrap_or_default();
        let service = call_facts::text(root, &["rpc.service"]).unwrap_or_default();
        if PROBES.iter().any(|known| agent.starts_with(known))
            || PROBED_SERVICES.contains(&service.as_str())
        {
            return true;
        }
        let Some(path) = CallFacts::of(root).path else { return false };
        let at = self.workload(root);
        let is_health = |of: &String| call_facts::without_query(of) == path;
        let is_ledger = path == "/ledger" || path.starts_with("/ledger/");
        self.ground.places.health.get(at).is_some_and(is_health)
            || (is_ledger && self.ground.places.with_ledger.contains(at))
    }

    fn workload<'s>(&'s self, span: &'s Span) -> &'s str {
        self.ground.topology.workload_of(span).unwrap_or(&span.service)
    }
}

/// The calls of workloads that left spans, however they ended.
#[derive(Debug, Default)]
struct Edges {
    /// Pairs of caller and callee.
    seen: HashSet<(String, String)>,
    /// Callers of which a span has no address of the callee.
    anywhere: HashSet<String>,
}

impl Edges {
    fn note(&mut self, search: &Search<'_>, span: &Span) {
        let (caller, facts) = (search.workload(span), CallFacts::of(span));
        match search.called(&facts) {
            Some(to) => {
                self.seen.insert((caller.to_owned(), to));
            }
            // What has an address that is none of the system's went elsewhere.
            None if facts.host.is_some() => {}
            None => {
                self.anywhere.insert(caller.to_owned());
            }
        }
    }
}

/// Returns whether what was asked for was refused.
fn is_refused(root: &Span) -> bool {
    CallFacts::of(root).status.is_some_and(|status| (400..500).contains(&status))
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

/// The spans of a trace whose parents are not in it, with those.
fn outer_parents(trace: &Trace) -> impl Iterator<Item = (SpanId, SpanId)> {
    let ids: HashSet<SpanId> = trace.spans.iter().map(|span| span.id).collect();
    let named = trace.spans.iter().filter_map(|span| Some((span.id, span.parent_id?)));
    named.filter(move |(_, parent)| !ids.contains(parent))
}

/// The traces that a span links to.
fn links(span: &Span) -> impl Iterator<Item = TraceId> {
    span_links::to_other_traces(span).map(|(trace, _)| trace)
}
