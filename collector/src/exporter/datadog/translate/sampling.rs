//! Which traces are sent, and what the agent's samplers write into them.
//!
//! Rules: agent, `pkg/trace/sampler` and `pkg/trace/event`. Their rates fall with the load, in the reference; here every
//! trace counts as if it were the only one.

use crate::exporter::datadog::model::{Span, TraceChunk};

/// Of traces with this priority the chunk does not have its own (the agent's `PriorityNone`).
const NO_PRIORITY: i32 = -128;

/// The metric that has a span's priority.
pub(super) const PRIORITY: &[u8] = b"_sampling_priority_v1";
/// The rate at which the priority sampler kept the trace; its root has it.
pub(super) const PRIORITY_RATE: &[u8] = b"_sampling_priority_rate_v1";
/// Key in meta, and of a chunk's tag, of what decided that the trace is kept.
pub(super) const DECISION: &str = "_dd.p.dm";
/// A chunk's tag: the rate of the OTLP receiver's sampler, which keeps all.
pub(super) const RECEIVER_RATE: (&str, &[u8]) = ("_dd.otlp_sr", b"1.00");

/// The rate that a tracer sampled the trace with, as its root has it.
pub(super) const SAMPLE_RATE: &[u8] = b"_sample_rate";
const CLIENT_RATE: &[u8] = b"_dd1.sr.rcusr";
const PRE_SAMPLER_RATE: &[u8] = b"_dd1.sr.rapre";
const EXTRACTION_RATE: &[u8] = b"_dd1.sr.eausr";
const MAX_EVENTS_RATE: &[u8] = b"_dd1.sr.eamax";

/// Outcome of sampling a trace.
#[derive(Debug)]
pub(super) enum ChunkFate<'a> {
    Kept,
    /// Some of its spans are sent alone.
    Parts(Box<TraceChunk<'a>>),
    Dropped,
}

/// How a trace is kept or dropped, before its root is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) priority: i32,
    /// Rule that keeps the trace, where one does: a user's, or the OTLP receiver's own rate.
    pub(super) maker: Option<&'static [u8]>,
}

/// Returns the decision for a trace of which an attribute asks for this priority; if none does, the OTLP receiver keeps it.
pub(super) fn decision(asked: Option<f64>) -> Decision {
    let maker: &[u8] = if asked.is_some() { b"-4" } else { b"-9" };
    let priority = asked.map_or(1, priority);
    Decision { priority, maker: is_kept_by_priority(priority).then_some(maker) }
}

fn is_kept_by_priority(priority: i32) -> bool {
    matches!(priority, 1 | 2)
}

/// Returns the key of a metric that an attribute becomes.
pub(super) fn metric_key(key: &[u8]) -> &[u8] {
    if key == b"sampling.priority" { PRIORITY } else { key }
}

/// A priority as the reference reads it: the low eight bits of a 32-bit integer, 0 for what is beyond that (measured on the
/// reference exporter v0.155.0, amd64).
pub(super) fn priority(priority: f64) -> i32 {
    i32::from(go_i32(priority) as i8)
}

/// The priority of the chunk: where an attribute asks for none, the root's, or else that of the first span that has one.
pub(super) fn chunk_priority(priority: i32, spans: &[Span<'_>], root: usize) -> i32 {
    if priority != NO_PRIORITY {
        return priority;
    }
    let mut reported = std::iter::once(&spans[root]).chain(spans);
    let reported = reported.find_map(|span| span.metrics.get(PRIORITY));
    reported.map_or(priority, |reported| go_i32(*reported))
}

/// Returns the rate at which a head sampler kept the trace, as OpenTelemetry's member of the tracestate has it: a threshold
/// (`ot=th:8`), or a power of two (`ot=p:1`). A tracestate that breaks the rules of its syntax has none.
///
/// Source: agent, `pkg/trace/transform/sampling.go`; contrib, `pkg/sampling`.
pub(super) fn rate_of_trace_state(state: &[u8]) -> Option<f64> {
    const MAX_STATE_BYTES: usize = 1024;
    /// One less than the recommendation allows.
    const MAX_MEMBERS: usize = 32;
    if !state.windows(3).any(|window| window == b"ot=") || state.len() > MAX_STATE_BYTES {
        return None;
    }
    let state = std::str::from_utf8(state).ok()?;
    let blank = [' ', '\t'];
    let (mut count, mut rate) = (0, None);
    for member in state.split(',').map(|member| member.trim_matches(blank)) {
        count += 1;
        if count >= MAX_MEMBERS {
            return None;
        }
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        if !is_member(key, value) {
            return None;
        }
        if key == "ot" {
            rate = rate_of_member(value)?;
        }
    }
    rate
}

/// Returns whether a member of a tracestate has a key and a value that W3C's recommendation allows.
fn is_member(key: &str, value: &str) -> bool {
    let is_part = |part: &str, may_begin_with_digit: bool, max: usize| {
        let first = part.bytes().next();
        let begins =
            |byte: u8| byte.is_ascii_lowercase() || may_begin_with_digit && byte.is_ascii_digit();
        let is_allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte)
        };
        first.is_some_and(begins) && part.bytes().all(is_allowed) && part.len() <= max
    };
    let is_key = match key.split_once('@') {
        Some((tenant, system)) => is_part(tenant, true, 241) && is_part(system, false, 14),
        None => is_part(key, false, 256),
    };
    let is_value = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'=';
    is_key && !value.is_empty() && value.len() <= 256 && value.bytes().all(is_value)
}

