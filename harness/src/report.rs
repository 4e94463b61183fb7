//! Reporters: each renders the events of a run in one form, and decides nothing.

use std::io;

use crate::event::Event;

pub mod compare;
#[cfg(feature = "cli")]
pub mod github;
#[cfg(feature = "cli")]
pub mod html;
pub mod json;
#[cfg(feature = "cli")]
pub mod junit;
pub mod plain;
#[cfg(feature = "cli")]
pub mod text;
pub mod trace;
pub mod visible;
pub mod wrapped;

/// Something that renders events.
pub trait Reporter {
    /// Renders one event.
    ///
    /// # Errors
    ///
    /// When its output cannot be written.
    fn observe(&mut self, event: &Event) -> io::Result<()>;
}
