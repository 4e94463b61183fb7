//! Expectations: what a scenario asks of its traces, beyond the rules.
//!
//! Pure: a [`View`] in, failures out. The tree of spans is matched whole: what is not asked for must not be there,
//! unless the node says `more`.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    case::{Capability, Stray, View},
    finding::{Failure, Findings, NotEvaluated},
    stages::BalanceExpect,
    stats::StatsExpect,
    trace::Span,
};

mod answer;
pub(crate) mod condition;
mod failing;
mod linked;
mod matcher;
#[cfg(test)]
mod tests;
mod timing;
mod totals;
mod tree;

pub use self::{
    answer::{AnswerExpect, Asked},
    matcher::{EventMatcher, LinkMatcher, LinkedTrace, Matcher},
    timing::{Order, Overlap},
    totals::{totals, totals_are_exceeded},
};

/// Expectations on every case of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Time for a trace to become complete after the response.
    pub within: Duration,
    /// The tree below the harness's own span; `None` where only the rules are asked for.
    pub tree: Option<Node>,
    /// Workloads or services that must have a span in the trace.
    #[serde(default)]
    pub services: Vec<String>,
    /// No span of any service may be captured.
    pub absent: bool,
    /// Numbers of spans of a kind that the trace must have.
    pub spans: Vec<SpanCount>,
    /// Numbers of spans of a kind that the traces of all requests of the scenario must have together.
    #[serde(default)]
    pub totals: Vec<SpanCount>,
    /// Workload or service at which the request's failure begins.
    #[serde(default)]
    pub fails_at: Option<String>,
    /// Traces of their own in which the request's work goes on, as links say; others may be there.
    #[serde(default)]
    pub linked: Vec<Node>,
    /// Spans that must begin after others have ended.
    #[serde(default)]
    pub order: Vec<Order>,
    /// Spans that must overlap in time.
    #[serde(default)]
    pub overlap: Vec<Overlap>,
    /// Least number of attempts that the intake must have refused while the scenario ran: proof that an outage took
    /// place.
    pub refused_attempts: u64,
    /// Least number of requests of services that the collectors must have refused while the scenario ran.
    #[serde(default)]
    pub refused_exports: u64,
    /// Number of spans that services ended and no collector accepted; `None` if it is not checked.
    #[serde(default)]
    pub lost_by_senders: Option<u64>,
    /// Whether Datadog will make trace metrics of spans that are sent to its OTLP intake; `None` where it is not asked for.
    #[serde(default)]
    pub trace_metrics: Option<bool>,
    /// Expected balance of all stages; `None` where it is not checked.
    #[serde(default)]
    pub balance: Option<BalanceExpect>,
    /// Expected APM stats of all its requests together; `None` where they are not checked.
    #[serde(default)]
    pub stats: Option<StatsExpect>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            within: DEFAULT_WITHIN,
            tree: None,
            services: Vec::new(),
            absent: false,
            spans: Vec::new(),
            totals: Vec::new(),
            fails_at: None,
            linked: Vec::new(),
            order: Vec::new(),
            overlap: Vec::new(),
            refused_attempts: 0,
            refused_exports: 0,
            lost_by_senders: None,
            trace_metrics: None,
            balance: None,
            stats: None,
        }
    }
}

impl Expect {
    /// Returns whether it asks what senders were refused, or lost.
    pub(crate) fn asks_senders(&self) -> bool {
        self.refused_exports > 0 || self.lost_by_senders.is_some()
    }
}

/// Default time for a trace to become complete.
pub const DEFAULT_WITHIN: Duration = Duration::from_secs(10);
/// Name of the expectation of who has spans in a trace.
pub(crate) const SERVICES: &str = "services";

/// A span of the expected tree, with what hangs below it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The span.
    pub span: Matcher,
    /// Its children.
    pub children: Vec<Node>,
    /// Whether it may have children that are not listed.
    pub more: bool,
}

/// Number of spans of a trace that must match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanCount {
    /// Matcher of the spans.
    pub span: Matcher,
    /// Least number.
    pub at_least: usize,
    /// Largest number; `None` for no limit.
    pub at_most: Option<usize>,
}

impl SpanCount {
    /// `2 to 3 of `pay server``: how many of which.
    fn wanted(&self) -> String {
        let of = self.span.describe();
        match self.at_most {
            Some(most) if most == self.at_least => format!("{most} of `{of}`"),
            Some(most) => format!("{} to {most} of `{of}`", self.at_least),
            None => format!("at least {} of `{of}`", self.at_least),
        }
    }
}

