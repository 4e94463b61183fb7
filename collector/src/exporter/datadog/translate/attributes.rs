//! Looking up attributes by the names that OpenTelemetry's conventions give them.

use std::borrow::Cow;

use super::go_text::as_text;
use super::normalize;
use crate::exporter::datadog::model::Text;
use crate::trace_batch::{AnyValue, Attributes};

/// Attributes read once into a list, for many look-ups.
#[derive(Debug, Default)]
pub(super) struct Attrs<'a> {
    list: Vec<(&'a [u8], AnyValue<'a>)>,
    /// A bit for each key that is there, and by chance for others: most look-ups are for what is not, and end here.
    filter: [u64; 4],
}

impl<'a> Attrs<'a> {
    pub(super) fn new(attributes: Attributes<'a>) -> Self {
        let mut list = Self::default();
        for (key, value) in attributes.iter() {
            list.push(key, value);
        }
        list
    }

    pub(super) fn push(&mut self, key: &'a [u8], value: AnyValue<'a>) {
        let (word, bit) = place(key);
        self.filter[word] |= bit;
        self.list.push((key, value));
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.filter = [0; 4];
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], AnyValue<'a>)> {
        self.list.iter().copied()
    }

    /// The first attribute of that name.
    #[inline]
    pub(super) fn get(&self, key: &str) -> Option<AnyValue<'a>> {
        let (word, bit) = place(key.as_bytes());
        if self.filter[word] & bit == 0 { None } else { self.find(key) }
    }

    fn find(&self, key: &str) -> Option<AnyValue<'a>> {
        let found = self.list.iter().find(|(name, _)| *name == key.as_bytes());
        found.map(|(_, value)| *value)
    }

    /// The attribute if it is a string; what is of another type counts as empty.
    pub(super) fn string(&self, key: &str) -> Option<&'a [u8]> {
        self.get(key).map(|value| match value {
            AnyValue::String(text) => text,
            _ => &[],
        })
    }

    /// The first of these keys that exists, as text; empty if none does.
    #[inline]
    pub(super) fn text(&self, keys: &[&str]) -> Text<'a> {
        let found = keys.iter().find_map(|key| self.get(key));
        found.map_or(Cow::Borrowed(b""), |value| as_text(&value))
    }
}

/// Where the filter has a key's bit. Known keys differ in their lengths and last letters for the most part.
#[inline]
fn place(key: &[u8]) -> (usize, u64) {
    let at = |index: usize| key.get(index).map_or(0, |byte| usize::from(*byte));
    let mixed =
        key.len().wrapping_mul(37) ^ at(0).wrapping_mul(5) ^ at(key.len().wrapping_sub(1)) << 2;
    let mixed = mixed ^ at(key.len() / 2).wrapping_mul(11);
    ((mixed >> 6) & 3, 1 << (mixed & 63))
}

/// The attributes of a span and of its resource.
#[derive(Clone, Copy)]
pub(super) struct Both<'s, 'a> {
    pub(super) span: &'s Attrs<'a>,
    pub(super) resource: &'s Attrs<'a>,
}

impl<'a> Both<'_, 'a> {
    /// The span's attribute, or if that is empty the resource's.
    #[inline]
    pub(super) fn text(self, keys: &[&str]) -> Text<'a> {
        let text = self.span.text(keys);
        if text.is_empty() { self.resource.text(keys) } else { text }
    }

    /// The resource's attribute, or if that is empty the span's.
    pub(super) fn resource_first(self, keys: &[&str]) -> Text<'a> {
        let text = self.resource.text(keys);
        if text.is_empty() { self.span.text(keys) } else { text }
    }

    /// As [`Both::text`], made a normal tag value.
    #[inline]
    pub(super) fn normal(self, keys: &[&str]) -> Text<'a> {
        let text = normalize::tag_value(self.span.text(keys));
        if text.is_empty() { normalize::tag_value(self.resource.text(keys)) } else { text }
    }
}
