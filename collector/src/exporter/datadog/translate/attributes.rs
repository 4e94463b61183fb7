//! Looking up attributes by the names that OpenTelemetry's conventions give them.

use std::borrow::Cow;

use super::go_text::as_text;
use super::normalize;
use crate::exporter::datadog::model::Text;
use crate::trace_batch::{AnyValue, Attributes, RawValue};

/// A key that is looked up, with its place in the filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    name: &'static str,
    place: (usize, u64),
}

impl Key {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, place: place(name.as_bytes()) }
    }
}

/// Keys whose places are computed when this is compiled.
macro_rules! keys {
    ($($name:literal),+ $(,)?) => {
        const { &[$($crate::exporter::datadog::translate::attributes::Key::new($name)),+] }
    };
}
pub(super) use keys;

/// What attributes are looked up by.
pub(super) trait Name: Copy {
    fn key(self) -> (usize, u64, &'static str);
}

impl Name for Key {
    #[inline]
    fn key(self) -> (usize, u64, &'static str) {
        (self.place.0, self.place.1, self.name)
    }
}

impl Name for &'static str {
    fn key(self) -> (usize, u64, &'static str) {
        Key::new(self).key()
    }
}

/// Attributes read once into a list, for many look-ups.
#[derive(Debug, Default)]
pub(super) struct Attrs<'a> {
    list: Vec<(&'a [u8], RawValue<'a>)>,
    /// Most look-ups are for what is not there, and end here.
    filter: Filter,
}

impl<'a> Attrs<'a> {
    pub(super) fn new(attributes: Attributes<'a>) -> Self {
        let mut list = Self::default();
        for (key, value) in attributes.raw() {
            list.push(key, value);
        }
        list
    }

    #[inline]
    pub(super) fn push(&mut self, key: &'a [u8], value: RawValue<'a>) {
        self.filter.insert(key);
        self.list.push((key, value));
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.filter = Filter::default();
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], AnyValue<'a>)> {
        self.list.iter().map(|(key, value)| (*key, value.get()))
    }

    /// As [`Attrs::iter`], with values that are not read yet.
    pub(super) fn raw(&self) -> impl ExactSizeIterator<Item = (&'a [u8], RawValue<'a>)> {
        self.list.iter().copied()
    }

    /// The first attribute of that name.
    pub(super) fn get(&self, name: impl Name) -> Option<AnyValue<'a>> {
        self.find(name).map(RawValue::get)
    }

    /// Whether there is an attribute of that name.
    #[inline]
    pub(super) fn has(&self, name: impl Name) -> bool {
        self.find(name).is_some()
    }

    #[inline]
    fn find(&self, name: impl Name) -> Option<RawValue<'a>> {
        let (word, bit, name) = name.key();
        if self.filter.0[word] & bit == 0 { None } else { self.search(name.as_bytes()) }
    }

    fn search(&self, name: &[u8]) -> Option<RawValue<'a>> {
        let found = self.list.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| *value)
    }

    /// The attribute if it is a string; what is of another type counts as empty.
    pub(super) fn string(&self, key: &'static str) -> Option<&'a [u8]> {
        self.get(key).map(|value| match value {
            AnyValue::String(text) => text,
            _ => &[],
        })
    }

    /// The first of these keys that exists, as text; empty if none does.
    #[inline]
    pub(super) fn text(&self, keys: &[impl Name]) -> Text<'a> {
        for key in keys {
            if let Some(value) = self.find(*key) {
                return value.text().map_or_else(|| as_text(&value.get()), Cow::Borrowed);
            }
        }
        Cow::Borrowed(b"")
    }
}

/// A bit for each key of a set, and by chance for others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filter([u64; 8]);

impl Filter {
    /// Adds a key; gives whether it may have been there.
    #[inline]
    pub(super) fn insert(&mut self, key: &[u8]) -> bool {
        let (word, bit) = place(key);
        let was_set = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was_set
    }

    /// Whether a key may be there.
    #[inline]
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        let (word, bit) = place(key);
        self.0[word] & bit != 0
    }
}

/// Where a filter has a key's bit. Known keys differ in their lengths and last letters for the most part.
#[inline]
const fn place(key: &[u8]) -> (usize, u64) {
    let length = key.len();
    if length == 0 {
        return (0, 1);
    }
    let (first, middle, last) =
        (key[0] as usize, key[length / 2] as usize, key[length - 1] as usize);
    let mixed = length.wrapping_mul(37) ^ (first * 5) ^ (last << 2) ^ (middle * 11);
    ((mixed >> 6) & 7, 1 << (mixed & 63))
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
    pub(super) fn text(self, keys: &[impl Name]) -> Text<'a> {
        let text = self.span.text(keys);
        if text.is_empty() { self.resource.text(keys) } else { text }
    }

    /// The resource's attribute, or if that is empty the span's.
    pub(super) fn resource_first(self, keys: &[impl Name]) -> Text<'a> {
        let text = self.resource.text(keys);
        if text.is_empty() { self.span.text(keys) } else { text }
    }

    /// As [`Both::text`], made a normal tag value.
    #[inline]
    pub(super) fn normal(self, keys: &[impl Name]) -> Text<'a> {
        let text = normalize::tag_value(self.span.text(keys));
        if text.is_empty() { normalize::tag_value(self.resource.text(keys)) } else { text }
    }
}
