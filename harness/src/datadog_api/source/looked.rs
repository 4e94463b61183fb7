//! Knowledge about one trace that is being looked for.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant as StdInstant, SystemTime},
};

use tokio::time::Instant;

use super::{Endpoint, LIVE, Spans};
use crate::trace::{Span, Trace, unix_nanos};

/// Proof that something missing did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Spans of the same services that began later have been seen.
    LaterSpans,
    /// The trace is older than what Datadog may take.
    Age,
}

/// Query that found a trace, and the number of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Endpoint of the query.
    pub by: Endpoint,
    /// Number of queries for the trace.
    pub looks: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Looked {
    proof: Proof,
    pub(super) since: Instant,
    /// When its request was sent: nanoseconds since the Unix epoch.
    pub(super) from: i64,
    /// When it was answered.
    pub(super) ended_at: i64,
    /// Services that should be in it, as Datadog names them.
    pub(super) services: BTreeSet<String>,
    /// When to look again.
    pub(super) next: Instant,
    looks: u32,
    misses: u32,
    pub(super) spans: Vec<Span>,
    pub(super) grew_at: Option<StdInstant>,
    by: Option<Endpoint>,
    partial: Vec<String>,
    /// Whether a later look has shown the same.
    pub(super) confirmed: bool,
    /// Whether it need not be looked for any more.
    pub(super) over: bool,
    /// The reason why the last query gave no result.
    pub(super) trouble: Option<String>,
    /// Services of which a span that began later has been seen.
    pub(super) witnesses: BTreeSet<String>,
    pub(super) witness_trouble: Option<String>,
    pub(super) next_witness: Instant,
    /// Traces of the same services that began while this one was in progress.
    pub(super) apart: Vec<Trace>,
}

impl Looked {
    pub(super) fn new(proof: Proof, from: i64, ended_at: i64, services: BTreeSet<String>) -> Self {
        let now = Instant::now();
        Self {
            proof,
            since: now,
            from,
            ended_at,
            services,
            next: now,
            looks: 0,
            misses: 0,
            spans: Vec::new(),
            grew_at: None,
            by: None,
            partial: Vec::new(),
            confirmed: false,
            over: false,
            trouble: None,
            witnesses: BTreeSet::new(),
            witness_trouble: None,
            next_witness: now,
            apart: Vec::new(),
        }
    }

    pub(super) fn trace(&self) -> Option<Trace> {
        let first = self.spans.first()?;
        Some(Trace::new(first.trace_id, self.spans.clone()))
    }

    pub(super) fn found(&self) -> Option<Found> {
        Some(Found { by: self.by?, looks: self.looks })
    }

    /// The latest time in which its spans may have begun; `None` where that is now.
    pub(super) fn until(&self) -> Option<i64> {
        (self.proof == Proof::Age).then_some(self.ended_at)
    }

    /// Takes over what a look has shown.
    pub(super) fn show(&mut self, reported: Spans, by: Endpoint) {
        self.looks += 1;
        self.trouble = None;
        if reported.spans.is_empty() {
            return self.show_nothing();
        }
        let same = reported.spans.len() == self.spans.len()
            && reported.spans.iter().all(|span| self.spans.iter().any(|known| known.id == span.id));
        // Answers come from several stores, and a later one may know less for a while.
        let less = reported.spans.len() < self.spans.len();
        self.confirmed = same;
        if !less {
            if !same {
                self.grew_at = Some(StdInstant::now());
            }
            self.partial = reported.partial;
            self.by = Some(by);
            self.spans = reported.spans;
        }
        self.misses = 0;
    }

    /// A look has shown that there is nothing yet.
    pub(super) fn show_nothing(&mut self) {
        self.looks += 1;
        self.misses += 1;
        self.trouble = None;
    }

    /// Returns whether its id was not found often enough to try it by its spans.
    pub(super) fn is_to_be_searched(&self) -> bool {
        self.spans.is_empty() && self.misses % 3 == 2
    }

    pub(super) fn lacks_witnesses(&self) -> bool {
        self.proof == Proof::LaterSpans && !self.services.is_subset(&self.witnesses)
    }

    /// Returns whether half of its time is over, and later spans are still unknown.
    pub(super) fn wants_witnesses(&self, patience: Duration, now: Instant) -> bool {
        !self.over && self.lacks_witnesses() && now >= self.since + patience / 2
    }

    /// See [`crate::evidence::EvidenceSource::unsettled`].
    pub(super) fn unsettled(&self, patience: Duration, host: &str) -> Option<String> {
        let wait = humantime::format_duration(Duration::from_secs(patience.as_secs().max(1)));
        if self.spans.is_empty() {
            let looks = match &self.trouble {
                Some(trouble) => format!("the last query failed. {trouble}"),
                None => format!("it was asked {} times", self.looks),
            };
            return Some(format!(
                "Datadog ({host}) has shown no span of this trace within {wait}: {looks}. It may take longer (--patience), the collector may send to another site or organization (DD_SITE), or the spans are sampled out or not retained there"
            ));
        }
        if !self.partial.is_empty() {
            return Some(format!("Datadog's response is incomplete: {}", self.partial.join("; ")));
        }
        if let Some(trouble) = &self.trouble {
            return Some(format!("the last query to Datadog failed. {trouble}"));
        }
        match self.proof {
            Proof::Age => self.too_young(patience, &wait.to_string()),
            Proof::LaterSpans => {
                let missing: Vec<String> = self
                    .services
                    .difference(&self.witnesses)
                    .map(|name| format!("`{name}`"))
                    .collect();
                let trouble = self
                    .witness_trouble
                    .as_ref()
                    .map_or_else(String::new, |trouble| format!(" ({trouble})"));
                (!missing.is_empty()).then(|| {
                    format!(
                        "no span of {} that began later has been seen in Datadog within {wait}{trouble}, so what is missing may be on its way still (--patience), or is not kept there",
                        missing.join(", ")
                    )
                })
            }
        }
    }

    fn too_young(&self, patience: Duration, wait: &str) -> Option<String> {
        let newest = self.spans.iter().map(Span::end).max().unwrap_or(0);
        let age = unix_nanos(SystemTime::now()).saturating_sub(newest);
        let age = Duration::from_nanos(age.max(0).unsigned_abs());
        if age < patience {
            return Some(format!(
                "its newest span ended only {} ago, and Datadog may take {wait} to show a span (--patience): try again later",
                humantime::format_duration(Duration::from_secs(age.as_secs()))
            ));
        }
        (self.by == Some(Endpoint::Spans) && age > LIVE).then(|| {
            "it was found by the spans search, which shows only retained spans of a trace that is older than 15 minutes: what is missing may just not be retained; keys that may use the trace API see more".to_owned()
        })
    }
}
