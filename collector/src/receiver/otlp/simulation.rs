//! A whole pipeline against intakes that fail at random, under a clock that does not wait: from the hand-over of a receiver through
//! the processors, the queues and the workers.
//!
//! Senders wait for the result, so that their answers can be compared with what the exporter counted and the intake
//! saw, at any moment: accepted = sent + queued + dropped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Entry;
use super::arrival::Room;
use crate::consumer::{Consumer, Edit, Fanout, Refused};
use crate::exporter::queue::faulty::{Faulty, Intake, batch};
use crate::exporter::queue::{self, Counters, Sizer};
use crate::exporter::retry;
use crate::extension::health_check::Health;
use crate::journal::{Journal, Options};
use crate::processor::batch::{self, Config as BatchConfig};
use crate::sender::{Peer, Sender};
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

/// How many seeds are tried; a failure names its seed.
const SEEDS: u64 = 1000;
/// Those with a storage wait for a disk.
const SEEDS_ON_DISK: u64 = 50;

/// One exporter of the pipeline.
struct End {
    intake: Arc<Mutex<Intake>>,
    counters: Counters,
    task: tokio::task::JoinHandle<()>,
    journal: Option<Arc<Journal>>,
}

impl End {
    fn start(
        random: &mut StdRng,
        refuses: bool,
        id: &str,
        registry: &Registry,
        directory: Option<&Path>,
    ) -> (queue::Input, Self) {
        let intake = Arc::new(Mutex::new(Intake::new(random.random(), refuses)));
        let config = queue::Config {
            num_consumers: random.random_range(1..4),
            queue_size: random.random_range(1..30),
            sizer: if random.random_bool(0.5) { Sizer::Items } else { Sizer::Requests },
            block_on_overflow: random.random_bool(0.3),
            wait_for_result: true,
            ..queue::Config::default()
        };
        let storage = directory.map(|directory| {
            let lock_timeout = Duration::from_secs(10);
            let options = Options { max_bytes: 8 << 20, fsync: false, lock_timeout };
            let (journal, recovery) = Journal::open(&directory.join(id), options).unwrap();
            (Arc::new(journal), recovery)
        });
        let journal = storage.as_ref().map(|(journal, _)| Arc::clone(journal));
        let setup = queue::Setup {
            id,
            config: &config,
            retry: &retry::Config::default(),
            registry,
            ledger: &None,
            health: &Health::default(),
            storage,
            ending: CancellationToken::new(),
        };
        let (input, counters, task) = queue::start(Faulty(Arc::clone(&intake)), setup);
        (input, Self { intake, counters, task, journal })
    }

    fn sent(&self) -> u64 {
        self.counters.sent_spans()
    }

    fn dropped(&self) -> u64 {
        self.counters.dropped_spans()
    }
}

/// Answer that a sender got to its request.
type Reported = (TraceBatch, Result<(), Refused>);

