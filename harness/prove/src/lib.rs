//! Ways in which real pipelines go wrong: a catalogue of breakages, and the tap that makes most of them on the wire of a system that
//! runs.
//!
//! A [`Breakage`](catalogue::Breakage) knows what it looks like in Datadog, how it comes about, how it is mended, and which rule must
//! catch it at which hop. Running a system with it, and judging what comes of that, is not done here.

pub mod catalogue;
pub mod change;
pub mod tap;
