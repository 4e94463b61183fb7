//! Groups of stats: the keys that spans are counted by, and the counts.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use libdd_ddsketch::{DDSketch, pb as sketch};
use libdd_trace_obfuscation::ip_address::quantize_peer_ip_addresses;
use libdd_trace_protobuf::pb;

use crate::exporter::datadog::counting::{Counting, records};
use crate::exporter::datadog::model::{Span, TraceChunk};
use crate::exporter::datadog::translate::concepts::{self, Keys};
use crate::exporter::datadog::translate::{go_u64, parse_whole_number};

/// The relative accuracy of latencies is 1 %, as in the agent: `(1 + 0.01) / (1 - 0.01)`.
const GAMMA: f64 = 1.01 / 0.99;

/// Key of a group of spans: borrowed from a span, or as a copy that outlives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GroupKey<'a> {
    pub(super) service: Cow<'a, [u8]>,
    pub(super) name: Cow<'a, [u8]>,
    pub(super) resource: Cow<'a, [u8]>,
    pub(super) span_type: Cow<'a, [u8]>,
    pub(super) status_code: u32,
    pub(super) grpc_status_code: String,
    pub(super) span_kind: Cow<'a, [u8]>,
    /// Origin of the service's name.
    pub(super) service_source: Cow<'a, [u8]>,
    pub(super) peer_tags: Vec<String>,
    pub(super) is_trace_root: bool,
    pub(super) is_synthetic: bool,
}

impl<'a> GroupKey<'a> {
    pub(super) fn new(counting: &Counting, chunk: &TraceChunk<'_>, span: &'a Span<'_>) -> Self {
        let span_kind = span.meta.get(b"span.kind").map_or(&b""[..], |kind| kind);
        Self {
            service: Cow::Borrowed(&span.service),
            name: Cow::Borrowed(&span.name),
            resource: Cow::Borrowed(&span.resource),
            span_type: Cow::Borrowed(&span.span_type),
            status_code: status_code(span),
            grpc_status_code: grpc_status_code(span),
            span_kind: Cow::Borrowed(span_kind),
            service_source: Cow::Borrowed(
                span.meta.get(b"_dd.svc_src").map_or(&b""[..], |source| source),
            ),
            peer_tags: peer_tags(counting, span_kind, span),
            is_trace_root: span.parent_id == 0,
            is_synthetic: chunk.origin.starts_with(b"synthetics"),
        }
    }

    /// Returns the key that the bytes of a span's record mean; `None` if they are none of a record.
    pub(super) fn of_record(counting: &Counting, bytes: &'a [u8]) -> Option<Self> {
        let (facts, peers) = records::read(bytes)?;
        let peer_tag = |(tag, value): (u16, &[u8])| {
            Some(peer_tag_text(counting.peer_tags.get(usize::from(tag))?, value))
        };
        let mut peer_tags = peers.into_iter().map(peer_tag).collect::<Option<Vec<_>>>()?;
        peer_tags.sort();
        Some(Self {
            service: Cow::Borrowed(facts.service),
            name: Cow::Borrowed(facts.name),
            resource: Cow::Borrowed(facts.resource),
            span_type: Cow::Borrowed(facts.span_type),
            status_code: facts.status_code,
            grpc_status_code: facts.grpc_status_code.to_owned(),
            span_kind: Cow::Borrowed(facts.kind),
            // A span that has one is no usual one, and none of these.
            service_source: Cow::Borrowed(b""),
            peer_tags,
            is_trace_root: facts.is_trace_root,
            is_synthetic: false,
        })
    }

    pub(super) fn into_owned(self) -> GroupKey<'static> {
        let owned = |text: Cow<'a, [u8]>| Cow::Owned(text.into_owned());
        GroupKey {
            service: owned(self.service),
            name: owned(self.name),
            resource: owned(self.resource),
            span_type: owned(self.span_type),
            span_kind: owned(self.span_kind),
            service_source: owned(self.service_source),
            status_code: self.status_code,
            grpc_status_code: self.grpc_status_code,
            peer_tags: self.peer_tags,
            is_trace_root: self.is_trace_root,
            is_synthetic: self.is_synthetic,
        }
    }
}

