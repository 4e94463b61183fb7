//! Which spans of a trace came together, as a batch's time would have it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::trace::Span;

/// Returns whether an exporter sets a key by which spans are in one chunk, so that another cut of the same spans sets it otherwise.
pub(super) fn hangs_on_the_cut(key: &str) -> bool {
    key == "_top_level" || key.starts_with("_dd.p.") || key.starts_with("_sampling_priority")
}

/// Returns for each span of a list the company in which it came: alike for two spans of two runs where the same ones came with them.
pub(super) fn companies<'a>(spans: impl Iterator<Item = &'a Span> + Clone) -> Vec<u64> {
    let chunk = |span: &'a Span| (span.attempt, span.service.as_str());
    let mut members: BTreeMap<_, DefaultHasher> = BTreeMap::new();
    for (number, span) in spans.clone().enumerate() {
        number.hash(members.entry(chunk(span)).or_default());
    }
    spans.map(|span| members.get(&chunk(span)).map_or(0, Hasher::finish)).collect()
}
