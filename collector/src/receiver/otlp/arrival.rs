//! Bounds what is being received: in bytes over all connections of a receiver, and each request in time.
//!
//! Bytes count from the moment they arrive until the request is answered. When there is no room for more, the request that
//! has been arriving for the longest time is given up, if that is longer than an honest one takes; else the newcomer is. So
//! whoever sends slowly keeps nobody else out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a request may take to arrive.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(30);
/// How long a request may take to arrive when there is no room for others.
pub(crate) const ARRIVAL_WITHOUT_ROOM: Duration = Duration::from_secs(1);
/// How many bytes of requests a receiver takes at a time, unless it takes larger requests.
pub(crate) const ROOM: usize = 128 << 20;

/// The bytes that a receiver may hold of requests that are not answered yet.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    left: usize,
    next: u64,
    requests: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    bytes: usize,
    since: Instant,
    /// None when it has arrived: then it is answered soon.
    give_up: Option<CancellationToken>,
    broken: Option<Broken>,
}

/// Reason for which a request did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the request took more than {} s to arrive", ARRIVAL.as_secs())]
    TooSlow,
    #[error("too many requests are being received; send again later")]
    NoRoom,
    /// Its sender waits no longer.
    #[error("the request did not arrive within its `grpc-timeout`")]
    GivenUp,
}

impl Room {
    /// Room for requests of up to `largest` bytes.
    pub(super) fn new(largest: usize) -> Self {
        let left = ROOM.max(largest.saturating_mul(2));
        Self(Arc::new(Mutex::new(State { left, next: 0, requests: BTreeMap::new() })))
    }

    /// Begins to receive a request; the guard gives its room back.
    pub(super) fn begin(&self) -> Arriving {
        let give_up = CancellationToken::new();
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let held =
            Held { bytes: 0, since: Instant::now(), give_up: Some(give_up.clone()), broken: None };
        state.requests.insert(number, held);
        Arriving { room: self.clone(), number, give_up }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes room for more of a request.
    fn take(&mut self, number: u64, bytes: usize) -> Result<(), Broken> {
        while self.left < bytes {
            let slow = self.requests.iter_mut().find(|(other, held)| {
                held.give_up.is_some()
                    && held.bytes > 0
                    && **other != number
                    && held.since.elapsed() > ARRIVAL_WITHOUT_ROOM
            });
            let (_, slow) = slow.ok_or(Broken::NoRoom)?;
            // Its memory is freed as soon as its task runs.
            self.left += std::mem::take(&mut slow.bytes);
            if let Some(give_up) = slow.give_up.take() {
                give_up.cancel();
            }
        }
        if let Some(held) = self.requests.get_mut(&number) {
            held.bytes += bytes;
            self.left -= bytes;
        }
        Ok(())
    }
}

/// A request that is being received, then answered.
#[derive(Debug)]
pub(super) struct Arriving {
    room: Room,
    number: u64,
    give_up: CancellationToken,
}

impl Arriving {
    /// The request's body, within its limits and the time that its sender waits, if it says so.
    pub(super) fn bound<B>(&self, body: B, waits: Option<Duration>) -> Bounded<B> {
        let (limit, too_slow) = match waits {
            Some(waits) if waits < ARRIVAL => (waits, Broken::GivenUp),
            _ => (ARRIVAL, Broken::TooSlow),
        };
        Bounded {
            body,
            room: self.room.clone(),
            number: self.number,
            limit: Box::pin(sleep(limit)),
            too_slow,
            give_up: Box::pin(self.give_up.clone().cancelled_owned()),
        }
    }

    /// It has arrived whole, and takes room for what it has become, for example by being decompressed.
    pub(super) fn arrived(&self, bytes: usize) -> Result<(), Broken> {
        let mut state = self.room.state();
        if let Some(held) = state.requests.get_mut(&self.number) {
            held.give_up = None;
            let before = std::mem::take(&mut held.bytes);
            state.left += before;
        }
        state.take(self.number, bytes)
    }
}

impl Arriving {
    /// Returns the reason why it did not arrive, if it did not.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.room.state().requests.get(&self.number)?.broken
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut state = self.room.state();
        if let Some(held) = state.requests.remove(&self.number) {
            state.left += held.bytes;
        }
    }
}

