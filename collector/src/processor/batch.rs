//! Groups small requests into batches, by number of spans and by time.

pub(crate) mod config;

use std::pin::pin;
use std::sync::Arc;

pub(crate) use config::Config;
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::inbox::{Inbox, Inside};
use crate::consumer::Consumer;
use crate::telemetry::{Counter, Histogram, Registry, histogram};
use crate::trace_batch::TraceBatch;

/// Starts the processor in front of `next`.
pub(crate) fn start(
    config: Config,
    id: &str,
    registry: &Registry,
    next: Arc<dyn Consumer>,
) -> (Inbox, JoinHandle<()>) {
    let labels = [("processor", id)];
    let by_size = registry.counter(
        "otelcol_processor_batch_batch_size_trigger_send",
        "Number of times the batch was sent due to a size trigger.",
        &labels,
    );
    let by_timeout = registry.counter(
        "otelcol_processor_batch_timeout_trigger_send",
        "Number of times the batch was sent due to a timeout trigger.",
        &labels,
    );
    let lost = registry.counter(
        "otelcol_processor_dropped_spans",
        "Number of spans dropped because the next stage had ended.",
        &labels,
    );
    let spans = registry.histogram(
        "otelcol_processor_batch_batch_send_size",
        "Number of units in the batch.",
        histogram::SPANS,
        &labels,
    );
    let bytes = registry.histogram(
        "otelcol_processor_batch_batch_send_size_bytes",
        "Number of bytes in batch that was sent.",
        histogram::BYTES,
        &labels,
    );
    // There are no `metadata_keys`, so that all spans are of one kind.
    registry
        .gauge(
            "otelcol_processor_batch_metadata_cardinality",
            "Number of distinct metadata value combinations being processed.",
            &labels,
        )
        .set(1);
    let (inbox, waiting) = Inbox::new(id, registry, &next);
    let inside = inbox.inside();
    let task = tokio::spawn(
        Batcher { config, next, by_size, by_timeout, lost, inside, spans, bytes }.run(waiting),
    );
    (inbox, task)
}

struct Batcher {
    config: Config,
    next: Arc<dyn Consumer>,
    by_size: Counter,
    by_timeout: Counter,
    lost: Counter,
    inside: Inside,
    spans: Histogram,
    bytes: Histogram,
}

impl Batcher {
    async fn run(self, mut waiting: mpsc::Receiver<TraceBatch>) {
        let mut batch = TraceBatch::default();
        // One timer for all requests of a batch.
        let mut deadline = pin!(sleep_until(Instant::now()));
        loop {
            let next = select! {
                biased;
                more = waiting.recv() => Some(more),
                () = &mut deadline, if !batch.is_empty() => None,
            };
            match next {
                Some(Some(more)) => {
                    if batch.is_empty() {
                        deadline.as_mut().reset(Instant::now() + self.config.timeout);
                    }
                    batch.append(more);
                    while batch.span_count() >= self.threshold() {
                        self.by_size.add(1);
                        self.send(&mut batch).await;
                    }
                }
                Some(None) => break,
                None => {
                    self.by_timeout.add(1);
                    self.send(&mut batch).await;
                    deadline.as_mut().reset(Instant::now() + self.config.timeout);
                }
            }
        }
        while !batch.is_empty() {
            self.send(&mut batch).await;
        }
    }

    /// From how many spans on a batch is sent without waiting for the time-out.
    fn threshold(&self) -> usize {
        match (self.config.timeout.is_zero(), self.config.send_batch_size) {
            (true, _) | (_, 0) => 1,
            (_, size) => size,
        }
    }

    async fn send(&self, batch: &mut TraceBatch) {
        let part = match self.config.send_batch_max_size {
            0 => std::mem::take(batch),
            size => batch.split_front(size),
        };
        let spans = part.span_count();
        self.spans.record(spans);
        self.bytes.record(part.byte_count());
        if self.next.deliver(part).await.is_err() {
            self.lost.add(spans);
        }
        self.inside.let_go(spans);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::time::{Instant, advance};

    use super::{Config, start};
    use crate::consumer::{Commit, Consumer, Needs, Refused};
    use crate::hold::Note;
    use crate::sender::Sender;
    use crate::telemetry::Registry;
    use crate::trace_batch::TraceBatch;

    /// Notes the sizes of batches and when they came.
    #[derive(Default, Clone)]
    struct Sink(Arc<Mutex<Vec<(usize, Duration)>>>, Option<Instant>);

    #[async_trait]
    impl Consumer for Sink {
        async fn reserve(&self, _: TraceBatch, _: &Sender) -> Result<Commit, Refused> {
            Err(Refused::Full)
        }

        fn needs(&self) -> Needs {
            Needs::default()
        }

        async fn note(&self, _: &TraceBatch, _: &Sender) -> Result<Vec<Note>, Refused> {
            Ok(Vec::new())
        }

        async fn deliver(&self, batch: TraceBatch) -> Result<(), Refused> {
            let elapsed = self.1.map(|start| start.elapsed()).unwrap_or_default();
            self.0.lock().unwrap().push((batch.span_count(), elapsed));
            Ok(())
        }
    }

    fn spans(count: usize) -> TraceBatch {
        let spans = vec!["{}"; count].join(",");
        let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
        TraceBatch::from_json(json.as_bytes()).unwrap()
    }

    async fn batches(config: Config, requests: &[usize], wait: Duration) -> Vec<(usize, Duration)> {
        let sink = Sink(Arc::default(), Some(Instant::now()));
        let (input, task) = start(config, "batch", &Registry::default(), Arc::new(sink.clone()));
        for size in requests {
            input.deliver(spans(*size)).await.unwrap();
        }
        tokio::task::yield_now().await;
        advance(wait).await;
        tokio::task::yield_now().await;
        drop(input);
        task.await.unwrap();
        let seen = sink.0.lock().unwrap();
        seen.clone()
    }

    fn config(timeout: u64, size: usize, max: usize) -> Config {
        let timeout = Duration::from_millis(timeout);
        Config { timeout, send_batch_size: size, send_batch_max_size: max }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_goes_at_once_and_the_rest_at_shutdown() {
        let seen = batches(config(5000, 50, 0), &[20, 20, 20, 7], Duration::ZERO).await;
        assert_eq!(seen.iter().map(|(size, _)| *size).collect::<Vec<_>>(), [60, 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_no_longer_than_the_timeout() {
        let seen = batches(config(5000, 50, 0), &[3], Duration::from_secs(5)).await;
        assert_eq!(seen, [(3, Duration::from_secs(5))]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_batch_is_larger_than_the_maximum() {
        let seen = batches(config(5000, 10, 10), &[35], Duration::ZERO).await;
        assert_eq!(seen.iter().map(|(size, _)| *size).collect::<Vec<_>>(), [10, 10, 10, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_timeout_or_a_size_every_request_goes_on_as_it_is() {
        for config in [config(0, 50, 0), config(5000, 0, 0)] {
            let seen = batches(config, &[3, 4], Duration::ZERO).await;
            assert_eq!(seen.iter().map(|(size, _)| *size).collect::<Vec<_>>(), [3, 4]);
        }
    }
}
