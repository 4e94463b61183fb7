//! What spans are counted by, and what is counted of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use libdd_ddsketch::{DDSketch, pb as sketch};
use libdd_trace_obfuscation::ip_address::quantize_peer_ip_addresses;
use libdd_trace_protobuf::pb;

use super::{Settings, text};
use crate::exporter::datadog::model::{Span, TraceChunk};
use crate::exporter::datadog::translate::{go_u64, parse_uint};

/// The relative accuracy of latencies is 1 %, as in the agent: `(1 + 0.01) / (1 - 0.01)`.
const GAMMA: f64 = 1.01 / 0.99;

/// gRPC's status codes by name.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What a group of spans has in common: as parts of a span, or as a copy that outlives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GroupKey<'a> {
    service: Cow<'a, [u8]>,
    name: Cow<'a, [u8]>,
    resource: Cow<'a, [u8]>,
    span_type: Cow<'a, [u8]>,
    status_code: u32,
    grpc_status_code: String,
    span_kind: Cow<'a, [u8]>,
    peer_tags: Vec<String>,
    is_trace_root: bool,
    is_synthetic: bool,
}

impl<'a> GroupKey<'a> {
    pub(super) fn new(settings: &Settings, chunk: &TraceChunk<'_>, span: &'a Span<'_>) -> Self {
        let span_kind = span.meta.get(b"span.kind").map_or(&b""[..], |kind| kind);
        Self {
            service: Cow::Borrowed(&span.service),
            name: Cow::Borrowed(&span.name),
            resource: Cow::Borrowed(&span.resource),
            span_type: Cow::Borrowed(&span.span_type),
            status_code: status_code(span),
            grpc_status_code: grpc_status_code(span),
            span_kind: Cow::Borrowed(span_kind),
            peer_tags: peer_tags(settings, span_kind, span),
            is_trace_root: span.parent_id == 0,
            is_synthetic: chunk.origin.starts_with(b"synthetics"),
        }
    }

