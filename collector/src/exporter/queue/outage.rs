//! Ends the waits of requests when their receiver works again, or when the collector ends.
//!
//! Every request that failed waits by itself, up to `max_interval`. When the receiver is back, the first that it takes says so,
//! and the others need not sleep on. They are not woken all at once: each request that succeeds wakes two, so that their number
//! doubles with each answer, and stops to grow when answers fail again.
//!
//! The receiver works again if one succeeds after a time of at least `initial_interval` in which attempts ended and none
//! succeeded, or in which none failed. A request that was woken and failed all the same sleeps its next wait out: one that the
//! receiver never takes is tried hardly more often than its waits say.
//!
//! While senders find no room, time counts more than sparing the receiver: waits are cut to about 2 s, unless the receiver
//! itself asked for more.
//!
//! While the collector ends there is no time for long waits: they are as after a first failure.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::exporter::retry;

/// How many that wait are woken by one that succeeds.
const WOKEN_BY_EACH: usize = 2;

/// For how long senders are taken to find no room after one did: as long as one is held, and a little more.
const PRESSED_FOR: Duration = Duration::from_secs(10);
/// About how long a wait is while senders find no room.
const WAIT_WHILE_PRESSED: Duration = Duration::from_secs(2);

/// Shared knowledge of a queue's workers about their destination.
#[derive(Debug)]
pub(super) struct Outage {
    /// For how long nothing must have succeeded, or failed.
    least: Duration,
    ending: CancellationToken,
    state: Mutex<State>,
    pressed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// When the first attempt failed after the last that succeeded.
    begun: Option<Instant>,
    last_failed: Option<Instant>,
    /// When a sender found no room the last time.
    pressed: Option<Instant>,
    next: u64,
    /// By the order in which they failed.
    waiting: BTreeMap<u64, Waiting>,
    /// Those before this one failed before the receiver worked again.
    over_before: u64,
}

#[derive(Debug)]
struct Waiting {
    /// Until then the receiver wants to hear nothing of it.
    not_before: Instant,
    wake: oneshot::Sender<()>,
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) time: Duration,
    /// Delay that the destination asked for, which is waited for in any case.
    pub(super) after: Option<Duration>,
    /// Whether it may end when the receiver works again.
    pub(super) may_be_cut: bool,
}

impl Outage {
    /// Of a receiver whose requests wait for about `least` after their first failure, until `ending` says that there is no time.
    pub(super) fn new(least: Duration, ending: CancellationToken) -> Self {
        Self { least, ending, state: Mutex::default(), pressed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let is_long_ago = |at: Option<Instant>| at.is_some_and(|at| now - at >= self.least);
        if is_long_ago(state.begun.take()) || is_long_ago(state.last_failed) {
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

    /// A sender finds no room.
    pub(super) fn press(&self) {
        self.state().pressed = Some(Instant::now());
        self.pressed.notify_waiters();
    }

    /// Returns when a sender finds no room, or did so a short while ago.
    async fn is_pressed(&self) {
        loop {
            let pressed = self.pressed.notified();
            if self.state().pressed.is_some_and(|at| at.elapsed() < PRESSED_FOR) {
                return;
            }
            pressed.await;
        }
    }

    /// An attempt failed, and is to be made again when this returns. Gives whether the wait was slept out.
    pub(super) async fn wait(&self, wait: Wait) -> bool {
        let now = Instant::now();
        let not_before = now + wait.after.unwrap_or_default();
        let (wake, woken) = oneshot::channel();
        let entry = {
            let mut state = self.state();
            state.begun.get_or_insert(now);
            state.last_failed = Some(now);
            let number = state.next;
            state.next += 1;
            if wait.may_be_cut {
                state.waiting.insert(number, Waiting { not_before, wake });
            }
            Entry { outage: self, number }
        };
        let hurried = async {
            self.is_pressed().await;
            let hurry = WAIT_WHILE_PRESSED.mul_f64(0.75 + rand::random::<f64>() / 2.0);
            sleep_until((now + hurry).max(not_before)).await;
        };
        let is_slept_out = tokio::select! {
            () = sleep_until(now + wait.time) => true,
            Ok(()) = woken => {
                sleep_until(not_before).await;
                false
            }
            () = hurried => true,
            () = self.ending.cancelled() => {
                let soon = Instant::now() + retry::soon(self.least);
                sleep_until(soon.max(not_before).min(now + wait.time)).await;
                true
            }
        };
        drop(entry);
        is_slept_out
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
