//! Faults a request can ask for: the grammar of the `x-tracecheck-fault` header, and its decisions.
//!
//! Everything here is pure. Carrying a fault out is `server::inject`'s work; faults that hold for every request
//! are in [`standing`].
//!
//! ```text
//! header = fault *( "," fault )
//! fault  = HOP "=" kind [ "*" N ]          only while the request's resend count is below N
//! kind   = "status:" CODE                  CODE 400..599
//!        | "delay:" DURATION               such as 250ms, at most 60s
//!        | "abort" | "hang" | "panic"
//!        | "error-rate:" RATE ":" SEED     RATE 0..1, SEED an unsigned 64-bit number
//! ```

pub mod standing;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::TraceId;

/// The header that carries a request's faults; every service reads it and forwards it unchanged.
pub const FAULT_HEADER: &str = "x-tracecheck-fault";

/// The header by which a caller informs its direct callee how often it has sent this call before.
pub const RESEND_HEADER: &str = "x-tracecheck-resend";

/// The longest time a fault may hold a request: the limit of `delay` and the end of every `hang`.
pub const MAX_HOLD: Duration = Duration::from_secs(60);

const KNOWN_KINDS: &str = "status:CODE, delay:DURATION, abort, hang, panic, error-rate:RATE:SEED";

/// All faults of one request, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Returns the faults that `hop` has to apply to a request sent for the `resend_count`-th time (0 = first try).
    pub fn at<'a>(
        &'a self,
        hop: &'a str,
        resend_count: u32,
    ) -> impl Iterator<Item = &'a FaultKind> {
        self.0
            .iter()
            .filter(move |fault| {
                fault.hop == hop && fault.tries.is_none_or(|tries| resend_count < tries)
            })
            .map(|fault| &fault.kind)
    }
}

impl FromStr for Faults {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// One fault: which hop fails, how, and for how many tries of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The `NAME` of the app that has to fail.
    pub hop: String,
    /// Kind of failure.
    pub kind: FaultKind,
    /// The fault applies only while the request's resend count is below this; `None` = always.
    pub tries: Option<u32>,
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(part: &str) -> Result<Self, Self::Err> {
        let error = |problem| ParseFaultError { part: part.to_owned(), problem };
        let (hop, rest) = part.split_once('=').ok_or_else(|| error(Problem::NoEquals))?;
        let hop = hop.trim();
        if hop.is_empty() {
            return Err(error(Problem::NoHop));
        }
        let (kind, tries) = match rest.rsplit_once('*') {
            None => (rest, None),
            Some((kind, tries)) => match tries.trim().parse() {
                Ok(0) | Err(_) => return Err(error(Problem::Tries(tries.trim().to_owned()))),
                Ok(tries) => (kind, Some(tries)),
            },
        };
        let kind = FaultKind::parse(kind.trim()).map_err(error)?;
        Ok(Self { hop: hop.to_owned(), kind, tries })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.hop, self.kind)?;
        match self.tries {
            Some(tries) => write!(f, "*{tries}"),
            None => Ok(()),
        }
    }
}

/// Kind of failure of a hop.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// Answers this HTTP status (400 to 599) without doing its work.
    Status(u16),
    /// Waits this long (at most [`MAX_HOLD`]), then goes on.
    Delay(Duration),
    /// Resets the TCP connection without an answer.
    Abort,
    /// Gives no answer until the caller goes away, at most for [`MAX_HOLD`].
    Hang,
    /// Panics in the handler.
    Panic,
    /// Answers 500 for this share of all traces.
    ErrorRate {
        /// The share of traces that fail.
        rate: Rate,
        /// Selects which traces these are.
        seed: u64,
    },
}

