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

/// A batch that room was made for: calling it hands the batch over, which cannot fail; dropping it gives the room back.
pub(crate) type Commit = Box<dyn FnOnce() + Send>;

/// A stage that takes batches: a processor or an exporter's queue.
#[async_trait]
pub(crate) trait Consumer: Send + Sync {
    /// Makes room for a batch, or refuses. What was made room for is held once it is committed, so that this is where all
    /// is done that may fail or take time.
    async fn reserve(&self, batch: TraceBatch) -> Result<Commit, Refused>;

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
    async fn reserve(&self, batch: TraceBatch) -> Result<Commit, Refused> {
        let mut commits = Vec::with_capacity(self.to.len());
        for consumer in &self.to {
            commits.push(consumer.reserve(batch.clone()).await?);
        }
        Ok(Box::new(move || {
            for commit in commits {
                commit();
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
    async fn reserve(&self, batch: TraceBatch) -> Result<Commit, Refused> {
        self.next.reserve((self.edit)(&batch)).await
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        self.next.deliver((self.edit)(&batch)).await
    }
}
