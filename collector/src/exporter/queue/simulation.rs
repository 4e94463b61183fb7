//! The queue against an intake that fails at random, under a clock that does not wait: many seeds, each a run of its own.
//!
//! The seed decides all but the jitter of the waits between attempts, which the queue draws itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::faulty::{Faulty, Intake, batch};
use super::{Batch, Config, Counters, Input, Setup, Sizer, retry, start};
use crate::consumer::Consumer as _;
use crate::extension::health_check::Health;
use crate::journal::{Journal, Options};
use crate::sender::{Peer, Sender};
use crate::telemetry::Registry;

/// How many seeds are tried; a failure names its seed.
const SEEDS: u64 = 2000;
/// Those with a storage wait for a disk.
const SEEDS_ON_DISK: u64 = 100;

/// A queue that runs.
struct Running {
    input: Input,
    counters: Counters,
    task: JoinHandle<()>,
    journal: Option<Arc<Journal>>,
}

/// Starts a queue, with the journal in that directory.
fn begin(config: &Config, intake: &Arc<Mutex<Intake>>, directory: Option<&Path>) -> Running {
    let (registry, retry) = (Registry::default(), retry::Config::default());
    let storage = directory.map(|directory| {
        let options =
            Options { max_bytes: 8 << 20, fsync: false, lock_timeout: Duration::from_secs(10) };
        let (journal, recovery) = Journal::open(directory, options).unwrap();
        assert_eq!((recovery.damaged_bytes, recovery.lost_records), (0, 0));
        (Arc::new(journal), recovery)
    });
    let journal = storage.as_ref().map(|(journal, _)| Arc::clone(journal));
    let setup = Setup {
        id: "faulty",
        config,
        retry: &retry,
        registry: &registry,
        ledger: &None,
        health: &Health::default(),
        storage,
        ending: CancellationToken::new(),
    };
    let (input, counters, task) = start(Faulty(Arc::clone(intake)), setup);
    Running { input, counters, task, journal }
}

/// With a storage, the process is killed on the way, and started again.
async fn run(seed: u64, directory: Option<&Path>) {
    let mut random = StdRng::seed_from_u64(seed);
    let refuses = random.random_bool(0.5);
    let intake = Arc::new(Mutex::new(Intake::new(seed ^ u64::MAX, refuses)));
    let joined = random.random_bool(0.5).then(|| {
        let min_size = random.random_range(0..20);
        let max_size = if random.random_bool(0.5) { random.random_range(1..30) } else { 0 };
        let sizer = if random.random_bool(0.8) { Sizer::Items } else { Sizer::Bytes };
        let flush_timeout = Duration::from_millis(random.random_range(1..10_000));
        Batch { flush_timeout, sizer: Some(sizer), min_size, max_size }
    });
    let config = Config {
        batch: joined,
        num_consumers: random.random_range(1..4),
        queue_size: random.random_range(1..30),
        sizer: if random.random_bool(0.5) { Sizer::Items } else { Sizer::Requests },
        ..Config::default()
    };
    let mut running = begin(&config, &intake, directory);
    let (mut accepted, mut next) = (BTreeSet::new(), 1);
    // What this process has to account for.
    let mut mine = 0;
    for round in 0..20 {
        if directory.is_some() && random.random_ratio(1, 8) {
            let Running { input, task, journal, .. } = running;
            // Nothing of what is in progress is noted any more.
            task.abort();
            drop(input);
            assert!(task.await.unwrap_err().is_cancelled(), "seed {seed}");
            if let Some(journal) = journal {
                journal.close().await;
            }
            running = begin(&config, &intake, directory);
            mine = running.counters.accepted.value();
            assert!(mine <= accepted.len() as u64, "seed {seed}, round {round}");
        }
        let Running { input, counters, .. } = &running;
        let count = random.random_range(1..8);
        let batch = batch(next, count);
        if let Ok(commit) = input.reserve(batch.clone(), &Sender::new(Peer::UNKNOWN)).await {
            accepted.extend(batch.trace_ids());
            mine += count as u64;
            assert!(commit().is_empty(), "no sender waits");
        }
        next += count as u128;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..5000))).await;
        let decided = counters.sent.value() + counters.dropped.total.value();
        assert_eq!(mine, decided + counters.left(), "seed {seed}, round {round}");
        assert!(decided <= mine, "seed {seed}: more is decided than was taken");
    }
    let Running { input, counters, task, journal } = running;
    drop(input);
    tokio::time::timeout(Duration::from_secs(86_400), task).await.expect("it drains").unwrap();
    if let Some(journal) = &journal {
        journal.close().await;
    }
    let intake = intake.lock().unwrap();
    assert_eq!(counters.left(), 0, "seed {seed}");
    if let Some(journal) = journal {
        assert_eq!(journal.unsent_spans(), 0, "seed {seed}");
    } else {
        assert_eq!(counters.dropped.total.value(), intake.refused.len() as u64, "seed {seed}");
    }
    let known: BTreeSet<_> = intake.arrived.union(&intake.refused).copied().collect();
    assert_eq!(known, accepted, "seed {seed}: arrived and refused against accepted");
    assert!(refuses || intake.arrived == accepted, "seed {seed}: nothing else is lost");
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_arrives_or_is_counted_as_refused_whatever_the_intake_does() {
    for seed in 0..SEEDS {
        run(seed, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_storage_that_holds_over_kills_too() {
    for seed in 0..SEEDS_ON_DISK {
        let directory = tempfile::tempdir().unwrap();
        run(seed, Some(directory.path())).await;
    }
}