impl FaultKind {
    fn parse(text: &str) -> Result<Self, Problem> {
        let (kind, argument) = match text.split_once(':') {
            Some((kind, argument)) => (kind, Some(argument)),
            None => (text, None),
        };
        match (kind, argument) {
            ("abort", None) => Ok(Self::Abort),
            ("hang", None) => Ok(Self::Hang),
            ("panic", None) => Ok(Self::Panic),
            ("status", Some(code)) => parse_error_status(code)
                .map(Self::Status)
                .ok_or_else(|| Problem::Status(code.to_owned())),
            ("delay", Some(delay)) => {
                parse_hold(delay).map(Self::Delay).map_err(|_| Problem::Delay(delay.to_owned()))
            }
            ("error-rate", Some(argument)) => argument
                .split_once(':')
                .and_then(|(rate, seed)| {
                    Some(Self::ErrorRate { rate: rate.parse().ok()?, seed: seed.parse().ok()? })
                })
                .ok_or_else(|| Problem::ErrorRate(argument.to_owned())),
            ("abort" | "hang" | "panic", Some(_)) => Err(Problem::Surplus(kind.to_owned())),
            ("status" | "delay" | "error-rate", None) => Err(Problem::Missing(kind.to_owned())),
            _ => Err(Problem::UnknownKind(kind.to_owned())),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "status:{code}"),
            Self::Delay(delay) => write!(f, "delay:{}", humantime::format_duration(*delay)),
            Self::Abort => f.write_str("abort"),
            Self::Hang => f.write_str("hang"),
            Self::Panic => f.write_str("panic"),
            Self::ErrorRate { rate, seed } => write!(f, "error-rate:{rate}:{seed}"),
        }
    }
}

/// A share from 0 (never) to 1 (always).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// Decides for one trace. The same seed and trace id give the same answer in every service and every process.
    pub fn hits(self, seed: u64, trace_id: TraceId) -> bool {
        let id = u128::from_be_bytes(trace_id.to_bytes());
        let [high, low] = [(id >> 64) as u64, id as u64];
        let mixed = mix(mix(mix(seed).wrapping_add(high)).wrapping_add(low));
        // The upper 53 bits: all that an f64 in 0..1 can hold.
        let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        share < self.0
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes about half of the output's.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl FromStr for Rate {
    type Err = RateOutOfRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(Self(rate)),
            _ => Err(RateOutOfRange),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a number from 0 to 1.
#[derive(Debug, thiserror::Error)]
#[error("not a number from 0 to 1")]
pub struct RateOutOfRange;

/// Parses an HTTP status that means an error, 400 to 599.
pub(crate) fn parse_error_status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|code| (400..600).contains(code))
}

/// Parses a time for which a request may be held: `250ms`, `1s`, `1m`.
pub(crate) fn parse_hold(text: &str) -> Result<Duration, String> {
    let hold = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if hold > MAX_HOLD { Err("longer than 60s".to_owned()) } else { Ok(hold) }
}

