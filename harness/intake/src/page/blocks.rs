//! Blocks: the traces of a report, compressed a few at a time, so that a page need not open all of them to show one.

use std::io::{self, Write};

use flate2::{Compression, write::DeflateEncoder};
use serde::Serialize;

/// Bytes of JSON after which a block is full.
const BLOCK: usize = 512 << 10;
/// Bytes of JSON that are compressed as well as can be; what is more is compressed fast.
const SMALL: usize = 16 << 20;

/// Place of a trace: its block, and its line in it.
pub type BlockRange = (usize, usize);

/// Traces as JSON lines, in compressed blocks, up to a bound.
#[derive(Debug)]
pub struct Blocks {
    compressed: Vec<Vec<u8>>,
    open: Vec<u8>,
    lines: usize,
    written: usize,
    max_bytes: usize,
    left_out: usize,
}

impl Blocks {
    /// Creates blocks that hold as many bytes of JSON at most.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            compressed: Vec::new(),
            open: Vec::new(),
            lines: 0,
            written: 0,
            max_bytes,
            left_out: 0,
        }
    }

    /// Adds a trace and returns its place; `None` if there is no more room, which is counted.
    ///
    /// # Errors
    ///
    /// When it is not JSON, or cannot be compressed.
    pub fn add(&mut self, trace: &impl Serialize) -> io::Result<Option<BlockRange>> {
        if self.written >= self.max_bytes {
            self.left_out += 1;
            return Ok(None);
        }
        let before = self.open.len();
        serde_json::to_writer(&mut self.open, trace)?;
        self.open.push(b'\n');
        self.written += self.open.len() - before;
        let place = (self.compressed.len(), self.lines);
        self.lines += 1;
        if self.open.len() >= BLOCK {
            self.close()?;
        }
        Ok(Some(place))
    }

    /// Compresses the last block.
    ///
    /// # Errors
    ///
    /// If it cannot be compressed.
    pub fn close(&mut self) -> io::Result<()> {
        if !self.open.is_empty() {
            self.compressed.push(deflate(&self.open, self.effort())?);
            self.open.clear();
            self.lines = 0;
        }
        Ok(())
    }

    /// Returns the number of traces left out for lack of room.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(super) fn compressed(&self) -> &[Vec<u8>] {
        &self.compressed
    }

    pub(super) fn effort(&self) -> Compression {
        if self.written > SMALL { Compression::fast() } else { Compression::best() }
    }
}

/// Compresses as `DecompressionStream("deflate-raw")` reads it.
pub(super) fn deflate(bytes: &[u8], effort: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), effort);
    encoder.write_all(bytes)?;
    encoder.finish()
}
