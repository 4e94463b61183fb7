//! The rule that APM stats say what the captured spans say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::stats::{Captured, Group, Key, More};

/// Name of the rule.
pub(crate) const DISAGREE: &str = "stats-disagree";

/// The rule `stats-disagree`: each group says what the captured spans say, whichever way the exporter is configured to count.
pub(crate) fn disagree(captured: &Captured) -> Result<Vec<String>, String> {
    if let Some(because) = captured.forms.came_as_otlp() {
        return Err(because);
    }
    let Captured { stats, by_kind, top_level, elsewhere, .. } = captured;
    let Captured { more, more_by_kind, more_top_level, .. } = captured;
    // What both count alike can be compared further.
    if stats == by_kind {
        return Ok(disagree_further(more, more_by_kind));
    }
    if !stats.0.is_empty() && stats == top_level {
        return Ok(disagree_further(more, more_top_level));
    }
    let keys: BTreeSet<&Key> = stats.0.keys().chain(by_kind.0.keys()).collect();
    let (left_out, others): (Vec<&Key>, Vec<&Key>) =
        keys.into_iter().filter(|key| stats.of(key) != by_kind.of(key)).partition(|key| {
            let missing = by_kind.of(key).hits.checked_sub(stats.of(key).hits);
            missing.is_some_and(|missing| missing > 0 && missing == elsewhere.of(key).hits)
        });
    let mut found = Vec::new();
    if !left_out.is_empty() {
        found.push(format!(
            "the stats leave out {}: the resource of their spans says that stats are computed elsewhere (`_dd.stats_computed`), so the exporter makes none of them; look for what sets it, a processor of the collector or the resource of an SDK",
            groups(&left_out)
        ));
    } else if stats.0.is_empty() {
        found.push(format!(
            "no APM stats were captured at all, and the captured spans make those of {}: stats are switched off in the collector (its feature gate `exporter.datadogexporter.DisableAPMStats`; where it leaves them to the connector `datadog`, no pipeline leads from traces through that to an exporter), or something between it and Datadog does not let `/api/v0.2/stats` pass",
            groups(&others)
        ));
        return Ok(found);
    }
    found.extend(others.into_iter().map(|key| {
        let (stats, spans) = (stats.of(key), by_kind.of(key));
        format!("{key}: the stats say {stats}, the captured spans {spans}")
    }));
    Ok(found)
}

/// How many groups are named.
const NAMED: usize = 3;

/// Names groups, of many the first ones.
fn groups(keys: &[&Key]) -> String {
    let named: Vec<String> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    match keys.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Compares what groups say beyond hits and errors with what spans say. A run that was saved without it says nothing.
fn disagree_further(stats: &[(Group, More)], spans: &[(Group, More)]) -> Vec<String> {
    let pairs = stats.iter().filter_map(|(group, more)| {
        let (_, of_spans) = spans.iter().find(|(other, _)| other == group)?;
        Some((group, otherwise(more, of_spans)))
    });
    let reported = pairs.flat_map(|(group, otherwise)| {
        let Group { service, kind, resource, name, .. } = group;
        let about = format!("{service} {kind} {resource} ({name})");
        otherwise.into_iter().map(move |one| format!("{about}: the stats say {one}"))
    });
    reported.collect()
}

/// Lists the differences of these stats from their spans.
fn otherwise(stats: &More, spans: &More) -> Vec<String> {
    let mut reported = Vec::new();
    if stats.top_level != spans.top_level {
        reported.push(format!(
            "{} top-level hits, the captured spans {}",
            stats.top_level, spans.top_level
        ));
    }
    // Sums of floating numbers, each rounded.
    let apart = stats.duration.abs_diff(spans.duration);
    let hits: u64 = spans.statuses.values().sum();
    if apart > hits.saturating_add(spans.duration / 1_000_000) {
        reported.push(format!(
            "a duration of {} in all, the captured spans {}",
            millis(stats.duration),
            millis(spans.duration)
        ));
    }
    if (stats.ok, stats.failed) != (spans.ok, spans.failed) {
        reported.push(format!(
            "the latencies of {} spans that did not fail and {} that did, the captured spans {} and {}",
            stats.ok, stats.failed, spans.ok, spans.failed
        ));
    } else if stats.latencies.abs_diff(spans.latencies) > hits + spans.latencies / SKETCH_ACCURACY {
        reported.push(format!(
            "latencies of {} in all, the captured spans {}",
            millis(stats.latencies),
            millis(spans.latencies)
        ));
    }
    if stats.statuses != spans.statuses {
        reported.push(format!(
            "the HTTP statuses {}, the captured spans {}",
            statuses(&stats.statuses),
            statuses(&spans.statuses)
        ));
    }
    // What has none is counted under a default, which is no name; the stats of spans without an environment have none either.
    let is_default = |env: &String| matches!(env.as_str(), "" | "none");
    let is_named = |envs: &BTreeSet<String>| !envs.iter().any(is_default);
    let is_comparable = is_named(&spans.envs) || spans.envs.iter().all(is_default);
    if stats.envs != spans.envs && is_named(&stats.envs) && is_comparable {
        reported.push(format!(
            "the env {}, the captured spans {}",
            list(&stats.envs),
            list(&spans.envs)
        ));
    }
    if let (Some((began, over)), Some((first, last))) = (stats.times, spans.times) {
        let late = over.saturating_add(BUCKET_SLACK) < first;
        if late || last.saturating_add(BUCKET_SLACK) < began {
            reported.push(format!(
                "buckets that are {} from the captured spans' ends",
                humantime::format_duration(Duration::from_secs(
                    began.abs_diff(first) / 1_000_000_000
                ))
            ));
        }
    }
    reported
}

/// A sketch keeps latencies within 1 % of what they are; this much of their sum is allowed for twice that.
const SKETCH_ACCURACY: u64 = 50;
/// How far a bucket may lie from the ends of its spans: nanoseconds. Spans that come late are counted in a later one.
const BUCKET_SLACK: u64 = 15 * 60 * 1_000_000_000;

fn millis(nanos: u64) -> String {
    format!("{:.3} ms", nanos as f64 / 1e6)
}

fn statuses(statuses: &BTreeMap<u32, u64>) -> String {
    let reported = statuses.iter().map(|(status, hits)| match status {
        0 => format!("none on {hits}"),
        status => format!("{status} on {hits}"),
    });
    reported.collect::<Vec<_>>().join(", ")
}

fn list(of: &BTreeSet<String>) -> String {
    of.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
}
