//! Undoing a body's content encoding, within a bound.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use super::DecodeError;

/// Gives back the body without its content encoding, if that takes no more than `limit` bytes.
pub(super) fn decompress<'a>(
    encoding: &str,
    body: &'a [u8],
    limit: usize,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let read = |encoding, source: io::Result<Vec<u8>>| match source {
        Ok(bytes) if bytes.len() > limit => Err(DecodeError::TooLarge { limit }),
        Ok(bytes) => Ok(Cow::Owned(bytes)),
        Err(source) => Err(DecodeError::Decompress { encoding, source }),
    };
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" if body.len() > limit => Err(DecodeError::TooLarge { limit }),
        "" | "identity" => Ok(Cow::Borrowed(body)),
        "gzip" | "x-gzip" => {
            read("gzip", read_bounded(flate2::read::MultiGzDecoder::new(body), limit))
        }
        "deflate" => read("deflate", read_bounded(flate2::read::ZlibDecoder::new(body), limit)),
        "zstd" => read("zstd", zstd::Decoder::new(body).and_then(|zstd| read_bounded(zstd, limit))),
        _ => Err(DecodeError::UnknownEncoding(encoding.to_owned())),
    }
}

/// Reads one byte more than `limit` at most, so that the caller can distinguish "full" from "too much".
fn read_bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
