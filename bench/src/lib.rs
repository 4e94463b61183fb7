//! Shared parts of this crate's two programs.

pub mod builds;
pub mod payload;
