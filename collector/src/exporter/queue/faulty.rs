//! An intake that fails at random, for simulations: it refuses, loses replies, finds requests too large, takes its time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::{ExportError, Exporter, Outgoing, Prepared, Sent};
use crate::trace_batch::TraceBatch;

/// A scripted intake, with what it saw.
pub(crate) struct Intake {
    pub(crate) random: StdRng,
    /// Whether it refuses for good at times, too.
    pub(crate) refuses: bool,
    pub(crate) arrived: BTreeSet<u128>,
    pub(crate) refused: BTreeSet<u128>,
    /// Spans in requests that were answered OK.
    pub(crate) answered: u64,
}

impl Intake {
    pub(crate) fn new(seed: u64, refuses: bool) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            refuses,
            arrived: BTreeSet::new(),
            refused: BTreeSet::new(),
            answered: 0,
        }
    }
}

/// An exporter to it.
pub(crate) struct Faulty(pub(crate) Arc<Mutex<Intake>>);

pub(crate) struct Spans(TraceBatch);

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
        let retryable = |after, is_doubtful| {
            Err(ExportError::Retryable { reason: "fails".into(), after, is_doubtful })
        };
        match fate {
            0..3 => retryable(after, false),
            3 => {
                // It arrives, and the reply is lost.
                intake.arrived.extend(request.trace_ids());
                retryable(None, true)
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
                intake.answered += request.span_count() as u64;
                Ok(Sent::default())
            }
        }
    }
}

/// A batch of spans, each a trace of its own, from this id on.
pub(crate) fn batch(first: u128, count: usize) -> TraceBatch {
    let ids = first..first + count as u128;
    let spans: Vec<_> =
        ids.map(|id| format!(r#"{{"traceId":"{id:032x}","spanId":"0000000000000001"}}"#)).collect();
    let spans = spans.join(",");
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    TraceBatch::from_json(json.as_bytes()).unwrap()
}
