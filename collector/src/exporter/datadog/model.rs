//! Datadog's trace payload as data: what translation makes and the payload builder writes.
//!
//! Field names follow Datadog's `AgentPayload` schema. Text is bytes, borrowed from the received batch where it can be.

use std::borrow::Cow;

/// Text that need not be UTF-8.
pub(crate) type Text<'a> = Cow<'a, [u8]>;

/// The spans of one resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct TracerPayload<'a> {
    pub(crate) container_id: Text<'a>,
    pub(crate) language_name: Text<'a>,
    pub(crate) tracer_version: Text<'a>,
    pub(crate) chunks: Vec<TraceChunk<'a>>,
    /// Traces that are not sent by their sampling priority, and count in stats all the same.
    pub(crate) unsent: Vec<TraceChunk<'a>>,
    pub(crate) tags: Vec<(&'static str, Text<'a>)>,
    pub(crate) env: Text<'a>,
    pub(crate) hostname: Text<'a>,
    pub(crate) app_version: Text<'a>,
}

/// The spans of one trace within a resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceChunk<'a> {
    pub(crate) priority: i32,
    pub(crate) origin: Text<'a>,
    pub(crate) spans: Vec<Span<'a>>,
    pub(crate) tags: Vec<(&'static str, Text<'a>)>,
}

/// One span.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span<'a> {
    pub(crate) service: Text<'a>,
    /// Datadog's operation name.
    pub(crate) name: Text<'a>,
    /// Datadog's resource name.
    pub(crate) resource: Text<'a>,
    pub(crate) trace_id: u64,
    pub(crate) span_id: u64,
    pub(crate) parent_id: u64,
    /// Nanoseconds since the epoch.
    pub(crate) start: i64,
    /// Nanoseconds.
    pub(crate) duration: i64,
    pub(crate) error: i32,
    pub(crate) meta: Entries<'a, Text<'a>>,
    pub(crate) metrics: Entries<'a, f64>,
    pub(crate) span_type: Text<'a>,
}

/// A small map, kept as a list: spans have a few dozen entries, which a number tells apart before their keys are compared.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a, V> {
    list: Vec<(u32, Text<'a>, V)>,
}

/// A number that equal keys share and most others do not: their length, first, middle and last bytes.
pub(crate) fn key_tag(key: &[u8]) -> u32 {
    let byte = |index: usize| key.get(index).copied().unwrap_or_default();
    u32::from_le_bytes([
        key.len() as u8,
        byte(0),
        byte(key.len() / 2),
        byte(key.len().wrapping_sub(1)),
    ])
}

impl<V> Default for Entries<'_, V> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<'a, V> Entries<'a, V> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { list: Vec::with_capacity(capacity) }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        self.position(key).map(|position| &self.list[position].2)
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.position(key).is_some()
    }

    /// Sets the entry, whether or not it was there.
    pub(crate) fn set(&mut self, key: impl Into<Text<'a>>, value: V) {
        let key = key.into();
        match self.position(&key) {
            Some(position) => self.list[position].2 = value,
            None => self.list.push((key_tag(&key), key, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(position) = self.position(key) {
            self.list.swap_remove(position);
        }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&Text<'a>, &V)> {
        self.list.iter().map(|(_, key, value)| (key, value))
    }

    /// Changes every key and value in place.
    pub(crate) fn change(&mut self, mut change: impl FnMut(&mut Text<'a>, &mut V)) {
        for (tag, key, value) in &mut self.list {
            change(key, value);
            *tag = key_tag(key);
        }
    }

    fn position(&self, key: &[u8]) -> Option<usize> {
        let tag = key_tag(key);
        self.list.iter().position(|(known, name, _)| *known == tag && name.as_ref() == key)
    }
}
