//! How a batch is handed from one stage of a pipeline to the next.

use std::sync::Arc;

use async_trait::async_trait;

use crate::trace_batch::TraceBatch;

/// Why a stage does not take a batch now. The sender is told to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the queue is full; send again later")]
    Full,
    #[error("the collector has too much in memory; send again later")]
    Memory,
    #[error("the collector is shutting down; send again later")]
    Closed,
}

/// Room that was made for a batch; taking it cannot fail.
pub(crate) type Commit = Box<dyn FnOnce(TraceBatch) + Send>;

/// A stage that takes batches: a processor or an exporter's queue.
#[async_trait]
pub(crate) trait Consumer: Send + Sync {
    /// Makes room for a batch, or refuses at once. What was made room for is held once it is committed.
    fn reserve(&self, batch: &TraceBatch) -> Result<Commit, Refused>;

    /// Hands over a batch that this collector holds already, waiting for room.
    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused>;
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
    fn reserve(&self, batch: &TraceBatch) -> Result<Commit, Refused> {
        let commits: Vec<_> =
            self.to.iter().map(|consumer| consumer.reserve(batch)).collect::<Result<_, _>>()?;
        Ok(Box::new(move |batch: TraceBatch| {
            for commit in commits {
                commit(batch.clone());
            }
        }))
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        let mut outcome = Ok(());
        for consumer in &self.to {
            outcome = consumer.deliver(batch.clone()).await.and(outcome);
        }
        outcome
    }
}

/// A stage that changes batches on their way to the next one.
pub(crate) struct Edit {
    edit: Arc<dyn Fn(&TraceBatch) -> TraceBatch + Send + Sync>,
    next: Arc<dyn Consumer>,
}

impl Edit {
    pub(crate) fn new(
        edit: impl Fn(&TraceBatch) -> TraceBatch + Send + Sync + 'static,
        next: Arc<dyn Consumer>,
    ) -> Self {
        Self { edit: Arc::new(edit), next }
    }
}

#[async_trait]
impl Consumer for Edit {
    fn reserve(&self, batch: &TraceBatch) -> Result<Commit, Refused> {
        let commit = self.next.reserve(batch)?;
        let edit = Arc::clone(&self.edit);
        Ok(Box::new(move |batch| commit(edit(&batch))))
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        self.next.deliver((self.edit)(&batch)).await
    }
}
