//! How the bodies of requests are compressed.

use std::io::Write as _;

use serde::Deserialize;

/// A compression of HTTP bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    Zstd,
    Gzip,
    #[serde(alias = "")]
    None,
}

impl Compression {
    /// The value of `Content-Encoding`, if there is one.
    pub(crate) fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
            Self::None => None,
        }
    }

    /// Compresses a body.
    ///
    /// # Errors
    ///
    /// If memory for it cannot be had.
    pub(crate) fn compress(self, body: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(body),
            Self::Gzip => {
                let out = Vec::with_capacity(body.len() / 6 + 64);
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
                encoder.write_all(&body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(&body, 1),
        }
    }
}
