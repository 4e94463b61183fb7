//! Expectations: what a scenario asks of its traces, beyond the rules.
//!
//! Pure: a [`View`] in, failures out. The tree of spans is matched whole: what is not asked for must not be there,
//! unless the node says `more`.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    case::{Capability, DRIVER_SERVICE, Outcome, View},
    rule::{Failure, Findings, NotEvaluated},
    scenario::Request,
    stages::BalanceExpect,
    stats::StatsExpect,
    trace::Span,
};

pub mod condition;

/// What must hold for every case of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// How long after its answer a trace may take to be complete.
    pub within: Duration,
    /// The tree below the harness's own span; `None` where only the rules are asked for.
    pub tree: Option<Node>,
    /// No span of any service may be captured.
    pub absent: bool,
    /// How many spans of a kind there must be in the trace.
    pub spans: Vec<SpanCount>,
    /// How many attempts the intake must at least have refused while the scenario ran: proof that an outage took place.
    pub refused_attempts: u64,
    /// Whether Datadog will make trace metrics of spans that are sent to its OTLP intake; `None` where it is not asked for.
    #[serde(default)]
    pub trace_metrics: Option<bool>,
    /// What must hold of all stages together; `None` where it is not asked for.
    #[serde(default)]
    pub balance: Option<BalanceExpect>,
    /// What the APM stats of all its requests together must say; `None` where they are not asked for.
    #[serde(default)]
    pub stats: Option<StatsExpect>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            within: DEFAULT_WITHIN,
            tree: None,
            absent: false,
            spans: Vec::new(),
            refused_attempts: 0,
            trace_metrics: None,
            balance: None,
            stats: None,
        }
    }
}

/// How long a trace may take where the scenario says nothing.
pub const DEFAULT_WITHIN: Duration = Duration::from_secs(10);

/// What one span must look like.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// Workload that made it, or its service name; `None` for any.
    pub at: Option<String>,
    /// Span kind; `None` for any.
    pub kind: Option<String>,
    /// Datadog's operation name.
    pub name: Option<String>,
    /// Datadog's resource name.
    pub resource: Option<String>,
    /// Datadog's type.
    pub span_type: Option<String>,
    /// Whether it is marked as an error.
    pub error: Option<bool>,
    /// HTTP status code that it tells.
    pub status: Option<u16>,
    /// Meta that it must have, among others.
    pub meta: BTreeMap<String, String>,
    /// Shortest duration.
    pub at_least: Option<Duration>,
    /// Longest duration.
    pub at_most: Option<Duration>,
}

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

/// How many spans of a trace match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanCount {
    /// Which spans.
    pub span: Matcher,
    /// Fewest.
    pub at_least: usize,
    /// Most; `None` for any number.
    pub at_most: Option<usize>,
}

