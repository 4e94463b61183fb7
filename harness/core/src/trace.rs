//! The trace as Datadog would receive it: what rules and expectations look at.
//!
//! A [`Span`] is one Datadog span together with what its chunk and payload said about it. This module only
//! models and assembles; decoding bytes is `intake::decode`'s work, judging is `rule`'s and `expectation`'s.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest difference between the clocks of two processes, in nanoseconds; clocks that NTP keeps are each within
/// milliseconds of the true time.
pub const CLOCK_TOLERANCE: i64 = 12_000_000;

/// A W3C trace id: 128 bits. Shown as 32 lower-case hex digits.
///
/// Datadog's span carries only the low 64 bits ([`TraceId::low`]); the full id travels as meta `otel.trace_id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

/// A span id: 64 bits, never zero for a real span. Shown as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

/// Error for a text that is not a trace or span id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Neither of the two spellings of a trace id.
    #[error("`{0}` is not a trace id: write 32 hex digits, or X-Ray's form `1-<8 hex>-<24 hex>`")]
    TraceId(String),
    /// None of the spellings of a trace id that are known.
    #[error(
        "`{0}` is not a trace id: write 32 hex digits, X-Ray's form `1-<8 hex>-<24 hex>`, 16 hex digits, or a decimal number"
    )]
    AnyTraceId(String),
    /// Not 16 hex digits.
    #[error("`{0}` is not a span id: write 16 hex digits")]
    SpanId(String),
}

impl TraceId {
    /// Returns the lower 64 bits, which Datadog's `Span.traceID` carries.
    pub fn low(self) -> u64 {
        self.0 as u64
    }

    /// Returns the upper 64 bits, which Datadog's `_dd.p.tid` carries.
    pub fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// Returns the id in the format of X-Ray: `1-<8 hex>-<24 hex>`.
    pub fn to_xray(self) -> String {
        let hex = self.to_string();
        format!("1-{}-{}", &hex[..8], &hex[8..])
    }
}

impl FromStr for TraceId {
    type Err = ParseIdError;

    /// Reads 32 hex digits, or X-Ray's `1-<8 hex>-<24 hex>`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseIdError::TraceId(text.to_owned());
        let hex = match text.strip_prefix("1-") {
            Some(rest) => {
                let (time, unique) = rest.split_once('-').ok_or_else(fail)?;
                if time.len() != 8 {
                    return Err(fail());
                }
                format!("{time}{unique}")
            }
            None => text.to_owned(),
        };
        parse_hex(&hex, 32).map(Self).ok_or_else(fail)
    }
}

impl TraceId {
    /// Reads any spelling that people copy from somewhere: 32 hex digits, X-Ray's form, or of Datadog's 64-bit id 16 hex digits or
    /// its decimal digits; then the upper half is 0, which stands for *not known*. A decimal number of more than 64 bits is a whole
    /// id. Sixteen digits are hex.
    ///
    /// # Errors
    ///
    /// When it is none of them, or zero.
    pub fn from_any_spelling(text: &str) -> Result<Self, ParseIdError> {
        let fail = || ParseIdError::AnyTraceId(text.to_owned());
        let id = match (text.parse::<Self>(), parse_hex(text, 16)) {
            (Ok(id), _) => id.0,
            (_, Some(id)) => id,
            _ if text.len() <= 39 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map_err(|_| fail())?
            }
            _ => return Err(fail()),
        };
        if id as u64 == 0 { Err(fail()) } else { Ok(Self(id)) }
    }
}

impl FromStr for SpanId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text, 16)
            .map(|id| Self(id as u64))
            .ok_or_else(|| ParseIdError::SpanId(text.to_owned()))
    }
}

/// `from_str_radix` alone would also take a sign.
fn parse_hex(text: &str, digits: usize) -> Option<u128> {
    if text.len() != digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

macro_rules! text_form {
    ($id:ident) => {
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
text_form!(TraceId);
text_form!(SpanId);

/// One span as it stands in a Datadog payload, with its payload's and chunk's facts beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The trace it belongs to: meta `otel.trace_id` where readable, else `_dd.p.tid` and the low half, else the
    /// low half alone.
    pub trace_id: TraceId,
    /// `Span.traceID`, as sent: must be the low half of `trace_id`.
    pub datadog_trace_id: u64,
    /// `Span.spanID`.
    pub id: SpanId,
    /// `Span.parentID`; `None` for 0.
    pub parent_id: Option<SpanId>,
    /// `Span.service`.
    pub service: String,
    /// `Span.name`: Datadog's operation name.
    pub name: String,
    /// `Span.resource`: Datadog's resource name.
    pub resource: String,
    /// `Span.type`, for example `web` or `http`.
    #[serde(rename = "type")]
    pub span_type: String,
    /// `Span.error` is not 0.
    pub error: bool,
    /// `Span.start`: nanoseconds since the Unix epoch.
    pub start: i64,
    /// `Span.duration`: nanoseconds.
    pub duration: i64,
    /// `Span.meta`.
    pub meta: BTreeMap<String, String>,
    /// `Span.metrics`.
    pub metrics: BTreeMap<String, f64>,
    /// `TracerPayload.hostname`.
    pub hostname: String,
    /// `TracerPayload.env`.
    pub env: String,
    /// `TracerPayload.containerID`.
    pub container_id: String,
    /// `TracerPayload.languageName`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String,
    /// `TraceChunk.priority`.
    pub priority: i32,
    /// `TraceChunk.droppedTrace`: a sampler dropped the trace, and what is sent of it is to be no trace in Datadog.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
    /// In which form it was sent.
    #[serde(default)]
    pub form: PayloadForm,
    /// Sequence number of the intake's attempt that brought it.
    pub attempt: u64,
}

/// The form in which spans are sent to Datadog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadForm {
    /// Datadog's own trace payload: every field is what the client put there.
    #[default]
    Datadog,
    /// OTLP: Datadog's own names and ids are made from it on Datadog's side, and the client has no say in them.
    Otlp,
    /// Spans as Datadog's API reports them, in whichever form they were sent: without keys that begin with `_`.
    Api,
}

impl PayloadForm {
    /// Returns whether spans of this form carry such a key where their client set it. Keys that begin with `_` are Datadog's own: with
    /// OTLP only those can be seen that follow from what was sent.
    pub fn carries(self, key: &str) -> bool {
        let follows = ["_dd.span_events.has_exception", "_dd.span_links"];
        match self {
            Self::Datadog => true,
            Self::Otlp => !key.starts_with('_') || follows.contains(&key),
            Self::Api => !key.starts_with('_'),
        }
    }

    /// Returns the reason why spans of this form do not carry a key of Datadog's own, as the beginning of a sentence.
    pub fn why_not(self) -> &'static str {
        match self {
            Self::Datadog | Self::Otlp => {
                "the spans came as OTLP, and only Datadog's own payloads carry"
            }
            Self::Api => "the spans came from Datadog's API, which leaves out",
        }
    }
}

