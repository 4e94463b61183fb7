//! APM stats of a scenario beside the spans that they count.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::stats::{Captured, Numbers, StatsRecord};

/// A scenario's stats, or the reason why there are none to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StatsView {
    /// Groups: service, operation name, resource name, kind; hits and errors in the stats; hits and errors of the spans; whether both agree.
    Groups(Vec<Group>),
    /// No stats were looked at.
    None(&'static str),
}

/// A group's texts, its numbers in the stats, those of the spans, and whether both agree.
type Group = ([String; 4], [u64; 2], [u64; 2], bool);

impl StatsView {
    /// Creates the view of what was captured; `None` where nothing is to be said of stats.
    pub(super) fn new(stats: &StatsRecord) -> Option<Self> {
        Some(match stats {
            StatsRecord::NoPayloads => return None,
            StatsRecord::NotAsked(_) => Self::None("the scenario does not ask for APM stats"),
            StatsRecord::NotReached(_) => {
                Self::None("they were not waited for, since the traces were wrong already")
            }
            StatsRecord::NotSent(_) => {
                Self::None("the collector could not be made to send what it had")
            }
            StatsRecord::Captured(captured) => Self::Groups(groups(captured)),
        })
    }
}

/// A collector counts with or without spans of a kind that crosses services; the stats are compared as the rule `stats-disagree` does.
fn groups(captured: &Captured) -> Vec<Group> {
    let Captured { stats, by_kind, top_level, .. } = captured;
    let spans = if !stats.0.is_empty() && stats == top_level { top_level } else { by_kind };
    let keys: BTreeSet<_> = stats.0.keys().chain(spans.0.keys()).collect();
    let rows = keys.into_iter().map(|key| {
        let texts = [&key.service, &key.name, &key.resource, &key.kind].map(String::clone);
        let (counted, seen) = (stats.of(key), spans.of(key));
        let numbers = |Numbers { hits, errors }| [hits, errors];
        (texts, numbers(counted), numbers(seen), counted == seen)
    });
    rows.collect()
}
