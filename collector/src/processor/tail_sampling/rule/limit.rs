//! Policies that keep a part: by a hash, by a rate, and by shares of a rate.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::{Judged, Rule};
use crate::processor::tail_sampling::config::Composite;

/// Time of a decision.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Clock {
    pub(in super::super) now: Instant,
    /// Seconds since the epoch.
    pub(in super::super) second: u64,
}

impl Clock {
    pub(in super::super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now: Instant::now(), second: since.as_secs() }
    }
}

/// The FNV-1a hash of a salt and a trace id, in 64 bits.
pub(super) fn hash(salt: &[u8], id: u128) -> u64 {
    salt.iter().chain(&id.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A part of the largest number of 64 bits, as exactly as the reference computes it: the product in 64 bits, and what is behind the point
/// left out.
pub(super) fn part_of_all(ratio: f64) -> u64 {
    if ratio >= 1.0 {
        return u64::MAX;
    }
    if ratio <= 0.0 || !ratio.is_normal() {
        return 0;
    }
    let bits = ratio.to_bits();
    let (mantissa, exponent) = (bits & ((1 << 52) - 1) | 1 << 52, (bits >> 52) as i32 - 1075);
    let product = u128::from(mantissa) * u128::from(u64::MAX);
    // To 64 bits, to the nearest and half to the even one.
    let excess = (128 - product.leading_zeros()).saturating_sub(64);
    let (kept, cut) = (product >> excess, product & ((1 << excess) - 1));
    let half = 1u128 << excess >> 1;
    let is_up = cut > half || cut == half && kept & 1 == 1;
    let rounded = kept + u128::from(is_up && excess > 0);
    match exponent + excess as i32 {
        shift @ 0.. => u64::try_from(rounded << shift.min(63)).unwrap_or(u64::MAX),
        shift => rounded.checked_shr(shift.unsigned_abs()).unwrap_or(0) as u64,
    }
}

/// A number of units a second in the long run, and some at once.
#[derive(Debug)]
pub(in super::super) struct TokenBucket {
    rate: f64,
    burst: f64,
    left: f64,
    last: Instant,
}

impl TokenBucket {
    pub(super) fn new(rate: u64, burst: u64, now: Clock) -> Self {
        let burst = burst as f64;
        Self { rate: rate as f64, burst, left: burst, last: now.now }
    }

    /// Takes so many units, if they are there.
    pub(super) fn takes(&mut self, units: u64, now: Clock) -> bool {
        let elapsed = now.now.saturating_duration_since(self.last).as_secs_f64();
        let left = (self.left + elapsed * self.rate).min(self.burst);
        if units as f64 > left {
            return false;
        }
        (self.left, self.last) = (left - units as f64, now.now);
        true
    }
}

/// Policies that share a number of spans a second.
#[derive(Debug)]
pub(in super::super) struct Shares {
    max_total: u64,
    second: u64,
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    rule: Rule,
    allowed: u64,
    /// Spans that it sampled in this second.
    sampled: u64,
}

impl Shares {
    pub(super) fn new(config: &Composite, now: Clock) -> Self {
        let max_total = f64::from(config.max_total_spans_per_second);
        let policies = &config.composite_sub_policy;
        let share = |name: &str| {
            let part = config.rate_allocation.iter().rfind(|part| part.policy == name);
            match part.filter(|part| part.percent > 0) {
                Some(part) => f64::from(part.percent) / 100.0 * max_total,
                None => max_total / policies.len() as f64,
            }
        };
        let shares = policies.iter().map(|policy| Share {
            rule: Rule::new(policy, now),
            allowed: share(&policy.name) as u64,
            sampled: 0,
        });
        Self {
            max_total: config.max_total_spans_per_second.into(),
            second: now.second,
            shares: shares.collect(),
        }
    }

    pub(super) fn applies(&mut self, trace: Judged<'_>, now: Clock) -> bool {
        if self.second != now.second {
            self.second = now.second;
            self.shares.iter_mut().for_each(|share| share.sampled = 0);
        }
        // The first policy that applies decides, also where it has no spans left.
        let Some(share) = self
            .shares
            .iter_mut()
            .find_map(|share| share.rule.applies(trace, now).then_some(share))
        else {
            return false;
        };
        let sampled = share.sampled + trace.spans.span_count() as u64;
        let fits = sampled <= share.allowed && sampled <= self.max_total;
        if fits {
            share.sampled = sampled;
        }
        fits
    }
}
