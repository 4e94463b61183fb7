//! Sends stats every ten seconds, and what is left at the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use libdd_trace_protobuf::pb;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{BUCKET_NANOS, Concentrator, Receipt};
use crate::exporter::ExportError;
use crate::exporter::compression::Compression;
use crate::exporter::datadog::client::Client;
use crate::exporter::datadog::payload::Sender;
use crate::exporter::retry::{self, Backoff};
use crate::telemetry::{Counter, Registry};

/// How many payloads wait for an intake that does not answer; the oldest goes first.
const MAX_WAITING: usize = 360;

/// How many requests are kept on disk at most until their stats are sent.
const MAX_WAITING_REQUESTS: usize = 50_000;

/// Sends stats until `end`, then flushes what is open and sends all that is left. Ends when that is done.
pub(crate) async fn run(
    concentrator: Arc<Concentrator>,
    client: Client,
    sender: Arc<Sender>,
    retry: retry::Config,
    registry: Registry,
    exporter: String,
    end: CancellationToken,
) {
    let labels = [("exporter", exporter.as_str())];
    let counters = Counters {
        sent: registry.counter(
            "otelcol_exporter_datadog_stats_sent_payloads",
            "Number of payloads of APM stats sent to destination.",
            &labels,
        ),
        dropped: registry.counter(
            "otelcol_exporter_datadog_stats_dropped_payloads",
            "Number of payloads of APM stats that were refused, or too old to wait any longer.",
            &labels,
        ),
        left_out: registry.counter(
            "otelcol_exporter_datadog_stats_left_out_spans",
            "Number of spans that are in no APM stats, because there were too many groups.",
            &labels,
        ),
    };
    let queue = Queue::default();
    let count = async {
        let mut ticks = interval(Duration::from_nanos(BUCKET_NANOS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ending = false;
        while !is_ending {
            tokio::select! {
                _ = ticks.tick() => {}
                () = end.cancelled() => is_ending = true,
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
            let (payloads, receipt) = concentrator.flush(&sender, now, is_ending);
            let bodies = payloads.into_iter().filter_map(|stats| match encode(&stats) {
                Ok(body) => Some(body),
                Err(error) => {
                    counters.dropped.add(1);
                    tracing::error!(exporter, error, "APM stats cannot be encoded");
                    None
                }
            });
            let dropped = queue.push(bodies.collect(), receipt, is_ending);
            if dropped > 0 {
                counters.dropped.add(dropped);
                tracing::warn!(
                    exporter,
                    dropped,
                    "APM stats were dropped: too many payloads wait for the intake"
                );
            }
            counters.left_out.add(concentrator.take_left_out());
        }
    };
    // Side by side, so that no request is cut short by a tick: it would be sent twice.
    tokio::join!(count, send_all(&client, &retry, &queue, &counters, &end));
}

/// Payloads that wait for the intake, the oldest first.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Waiting>,
    /// Recipients to notify when the payload that is being sent, and was the last, is sent.
    is_sending: bool,
    late: Vec<Receipt>,
    is_closed: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds payloads, and who is to be notified when the last of them is sent; gives how many of the oldest had to go.
    fn push(&self, bodies: Vec<Bytes>, receipt: Receipt, is_last: bool) -> usize {
        let mut state = self.state();
        let mut gone = Vec::new();
        for body in bodies {
            if state.waiting.len() == MAX_WAITING {
                gone.extend(state.waiting.pop_front());
            }
            state.waiting.push_back(Waiting { body, receipts: Vec::new() });
        }
        let dropped = gone.len();
        let mut reported: Vec<Receipt> =
            gone.into_iter().flat_map(|waiting| waiting.receipts).collect();
        let is_sending = state.is_sending;
        match state.waiting.back_mut() {
            Some(last) => last.receipts.push(receipt),
            None if is_sending => state.late.push(receipt),
            None => reported.push(receipt),
        }
        // During an outage these would gather without end; those that waited longest are let go.
        let mut requests: usize = state.waiting.iter().map(Waiting::request_count).sum();
        for waiting in &mut state.waiting {
            if requests <= MAX_WAITING_REQUESTS {
                break;
            }
            requests -= waiting.request_count();
            reported.append(&mut waiting.receipts);
        }
        state.is_closed |= is_last;
        drop(state);
        reported.into_iter().for_each(Receipt::confirm);
        self.changed.notify_one();
        dropped
    }

    /// The next payload; `None` when there will be no more.
    async fn next(&self) -> Option<Waiting> {
        loop {
            {
                let mut state = self.state();
                if let Some(waiting) = state.waiting.pop_front() {
                    state.is_sending = true;
                    return Some(waiting);
                }
                if state.is_closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// The payload that was being sent has its fate.
    fn sent(&self, waiting: Waiting) {
        let mut state = self.state();
        state.is_sending = false;
        let late = std::mem::take(&mut state.late);
        drop(state);
        waiting.receipts.into_iter().chain(late).for_each(Receipt::confirm);
    }
}

/// A payload that is to be sent, and who is to be notified then.
struct Waiting {
    body: Bytes,
    receipts: Vec<Receipt>,
}

impl Waiting {
    fn request_count(&self) -> usize {
        self.receipts.iter().map(Receipt::len).sum()
    }
}

struct Counters {
    sent: Counter,
    dropped: Counter,
    left_out: Counter,
}

/// Sends all payloads, the oldest first.
async fn send_all(
    client: &Client,
    retry: &retry::Config,
    queue: &Queue,
    counters: &Counters,
    end: &CancellationToken,
) {
    while let Some(waiting) = queue.next().await {
        let (begun, mut backoff) = (Instant::now(), Backoff::new(retry));
        let outcome = loop {
            match client.send_stats(waiting.body.clone()).await {
                Err(ExportError::Retryable { reason, after, .. }) => {
                    match backoff.next(begun.elapsed(), after, rand::random()) {
                        Some(wait) => tokio::select! {
                            () = sleep(wait) => {}
                            // There is no time for a long one then.
                            () = end.cancelled() => {
                                let soon = retry::soon(retry.initial_interval);
                                sleep(soon.max(after.unwrap_or_default()).min(wait)).await;
                            }
                        },
                        None => break Err(reason),
                    }
                }
                Err(ExportError::TooLarge { reason } | ExportError::Permanent { reason }) => {
                    break Err(reason);
                }
                Ok(()) => break Ok(()),
            }
        };
        // Stats that are refused are not made again.
        queue.sent(waiting);
        match outcome {
            Ok(()) => counters.sent.add(1),
            Err(reason) => {
                counters.dropped.add(1);
                tracing::error!(reason, "APM stats were dropped");
            }
        }
    }
}

/// Stats as msgpack, compressed with gzip: the intake's form for them.
pub(crate) fn encode(stats: &pb::StatsPayload) -> Result<Bytes, String> {
    let body = rmp_serde::to_vec_named(stats).map_err(|error| error.to_string())?;
    let body = Compression::Gzip.compress(&body);
    body.map(Bytes::from).map_err(|error| error.to_string())
}
