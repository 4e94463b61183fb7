//! When a failed attempt is made again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::{Diagnostics, duration};

/// Retrying, in the Collector's words. The default outlives an outage: nothing is given up while there is room for it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether a failed attempt is made again at all. Default `true`.
    pub(crate) enabled: bool,
    /// The first wait. Default `500ms`.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) initial_interval: Duration,
    /// By how much each wait is moved at random, as a part of it. Default 0.5.
    pub(crate) randomization_factor: f64,
    /// Factor from each wait to the next. Default 1.5.
    pub(crate) multiplier: f64,
    /// The longest wait. Default `30s`. Waits end early when the receiver takes something again after an outage.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) max_interval: Duration,
    /// After this time a request is given up. Default 0: never.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) max_elapsed_time: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_millis(500),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::ZERO,
        }
    }
}

impl Config {
    pub(crate) fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            let path = ["retry_on_failure", "randomization_factor"];
            diagnostics.add(&path, "must be from 0 to 1");
        }
        let longest = self.max_elapsed_time;
        if self.enabled && !longest.is_zero() && longest < self.initial_interval {
            let problem = "must not be less than `initial_interval`; 0 is for ever";
            diagnostics.add(&["retry_on_failure", "max_elapsed_time"], problem);
        }
        if !(1.0..=1e6).contains(&self.multiplier) {
            diagnostics.add(&["retry_on_failure", "multiplier"], "must be at least 1");
        }
    }
}

/// How long to wait while the collector ends: about as after a first failure.
pub(crate) fn soon(initial_interval: Duration) -> Duration {
    initial_interval.mul_f64(0.5 + rand::random::<f64>())
}

/// The waits of one request.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    config: &'a Config,
    interval: Duration,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, interval: config.initial_interval }
    }

    /// How long to wait before the next attempt, `elapsed` after the first one; `None` to give up.
    ///
    /// `random` is from 0 to 1. The wait is never shorter than the receiver asked for.
    pub(crate) fn next(
        &mut self,
        elapsed: Duration,
        after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        if !self.config.enabled {
            return None;
        }
        let spread = self.config.randomization_factor * (2.0 * random - 1.0);
        let wait = self.interval.mul_f64((1.0 + spread).max(0.0));
        self.interval = self.interval.mul_f64(self.config.multiplier).min(self.config.max_interval);
        let wait = wait.max(after.unwrap_or_default());
        let limit = self.config.max_elapsed_time;
        (limit.is_zero() || elapsed + wait <= limit).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Config};
    use std::time::Duration;

    #[test]
    fn waits_grow_to_the_limit_and_honour_the_receivers_wish() {
        let config = Config { max_interval: Duration::from_secs(1), ..Config::default() };
        let mut backoff = Backoff::new(&config);
        let mut wait = |after| backoff.next(Duration::ZERO, after, 0.5).unwrap().as_millis();
        assert_eq!([wait(None), wait(None), wait(None), wait(None)], [500, 750, 1000, 1000]);
        assert_eq!(wait(Some(Duration::from_secs(7))), 7000);
    }

    #[test]
    fn waits_are_spread_at_random() {
        let config = Config::default();
        let wait = |random| Backoff::new(&config).next(Duration::ZERO, None, random).unwrap();
        assert_eq!(wait(0.0), Duration::from_millis(250));
        assert_eq!(wait(1.0), Duration::from_millis(750));
    }

    #[test]
    fn a_request_is_given_up_only_if_the_user_says_so() {
        let day = Duration::from_secs(86_400);
        let config = Config::default();
        assert!(Backoff::new(&config).next(day, None, 0.5).is_some());
        let config = Config { max_elapsed_time: Duration::from_secs(60), ..Config::default() };
        assert!(Backoff::new(&config).next(Duration::from_secs(59), None, 0.5).is_some());
        assert!(Backoff::new(&config).next(Duration::from_secs(60), None, 0.5).is_none());
        let config = Config { enabled: false, ..Config::default() };
        assert!(Backoff::new(&config).next(Duration::ZERO, None, 0.5).is_none());
    }
}
