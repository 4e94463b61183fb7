//! The mock Datadog intake: keeps every attempt with its reply, and reports what it was sent.
//!
//! It stands in for Datadog towards exporters, and is read over HTTP by the harness on every environment. It
//! judges nothing: that is the rules' and expectations' work.

mod alone;
mod api_key;
pub mod attempt;
pub mod client;
#[cfg(feature = "command")]
pub mod command;
pub mod decode;
pub mod page;
pub mod replies;
pub mod server;
pub mod store;
mod stream;
#[cfg(test)]
mod testing;

pub use alone::{Intake, IntakeError};
pub use api_key::{ApiKey, ParseApiKeyError};

/// The environment variable with the API key that clients must send.
pub const API_KEY_VARIABLE: &str = "DD_API_KEY";
