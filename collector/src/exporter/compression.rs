//! How the bodies of requests are compressed.

use std::io::{Read as _, Write as _};

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
    pub(crate) fn compress(self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        Compressor::default().compress(self, body)
    }

    /// Gives back what was compressed here.
    ///
    /// # Errors
    ///
    /// If the body was not compressed so.
    pub(crate) fn decompress(self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(body.to_vec()),
            Self::Gzip => {
                let mut out = Vec::new();
                flate2::read::GzDecoder::new(body).read_to_end(&mut out)?;
                Ok(out)
            }
            Self::Zstd => zstd::stream::decode_all(body),
        }
    }
}

/// Compresses one body after the other, in memory that it keeps.
#[derive(Default)]
pub(crate) struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    out: Vec<u8>,
}

impl Compressor {
    /// Compresses a body.
    ///
    /// # Errors
    ///
    /// If memory for it cannot be had.
    pub(crate) fn compress(
        &mut self,
        compression: Compression,
        body: &[u8],
    ) -> std::io::Result<Vec<u8>> {
        match compression {
            Compression::None => Ok(body.to_vec()),
            Compression::Gzip => {
                self.out.clear();
                let fast = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(&mut self.out, fast);
                encoder.write_all(body)?;
                encoder.finish()?;
                Ok(self.out.clone())
            }
            Compression::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    None => self.zstd.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
                };
                self.out.clear();
                self.out.reserve(zstd::zstd_safe::compress_bound(body.len()));
                zstd.compress_to_buffer(body, &mut self.out)?;
                Ok(self.out.clone())
            }
        }
    }
}

/// Of the levels that are worth their time, by measurement: docs/performance.md.
const ZSTD_LEVEL: i32 = 1;
