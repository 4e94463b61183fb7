//! Looks after the parts of a running collector, and waits for their end.

use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::exporters::CheckedKey;
use crate::exporter::datadog::KeyCheck;
use crate::extension::health_check::Health;

/// How often the parts of a collector are looked after.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(250);

/// Waits for the shutdown; `true` if it is because of a key that Datadog refuses.
pub(super) async fn wait(
    shutdown: &CancellationToken,
    mut key_checks: JoinSet<CheckedKey>,
    health: &Health,
) -> bool {
    loop {
        let checked = tokio::select! {
            () = shutdown.cancelled() => return false,
            Some(checked) = key_checks.join_next(), if !key_checks.is_empty() => checked,
        };
        match checked {
            Ok((exporter, _, KeyCheck::Valid)) => tracing::info!(exporter, "the API key is valid"),
            Ok((exporter, must, KeyCheck::Invalid)) => {
                tracing::error!(
                    exporter,
                    "Datadog refuses the API key; check `api.key`, and that `api.site` is the key's site"
                );
                health.report(&format!("Datadog refuses the API key of exporter `{exporter}`"));
                if must {
                    return true;
                }
            }
            Ok((exporter, _, KeyCheck::Unknown(reason))) => {
                tracing::warn!(exporter, reason, "the API key could not be checked");
            }
            Err(error) => tracing::warn!(%error, "the API key could not be checked"),
        }
    }
}

/// Asks again and again whether a part failed, until one did; gives which.
/// What ends because of a shutdown has not failed.
pub(super) async fn supervise(
    shutdown: &CancellationToken,
    mut failure: impl FnMut() -> Option<String>,
) -> String {
    let mut ticks = tokio::time::interval(SUPERVISION_INTERVAL);
    loop {
        ticks.tick().await;
        if let Some(failure) = failure()
            && !shutdown.is_cancelled()
        {
            return failure;
        }
    }
}

/// Waits for a task until the deadline, and ends it then.
pub(super) async fn finish(mut task: JoinHandle<()>, deadline: Instant) {
    if timeout_at(deadline, &mut task).await.is_err() {
        task.abort();
        let _ = task.await;
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::supervise;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_died_is_noticed_unless_the_collector_is_shutting_down() {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(async { panic!("as the test wants") });
        let died = || task.is_finished().then(|| "it died".to_owned());
        assert_eq!(supervise(&shutdown, died).await, "it died");
        shutdown.cancel();
        let minute = std::time::Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, supervise(&shutdown, died)).await.is_err());
    }
}
