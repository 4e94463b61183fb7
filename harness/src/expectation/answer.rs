//! Expectations of the response to a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::{
    case::{Outcome, View},
    finding::{Failure, NotEvaluated},
    trace::Span,
};

/// Expectations of a response beside its status.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerExpect {
    /// Conditions on the body as JSON, by path.
    pub json: BTreeMap<String, Condition>,
    /// Condition on the body as text.
    pub text: Option<Condition>,
    /// Conditions on the headers, by name.
    pub headers: BTreeMap<String, Condition>,
}

/// Expectations that a request has of its response.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The request, for messages.
    pub(crate) title: String,
    /// Its status; `None` for any.
    pub(crate) status: Option<u16>,
    /// The rest of it.
    pub(crate) expect: &'a AnswerExpect,
    /// Paths in its JSON body whose values later requests use, by name.
    pub(crate) save: &'a BTreeMap<String, String>,
}

impl Asked<'_> {
    /// Checks the status of the response.
    pub(super) fn response(&self, view: View<'_>) -> Option<Failure> {
        let expected = self.status?;
        match &view.case.outcome {
            Outcome::Response { status, .. } if *status == expected => None,
            Outcome::Unobserved { .. } => None,
            other => {
                let begins = match view.case.answer.excerpt.as_str() {
                    "" => String::new(),
                    excerpt => format!(", and a body that begins with `{excerpt}`"),
                };
                let detail = format!(
                    "{} should be answered with status {expected}: got {}{begins}",
                    self.title,
                    other.describe()
                );
                let found = Failure::new("response", detail);
                Some(match origin_of_the_failure(view).filter(|_| expected < 400) {
                    Some(span) => found
                        .because(format!("it fails first at {}", view.name(span)))
                        .about(view.workload_of(span))
                        .of_span(span.id),
                    None => found,
                })
            }
        }
    }

    /// Returns what is asked of a response that was not observed.
    pub(super) fn unobserved(&self, view: View<'_>) -> Option<NotEvaluated> {
        let is_asked = self.status.is_some()
            || !self.save.is_empty()
            || *self.expect != AnswerExpect::default();
        let is_unobserved = matches!(view.case.outcome, Outcome::Unobserved { .. });
        (is_asked && is_unobserved).then(|| NotEvaluated {
            rule: "response".to_owned(),
            because: "the request was answered earlier and was not observed here".to_owned(),
            required: false,
        })
    }

    /// Checks the response beside its status, and that it has the values that later requests need.
    pub(super) fn answer(&self, view: View<'_>) -> Vec<Failure> {
        let Outcome::Response { .. } = view.case.outcome else { return Vec::new() };
        let (expect, got) = (self.expect, &view.case.answer);
        let title = &self.title;
        let mut failures = Vec::new();
        let mut report = |rule: &str, detail: String| failures.push(Failure::new(rule, detail));
        let begins = match got.excerpt.as_str() {
            "" => "the body is empty".to_owned(),
            excerpt => format!("the body begins with `{excerpt}`"),
        };
        if let Some(reason) = &got.no_json {
            report(
                "answer",
                format!("the answer to {title} should be JSON, but is not ({reason}); {begins}"),
            );
        } else {
            for (path, condition) in &expect.json {
                if let Some(wrong) = condition.wrong_with(got.json.get(path)) {
                    report(
                        "answer",
                        format!("in the answer to {title}, `{path}` {wrong}; {begins}"),
                    );
                }
            }
            for (name, path) in self.save.iter().filter(|(_, path)| !got.json.contains_key(*path)) {
                report(
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
            report("answer", format!("the body of the answer to {title} {wrong}"));
        }
        for (name, condition) in &expect.headers {
            if let Some(wrong) =
                condition.wrong_with_text(got.headers.get(name).map(String::as_str))
            {
                report("answer", format!("in the answer to {title}, the header `{name}` {wrong}"));
            }
        }
        failures
    }
}

/// Returns the only span of a trace that failed though nothing below it did; `None` where there is none, or several.
fn origin_of_the_failure(view: View<'_>) -> Option<&Span> {
    let family = view.family();
    let is_origin =
        |span: &&Span| span.error && !family.children(span.id).iter().any(|child| child.error);
    let mut origins = view.service_spans().filter(is_origin);
    origins.next().filter(|_| origins.next().is_none())
}
