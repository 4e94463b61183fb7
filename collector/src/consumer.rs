//! How a batch is handed from one stage of a pipeline to the next.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;

use crate::extension::trace_ledger::Reply;
use crate::hold::{Answer, Note};
use crate::sender::Sender;
use crate::trace_batch::TraceBatch;

/// Reason for which a request is refused. For all but the last of these, the sender is asked to retry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// There was no room for as long as its sender was held.
    #[error("the queue is full; send again later")]
    Full,
    /// There is no room, and none to hold its sender either.
    #[error("the queue is full, and so is the room for senders that wait; send again later")]
    NoRoom,
    #[error("the collector has too much in memory; send again later")]
    Memory,
    #[error("the collector cannot write to its storage; send again later")]
    Storage,
    #[error("the collector is shutting down; send again later")]
    Closed,
    /// It was taken, and what becomes of it takes longer than any sender waits (`wait_for_result`).
    #[error("the spans are held, and are not sent yet; send again later")]
    Undecided,
    /// It was taken and could not be sent, which the sender waited to hear; it is not held any more.
    #[error("spans could not be sent: {0}; send again later")]
    Unsent(String),
    /// It was taken, and spans of it were dropped, which the sender waited to hear (`wait_for_result`).
    #[error("spans could not be sent: {0}")]
    Dropped(String),
    /// A test has senders answered so.
    #[error("refused by a script of the trace ledger")]
    Scripted(Reply),
}

/// How long a sender is asked to wait that was held before: with the hold it comes again in time for what exporters bear.
const AFTER_A_HOLD: Duration = Duration::from_secs(1);
/// How long a sender is asked to wait that is refused at once. Exporters give up after a number of attempts rather than a
/// time: asked for a second, most of them give up after 5 s, asked for three, after 9.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(3);

impl Refused {
    /// How long its sender is asked to wait; `None` if sending it again would not help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full | Self::Undecided => Some(AFTER_A_HOLD),
            Self::NoRoom | Self::Memory | Self::Storage | Self::Closed | Self::Unsent(_) => {
                Some(AT_ONCE)
            }
            Self::Dropped(_) => None,
            Self::Scripted(reply) => reply.retry_after,
        }
    }
}

/// A batch that room was made for: calling it hands the batch over, which cannot fail; dropping it gives the room back. Gives
/// what is to be waited for before the sender is answered.
pub(crate) type Commit = Box<dyn FnOnce() -> Vec<Answer> + Send>;

/// Requirements of downstream stages on a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// To note each request before its sender is answered.
    pub(crate) notes: bool,
    /// To hold any number of senders while there is no room, rather than to refuse some.
    pub(crate) blocks: bool,
}

impl Needs {
    fn or(self, other: Self) -> Self {
        Self { notes: self.notes || other.notes, blocks: self.blocks || other.blocks }
    }
}

/// A stage that takes batches: a processor or an exporter's queue.
#[async_trait]
pub(crate) trait Consumer: Send + Sync {
    /// Makes room for a batch, or refuses. What was made room for is held once it is committed, so that this is where all
    /// is done that may fail or take time.
    async fn reserve(&self, batch: TraceBatch, sender: &Sender) -> Result<Commit, Refused>;

    /// Returns what this stage, or one behind it, needs of the stages before it.
    fn needs(&self) -> Needs;

    /// Notes a request that will come later, in batches with others: where it is kept on disk, it is safe when this returns.
    async fn note(&self, request: &TraceBatch, sender: &Sender) -> Result<Vec<Note>, Refused>;

    /// Hands over a batch that this collector holds already, waiting for room.
    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused>;

    /// Says that a sender finds no room in a stage before this one.
    fn press(&self) {}

    /// Counts spans that a stage before this one refused because it could not go on: against whoever has no room.
    fn count_refused(&self, _spans: usize) {}
}

/// Hands each batch to several stages: all of them, or on refusal none.
pub(crate) struct Fanout {
    to: Vec<Arc<dyn Consumer>>,
}

impl Fanout {
    pub(crate) fn join(mut to: Vec<Arc<dyn Consumer>>) -> Arc<dyn Consumer> {
        match (to.pop(), to.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                to.extend(last);
                Arc::new(Self { to })
            }
        }
    }
}

#[async_trait]
impl Consumer for Fanout {
    async fn reserve(&self, batch: TraceBatch, sender: &Sender) -> Result<Commit, Refused> {
        // All at the same time, so that senders are held no longer for several than for one.
        let commits =
            try_join_all(self.to.iter().map(|to| to.reserve(batch.clone(), sender))).await?;
        Ok(Box::new(move || commits.into_iter().flat_map(|commit| commit()).collect()))
    }

    fn needs(&self) -> Needs {
        self.to.iter().fold(Needs::default(), |needs, consumer| needs.or(consumer.needs()))
    }

    async fn note(&self, request: &TraceBatch, sender: &Sender) -> Result<Vec<Note>, Refused> {
        let mut notes = Vec::new();
        for consumer in self.to.iter().filter(|consumer| consumer.needs().notes) {
            notes.extend(consumer.note(request, sender).await?);
        }
        Ok(notes)
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        let mut outcome = Ok(());
        for consumer in &self.to {
            outcome = consumer.deliver(batch.clone()).await.and(outcome);
        }
        outcome
    }

    fn press(&self) {
        self.to.iter().for_each(|consumer| consumer.press());
    }

    fn count_refused(&self, spans: usize) {
        self.to.iter().for_each(|consumer| consumer.count_refused(spans));
    }
}

/// Makes a batch of one, and of its sender, if that is known.
type EditFn = dyn Fn(&TraceBatch, Option<&Sender>) -> TraceBatch + Send + Sync;

/// A stage that changes batches on their way to the next one.
pub(crate) struct Edit {
    edit: Arc<EditFn>,
    next: Arc<dyn Consumer>,
}

impl Edit {
    pub(crate) fn new(
        edit: impl Fn(&TraceBatch) -> TraceBatch + Send + Sync + 'static,
        next: Arc<dyn Consumer>,
    ) -> Self {
        Self::by_sender(move |batch, _| edit(batch), next)
    }

    /// Changes batches also by their sender, who is known in front of stages that keep them.
    pub(crate) fn by_sender(
        edit: impl Fn(&TraceBatch, Option<&Sender>) -> TraceBatch + Send + Sync + 'static,
        next: Arc<dyn Consumer>,
    ) -> Self {
        Self { edit: Arc::new(edit), next }
    }
}

#[async_trait]
impl Consumer for Edit {
    async fn reserve(&self, batch: TraceBatch, sender: &Sender) -> Result<Commit, Refused> {
        self.next.reserve((self.edit)(&batch, Some(sender)), sender).await
    }

    fn needs(&self) -> Needs {
        self.next.needs()
    }

    async fn note(&self, request: &TraceBatch, sender: &Sender) -> Result<Vec<Note>, Refused> {
        // What is noted is what will come. An edit changes spans, and neither their number nor their order.
        self.next.note(&(self.edit)(request, Some(sender)), sender).await
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        self.next.deliver((self.edit)(&batch, None)).await
    }

    fn press(&self) {
        self.next.press();
    }

    fn count_refused(&self, spans: usize) {
        self.next.count_refused(spans);
    }
}
