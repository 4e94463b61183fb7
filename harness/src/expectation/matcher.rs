//! Expectations of one span, and how a span differs from them.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::{Condition, text_of};
use crate::{
    case::View,
    span_links::LINKS,
    trace::{Span, TraceId},
};

/// Meta in which Datadog keeps a span's events, as JSON.
const EVENTS: &str = "events";

/// Expected look of one span.
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
    /// HTTP status code that it has.
    pub status: Option<u16>,
    /// Expectations of its meta, by key; others may be there.
    pub meta: BTreeMap<String, Condition>,
    /// Expectations of its metrics, by key; others may be there.
    #[serde(default)]
    pub metrics: BTreeMap<String, Condition>,
    /// Events that it must have, or must not; others may be there.
    #[serde(default)]
    pub events: Vec<EventMatcher>,
    /// Links that it must have, or must not; others may be there.
    #[serde(default)]
    pub links: Vec<LinkMatcher>,
    /// Shortest duration.
    pub at_least: Option<Duration>,
    /// Longest duration.
    pub at_most: Option<Duration>,
}

/// Expectations of a span's events.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventMatcher {
    /// The event's name.
    pub name: Option<Condition>,
    /// Expectations of its attributes, by key.
    pub attributes: BTreeMap<String, Condition>,
    /// Number of such events; `None` for at least one.
    pub count: Option<usize>,
}

/// Expectations of a span's links.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkMatcher {
    /// Target of the link.
    pub trace: Option<LinkedTrace>,
    /// Expectations of its attributes, by key.
    pub attributes: BTreeMap<String, Condition>,
    /// Number of such links; `None` for at least one.
    pub count: Option<usize>,
}

/// Target of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkedTrace {
    /// Into the span's own trace.
    Same,
    /// Into another one.
    Another,
}

impl Matcher {
    /// Returns whether a span has the matcher's origin and kind, whatever its details.
    pub(super) fn is_about(&self, span: &Span, view: View<'_>) -> bool {
        self.is_at(span, view) && self.kind.as_ref().is_none_or(|kind| span.kind() == kind)
    }

    /// Returns whether a span is of the matcher's workload or service.
    pub(super) fn is_at(&self, span: &Span, view: View<'_>) -> bool {
        // Datadog puts service names into lower case.
        let is =
            |at: &String| view.workload_of(span) == at || span.service.eq_ignore_ascii_case(at);
        self.at.as_ref().is_none_or(is)
    }

    /// Returns whether the matcher gives more than origin and kind.
    pub(super) fn has_details(&self) -> bool {
        let bare = Self { at: self.at.clone(), kind: self.kind.clone(), ..Self::default() };
        *self != bare
    }

    /// The keys of meta and metrics at which it looks.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let links = (!self.links.is_empty()).then_some(LINKS);
        self.meta.keys().chain(self.metrics.keys()).map(String::as_str).chain(links)
    }

    /// Lists what is wrong with a span; empty when it matches.
    pub(super) fn mismatches(&self, span: &Span, view: View<'_>) -> Vec<String> {
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
            let got = span.http_status();
            if got != Some(status) {
                let got = got.map_or("none".to_owned(), |got| got.to_string());
                found.push(format!("HTTP status should be {status}, is {got}"));
            }
        }
        self.attributes(span, &mut found);
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
        let events = listed(span, EVENTS);
        found.extend(self.events.iter().filter_map(|wanted| wanted.wrong_with(&events)));
        if span.form.carries(LINKS) {
            let links = listed(span, LINKS);
            let wrong = |wanted: &LinkMatcher| wanted.wrong_with(&links, span.trace_id);
            found.extend(self.links.iter().filter_map(wrong));
        }
        found
    }

    fn attributes(&self, span: &Span, found: &mut Vec<String>) {
        for (key, condition) in self.meta.iter().filter(|(key, _)| span.form.carries(key)) {
            let got = span.meta.get(key).map(String::as_str);
            if let Some(wrong) = condition.wrong_with_text(got) {
                let elsewhere = match (got, span.metrics.get(key)) {
                    (None, Some(number)) => {
                        format!("; it is a number: metrics `{key}` is {number}")
                    }
                    _ => String::new(),
                };
                found.push(format!("meta `{key}` {wrong}{elsewhere}"));
            }
        }
        for (key, condition) in self.metrics.iter().filter(|(key, _)| span.form.carries(key)) {
            let got = span.metrics.get(key).map(|number| Value::from(*number));
            if let Some(wrong) = condition.wrong_with(got.as_ref()) {
                let elsewhere = match (got, span.meta.get(key)) {
                    (None, Some(text)) => format!("; it is a text: meta `{key}` is `{text}`"),
                    _ => String::new(),
                };
                found.push(format!("metrics `{key}` {wrong}{elsewhere}"));
            }
        }
    }

    /// Formats the matcher on one line, for example `sample-app-1 server GET /outgoing-sampleapp 503 error`.
    pub fn describe(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.at.clone());
        words.extend(self.kind.clone());
        words.extend(self.resource.clone().or_else(|| self.name.clone()));
        words.extend(self.status.map(|status| status.to_string()));
        if self.error == Some(true) {
            words.push("error".to_owned());
        }
        if words.is_empty() {
            let keys: Vec<&str> = self.keys().collect();
            return match keys.as_slice() {
                [] => "any span".to_owned(),
                keys => format!("any span, by {}", keys.join(", ")),
            };
        }
        words.join(" ")
    }
}