/// Returns what OpenTelemetry's member has of a rate; `None` if it is malformed.
fn rate_of_member(member: &str) -> Option<Option<f64>> {
    let (mut threshold, mut power) = (None, None);
    for pair in member.split(';') {
        let (key, value) = pair.split_once(':')?;
        let is_key = key.starts_with(|first: char| first.is_ascii_lowercase())
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_value =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !is_key || !value.bytes().all(is_value) {
            return None;
        }
        match key {
            "th" => threshold = Some(rate_of_threshold(value)?),
            "rv" if value.len() != HEX_DIGITS || hex_number(value).is_none() => return None,
            "p" if power.is_none() => power = Some(value.parse::<u32>().ok()),
            _ => {}
        }
    }
    let power = power.flatten().filter(|power| *power < NOT_SAMPLED);
    Some(threshold.or_else(|| power.map(|power| 0.5_f64.powi(power as i32))))
}

/// The digits of a threshold, which may leave out zeros at its end.
const HEX_DIGITS: usize = 14;
/// The power that stands for a trace that was not sampled.
const NOT_SAMPLED: u32 = 63;

fn rate_of_threshold(threshold: &str) -> Option<f64> {
    const ALL: u64 = 1 << (4 * HEX_DIGITS);
    if threshold.is_empty() || threshold.len() > HEX_DIGITS {
        return None;
    }
    let threshold = hex_number(threshold)? << (4 * (HEX_DIGITS - threshold.len()));
    Some((ALL - threshold) as f64 / ALL as f64)
}

fn hex_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}

/// Writes to the root at which rate a tracer sampled the trace.
pub(super) fn set_client_rate(root: &mut Span<'_>) {
    let rate = rate(root, SAMPLE_RATE);
    set_rate(root, CLIENT_RATE, rate);
}

/// How many traces this one stands for in stats.
pub(super) fn weight(root: &Span<'_>) -> f64 {
    let rate = rate(root, SAMPLE_RATE);
    if rate > 0.0 && rate <= 1.0 { 1.0 / rate } else { 1.0 }
}

/// Decides about a trace, and notes the decision in it.
pub(super) fn sample<'a>(chunk: &mut TraceChunk<'a>, root: usize) -> ChunkFate<'a> {
    let priority = if chunk.priority == NO_PRIORITY { 0 } else { chunk.priority as i8 };
    let is_kept = priority >= 0 && is_kept(chunk, root, priority);
    // A trace that a user drops is looked at no further.
    let analyzed = if priority >= 0 { analyze(chunk, root) } else { Vec::new() };
    if is_kept {
        return ChunkFate::Kept;
    }
    let part = |spans: Vec<Span<'a>>, priority, is_dropped| {
        let (origin, tags) = (chunk.origin.clone(), chunk.tags.clone());
        ChunkFate::Parts(Box::new(TraceChunk {
            priority,
            origin,
            spans,
            tags,
            is_dropped,
            is_part: true,
            ..TraceChunk::default()
        }))
    };
    let single =
        chunk.spans.iter().filter(|span| span.metrics.contains(b"_dd.span_sampling.mechanism"));
    let single: Vec<_> = single.cloned().collect();
    if !single.is_empty() {
        return part(single, 2, false);
    }
    if !analyzed.is_empty() {
        let spans = analyzed.iter().map(|index| chunk.spans[*index].clone());
        return part(spans.collect(), chunk.priority, true);
    }
    ChunkFate::Dropped
}

