//! OTLP in, batch, Datadog out.
//!
//! [`Config`] reads the OpenTelemetry Collector's YAML; [`Collector`] binds its ports and runs it until it is asked to stop.
//! Between the stages travels a [`TraceBatch`]. [`command`] is the program around it; nothing below reads the environment
//! or ends the process.
//!
//! - `receiver`, `processor`, `exporter`, `connector`, `extension`: the components, each with its settings beside it
//! - `pipeline`: builds them from a config, joins them and takes them down in order
//! - `consumer`: how a batch goes from one stage to the next; `sender`: whose it is; `held_senders`: who waits for room;
//!   `hold`: what becomes of a request; `journal`: requests on disk
//! - `settings`: what every config type stands on; `config`: the whole config, above the components
//! - [`mapping`]: what is said of how spans become Datadog's
//! - `server`: listening; `telemetry`: self-metrics and logs; `tls`: certificates; `reread`: files that are read again

pub mod command;
mod config;
mod connector;
mod consumer;
#[cfg(test)]
mod docs;
mod exporter;
mod extension;
mod grpc_codec;
mod grpc_snappy;
mod held_senders;
mod hold;
#[doc(hidden)]
pub mod internals;
mod journal;
pub mod mapping;
mod pipeline;
mod processor;
mod receiver;
mod reread;
mod sender;
mod server;
mod settings;
mod telemetry;
mod tls;
mod trace_batch;

pub use config::{Config, ConfigError, Sources};
pub use pipeline::{Collector, Drained, StartError};
pub use trace_batch::TraceBatch;

/// Chooses the implementation of TLS's cryptography for this process, unless it was chosen before.
fn install_crypto_provider() {
    // An error says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
