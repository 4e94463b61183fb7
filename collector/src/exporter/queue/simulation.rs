//! The queue against an intake that fails at random, under a clock that does not wait: many seeds, each a run of its own.
//!
//! The seed decides all but the jitter of the waits between attempts, which the queue draws itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use super::{Config, Setup, Sizer, retry, start};
use crate::consumer::Consumer as _;
use crate::extension::health_check::Health;
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

/// How many seeds are tried; a failure names its seed.
const SEEDS: u64 = 2000;

struct Intake {
    random: StdRng,
    /// Whether it refuses for good at times, too.
    refuses: bool,
    arrived: BTreeSet<u128>,
    refused: BTreeSet<u128>,
}

struct Faulty(Arc<Mutex<Intake>>);

struct Spans(TraceBatch);

impl Outgoing for Spans {
    fn span_count(&self) -> usize {
        self.0.span_count()
    }

    fn trace_ids(&self) -> Vec<u128> {
        self.0.trace_ids().collect()
    }

    fn halve(self) -> Option<(Self, Self)> {
        self.0.halve().map(|(front, back)| (Self(front), Self(back)))
    }
}

impl Exporter for Faulty {
    type Request = Spans;

    fn requests(&self, batch: &TraceBatch) -> Prepared<Spans> {
        Prepared { requests: vec![Spans(batch.clone())], dropped: Vec::new() }
    }

    async fn send(&self, request: &Spans) -> Result<Sent, ExportError> {
        let (fate, time, after) = {
            let mut intake = self.0.lock().unwrap();
            let fate = intake.random.random_range(0..10);
            let time = intake.random.random_range(0..15_000);
            let after = intake.random.random_bool(0.3).then(|| Duration::from_secs(20));
            (fate, Duration::from_millis(time), after)
        };
        tokio::time::sleep(time).await;
        let mut intake = self.0.lock().unwrap();
        let retryable = |after| Err(ExportError::Retryable { reason: "fails".into(), after });
        match fate {
            0..3 => retryable(after),
            3 => {
                // It arrives, and the reply is lost.
                intake.arrived.extend(request.trace_ids());
                retryable(None)
            }
            4 if request.span_count() > 1 => {
                Err(ExportError::TooLarge { reason: "too large".into() })
            }
            5 if intake.refuses => {
                intake.refused.extend(request.trace_ids());
                Err(ExportError::Permanent { reason: "refused".into() })
            }
            _ => {
                intake.arrived.extend(request.trace_ids());
                Ok(Sent::default())
            }
        }
    }
}

/// A batch of spans, each a trace of its own, from this id on.
fn batch(first: u128, count: usize) -> TraceBatch {
    let ids = first..first + count as u128;
    let spans: Vec<_> =
        ids.map(|id| format!(r#"{{"traceId":"{id:032x}","spanId":"0000000000000001"}}"#)).collect();
    let spans = spans.join(",");
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    TraceBatch::from_json(json.as_bytes()).unwrap()
}

async fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let refuses = random.random_bool(0.5);
    let intake = Arc::new(Mutex::new(Intake {
        random: StdRng::seed_from_u64(seed ^ u64::MAX),
        refuses,
        arrived: BTreeSet::new(),
        refused: BTreeSet::new(),
    }));
    let config = Config {
        num_consumers: random.random_range(1..4),
        queue_size: random.random_range(1..30),
        sizer: if random.random_bool(0.5) { Sizer::Items } else { Sizer::Requests },
        ..Config::default()
    };
    let (registry, retry) = (Registry::default(), retry::Config::default());
    let setup = Setup {
        id: "faulty",
        config: &config,
        retry: &retry,
        registry: &registry,
        ledger: &None,
        health: &Health::default(),
    };
    let (input, counters, task) = start(Faulty(Arc::clone(&intake)), setup);
    let (mut accepted, mut next) = (BTreeSet::new(), 1);
    for _ in 0..20 {
        let count = random.random_range(1..8);
        let batch = batch(next, count);
        if let Ok(commit) = input.reserve(batch.clone()).await {
            accepted.extend(batch.trace_ids());
            commit();
        }
        next += count as u128;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..5000))).await;
        let decided = counters.sent.value() + counters.dropped.total.value();
        assert_eq!(accepted.len() as u64, decided + counters.left(), "seed {seed}");
        assert!(decided <= accepted.len() as u64, "seed {seed}: more is decided than was taken");
    }
    drop(input);
    tokio::time::timeout(Duration::from_secs(86_400), task).await.expect("it drains").unwrap();
    let intake = intake.lock().unwrap();
    assert_eq!(counters.left(), 0, "seed {seed}");
    assert_eq!(counters.dropped.total.value(), intake.refused.len() as u64, "seed {seed}");
    let known: BTreeSet<_> = intake.arrived.union(&intake.refused).copied().collect();
    assert_eq!(known, accepted, "seed {seed}: arrived and refused against accepted");
    assert!(refuses || intake.arrived == accepted, "seed {seed}: nothing else is lost");
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_arrives_or_is_counted_as_refused_whatever_the_intake_does() {
    for seed in 0..SEEDS {
        run(seed).await;
    }
}
