//! Systems to run: the crate `harness-system`, and the system that a scenario chooses.

pub use harness_system::*;

pub mod build;
