//! Comparison of the two sides' spans and stats.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

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

/// Fields that distinguish a group of stats from others, with their values.
type Key = BTreeMap<&'static str, String>;

/// A difference of stats.
#[derive(Debug)]
pub(crate) struct StatsDifference {
    /// The fields.
    pub(crate) what: String,
    pub(crate) text: String,
}

/// The groups in which the stats differ. When a bucket begins is up to each side's clock, so the groups are taken
/// together over all buckets. A group that only one side has is shown with the other side's most similar one.
pub(crate) fn stats(
    ours: &[StatsGroup],
    theirs: &[StatsGroup],
) -> anyhow::Result<Vec<StatsDifference>> {
    let (ours, theirs) = (groups(ours)?, groups(theirs)?);
    let mut found = Vec::new();
    for (key, ours) in &ours {
        if let Some(theirs) = theirs.get(key) {
            let numbers = differing(ours, theirs);
            if !numbers.is_empty() {
                let what: Vec<_> = numbers.iter().map(|(what, _)| *what).collect();
                let texts: Vec<_> = numbers.iter().map(|(_, text)| text.as_str()).collect();
                let text = format!("{key:?}\n    {}", texts.join("\n    "));
                found.push(StatsDifference { what: what.join(", "), text });
            }
        }
    }
    let alone = |from: &BTreeMap<Key, Counted>, other: &BTreeMap<Key, Counted>| -> Vec<Key> {
        from.keys().filter(|key| !other.contains_key(*key)).cloned().collect()
    };
    let (only_ours, mut only_theirs) = (alone(&ours, &theirs), alone(&theirs, &ours));
    for key in only_ours {
        let hits = ours[&key].hits;
        let fields = |other: &Key| key.keys().filter(|field| key[*field] != other[*field]).count();
        let nearest = (0..only_theirs.len()).min_by_key(|index| fields(&only_theirs[*index]));
        let nearest = nearest.filter(|index| fields(&only_theirs[*index]) < 3);
        let Some(nearest) = nearest.map(|index| only_theirs.remove(index)) else {
            let text = format!("only ours, {hits} hits: {key:?}");
            found.push(StatsDifference { what: "a group of ours".to_owned(), text });
            continue;
        };
        let mut text = format!("{key:?}");
        let mut what = Vec::new();
        for (field, value) in key.iter().filter(|(field, value)| nearest[*field] != **value) {
            what.push(*field);
            let _ = write!(text, "\n    {field}: ours {value}, the reference's {}", nearest[field]);
        }
        let _ = write!(text, "\n    hits: ours {hits}, the reference's {}", theirs[&nearest].hits);
        found.push(StatsDifference { what: what.join(", "), text });
    }
    found.extend(only_theirs.into_iter().map(|key| StatsDifference {
        what: "a group of the reference's".to_owned(),
        text: format!("only the reference's, {} hits: {key:?}", theirs[&key].hits),
    }));
    Ok(found)
}

fn groups(groups: &[StatsGroup]) -> anyhow::Result<BTreeMap<Key, Counted>> {
    let mut counted = BTreeMap::<Key, Counted>::new();
    for group in groups {
        let mut peer_tags = group.peer_tags.clone();
        peer_tags.sort();
        let key = Key::from([
            ("host", format!("{:?}", group.hostname)),
            ("env", format!("{:?}", group.env)),
            ("version", format!("{:?}", group.version)),
            ("container", format!("{:?}", group.container_id)),
            ("lang", format!("{:?}", group.lang)),
            ("commit", format!("{:?}", group.git_commit_sha)),
            ("tags", format!("{:?}", group.tags)),
            ("bucket", group.bucket.to_string()),
            ("service", format!("{:?}", group.service)),
            ("name", format!("{:?}", group.name)),
            ("resource", format!("{:?}", group.resource)),
            ("type", format!("{:?}", group.span_type)),
            ("kind", format!("{:?}", group.span_kind)),
            ("http status", group.http_status_code.to_string()),
            ("grpc status", format!("{:?}", group.grpc_status_code)),
            ("peer tags", format!("{peer_tags:?}")),
            ("is root", format!("{:?}", group.is_trace_root)),
            ("synthetics", group.synthetics.to_string()),
        ]);
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

fn differing(ours: &Counted, theirs: &Counted) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let numbers = [
        ("hits", ours.hits, theirs.hits),
        ("errors", ours.errors, theirs.errors),
        ("top-level hits", ours.top_level_hits, theirs.top_level_hits),
        ("duration", ours.duration, theirs.duration),
    ];
    for (what, ours, theirs) in numbers {
        if ours != theirs {
            found.push((what, format!("{what}: ours {ours}, the reference's {theirs}")));
        }
    }
    for (what, ours, theirs) in
        [("ok latencies", &ours.ok, &theirs.ok), ("error latencies", &ours.error, &theirs.error)]
    {
        if !same_latencies(ours, theirs) {
            let show = |bins: &BTreeMap<u64, f64>| -> Vec<(f64, f64)> {
                bins.iter().map(|(value, count)| (f64::from_bits(*value), *count)).collect()
            };
            let (ours, theirs) = (show(ours), show(theirs));
            let text = format!("{what}: ours {ours:?}, the reference's {theirs:?}");
            found.push((what, text));
        }
    }
    found
}

/// Returns whether two sketches have equally many latencies, and each is as large as the other's of the same rank, within
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
