//! What is different between the two sides' spans and stats.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use harness::intake::decode::StatsGroup;
use libdd_ddsketch::DDSketch;

use crate::datadog::{Fields, Value};

/// Stands for a field where one side left a span out, or sent it twice.
pub(crate) const TIMES_SENT: &str = "(number of times that it was sent)";

/// A field in which the two sides differ; `None` where it is missing.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    pub(crate) field: String,
    pub(crate) ours: Option<Value>,
    pub(crate) theirs: Option<Value>,
}

/// The fields in which a span differs. Where a span came several times, the copies are compared in the order of
/// their fields.
pub(crate) fn spans(ours: &[Fields], theirs: &[Fields]) -> Vec<Difference> {
    if ours.len() != theirs.len() {
        let count = |fields: &[Fields]| Some(Value::Int(fields.len() as i128));
        let field = TIMES_SENT.to_owned();
        return vec![Difference { field, ours: count(ours), theirs: count(theirs) }];
    }
    let sorted = |fields: &[Fields]| {
        let mut fields = fields.to_vec();
        fields.sort();
        fields
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    ours.iter().zip(&theirs).flat_map(|(ours, theirs)| fields(ours, theirs)).collect()
}

/// The fields in which two spans differ.
pub(crate) fn fields(ours: &Fields, theirs: &Fields) -> Vec<Difference> {
    let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let different = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
    let difference = |name: &String| Difference {
        field: name.clone(),
        ours: ours.get(name).cloned(),
        theirs: theirs.get(name).cloned(),
    };
    different.map(difference).collect()
}

/// A group of stats over all its buckets.
#[derive(Debug, Default)]
struct Counted {
    hits: u64,
    errors: u64,
    top_level_hits: u64,
    duration: u64,
    ok: BTreeMap<u64, f64>,
    error: BTreeMap<u64, f64>,
}

/// The groups in which the stats differ, as text. When a bucket begins is up to each side's clock, so the groups are
/// taken together over all buckets.
pub(crate) fn stats(ours: &[StatsGroup], theirs: &[StatsGroup]) -> anyhow::Result<Vec<String>> {
    let (ours, theirs) = (groups(ours)?, groups(theirs)?);
    let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let mut found = Vec::new();
    for key in keys {
        match (ours.get(key), theirs.get(key)) {
            (Some(ours), Some(theirs)) => {
                let what = differing(ours, theirs);
                if !what.is_empty() {
                    found.push(format!("{key}\n    {}", what.join("\n    ")));
                }
            }
            (Some(ours), None) => found.push(format!("{key}\n    only ours: {} hits", ours.hits)),
            (_, theirs) => {
                let hits = theirs.map_or(0, |counted| counted.hits);
                found.push(format!("{key}\n    only the reference's: {hits} hits"));
            }
        }
    }
    Ok(found)
}

fn groups(groups: &[StatsGroup]) -> anyhow::Result<BTreeMap<String, Counted>> {
    let mut counted = BTreeMap::<String, Counted>::new();
    for group in groups {
        let mut peer_tags = group.peer_tags.clone();
        peer_tags.sort();
        let key = format!(
            "host {:?} env {:?} version {:?} container {:?} lang {:?} tags {:?} bucket {} | service {:?} name {:?} \
             resource {:?} type {:?} kind {:?} http {} grpc {:?} peer {:?} root {:?} synthetics {}",
            group.hostname,
            group.env,
            group.version,
            group.container_id,
            group.lang,
            group.tags,
            group.bucket,
            group.service,
            group.name,
            group.resource,
            group.span_type,
            group.span_kind,
            group.http_status_code,
            group.grpc_status_code,
            peer_tags,
            group.is_trace_root,
            group.synthetics,
        );
        let counted = counted.entry(key).or_default();
        counted.hits += group.hits;
        counted.errors += group.errors;
        counted.top_level_hits += group.top_level_hits;
        counted.duration += group.duration;
        for (bins, sketch) in
            [(&mut counted.ok, &group.ok_summary), (&mut counted.error, &group.error_summary)]
        {
            let sketch = DDSketch::from_encoded(&sketch.0).context("no sketch")?;
            for (value, count) in sketch.ordered_bins() {
                *bins.entry(value.to_bits()).or_default() += count;
            }
        }
    }
    Ok(counted)
}

fn differing(ours: &Counted, theirs: &Counted) -> Vec<String> {
    let mut found = Vec::new();
    let numbers = [
        ("hits", ours.hits, theirs.hits),
        ("errors", ours.errors, theirs.errors),
        ("top-level hits", ours.top_level_hits, theirs.top_level_hits),
        ("duration", ours.duration, theirs.duration),
    ];
    for (what, ours, theirs) in numbers {
        if ours != theirs {
            found.push(format!("{what}: ours {ours}, the reference's {theirs}"));
        }
    }
    for (what, ours, theirs) in
        [("ok", &ours.ok, &theirs.ok), ("error", &ours.error, &theirs.error)]
    {
        if !same_latencies(ours, theirs) {
            let show = |bins: &BTreeMap<u64, f64>| -> Vec<(f64, f64)> {
                bins.iter().map(|(value, count)| (f64::from_bits(*value), *count)).collect()
            };
            let (ours, theirs) = (show(ours), show(theirs));
            found.push(format!("{what} latencies: ours {ours:?}, the reference's {theirs:?}"));
        }
    }
    found
}

/// Whether two sketches have equally many latencies, and each is as large as the other's of the same rank, within
/// what two neighbouring bins may differ by.
fn same_latencies(ours: &BTreeMap<u64, f64>, theirs: &BTreeMap<u64, f64>) -> bool {
    // Positive doubles are in the order of their bits.
    let ranked = |bins: &BTreeMap<u64, f64>| -> Vec<f64> {
        let values = bins.iter();
        values
            .flat_map(|(bits, count)| {
                std::iter::repeat_n(f64::from_bits(*bits), count.round() as usize)
            })
            .collect()
    };
    let (ours, theirs) = (ranked(ours), ranked(theirs));
    let close = |(ours, theirs): (&f64, &f64)| {
        (ours - theirs).abs() <= 0.021 * theirs.abs().max(f64::MIN_POSITIVE)
    };
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(close)
}