/// Checks one case against its scenario's expectations.
pub fn check(expect: &Expect, request: &Request, view: View<'_>) -> Findings {
    let mut failures = Vec::new();
    failures.extend(response(request, view));
    failures.extend(answer(request, view));
    let mut not_evaluated = unseen(expect, view);
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
    let mut of_spans = Vec::new();
    if let Some(node) = &expect.tree {
        of_spans.extend(tree(node, view).into_iter().map(|detail| Failure::new("tree", detail)));
    }
    of_spans.extend(expect.spans.iter().filter_map(|count| span_count(count, view)));
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

/// What is asked of meta that the captured spans cannot carry in their form.
fn unseen(expect: &Expect, view: View<'_>) -> Vec<NotEvaluated> {
    let mut unseen = Vec::new();
    let mut look = |what: &str, matcher: &Matcher| {
        let spans = || view.service_spans().filter(|span| matcher.is_about(span, view));
        for key in matcher.meta.keys() {
            if let Some(span) = spans().find(|span| !span.form.carries(key)) {
                unseen.push(NotEvaluated {
                    rule: what.to_owned(),
                    because: format!("{} `{key}`", span.form.why_not()),
                    required: true,
                });
            }
        }
    };
    let mut nodes: Vec<&Node> = expect.tree.iter().collect();
    while let Some(node) = nodes.pop() {
        look("tree", &node.span);
        nodes.extend(&node.children);
    }
    for count in &expect.spans {
        look("spans", &count.span);
    }
    unseen
}

fn response(request: &Request, view: View<'_>) -> Option<Failure> {
    let expected = request.status?;
    match &view.case.outcome {
        Outcome::Response { status, .. } if *status == expected => None,
        other => Some(Failure::new(
            "response",
            format!(
                "{} should be answered with status {expected}: got {}",
                request.title(),
                other.describe()
            ),
        )),
    }
}

/// What is wrong with the answer beside its status, and what is not in it that later requests need.
fn answer(request: &Request, view: View<'_>) -> Vec<Failure> {
    let Outcome::Response { .. } = view.case.outcome else { return Vec::new() };
    let (expect, got) = (&request.answer, &view.case.answer);
    let title = request.title();
    let mut failures = Vec::new();
    let mut tell = |rule: &str, detail: String| failures.push(Failure::new(rule, detail));
    let begins = match got.excerpt.as_str() {
        "" => "the body is empty".to_owned(),
        excerpt => format!("the body begins with `{excerpt}`"),
    };
    if let Some(reason) = &got.no_json {
        tell(
            "answer",
            format!("the answer to {title} should be JSON, but is not ({reason}); {begins}"),
        );
    } else {
        for (path, condition) in &expect.json {
            if let Some(wrong) = condition.wrong_with(got.json.get(path)) {
                tell("answer", format!("in the answer to {title}, `{path}` {wrong}; {begins}"));
            }
        }
        for (name, path) in request.save.iter().filter(|(_, path)| !got.json.contains_key(*path)) {
            tell(
                "save",
                format!(
                    "the answer to {title} has nothing at `{path}`, which is to be saved as `{name}`; {begins}"
                ),
            );
        }
    }
    if let Some(condition) = &expect.text
        && let Some(wrong) = condition.wrong_with_text(got.text.as_deref())
    {
        tell("answer", format!("the body of the answer to {title} {wrong}"));
    }
    for (name, condition) in &expect.headers {
        if let Some(wrong) = condition.wrong_with_text(got.headers.get(name).map(String::as_str)) {
            tell("answer", format!("in the answer to {title}, the header `{name}` {wrong}"));
        }
    }
    failures
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

fn span_count(count: &SpanCount, view: View<'_>) -> Option<Failure> {
    let found =
        view.service_spans().filter(|span| count.span.mismatches(span, view).is_empty()).count();
    let fits = found >= count.at_least && count.at_most.is_none_or(|most| found <= most);
    (!fits).then(|| {
        let wanted = match count.at_most {
            Some(most) if most == count.at_least => most.to_string(),
            Some(most) => format!("{} to {most}", count.at_least),
            None => format!("at least {}", count.at_least),
        };
        Failure::new(
            "spans",
            format!("{wanted} of `{}` expected, {found} captured", count.span.describe()),
        )
    })
}

/// The services' spans at the top: those below the harness's own span, or without any parent.
pub fn top_spans(view: View<'_>) -> Vec<&Span> {
    view.service_spans()
        .filter(|span| match span.parent_id {
            None => true,
            Some(parent) => parent == view.case.driver_span,
        })
        .collect()
}

fn tree(node: &Node, view: View<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let root = Node { span: Matcher::default(), children: vec![node.clone()], more: false };
    match_children(&root, top_spans(view), DRIVER_SERVICE, view, &mut found);
    found
}

/// Pairs each expected child with the captured one that fits best, and tells what differs.
fn match_children(
    node: &Node,
    mut captured: Vec<&Span>,
    parent: &str,
    view: View<'_>,
    found: &mut Vec<String>,
) {
    for expected in &node.children {
        let best = captured
            .iter()
            .enumerate()
            .filter(|(_, span)| expected.span.is_about(span, view))
            .min_by_key(|(_, span)| expected.span.mismatches(span, view).len())
            .map(|(index, _)| index);
        let Some(index) = best else {
            found.push(format!("`{}` is missing below {parent}", expected.span.describe()));
            continue;
        };
        let span = captured.remove(index);
        for mismatch in expected.span.mismatches(span, view) {
            found.push(format!("{}: {mismatch}", view.name(span)));
        }
        let children =
            view.spans().iter().filter(|child| child.parent_id == Some(span.id)).collect();
        match_children(expected, children, &view.name(span), view, found);
    }
    if !node.more {
        found.extend(
            captured
                .iter()
                .map(|span| format!("{} was not expected below {parent}", view.name(span))),
        );
    }
}

impl Matcher {
    /// Whether a captured span is the one that is meant, right or wrong in its details.
    fn is_about(&self, span: &Span, view: View<'_>) -> bool {
        let at =
            self.at.as_ref().is_none_or(|at| view.workload_of(span) == at || &span.service == at);
        at && self.kind.as_ref().is_none_or(|kind| span.kind() == kind)
    }

    /// What is wrong with a span; empty when it matches.
    fn mismatches(&self, span: &Span, view: View<'_>) -> Vec<String> {
        let mut found = Vec::new();
        if !self.is_about(span, view) {
            found.push(format!("is not of `{}`", self.describe()));
        }
        let mut text = |what: &str, expected: &Option<String>, got: &str| {
            if let Some(expected) = expected
                && expected != got
            {
                found.push(format!("{what} should be `{expected}`, is `{got}`"));
            }
        };
        text("name", &self.name, &span.name);
        text("resource", &self.resource, &span.resource);
        text("type", &self.span_type, &span.span_type);
        if let Some(error) = self.error
            && error != span.error
        {
            let should = if error {
                "should be marked as an error"
            } else {
                "should not be marked as an error"
            };
            found.push(should.to_owned());
        }
        if let Some(status) = self.status {
            let got = span_status(span);
            if got != Some(status) {
                let got = got.map_or("none".to_owned(), |got| got.to_string());
                found.push(format!("HTTP status should be {status}, is {got}"));
            }
        }
        for (key, value) in self.meta.iter().filter(|(key, _)| span.form.carries(key)) {
            match span.meta.get(key) {
                Some(got) if got == value => {}
                Some(got) => found.push(format!("meta `{key}` should be `{value}`, is `{got}`")),
                None => found.push(format!("meta `{key}` should be `{value}`, is not there")),
            }
        }
        let duration = Duration::from_nanos(span.duration.try_into().unwrap_or(0));
        if let Some(least) = self.at_least
            && duration < least
        {
            found.push(format!("should last at least {least:?}, lasts {duration:?}"));
        }
        if let Some(most) = self.at_most
            && duration > most
        {
            found.push(format!("should last at most {most:?}, lasts {duration:?}"));
        }
        found
    }

    /// The matcher in one line: `sample-app-1 server GET /outgoing-sampleapp 503 error`.
    pub fn describe(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.at.clone());
        words.extend(self.kind.clone());
        words.extend(self.resource.clone().or_else(|| self.name.clone()));
        words.extend(self.status.map(|status| status.to_string()));
        if self.error == Some(true) {
            words.push("error".to_owned());
        }
        if words.is_empty() { "any span".to_owned() } else { words.join(" ") }
    }
}

/// The HTTP status a span tells, as number or text.
pub fn span_status(span: &Span) -> Option<u16> {
    match span.metrics.get("http.status_code") {
        Some(number) => Some(*number as u16),
        None => span.meta.get("http.status_code")?.parse().ok(),
    }
}