/// Checks one case against its scenario's expectations.
pub fn check(expect: &Expect, asked: &Asked<'_>, view: View<'_>) -> Findings {
    let mut failures = Vec::new();
    failures.extend(asked.response(view));
    failures.extend(asked.answer(view));
    let mut not_evaluated = unseen(expect, view);
    not_evaluated.extend(asked.unobserved(view));
    if expect.absent {
        match (absent(view), view.lacks(Capability::Completeness)) {
            (Some(failure), _) => failures.push(failure),
            (None, Some(because)) => {
                let rule = "absent".to_owned();
                not_evaluated.push(NotEvaluated { rule, because, required: true });
            }
            (None, None) => {}
        }
    }
    let mut of_spans = services(expect, view);
    if let Some(node) = &expect.tree {
        of_spans
            .extend(tree::wrong(node, view).into_iter().map(|detail| Failure::new("tree", detail)));
    }
    of_spans.extend(expect.spans.iter().filter_map(|count| span_count(count, view)));
    let more = |rule: &'static str| move |detail: String| Failure::new(rule, detail);
    let failing = expect.fails_at.as_deref().and_then(|at| failing::wrong(at, view));
    of_spans.extend(failing.map(more("fails_at")));
    of_spans.extend(linked::wrong(&expect.linked, view).into_iter().map(more("linked")));
    let order = expect.order.iter().filter_map(|order| order.wrong(view));
    of_spans.extend(order.map(more("order")));
    let overlap = expect.overlap.iter().filter_map(|overlap| overlap.wrong(view));
    of_spans.extend(overlap.map(more("overlap")));
    // What is missing may still come, and take the place of what does not fit.
    let lacking = [Capability::Settled, Capability::Completeness];
    let lacking = match view.spans().is_empty() {
        true => lacking.into_iter().find_map(|need| view.lacks(need)),
        false => view.lacks(Capability::Settled),
    };
    match lacking {
        None => failures.extend(of_spans),
        Some(because) => not_evaluated.extend(of_spans.into_iter().map(|failure| NotEvaluated {
            because: format!("{because}. Seen so far: {}", failure.detail),
            rule: failure.rule,
            required: true,
        })),
    }
    Findings { failures, not_evaluated }
}

/// Returns expectations on meta that the captured spans cannot carry in their form.
fn unseen(expect: &Expect, view: View<'_>) -> Vec<NotEvaluated> {
    let mut unseen = Vec::new();
    let mut look = |what: &str, matcher: &Matcher| {
        let spans = || view.service_spans().filter(|span| matcher.is_about(span, view));
        for key in matcher.keys() {
            if let Some(span) = spans().find(|span| !span.form.carries(key)) {
                unseen.push(NotEvaluated {
                    rule: what.to_owned(),
                    because: format!("{} `{key}`", span.form.why_not()),
                    required: true,
                });
            }
        }
    };
    let trees = expect.tree.iter().map(|node| ("tree", node));
    let mut nodes: Vec<(&str, &Node)> =
        trees.chain(expect.linked.iter().map(|node| ("linked", node))).collect();
    while let Some((what, node)) = nodes.pop() {
        look(what, &node.span);
        nodes.extend(node.children.iter().map(|node| (what, node)));
    }
    for (what, counts) in [("spans", &expect.spans), ("totals", &expect.totals)] {
        counts.iter().for_each(|count| look(what, &count.span));
    }
    for Order { first, then, .. } in &expect.order {
        [first, then].into_iter().for_each(|span| look("order", span));
    }
    for Overlap { one, other } in &expect.overlap {
        [one, other].into_iter().for_each(|span| look("overlap", span));
    }
    unseen
}

fn absent(view: View<'_>) -> Option<Failure> {
    let spans: Vec<_> = view.service_spans().map(|span| view.name(span)).collect();
    (!spans.is_empty()).then(|| {
        Failure::new(
            "absent",
            format!(
                "trace {} should leave nothing, but {} span(s) were captured: {}",
                view.case.trace_id,
                spans.len(),
                spans.join(", ")
            ),
        )
    })
}

