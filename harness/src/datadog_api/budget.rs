//! How often Datadog may be asked: a pure account of what was used and what is left.
//!
//! It begins with the documented limits and follows what the answers say of them (`X-RateLimit-*`, `Retry-After`). Others who use
//! the same organization's keys use up the same limits, so what an answer says of the rest is always believed.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::time::Instant;

use super::endpoint::Endpoint;

/// Rate limit of an endpoint, as its responses report it. Any part may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimit {
    /// Requests in a period.
    pub limit: Option<u32>,
    /// The period.
    pub period: Option<Duration>,
    /// Requests that are left in this one.
    pub remaining: Option<u32>,
    /// Time until the next one.
    pub reset: Option<Duration>,
}

/// The account of both endpoints.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    traces: Account,
    spans: Account,
}

#[derive(Debug, Clone)]
struct Account {
    limit: u32,
    period: Duration,
    /// When requests were sent, within the last period.
    sent: VecDeque<Instant>,
    /// Remaining requests by the last response, and until when that holds.
    reported: Option<(u32, Instant)>,
    /// Nothing may be sent before.
    closed_until: Option<Instant>,
    used: u64,
}

impl Account {
    fn new(limit: u32, period: Duration) -> Self {
        Self { limit, period, sent: VecDeque::new(), reported: None, closed_until: None, used: 0 }
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|sent| *sent + self.period <= now) {
            self.sent.pop_front();
        }
        if self.reported.is_some_and(|(_, until)| until <= now) {
            self.reported = None;
        }
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
        }
    }

    fn left(&self) -> u32 {
        let own = self.limit.saturating_sub(u32::try_from(self.sent.len()).unwrap_or(u32::MAX));
        match self.reported {
            _ if self.closed_until.is_some() => 0,
            Some((left, _)) => left.min(own),
            None => own,
        }
    }

    /// When something may be sent again, where nothing is left.
    fn opens_at(&self, now: Instant) -> Instant {
        if let Some(until) = self.closed_until {
            return until;
        }
        match (self.reported, self.sent.front()) {
            (Some((0, until)), _) => until,
            (_, Some(oldest)) => *oldest + self.period,
            _ => now,
        }
    }
}

impl Default for Budget {
    /// The documented limits: 60 traces a minute, 300 searches an hour.
    fn default() -> Self {
        Self {
            traces: Account::new(60, Duration::from_secs(60)),
            spans: Account::new(300, Duration::from_secs(60 * 60)),
        }
    }
}

impl Budget {
    fn account(&self, endpoint: Endpoint) -> &Account {
        match endpoint {
            Endpoint::Trace => &self.traces,
            Endpoint::Spans => &self.spans,
        }
    }

    fn account_mut(&mut self, endpoint: Endpoint, now: Instant) -> &mut Account {
        let account = match endpoint {
            Endpoint::Trace => &mut self.traces,
            Endpoint::Spans => &mut self.spans,
        };
        account.forget(now);
        account
    }

    /// Takes one request out of the budget.
    ///
    /// # Errors
    ///
    /// When there is none left, with how long that lasts.
    pub(super) fn take(&mut self, endpoint: Endpoint, now: Instant) -> Result<(), Duration> {
        let account = self.account_mut(endpoint, now);
        if account.left() == 0 {
            let opens_at = account.opens_at(now);
            return Err(opens_at.saturating_duration_since(now).max(Duration::from_millis(1)));
        }
        account.sent.push_back(now);
        account.used += 1;
        if let Some((left, _)) = &mut account.reported {
            *left = left.saturating_sub(1);
        }
        Ok(())
    }

    /// Takes over what an answer says.
    pub(super) fn learn(&mut self, endpoint: Endpoint, said: RateLimit, now: Instant) {
        let account = self.account_mut(endpoint, now);
        if let Some(limit) = said.limit.filter(|limit| *limit > 0) {
            account.limit = limit;
        }
        if let Some(period) = said.period.filter(|period| !period.is_zero()) {
            account.period = period;
        }
        if let Some(remaining) = said.remaining {
            let reset = said.reset.unwrap_or(account.period);
            account.reported = Some((remaining, now + reset));
        }
    }

    /// Closes an endpoint that answered 429, for as long as it said or, where it did not say, for its period at most a minute.
    pub(super) fn close(&mut self, endpoint: Endpoint, wait: Option<Duration>, now: Instant) {
        let account = self.account_mut(endpoint, now);
        let wait = wait.unwrap_or_else(|| account.period.min(Duration::from_secs(60)));
        account.closed_until = Some(now + wait.max(Duration::from_millis(1)));
    }

    /// How many requests are left at this time.
    pub(super) fn left(&self, endpoint: Endpoint, now: Instant) -> u32 {
        let mut account = self.account(endpoint).clone();
        account.forget(now);
        account.left()
    }

