//! Counts what an exporter delivered.
//!
//! The SDK's batch processor reports neither a failed export at shutdown nor a span it dropped; both show here as a
//! difference to the ledger.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// The outcome of all exports so far.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    accepted: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Delivery {
    /// Spans whose export succeeded.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Returns the last error; where no export failed, that the queue was full.
    pub(super) fn last_error(&self) -> String {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
            .unwrap_or_else(|| "the export queue was full (OTEL_BSP_MAX_QUEUE_SIZE)".to_owned())
    }
}

/// An exporter whose outcomes are counted.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    delivery: Arc<Delivery>,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E, delivery: Arc<Delivery>) -> Self {
        Self { exporter, delivery }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let outcome = self.exporter.export(batch).await;
        match &outcome {
            Ok(()) => {
                self.delivery.accepted.fetch_add(spans, Ordering::AcqRel);
            }
            Err(error) => {
                let mut last =
                    self.delivery.last_error.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(error.to_string());
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