/// Groups by their keys, so that a span's group is found without copying the key.
#[derive(Debug, Default)]
pub(super) struct Groups {
    list: Vec<(GroupKey<'static>, Group)>,
    /// Places in the list, each with its key's hash.
    places: HashTable<(u64, usize)>,
    hasher: DefaultHashBuilder,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The place of the key's group, and whether it is a new one; `None` if that has no room.
    pub(super) fn find_or_add(
        &mut self,
        key: GroupKey<'_>,
        has_room: bool,
    ) -> Option<(usize, bool)> {
        let hash = self.hasher.hash_one(&key);
        let is_same = |(_, place): &(u64, usize)| self.list[*place].0 == key;
        if let Some((_, place)) = self.places.find(hash, is_same) {
            return Some((*place, false));
        }
        if !has_room {
            return None;
        }
        let place = self.list.len();
        self.list.push((key.into_owned(), Group::default()));
        self.places.insert_unique(hash, (hash, place), |(hash, _)| *hash);
        Some((place, true))
    }

    /// The group at a place that [`Groups::find_or_add`] gave.
    pub(super) fn group(&mut self, place: usize) -> &mut Group {
        &mut self.list[place].1
    }

    pub(super) fn into_stats(self) -> impl Iterator<Item = pb::ClientGroupedStats> {
        self.list.into_iter().map(|(key, group)| group.into_stats(key))
    }
}

/// The numbers of a group.
#[derive(Debug, Default)]
pub(super) struct Group {
    hits: f64,
    errors: f64,
    /// Nanoseconds.
    duration: f64,
    top_level_hits: f64,
    ok: Latencies,
    error: Latencies,
}

impl Group {
    /// Counts a span, as often as it stands for; its duration is in nanoseconds.
    pub(super) fn add(&mut self, duration: i64, is_error: bool, is_top_level: bool, weight: f64) {
        let times = |applies: bool| if applies { weight } else { 0.0 };
        self.hits += weight;
        self.errors += times(is_error);
        self.duration += duration as f64 * weight;
        self.top_level_hits += times(is_top_level);
        let latencies = if is_error { &mut self.error } else { &mut self.ok };
        latencies.add(duration);
    }

