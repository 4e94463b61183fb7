//! How far the clocks of services are apart, as the calls between them show in all traces together.

use std::collections::{BTreeMap, BTreeSet};

use harness_core::family::Family;

use crate::{
    case::{DRIVER_SERVICE, Topology},
    trace::{CLOCK_TOLERANCE, Span, Trace, TraceId},
};

/// Fewest traces in which a clock must be off by the same.
const AT_LEAST: usize = 2;

/// Offsets of clocks in nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks {
    /// By caller and callee, how far the callee's may be ahead of the caller's.
    pairs: BTreeMap<(String, String), Offset>,
    steps: Vec<Step>,
}

/// The offsets that all calls of one service to another allow, as an answer lies within its call.
#[derive(Debug, Clone)]
struct Offset {
    least: i64,
    most: i64,
    traces: BTreeSet<TraceId>,
    /// By how much each answer begins after its call.
    starts: Vec<(TraceId, i64)>,
}

impl Offset {
    /// Returns whether it may be none.
    fn is_well(&self) -> bool {
        self.least <= CLOCK_TOLERANCE && self.most >= -CLOCK_TOLERANCE
    }

    /// Returns the one offset, other than none, by which all calls of several traces are off.
    fn constant(&self) -> Option<i64> {
        // Where an answer lasts longer than its call, it is not the clock alone.
        let is_one = self.least <= self.most;
        let is_off = !self.is_well() && is_one && self.traces.len() >= AT_LEAST;
        is_off.then(|| self.least.midpoint(self.most))
    }
}

/// A span that begins before its parent of the same process.
#[derive(Debug, Clone)]
struct Step {
    workload: String,
    trace: TraceId,
    /// Negative.
    by: i64,
}

/// A clock that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongClock {
    /// Workload whose it is.
    pub(crate) workload: String,
    /// By how many nanoseconds it is ahead.
    pub(crate) ahead: i64,
    /// In how many traces it shows.
    pub(crate) traces: usize,
}

fn name<'a>(topology: &'a Topology, span: &'a Span) -> &'a str {
    topology.workload_of(span).unwrap_or(&span.service)
}

impl Clocks {
    pub(super) fn new(traces: &[&Trace], topology: &Topology) -> Self {
        let mut clocks = Self::default();
        for trace in traces {
            let family = Family::new(&trace.spans);
            for span in &trace.spans {
                if let Some(parent) = family.parent(span) {
                    clocks.look(topology, trace.id, parent, span);
                }
            }
        }
        clocks
    }

    fn look(&mut self, topology: &Topology, trace: TraceId, parent: &Span, span: &Span) {
        let (caller, callee) = (name(topology, parent), name(topology, span));
        let start = span.start.saturating_sub(parent.start);
        if caller == callee {
            if start < -CLOCK_TOLERANCE && parent.instance() == span.instance() {
                self.steps.push(Step { workload: callee.to_owned(), trace, by: start });
            }
            return;
        }
        // Only a caller that waits for its answer ends after it.
        if span.kind() != "server" || parent.kind() != "client" || parent.error {
            return;
        }
        let end = span.end().saturating_sub(parent.end());
        let pair = self.pairs.entry((caller.to_owned(), callee.to_owned()));
        let pair = pair.or_insert_with(|| Offset {
            least: i64::MIN,
            most: i64::MAX,
            traces: BTreeSet::new(),
            starts: Vec::new(),
        });
        (pair.least, pair.most) = (pair.least.max(end), pair.most.min(start));
        pair.traces.insert(trace);
        pair.starts.push((trace, start));
    }

    /// Returns whose clock it is, of two services, where all their calls are off by one amount, and the other's agrees with those of others.
    pub(crate) fn wrong(&self, caller: &str, callee: &str) -> Option<WrongClock> {
        let pair = self.pairs.get(&(caller.to_owned(), callee.to_owned()))?;
        let ahead = pair.constant()?;
        let others = |of: &str| {
            let others = self.pairs.iter().filter(move |((one, other), of_pair)| {
                (one == of || other == of) && !std::ptr::eq(*of_pair, pair)
            });
            let (well, off): (Vec<_>, Vec<_>) =
                others.map(|(_, offset)| offset).partition(|offset| offset.is_well());
            (!well.is_empty(), !off.is_empty())
        };
        let wrong = |workload: &str, ahead| {
            let workload = workload.to_owned();
            Some(WrongClock { workload, ahead, traces: pair.traces.len() })
        };
        match (others(caller), others(callee)) {
            ((false, true), (_, false)) if caller != DRIVER_SERVICE => wrong(caller, -ahead),
            ((true, false), _) => wrong(callee, ahead),
            _ if caller == DRIVER_SERVICE => wrong(callee, ahead),
            _ => None,
        }
    }

    /// Returns by how many nanoseconds, below zero, the clock of a workload was set back, in the trace, by a span of which a process shows
    /// that, where a call in another trace was off by as much while it was.
    pub(crate) fn step(&self, workload: &str, trace: TraceId, start: i64) -> Option<i64> {
        let of_workload = self.pairs.iter().filter(|((_, callee), _)| callee == workload);
        let starts: Vec<(TraceId, i64)> =
            of_workload.flat_map(|(_, offset)| offset.starts.iter().copied()).collect();
        let is_as_much = |one: i64, other: i64| one.abs_diff(other) <= TAKES.unsigned_abs();
        let of_steps = self.steps.iter().filter(|step| step.workload == workload);
        let mut fitting = of_steps.filter(|step| {
            let is_other =
                |(of, by): &(TraceId, i64)| *of != step.trace && is_as_much(*by, step.by);
            is_as_much(step.by, start)
                && starts.iter().any(is_other)
                && (step.trace == trace
                    || starts.iter().any(|(of, by)| *of == trace && is_as_much(*by, start)))
        });
        fitting.next().map(|step| step.by)
    }
}

/// How long a call or a piece of work may take to begin, by which two that are off by the same may differ: nanoseconds.
const TAKES: i64 = 100_000_000;
