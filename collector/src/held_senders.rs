//! Senders that are held until there is room for their requests, rather than refused.
//!
//! An exporter gives a batch up after a few refusals, and some after the first; none minds an answer that takes a while. So a
//! sender that finds no room is held for somewhat less than the 10 s that exporters wait, and told to come again only then.
//! Who is held takes memory, and so there are bounds: beyond them senders are refused at once, and told to wait longer.

use std::future::Future;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::consumer::Refused;
use crate::telemetry::Counter;

/// How long a sender is held. Exporters wait 10 s for an answer.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(8);
/// How many requests are held at a time in front of a stage.
pub(crate) const MAX_HELD_REQUESTS: usize = 1024;
/// How many bytes of spans are held at a time in front of a stage.
pub(crate) const MAX_HELD_BYTES: usize = 32 << 20;

/// The senders that are held in front of one stage.
#[derive(Debug)]
pub(crate) struct HeldSenders {
    /// None if there are no bounds but those of the receiver (`block_on_overflow`).
    bounds: Option<Bounds>,
    held: Counter,
}

#[derive(Debug)]
struct Bounds {
    requests: Semaphore,
    bytes: Semaphore,
}

impl HeldSenders {
    /// Holds senders within bounds, or any number of them, and counts them.
    pub(crate) fn new(is_bounded: bool, held: Counter) -> Self {
        let bounds = || Bounds {
            requests: Semaphore::new(MAX_HELD_REQUESTS),
            bytes: Semaphore::new(MAX_HELD_BYTES),
        };
        Self { bounds: is_bounded.then(bounds), held }
    }

    /// Holds the sender of a request of so many bytes until there is room.
    ///
    /// # Errors
    ///
    /// [`Refused::NoRoom`] at once if too much is held already, [`Refused::Full`] if there was no room for
    /// [`LONGEST_HOLD`].
    pub(crate) async fn hold<T>(
        &self,
        bytes: usize,
        room: impl Future<Output = T>,
    ) -> Result<T, Refused> {
        let _place = match &self.bounds {
            Some(bounds) => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                let place = bounds.requests.try_acquire().ok().zip(
                    // It is never closed: an error says that there is no room.
                    bounds.bytes.try_acquire_many(bytes).ok(),
                );
                Some(place.ok_or(Refused::NoRoom)?)
            }
            None => None,
        };
        self.held.add(1);
        timeout(LONGEST_HOLD, room).await.map_err(|_| Refused::Full)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::{Instant, sleep};

    use super::{HeldSenders, LONGEST_HOLD, MAX_HELD_BYTES, MAX_HELD_REQUESTS};
    use crate::consumer::Refused;
    use crate::telemetry::Counter;

    #[tokio::test(start_paused = true)]
    async fn a_sender_is_held_until_there_is_room_but_not_for_ever() {
        let held = Counter::default();
        let senders = HeldSenders::new(true, held.clone());
        let begun = Instant::now();
        assert_eq!(senders.hold(9, sleep(Duration::from_secs(7))).await, Ok(()));
        assert_eq!(begun.elapsed(), Duration::from_secs(7));
        let begun = Instant::now();
        assert_eq!(senders.hold(9, pending::<()>()).await, Err(Refused::Full));
        assert_eq!(begun.elapsed(), LONGEST_HOLD);
        assert_eq!(held.value(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_bounded_in_number_and_in_bytes() {
        let senders = HeldSenders::new(true, Counter::default());
        let mut held = Vec::new();
        for _ in 0..MAX_HELD_REQUESTS {
            let mut one = Box::pin(senders.hold(1, pending::<()>()));
            assert!(one.as_mut().now_or_never().is_none());
            held.push(one);
        }
        assert_eq!(senders.hold(1, ready(())).await, Err(Refused::NoRoom));
        held.clear();
        let mut large = Box::pin(senders.hold(MAX_HELD_BYTES, pending::<()>()));
        assert!(large.as_mut().now_or_never().is_none());
        assert_eq!(senders.hold(1, ready(())).await, Err(Refused::NoRoom));
        drop(large);
        assert_eq!(senders.hold(1, ready(())).await, Ok(()), "whoever goes gives its place back");
    }

    #[tokio::test(start_paused = true)]
    async fn without_bounds_any_number_is_held() {
        let senders = HeldSenders::new(false, Counter::default());
        let mut held = Vec::new();
        for _ in 0..=MAX_HELD_REQUESTS {
            let mut one = Box::pin(senders.hold(MAX_HELD_BYTES, pending::<()>()));
            assert!(one.as_mut().now_or_never().is_none());
            held.push(one);
        }
    }
}