async fn run(seed: u64, directory: Option<&Path>) {
    let mut random = StdRng::seed_from_u64(seed);
    let registry = Registry::default();
    let refuses = random.random_bool(0.5);
    let count = random.random_range(1..3);
    let (mut inputs, mut ends) = (Vec::<Arc<dyn Consumer>>::new(), Vec::new());
    for index in 0..count {
        let id = format!("faulty/{index}");
        let (input, end) = End::start(&mut random, refuses, &id, &registry, directory);
        inputs.push(Arc::new(input));
        ends.push(end);
    }
    let mut next = Fanout::join(inputs);
    let mut stage = None;
    if random.random_bool(0.8) {
        next = Arc::new(Edit::new(TraceBatch::clone, next));
        let config = BatchConfig {
            timeout: Duration::from_millis(random.random_range(0..3000)),
            send_batch_size: random.random_range(0..20),
            send_batch_max_size: if random.random_bool(0.5) { 0 } else { 20 },
        };
        let (input, task) = batch::start(config, "batch", &registry, next);
        (next, stage) = (Arc::new(input), Some(task));
    }
    let entry = Entry::new(&registry, "otlp", "grpc", next, Room::new(0));
    let accepted = entry.accepted.clone();

    let mut senders = JoinSet::<Reported>::new();
    let (mut offered, mut reported, mut first) = (0, Vec::new(), 1);
    for _ in 0..20 {
        let spans = random.random_range(1..8);
        let request = batch(first, spans);
        (first, offered) = (first + spans as u128, offered + spans as u64);
        let entry = entry.clone();
        senders.spawn(async move {
            (request.clone(), entry.offer(request, &Sender::new(Peer::UNKNOWN)).await)
        });
        tokio::time::sleep(Duration::from_millis(random.random_range(0..4000))).await;
        while let Some(ended) = senders.try_join_next() {
            reported.push(ended.unwrap());
        }
        check(seed, &ends, &reported, accepted.value(), offered);
    }
    drop(entry);
    let day = Duration::from_secs(86_400);
    while let Some(ended) = tokio::time::timeout(day, senders.join_next()).await.unwrap() {
        reported.push(ended.unwrap());
    }
    if let Some(task) = stage {
        tokio::time::timeout(day, task).await.expect("it drains").unwrap();
    }
    for end in &mut ends {
        tokio::time::timeout(day, &mut end.task).await.expect("it drains").unwrap();
    }
    check(seed, &ends, &reported, accepted.value(), offered);

    let ids = |wanted: fn(&Result<(), Refused>) -> bool| -> BTreeSet<u128> {
        let wanted = reported.iter().filter(|(_, outcome)| wanted(outcome));
        wanted.flat_map(|(request, _)| request.trace_ids().collect::<Vec<_>>()).collect()
    };
    let sent = ids(Result::is_ok);
    let dropped = ids(|outcome| matches!(outcome, Err(Refused::Dropped(_))));
    // They waited longer than any sender does, and got no answer.
    let undecided = ids(|outcome| matches!(outcome, Err(Refused::Undecided)));
    let all: BTreeSet<_> = [&sent, &dropped, &undecided].into_iter().flatten().copied().collect();
    assert_eq!(accepted.value() as usize, all.len(), "seed {seed}");
    for End { intake, counters, journal, .. } in &ends {
        assert_eq!(counters.left(), 0, "seed {seed}");
        {
            let intake = intake.lock().unwrap();
            assert!(sent.is_subset(&intake.arrived), "seed {seed}: OK, and it did not arrive");
            let known: BTreeSet<_> = intake.arrived.union(&intake.refused).copied().collect();
            assert_eq!(known, all, "seed {seed}: what each intake saw is what was accepted");
        }
        if let Some(journal) = journal {
            journal.close().await;
            assert_eq!(journal.unsent_spans(), 0, "seed {seed}");
        }
    }
}

/// Holds the books against each other, at any moment.
fn check(seed: u64, ends: &[End], reported: &[Reported], accepted: u64, offered: u64) {
    let spans = |wanted: fn(&Result<(), Refused>) -> bool| -> u64 {
        let wanted = reported.iter().filter(|(_, outcome)| wanted(outcome));
        wanted.map(|(request, _)| request.span_count() as u64).sum()
    };
    let done = spans(|outcome| matches!(outcome, Ok(()) | Err(Refused::Dropped(_))));
    let refused = spans(|outcome| matches!(outcome, Err(Refused::Full)));
    assert!(accepted + refused <= offered, "seed {seed}");
    for end in ends {
        let intake = end.intake.lock().unwrap();
        assert_eq!(end.sent(), intake.answered, "seed {seed}: sent is what was answered OK");
        assert_eq!(end.dropped(), intake.refused.len() as u64, "seed {seed}: dropped is refused");
        let decided = end.sent() + end.dropped();
        // What is not decided is queued: in the batch, in the queue, or in progress. Everything that senders got an answer about is decided.
        assert!(done <= decided && decided <= accepted, "seed {seed}");
        assert!(end.counters.left() <= accepted - decided, "seed {seed}: no more is queued");
    }
}

#[tokio::test(start_paused = true)]
async fn accepted_is_sent_or_queued_or_dropped_at_any_moment() {
    for seed in 0..SEEDS {
        run(seed, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn also_with_a_storage() {
    for seed in 0..SEEDS_ON_DISK {
        let directory = tempfile::tempdir().unwrap();
        run(seed, Some(directory.path())).await;
    }
}
