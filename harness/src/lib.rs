//! Proves, per `trace_id`, that what Datadog would receive is a complete, correctly linked trace.

pub mod canary;
pub mod case;
pub mod datadog_api;
pub mod driver;
pub mod environment;
pub mod event;
pub mod evidence;
pub mod expectation;
mod http;
#[cfg(feature = "image")]
pub mod image;
pub mod intake;
pub mod judge;
pub mod ledger;
pub mod report;
pub mod rule;
pub mod run;
pub mod scenario;
pub mod secret;
pub mod session;
pub mod source;
pub mod stages;
pub mod standing;
pub mod stats;
mod strays;
pub mod system;
pub mod test_system;
pub mod trace;
pub mod verdict;

/// An error and its causes in one line, since many libraries keep the telling part in the source.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
