//! Tests stats over a restart: those that were not sent are computed again from the journal, and none is counted twice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{BUCKET_NANOS, Concentrator, Counting, Sender};
use crate::exporter::datadog::model::{Span, TraceChunk, TracerPayload};
use crate::hold::{Hold, Note};
use crate::journal::{Journal, Options, Recovery};

fn sender() -> Sender {
    Sender { host_name: "h".into(), env: "none".into(), agent_version: "v".into() }
}

fn open(directory: &Path) -> (Arc<Journal>, Recovery) {
    let lock_timeout = Duration::from_secs(10);
    let options = Options { max_bytes: 1 << 20, fsync: false, lock_timeout };
    let (journal, recovery) = Journal::open(directory, options).unwrap();
    (Arc::new(journal), recovery)
}

/// A request of spans that end in these buckets.
fn tracer(buckets: &[u64]) -> TracerPayload<'static> {
    let span = |bucket: &u64| {
        let start = i64::try_from(bucket * BUCKET_NANOS).unwrap();
        let mut span = Span { span_id: 1, trace_id: 1, start, duration: 5, ..Span::default() };
        span.metrics.set(&b"_top_level"[..], 1.0);
        span
    };
    let chunk = TraceChunk { spans: buckets.iter().map(span).collect(), ..TraceChunk::default() };
    TracerPayload { chunks: vec![chunk], ..TracerPayload::default() }
}

fn concentrator() -> Concentrator {
    Concentrator::new(Counting::new(false, Vec::new()), 10 * BUCKET_NANOS)
}

async fn hold(journal: &Arc<Journal>, spans: usize) -> Arc<Hold> {
    let appended = journal.append(spans as u32, |out| out.push(0)).await.unwrap();
    let journal = Some((Arc::clone(journal), appended));
    Note::new("e".into(), spans, true, journal, false).keep().0
}

/// Counts a request, as the exporter does.
fn count(stats: &Concentrator, hold: &Arc<Hold>, buckets: &[u64]) {
    let last = stats.add(&tracer(buckets), &sender(), hold.counted_until);
    stats.note([(hold, buckets.len())].into_iter(), last);
}

/// Hits in all payloads of a flush.
fn flush(stats: &Concentrator, bucket: u64, all: bool) -> (u64, super::Receipt) {
    let (payloads, receipt) = stats.flush(&sender(), bucket * BUCKET_NANOS, all);
    let clients = payloads.iter().flat_map(|payload| &payload.stats);
    let groups = clients.flat_map(|client| &client.stats).flat_map(|bucket| &bucket.stats);
    (groups.map(|group| group.hits).sum(), receipt)
}

#[tokio::test]
async fn stats_are_made_again_where_they_were_not_sent_and_only_there() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path());
    let stats = concentrator();
    let (early, both, late) =
        (hold(&journal, 1).await, hold(&journal, 2).await, hold(&journal, 1).await);
    count(&stats, &early, &[10]);
    count(&stats, &both, &[10, 12]);
    count(&stats, &late, &[12]);
    for hold in [&early, &both] {
        hold.settle(hold.span_count(), None);
    }
    // The 10th bucket is closed and its stats are sent. Then the process is killed.
    let (hits, receipt) = flush(&stats, 12, false);
    assert_eq!(hits, 2);
    receipt.confirm();
    journal.close().await;
    drop((early, both, late, stats));
    drop(journal);

    let (journal, recovery) = open(directory.path());
    let known: Vec<_> = (recovery.found.iter())
        .map(|found| (found.number, found.is_sent, found.counted_until / BUCKET_NANOS))
        .collect();
    // The first has nothing left to do.
    assert_eq!(known, [(2, true, 11), (3, false, 11)]);
    let stats = concentrator();
    let holds: Vec<_> = (recovery.found.iter())
        .map(|found| Hold::found("e".into(), true, &journal, found))
        .collect();
    count(&stats, &holds[0], &[10, 12]);
    count(&stats, &holds[1], &[12]);
    let (hits, receipt) = flush(&stats, 13, true);
    assert_eq!(hits, 2, "the two of the 12th bucket");
    // These are sent before the spans of the last request are: it is not to be counted again then.
    receipt.confirm();
    journal.close().await;
    drop((holds, stats));
    drop(journal);

    let (journal, recovery) = open(directory.path());
    assert_eq!(recovery.found.len(), 1);
    assert!(!recovery.found[0].is_sent);
    let stats = concentrator();
    let hold = Hold::found("e".into(), true, &journal, &recovery.found[0]);
    count(&stats, &hold, &[12]);
    let (hits, receipt) = flush(&stats, 13, true);
    assert_eq!(hits, 0);
    receipt.confirm();
    hold.settle(1, None);
    journal.close().await;
    drop((hold, stats, journal));
    assert!(open(directory.path()).1.found.is_empty());
}
