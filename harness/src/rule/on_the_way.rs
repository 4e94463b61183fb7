//! Parts of its way on which a span became otherwise than it was: its service's ledger and the collector's show it at several points.

use std::collections::HashMap;

use super::ledgers::known_ledgers;
use crate::{
    case::View,
    finding::Stage,
    intake::decode::{SentSpan, TakenSpan},
    ledger::{LedgerSpan, Recorded},
    trace::SpanId,
};

/// Spans by their ids; those of which two have one id are left out.
pub(super) struct ById<T>(HashMap<SpanId, Option<T>>);

impl<T: Copy> ById<T> {
    pub(super) fn new(spans: impl IntoIterator<Item = T>, id: impl Fn(&T) -> SpanId) -> Self {
        let mut by_id = HashMap::new();
        for span in spans {
            by_id.entry(id(&span)).and_modify(|known| *known = None).or_insert(Some(span));
        }
        Self(by_id)
    }

    pub(super) fn get(&self, id: SpanId) -> Option<T> {
        self.0.get(&id).copied().flatten()
    }

    pub(super) fn knows(&self, id: SpanId) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The spans of a trace at each point before they were captured.
pub(super) struct OnTheWay<'a> {
    /// With the workload that ended each.
    pub(super) ended: ById<(&'a str, &'a LedgerSpan)>,
    pub(super) taken: ById<&'a TakenSpan>,
    pub(super) sent: ById<&'a SentSpan>,
}

/// A point at which spans are shown, in the order in which they pass them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// Ended by a service.
    Ended,
    /// Taken by the collector.
    Taken,
    /// Sent by it.
    Sent,
    Captured,
}

/// The part of its way on which a span became otherwise: from the last point at which it was as it should be to the first at which it was
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    from: Option<Point>,
    to: Point,
}

impl Part {
    /// Returns the stage that it lies in, where the points leave just one.
    pub(super) fn stage(self) -> Option<Stage> {
        match (self.from, self.to) {
            (None, Point::Ended) => Some(Stage::Service),
            (Some(Point::Ended), Point::Taken) => Some(Stage::BeforeCollector),
            (Some(Point::Taken), Point::Sent) => Some(Stage::Collector),
            (Some(Point::Sent), _) => Some(Stage::BehindCollector),
            _ => None,
        }
    }

    /// Returns whether its service ended it as it should be, so that what came of it is none of that one's doing.
    pub(super) fn is_behind_the_service(self) -> bool {
        self.from.is_some()
    }

    /// Returns whether it left the service, or came to the collector, as it was captured: none of the collector's doing.
    pub(super) fn is_before_the_collector(self) -> bool {
        self.to <= Point::Taken
    }

    /// Names who is to blame of what lies on this part of the way, for a span of a workload.
    pub(super) fn place(self, workload: &str) -> String {
        match (self.from, self.to) {
            (Some(Point::Taken), Point::Sent) => "a processor of the collector".to_owned(),
            (Some(Point::Taken), _) => {
                "the collector, or something between it and Datadog".to_owned()
            }
            (Some(Point::Sent), _) => "something between the collector and Datadog".to_owned(),
            (_, Point::Taken) => format!("something between `{workload}` and the collector"),
            _ => format!("something between `{workload}` and Datadog"),
        }
    }

    /// Says at which point it was as it should be, as the end of a sentence about it: "as `pay` ended it".
    pub(super) fn proof(self, workload: &str) -> String {
        match self.from {
            Some(Point::Taken) => "as it came to the collector".to_owned(),
            Some(Point::Sent) => "as the collector sent it".to_owned(),
            _ => format!("as `{workload}` ended it"),
        }
    }
}

impl<'a> OnTheWay<'a> {
    pub(super) fn of(view: View<'a>) -> Self {
        let ended = known_ledgers(view)
            .flat_map(|(workload, spans, _)| spans.iter().map(move |span| (workload, span)));
        let entry = view.evidence.collector.as_ref();
        let taken = entry.into_iter().flat_map(|entry| &entry.spans);
        let sent = entry.and_then(|entry| entry.only_to_datadog());
        Self {
            ended: ById::new(ended, |(_, span)| span.span_id),
            taken: ById::new(taken, |span| span.id),
            sent: ById::new(sent.into_iter().flat_map(|of| &of.spans), |span| span.id),
        }
    }

    /// Determines where a span that was captured otherwise than it should be became so; each of these says whether it is as it should be.
    pub(super) fn part(
        &self,
        id: SpanId,
        ended: impl Fn(&Recorded) -> bool,
        taken: impl Fn(&TakenSpan) -> bool,
        sent: impl Fn(&SentSpan) -> bool,
    ) -> Part {
        let recorded = self.ended.get(id).and_then(|(_, span)| span.recorded.as_ref());
        let points = [
            (Point::Ended, recorded.map(ended)),
            (Point::Taken, self.taken.get(id).map(taken)),
            (Point::Sent, self.sent.get(id).map(sent)),
            (Point::Captured, Some(false)),
        ];
        let from = points.iter().rposition(|(_, is_well)| *is_well == Some(true));
        let behind = &points[from.map_or(0, |at| at + 1)..];
        let to = behind.iter().find(|(_, is_well)| *is_well == Some(false));
        Part {
            from: from.map(|at| points[at].0),
            to: to.map_or(Point::Captured, |(point, _)| *point),
        }
    }

    /// Determines where a span lost an attribute that has one of these names, or its right value, of which `is_well` decides. A service's
    /// ledger keeps the beginnings of long texts.
    pub(super) fn part_of_attribute(
        &self,
        id: SpanId,
        names: &[&str],
        is_well: impl Fn(&str) -> bool,
    ) -> Part {
        let of = |text: Option<&String>| text.is_some_and(|text| is_well(text));
        self.part(
            id,
            |ended| names.iter().any(|name| of(ended.attributes.get(*name))),
            |taken| {
                let text = |name: &&str| taken.attributes.get(*name).and_then(Option::as_ref);
                names.iter().any(|name| of(text(name)))
            },
            |sent| {
                let number = |name: &&str| sent.metrics.get(*name).map(ToString::to_string);
                let text = |name: &&str| sent.meta.get(*name).cloned().or_else(|| number(name));
                names.iter().any(|name| of(text(name).as_ref()))
            },
        )
    }

    /// Returns how many attributes a span had when its service sent it; `None` where nobody shows it.
    pub(super) fn attributes(&self, id: SpanId) -> Option<usize> {
        let recorded = self.ended.get(id).and_then(|(_, span)| span.recorded.as_ref());
        let taken = self.taken.get(id).map(|span| span.attributes.len());
        // The ledger leaves lists out.
        taken.max(recorded.map(|recorded| recorded.attributes.len()))
    }
}
