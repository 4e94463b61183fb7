//! Refuses batches while the process has too much memory.
//!
//! The measure is the resident memory, from the kernel; the Collector's is the heap of its runtime.

pub(crate) mod config;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
pub(crate) use config::Config;

use crate::consumer::{Commit, Consumer, Needs, Refused};
use crate::hold::Note;
use crate::telemetry::{Counter, Registry};
use crate::trace_batch::TraceBatch;

/// How the resident memory of this process is found out, in bytes.
type Measure = Box<dyn Fn() -> u64 + Send + Sync>;

/// The processor, in front of the next stage.
pub(crate) struct MemoryLimiter {
    config: Config,
    measure: Measure,
    last: Mutex<Option<Instant>>,
    is_over: AtomicBool,
    refused: Counter,
    next: Arc<dyn Consumer>,
}

impl MemoryLimiter {
    pub(crate) fn new(
        config: Config,
        id: &str,
        registry: &Registry,
        measure: Measure,
        next: Arc<dyn Consumer>,
    ) -> Self {
        let refused = registry.counter(
            "otelcol_processor_refused_spans",
            "Number of spans that were rejected by the next component in the pipeline.",
            &[("processor", id)],
        );
        Self {
            config,
            measure,
            last: Mutex::default(),
            is_over: AtomicBool::new(false),
            refused,
            next,
        }
    }

    /// Measures if that was not done within the interval.
    fn is_over(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= self.config.check_interval) {
            *last = Some(Instant::now());
            let is_over = (self.measure)() > self.config.soft_limit();
            if is_over != self.is_over.swap(is_over, Ordering::Relaxed) {
                let limit = self.config.soft_limit() >> 20;
                match is_over {
                    true => {
                        tracing::warn!(limit, "memory is above the limit (MiB): traces are refused")
                    }
                    false => tracing::info!(limit, "memory is below the limit (MiB) again"),
                }
            }
        }
        self.is_over.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Consumer for MemoryLimiter {
    async fn reserve(&self, batch: TraceBatch) -> Result<Commit, Refused> {
        if self.is_over() {
            self.refused.add(batch.span_count());
            return Err(Refused::Memory);
        }
        self.next.reserve(batch).await
    }

    fn needs(&self) -> Needs {
        self.next.needs()
    }

    async fn note(&self, request: &TraceBatch) -> Result<Vec<Note>, Refused> {
        if self.is_over() {
            self.refused.add(request.span_count());
            return Err(Refused::Memory);
        }
        self.next.note(request).await
    }

    async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
        // What is held already is not given up.
        self.next.deliver(batch).await
    }

    fn press(&self) {
        self.next.press();
    }

    fn count_refused(&self, spans: usize) {
        self.next.count_refused(spans);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{Config, MemoryLimiter};
    use crate::consumer::{Consumer, Fanout, Refused};
    use crate::telemetry::Registry;
    use crate::trace_batch::TraceBatch;

    #[tokio::test]
    async fn batches_are_refused_only_while_memory_is_above_the_soft_limit() {
        let memory = Arc::new(AtomicU64::new(0));
        let config = Config {
            check_interval: Duration::ZERO,
            limit_mib: 100,
            spike_limit_mib: 20,
            ..Config::default()
        };
        let measure = {
            let memory = Arc::clone(&memory);
            Box::new(move || memory.load(Ordering::Relaxed))
        };
        let next = Fanout::join(Vec::new());
        let limiter =
            MemoryLimiter::new(config, "memory_limiter", &Registry::default(), measure, next);
        let refused = async |mib: u64| {
            memory.store(mib << 20, Ordering::Relaxed);
            limiter.reserve(TraceBatch::default()).await.err()
        };
        assert_eq!(refused(79).await, None);
        assert_eq!(refused(81).await, Some(Refused::Memory));
        assert_eq!(refused(79).await, None);
    }
}
