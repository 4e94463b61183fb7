//! When spans run: one after another, with what gap, or at the same time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Matcher, nearest_among};
use crate::{
    case::{DRIVER_SERVICE, View},
    trace::Span,
};

/// Spans that begin when others have ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Those that end first, all of them.
    pub first: Matcher,
    /// Those that begin then, all of them.
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
        let told =
            format!("`{}` should begin after `{}`", self.then.describe(), self.first.describe());
        let (Some(last), Some(next)) = (
            first.iter().max_by_key(|span| (span.end(), span.id)),
            then.iter().min_by_key(|span| (span.start, span.id)),
        ) else {
            let lacking = if first.is_empty() { &self.first } else { &self.then };
            return Some(format!("{told}, but {}", lacking.missing(view)));
        };
        let (last_name, next_name) = (view.name(last), view.name(next));
        let gap = next.start.saturating_sub(last.end());
        let Ok(gap) = u64::try_from(gap).map(Duration::from_nanos) else {
            let early = Duration::from_nanos(gap.unsigned_abs());
            return Some(format!(
                "{told}, but {next_name} begins {early:?} before the end of {last_name}"
            ));
        };
        let limit = match (self.at_least, self.at_most) {
            (Some(least), _) if gap < least => format!("at least {least:?}"),
            (_, Some(most)) if gap > most => format!("at most {most:?}"),
            _ => return None,
        };
        Some(format!(
            "{told} by {limit}, but {next_name} begins {gap:?} after the end of {last_name}"
        ))
    }
}

impl Overlap {
    /// Describes the spans that should overlap in time and do not.
    pub(super) fn wrong(&self, view: View<'_>) -> Option<String> {
        let (one, other) = (self.one.all(view), self.other.all(view));
        let told = match self.one == self.other {
            true => format!("all of `{}` should run at the same time", self.one.describe()),
            false => format!(
                "`{}` and `{}` should run at the same time",
                self.one.describe(),
                self.other.describe()
            ),
        };
        for (spans, wanted) in [(&one, &self.one), (&other, &self.other)] {
            if spans.is_empty() {
                return Some(format!("{told}, but {}", wanted.missing(view)));
            }
        }
        let mut pairs = one.iter().flat_map(|one| other.iter().map(move |other| (*one, *other)));
        let mut pairs = pairs.by_ref().filter(|(one, other)| one.id != other.id).peekable();
        if pairs.peek().is_none() {
            let only = one.first().map_or_else(String::new, |span| view.name(span));
            return Some(format!("{told}, but there is only {only}"));
        }
        pairs.find_map(|(one, other)| {
            let (first, second) =
                if one.start <= other.start { (one, other) } else { (other, one) };
            (second.start >= first.end()).then(|| {
                let later = second.start.saturating_sub(first.end());
                format!(
                    "{told}, but {} begins {:?} after the end of {}",
                    view.name(second),
                    Duration::from_nanos(later.unsigned_abs()),
                    view.name(first)
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
