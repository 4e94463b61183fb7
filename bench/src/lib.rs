//! What both programs of this crate share.

pub mod payload;
