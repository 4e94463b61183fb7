//! Failures that no span's mark shows.

use crate::{
    case::DRIVER_SERVICE,
    trace::{Span, Trace},
};

/// Finds spans of answers with 5xx that are no errors, though no rule can be sure that they should be: those of servers whose code set the
/// status `Ok`, and those of clients. Returns the service with what it has, in words.
///
/// OpenTelemetry's conventions ask servers and clients to set the status of such spans to `Error`; an `Ok` that code sets is final.
pub(super) fn failures(trace: &Trace) -> Vec<(String, String)> {
    let is_failed = |span: &&Span| {
        let status = span.http_status();
        span.service != DRIVER_SERVICE
            && !span.error
            && status.is_some_and(|status| (500..600).contains(&status))
    };
    let found = trace.spans.iter().filter(is_failed).filter_map(|span| {
        let is_ok = span.meta.get("otel.status_code").is_some_and(|code| code == "Ok");
        let status = span.http_status().unwrap_or_default();
        let what = match (span.kind(), is_ok) {
            ("server", true) => format!(
                "an answer {status} of `{}` that is no error, since its status was set to `Ok`",
                span.resource
            ),
            ("client", _) => {
                format!("a call `{}` that was answered {status}, and is no error", span.resource)
            }
            _ => return None,
        };
        Some((span.service.clone(), what))
    });
    found.collect()
}
