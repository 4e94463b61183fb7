//! Files that are read again while the collector runs, so that new certificates and tokens need no restart.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::telemetry::{Counter, Registry};

/// How often files are read at most, whatever is asked for.
pub(crate) const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// Files, and what is made of them.
pub(crate) trait Files: Send + 'static {
    type Made: Send + Sync + 'static;

    /// Reads the files, and makes something new of them; `None` if they are as before.
    ///
    /// # Errors
    ///
    /// The reason for which they cannot be used, in words, without secrets.
    fn read(&mut self) -> Result<Option<Self::Made>, String>;
}

/// Counters of the files of one key of the config.
#[derive(Debug, Clone)]
pub(crate) struct Reloads {
    key: String,
    succeeded: Counter,
    failed: Counter,
}

impl Reloads {
    /// Makes those of the files below this key of the config.
    pub(crate) fn new(registry: &Registry, key: &str) -> Self {
        let counter = |outcome| {
            registry.counter(
                "otelcol_file_reloads",
                "Number of times that changed files were read again, and could be used (success) or not (failure).",
                &[("key", key), ("outcome", outcome)],
            )
        };
        Self { key: key.into(), succeeded: counter("success"), failed: counter("failure") }
    }
}

/// Reads files again and again until nobody needs them any more. Where they cannot be used, what was made of them before stays, and the
/// first failure of a kind is logged.
pub(crate) async fn follow<F: Files>(
    mut files: F,
    every: Duration,
    current: watch::Sender<F::Made>,
    reloads: Reloads,
) {
    let every = every.max(LEAST_INTERVAL);
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        tokio::select! {
            () = current.closed() => return,
            _ = ticks.tick() => {}
        }
        let read = spawn_blocking(move || {
            let outcome = files.read();
            (files, outcome)
        });
        // It is cancelled where the program ends.
        let Ok((same, outcome)) = read.await else { return };
        files = same;
        match outcome {
            Ok(None) => known = None,
            Ok(Some(made)) => {
                known = None;
                reloads.succeeded.add(1);
                tracing::info!(key = reloads.key, "changed files were read again, and are in use");
                current.send_replace(made);
            }
            Err(problem) => {
                reloads.failed.add(1);
                if known.as_ref() != Some(&problem) {
                    tracing::error!(
                        key = reloads.key,
                        problem,
                        "changed files cannot be used, so that what was read before stays in use (further failures like this are only counted)"
                    );
                    known = Some(problem);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::{Files, LEAST_INTERVAL, Reloads, follow};
    use crate::telemetry::Registry;

    /// Outcomes of the readings.
    struct Scripted(VecDeque<Result<Option<u8>, String>>);

    impl Files for Scripted {
        type Made = u8;

        fn read(&mut self) -> Result<Option<u8>, String> {
            self.0.pop_front().unwrap_or(Ok(None))
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_counted_and_changes_nothing() {
        let registry = Registry::default();
        let (sender, mut current) = watch::channel(0);
        let broken = || Err("broken".to_owned());
        let script =
            Scripted([broken(), Ok(None), Ok(Some(1)), broken(), broken(), Ok(Some(2))].into());
        let reloads = Reloads::new(&registry, "a.b");
        let counted = reloads.clone();
        let following = tokio::spawn(follow(script, Duration::ZERO, sender, reloads));
        for expected in [1, 2] {
            tokio::time::timeout(50 * LEAST_INTERVAL, current.changed()).await.unwrap().unwrap();
            assert_eq!(*current.borrow_and_update(), expected);
        }
        assert_eq!((counted.succeeded.value(), counted.failed.value()), (2, 3));
        // It ends with the last who reads them.
        drop(current);
        tokio::time::timeout(50 * LEAST_INTERVAL, following).await.unwrap().unwrap();
    }
}
