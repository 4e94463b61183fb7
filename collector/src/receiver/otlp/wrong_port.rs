//! Answers a sender whose protocol is that of another port.
//!
//! OTLP over HTTP that is sent to the port of gRPC, and the other way round, is the commonest mistake in a sender's settings.
//! It is refused with a status that no exporter takes for success nor sends again, counted, and named once in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};

use super::{Entry, sender_name};
use crate::extension::trace_ledger::Handle;
use crate::telemetry::Counter;

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// Answers for one port what came by the protocol of the other.
#[derive(Debug, Clone)]
pub(super) struct WrongPort {
    receiver: Arc<str>,
    port: Protocol,
    message: Arc<str>,
    malformed: Counter,
    ledger: Handle,
    was_reported: Arc<AtomicBool>,
}

impl WrongPort {
    /// Answers at a port of this protocol; `other` is the port of the other one, if the receiver has it.
    pub(super) fn new(receiver: &str, port: Protocol, other: Option<u16>, entry: &Entry) -> Self {
        let (takes, is_not, setting, to) = match port {
            Protocol::Grpc => ("gRPC", "is not gRPC", "grpc", "OTLP over HTTP"),
            Protocol::Http => ("HTTP", "is gRPC", "http/protobuf", "gRPC"),
        };
        let elsewhere = match (other, port) {
            (Some(port), _) => format!("or send {to} to port {port}"),
            (None, Protocol::Grpc) => {
                format!("or configure `receivers.{receiver}.protocols.http`")
            }
            (None, Protocol::Http) => {
                format!("or configure `receivers.{receiver}.protocols.grpc`")
            }
        };
        let message = format!(
            "this port takes OTLP over {takes}, and the request {is_not}: set OTEL_EXPORTER_OTLP_PROTOCOL={setting} where the spans are made, {elsewhere}"
        );
        Self {
            receiver: receiver.into(),
            port,
            message: message.into(),
            malformed: entry.malformed.clone(),
            ledger: entry.ledger.clone(),
            was_reported: Arc::default(),
        }
    }

    /// Counts a request of the other protocol, reports the first one in the log, and returns what to answer.
    pub(super) fn refuse(&self, headers: &HeaderMap) -> &str {
        self.malformed.add(1);
        if let Some(ledger) = &self.ledger {
            // By the protocol that it speaks.
            let transport = if self.port == Protocol::Grpc { "http" } else { "grpc" };
            ledger.wrong_port(&sender_name(transport, headers));
        }
        if !self.was_reported.swap(true, Ordering::Relaxed) {
            let text = |value: Option<&HeaderValue>| {
                value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            tracing::warn!(
                receiver = &*self.receiver,
                port = ?self.port,
                sender = text(headers.get(USER_AGENT)).unwrap_or_default(),
                content_type = text(headers.get(CONTENT_TYPE)).unwrap_or_default(),
                "traces are refused: {} (further requests like this are only counted)",
                self.message
            );
        }
        &self.message
    }
}

/// Returns whether a request is one of gRPC, by its content type.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
        && matches!(kind.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}