fn is_kept(chunk: &mut TraceChunk<'_>, root: usize, priority: i8) -> bool {
    let has_priority = chunk.priority != NO_PRIORITY;
    let has_error = chunk.spans.iter().any(|span| span.error != 0);
    let root = &mut chunk.spans[root];
    if has_priority && is_kept_by_priority(priority.into()) {
        const RATES: [&[u8]; 3] = [b"_dd.agent_psr", b"_dd.rule_psr", PRIORITY_RATE];
        if reports_rate(priority.into(), root.parent_id)
            && !RATES.iter().any(|key| root.metrics.contains(key))
        {
            root.metrics.set(PRIORITY_RATE, 1.0);
        }
        return true;
    }
    let is_sampled = is_sampled(root.trace_id, rate(root, SAMPLE_RATE));
    if !has_priority && is_sampled {
        root.metrics.set(&b"_dd.no_p_sr"[..], 1.0);
        return true;
    }
    if has_error && is_sampled {
        root.metrics.set(&b"_dd.errors_sr"[..], 1.0);
        return true;
    }
    false
}

/// Returns whether a trace's root has the rate of the priority sampler, unless it has one already.
#[inline]
pub(super) fn reports_rate(priority: i32, parent_id: u64) -> bool {
    priority == 1 && parent_id == 0
}

/// Marks the spans that a user wants to be analyzed, and returns which they are.
fn analyze(chunk: &mut TraceChunk<'_>, root: usize) -> Vec<usize> {
    let client_rate = rate(&chunk.spans[root], CLIENT_RATE);
    let pre_sampler_rate = rate(&chunk.spans[root], PRE_SAMPLER_RATE);
    let is_user_kept = chunk.priority as i8 >= 2;
    let mut analyzed = Vec::new();
    for (index, span) in chunk.spans.iter_mut().enumerate() {
        let Some(mut rate) = span.metrics.get(EXTRACTION_RATE).copied() else { continue };
        if rate > 0.0 && is_user_kept {
            rate = 1.0;
        }
        if !is_sampled(span.trace_id, rate) {
            continue;
        }
        span.metrics.remove(MAX_EVENTS_RATE);
        set_rate(span, CLIENT_RATE, client_rate);
        set_rate(span, PRE_SAMPLER_RATE, pre_sampler_rate);
        set_rate(span, EXTRACTION_RATE, rate);
        span.metrics.set(&b"_dd.analyzed"[..], 1.0);
        analyzed.push(index);
    }
    analyzed
}

fn rate(span: &Span<'_>, key: &[u8]) -> f64 {
    span.metrics.get(key).copied().unwrap_or(1.0)
}

/// Sets a rate; that of 1 is not written.
fn set_rate(span: &mut Span<'_>, key: &'static [u8], rate: f64) {
    if rate < 1.0 {
        span.metrics.set(key, rate);
    } else {
        span.metrics.remove(key);
    }
}

/// Returns whether a trace is among those that are kept at this rate: by its id, so that all agents decide alike.
fn is_sampled(trace_id: u64, rate: f64) -> bool {
    const FACTOR: u64 = 1_111_111_111_111_111_111;
    // What is no number counts as everything.
    if rate < 1.0 { trace_id.wrapping_mul(FACTOR) < go_u64(rate * u64::MAX as f64) } else { true }
}

/// As Go's compiler for amd64 converts: what does not fit is the smallest number.
fn go_i32(number: f64) -> i32 {
    if number > -2_147_483_649.0 && number < 2_147_483_648.0 { number as i32 } else { i32::MIN }
}