/// A part of the fault header that is not a fault.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("fault `{part}`: {problem}")]
pub struct ParseFaultError {
    part: String,
    problem: Problem,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Problem {
    #[error("has no `=`; write HOP=KIND, where KIND is one of {KNOWN_KINDS}")]
    NoEquals,
    #[error("names no hop; write the NAME of a service before the `=`")]
    NoHop,
    #[error("`{0}` is not a kind of fault; known are {KNOWN_KINDS}")]
    UnknownKind(String),
    #[error("`{0}` takes no argument; drop the `:` and what follows")]
    Surplus(String),
    #[error("`{0}` needs an argument; known kinds are {KNOWN_KINDS}")]
    Missing(String),
    #[error("`{0}` is not an error status; use a number from 400 to 599")]
    Status(String),
    #[error("`{0}` is not a delay; use a duration such as 250ms, at most 60s")]
    Delay(String),
    #[error(
        "`{0}` is not an error rate; write RATE:SEED, RATE from 0 to 1 and SEED an unsigned number"
    )]
    ErrorRate(String),
    #[error("`*{0}` is not a number of tries; use 1 or more")]
    Tries(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    fn parse(text: &str) -> Result<Faults, String> {
        text.parse().map_err(|error: ParseFaultError| error.to_string())
    }

    #[test]
    fn every_kind_is_read() {
        let text = "a=status:503,a=delay:250ms,b=abort,c=hang*1,d=panic,e=error-rate:0.5:42*3";
        let faults = parse(text).unwrap();
        assert_eq!(faults.to_string(), text);
        assert_eq!(
            faults.at("a", 0).collect::<Vec<_>>(),
            [&FaultKind::Status(503), &FaultKind::Delay(Duration::from_millis(250))]
        );
        assert_eq!(faults.at("nobody", 0).count(), 0);
    }

    #[test]
    fn a_fault_with_tries_ends_at_that_resend_count() {
        let faults = parse("a=abort*2").unwrap();
        let applies = [0, 1, 2, 3].map(|resend_count| faults.at("a", resend_count).count());
        assert_eq!(applies, [1, 1, 0, 0]);
    }

    #[test]
    fn an_empty_header_asks_for_nothing() {
        assert_eq!(parse(" "), Ok(Faults::default()));
    }

    #[test]
    fn each_mistake_is_named_with_its_part_and_a_remedy() {
        for (text, part, named) in [
            ("abort", "abort", "no `=`"),
            ("=abort", "=abort", "names no hop"),
            ("a=abort,,b=hang", "", "no `=`"),
            (
                "a=statis:503",
                "a=statis:503",
                "`statis` is not a kind of fault; known are status:CODE",
            ),
            ("a=abort,b=status:200", "b=status:200", "from 400 to 599"),
            ("a=status", "a=status", "needs an argument"),
            ("a=hang:1s", "a=hang:1s", "takes no argument"),
            ("a=delay:fast", "a=delay:fast", "such as 250ms"),
            ("a=delay:61s", "a=delay:61s", "at most 60s"),
            ("a=error-rate:2:1", "a=error-rate:2:1", "RATE from 0 to 1"),
            ("a=error-rate:NaN:1", "a=error-rate:NaN:1", "RATE from 0 to 1"),
            ("a=error-rate:0.5", "a=error-rate:0.5", "RATE:SEED"),
            ("a=abort*0", "a=abort*0", "1 or more"),
            ("a=abort*", "a=abort*", "1 or more"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(&format!("fault `{part}`: ")), "{text}: {message}");
            assert!(message.contains(named), "{text}: {message}");
        }
    }

    #[test]
    fn a_rate_hits_that_share_of_traces_and_always_the_same_ones() {
        let ids = || (1..=10_000_u128).map(|id| TraceId::from_bytes(id.to_be_bytes()));
        let hits = |rate: &str, seed| {
            ids().filter(|id| rate.parse::<Rate>().unwrap().hits(seed, *id)).collect::<Vec<_>>()
        };
        assert_eq!(hits("0", 7).len(), 0);
        assert_eq!(hits("1", 7).len(), 10_000);
        let quarter = hits("0.25", 7);
        assert!((2_300..2_700).contains(&quarter.len()), "{}", quarter.len());
        assert_eq!(quarter, hits("0.25", 7));
        assert_ne!(quarter, hits("0.25", 8));
    }

    fn any_kind() -> impl Strategy<Value = FaultKind> {
        prop_oneof![
            (400_u16..600).prop_map(FaultKind::Status),
            (0_u64..=60_000_000_000)
                .prop_map(|nanos| FaultKind::Delay(Duration::from_nanos(nanos))),
            Just(FaultKind::Abort),
            Just(FaultKind::Hang),
            Just(FaultKind::Panic),
            (0.0..=1.0, any::<u64>())
                .prop_map(|(rate, seed)| FaultKind::ErrorRate { rate: Rate(rate), seed }),
        ]
    }

    fn any_faults() -> impl Strategy<Value = Faults> {
        let fault = ("[a-z0-9._-]{1,12}", any_kind(), proptest::option::of(1_u32..))
            .prop_map(|(hop, kind, tries)| Fault { hop, kind, tries });
        proptest::collection::vec(fault, 0..5).prop_map(Faults)
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,64}|[ab=,:*0-9.a-z-]{0,64}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_displayed_is_parsed_back(faults in any_faults()) {
            prop_assert_eq!(parse(&faults.to_string()), Ok(faults));
        }
    }
}
