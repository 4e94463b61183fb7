//! Looking up attributes by the names that OpenTelemetry's conventions give them.

use std::borrow::Cow;

use super::known::{COUNT, PLACES, number, place};
use super::normalize;
use super::table::TABLE;
use crate::exporter::datadog::model::Text;
use crate::trace_batch::go_text::as_text;
use crate::trace_batch::{AnyValue, Attributes, RawValue};

/// Known keys that are looked up one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    numbers: &'static [usize],
    /// Their bits.
    bits: u64,
}

impl Keys {
    pub(super) const fn new(numbers: &'static [usize]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < numbers.len() {
            bits |= 1 << numbers[index];
            index += 1;
        }
        Self { numbers, bits }
    }

    /// Returns their names, the one that counts first first.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        self.numbers.iter().map(|number| TABLE[*number].key)
    }
}

/// [`Keys`] by their names, looked up when this is compiled.
macro_rules! keys {
    ($($name:literal),+ $(,)?) => {
        const {
            $crate::exporter::datadog::translate::attributes::Keys::new(const {
                &[$($crate::exporter::datadog::translate::known::number_of($name)),+]
            })
        }
    };
}
pub(super) use keys;

/// Names that attributes are looked up by: the first of several that is there.
pub(super) trait Names: Copy {
    /// Returns whether it is certain that none of them is in a set of known keys.
    fn are_not_in(self, named: u64) -> bool;

    fn find_in<'a>(self, attributes: &Attrs<'a>) -> Option<RawValue<'a>>;

    /// Returns the first text of the first name that any of the lists has one for.
    fn string_in<'a, const N: usize>(self, lists: [&Attrs<'a>; N]) -> &'a [u8];
}

impl Names for Keys {
    #[inline]
    fn are_not_in(self, named: u64) -> bool {
        named & self.bits == 0
    }

    #[inline]
    fn find_in<'a>(self, attributes: &Attrs<'a>) -> Option<RawValue<'a>> {
        if self.are_not_in(attributes.named) {
            return None;
        }
        let number = self.numbers.iter().find(|number| attributes.named & 1 << **number != 0)?;
        attributes.list.get(attributes.places[*number]).map(|(_, value)| *value)
    }

    #[inline]
    fn string_in<'a, const N: usize>(self, lists: [&Attrs<'a>; N]) -> &'a [u8] {
        for number in self.numbers {
            for list in lists {
                if list.named & 1 << *number != 0
                    && let Some((_, value)) = list.list.get(list.places[*number])
                    && let text = string(*value)
                    && !text.is_empty()
                {
                    return text;
                }
            }
        }
        b""
    }
}

/// Returns the text of a string; values of other types have none.
#[inline]
fn string(value: RawValue<'_>) -> &[u8] {
    value.text().unwrap_or_else(|| match value.get() {
        AnyValue::String(text) => text,
        _ => b"",
    })
}

impl Names for &'static str {
    fn are_not_in(self, _: u64) -> bool {
        false
    }

    fn find_in<'a>(self, attributes: &Attrs<'a>) -> Option<RawValue<'a>> {
        if !attributes.filter.may_have(place(self.as_bytes())) {
            return None;
        }
        let found = attributes.list.iter().find(|(key, _)| *key == self.as_bytes());
        found.map(|(_, value)| *value)
    }

    fn string_in<'a, const N: usize>(self, lists: [&Attrs<'a>; N]) -> &'a [u8] {
        let mut found = lists.iter().filter_map(|list| self.find_in(list)).map(string);
        found.find(|text| !text.is_empty()).unwrap_or_default()
    }
}

impl<const N: usize> Names for &[&'static str; N] {
    fn are_not_in(self, _: u64) -> bool {
        false
    }

    fn find_in<'a>(self, attributes: &Attrs<'a>) -> Option<RawValue<'a>> {
        self.iter().find_map(|name| name.find_in(attributes))
    }

    fn string_in<'a, const M: usize>(self, lists: [&Attrs<'a>; M]) -> &'a [u8] {
        let mut found = self.iter().map(|name| name.string_in(lists));
        found.find(|text| !text.is_empty()).unwrap_or_default()
    }
}

/// Attributes read once into a list, for many look-ups.
#[derive(Debug)]
pub(super) struct Attrs<'a> {
    list: Vec<(&'a [u8], RawValue<'a>)>,
    /// The known keys that are there, by their bits.
    named: u64,
    /// Index in the list at which each of these comes first.
    places: [usize; COUNT],
    /// Most look-ups are for what is not there, and end here.
    filter: Filter,
}

impl Default for Attrs<'_> {
    fn default() -> Self {
        let (list, filter) = (Vec::new(), Filter::default());
        Self { list, named: 0, places: [0; COUNT], filter }
    }
}

