//! The entries of a span's meta that its own attributes and its resource's make.

use std::borrow::Cow;

use super::Writer;
use crate::exporter::datadog::counting::{Counting, records::Records};
use crate::exporter::datadog::payload::{META, put_entry};
use crate::exporter::datadog::translate::agent;
use crate::exporter::datadog::translate::attributes::Filter;
use crate::exporter::datadog::translate::known::place;
use crate::exporter::datadog::translate::limits::MAX_VALUE_BYTES;
use crate::exporter::datadog::translate::obfuscation::TakenOut;
use crate::exporter::datadog::translate::table::{Class, GRPC_STATUS_CODE, STATUS_CODE};
use crate::trace_batch::AnyValue;
use crate::trace_batch::go_text::as_text;

/// Up to this many keys, one that comes again is found by linear search.
const FEW_KEYS: usize = 32;

/// State that the entries of a span's own attributes depend on.
pub(super) struct Own<'o> {
    pub(super) status_code: u32,
    pub(super) grpc_code: Option<&'o [u8]>,
    pub(super) hides_password: bool,
    /// The query that the resource name was made of, and what became of it; none where queries stay as they are.
    pub(super) query: Option<(&'o [u8], &'o [u8])>,
    pub(super) counts_peers: bool,
    /// Texts that an option obfuscates besides.
    pub(super) taken_out: Option<TakenOut<'o>>,
}

impl<'a> Writer<'_, 'a> {
    /// Writes the span's own attributes, and keeps those that are metrics. Gives whether one names a database; `None` if
    /// they are unusual.
    pub(super) fn own_entries(&mut self, out: &mut Vec<u8>, of: &Own<'_>) -> Option<bool> {
        let Own { status_code, counts_peers, .. } = *of;
        self.metrics.clear();
        self.keys.clear();
        self.replaced.clear();
        let is_long = self.classes.len() > FEW_KEYS;
        if is_long {
            self.table.reset(self.classes.len());
        }
        let (mut seen, mut has_db_name) = (Filter::default(), false);
        if let Some(code) = of.grpc_code {
            if is_long {
                self.table.insert(GRPC_STATUS_CODE, |_| b"");
            }
            seen.set(place(GRPC_STATUS_CODE));
            self.keys.push((GRPC_STATUS_CODE, true));
            let records = counts_peers.then_some(&mut *self.records);
            put_own(out, records, self.context.counting, GRPC_STATUS_CODE, code);
        }
        let classes = self.classes.iter().zip(&self.places);
        for ((key, value), (class, own_place)) in self.own.raw().zip(classes) {
            if *class == Class::StatusCode {
                continue;
            }
            let (target, place) = match class.key(key) {
                None => continue,
                Some(target) if std::ptr::eq(target, key) => (key, *own_place),
                Some(target) => (target, place(target)),
            };
            let hidden = of.taken_out.and_then(|taken_out| taken_out.attribute(key, &value.get()));
            let mut text = match (hidden, value.text()) {
                (Some(text), _) => text,
                (None, Some(text)) => Cow::Borrowed(text),
                (None, None) => match value.get() {
                    AnyValue::Int(number) => {
                        set_metric(&mut self.metrics, target, number as f64, status_code);
                        continue;
                    }
                    AnyValue::Double(number) => {
                        set_metric(&mut self.metrics, target, number, status_code);
                        continue;
                    }
                    value => as_text(&value),
                },
            };
            if text.len() > MAX_VALUE_BYTES {
                return None;
            }
            let keys = &self.keys;
            let known = match is_long {
                true => self.table.insert(target, |index| keys[index].0),
                false if seen.set(place) => keys.iter().position(|(key, _)| *key == target),
                false => None,
            };
            if let Some(known) = known {
                // The first one stays, unless it has no value.
                if self.keys[known].1 {
                    continue;
                }
                return None;
            }
            self.keys.push((target, !text.is_empty()));
            match class {
                Class::PeerService => text = agent::service_tag(text),
                Class::DbName => has_db_name = true,
                Class::Url if of.hides_password => {
                    if let Some(url) = agent::obfuscated_url(&text) {
                        text = Cow::Owned(url);
                    }
                    if text.len() > MAX_VALUE_BYTES {
                        return None;
                    }
                }
                Class::Query if !text.is_empty() => {
                    if let Some((raw, resource)) = of.query {
                        text = match *text == *raw {
                            true => Cow::Borrowed(resource),
                            false => agent::obfuscated_query(&text),
                        };
                        if text.len() > MAX_VALUE_BYTES {
                            return None;
                        }
                    }
                }
                _ => {}
            }
            let entries = &self.resource.entries;
            if self.resource.filter.may_have(place)
                && let Some(index) = self.resource.table.find(target, |index| entries[index].key)
            {
                if text.is_empty() {
                    return None;
                }
                self.replaced.push(index);
            }
            let records = counts_peers.then_some(&mut *self.records);
            put_own(out, records, self.context.counting, target, &text);
        }
        Some(has_db_name)
    }

    /// Writes the resource's attributes where the span has some of them itself, and so not those.
    pub(super) fn resource_entries(&mut self, out: &mut Vec<u8>, counts_peers: bool) {
        if self.replaced.is_empty() && !counts_peers {
            return;
        }
        for (index, entry) in self.resource.entries.iter().enumerate() {
            if self.replaced.contains(&index) {
                continue;
            }
            if !self.replaced.is_empty() {
                put_entry(out, META, entry.key, &entry.value);
            }
            if let (true, Some(tag)) = (counts_peers, entry.peer) {
                self.records.peer(tag, &entry.value);
            }
        }
    }
}

/// Writes an entry, and notes it in the records if it is a peer tag.
fn put_own(
    out: &mut Vec<u8>,
    records: Option<&mut Records>,
    counting: Option<&Counting>,
    key: &[u8],
    text: &[u8],
) {
    put_entry(out, META, key, text);
    if let Some(records) = records
        && let Some(tag) = counting.and_then(|counting| counting.peer_tag(key))
    {
        records.peer(tag, text);
    }
}

fn set_metric<'a>(metrics: &mut Vec<(&'a [u8], f64)>, key: &'a [u8], value: f64, status_code: u32) {
    let is_known = key == STATUS_CODE && status_code != 0;
    if !is_known && !metrics.iter().any(|(name, _)| *name == key) {
        metrics.push((key, value));
    }
}
