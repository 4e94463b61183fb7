//! Refuses batches while the process has too much memory.
//!
//! The measure is what the process has of its own in memory, from the kernel: the program itself, which no refusal makes
//! smaller, is not in it. The Collector's measure is the heap of its runtime.

pub(crate) mod config;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
pub(crate) use config::Config;
use tokio::time::Instant;

use crate::consumer::{Commit, Consumer, Needs, Refused};
use crate::extension::health_check::Health;
use crate::hold::Note;
use crate::sender::Sender;
use crate::telemetry::{Counter, Registry};
use crate::trace_batch::TraceBatch;

/// How the memory of this process is found out, in bytes.
type Measure = Box<dyn Fn() -> u64 + Send + Sync>;

/// The processor, in front of the next stage.
pub(crate) struct MemoryLimiter {
    id: String,
    config: Config,
    measure: Measure,
    health: Health,
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
        health: &Health,
        measure: Measure,
        next: Arc<dyn Consumer>,
    ) -> Self {
        let refused = registry.counter(
            "otelcol_processor_refused_spans",
            "Number of spans that were rejected by the next component in the pipeline.",
            &[("processor", id)],
        );
        let limiter = Self {
            id: id.into(),
            config,
            measure,
            health: health.clone(),
            last: Mutex::default(),
            is_over: AtomicBool::new(false),
            refused,
            next,
        };
        limiter.begin();
        limiter
    }

    /// Reports a limit that is exceeded while nothing is held: then no refusal brings memory below it.
    fn begin(&self) {
        let (used, soft_limit) = ((self.measure)(), self.config.soft_limit());
        if used > soft_limit {
            let problem = format!(
                "{}; the collector takes that much without any span: raise the limit, or lower what is left for spikes",
                self.describe(used)
            );
            tracing::error!("{problem}");
            self.health.set(&self.id, &problem);
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Measures again and again, so that health is reported also while nobody sends. Ends with the limiter.
    pub(crate) fn watch(self: &Arc<Self>) {
        let (limiter, interval) = (Arc::downgrade(self), self.config.check_interval);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let Some(limiter) = limiter.upgrade() else { return };
                limiter.is_over();
            }
        });
    }

    /// Says how much memory is used and may be.
    fn describe(&self, used: u64) -> String {
        format!(
            "`{}` refuses traces: {} MiB of memory are used, and more than {} MiB may not be ({})",
            self.id,
            used >> 20,
            self.config.soft_limit() >> 20,
            self.config.explain()
        )
    }

    /// Measures if that was not done within the interval.
    fn is_over(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= self.config.check_interval) {
            *last = Some(Instant::now());
            let used = (self.measure)();
            let is_over = used > self.config.soft_limit();
            if is_over != self.is_over.swap(is_over, Ordering::Relaxed) {
                if is_over {
                    let problem = self.describe(used);
                    tracing::warn!("{problem}");
                    self.health.warn(&self.id, &problem);
                } else {
                    let limit = self.config.soft_limit() >> 20;
                    tracing::info!(limit, "memory is below the limit (MiB) again");
                    self.health.clear(&self.id);
                }
            }
        }
        self.is_over.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Consumer for MemoryLimiter {
    async fn reserve(&self, batch: TraceBatch, sender: &Sender) -> Result<Commit, Refused> {
        if self.is_over() {
            self.refused.add(batch.span_count());
            return Err(Refused::Memory);
        }
        self.next.reserve(batch, sender).await
    }

    fn needs(&self) -> Needs {
        self.next.needs()
    }

    async fn note(&self, request: &TraceBatch, sender: &Sender) -> Result<Vec<Note>, Refused> {
        if self.is_over() {
            self.refused.add(request.span_count());
            return Err(Refused::Memory);
        }
        self.next.note(request, sender).await
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

    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::{Config, MemoryLimiter};
    use crate::consumer::{Consumer, Fanout, Refused};
    use crate::extension::health_check::{self, Health};
    use crate::sender::{Peer, Sender};
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
        let health = Health::default();
        health.set_ready(true);
        let registry = Registry::default();
        let limiter =
            MemoryLimiter::new(config, "memory_limiter", &registry, &health, measure, next);
        let refused = async |mib: u64| {
            memory.store(mib << 20, Ordering::Relaxed);
            limiter.reserve(TraceBatch::default(), &Sender::new(Peer::UNKNOWN)).await.err()
        };
        assert_eq!(refused(79).await, None);
        assert_eq!(refused(81).await, Some(Refused::Memory));
        let reported = "`memory_limiter` refuses traces: 81 MiB of memory are used, and more than 80 MiB may not be (`limit_mib` 100 less `spike_limit_mib` 20)";
        assert_eq!(said(&health), (200, json!([]), json!([reported])));
        assert_eq!(refused(79).await, None);
        assert_eq!(said(&health), (200, json!([]), json!([])));
    }

    /// The status of health, its problems and its warnings.
    fn said(health: &Health) -> (u16, Value, Value) {
        let response = health.answer(&health_check::Config::default(), "/");
        let status = response.status().as_u16();
        let body = response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body["problems"].clone(), body["warnings"].clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_exceeded_by_nothing_is_a_problem_until_it_is_not() {
        let memory = Arc::new(AtomicU64::new(20 << 20));
        let config = Config {
            check_interval: Duration::from_secs(1),
            limit_mib: 90,
            spike_limit_mib: 75,
            ..Config::default()
        };
        let measure = {
            let memory = Arc::clone(&memory);
            Box::new(move || memory.load(Ordering::Relaxed))
        };
        let (health, next) = (Health::default(), Fanout::join(Vec::new()));
        health.set_ready(true);
        let registry = Registry::default();
        let limiter =
            MemoryLimiter::new(config, "memory_limiter", &registry, &health, measure, next);
        let limiter = Arc::new(limiter);
        limiter.watch();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (status, problems, _) = said(&health);
        assert_eq!(status, 503);
        let problem = problems[0].as_str().unwrap();
        assert!(problem.contains("20 MiB of memory are used, and more than 15 MiB"), "{problem}");
        assert!(problem.contains("without any span: raise the limit"), "{problem}");
        memory.store(10 << 20, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(said(&health), (200, json!([]), json!([])), "it looks without being asked");
    }
}
