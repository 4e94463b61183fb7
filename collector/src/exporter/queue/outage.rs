//! Ends the waits of requests when an outage of their receiver is over.
//!
//! Every request that failed waits by itself, up to `max_interval`. When the receiver is back, the first that it takes says so,
//! and the others need not sleep on. They are not woken all at once: each request that succeeds wakes two, so that their number
//! doubles with each answer, and stops to grow when answers fail again.
//!
//! An outage is a time of at least `initial_interval` in which attempts ended and none succeeded, and a request is woken once
//! for each. So a receiver that takes some requests and refuses others is tried no more often than the waits say.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// How many that wait are woken by one that succeeds.
const WOKEN_BY_EACH: usize = 2;

/// What the workers of a queue know together about their receiver.
#[derive(Debug)]
pub(super) struct Outage {
    /// How long nothing must have succeeded.
    least: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the first attempt failed after the last that succeeded.
    begun: Option<Instant>,
    next: u64,
    /// By the order in which they failed.
    waiting: BTreeMap<u64, Waiting>,
    /// Those before this one failed in an outage that is over.
    over_before: u64,
}

#[derive(Debug)]
struct Waiting {
    /// Until then the receiver wants to hear nothing of it.
    not_before: Instant,
    wake: oneshot::Sender<()>,
}

impl Outage {
    pub(super) fn new(least: Duration) -> Self {
        Self { least, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&self) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(begun) = state.begun.take()
            && now - begun >= self.least
        {
            state.over_before = state.next;
        }
        let (over_before, mut left) = (state.over_before, WOKEN_BY_EACH);
        while left > 0
            && let Some(first) = state.waiting.first_entry()
        {
            if *first.key() >= over_before {
                break;
            }
            let Waiting { not_before, wake } = first.remove();
            // Who is gone meanwhile, or waits for the receiver's own time, wakes nobody in turn.
            if wake.send(()).is_ok() && not_before <= now {
                left -= 1;
            }
        }
    }

    /// An attempt failed, and is to be made again after `wait`, or when an outage is over, though not before `after`.
    pub(super) async fn wait(&self, wait: Duration, after: Option<Duration>) {
        let now = Instant::now();
        let not_before = now + after.unwrap_or_default();
        let (wake, woken) = oneshot::channel();
        let entry = {
            let mut state = self.state();
            state.begun.get_or_insert(now);
            let number = state.next;
            state.next += 1;
            state.waiting.insert(number, Waiting { not_before, wake });
            Entry { outage: self, number }
        };
        tokio::select! {
            () = sleep_until(now + wait) => {}
            // It is only dropped when it is sent, or with the entry.
            _ = woken => sleep_until(not_before).await,
        }
        drop(entry);
    }
}

/// One that waits, for as long as it does.
struct Entry<'a> {
    outage: &'a Outage,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.outage.state().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