    pub(super) fn into_owned(self) -> GroupKey<'static> {
        let owned = |text: Cow<'a, [u8]>| Cow::Owned(text.into_owned());
        GroupKey {
            service: owned(self.service),
            name: owned(self.name),
            resource: owned(self.resource),
            span_type: owned(self.span_type),
            span_kind: owned(self.span_kind),
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
    /// By the keys' hashes; what shares a hash is told apart by the key.
    by_hash: HashMap<u64, Vec<(GroupKey<'static>, Group)>>,
    hasher: RandomState,
    len: usize,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Counts a span in its group, as often as it stands for; `false` if that is a new one and there is no room.
    pub(super) fn add(
        &mut self,
        key: GroupKey<'_>,
        span: &Span<'_>,
        weight: f64,
        has_room: bool,
    ) -> bool {
        let hash = self.hasher.hash_one(&key);
        let groups = self.by_hash.get_mut(&hash);
        let known = groups.and_then(|groups| groups.iter_mut().find(|(known, _)| *known == key));
        if let Some((_, group)) = known {
            group.add(span, weight);
            return true;
        }
        if has_room {
            let mut group = Group::default();
            group.add(span, weight);
            self.by_hash.entry(hash).or_default().push((key.into_owned(), group));
            self.len += 1;
        }
        has_room
    }

    pub(super) fn into_stats(self) -> impl Iterator<Item = pb::ClientGroupedStats> {
        let groups = self.by_hash.into_values().flatten();
        groups.map(|(key, group)| group.into_stats(key))
    }
}

/// The numbers of a group.
#[derive(Debug, Default)]
struct Group {
    hits: f64,
    errors: f64,
    /// Nanoseconds.
    duration: f64,
    top_level_hits: f64,
    ok: Latencies,
    error: Latencies,
}

impl Group {
    fn add(&mut self, span: &Span<'_>, weight: f64) {
        let times = |applies: bool| if applies { weight } else { 0.0 };
        self.hits += weight;
        self.errors += times(span.error != 0);
        self.duration += span.duration as f64 * weight;
        self.top_level_hits += times(is_top_level(span));
        let latencies = if span.error == 0 { &mut self.ok } else { &mut self.error };
        latencies.add(span.duration);
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
            ..pb::ClientGroupedStats::default()
        }
    }
}

/// The number without its fraction, or one more, by a chance as large as the fraction: sums of many are right.
fn rounded(count: f64) -> u64 {
    let whole = go_u64(count);
    whole + u64::from(rand::random::<f64>() < count - whole as f64)
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

fn status_code(span: &Span<'_>) -> u32 {
    if let Some(code) = span.metrics.get(b"http.status_code") {
        // It wraps around (measured on the reference exporter v0.155.0); what is beyond 64 bits is taken for 0.
        let fits = code.abs() < 9_223_372_036_854_775_808.0;
        return if fits { *code as i64 as u32 } else { 0 };
    }
    let code = span.meta.get(b"http.status_code").and_then(|code| parse_uint(code));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or_default()
}

fn grpc_status_code(span: &Span<'_>) -> String {
    const KEYS: [&[u8]; 4] =
        [b"rpc.grpc.status_code", b"grpc.code", b"rpc.grpc.status.code", b"grpc.status.code"];
    for key in KEYS {
        let Some(code) = span.meta.get(key).filter(|code| !code.is_empty()) else { continue };
        if let Some(number) = parse_uint(code).filter(|code| u32::try_from(*code).is_ok()) {
            return number.to_string();
        }
        let code = text(code);
        let name = code.strip_prefix("StatusCode.").unwrap_or(&code).to_uppercase();
        let name = if name == "CANCELED" { "CANCELLED" } else { &name };
        let position =
            GRPC_CODES.iter().position(|known| *known == name || known.replace('_', "") == name);
        return position.map(|code| code.to_string()).unwrap_or_default();
    }
    let number = KEYS.iter().find_map(|key| span.metrics.get(key));
    number.map(|code| go_u64(*code).to_string()).unwrap_or_default()
}

fn peer_tags(settings: &Settings, kind: &[u8], span: &Span<'_>) -> Vec<String> {
    let tag = |key: &str| {
        let value = span.meta.get(key.as_bytes()).filter(|value| !value.is_empty())?;
        let value = text(value);
        Some(format!("{key}:{}", quantize_peer_ip_addresses(&value)))
    };
    if settings.peer_tags.is_empty() {
        return Vec::new();
    }
    match kind.to_ascii_lowercase().as_slice() {
        b"client" | b"producer" | b"consumer" => {
            let mut tags: Vec<_> = settings.peer_tags.iter().filter_map(|key| tag(key)).collect();
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

    use super::{GroupKey, Groups, Settings, TraceChunk};
    use super::{Span, grpc_status_code, is_top_level, status_code};

    #[test]
    fn negative_status_codes_wrap_around() {
        let mut span = Span::default();
        span.metrics.set(&b"rpc.grpc.status_code"[..], -1.0);
        span.metrics.set(&b"http.status_code"[..], -1.0);
        assert_eq!(grpc_status_code(&span), "18446744073709551615");
        assert_eq!(status_code(&span), 4_294_967_295);
        span.metrics.set(&b"http.status_code"[..], 1e300);
        assert_eq!(status_code(&span), 0);
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
        let settings = Settings { by_span_kind: true, peer_tags: Vec::new() };
        let (chunk, mut groups) = (TraceChunk::default(), Groups::default());
        let mut add = |service: &'static str, has_room| {
            let span = Span { service: service.as_bytes().into(), duration: 5, ..Span::default() };
            groups.add(GroupKey::new(&settings, &chunk, &span), &span, 1.0, has_room)
        };
        assert!(add("a", true) && add("b", true) && add("a", false));
        assert!(!add("c", false) && !add("d", false));
        assert_eq!(groups.len(), 2);
        assert_eq!(groups.by_hash.len(), 2, "what found no room leaves nothing behind");
        let hits: BTreeMap<_, _> =
            groups.into_stats().map(|group| (group.service, group.hits)).collect();
        assert_eq!(hits, BTreeMap::from([("a".into(), 2), ("b".into(), 1)]));
    }
}
