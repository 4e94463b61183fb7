//! Gives calls that nobody is seen to answer the strays that are their answers.

use std::{cmp::Reverse, collections::HashSet};

use super::{CLOCKS, Call, Search, Seen};
use crate::{
    case::{DRIVER_SERVICE, Origin, call_facts::CallFacts},
    in_progress::InProgress,
    strays::ground::Sent,
    trace::Span,
};

impl Search<'_> {
    pub(super) fn call(&self, span: &Span) -> Call {
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

    /// Returns the workload of the system that a call says it went to.
    pub(super) fn called(&self, facts: &CallFacts) -> Option<String> {
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
    pub(super) fn by_call(&mut self, seen: &Seen) {
        let mut taken: HashSet<usize> = HashSet::new();
        let calls = seen.calls.iter().enumerate();
        let calls = InProgress::new(calls.map(|of| (of.1.start, of.1.end, of)));
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

    /// Returns how well a stray's beginning fits a call; `None` where it cannot be its answer.
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
}

/// Returns a request as the call that it is to its entry.
pub(super) fn asked(sent: &Sent) -> Call {
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
pub(super) fn is_called(span: &Span) -> bool {
    matches!(span.kind(), "server" | "consumer")
}