    fn into_stats(self, key: GroupKey<'static>) -> pb::ClientGroupedStats {
        let root = if key.is_trace_root { pb::Trilean::True } else { pb::Trilean::False };
        pb::ClientGroupedStats {
            service: text(&key.service),
            name: text(&key.name),
            resource: text(&key.resource),
            http_status_code: key.status_code,
            r#type: text(&key.span_type),
            hits: rounded(self.hits),
            errors: rounded(self.errors),
            duration: rounded(self.duration),
            ok_summary: self.ok.encode(),
            error_summary: self.error.encode(),
            synthetics: key.is_synthetic,
            top_level_hits: rounded(self.top_level_hits),
            span_kind: text(&key.span_kind),
            peer_tags: key.peer_tags,
            is_trace_root: root.into(),
            grpc_status_code: key.grpc_status_code,
            service_source: text(&key.service_source),
            ..pb::ClientGroupedStats::default()
        }
    }
}

/// The number without its fraction, or one more, by a chance as large as the fraction: sums of many are right.
fn rounded(count: f64) -> u64 {
    let whole = go_u64(count);
    whole + u64::from(rand::random::<f64>() < count - whole as f64)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A sketch of latencies; there is none before the first.
#[derive(Debug, Default)]
struct Latencies(Option<Box<DDSketch>>);

impl Latencies {
    fn add(&mut self, nanos: i64) {
        // The agent rounds to ten bits of precision first.
        let rounded = f64::from_bits((nanos as f64).to_bits() & 0xffff_f800_0000_0000);
        let sketch = self.0.get_or_insert_with(|| Box::new(empty_sketch()));
        // Only what is no number is refused, and durations are numbers.
        let _ = sketch.add(rounded);
    }

    fn encode(self) -> Vec<u8> {
        self.0.map_or_else(empty_sketch, |sketch| *sketch).encode_to_vec()
    }
}

fn empty_sketch() -> DDSketch {
    let mapping = sketch::IndexMapping { gamma: GAMMA, ..sketch::IndexMapping::default() };
    let sketch = sketch::DdSketch { mapping: Some(mapping), ..sketch::DdSketch::default() };
    DDSketch::from_pb(sketch).unwrap_or_default()
}

/// By our own mark or the tracer's (agent, `traceutil.HasTopLevel`).
pub(super) fn is_top_level(span: &Span<'_>) -> bool {
    [&b"_top_level"[..], b"_dd.top_level"].iter().any(|key| span.metrics.get(key) == Some(&1.0))
}

/// Returns HTTP's status code; 0 if there is none, or if it does not fit. The first receiver leaves the current name as it is.
fn status_code(span: &Span<'_>) -> u32 {
    let code = concepts::status_code(|names| {
        names.names().map(str::as_bytes).find_map(|key| {
            let text = || span.meta.get(key).and_then(|code| parse_whole_number(code));
            whole_metric(span, key).or_else(text)
        })
    });
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or_default()
}

/// A metric, if it is a whole number.
fn whole_metric(span: &Span<'_>, key: &[u8]) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let number = span.metrics.get(key).filter(|number| number.fract() == 0.0);
    number.filter(|number| (-LIMIT..LIMIT).contains(number)).map(|number| *number as i64)
}

/// Returns the number of a span's gRPC status code; empty if there is none.
fn grpc_status_code(span: &Span<'_>) -> String {
    let text = |names: Keys| {
        let mut texts = names.names().filter_map(|key| span.meta.get(key.as_bytes()));
        texts.find(|text| !text.is_empty()).cloned()
    };
    let number = |names: Keys| {
        let mut numbers = names.names().filter_map(|key| whole_metric(span, key.as_bytes()));
        numbers.next().map(|code| code.to_string().into_bytes().into())
    };
    let code = |names| text(names).or_else(|| number(names));
    let found = concepts::grpc_code(code, |names| text(names).unwrap_or_default());
    found.map(|code| concepts::grpc_status_number(&code)).unwrap_or_default()
}

/// A peer tag as it is sent.
fn peer_tag_text(key: &str, value: &[u8]) -> String {
    format!("{key}:{}", quantize_peer_ip_addresses(&text(value)))
}

fn peer_tags(counting: &Counting, kind: &[u8], span: &Span<'_>) -> Vec<String> {
    let tag = |key: &str| {
        let value = span.meta.get(key.as_bytes()).filter(|value| !value.is_empty())?;
        Some(peer_tag_text(key, value))
    };
    if counting.peer_tags.is_empty() {
        return Vec::new();
    }
    match kind.to_ascii_lowercase().as_slice() {
        b"client" | b"producer" | b"consumer" => {
            let mut tags: Vec<_> = counting.peer_tags.iter().filter_map(|key| tag(key)).collect();
            // By key and value as one text, as the reference sorts them.
            tags.sort();
            tags
        }
        b"internal" | b"" => tag("_dd.base_service").into_iter().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Counting, GroupKey, Groups, TraceChunk};
    use super::{Span, grpc_status_code, is_top_level, status_code};

    #[test]
    fn status_codes_that_are_no_counts_are_none() {
        let mut span = Span::default();
        span.metrics.set(&b"rpc.grpc.status_code"[..], -1.0);
        span.metrics.set(&b"http.status_code"[..], -1.0);
        assert_eq!(grpc_status_code(&span), "");
        assert_eq!(status_code(&span), 0);
        span.metrics.set(&b"http.status_code"[..], 503.0);
        assert_eq!(status_code(&span), 503);
        span.metrics.set(&b"http.status_code"[..], 1e300);
        assert_eq!(status_code(&span), 0);
    }

    #[test]
    fn status_codes_count_by_their_current_names_too() {
        let mut span = Span::default();
        span.metrics.set(&b"http.response.status_code"[..], 404.0);
        assert_eq!(status_code(&span), 404);
        span.meta.set(&b"http.status_code"[..], b"500"[..].into());
        assert_eq!(status_code(&span), 500);
        span.metrics.set(&b"rpc.response.status_code"[..], 4.0);
        assert_eq!(grpc_status_code(&span), "", "codes of other systems are none of gRPC's");
        span.meta.set(&b"rpc.system"[..], b"grpc"[..].into());
        assert_eq!(grpc_status_code(&span), "4");
        span.meta.set(&b"rpc.system.name"[..], b"connectrpc"[..].into());
        assert_eq!(grpc_status_code(&span), "");
    }

    #[test]
    fn a_tracers_mark_counts_as_top_level() {
        let mut span = Span::default();
        assert!(!is_top_level(&span));
        span.metrics.set(&b"_dd.top_level"[..], 1.0);
        assert!(is_top_level(&span));
    }

    #[test]
    fn grpc_codes_are_numbers_whatever_they_were() {
        let code = |text: &str| {
            let mut span = Span::default();
            span.meta.set(&b"rpc.grpc.status_code"[..], text.as_bytes().to_vec().into());
            grpc_status_code(&span)
        };
        assert_eq!(code("14"), "14");
        assert_eq!(code("Unavailable"), "14");
        assert_eq!(code("StatusCode.DEADLINE_EXCEEDED"), "4");
        assert_eq!(code("Canceled"), "1");
        assert_eq!(code("nonsense"), "");
    }

    #[test]
    fn spans_are_counted_by_group_and_new_groups_need_room() {
        let counting = Counting::new(true, Vec::new());
        let (chunk, mut groups) = (TraceChunk::default(), Groups::default());
        let mut add = |service: &'static str, has_room| {
            let span = Span { service: service.as_bytes().into(), ..Span::default() };
            let found = groups.find_or_add(GroupKey::new(&counting, &chunk, &span), has_room);
            found.map(|(place, _)| groups.group(place).add(5, false, false, 1.0)).is_some()
        };
        assert!(add("a", true) && add("b", true) && add("a", false));
        assert!(!add("c", false) && !add("d", false));
        assert_eq!(groups.len(), 2);
        assert_eq!(groups.places.len(), 2, "what found no room leaves nothing behind");
        let hits: BTreeMap<_, _> =
            groups.into_stats().map(|group| (group.service, group.hits)).collect();
        assert_eq!(hits, BTreeMap::from([("a".into(), 2), ("b".into(), 1)]));
    }
}
