//! Tests of who is held for how long, within which bounds, and in which order room is given.

use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::{HeldSenders, MAX_HELD_BYTES, MAX_HELD_REQUESTS};
use crate::consumer::Refused;
use crate::sender::{LONGEST_HOLD, Peer, Sender};
use crate::telemetry::Counter;

/// A sender on host 10.0.0.`host`.
fn sender(host: u8) -> Sender {
    Sender::new(Peer::of([10, 0, 0, host].into()))
}

/// A request that is held.
type Held<'a> = Pin<Box<dyn Future<Output = Result<(), Refused>> + 'a>>;

/// Has a request of a host held until there is room, and looks that it is not refused.
fn hold<'a>(
    senders: &'a HeldSenders,
    host: u8,
    bytes: usize,
    room: impl Future<Output = ()> + 'a,
) -> Held<'a> {
    let mut held: Held<'a> = Box::pin(async move {
        let sender = sender(host);
        senders.hold(&sender, bytes, room).await
    });
    assert_eq!(held.as_mut().now_or_never(), None, "it is held");
    held
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_held_until_there_is_room_but_not_for_ever() {
    let held = Counter::default();
    let senders = HeldSenders::new(true, held.clone());
    let begun = Instant::now();
    assert_eq!(senders.hold(&sender(1), 9, sleep(Duration::from_secs(7))).await, Ok(()));
    assert_eq!(begun.elapsed(), Duration::from_secs(7));
    let begun = Instant::now();
    assert_eq!(senders.hold(&sender(1), 9, pending::<()>()).await, Err(Refused::Full));
    assert_eq!(begun.elapsed(), LONGEST_HOLD);
    assert_eq!(held.value(), 2);
    assert!(senders.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_waited_before_is_held_for_the_rest_of_its_time() {
    let senders = HeldSenders::new(true, Counter::default());
    let (sender, begun) = (sender(1), Instant::now());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(senders.hold(&sender, 9, pending::<()>()).await, Err(Refused::Full));
    assert_eq!(begun.elapsed(), LONGEST_HOLD, "as long as senders bear, over all stages");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_bounded_in_number_and_in_bytes() {
    let senders = HeldSenders::new(true, Counter::default());
    let mut held: Vec<_> =
        (0..MAX_HELD_REQUESTS).map(|_| hold(&senders, 1, 1, pending())).collect();
    assert_eq!(senders.hold(&sender(1), 1, ready(())).await, Err(Refused::NoRoom));
    held.clear();
    let large = hold(&senders, 1, MAX_HELD_BYTES, pending());
    assert_eq!(senders.hold(&sender(1), 1, ready(())).await, Err(Refused::NoRoom));
    drop(large);
    assert_eq!(senders.hold(&sender(1), 1, ready(())).await, Ok(()), "its place is given back");
}

#[tokio::test(start_paused = true)]
async fn without_bounds_any_number_is_held() {
    let senders = HeldSenders::new(false, Counter::default());
    let held = (0..=MAX_HELD_REQUESTS).map(|_| hold(&senders, 1, MAX_HELD_BYTES, pending()));
    assert_eq!(held.collect::<Vec<_>>().len(), MAX_HELD_REQUESTS + 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_takes_every_place_gives_way_to_others() {
    for (requests, bytes) in [(MAX_HELD_REQUESTS, 1), (4, MAX_HELD_BYTES / 4)] {
        let senders = HeldSenders::new(true, Counter::default());
        let mut greedy: Vec<_> =
            (0..requests).map(|_| hold(&senders, 1, bytes, pending())).collect();
        let others: Vec<_> = (2..=4).map(|host| hold(&senders, host, bytes, pending())).collect();
        let refused = greedy.iter_mut().rev().map(|one| one.as_mut().now_or_never());
        let refused: Vec<_> = refused.take_while(Option::is_some).flatten().collect();
        assert_eq!(refused, vec![Err(Refused::NoRoom); 3], "the newest of them");
        drop((greedy, others));
        assert!(senders.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_does_not_push_out_who_has_no_more_than_it() {
    let senders = HeldSenders::new(true, Counter::default());
    let half = MAX_HELD_REQUESTS / 2;
    let mut held: Vec<_> = (0..half)
        .flat_map(|_| [hold(&senders, 1, 1, pending()), hold(&senders, 2, 1, pending())])
        .collect();
    for host in [1, 2] {
        let refused = senders.hold(&sender(host), 1, ready(())).await;
        assert_eq!(refused, Err(Refused::NoRoom), "host {host}");
    }
    assert!(held.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
}

#[tokio::test(start_paused = true)]
async fn room_goes_to_one_host_after_the_other() {
    let senders = HeldSenders::new(true, Counter::default());
    let room = tokio::sync::Semaphore::new(0);
    let take = async || room.acquire().await.unwrap().forget();
    // A flood of the first host is there before a single request of each other one.
    let mut flood: Vec<_> = (0..100).map(|_| hold(&senders, 1, 1, take())).collect();
    let mut second = hold(&senders, 2, 1, take());
    let mut third = hold(&senders, 3, 1, take());
    let served = |held: &mut Held<'_>| held.as_mut().now_or_never() == Some(Ok(()));
    room.add_permits(1);
    assert!(served(&mut flood[0]), "the oldest one has its turn");
    room.add_permits(1);
    assert!(served(&mut second));
    room.add_permits(1);
    assert!(served(&mut third));
    room.add_permits(1);
    assert!(served(&mut flood[1]));
    // A sender that goes away passes its turn on.
    drop(flood.remove(2));
    room.add_permits(1);
    assert!(served(&mut flood[2]));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_ends_without_room_goes_to_the_next() {
    let senders = HeldSenders::new(true, Counter::default());
    let mut first = hold(&senders, 1, 1, pending());
    sleep(Duration::from_secs(5)).await;
    let mut second = hold(&senders, 2, 1, ready(()));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(first.as_mut().now_or_never(), Some(Err(Refused::Full)));
    assert_eq!(second.as_mut().now_or_never(), Some(Ok(())));
}
