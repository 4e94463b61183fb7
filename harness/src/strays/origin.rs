//! Finds out whose each stray trace is.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::{
    ground::{Ground, Visit},
    lacking, recurring,
};
use crate::{
    case::{
        DRIVER_SERVICE, Origin, Stray,
        call_facts::{self, CallFacts},
    },
    span_links,
    trace::{Span, SpanId, Trace, TraceId},
};

mod calls;
mod look;

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
    lacking::assign(&strays, &mut origins, ground, visit);
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

/// Returns whether what was asked for was refused.
fn is_refused(root: &Span) -> bool {
    CallFacts::of(root).status.is_some_and(|status| (400..500).contains(&status))
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
