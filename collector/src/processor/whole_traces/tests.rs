//! Traces that are over when they should be.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

use super::{Bounds, Inbox, Judge, Over, Trace, start};
use crate::consumer::{Commit, Consumer, Needs, Refused};
use crate::hold::Note;
use crate::sender::{Peer, Sender};
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

/// Keeps all, and notes why each was over; spans of trace 9 are late.
#[derive(Default, Clone)]
struct All(Arc<Mutex<Vec<(u128, Over)>>>);

impl Judge for All {
    fn late(&mut self, id: u128, _: &TraceBatch) -> Option<bool> {
        (id == 9).then_some(true)
    }

    fn judge(&mut self, id: u128, _: &Trace, over: Over) -> bool {
        self.0.lock().unwrap().push((id, over));
        !matches!(over, Over::TooLarge | Over::Abandoned)
    }
}

/// Notes the traces of batches; refuses some first if it is to be asked for room.
#[derive(Default, Clone)]
struct Sink {
    seen: Arc<Mutex<Vec<Vec<u128>>>>,
    refusals: Arc<Mutex<usize>>,
    needs: Needs,
}

#[async_trait]
impl Consumer for Sink {
    async fn reserve(&self, batch: TraceBatch, _: &Sender) -> Result<Commit, Refused> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Err(Refused::Full);
        }
        let seen = Arc::clone(&self.seen);
        Ok(Box::new(move || {
            seen.lock().unwrap().push(batch.trace_ids().collect());
            Vec::new()
        }))
    }

    fn needs(&self) -> Needs {
        self.needs
    }

    async fn note(&self, _: &TraceBatch, _: &Sender) -> Result<Vec<Note>, Refused> {
        unreachable!("the processor's requests are noted when they come out of it")
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        self.seen.lock().unwrap().push(batch.trace_ids().collect());
        Ok(())
    }
}

struct Rig {
    inbox: Option<Inbox>,
    task: JoinHandle<()>,
    all: All,
    sink: Sink,
}

const BOUNDS: Bounds = Bounds {
    wait: Duration::from_secs(10),
    wait_after_root: Duration::ZERO,
    max_traces: 100,
    max_bytes: 1 << 20,
    max_trace_bytes: 0,
    blocks: false,
    drops_at_end: false,
};

impl Rig {
    fn start(bounds: Bounds, sink: Sink) -> Self {
        let (all, next) = (All::default(), Arc::new(sink.clone()));
        let (inbox, task) = start(bounds, all.clone(), "p", &Registry::default(), next);
        Self { inbox: Some(inbox), task, all, sink }
    }

