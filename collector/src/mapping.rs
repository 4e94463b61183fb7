//! Documentation of how OTLP spans become Datadog's.

pub use crate::exporter::datadog::translate::explain::{Question, explain};
pub use crate::exporter::datadog::translate::page::page;