    /// How long to leave between two looks at the same thing while so many things are looked at, so that the budget lasts: no time
    /// while most of it is there, then each its share of the period.
    pub(super) fn spacing(&self, endpoint: Endpoint, things: usize, now: Instant) -> Duration {
        let account = self.account(endpoint);
        if self.left(endpoint, now) > account.limit / 2 {
            return Duration::ZERO;
        }
        let share = account.period / account.limit.max(1);
        share * u32::try_from(things.max(1)).unwrap_or(u32::MAX)
    }

    /// Describes used and remaining quota, in words.
    pub(super) fn describe(&self, now: Instant) -> Usage {
        let of = |endpoint: Endpoint| {
            let account = self.account(endpoint);
            UsageOf {
                endpoint,
                used: account.used,
                left: self.left(endpoint, now),
                limit: account.limit,
                period: account.period,
            }
        };
        Usage([of(Endpoint::Trace), of(Endpoint::Spans)])
    }
}

/// Quota used, and what remains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usage([UsageOf; 2]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct UsageOf {
    endpoint: Endpoint,
    used: u64,
    left: u32,
    limit: u32,
    period: Duration,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, of) in self.0.iter().enumerate() {
            let comma = if index > 0 { "; " } else { "" };
            let UsageOf { endpoint, used, left, limit, period } = of;
            let period = humantime::format_duration(*period);
            write!(f, "{comma}{endpoint}: {used} used, {left} left of {limit} in {period}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn take_all(budget: &mut Budget, endpoint: Endpoint) -> u32 {
        (0..).take_while(|_| budget.take(endpoint, Instant::now()).is_ok()).count() as u32
    }

    #[tokio::test(start_paused = true)]
    async fn sixty_a_minute_and_three_hundred_an_hour_are_never_passed() {
        let mut budget = Budget::default();
        assert_eq!(take_all(&mut budget, Endpoint::Trace), 60);
        assert_eq!(budget.take(Endpoint::Trace, Instant::now()), Err(MINUTE));
        advance(MINUTE / 2).await;
        assert_eq!(budget.take(Endpoint::Trace, Instant::now()), Err(MINUTE / 2));
        advance(MINUTE / 2).await;
        assert_eq!(take_all(&mut budget, Endpoint::Trace), 60);
        assert_eq!(take_all(&mut budget, Endpoint::Spans), 300);
        assert_eq!(budget.take(Endpoint::Spans, Instant::now()), Err(60 * MINUTE));
        let used = |endpoint| budget.account(endpoint).used;
        assert_eq!((used(Endpoint::Trace), used(Endpoint::Spans)), (120, 300));
    }

    #[tokio::test(start_paused = true)]
    async fn in_any_minute_there_are_no_more_than_sixty_however_they_are_spread() {
        let mut budget = Budget::default();
        let mut sent: VecDeque<Instant> = VecDeque::new();
        for step in 0..2_000u32 {
            advance(Duration::from_millis(u64::from(step * 7919 % 997))).await;
            let now = Instant::now();
            sent.retain(|at| *at + MINUTE > now);
            if budget.take(Endpoint::Trace, now).is_ok() {
                sent.push_back(now);
            }
            assert!(sent.len() <= 60, "{} at step {step}", sent.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_answers_say_is_believed_until_the_reset() {
        let mut budget = Budget::default();
        let said = RateLimit {
            limit: Some(100),
            period: Some(Duration::from_secs(10)),
            remaining: Some(2),
            reset: Some(Duration::from_secs(4)),
        };
        budget.learn(Endpoint::Trace, said, Instant::now());
        assert_eq!(take_all(&mut budget, Endpoint::Trace), 2);
        assert_eq!(budget.take(Endpoint::Trace, Instant::now()), Err(Duration::from_secs(4)));
        advance(Duration::from_secs(4)).await;
        assert_eq!(take_all(&mut budget, Endpoint::Trace), 98);
        assert_eq!(budget.left(Endpoint::Spans, Instant::now()), 300);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_closes_the_endpoint_for_as_long_as_it_says() {
        let mut budget = Budget::default();
        budget.close(Endpoint::Spans, Some(Duration::from_secs(7)), Instant::now());
        assert_eq!(budget.take(Endpoint::Spans, Instant::now()), Err(Duration::from_secs(7)));
        assert!(budget.take(Endpoint::Trace, Instant::now()).is_ok());
        advance(Duration::from_secs(7)).await;
        assert!(budget.take(Endpoint::Spans, Instant::now()).is_ok());
        budget.close(Endpoint::Spans, None, Instant::now());
        assert_eq!(budget.take(Endpoint::Spans, Instant::now()), Err(MINUTE));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_are_spread_once_half_of_the_budget_is_gone() {
        let mut budget = Budget::default();
        assert_eq!(budget.spacing(Endpoint::Trace, 5, Instant::now()), Duration::ZERO);
        for _ in 0..30 {
            budget.take(Endpoint::Trace, Instant::now()).unwrap();
        }
        assert_eq!(budget.spacing(Endpoint::Trace, 5, Instant::now()), Duration::from_secs(5));
        assert_eq!(
            budget.describe(Instant::now()).to_string(),
            "trace API: 30 used, 30 left of 60 in 1m; spans search: 0 used, 300 left of 300 in 1h"
        );
    }
}
