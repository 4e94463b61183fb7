//! The way into a processor that has a task of its own: a few requests wait in front of it, and the senders of more are held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::consumer::{Commit, Consumer, Needs, Refused};
use crate::held_senders::HeldSenders;
use crate::hold::Note;
use crate::sender::Sender;
use crate::telemetry::Registry;
use crate::trace_batch::TraceBatch;

/// How many requests may wait in front of the task; the senders of more are held.
const WAITING_REQUESTS: usize = 64;

/// How many spans are inside of a processor: taken, and neither handed on nor dropped for a counted reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inside(Arc<AtomicU64>);

impl Inside {
    fn take(&self, spans: usize) {
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
    }

    /// Notes that so many spans are inside no more.
    pub(crate) fn let_go(&self, spans: usize) {
        self.0.fetch_sub(spans as u64, Ordering::Relaxed);
    }

    pub(crate) fn spans(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The way into the processor. When the last one is gone, what is batched is flushed and the processor ends.
pub(crate) struct Inbox {
    requests: mpsc::Sender<TraceBatch>,
    next: Arc<dyn Consumer>,
    needs: Needs,
    held: HeldSenders,
    inside: Inside,
}

impl Inbox {
    /// Makes the way into the processor `id` in front of `next`, and the end of it where requests come out.
    pub(crate) fn new(
        id: &str,
        registry: &Registry,
        next: &Arc<dyn Consumer>,
    ) -> (Self, mpsc::Receiver<TraceBatch>) {
        let held = registry.counter(
            "otelcol_processor_held_requests",
            "Number of requests whose senders were held until there was room, or refused after that.",
            &[("processor", id)],
        );
        let (requests, waiting) = mpsc::channel(WAITING_REQUESTS);
        let (needs, next) = (next.needs(), Arc::clone(next));
        let held = HeldSenders::new(!needs.blocks, held);
        (Self { requests, next, needs, held, inside: Inside::default() }, waiting)
    }

    /// The count of the spans inside, for the task.
    pub(crate) fn inside(&self) -> Inside {
        self.inside.clone()
    }

    /// Returns whether senders are answered OK for what is inside, and nothing else keeps it.
    pub(crate) fn is_answered(&self) -> bool {
        !self.needs.notes
    }

    /// The processor keeps requests itself: what is behind it notes them when they come out of it, and their senders wait for no result.
    pub(crate) fn without_notes(mut self) -> Self {
        self.needs.notes = false;
        self
    }
}

#[async_trait]
impl Consumer for Inbox {
    async fn reserve(&self, mut batch: TraceBatch, sender: &Sender) -> Result<Commit, Refused> {
        let requests = self.requests.clone();
        let at_once = match self.held.is_empty() {
            true => requests.try_reserve_owned(),
            false => Err(mpsc::error::TrySendError::Full(requests)),
        };
        let permit = match at_once {
            Ok(permit) => permit,
            Err(mpsc::error::TrySendError::Full(requests)) => {
                // None is left because the next stage has none.
                self.next.press();
                let room = requests.reserve_owned();
                let room = self.held.hold(sender, batch.byte_count(), room).await;
                match room {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Err(Refused::Closed),
                    Err(refused) => {
                        self.next.count_refused(batch.span_count());
                        return Err(refused);
                    }
                }
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Refused::Closed),
        };
        let notes =
            if self.needs.notes { self.next.note(&batch, sender).await? } else { Vec::new() };
        let inside = self.inside.clone();
        Ok(Box::new(move || {
            let mut answers = Vec::new();
            for note in notes {
                let (hold, answer) = note.keep();
                batch.attach(&hold);
                answers.extend(answer);
            }
            inside.take(batch.span_count());
            permit.send(batch);
            answers
        }))
    }

    fn needs(&self) -> Needs {
        self.needs
    }

    async fn note(&self, request: &TraceBatch, sender: &Sender) -> Result<Vec<Note>, Refused> {
        match self.needs.notes {
            true => self.next.note(request, sender).await,
            false => Ok(Vec::new()),
        }
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        let spans = batch.span_count();
        let permit = self.requests.reserve().await.map_err(|_| Refused::Closed)?;
        self.inside.take(spans);
        permit.send(batch);
        Ok(())
    }

    fn press(&self) {
        self.next.press();
    }

    fn count_refused(&self, spans: usize) {
        self.next.count_refused(spans);
    }
}