/// A body that takes room as it arrives, and breaks off when it may not go on.
pub(super) struct Bounded<B> {
    body: B,
    room: Room,
    number: u64,
    limit: Pin<Box<Sleep>>,
    /// Reason when the limit is over.
    too_slow: Broken,
    give_up: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<B> Bounded<B> {
    fn break_off<T, E: From<Broken>>(&self, why: Broken) -> Poll<Option<Result<T, E>>> {
        if let Some(held) = self.room.state().requests.get_mut(&self.number) {
            held.broken = Some(why);
        }
        Poll::Ready(Some(Err(why.into())))
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.give_up.as_mut().poll(context).is_ready() {
            return self.break_off(Broken::NoRoom);
        }
        // Asked in any case: a client that sends a byte now and then is always ready.
        if self.limit.as_mut().poll(context).is_ready() {
            return self.break_off(self.too_slow);
        }
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let taken = self.room.state().take(self.number, bytes);
                match taken {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(broken) => self.break_off(broken),
                }
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;
    use tokio::time::advance;

    use super::{ARRIVAL, Arriving, Broken, ROOM, Room};

    /// Takes room as if that many bytes had come.
    fn take(request: &Arriving, bytes: usize) -> Result<(), Broken> {
        request.room.state().take(request.number, bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn when_there_is_no_room_the_slowest_request_makes_it() {
        let room = Room::new(0);
        let (slow, slower) = (room.begin(), room.begin());
        take(&slow, ROOM / 2).unwrap();
        take(&slower, ROOM / 2).unwrap();
        assert_eq!(take(&room.begin(), 1), Err(Broken::NoRoom), "nobody is slow yet");
        advance(Duration::from_secs(2)).await;
        let newcomer = room.begin();
        take(&newcomer, 1).unwrap();
        assert!(slow.give_up.is_cancelled() && !slower.give_up.is_cancelled());
        // What has arrived is not given up any more, and holds its room until it is answered.
        slower.arrived(ROOM / 2).unwrap();
        let last = room.begin();
        assert_eq!(take(&last, ROOM / 2), Err(Broken::NoRoom));
        drop(slower);
        take(&last, ROOM / 2).unwrap();
        drop((slow, newcomer, last));
        assert_eq!(room.state().left, ROOM);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_breaks_off_when_it_takes_too_long_or_is_given_up() {
        let body = || {
            let never = stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
            let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
            StreamBody::new(first.chain(never))
        };
        let why = |error: Box<dyn std::error::Error + Send + Sync>| {
            *error.downcast::<Broken>().expect("ours")
        };
        let room = Room::new(0);
        let request = room.begin();
        let begun = tokio::time::Instant::now();
        let error = request.bound(body(), None).collect().await.unwrap_err();
        assert_eq!((why(error), begun.elapsed()), (Broken::TooSlow, ARRIVAL));
        for (waits, broken) in [(5, Broken::GivenUp), (60, Broken::TooSlow)] {
            let waits = Duration::from_secs(waits);
            let begun = tokio::time::Instant::now();
            let error = request.bound(body(), Some(waits)).collect().await.unwrap_err();
            assert_eq!((why(error), begun.elapsed()), (broken, waits.min(ARRIVAL)));
        }

        let request = room.begin();
        let mut collected = Box::pin(request.bound(body(), None).collect());
        assert!((&mut collected).now_or_never().is_none());
        advance(Duration::from_secs(2)).await;
        let newcomer = room.begin();
        take(&newcomer, ROOM).unwrap();
        assert_eq!(why(collected.await.unwrap_err()), Broken::NoRoom);
    }

    #[test]
    fn there_is_room_for_the_largest_request() {
        assert_eq!(Room::new(ROOM).state().left, 2 * ROOM);
        assert_eq!(Room::new(usize::MAX).state().left, usize::MAX);
    }
}
