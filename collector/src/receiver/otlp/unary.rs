//! A gRPC call with one message that is not compressed, as nearly all are: read into one buffer and answered without a codec in between.
//! Compressed ones go through tonic.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use tonic::Status;
use tonic::body::Body;

/// Length of the prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Memory that is taken for a message before it is there.
const AHEAD: usize = 256 << 10;

/// Returns whether the messages of a call are not compressed.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    headers.get("grpc-encoding").is_none_or(|encoding| encoding == "identity")
}

/// Reads the message of a call, of at most `limit` bytes.
pub(super) async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, Status>
where
    B: hyper::body::Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>> + Unpin,
{
    let mut message = Message { limit, ..Message::default() };
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        // Behind the data there may be trailers, which say nothing here.
        if let Ok(data) = frame.map_err(Status::from_error)?.into_data() {
            message.add(&data)?;
        }
    }
    message.whole()
}

/// The answer OK, with its message.
pub(super) fn reply(message: &[u8]) -> http::Response<Body> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let data = match message {
        [] => Bytes::from_static(&[0; PREFIX]),
        message => [&[0], &length[..], message].concat().into(),
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(data).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = http::Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A message that is arriving.
#[derive(Default)]
struct Message {
    limit: usize,
    prefix: Vec<u8>,
    /// Its length, once its prefix is there.
    length: usize,
    bytes: Vec<u8>,
}

impl Message {
    fn add(&mut self, mut data: &[u8]) -> Result<(), Status> {
        if self.prefix.len() < PREFIX {
            let (prefix, rest) = data.split_at(data.len().min(PREFIX - self.prefix.len()));
            self.prefix.extend_from_slice(prefix);
            data = rest;
            if let [flag, length @ ..] = &*self.prefix
                && let Ok(length) = length.try_into()
            {
                self.length = self.announced(*flag, u32::from_be_bytes(length))?;
            }
        }
        let missing = self.length - self.bytes.len();
        // Nothing of a call is taken that is not one.
        if data.len() > missing {
            return Err(Status::internal("the call has more than one message"));
        }
        let room = self.bytes.capacity() - self.bytes.len();
        if room < data.len() {
            // Memory follows what comes, and not what is announced; in the end it is not more than that.
            let more = data.len().max(self.bytes.len()).max(AHEAD);
            self.bytes.reserve_exact(more.min(missing));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn announced(&self, flag: u8, length: u32) -> Result<usize, Status> {
        match flag {
            0 => {}
            1 => {
                return Err(Status::internal(
                    "the message is compressed, and the call has no `grpc-encoding` that says how",
                ));
            }
            flag => {
                let problem = format!("a message begins with 0 or 1, and not with {flag}");
                return Err(Status::internal(problem));
            }
        }
        let (length, limit) = (length as usize, self.limit);
        match length <= limit {
            true => Ok(length),
            // tonic's words.
            false => Err(Status::resource_exhausted(format!(
                "Error, decoded message length too large: found {length} bytes, the limit is: {limit} bytes"
            ))),
        }
    }

    fn whole(self) -> Result<Bytes, Status> {
        match (self.prefix.len(), self.bytes.len()) {
            (0, _) => Err(Status::internal("the call has no message")),
            (PREFIX, length) if length == self.length => Ok(self.bytes.into()),
            (_, length) => Err(Status::internal(format!(
                "the call ends within its message, of which {length} bytes came"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;
    use tonic::Code;

    use super::{AHEAD, Message, read, reply};

    fn framed(flag: u8, announced: u32, message: &[u8]) -> Vec<u8> {
        [&[flag], &announced.to_be_bytes()[..], message].concat()
    }

    /// Reads a body that comes in pieces of this size.
    async fn read_in(pieces: usize, body: &[u8], limit: usize) -> Result<Bytes, tonic::Status> {
        let pieces: Vec<_> = body.chunks(pieces).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
        read(StreamBody::new(stream::iter(frames)), limit).await
    }

    #[tokio::test]
    async fn a_message_is_read_whole_in_whatever_pieces_it_comes() {
        let message: Vec<u8> = (0..700_000_u32).map(|number| number as u8).collect();
        let body = framed(0, 700_000, &message);
        for pieces in [1 << 10, 16_384, body.len()] {
            assert_eq!(read_in(pieces, &body, 700_000).await.unwrap(), message);
        }
        for pieces in 1..9 {
            assert_eq!(read_in(pieces, &framed(0, 3, b"abc"), 3).await.unwrap(), "abc");
        }
        assert_eq!(read_in(9, &framed(0, 0, b""), 0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn what_is_not_one_message_is_refused() {
        let two = [framed(0, 1, b"a"), framed(0, 1, b"b")].concat();
        for (body, code, text) in [
            (vec![], Code::Internal, "the call has no message"),
            (vec![0, 0], Code::Internal, "the call ends within"),
            (framed(0, 4, b"abc"), Code::Internal, "the call ends within"),
            (two, Code::Internal, "the call has more than one message"),
            (framed(0, 0, b"a"), Code::Internal, "the call has more than one message"),
            (
                framed(0, 11, b""),
                Code::ResourceExhausted,
                "Error, decoded message length too large",
            ),
            (framed(1, 1, b"a"), Code::Internal, "the message is compressed"),
            (framed(7, 1, b"a"), Code::Internal, "a message begins with 0 or 1, and not with 7"),
        ] {
            for pieces in [1, 2, 100] {
                let status = read_in(pieces, &body, 10).await.unwrap_err();
                assert_eq!(status.code(), code, "{body:?}: {status:?}");
                assert!(status.message().starts_with(text), "{body:?}: {status:?}");
            }
        }
    }

    #[test]
    fn what_is_announced_and_does_not_come_takes_little_memory() {
        let mut message = Message { limit: usize::MAX, ..Message::default() };
        message.add(&framed(0, u32::MAX, &[1; 100])).unwrap();
        assert!(message.bytes.capacity() <= AHEAD);
        message.add(&vec![1; 4 * AHEAD]).unwrap();
        assert!(message.bytes.capacity() <= 5 * AHEAD);
    }

    #[tokio::test]
    async fn a_reply_has_its_message_and_then_the_status() {
        for message in [&b""[..], b"warning"] {
            let body = reply(message).into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(body.to_bytes(), framed(0, message.len() as u32, message));
        }
    }
}
