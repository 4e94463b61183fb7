//! JSON lines: every event as one line, for machines.

use std::io::{self, Write};

use super::Reporter;
use crate::event::Event;

/// Writes each event as a line of JSON.
#[derive(Debug)]
pub struct JsonLines<W: Write>(pub W);

impl<W: Write> Reporter for JsonLines<W> {
    fn observe(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, event)?;
        writeln!(self.0)?;
        self.0.flush()
    }
}
