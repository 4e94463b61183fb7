//! Policies, ready to be asked about traces.

mod limit;
mod trace_state;

use std::collections::HashSet;

pub(super) use limit::Clock;
use limit::{Shares, TokenBucket};
use regex::Regex;

use super::config::{Code, Kind, Policy};
use crate::settings::pattern;
use crate::trace_batch::{AnyValue, Attributes, Span, StatusCode, TraceBatch};

/// Salt where the config names nothing, as in the reference.
const HASH_SALT: &str = "default-hash-seed";

/// A trace that is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged<'a> {
    pub(super) id: u128,
    pub(super) spans: &'a TraceBatch,
}

/// A policy.
#[derive(Debug)]
pub(super) enum Rule {
    Always,
    Latency {
        threshold_ms: i64,
        upper_threshold_ms: i64,
    },
    Attribute {
        key: Vec<u8>,
        matcher: Matcher,
        is_inverted: bool,
    },
    Probabilistic {
        salt: Vec<u8>,
        threshold: u64,
    },
    StatusCode(Vec<StatusCode>),
    Spans(TokenBucket),
    Bytes(TokenBucket),
    SpanCount {
        min: usize,
        max: usize,
    },
    TraceState {
        key: Vec<u8>,
        values: HashSet<Vec<u8>>,
    },
    TraceFlags,
    /// Also what a `drop` policy is made of.
    All(Vec<Rule>),
    Not(Box<Rule>),
    Composite(Shares),
}

/// Condition on the value of an attribute.
#[derive(Debug)]
pub(super) enum Matcher {
    Int { min: i64, max: i64 },
    Text(HashSet<Vec<u8>>),
    Patterns(Vec<Regex>),
    Bool(bool),
}

impl Rule {
    /// Makes a policy ready that was checked with the config.
    pub(super) fn new(policy: &Policy, now: Clock) -> Self {
        let all = |policies: &[Policy]| {
            policies.iter().map(|policy| Self::new(policy, now)).collect::<Vec<_>>()
        };
        let burst = |burst: u64, rate: u64| if burst > 0 { burst } else { rate.saturating_mul(2) };
        match policy.kind {
            Kind::AlwaysSample => Self::Always,
            Kind::Latency => Self::Latency {
                threshold_ms: policy.latency.threshold_ms,
                upper_threshold_ms: policy.latency.upper_threshold_ms,
            },
            Kind::NumericAttribute => {
                let of = &policy.numeric_attribute;
                let bound = |value: i64, none: i64| if value == 0 { none } else { value };
                let (min, max) = (bound(of.min_value, i64::MIN), bound(of.max_value, i64::MAX));
                Self::attribute(&of.key, Matcher::Int { min, max }, of.invert_match)
            }
            Kind::StringAttribute => {
                let of = &policy.string_attribute;
                let matcher = match of.enabled_regex_matching {
                    true => Matcher::Patterns(
                        of.values.iter().filter_map(|value| pattern::compile(value).ok()).collect(),
                    ),
                    false => Matcher::Text(texts(&of.values)),
                };
                Self::attribute(&of.key, matcher, of.invert_match)
            }
            Kind::BooleanAttribute => {
                let of = &policy.boolean_attribute;
                Self::attribute(&of.key, Matcher::Bool(of.value), of.invert_match)
            }
            Kind::Probabilistic => {
                let of = &policy.probabilistic;
                let salt = if of.hash_salt.is_empty() { HASH_SALT } else { &of.hash_salt };
                let threshold = limit::part_of_all(of.sampling_percentage / 100.0);
                Self::Probabilistic { salt: salt.as_bytes().to_vec(), threshold }
            }
            Kind::StatusCode => Self::StatusCode(
                policy.status_code.status_codes.iter().map(|code| code.status()).collect(),
            ),
            Kind::RateLimiting => {
                let of = &policy.rate_limiting;
                let rate = u64::from(of.spans_per_second);
                let burst = burst(of.burst_capacity.into(), rate);
                Self::Spans(TokenBucket::new(rate, burst, now))
            }
            Kind::BytesLimiting => {
                let of = &policy.bytes_limiting;
                let burst = burst(of.burst_capacity, of.bytes_per_second);
                Self::Bytes(TokenBucket::new(of.bytes_per_second, burst, now))
            }
            Kind::SpanCount => {
                let number = |spans: u32| usize::try_from(spans).unwrap_or(usize::MAX);
                let of = &policy.span_count;
                Self::SpanCount { min: number(of.min_spans), max: number(of.max_spans) }
            }
            Kind::TraceState => {
                let of = &policy.trace_state;
                let key = of.key.as_bytes().to_vec();
                // A key and its value have no more than 256 bytes.
                let values = of.values.iter().filter(|value| key.len() + value.len() < 256);
                Self::TraceState { values: texts(values), key }
            }
            Kind::TraceFlags => Self::TraceFlags,
            Kind::And => Self::All(all(&policy.and.and_sub_policy)),
            Kind::Drop => Self::All(all(&policy.drop.drop_sub_policy)),
            Kind::Not => Self::Not(Box::new(match policy.not.policy() {
                Some(policy) => Self::new(policy, now),
                // That there is one was checked.
                None => Self::Always,
            })),
            Kind::Composite => Self::Composite(Shares::new(&policy.composite, now)),
            // Refused with the config.
            Kind::None | Kind::OttlCondition => Self::Not(Box::new(Self::Always)),
        }
    }

