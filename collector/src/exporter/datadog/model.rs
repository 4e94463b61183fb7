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
    /// Traces that are not sent by their sampling priority, or only in part, and count in stats all the same.
    pub(crate) unsent: Vec<TraceChunk<'a>>,
    /// Whether the sender has computed stats itself, so that nobody else may.
    pub(crate) has_stats: bool,
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
    /// The trace was dropped, and these spans of it are sent all the same.
    pub(crate) is_dropped: bool,
    /// These are some spans of a trace that is among the unsent ones, which counts in stats.
    pub(crate) is_part: bool,
    pub(crate) counted: StatsContext<'a>,
}

/// Context that separates a trace's stats from others': what its payload was known to have when it came to the trace.
#[derive(Debug, Clone)]
pub(crate) struct StatsContext<'a> {
    pub(crate) hostname: Text<'a>,
    pub(crate) env: Text<'a>,
    pub(crate) version: Text<'a>,
    /// The commit that the service was built from.
    pub(crate) commit: Text<'a>,
    /// The service that the root's own one is a part of.
    pub(crate) base_service: Text<'a>,
    /// How many traces this one stands for.
    pub(crate) weight: f64,
}

impl Default for StatsContext<'_> {
    fn default() -> Self {
        let (hostname, env) = Default::default();
        let (version, commit, base_service) = Default::default();
        Self { hostname, env, version, commit, base_service, weight: 1.0 }
    }
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

/// A small map, kept as a list: spans have a few dozen entries.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a, V> {
    list: Vec<(Text<'a>, V)>,
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
        self.list.iter().find(|(name, _)| name.as_ref() == key).map(|(_, value)| value)
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// Sets the entry, whether or not it was there.
    pub(crate) fn set(&mut self, key: impl Into<Text<'a>>, value: V) {
        let key = key.into();
        match self.list.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value,
            None => self.list.push((key, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.list.retain(|(name, _)| name.as_ref() != key);
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&Text<'a>, &V)> {
        self.list.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&mut Text<'a>, &mut V)> {
        self.list.iter_mut().map(|(key, value)| (key, value))
    }
}
