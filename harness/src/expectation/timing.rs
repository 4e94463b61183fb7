//! When spans run: one after another, with what gap, or at the same time.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Matcher, nearest_among};
use crate::{
    case::{DRIVER_SERVICE, View},
    trace::{CLOCK_TOLERANCE, Span},
};

/// Spans that begin when others have ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Spans that end first, all of them.
    pub first: Matcher,
    /// Spans that begin then, all of them.
    pub then: Matcher,
    /// Shortest time from the last end to the first beginning.
    pub at_least: Option<Duration>,
    /// Longest time between them.
    pub at_most: Option<Duration>,
}

/// Spans that run at the same time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// Some of them.
    pub one: Matcher,
    /// The others, each of which runs for a while together with each of those.
    pub other: Matcher,
}

impl Order {
    /// Describes the spans of a request that are out of order.
    pub(super) fn wrong(&self, view: View<'_>) -> Option<String> {
        let first = self.first.all(view);
        let then = self.then.all(view);
        let reported =
            format!("`{}` should begin after `{}`", self.then.describe(), self.first.describe());
        let (Some(last), Some(next)) = (latest(&first), earliest(&then)) else {
            let lacking = if first.is_empty() { &self.first } else { &self.then };
            return Some(format!("{reported}, but {}", lacking.missing(view)));
        };
        // One span of each host stands for all of that host, whose clock they share.
        let least = self.at_least.map_or(0, nanos);
        let (lasts, nexts) = (by_host(&first, latest), by_host(&then, earliest));
        let pairs = lasts.iter().flat_map(|last| nexts.iter().map(move |next| (*last, *next)));
        let early = pairs
            .filter(|(last, next)| gap(last, next).saturating_add(allowance(last, next)) < least)
            .min_by_key(|(last, next)| (gap(last, next), last.id, next.id));
        let most = self.at_most.map_or(i64::MAX, nanos);
        let is_late = gap(last, next) > most.saturating_add(allowance(last, next));
        let (last, next) = early.or(is_late.then_some((last, next)))?;
        let between = gap(last, next);
        let by = match (self.at_least, self.at_most) {
            _ if between < 0 => String::new(),
            (Some(least), _) if early.is_some() => format!(" by at least {least:?}"),
            (_, Some(most)) => format!(" by at most {most:?}"),
            _ => String::new(),
        };
        let at = if between < 0 { "before" } else { "after" };
        let between = Duration::from_nanos(between.unsigned_abs());
        let (last_name, next_name) = (view.name(last), view.name(next));
        let clocks = clocks(last, next);
        Some(format!(
            "{reported}{by}, but {next_name} begins {between:?} {at} the end of {last_name}{clocks}"
        ))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn latest<'a>(spans: &[&'a Span]) -> Option<&'a Span> {
    spans.iter().copied().max_by_key(|span| (span.end(), span.id))
}

fn earliest<'a>(spans: &[&'a Span]) -> Option<&'a Span> {
    spans.iter().copied().min_by_key(|span| (span.start, span.id))
}

/// Returns the span that `pick` takes of each host's.
fn by_host<'a>(
    spans: &[&'a Span],
    pick: impl Fn(&[&'a Span]) -> Option<&'a Span>,
) -> Vec<&'a Span> {
    let mut hosts: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        hosts.entry(&span.hostname).or_default().push(span);
    }
    hosts.values().filter_map(|spans| pick(spans)).collect()
}

/// Returns the time from the end of a span to the beginning of another: nanoseconds, negative where they overlap.
fn gap(last: &Span, next: &Span) -> i64 {
    next.start.saturating_sub(last.end())
}

/// Returns by how much the clocks of two spans may differ: nanoseconds.
fn allowance(one: &Span, other: &Span) -> i64 {
    if one.hostname == other.hostname { 0 } else { CLOCK_TOLERANCE }
}

/// States what was allowed for the clocks of two hosts.
fn clocks(one: &Span, other: &Span) -> String {
    match allowance(one, other) {
        0 => String::new(),
        allowed => format!(
            " (`{}` and `{}`, between whose clocks {:?} are allowed)",
            one.hostname,
            other.hostname,
            Duration::from_nanos(allowed.unsigned_abs())
        ),
    }
}

impl Overlap {
    /// Describes the spans that should overlap in time and do not.
    pub(super) fn wrong(&self, view: View<'_>) -> Option<String> {
        let (one, other) = (self.one.all(view), self.other.all(view));
        let reported = match self.one == self.other {
            true => format!("all of `{}` should run at the same time", self.one.describe()),
            false => format!(
                "`{}` and `{}` should run at the same time",
                self.one.describe(),
                self.other.describe()
            ),
        };
        for (spans, wanted) in [(&one, &self.one), (&other, &self.other)] {
            if spans.is_empty() {
                return Some(format!("{reported}, but {}", wanted.missing(view)));
            }
        }
        let mut pairs = one.iter().flat_map(|one| other.iter().map(move |other| (*one, *other)));
        let mut pairs = pairs.by_ref().filter(|(one, other)| one.id != other.id).peekable();
        if pairs.peek().is_none() {
            let only = one.first().map_or_else(String::new, |span| view.name(span));
            return Some(format!("{reported}, but there is only {only}"));
        }
        pairs.find_map(|(one, other)| {
            let (first, second) =
                if one.start <= other.start { (one, other) } else { (other, one) };
            let later = gap(first, second);
            (later >= allowance(first, second)).then(|| {
                format!(
                    "{reported}, but {} begins {:?} after the end of {}{}",
                    view.name(second),
                    Duration::from_nanos(later.unsigned_abs()),
                    view.name(first),
                    clocks(first, second)
                )
            })
        })
    }
}

impl Matcher {
    /// The services' spans that fit, of the request's own trace and of those that are linked with it.
    fn all<'a>(&self, view: View<'a>) -> Vec<&'a Span> {
        everywhere(view).filter(|span| self.mismatches(span, view).is_empty()).collect()
    }

    fn missing(&self, view: View<'_>) -> String {
        let nearest = nearest_among(self, everywhere(view).map(|span| (span, view)));
        let nearest = nearest.unwrap_or_else(|| format!("the trace has {}", super::present(view)));
        format!("there is no `{}`; {nearest}", self.describe())
    }
}

fn everywhere(view: View<'_>) -> impl Iterator<Item = &Span> {
    let linked = view.linked().flat_map(|trace| &trace.spans);
    view.service_spans().chain(linked.filter(|span| span.service != DRIVER_SERVICE))
}