    /// Sends a span of each of these traces, in one request; roots have the parent 0.
    async fn send(&self, traces: &[u128], parent: u64) {
        let spans: Vec<_> = traces
            .iter()
            .map(|id| {
                serde_json::json!({
                    "traceId": format!("{id:032x}"), "spanId": "0000000000000001",
                    "parentSpanId": format!("{parent:016x}"),
                })
            })
            .collect();
        let json = serde_json::json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] });
        let batch = TraceBatch::from_json(json.to_string().as_bytes()).unwrap();
        let inbox = self.inbox.as_ref().unwrap();
        let commit = inbox.reserve(batch, &Sender::new(Peer::UNKNOWN)).await.unwrap();
        assert!(commit().is_empty(), "nobody waits");
        self.settle().await;
    }

    /// Lets the task do all that it can.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&self, time: Duration) {
        advance(time).await;
        self.settle().await;
    }

    fn over(&self) -> Vec<(u128, Over)> {
        std::mem::take(&mut self.all.0.lock().unwrap())
    }

    fn seen(&self) -> Vec<Vec<u128>> {
        std::mem::take(&mut self.sink.seen.lock().unwrap())
    }

    async fn end(mut self) -> (Vec<(u128, Over)>, Vec<Vec<u128>>) {
        self.inbox = None;
        let Self { task, all, sink, .. } = self;
        task.await.unwrap();
        let (over, seen) = (all.0.lock().unwrap().clone(), sink.seen.lock().unwrap().clone());
        (over, seen)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_trace_goes_on_as_a_whole_when_it_had_its_time() {
    let rig = Rig::start(BOUNDS, Sink::default());
    rig.send(&[1, 2, 1], 7).await;
    rig.pass(9 * SECOND).await;
    rig.send(&[1, 3], 7).await;
    assert_eq!(rig.seen(), [[0; 0]; 0]);
    rig.pass(SECOND).await;
    assert_eq!(rig.seen(), [[1, 1, 1, 2]], "in one batch, since they end together");
    rig.pass(9 * SECOND).await;
    assert_eq!(rig.seen(), [[3]]);
    rig.send(&[9, 4], 7).await;
    assert_eq!(rig.seen(), [[9]], "what is late goes at once");
    let (over, seen) = rig.end().await;
    assert_eq!(seen, [[4]], "what waits at the end is not lost");
    assert_eq!(over, [(1, Over::Due), (2, Over::Due), (3, Over::Due), (4, Over::Due)]);
}

#[tokio::test(start_paused = true)]
async fn a_root_brings_the_end_nearer_and_never_farther() {
    let rig = Rig::start(Bounds { wait_after_root: 2 * SECOND, ..BOUNDS }, Sink::default());
    rig.send(&[1, 2], 7).await;
    rig.pass(SECOND).await;
    rig.send(&[1], 0).await;
    rig.pass(2 * SECOND).await;
    assert_eq!(rig.seen(), [[1, 1]]);
    rig.pass(6 * SECOND).await;
    rig.send(&[2], 0).await;
    rig.pass(SECOND).await;
    assert_eq!(rig.seen(), [[2, 2]]);
}

#[tokio::test(start_paused = true)]
async fn too_many_are_over_early_and_none_is_lost() {
    let rig = Rig::start(Bounds { max_traces: 2, ..BOUNDS }, Sink::default());
    rig.send(&[1], 7).await;
    rig.pass(SECOND).await;
    rig.send(&[2, 3, 4], 7).await;
    assert_eq!(rig.over(), [(1, Over::Early), (2, Over::Early)]);
    assert_eq!(rig.seen(), [[1, 2]]);
    drop(rig.end().await);
    let rig = Rig::start(Bounds { max_bytes: 1000, ..BOUNDS }, Sink::default());
    for id in 1..=8 {
        rig.send(&[id], 7).await;
    }
    let early = rig.over();
    assert!((2..8).contains(&early.len()), "{early:?}");
    assert!(early.iter().all(|(_, over)| *over == Over::Early));
    assert_eq!(rig.seen().concat().len(), early.len());
}

#[tokio::test(start_paused = true)]
async fn senders_wait_where_the_config_says_so() {
    let rig = Rig::start(Bounds { max_traces: 1, blocks: true, ..BOUNDS }, Sink::default());
    for id in 1..=4 {
        rig.send(&[id], 7).await;
    }
    assert_eq!((rig.over(), rig.seen()), (vec![], vec![]));
    rig.pass(10 * SECOND).await;
    assert_eq!(rig.seen(), [[1, 2]], "two are more than one, and the others wait in front");
    rig.pass(10 * SECOND).await;
    assert_eq!(rig.seen(), [[3, 4]]);
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_is_too_large_and_what_is_abandoned_go_nowhere() {
    let bounds = Bounds { max_trace_bytes: 100, drops_at_end: true, ..BOUNDS };
    let rig = Rig::start(bounds, Sink::default());
    rig.send(&[1, 2], 7).await;
    rig.send(&[1, 1, 1], 7).await;
    assert_eq!(rig.over(), [(1, Over::TooLarge)]);
    let (over, seen) = rig.end().await;
    assert_eq!((over, seen), (vec![(2, Over::Abandoned)], vec![]));
}

#[tokio::test(start_paused = true)]
async fn traces_are_held_until_a_stage_that_notes_them_has_room() {
    let sink = Sink {
        refusals: Arc::new(Mutex::new(3)),
        needs: Needs { notes: true, ..Needs::default() },
        ..Sink::default()
    };
    let begin = Instant::now();
    let rig = Rig::start(BOUNDS, sink);
    rig.send(&[1], 7).await;
    let (over, seen) = rig.end().await;
    assert_eq!((over, seen), (vec![(1, Over::Due)], vec![vec![1]]));
    assert!(begin.elapsed() >= SECOND, "it was asked again three times");
}