impl<'a> Attrs<'a> {
    pub(super) fn new(attributes: Attributes<'a>) -> Self {
        let mut list = Self::default();
        for (key, value) in attributes.raw() {
            list.push(key, value);
        }
        list
    }

    /// Adds an attribute.
    pub(super) fn push(&mut self, key: &'a [u8], value: RawValue<'a>) {
        self.push_at(place(key), key, value);
    }

    /// As [`Attrs::push`], with the place of the key; gives the key's number, if it is a known one.
    #[inline(always)]
    pub(super) fn push_at(
        &mut self,
        place: usize,
        key: &'a [u8],
        value: RawValue<'a>,
    ) -> Option<usize> {
        self.filter.set(place);
        let number = number(key, place);
        if let Some(number) = number
            && self.named & 1 << number == 0
        {
            self.named |= 1 << number;
            self.places[number] = self.list.len();
        }
        self.list.push((key, value));
        number
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.named = 0;
        self.filter = Filter::default();
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], AnyValue<'a>)> {
        self.list.iter().map(|(key, value)| (*key, value.get()))
    }

    /// As [`Attrs::iter`], with values that are not read yet.
    pub(super) fn raw(&self) -> impl ExactSizeIterator<Item = (&'a [u8], RawValue<'a>)> {
        self.list.iter().copied()
    }

    /// The first attribute of the first of these names that is there.
    pub(super) fn get(&self, names: impl Names) -> Option<AnyValue<'a>> {
        names.find_in(self).map(RawValue::get)
    }

    /// Returns whether there is an attribute of any of these names.
    #[inline]
    pub(super) fn has(&self, names: impl Names) -> bool {
        names.find_in(self).is_some()
    }

    /// The attribute if it is a string; what is of another type counts as empty.
    pub(super) fn string(&self, key: &'static str) -> Option<&'a [u8]> {
        self.get(key).map(|value| match value {
            AnyValue::String(text) => text,
            _ => &[],
        })
    }

    /// Returns the first text that any of these names has; values of other types do not count.
    pub(super) fn concept(&self, names: impl Names) -> Text<'a> {
        Cow::Borrowed(names.string_in([self]))
    }

    /// The first of these names that exists, as text; empty if none does.
    #[inline]
    pub(super) fn text(&self, names: impl Names) -> Text<'a> {
        match names.find_in(self) {
            Some(value) => value.text().map_or_else(|| as_text(&value.get()), Cow::Borrowed),
            None => Cow::Borrowed(b""),
        }
    }
}

/// A bit for each key of a set, and by chance for others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filter([u64; PLACES / 64]);

impl Filter {
    /// Adds a key by its place; gives whether it may have been there.
    #[inline]
    pub(super) fn set(&mut self, place: usize) -> bool {
        let (word, bit) = (place / 64 % 8, 1 << (place % 64));
        let was_set = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was_set
    }

    /// Returns whether the key of this place may be there.
    #[inline]
    pub(super) fn may_have(&self, place: usize) -> bool {
        self.0[place / 64 % 8] & 1 << (place % 64) != 0
    }
}

/// The attributes of a span and of its resource.
#[derive(Clone, Copy)]
pub(super) struct Both<'s, 'a> {
    pub(super) span: &'s Attrs<'a>,
    pub(super) resource: &'s Attrs<'a>,
}

impl<'a> Both<'_, 'a> {
    /// Returns the first text that any of these names has, with each name the span's before the resource's; values of other
    /// types do not count (agent, `pkg/trace/semantics`).
    #[inline]
    pub(super) fn text(self, names: impl Names) -> Text<'a> {
        if self.have_none(names) {
            return Cow::Borrowed(b"");
        }
        Cow::Borrowed(names.string_in([self.span, self.resource]))
    }

    /// Returns the first integer of this name, the span's before the resource's.
    pub(super) fn int(self, name: impl Names) -> Option<i64> {
        [self.span, self.resource].into_iter().find_map(|list| match list.get(name) {
            Some(AnyValue::Int(int)) => Some(int),
            _ => None,
        })
    }

    /// The resource's attribute, or if that is empty the span's.
    pub(super) fn resource_first(self, names: impl Names) -> Text<'a> {
        if self.have_none(names) {
            return Cow::Borrowed(b"");
        }
        let text = self.resource.text(names);
        if text.is_empty() { self.span.text(names) } else { text }
    }

    /// As [`Both::text`], made a normal tag value.
    #[inline]
    pub(super) fn normal(self, names: impl Names) -> Text<'a> {
        if self.have_none(names) {
            return Cow::Borrowed(b"");
        }
        normalize::tag_value(self.text(names))
    }

    /// Returns whether it is certain that neither has any of these.
    #[inline]
    fn have_none(self, names: impl Names) -> bool {
        names.are_not_in(self.span.named | self.resource.named)
    }
}
