//! What is to run: the crate `harness-system`, and the building of what a scenario chooses.

pub use harness_system::*;

pub mod build;
