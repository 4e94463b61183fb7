//! Connections that are closed without a reset.
//!
//! Closing a socket with bytes that nobody read sends RST, and RST takes from the peer what it has not read yet: the answer to its
//! request, or the GOAWAY that lists the requests to send again elsewhere. A peer that is still sending when a server ends a
//! connection for its age is in that case. So after the end of what is sent, what still comes is read and thrown away, until
//! the peer closes too or [`LIMIT`] is over; grpc-go does the same.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long the peer may take to close its side.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// A stream whose shutdown waits for the peer's.
pub(super) struct Lingering<S> {
    stream: S,
    /// Until when, once this side is closed.
    closed: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, closed: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, closed } = self.get_mut();
        let closed = match closed {
            Some(closed) => closed,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                closed.insert(Box::pin(sleep(LIMIT)))
            }
        };
        let mut bytes = [MaybeUninit::uninit(); 4096];
        while closed.as_mut().poll(cx).is_pending() {
            let mut bytes = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut bytes)) {
                Ok(()) if bytes.filled().is_empty() => break,
                Ok(()) => {}
                // It is gone; there is nothing left to wait for.
                Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_still_sends_reads_what_was_sent_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Lingering::new(listener.accept().await.unwrap().0);
        // More than the server ever reads, and there before it closes.
        peer.write_all(&[7; 10_000]).await.unwrap();
        server.write_all(b"the end").await.unwrap();
        let closing = tokio::spawn(async move { server.shutdown().await });
        let mut reported = Vec::new();
        timeout(LIMIT * 10, peer.read_to_end(&mut reported)).await.unwrap().unwrap();
        assert_eq!(reported, b"the end");
        // It may go on until it has taken note.
        peer.write_all(&[7; 10_000]).await.unwrap();
        drop(peer);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_close_is_not_waited_for_longer_than_the_limit() {
        let (server, mut peer) = tokio::io::duplex(64);
        let mut server = Lingering::new(server);
        let started = Instant::now();
        let endless = tokio::spawn(async move {
            while peer.write_all(&[7; 64]).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        server.shutdown().await.unwrap();
        assert!(
            started.elapsed() >= LIMIT && started.elapsed() < LIMIT * 2,
            "{:?}",
            started.elapsed()
        );
        endless.abort();
    }
}
