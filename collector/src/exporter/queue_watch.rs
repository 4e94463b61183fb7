//! Watches whether a queue works, not whether its destination does: that is no fault of the collector's, and ends by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;

use super::retry;

/// How long an attempt and the wait before it take at most, besides the waits of `retry_on_failure`: `Retry-After` is
/// honoured up to five minutes, and the same again is left for the attempt.
const PATIENCE: Duration = Duration::from_secs(600);

/// The state of a queue's workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// They work, or have nothing to do.
    Working,
    /// One of them panicked.
    Panicked,
    /// Spans are held, and no attempt has ended for longer than any may take.
    Stuck,
}

/// Notes what workers do.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    patience: Duration,
    panicked: Arc<AtomicBool>,
    moved: Arc<Mutex<Instant>>,
}

impl Watch {
    pub(super) fn new(retry: &retry::Config) -> Self {
        Self {
            patience: PATIENCE.saturating_add(retry.max_interval.saturating_mul(2)),
            panicked: Arc::default(),
            moved: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// An attempt ended, well or not.
    pub(super) fn moved(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A worker is through with its batch.
    pub(super) fn ended(&self, ended: &Result<(), JoinError>) {
        self.moved();
        if ended.is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
    }

    /// The state of the workers while so many spans are held. To be asked often: an idle queue counts as moving.
    pub(super) fn state(&self, held: u64) -> State {
        if self.panicked.load(Ordering::Relaxed) {
            return State::Panicked;
        }
        if held == 0 {
            self.moved();
        }
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.elapsed() > self.patience { State::Stuck } else { State::Working }
    }
}
