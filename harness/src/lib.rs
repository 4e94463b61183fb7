//! Proves, per `trace_id`, that what Datadog would receive is a complete, correctly linked trace.
//!
//! | To | Use |
//! | --- | --- |
//! | check the instrumentation of services in `cargo test` | [`test_system::TestSystem`] |
//! | check a service in the test's own process | [`test_system::InProcess`] |
//! | see what one exporter sends to Datadog | [`intake::Intake`] |
//! | judge a record that you build | [`judge::judge`] |
//!
//! Items that only the program `tracecheck` uses are hidden from these pages, and may change at any time.

#[doc(hidden)]
pub mod canary;
pub mod case;
pub mod compare;
#[doc(hidden)]
pub mod datadog_api;
pub mod driver;
pub mod event;
pub mod evidence;
pub mod expectation;
pub mod finding;
mod in_progress;
pub mod judge;
pub mod ledger;
pub mod load;
pub mod record;
pub mod report;
pub mod rule;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod saved;
pub mod scenario;
pub mod session;
mod span_links;
pub(crate) mod stages;
#[doc(hidden)]
pub mod standing;
pub mod stats;
pub mod strays;
pub mod system;
pub mod test_system;
pub mod verdict;

pub(crate) use harness_core::{chain_of, http};
pub use harness_core::{secret, source, trace, wire};
pub use harness_environment as environment;
#[cfg(feature = "image")]
pub use harness_environment::image;
pub use harness_intake as intake;
