//! Snappy in gRPC, which tonic does not know: as messages of snappy's framing format, as the Collector's compressor writes them.
//!
//! A call has one message each way, so that it is taken as a whole: length and compression flag, then the message.

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http::header::HeaderValue;
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tonic::{Status, transport::Channel};
use tower::Service;

/// The name in `grpc-encoding`.
const NAME: HeaderValue = HeaderValue::from_static("snappy");
const ENCODING: &str = "grpc-encoding";
/// The flag and the length in front of a message.
pub(crate) const PREFIX: usize = 5;

/// Returns whether messages with these headers may be compressed so.
pub(crate) fn is_used(headers: &HeaderMap) -> bool {
    headers.get(ENCODING) == Some(&NAME)
}

/// Makes a body whose message is compressed one whose message is not, and takes the name out of the headers.
///
/// # Errors
///
/// If it is not one message, its compression is broken, or it is larger than `limit`.
pub(crate) fn take_off(
    headers: &mut HeaderMap,
    body: Bytes,
    limit: usize,
) -> Result<Bytes, Status> {
    headers.remove(ENCODING);
    let Some((&[flag, ref length @ ..], message)) = body.split_first_chunk::<PREFIX>() else {
        // Without a message, as replies that are only a status.
        return Ok(body);
    };
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(Status::internal("a call has one message, and this body is not one"));
    }
    if flag == 0 {
        return Ok(body);
    }
    let mut out = Vec::new();
    let mut decoder = snap::read::FrameDecoder::new(message).take(limit as u64 + 1);
    decoder
        .read_to_end(&mut out)
        .map_err(|error| Status::internal(format!("the message is not whole snappy: {error}")))?;
    if out.len() > limit {
        let problem = format!("the message, decompressed, is larger than max ({limit} bytes)");
        return Err(Status::resource_exhausted(problem));
    }
    Ok(framed(0, &out))
}

/// Makes a body whose message is not compressed one whose message is, and puts the name into the headers.
///
/// # Errors
///
/// If memory for it cannot be allocated.
fn put_on(headers: &mut HeaderMap, body: &Bytes) -> std::io::Result<Bytes> {
    let message = body.get(PREFIX..).unwrap_or_default();
    let mut encoder = snap::write::FrameEncoder::new(Vec::with_capacity(message.len() / 2));
    encoder.write_all(message)?;
    let compressed = encoder.into_inner().map_err(|error| error.into_error())?;
    headers.insert(ENCODING, NAME);
    Ok(framed(1, &compressed))
}

fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX + message.len());
    out.put_u8(flag);
    // gRPC has no larger ones, and our limits are below that.
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// A channel whose requests are compressed; replies may be, as gRPC's servers answer in kind.
#[derive(Clone)]
pub(crate) struct SnappyChannel(pub(crate) Channel);

/// How large a reply may be: it is a count and a sentence.
const MAX_REPLY: usize = 4 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Service<http::Request<Body>> for SnappyChannel {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context).map_err(Error::from)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ready = self.0.clone();
        let mut channel = std::mem::replace(&mut self.0, ready);
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = put_on(&mut head.headers, &body)?;
            let request = http::Request::from_parts(head, Body::new(Full::new(body)));
            let (mut head, body) = channel.call(request).await?.into_parts();
            if !is_used(&head.headers) {
                return Ok(http::Response::from_parts(head, body));
            }
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            let body = take_off(&mut head.headers, body.to_bytes(), MAX_REPLY)?;
            let body = Full::new(body).with_trailers(async move { trailers.map(Ok) });
            Ok(http::Response::from_parts(head, Body::new(body)))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use tonic::Code;

    use super::{framed, is_used, put_on, take_off};

    #[test]
    fn a_message_comes_back_as_it_was() {
        for message in [&b""[..], b"x", &[7; 300_000]] {
            let (mut headers, body) = (HeaderMap::new(), framed(0, message));
            let compressed = put_on(&mut headers, &body).unwrap();
            assert!(is_used(&headers));
            assert_eq!(take_off(&mut headers, compressed, 300_000).unwrap(), body);
            assert!(!is_used(&headers));
            assert_eq!(take_off(&mut headers, body.clone(), 300_000).unwrap(), body, "as it is");
        }
    }

    #[test]
    fn what_is_broken_or_grows_too_large_is_refused() {
        let mut headers = HeaderMap::new();
        let bomb = put_on(&mut headers, &framed(0, &[0; 1 << 20])).unwrap();
        let code = |body: Bytes| take_off(&mut HeaderMap::new(), body, 1000).unwrap_err().code();
        assert_eq!(code(bomb.clone()), Code::ResourceExhausted);
        assert_eq!(code(framed(1, b"no snappy")), Code::Internal);
        assert_eq!(code([&bomb[..], b"more"].concat().into()), Code::Internal);
    }
}
