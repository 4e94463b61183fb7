//! Connections of gRPC end when their settings say so.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{DEADLINE, intake, start};

/// First bytes of an HTTP/2 client: the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A request that ends with its head: POST, http and `/` from HPACK's static table.
const REQUEST: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x01\x83\x86\x84";

/// Returns whether the collector says GOAWAY and closes the connection after these bytes.
async fn is_closed(settings: &[&str], bytes: &[u8], within: Duration) -> bool {
    let parameters = "receivers.otlp.protocols.grpc.keepalive.server_parameters.";
    let settings: Vec<_> = settings.iter().map(|one| format!("{parameters}{one}")).collect();
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let rig = start(intake().await, &settings, DEADLINE).await;
    let mut stream = TcpStream::connect(rig.address("otlp-grpc")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(within, stream.read_to_end(&mut answer)).await;
    // Frames are: three bytes of length, then the type; 7 is GOAWAY.
    let mut frames = &answer[..];
    let mut said_so = false;
    while let [a, b, c, kind, rest @ ..] = frames {
        said_so |= *kind == 7;
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        frames = rest.get(5 + length..).unwrap_or_default();
    }
    let is_closed = ended.is_ok();
    assert!(!is_closed || said_so, "it was closed without a word: {answer:?}");
    is_closed
}

#[tokio::test]
async fn a_connection_ends_at_its_age_and_when_it_is_idle() {
    let used = [PREFACE, REQUEST].concat();
    // This client does not take part in a graceful end.
    let aged = ["max_connection_age=100ms", "max_connection_age_grace=100ms"];
    assert!(is_closed(&aged, PREFACE, DEADLINE).await);
    assert!(is_closed(&aged, &used, DEADLINE).await);
    assert!(is_closed(&["max_connection_idle=100ms"], &used, DEADLINE).await);
}

/// This client answers no ping.
#[tokio::test]
async fn a_client_that_does_not_answer_is_given_up() {
    let used = [PREFACE, REQUEST].concat();
    assert!(is_closed(&["time=100ms", "timeout=100ms"], &used, DEADLINE).await);
}

#[tokio::test]
async fn an_idle_connection_is_kept_by_default() {
    let used = [PREFACE, REQUEST].concat();
    assert!(!is_closed(&[], &used, Duration::from_millis(500)).await);
}
