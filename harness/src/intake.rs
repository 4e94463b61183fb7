//! The mock Datadog intake: keeps every attempt with its reply, and tells what it was sent.
//!
//! It stands in for Datadog towards exporters, and is read over HTTP by the harness on every environment.

pub mod attempt;
