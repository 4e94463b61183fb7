//! Stands between an SDK and the collector, hands every byte on, and keeps what the SDK sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A relay to one port, until it is stopped or dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
    accepting: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("the port is bound");
        let sent = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&sent);
        let accepting = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(relay(from, to, Arc::clone(&keep)));
            }
        });
        Self { address, sent, accepting }
    }

    /// All that was sent so far; of several connections, mixed as it came.
    pub(crate) fn stop(self) -> Vec<u8> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An error on either side ends both; the SDK then says what it misses.
async fn relay(from: TcpStream, to: SocketAddr, keep: Arc<Mutex<Vec<u8>>>) {
    let Ok(to) = TcpStream::connect(to).await else { return };
    let (mut requests, mut replies_out) = from.into_split();
    let (mut replies, mut requests_out) = to.into_split();
    let there = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = requests.read(&mut buffer).await {
            let bytes = &buffer[..read];
            keep.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            if requests_out.write_all(bytes).await.is_err() {
                break;
            }
        }
        // The reader of a connection that is gone does not care.
        let _ = requests_out.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut replies, &mut replies_out).await;
        let _ = replies_out.shutdown().await;
    };
    tokio::join!(there, back);
}
