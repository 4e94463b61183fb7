//! Waiting until a collector that is somebody else's sends to the mock intake, which it may have to be pointed at first.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Session;
use crate::{intake::store::Store, scenario::Request};

/// How soon another request is sent: later than what collectors keep spans back for.
const SEND_AGAIN: Duration = Duration::from_secs(10);

impl Session {
    /// Sends requests like this one until anything has arrived at the intake, where that is to be waited for.
    ///
    /// # Errors
    ///
    /// When nothing has come in time; in words, with what helps.
    pub async fn await_pointing(&self, like: &Request) -> Result<(), String> {
        let (Some(limit), Some(intake)) = (self.up.pointing(), self.intake()) else {
            return Ok(());
        };
        let deadline = Instant::now() + limit;
        let mut changed = intake.changed();
        let once = Request { times: 1, concurrency: 1, ..like.clone() };
        let anything = || intake.with_store(Store::newest) > 0;
        let mut answer = String::from("no request was sent");
        while !anything() {
            if Instant::now() >= deadline {
                return Err(format!(
                    "nothing has arrived at the mock intake within {limit:?} (the last request for it: {answer}): does the \
                     collector's exporter send to the address that was told, and may its pods reach it?"
                ));
            }
            answer = self.send_for_itself(&once, (0, 0)).await.outcome.describe();
            let until = deadline.min(Instant::now() + SEND_AGAIN);
            let arrival = async {
                while !anything() {
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            let _arrived_or_later = timeout_at(until, arrival).await;
        }
        Ok(())
    }
}