/// As Go's compiler for amd64 converts: negative numbers wrap around, and what does not fit is 2^63.
pub(crate) fn go_u64(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if (HALF..2.0 * HALF).contains(&number) {
        number as u64
    } else if (-HALF..HALF).contains(&number) {
        number as i64 as u64
    } else {
        1 << 63
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ChunkFate, Span, TraceChunk, chunk_priority, go_u64, priority, rate_of_trace_state, sample,
        weight,
    };

    fn span(error: i32, metrics: &[(&'static str, f64)]) -> Span<'static> {
        let mut span = Span { span_id: 1, trace_id: 7, error, ..Span::default() };
        for (key, value) in metrics {
            span.metrics.set(key.as_bytes(), *value);
        }
        span
    }

    fn chunk(priority: i32, spans: Vec<Span<'static>>) -> TraceChunk<'static> {
        TraceChunk { priority, spans, ..TraceChunk::default() }
    }

    fn metrics(span: &Span<'_>) -> Vec<(String, f64)> {
        let entries = span.metrics.iter();
        entries.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), *value)).collect()
    }

    #[test]
    fn priorities_and_counts_are_converted_as_go_converts_them() {
        assert_eq!([1.0, -1.0, 257.0, 128.0, 1e10, f64::NAN].map(priority), [1, -1, 1, -128, 0, 0]);
        let numbers = [-1.5, 1e19, 2e19, -1e19, f64::NAN, 3.9];
        let half = 1 << 63;
        assert_eq!(
            numbers.map(go_u64),
            [u64::MAX, 10_000_000_000_000_000_000, half, half, half, 3]
        );
    }

    #[test]
    fn the_priority_that_stands_for_none_is_looked_for_at_the_root() {
        let spans = [
            span(0, &[("_sampling_priority_v1", -128.0)]),
            span(0, &[("_sampling_priority_v1", 2.0)]),
            span(0, &[]),
        ];
        assert_eq!(chunk_priority(-128, &spans, 1), 2);
        assert_eq!(chunk_priority(-128, &spans, 2), -128);
        assert_eq!(chunk_priority(0, &spans, 1), 0);
    }

    #[test]
    fn a_kept_root_reports_its_rate_unless_it_does_already() {
        let mut kept = chunk(1, vec![span(0, &[])]);
        assert!(matches!(sample(&mut kept, 0), ChunkFate::Kept));
        assert_eq!(metrics(&kept.spans[0]), [("_sampling_priority_rate_v1".to_owned(), 1.0)]);
        let mut reported = chunk(1, vec![span(0, &[("_dd.rule_psr", 0.5)])]);
        assert!(matches!(sample(&mut reported, 0), ChunkFate::Kept));
        assert_eq!(metrics(&reported.spans[0]), [("_dd.rule_psr".to_owned(), 0.5)]);
        let mut none = chunk(-128, vec![span(0, &[])]);
        assert!(matches!(sample(&mut none, 0), ChunkFate::Kept));
        assert_eq!(metrics(&none.spans[0]), [("_dd.no_p_sr".to_owned(), 1.0)]);
    }

    #[test]
    fn an_error_keeps_a_trace_of_priority_0_by_the_rate_of_its_root() {
        for (rate, is_kept) in [(1.0, true), (0.0, false), (-0.2, true)] {
            let mut chunk = chunk(0, vec![span(1, &[("_sample_rate", rate)])]);
            assert_eq!(matches!(sample(&mut chunk, 0), ChunkFate::Kept), is_kept, "{rate}");
        }
        let mut dropped = chunk(-1, vec![span(1, &[("_dd1.sr.eausr", 1.0)])]);
        assert!(matches!(sample(&mut dropped, 0), ChunkFate::Dropped));
    }

    #[test]
    fn analyzed_spans_of_a_dropped_trace_are_sent_alone() {
        let mut dropped = chunk(0, vec![span(0, &[]), span(0, &[("_dd1.sr.eausr", 1.0)])]);
        let ChunkFate::Parts(part) = sample(&mut dropped, 0) else { panic!("{dropped:?}") };
        assert_eq!((part.spans.len(), part.priority, part.is_dropped), (1, 0, true));
        assert_eq!(metrics(&part.spans[0]), [("_dd.analyzed".to_owned(), 1.0)]);
        assert_eq!(dropped.spans.len(), 2, "stats count all of them");
        let mut none = chunk(0, vec![span(0, &[("_dd1.sr.eausr", 0.0)])]);
        assert!(matches!(sample(&mut none, 0), ChunkFate::Dropped));
    }

    #[test]
    fn spans_with_a_rule_of_their_own_are_kept_from_a_dropped_trace() {
        let mechanism = ("_dd.span_sampling.mechanism", 8.0);
        let mut dropped = chunk(-1, vec![span(0, &[]), span(0, &[mechanism])]);
        let ChunkFate::Parts(part) = sample(&mut dropped, 0) else { panic!("{dropped:?}") };
        assert_eq!((part.spans.len(), part.priority, part.is_dropped), (1, 2, false));
    }

    #[test]
    fn a_tracestate_has_the_rate_of_a_head_sampler() {
        let rate = |state: &str| rate_of_trace_state(state.as_bytes());
        assert_eq!(rate("ot=th:8"), Some(0.5));
        assert_eq!(rate("dd=s:1, ot=th:c;rv:01234567abcdef"), Some(0.25));
        assert_eq!(rate("ot=th:0"), Some(1.0));
        assert_eq!(rate("ot=p:1;r:1"), Some(0.5));
        for none in
            ["", "dd=s:1", "ot=p:63", "ot=th:", "ot=th:xyz", "ot=th:8;", "OT=th:8", "ot=th:8,=b"]
        {
            assert_eq!(rate(none), None, "{none}");
        }
    }

    #[test]
    fn a_trace_stands_for_as_many_as_its_rate_says() {
        let rates = [0.25, 1.0, 0.0, -1.0, 2.0, f64::NAN];
        let weights = rates.map(|rate| weight(&span(0, &[("_sample_rate", rate)])));
        assert_eq!(weights, [4.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }
}
