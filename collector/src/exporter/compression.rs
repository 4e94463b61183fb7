//! How the bodies of requests are compressed.

use std::io::{Read as _, Write as _};

use serde::{Deserialize, Serialize};

/// A compression of HTTP bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    Zstd,
    Gzip,
    Zlib,
    Deflate,
    Snappy,
    #[serde(rename = "x-snappy-framed")]
    SnappyFramed,
    Lz4,
    #[serde(alias = "")]
    None,
}

impl Compression {
    /// The value of `Content-Encoding`, if there is one.
    pub(crate) fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
            Self::Zlib => Some("zlib"),
            Self::Deflate => Some("deflate"),
            Self::Snappy => Some("snappy"),
            Self::SnappyFramed => Some("x-snappy-framed"),
            Self::Lz4 => Some("lz4"),
            Self::None => None,
        }
    }

    /// Compresses a body.
    ///
    /// # Errors
    ///
    /// If memory for it cannot be allocated.
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
            Self::Zlib | Self::Deflate => {
                let mut out = Vec::new();
                flate2::read::ZlibDecoder::new(body).read_to_end(&mut out)?;
                Ok(out)
            }
            Self::Snappy => {
                snap::raw::Decoder::new().decompress_vec(body).map_err(std::io::Error::from)
            }
            Self::SnappyFramed => {
                let mut out = Vec::new();
                snap::read::FrameDecoder::new(body).read_to_end(&mut out)?;
                Ok(out)
            }
            Self::Lz4 => {
                let mut out = Vec::new();
                lz4_flex::frame::FrameDecoder::new(body).read_to_end(&mut out)?;
                Ok(out)
            }
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
    /// If memory for it cannot be allocated.
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
            // What HTTP calls deflate is zlib.
            Compression::Zlib | Compression::Deflate => {
                let fast = flate2::Compression::fast();
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), fast);
                encoder.write_all(body)?;
                encoder.finish()
            }
            Compression::Snappy => {
                snap::raw::Encoder::new().compress_vec(body).map_err(std::io::Error::from)
            }
            Compression::SnappyFramed => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(body)?;
                encoder.into_inner().map_err(|error| error.into_error())
            }
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(body)?;
                encoder.finish().map_err(std::io::Error::from)
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

#[cfg(test)]
mod tests {
    use super::Compression;

    #[test]
    fn what_is_compressed_comes_back_as_it_was() {
        let body: Vec<u8> = (0..200_000u32).map(|number| (number / 7) as u8).collect();
        for compression in [
            Compression::Zstd,
            Compression::Gzip,
            Compression::Zlib,
            Compression::Deflate,
            Compression::Snappy,
            Compression::SnappyFramed,
            Compression::Lz4,
            Compression::None,
        ] {
            for body in [&body[..], b"", b"x"] {
                let compressed = compression.compress(body).unwrap();
                assert_eq!(compression.decompress(&compressed).unwrap(), body, "{compression:?}");
            }
            let is_smaller = compression.compress(&body).unwrap().len() < body.len();
            assert_eq!(is_smaller, compression != Compression::None, "{compression:?}");
        }
    }
}