/// Checks that the expected services are in the trace.
fn services(expect: &Expect, view: View<'_>) -> Vec<Failure> {
    let missing = expect.services.iter().filter_map(|service| {
        let wanted = Matcher { at: Some(service.clone()), ..Matcher::default() };
        if view.service_spans().any(|span| wanted.is_at(span, view)) {
            return None;
        }
        let own = view.strays.iter().find(|stray| {
            let first = stray.trace.spans.iter().find(|span| span.parent_id.is_none());
            first.is_some_and(|span| wanted.is_at(span, view))
        });
        let elsewhere = view.linked().find(|trace| {
            let is_there = |span: &Span| wanted.is_at(span, view);
            own.is_none() && trace.spans.iter().any(is_there)
        });
        let elsewhere = elsewhere.map_or_else(String::new, |trace| {
            format!(
                "; it has spans in trace {}, which is linked to this one: ask for them under `linked`",
                trace.id
            )
        });
        let is_in = |stray: &&Stray| stray.trace.spans.iter().any(|span| wanted.is_at(span, view));
        let elsewhere = match view.apart().find(is_in).filter(|_| own.is_none()) {
            Some(stray) => {
                let root = stray.trace.root();
                let by = root.map_or("a service", |root| view.workload_of(root));
                let id = stray.trace.id;
                format!("; it has spans in trace {id}, which `{by}` began apart from this one")
            }
            None => elsewhere,
        };
        let own = own.map_or(elsewhere, |stray| {
            let id = stray.trace.id;
            match stray.origin.is_link() {
                true => format!("; it started trace {id} of its own, which is linked to this one"),
                false => format!(
                    "; it started trace {id} of its own meanwhile, so it was not sent the context, or did not read it (OTEL_PROPAGATORS)"
                ),
            }
        });
        let id = view.case.trace_id;
        let detail = format!("`{service}` has no span in trace {id}: it has {}{own}", present(view));
        Some(Failure::new(SERVICES, detail).about(service))
    });
    missing.collect()
}

/// Describes how many spans each service has in the trace.
fn present(view: View<'_>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for span in view.service_spans() {
        *counts.entry(view.workload_of(span)).or_default() += 1;
    }
    let reported = counts.iter().map(|(name, count)| match count {
        1 => format!("1 span of `{name}`"),
        count => format!("{count} of `{name}`"),
    });
    let reported: Vec<String> = reported.collect();
    if reported.is_empty() { "no span of any service".to_owned() } else { reported.join(", ") }
}

fn span_count(count: &SpanCount, view: View<'_>) -> Option<Failure> {
    let matching: Vec<&Span> =
        view.service_spans().filter(|span| count.span.mismatches(span, view).is_empty()).collect();
    let found = matching.len();
    let reported = format!("{} expected, {found} captured", count.wanted());
    let detail = if found < count.at_least {
        format!("{reported}; {}", nearest(&count.span, &matching, &[view]))
    } else if count.at_most.is_some_and(|most| found > most) {
        let names = matching.iter().take(SPANS_SHOWN).map(|span| view.name(span));
        let more = if found > SPANS_SHOWN { ", …" } else { "" };
        format!("{reported}: {}{more}", names.collect::<Vec<_>>().join(", "))
    } else if let Some(at) = vacuous(count, view) {
        format!(
            "{reported}, but trace {} has no span of `{at}` at all, so that says nothing: ask for `{at}` in `services`, or leave the details out",
            view.case.trace_id
        )
    } else {
        return None;
    };
    Some(Failure::new("spans", detail))
}

/// Returns the service a count is about, if the count holds only because the service has no span at all.
fn vacuous<'a>(count: &'a SpanCount, view: View<'_>) -> Option<&'a str> {
    let at = count.span.at.as_deref()?;
    let decides_by_none = count.at_least == 0 && count.span.has_details();
    let is_there = view.service_spans().any(|span| count.span.is_at(span, view));
    (decides_by_none && !is_there).then_some(at)
}

/// How many spans that are too many are named.
const SPANS_SHOWN: usize = 5;

/// The span that comes nearest to what is asked for, of those that are not taken, and what is wrong with it.
fn nearest(wanted: &Matcher, taken: &[&Span], views: &[View<'_>]) -> String {
    let is_taken = |span: &Span| taken.iter().any(|one| std::ptr::eq(*one, span));
    let rest = views.iter().flat_map(|view| view.service_spans().map(|span| (span, *view)));
    let nearest = nearest_among(wanted, rest.filter(|(span, _)| !is_taken(span)));
    nearest.unwrap_or_else(|| match views.first() {
        Some(view) if taken.is_empty() => format!("the trace has {}", present(*view)),
        _ => "no other span comes close".to_owned(),
    })
}

/// The span of the right service that comes nearest, and what is wrong with it.
fn nearest_among<'a>(
    wanted: &Matcher,
    spans: impl Iterator<Item = (&'a Span, View<'a>)>,
) -> Option<String> {
    let at_it = spans.filter(|(span, view)| wanted.is_at(span, *view));
    let judged = at_it.map(|(span, view)| (span, view, wanted.mismatches(span, view)));
    let (span, view, wrong) =
        judged.min_by_key(|(span, view, wrong)| (!wanted.is_about(span, *view), wrong.len()))?;
    Some(match wrong.as_slice() {
        [] => format!("the nearest is {}", view.name(span)),
        wrong => format!("the nearest is {}: {}", view.name(span), wrong.join(", ")),
    })
}

/// Returns the topmost spans of the services: those below the harness's own span, and those without any parent.
pub fn top_spans(view: View<'_>) -> Vec<&Span> {
    view.service_spans()
        .filter(|span| match span.parent_id {
            None => true,
            Some(parent) => parent == view.case.driver_span,
        })
        .collect()
}
