//! Sends stats every ten seconds, and what is left at the end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use libdd_trace_protobuf::pb;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{BUCKET_NANOS, Concentrator};
use crate::exporter::ExportError;
use crate::exporter::compression::Compression;
use crate::exporter::datadog::client::Client;
use crate::exporter::datadog::payload::Sender;
use crate::exporter::retry::{self, Backoff};
use crate::telemetry::{Counter, Registry};

/// How many payloads wait for an intake that does not answer; the oldest goes first.
const MAX_WAITING: usize = 360;

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
    let mut waiting = VecDeque::new();
    let mut ticks = interval(Duration::from_nanos(BUCKET_NANOS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_ending = false;
    while !is_ending {
        tokio::select! {
            _ = ticks.tick() => {}
            () = send_all(&client, &retry, &mut waiting, &counters), if !waiting.is_empty() => {}
            () = end.cancelled() => is_ending = true,
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for stats in concentrator.flush(&sender, now, is_ending) {
            if waiting.len() == MAX_WAITING {
                waiting.pop_front();
                counters.dropped.add(1);
                tracing::warn!(
                    exporter,
                    "APM stats were dropped: too many payloads wait for the intake"
                );
            }
            match encode(&stats) {
                Ok(body) => waiting.push_back(body),
                Err(error) => {
                    counters.dropped.add(1);
                    tracing::error!(exporter, error, "APM stats cannot be encoded");
                }
            }
        }
        counters.left_out.add(concentrator.take_left_out());
    }
    send_all(&client, &retry, &mut waiting, &counters).await;
}

struct Counters {
    sent: Counter,
    dropped: Counter,
    left_out: Counter,
}

/// Sends all payloads, the oldest first. One that is cut short by a cancellation is sent again.
async fn send_all(
    client: &Client,
    retry: &retry::Config,
    waiting: &mut VecDeque<Bytes>,
    counters: &Counters,
) {
    while let Some(body) = waiting.front().cloned() {
        let (begun, mut backoff) = (Instant::now(), Backoff::new(retry));
        let outcome = loop {
            match client.send_stats(body.clone()).await {
                Err(ExportError::Retryable { reason, after }) => {
                    match backoff.next(begun.elapsed(), after, rand::random()) {
                        Some(wait) => sleep(wait).await,
                        None => break Err(reason),
                    }
                }
                Err(ExportError::TooLarge { reason } | ExportError::Permanent { reason }) => {
                    break Err(reason);
                }
                Ok(()) => break Ok(()),
            }
        };
        waiting.pop_front();
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
fn encode(stats: &pb::StatsPayload) -> Result<Bytes, String> {
    let body = rmp_serde::to_vec_named(stats).map_err(|error| error.to_string())?;
    let body = Compression::Gzip.compress(body);
    body.map(Bytes::from).map_err(|error| error.to_string())
}
