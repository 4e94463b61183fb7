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
}

impl<'a> Attrs<'a> {
    pub(super) fn new(attributes: Attributes<'a>) -> Self {
        Self { list: attributes.iter().collect() }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], AnyValue<'a>)> {
        self.list.iter().copied()
    }

    /// The first attribute of that name.
    pub(super) fn get(&self, key: &str) -> Option<AnyValue<'a>> {
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
    pub(super) fn text(&self, keys: &[&str]) -> Text<'a> {
        let found = keys.iter().find_map(|key| self.get(key));
        found.map_or(Cow::Borrowed(b""), |value| as_text(&value))
    }
}

/// The attributes of a span and of its resource.
#[derive(Clone, Copy)]
pub(super) struct Both<'s, 'a> {
    pub(super) span: &'s Attrs<'a>,
    pub(super) resource: &'s Attrs<'a>,
}

impl<'a> Both<'_, 'a> {
    /// The span's attribute, or if that is empty the resource's.
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
    pub(super) fn normal(self, keys: &[&str]) -> Text<'a> {
        let text = normalize::tag_value(self.span.text(keys));
        if text.is_empty() { normalize::tag_value(self.resource.text(keys)) } else { text }
    }
}
