//! Looks at all captured spans for what shows whose the strays are that are open.

use std::collections::{HashMap, HashSet};

use super::{
    CLOCKS, Search, Seen, Visit,
    calls::{asked, is_called},
    links, outer_parents,
};
use crate::{
    case::{
        DRIVER_SERVICE,
        call_facts::{self, CallFacts},
    },
    trace::{Span, SpanId, Trace, TraceId},
};

impl Search<'_> {
    /// Looks at all captured spans for what bears on the strays that are open.
    pub(super) fn look(&self, visit: Visit<'_>) -> Seen {
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
