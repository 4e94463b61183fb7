//! SHA-256 digests of what an image is made of.

use std::io::{self, Write};

use ring::digest::{Context, SHA256, digest};

/// SHA-256 in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes and counts what is written through it.
pub(super) struct Hashing<W> {
    to: W,
    context: Context,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, context: Context::new(&SHA256), bytes: 0 }
    }

    /// SHA-256 in hex, and the number of bytes.
    pub(super) fn finish(self) -> (String, u64) {
        (hex(self.context.finish().as_ref()), self.bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.context.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