    fn attribute(key: &str, matcher: Matcher, is_inverted: bool) -> Self {
        Self::Attribute { key: key.as_bytes().to_vec(), matcher, is_inverted }
    }

    /// Returns whether the policy applies to a trace.
    pub(super) fn applies(&mut self, trace: Judged<'_>, now: Clock) -> bool {
        match self {
            Self::Always => true,
            Self::Latency { threshold_ms, upper_threshold_ms } => {
                latency(trace, *threshold_ms, *upper_threshold_ms)
            }
            Self::Attribute { key, matcher, is_inverted } => {
                trace.has_attribute(key, matcher) != *is_inverted
            }
            Self::Probabilistic { salt, threshold } => limit::hash(salt, trace.id) <= *threshold,
            Self::StatusCode(codes) => trace.any(|span| codes.contains(&span.status.code)),
            Self::Spans(bucket) => bucket.takes(trace.spans.span_count() as u64, now),
            Self::Bytes(bucket) => bucket.takes(trace.message_bytes() as u64, now),
            Self::SpanCount { min, max } => {
                let spans = trace.spans.span_count();
                spans >= *min && (*max == 0 || spans <= *max)
            }
            Self::TraceState { key, values } => trace.any(|span| {
                trace_state::value(span.trace_state, key)
                    .is_some_and(|value| values.contains(value))
            }),
            Self::TraceFlags => trace.any(|span| span.flags() & 1 != 0),
            Self::All(rules) => rules.iter_mut().all(|rule| rule.applies(trace, now)),
            Self::Not(rule) => !rule.applies(trace, now),
            Self::Composite(shares) => shares.applies(trace, now),
        }
    }
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::Ok,
            Self::Error => StatusCode::Error,
            Self::Unset => StatusCode::Unset,
        }
    }
}

/// Values to compare with; an empty one is none, as in the reference.
fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> HashSet<Vec<u8>> {
    let values = values.into_iter().filter(|value| !value.is_empty());
    values.map(|value| value.as_bytes().to_vec()).collect()
}

impl<'a> Judged<'a> {
    fn any(self, holds: impl FnMut(Span<'a>) -> bool) -> bool {
        let spans = self.spans.resources().flat_map(|resource| resource.spans());
        spans.map(|(_, span)| span).any(holds)
    }

    /// Returns whether a resource or a span has an attribute that matches.
    fn has_attribute(self, key: &[u8], matcher: &Matcher) -> bool {
        self.spans.resources().any(|resource| {
            value(resource.attributes(), key).is_some_and(|value| matcher.matches(value, false))
                || resource.spans().any(|(_, span)| {
                    value(span.attributes(), key).is_some_and(|value| matcher.matches(value, true))
                })
        })
    }

    /// How many bytes the trace has as a request.
    pub(super) fn message_bytes(self) -> usize {
        use crate::trace_batch::wire::varint_len;
        let of = |bytes: usize| 1 + varint_len(bytes as u64) + bytes;
        self.spans.resources().map(|resource| of(resource.byte_count())).sum()
    }
}

/// The first value of a key.
fn value<'a>(attributes: Attributes<'a>, key: &[u8]) -> Option<AnyValue<'a>> {
    attributes.raw().find(|(known, _)| *known == key).map(|(_, value)| value.get())
}

impl Matcher {
    /// Compares a value: one of another type is taken for its type's zero, and of a span an empty text for none, as in the reference.
    fn matches(&self, value: AnyValue<'_>, of_span: bool) -> bool {
        match self {
            Self::Int { min, max } => {
                let AnyValue::Int(value) = value else { return (*min..=*max).contains(&0) };
                (*min..=*max).contains(&value)
            }
            Self::Bool(wanted) => matches!(value, AnyValue::Bool(true)) == *wanted,
            Self::Text(_) | Self::Patterns(_) => {
                let AnyValue::String(text) = value else {
                    return !of_span && self.has(b"");
                };
                (!of_span || !text.is_empty()) && self.has(text)
            }
        }
    }

    fn has(&self, text: &[u8]) -> bool {
        match self {
            Self::Text(texts) => texts.contains(text),
            Self::Patterns(patterns) => {
                let text = String::from_utf8_lossy(text);
                patterns.iter().any(|pattern| pattern.is_match(&text))
            }
            Self::Int { .. } | Self::Bool(_) => false,
        }
    }
}

/// Returns whether the trace, as far as it was looked at, is of a latency in the range; looks at one span after the other, as the reference
/// does.
fn latency(trace: Judged<'_>, threshold_ms: i64, upper_threshold_ms: i64) -> bool {
    let (mut first, mut last) = (0, 0);
    trace.any(|span| {
        if first == 0 || span.start < first {
            first = span.start;
        }
        if last == 0 || span.end > last {
            last = span.end;
        }
        let millis = (last as i64).saturating_sub(first as i64) / 1_000_000;
        millis > threshold_ms && (upper_threshold_ms == 0 || millis <= upper_threshold_ms)
    })
}
