//! A whole collector in this process: OTLP in at real ports, Datadog's side played by a stub.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper fails the test")]

mod certificates;
mod grpc;
mod support;
mod whole_traces;

mod bad_traffic;
mod cors;
mod delivery;
mod hostile;
mod keepalive;
mod let_in;
mod otlp_out;
mod refusals;
mod self_metrics;
mod shutdown;
mod storage;