/// The events or links that a span's meta lists as JSON.
fn listed(span: &Span, key: &str) -> Vec<Value> {
    let listed = span.meta.get(key).and_then(|text| serde_json::from_str(text).ok());
    listed.unwrap_or_default()
}

/// Lists what is wrong with the attributes of an event or a link.
fn wrong_attributes(wanted: &BTreeMap<String, Condition>, of: &Value) -> Vec<String> {
    let wrong = wanted.iter().filter_map(|(key, condition)| {
        // The exporters write some of them as texts, whatever they were.
        let wrong = match of.get("attributes").and_then(|attributes| attributes.get(key)) {
            Some(Value::String(text)) => condition.wrong_with_text(Some(text)),
            got => condition.wrong_with(got),
        };
        Some(format!("`{key}` {}", wrong?))
    });
    wrong.collect()
}

/// Returns whether so many are as many as asked for.
fn fits(found: usize, count: Option<usize>) -> bool {
    count.map_or(found > 0, |count| found == count)
}

/// `one`, `3`, `no`: as many as asked for.
fn wanted_count(count: Option<usize>) -> String {
    match count {
        Some(0) => "no".to_owned(),
        None | Some(1) => "one".to_owned(),
        Some(count) => count.to_string(),
    }
}

impl EventMatcher {
    fn wrong_with(&self, events: &[Value]) -> Option<String> {
        let name = |event: &Value| event.get("name").map(text_of).unwrap_or_default();
        let named = |event: &&Value| {
            let wrong =
                self.name.as_ref().and_then(|wanted| wanted.wrong_with_text(Some(&name(event))));
            wrong.is_none()
        };
        let of_name: Vec<&Value> = events.iter().filter(named).collect();
        let wrong: Vec<Vec<String>> =
            of_name.iter().map(|event| wrong_attributes(&self.attributes, event)).collect();
        let found = wrong.iter().filter(|wrong| wrong.is_empty()).count();
        if fits(found, self.count) {
            return None;
        }
        let mut reported = format!("should have {} event", wanted_count(self.count));
        if let Some(name) = &self.name {
            reported.push_str(&format!(" whose name {name}"));
        }
        if !self.attributes.is_empty() {
            let keys: Vec<&str> = self.attributes.keys().map(String::as_str).collect();
            reported.push_str(&format!(" with what is asked of `{}`", keys.join("`, `")));
        }
        reported.push_str(&format!(", has {found}"));
        // The one that is nearest says what is wrong; else which there are.
        let nearest = of_name.iter().zip(&wrong).filter(|(_, wrong)| !wrong.is_empty());
        match nearest.min_by_key(|(_, wrong)| wrong.len()) {
            Some((event, wrong)) => {
                reported.push_str(&format!(
                    "; of its event `{}`, {}",
                    name(event),
                    wrong.join(", ")
                ));
            }
            None => {
                let names: Vec<String> =
                    events.iter().map(|event| format!("`{}`", name(event))).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                reported.push_str(&format!("; its events: {names}"));
            }
        }
        Some(reported)
    }
}

impl LinkMatcher {
    fn wrong_with(&self, links: &[Value], own: TraceId) -> Option<String> {
        let leads = |link: &Value| {
            let id: Option<TraceId> =
                link.get("trace_id").and_then(Value::as_str).and_then(|id| id.parse().ok());
            if id == Some(own) { LinkedTrace::Same } else { LinkedTrace::Another }
        };
        let leading: Vec<&Value> = links
            .iter()
            .filter(|link| self.trace.is_none_or(|wanted| leads(link) == wanted))
            .collect();
        let wrong: Vec<Vec<String>> =
            leading.iter().map(|link| wrong_attributes(&self.attributes, link)).collect();
        let found = wrong.iter().filter(|wrong| wrong.is_empty()).count();
        if fits(found, self.count) {
            return None;
        }
        let whither = match self.trace {
            None => "",
            Some(LinkedTrace::Same) => " into its own trace",
            Some(LinkedTrace::Another) => " into another trace",
        };
        let mut reported = format!("should have {} link{whither}", wanted_count(self.count));
        if !self.attributes.is_empty() {
            let keys: Vec<&str> = self.attributes.keys().map(String::as_str).collect();
            reported.push_str(&format!(" with what is asked of `{}`", keys.join("`, `")));
        }
        reported.push_str(&format!(", has {found}"));
        let nearest =
            wrong.iter().filter(|wrong| !wrong.is_empty()).min_by_key(|wrong| wrong.len());
        match nearest {
            Some(wrong) => reported.push_str(&format!("; of one, {}", wrong.join(", "))),
            None => reported.push_str(&format!("; it has {} in all", links.len())),
        }
        Some(reported)
    }
}
