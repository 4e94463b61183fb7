//! Proves, per `trace_id`, that what Datadog would receive is a complete, correctly linked trace.

pub mod environment;
pub mod intake;
pub mod secret;
pub mod source;
pub mod system;
pub mod trace;
