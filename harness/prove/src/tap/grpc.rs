//! The little of gRPC that a tap needs: the frame around a message, and answers of its own.

use axum::{body::Body, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full};

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// gRPC's number for what may work at another time.
const UNAVAILABLE: u8 = 14;
/// gRPC's number for what was sent wrongly.
const INVALID_ARGUMENT: u8 = 3;

/// Returns whether a request is one of gRPC.
pub(super) fn is(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// The only message of a body, and whether it is compressed.
pub(super) fn unframed(body: &[u8]) -> Option<(bool, &[u8])> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    (usize::try_from(length).ok()? == message.len()).then_some((prefix[0] != 0, message))
}

/// A body of one message, which is not compressed.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(PREFIX + message.len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.put_slice(message);
    body.freeze()
}

fn answer() -> http::response::Builder {
    Response::builder().header(header::CONTENT_TYPE, "application/grpc")
}

/// An empty message, and that all is well.
pub(super) fn done() -> Response {
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(framed(&[])).with_trailers(async move { Some(Ok(trailers)) });
    answer().body(Body::new(body)).unwrap_or_default()
}

/// That it was not taken: for good where an HTTP status says so, else for now.
pub(super) fn refused(status: StatusCode) -> Response {
    let number = if status.is_client_error() { INVALID_ARGUMENT } else { UNAVAILABLE };
    answer().header("grpc-status", number.to_string()).body(Body::empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_its_frame_comes_out_again_and_a_torn_one_does_not() {
        let body = framed(b"spans");
        assert_eq!(unframed(&body), Some((false, &b"spans"[..])));
        assert_eq!(unframed(&body[..7]), None);
        assert_eq!(unframed(&[]), None);
    }
}
