//! When waits end, under a clock that does not wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, advance};
use tokio_util::sync::CancellationToken;

use super::{Outage, Wait};

const LONG: Duration = Duration::from_secs(30);
const LEAST: Duration = Duration::from_millis(500);

/// Requests that failed just now, and wait.
struct Failed {
    outage: Arc<Outage>,
    ending: CancellationToken,
    waits: JoinSet<Duration>,
}

impl Failed {
    fn new() -> Self {
        let ending = CancellationToken::new();
        let outage = Arc::new(Outage::new(LEAST, ending.clone()));
        Self { outage, ending, waits: JoinSet::new() }
    }

    async fn fail(&mut self, count: usize, after: Option<Duration>) {
        self.fail_with(count, Wait { time: LONG, after, may_be_cut: true }).await;
    }

    async fn fail_with(&mut self, count: usize, wait: Wait) {
        for _ in 0..count {
            let outage = Arc::clone(&self.outage);
            self.waits.spawn(async move {
                let begun = Instant::now();
                let is_slept_out = outage.wait(wait).await;
                assert_eq!(is_slept_out, begun.elapsed() >= LONG || outage.ending.is_cancelled());
                begun.elapsed()
            });
        }
        self.settle().await;
    }

    /// Lets the waits run, in no time.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn succeed(&mut self) -> Vec<Duration> {
        self.outage.succeeded();
        self.settle().await;
        self.ended()
    }

    /// How long those waited that are through by now.
    fn ended(&mut self) -> Vec<Duration> {
        std::iter::from_fn(|| self.waits.try_join_next()).map(Result::unwrap).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn each_success_after_an_outage_wakes_two() {
    let mut failed = Failed::new();
    failed.fail(5, None).await;
    advance(Duration::from_secs(2)).await;
    assert_eq!(failed.succeed().await.len(), 2);
    assert_eq!(failed.succeed().await.len(), 2);
    assert_eq!(failed.succeed().await, [Duration::from_secs(2)]);
    assert!(failed.outage.state().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_others_succeed_waits_are_not_cut() {
    let mut failed = Failed::new();
    for _ in 0..20 {
        failed.fail(1, None).await;
        advance(Duration::from_millis(100)).await;
        assert!(failed.succeed().await.is_empty());
    }
    advance(LONG).await;
    failed.settle().await;
    assert_eq!(failed.ended().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn who_fails_after_an_outage_waits_on() {
    let mut failed = Failed::new();
    failed.fail(1, None).await;
    advance(Duration::from_secs(2)).await;
    assert_eq!(failed.succeed().await.len(), 1);
    failed.fail(1, None).await;
    assert!(failed.succeed().await.is_empty());
    // Until there is another outage, of which it is a part.
    failed.fail(1, None).await;
    advance(LEAST).await;
    assert_eq!(failed.succeed().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_receiver_asked_for_is_kept_to_and_wakes_others_in_its_stead() {
    let mut failed = Failed::new();
    failed.fail(3, Some(Duration::from_secs(10))).await;
    failed.fail(2, None).await;
    advance(Duration::from_secs(2)).await;
    assert_eq!(failed.succeed().await, [Duration::from_secs(2); 2]);
    advance(Duration::from_secs(8)).await;
    failed.settle().await;
    let ended = failed.ended();
    assert_eq!(ended.len(), 3);
    // The clock of sleeps has steps of a millisecond.
    assert!(ended.iter().all(|waited| waited.as_secs() == 10), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_is_forgotten() {
    let mut failed = Failed::new();
    failed.fail(3, None).await;
    failed.waits.shutdown().await;
    assert!(failed.outage.state().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_nothing_failed_for_a_while_waits_end_too() {
    let mut failed = Failed::new();
    for _ in 0..3 {
        failed.fail(1, None).await;
        advance(LEAST / 2).await;
        assert!(failed.succeed().await.is_empty());
    }
    advance(LEAST / 2).await;
    assert_eq!(failed.succeed().await.len(), 2);
    assert_eq!(failed.succeed().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_was_woken_in_vain_sleeps_its_next_wait_out() {
    let mut failed = Failed::new();
    failed.fail_with(1, Wait { time: LONG, after: None, may_be_cut: false }).await;
    advance(Duration::from_secs(2)).await;
    assert!(failed.succeed().await.is_empty());
    advance(LONG).await;
    failed.settle().await;
    assert_eq!(failed.ended().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nobody_waits_for_long() {
    let mut failed = Failed::new();
    failed.fail(3, None).await;
    failed.fail(1, Some(Duration::from_secs(10))).await;
    failed.ending.cancel();
    failed.settle().await;
    failed.fail(1, None).await;
    advance(LEAST * 2).await;
    failed.settle().await;
    assert_eq!(failed.ended().len(), 4);
    advance(Duration::from_secs(10)).await;
    failed.settle().await;
    assert_eq!(failed.ended().len(), 1, "what was asked for is waited for");
}