impl Span {
    /// Returns OpenTelemetry's span kind in the exporter's spelling (`server`, `client`, …); empty if it was not
    /// reported.
    pub fn kind(&self) -> &str {
        self.meta.get("span.kind").map_or("", String::as_str)
    }

    /// Returns the `service.instance.id` of the process that ended the span.
    pub fn instance(&self) -> Option<&str> {
        self.meta.get("service.instance.id").map(String::as_str)
    }

    /// Returns the HTTP status code from `http.status_code` in its metrics or meta.
    pub fn http_status(&self) -> Option<u16> {
        match self.metrics.get("http.status_code") {
            Some(number) => Some(*number as u16),
            None => self.meta.get("http.status_code")?.parse().ok(),
        }
    }

    /// Returns the end of the span in nanoseconds since the Unix epoch.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(self.duration)
    }
}

/// The spans captured for one trace id, by start time. A span that arrived twice is in it twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// All spans' trace id.
    pub id: TraceId,
    /// Ordered by start, then id.
    pub spans: Vec<Span>,
}

impl Trace {
    /// Assembles a trace from the spans captured for `id`, sorted by start.
    pub fn new(id: TraceId, mut spans: Vec<Span>) -> Self {
        spans.sort_by_key(|span| (span.start, span.id));
        Self { id, spans }
    }

    /// Returns the first span with this id.
    pub fn span(&self, id: SpanId) -> Option<&Span> {
        self.spans.iter().find(|span| span.id == id)
    }

    /// Returns the root span: the first without a parent, else the first whose parent was not captured.
    pub fn root(&self) -> Option<&Span> {
        let without_parent = self.spans.iter().find(|span| span.parent_id.is_none());
        without_parent.or_else(|| {
            let ids: HashSet<SpanId> = self.spans.iter().map(|span| span.id).collect();
            self.spans.iter().find(|span| span.parent_id.is_some_and(|id| !ids.contains(&id)))
        })
    }

    /// Iterates over the spans whose parent is `id`, ordered by start.
    pub fn children(&self, id: SpanId) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(move |span| span.parent_id == Some(id))
    }
}

/// Nanoseconds since the Unix epoch, saturating.
pub fn unix_nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Spans for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Returns a span of trace 1; 0 is no parent.
    pub(crate) fn span(id: u64, parent: u64, service: &str, error: bool) -> Span {
        Span {
            trace_id: TraceId(1),
            datadog_trace_id: 1,
            id: SpanId(id),
            parent_id: (parent != 0).then_some(SpanId(parent)),
            service: service.to_owned(),
            name: String::new(),
            resource: String::new(),
            span_type: String::new(),
            error,
            start: 0,
            duration: 1,
            meta: BTreeMap::new(),
            metrics: BTreeMap::new(),
            hostname: String::new(),
            env: String::new(),
            language: String::new(),
            container_id: String::new(),
            priority: 1,
            dropped: false,
            form: PayloadForm::Datadog,
            attempt: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_reads_both_spellings_and_nothing_else() {
        let id: TraceId = "0af7651916cd43dd8448eb211c80319c".parse().unwrap();
        assert_eq!("1-0af76519-16cd43dd8448eb211c80319c".parse(), Ok(id));
        assert_eq!(id.to_xray(), "1-0af76519-16cd43dd8448eb211c80319c");
        assert_eq!(id.low(), 0x8448_eb21_1c80_319c);
        for bad in
            ["", "0af7", "+af7651916cd43dd8448eb211c80319c", "1-0af7651-916cd43dd8448eb211c80319c"]
        {
            assert!(bad.parse::<TraceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trace_id_is_read_in_every_spelling_that_people_copy() {
        let any = TraceId::from_any_spelling;
        let id = TraceId(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        for text in [
            "0af7651916cd43dd8448eb211c80319c",
            "1-0af76519-16cd43dd8448eb211c80319c",
            "14576827793038113322513871894673895836",
        ] {
            assert_eq!(any(text).map(TraceId::low), Ok(id.low()), "{text}");
        }
        let low = TraceId(u128::from(id.low()));
        assert_eq!((any("8448eb211c80319c"), any("9532127138774266268")), (Ok(low), Ok(low)));
        for bad in
            ["", "0", "8448eb211c80319", "99999999999999999999999999999999999999999", "0x84", "-1"]
        {
            assert!(any(bad).is_err(), "{bad}");
        }
    }
}
