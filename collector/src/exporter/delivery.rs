//! Settings of delivery, which exporters over the network share: how long an attempt may take, TLS, the queue, and retries.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{queue, retry};
use crate::settings::{Diagnostics, Unsupported};
use crate::tls::{self, ClientTls};

/// Decodes the settings of an exporter; `own` has the keys that are not supported besides those of delivery.
pub(super) fn decode<T: DeserializeOwned>(
    diagnostics: &mut Diagnostics<'_>,
    own: &[Unsupported],
) -> Option<T> {
    let all = own.iter().chain(&[queue::UNSUPPORTED, tls::UNSUPPORTED]);
    let unsupported: Vec<_> = all.map(|table| ("", *table)).collect();
    diagnostics.decode(&[], &unsupported)
}

/// The settings of delivery, to be checked.
pub(super) struct Delivery<'c> {
    pub(super) timeout: Duration,
    pub(super) tls: &'c ClientTls,
    pub(super) sending_queue: &'c queue::Config,
    pub(super) retry_on_failure: &'c retry::Config,
}

impl Delivery<'_> {
    pub(super) fn check(&self, diagnostics: &mut Diagnostics<'_>) {
        if self.timeout.is_zero() {
            diagnostics.add(&["timeout"], "must be more than zero");
        }
        self.tls.check(diagnostics);
        self.sending_queue.check(diagnostics);
        self.retry_on_failure.check(diagnostics);
    }
}
