//! Tests what a queue holds, refuses and reports, with a scripted exporter.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use super::{Config, Counters, Input, Setup, Sizer, State, retry, start};
use crate::consumer::{Consumer as _, Refused};
use crate::extension::health_check::{self, Health};
use crate::journal::{Journal, Options};
use crate::sender::{Peer, Sender};
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

#[derive(Debug, Clone, Copy)]
enum Does {
    Answers(Option<&'static str>),
    IsAway,
    Hangs,
    Panics,
}

/// Its script, and how many attempts were begun.
struct Fake(Arc<Mutex<Does>>, Arc<AtomicUsize>);

struct Spans(TraceBatch);

impl Outgoing for Spans {
    fn span_count(&self) -> usize {
        self.0.span_count()
    }

    fn trace_ids(&self) -> Vec<u128> {
        self.0.trace_ids().collect()
    }

    fn byte_count(&self) -> usize {
        self.0.byte_count()
    }

    fn halve(self) -> Option<(Self, Self)> {
        self.0.halve().map(|(front, back)| (Self(front), Self(back)))
    }
}

impl Exporter for Fake {
    type Request = Spans;

    fn requests(&self, batch: &TraceBatch) -> Prepared<Spans> {
        Prepared { requests: vec![Spans(batch.clone())], dropped: Vec::new() }
    }

