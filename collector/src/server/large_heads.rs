//! Requests of HTTP/1 whose heads are too large: hyper answers them 431 itself, before any service sees them.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::telemetry::Counter;

/// Counts such requests of a port.
#[derive(Debug, Clone)]
pub(super) struct LargeHeads {
    counter: Counter,
    was_reported: Arc<AtomicBool>,
}

impl LargeHeads {
    pub(super) fn new(counter: Counter) -> Self {
        Self { counter, was_reported: Arc::default() }
    }

    /// Counts the end of a connection if a head that is too large was its cause, and reports the first one in the log.
    pub(super) fn note(&self, peer: SocketAddr, error: &(dyn Error + Send + Sync + 'static)) {
        let error = error.downcast_ref::<hyper::Error>();
        if !error.is_some_and(hyper::Error::is_parse_too_large) {
            return;
        }
        self.counter.add(1);
        if !self.was_reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "a request is refused with 431: its head has over 64 KiB or over 100 headers; see what the sender or a proxy adds to it (further requests like this are only counted)"
            );
        }
    }
}