    async fn send(&self, _: &Spans) -> Result<Sent, ExportError> {
        let does = *self.0.lock().unwrap();
        self.1.fetch_add(1, Ordering::Relaxed);
        match does {
            Does::Answers(None) => Ok(Sent::default()),
            Does::Answers(Some(reason)) => Err(ExportError::Permanent { reason: reason.into() }),
            Does::IsAway => Err(ExportError::Retryable {
                reason: "away".into(),
                after: None,
                is_doubtful: false,
            }),
            Does::Hangs => std::future::pending().await,
            Does::Panics => panic!("as the test wants"),
        }
    }
}

fn spans(count: usize) -> TraceBatch {
    let spans = vec![r#"{"name":"n"}"#; count].join(",");
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    TraceBatch::from_json(json.as_bytes()).unwrap()
}

fn queue(does: Does, config: &Config, health: &Health) -> (Input, Counters, Arc<Mutex<Does>>) {
    let does = Arc::new(Mutex::new(does));
    let (registry, retry) = (Registry::default(), retry::Config::default());
    let setup = Setup {
        id: "fake",
        config,
        retry: &retry,
        registry: &registry,
        ledger: &None,
        health,
        storage: None,
        ending: CancellationToken::new(),
    };
    let (input, counters, _) = start(Fake(Arc::clone(&does), Arc::default()), setup);
    (input, counters, does)
}

async fn take(input: &Input, count: usize) -> Result<(), Refused> {
    input
        .reserve(spans(count), &Sender::new(Peer::UNKNOWN))
        .await
        .map(|commit| assert!(commit().is_empty(), "nothing is to be waited for"))
}

/// Lets the workers run until a condition holds; the clock is paused, so this takes no time.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not within a second of the test's clock");
}

#[tokio::test(start_paused = true)]
async fn what_a_queue_holds_is_shown_also_while_nothing_moves() {
    let registry = Registry::default();
    let config = Config { queue_size: 200, num_consumers: 2, ..Config::default() };
    let setup = Setup {
        id: "fake",
        config: &config,
        retry: &retry::Config::default(),
        registry: &registry,
        ledger: &None,
        health: &Health::default(),
        storage: None,
        ending: CancellationToken::new(),
    };
    let attempts = Arc::<AtomicUsize>::default();
    let (input, _, _) =
        start(Fake(Arc::new(Mutex::new(Does::Hangs)), Arc::clone(&attempts)), setup);
    let has = |series: &str, value: u64| {
        let line = format!("{series}{{exporter=\"fake\",data_type=\"traces\"}} {value}\n");
        registry.render(true).contains(&line)
    };
    for _ in 0..180 {
        take(&input, 1).await.unwrap();
    }
    until(|| attempts.load(Ordering::Relaxed) == 2).await;
    assert!(has("otelcol_exporter_queue_size", 180), "{}", registry.render(true));
    for _ in 0..20 {
        input.deliver(spans(1)).await.unwrap();
    }
    assert!(has("otelcol_exporter_queue_size", 200), "{}", registry.render(true));
    input.count_refused(7);
    let refused = "otelcol_exporter_enqueue_failed_spans_total{exporter=\"fake\"} 7\n";
    assert!(registry.render(true).contains(refused), "{}", registry.render(true));
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_as_large_as_its_sizer_says() {
    let one = spans(1).byte_count();
    assert!(one > 1);
    let cases =
        [(Sizer::Requests, 2), (Sizer::Items, 6), (Sizer::Bytes, 2 * spans(3).byte_count())];
    for (sizer, queue_size) in cases {
        let config = Config { sizer, queue_size, ..Config::default() };
        let (input, counters, _) = queue(Does::Hangs, &config, &Health::default());
        assert_eq!(take(&input, 3).await, Ok(()), "{sizer:?}");
        assert_eq!(take(&input, 3).await, Ok(()), "{sizer:?}");
        assert_eq!(take(&input, 1).await, Err(Refused::Full), "{sizer:?}");
        assert_eq!(counters.left(), 6, "{sizer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_finds_no_room_is_held_and_the_exporter_hurries() {
    let config = Config { queue_size: 1, num_consumers: 1, ..Config::default() };
    let (input, counters, does) = queue(Does::IsAway, &config, &Health::default());
    assert_eq!(take(&input, 1).await, Ok(()));
    // By now waits have grown to half a minute.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(take(&input, 2).await, Err(Refused::Full));
    assert_eq!(begun.elapsed(), Duration::from_secs(8));
    *does.lock().unwrap() = Does::Answers(None);
    let back = tokio::time::Instant::now();
    assert_eq!(take(&input, 3).await, Ok(()), "it is held until there is room");
    assert!(back.elapsed() <= Duration::from_millis(2500), "{:?}", back.elapsed());
    until(|| counters.left() == 0).await;
    assert_eq!((counters.sent_spans(), counters.refused.value()), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_queue_is_taken_alone() {
    let config = Config { sizer: Sizer::Items, queue_size: 5, ..Config::default() };
    let (input, counters, _) = queue(Does::Answers(None), &config, &Health::default());
    assert_eq!(take(&input, 1).await, Ok(()));
    assert_eq!(take(&input, 9).await, Ok(()), "as soon as nothing else is held");
    input.deliver(spans(9)).await.unwrap();
    until(|| counters.left() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn health_reports_a_refusal_until_something_is_sent() {
    let (health, check) = (Health::default(), health_check::Config::default());
    health.set_ready(true);
    let status = || health.answer(&check, "/").status().as_u16();
    let (input, counters, does) =
        queue(Does::Answers(Some("answered 403")), &Config::default(), &health);
    take(&input, 1).await.unwrap();
    until(|| counters.left() == 0).await;
    assert_eq!(status(), 503);
    *does.lock().unwrap() = Does::Answers(None);
    take(&input, 1).await.unwrap();
    until(|| counters.left() == 0).await;
    assert_eq!(status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_queue_whose_attempts_never_end_is_stuck_and_an_idle_one_is_not() {
    let (input, counters, does) = queue(Does::Hangs, &Config::default(), &Health::default());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(counters.state(), State::Working, "nothing is held");
    take(&input, 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(counters.state(), State::Working, "an attempt may still end");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(counters.state(), State::Stuck);
    *does.lock().unwrap() = Does::Answers(None);
    take(&input, 1).await.unwrap();
    until(|| counters.state() == State::Working).await;
}

#[tokio::test(start_paused = true)]
async fn when_one_request_is_taken_after_an_outage_the_others_do_not_sleep_on() {
    let config = Config { num_consumers: 20, ..Config::default() };
    let (input, counters, does) = queue(Does::IsAway, &config, &Health::default());
    for _ in 0..20 {
        take(&input, 1).await.unwrap();
    }
    // Waits are half a minute by now, spread from 15 to 45 s.
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(counters.left(), 20);
    *does.lock().unwrap() = Does::Answers(None);
    let back = tokio::time::Instant::now();
    while counters.left() == 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(back.elapsed() < Duration::from_secs(45), "one is tried within its own wait");
    }
    until(|| counters.left() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_is_seen_and_its_spans_are_not_forgotten() {
    let (input, counters, does) = queue(Does::Panics, &Config::default(), &Health::default());
    take(&input, 3).await.unwrap();
    until(|| counters.state() == State::Panicked).await;
    assert_eq!(counters.left(), 3);
    *does.lock().unwrap() = Does::Answers(None);
    take(&input, 2).await.unwrap();
    until(|| counters.left() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_storage_requests_in_flight_are_bounded_in_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        Options { max_bytes: 8 << 20, fsync: false, lock_timeout: Duration::from_secs(10) };
    let (journal, recovery) = Journal::open(directory.path(), options).unwrap();
    let config = Config { num_consumers: 100, ..Config::default() };
    let (registry, retry, health) =
        (Registry::default(), retry::Config::default(), Health::default());
    let setup = Setup {
        id: "fake",
        config: &config,
        retry: &retry,
        registry: &registry,
        ledger: &None,
        health: &health,
        storage: Some((Arc::new(journal), recovery)),
        ending: CancellationToken::new(),
    };
    let begun = Arc::new(AtomicUsize::new(0));
    let fake = Fake(Arc::new(Mutex::new(Does::Hangs)), Arc::clone(&begun));
    let (input, counters, _task) = start(fake, setup);
    // Of 1000 bytes that may be in flight in tests, three of these have room.
    let size = spans(50).byte_count();
    assert!((251..=333).contains(&size), "{size}");
    for _ in 0..20 {
        take(&input, 50).await.unwrap();
    }
    until(|| begun.load(Ordering::Relaxed) == 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((begun.load(Ordering::Relaxed), counters.left()), (3, 1000));
}
