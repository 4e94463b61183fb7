//! Receives OTLP over gRPC and HTTP.
//!
//! Both protocols decode into a [`TraceBatch`] and offer it to the pipelines; they differ in how they say what became of
//! it. OK is said only for what a pipeline holds.

pub(crate) mod arrival;
pub(crate) mod config;
mod cors;
mod grpc;
mod grpc_timeout;
mod http;
mod let_in;
mod wrong_port;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use config::Config;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::consumer::{Consumer, Refused};
use crate::extension::authenticator::Authenticator;
use crate::extension::credentials::NotAuthentic;
use crate::extension::trace_ledger::Handle;
use crate::sender::{Peer, Sender};
use crate::server::{self, BindError, Bound};
use crate::settings::ComponentId;
use crate::telemetry::{Counter, Registry};
use crate::tls::reload::Server;
use crate::tls::{ServerTls, TlsError};
use crate::trace_batch::TraceBatch;
use crate::trace_batch::wire::put_bytes;
use arrival::{Broken, Room};
use let_in::{Door, Guard};
use wrong_port::{Protocol, WrongPort};

/// How long a sender waits for the result where it waits (`wait_for_result`); most give up much earlier.
const MAX_WAIT_FOR_RESULT: Duration = Duration::from_secs(600);

/// Context of a receiver besides its settings.
pub(crate) struct Surroundings {
    pub(crate) ledger: Handle,
    pub(crate) authenticators: BTreeMap<ComponentId, Authenticator>,
    pub(crate) shutdown: CancellationToken,
    /// Cancelled when those who are held are to be refused.
    pub(crate) no_more_time: CancellationToken,
}

/// A receiver whose ports are bound.
pub(crate) struct Receiver {
    id: String,
    config: Config,
    grpc: Option<Bound>,
    http: Option<Bound>,
}

/// Error for a receiver that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiverError {
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("receiver `{id}`: `tls`: {error}")]
    Tls { id: String, error: TlsError },
}

impl Receiver {
    /// Binds the ports of a receiver.
    pub(crate) async fn bind(id: &str, config: Config) -> Result<Self, ReceiverError> {
        let key = |protocol: &str| format!("receivers.{id}.protocols.{protocol}.endpoint");
        let tls = |tls: &Option<ServerTls>, alpn: &[&[u8]]| {
            let server = tls.as_ref().map(|tls| Server::read(tls, alpn)).transpose();
            server.map_err(|error| ReceiverError::Tls { id: id.into(), error })
        };
        let grpc = match &config.protocols.grpc {
            Some(grpc) => {
                let bound = server::bind(&grpc.endpoint, &key("grpc")).await?;
                Some(bound.with_tls(tls(&grpc.tls, &[b"h2"])?))
            }
            None => None,
        };
        let http = match &config.protocols.http {
            Some(http) => {
                let bound = server::bind(&http.endpoint, &key("http")).await?;
                Some(bound.with_tls(tls(&http.tls, &[b"h2", b"http/1.1"])?))
            }
            None => None,
        };
        Ok(Self { id: id.into(), config, grpc, http })
    }

    /// The bound ports by name.
    pub(crate) fn ports(&self) -> Vec<(String, std::net::SocketAddr)> {
        let port = |name: &str, bound: &Option<Bound>| {
            bound.as_ref().map(|bound| (format!("{}-{name}", self.id), bound.address))
        };
        [port("grpc", &self.grpc), port("http", &self.http)].into_iter().flatten().collect()
    }

    /// Serves until `shutdown`, then until the requests in flight are answered; those that are still held at `no_more_time` are
    /// refused then.
    pub(crate) async fn serve(
        self,
        registry: &Registry,
        to: Arc<dyn Consumer>,
        around: Surroundings,
    ) {
        let Surroundings { ledger, authenticators, shutdown, no_more_time } = around;
        let room = Room::new(self.config.largest_request());
        let entry = |transport, keeps_metadata, auth: &Option<config::Auth>| {
            let entry = Entry::new(registry, &self.id, transport, Arc::clone(&to), room.clone());
            let guard = Guard::find(auth.as_ref(), &authenticators);
            let door = Door::new(registry, &self.id, transport, guard, keeps_metadata);
            let (ledger, no_more_time) = (ledger.clone(), no_more_time.clone());
            Entry { ledger, no_more_time, door, ..entry }
        };
        let port = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.address.port());
        let (grpc_port, http_port) = (port(&self.grpc), port(&self.http));
        let tls_key = |protocol: &str| format!("receivers.{}.protocols.{protocol}.tls", self.id);
        let grpc = self.grpc.zip(self.config.protocols.grpc.as_ref()).map(|(bound, config)| {
            let limits = config.limits();
            let entry = entry("grpc", config.include_metadata, &config.auth);
            let wrong = WrongPort::new(&self.id, Protocol::Grpc, http_port, &entry);
            let bound = bound.following_tls(registry, &tls_key("grpc"));
            let bound = bound.counting_large_heads(entry.malformed.clone());
            server::serve(bound, grpc::service(config, entry, wrong), limits, shutdown.clone())
        });
        let http = self.http.zip(self.config.protocols.http.as_ref()).map(|(bound, config)| {
            let limits = server::Limits::default();
            let entry = entry("http", config.include_metadata, &config.auth);
            let wrong = WrongPort::new(&self.id, Protocol::Http, grpc_port, &entry);
            let bound = bound.following_tls(registry, &tls_key("http"));
            let bound = bound.counting_large_heads(entry.malformed.clone());
            server::serve(bound, http::service(config, entry, wrong), limits, shutdown.clone())
        });
        drop(to);
        match (grpc, http) {
            (Some(grpc), Some(http)) => {
                tokio::join!(grpc, http);
            }
            (Some(grpc), None) => grpc.await,
            (None, Some(http)) => http.await,
            (None, None) => {}
        }
    }
}

/// The way from a protocol into the pipelines.
#[derive(Clone)]
struct Entry {
    to: Arc<dyn Consumer>,
    room: Room,
    ledger: Handle,
    door: Door,
    transport: &'static str,
    accepted: Counter,
    refused: Counter,
    failed: Counter,
    refused_requests: Counter,
    malformed: Counter,
    empty: Counter,
    empty_was_reported: Arc<AtomicBool>,
    no_more_time: CancellationToken,
}

/// The longest name of a sender that is kept, in bytes.
const LONGEST_NAME: usize = 200;

/// Returns a sender's name of itself, and the protocol by which it came: `OTel-OTLP-Exporter-JavaScript/0.301.0 (http)`.
fn sender_name(transport: &str, headers: &::http::HeaderMap) -> String {
    let agent = headers.get(::http::header::USER_AGENT).map(::http::HeaderValue::as_bytes);
    let agent = String::from_utf8_lossy(agent.unwrap_or(b"unnamed"));
    let end = agent.floor_char_boundary(LONGEST_NAME);
    format!("{} ({transport})", &agent[..end])
}

/// Message, beside OK, for a request without any span.
const EMPTY: &str = "the request has no spans: see that it has `resourceSpans`, and in them `scopeSpans` and `spans`";

/// An `ExportTraceServiceResponse`: empty, or with a warning in a partial success that rejects nothing.
fn partial_success(warning: Option<&str>) -> Vec<u8> {
    let (mut partial, mut response) = (Vec::new(), Vec::new());
    if let Some(warning) = warning {
        put_bytes(&mut partial, 2, warning.as_bytes());
        put_bytes(&mut response, 1, &partial);
    }
    response
}

impl Entry {
    fn new(
        registry: &Registry,
        id: &str,
        transport: &'static str,
        to: Arc<dyn Consumer>,
        room: Room,
    ) -> Self {
        let labels = [("receiver", id), ("transport", transport)];
        Self {
            to,
            room,
            ledger: None,
            door: Door::open(registry, id, transport),
            transport,
            accepted: registry.counter(
                "otelcol_receiver_accepted_spans",
                "Number of spans successfully pushed into the pipeline.",
                &labels,
            ),
            refused: registry.counter(
                "otelcol_receiver_refused_spans",
                "Number of spans that could not be pushed into the pipeline.",
                &labels,
            ),
            failed: registry.counter(
                "otelcol_receiver_failed_spans",
                "Number of spans that the receiver could not hand on because a part of the collector has ended or its storage cannot be written.",
                &labels,
            ),
            refused_requests: registry.counter(
                "otelcol_receiver_refused_requests",
                "Number of requests that could not be pushed into the pipeline.",
                &labels,
            ),
            malformed: registry.counter(
                "otelcol_receiver_malformed_requests",
                "Number of requests that are not OTLP, too large or cut short.",
                &labels,
            ),
            empty: registry.counter(
                "otelcol_receiver_empty_requests",
                "Number of requests that have no spans.",
                &labels,
            ),
            empty_was_reported: Arc::default(),
            no_more_time: CancellationToken::new(),
        }
    }

    /// Counts a request that did not arrive whole. How many spans it has is unknown.
    fn count_broken(&self, broken: Broken) {
        match broken {
            Broken::TooSlow | Broken::GivenUp => self.malformed.add(1),
            Broken::NoRoom => self.refused_requests.add(1),
        }
    }

    /// Returns the sender of a request, if it may send.
    async fn sender(
        &self,
        headers: &::http::HeaderMap,
        uri: &::http::Uri,
        peer: Peer,
    ) -> Result<Sender, NotAuthentic> {
        let context = self.door.let_in(headers, uri).await.inspect_err(|error| {
            self.refused_requests.add(1);
            if let Some(ledger) = &self.ledger {
                ledger.unauthenticated(&sender_name(self.transport, headers), error.reason());
            }
        })?;
        let head = self.ledger.as_ref().map(|_| Box::new(headers.clone()));
        Ok(Sender { head, context, ..Sender::new(peer) })
    }

    /// Offers a request to all pipelines: held by all, or refused. Gives a warning for its sender, if there is one.
    async fn offer_request(
        &self,
        request: TraceBatch,
        sender: &Sender,
    ) -> Result<Option<Cow<'static, str>>, Refused> {
        let (spans, without_ids) = (request.span_count(), request.without_ids());
        if spans > 0 {
            self.offer(request, sender).await?;
            return Ok((without_ids > 0).then(|| {
                format!("{without_ids} of {spans} spans have a trace id or a span id of zeros, or none, and belong to no trace: Datadog's exporter drops them").into()
            }));
        }
        self.empty.add(1);
        if !self.empty_was_reported.swap(true, Ordering::Relaxed) {
            tracing::warn!("{EMPTY} (further requests like this are only counted)");
        }
        Ok(Some(EMPTY.into()))
    }

    async fn offer(&self, batch: TraceBatch, sender: &Sender) -> Result<(), Refused> {
        let spans = batch.span_count();
        let entered = self.ledger.as_ref().map(|ledger| (ledger, batch.clone()));
        let reported = self.ledger.as_ref().zip(sender.head.as_deref());
        let room = match reported.and_then(|(ledger, head)| ledger.scripted(head)) {
            Some(reply) => Err(Refused::Scripted(reply)),
            None => tokio::select! {
                biased;
                room = self.to.reserve(batch, sender) => room,
                // Whoever is held hears so while there is time.
                () = self.no_more_time.cancelled() => Err(Refused::Closed),
            },
        };
        match room {
            Ok(commit) => {
                // Counted first, so that nothing downstream is ever ahead of what was accepted.
                self.accepted.add(spans);
                if let Some((ledger, batch)) = &entered {
                    ledger.accepted(batch);
                }
                let mut outcome = Ok(());
                let longest = Instant::now() + MAX_WAIT_FOR_RESULT;
                let deadline = sender.gives_up.map_or(longest, |gives_up| gives_up.min(longest));
                // All are waited for: what one exporter drops, another may still have to send.
                for answer in commit() {
                    let one = match timeout_at(deadline, answer).await {
                        Ok(Ok(Ok(()))) => Ok(()),
                        Ok(Ok(Err(failure))) if failure.may_come_again => {
                            Err(Refused::Unsent(failure.reason))
                        }
                        Ok(Ok(Err(failure))) => Err(Refused::Dropped(failure.reason)),
                        Ok(Err(_)) => Err(Refused::Closed),
                        Err(_) => Err(Refused::Undecided),
                    };
                    outcome = outcome.and(one);
                }
                outcome
            }
            Err(refused) => {
                match refused {
                    Refused::Storage | Refused::Closed => self.failed.add(spans),
                    _ => self.refused.add(spans),
                }
                if let Some((ledger, batch)) = &entered {
                    let name = sender.head.as_deref().map(|head| sender_name(self.transport, head));
                    ledger.refused(batch, &name.unwrap_or_default());
                }
                self.refused_requests.add(1);
                Err(refused)
            }
        }
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use super::{Broken, Entry, Room};
    use crate::consumer::{Commit, Consumer, Needs, Refused};
    use crate::exporter::queue::faulty::batch;
    use crate::hold::{Hold, Note};
    use crate::sender::{Peer, Sender};
    use crate::telemetry::Registry;
    use crate::trace_batch::TraceBatch;

    struct Refuses(Refused);

    #[async_trait]
    impl Consumer for Refuses {
        async fn reserve(&self, _: TraceBatch, _: &Sender) -> Result<Commit, Refused> {
            Err(self.0.clone())
        }

        fn needs(&self) -> Needs {
            Needs::default()
        }

        async fn note(&self, _: &TraceBatch, _: &Sender) -> Result<Vec<Note>, Refused> {
            Err(self.0.clone())
        }

        async fn deliver(&self, _: TraceBatch) -> Result<(), Refused> {
            Err(self.0.clone())
        }
    }

    /// Takes what it is offered, and does not say what becomes of it.
    #[derive(Default)]
    struct Undecided(std::sync::Mutex<Vec<Arc<Hold>>>);

    #[async_trait]
    impl Consumer for Undecided {
        async fn reserve(&self, batch: TraceBatch, _: &Sender) -> Result<Commit, Refused> {
            let note = Note::new("slow".into(), batch.span_count(), false, None, true);
            let (hold, answer) = note.keep();
            self.0.lock().unwrap().push(hold);
            Ok(Box::new(move || answer.into_iter().collect()))
        }

        fn needs(&self) -> Needs {
            Needs::default()
        }

        async fn note(&self, _: &TraceBatch, _: &Sender) -> Result<Vec<Note>, Refused> {
            Ok(Vec::new())
        }

        async fn deliver(&self, _: TraceBatch) -> Result<(), Refused> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_result_is_answered_when_it_gives_up_or_after_ten_minutes() {
        let next = Arc::new(Undecided::default());
        let registry = Registry::default();
        let entry = Entry::new(&registry, "otlp", "http", next, Room::new(0));
        for (timeout, waits) in [(None, 600), (Some(3600), 600), (Some(10), 10)] {
            let sender = Sender::new(Peer::UNKNOWN).within(timeout.map(Duration::from_secs));
            let begun = Instant::now();
            assert_eq!(entry.offer(batch(1, 3), &sender).await, Err(Refused::Undecided));
            assert_eq!(begun.elapsed(), Duration::from_secs(waits));
        }
        // They are counted as what they are: taken, and not refused.
        let counters = [&entry.accepted, &entry.refused, &entry.refused_requests];
        assert_eq!(counters.map(|counter| counter.value()), [9, 0, 0]);
    }

    #[test]
    fn what_did_not_arrive_is_counted_as_a_request_and_not_as_spans() {
        for (why, counted) in
            [(Broken::TooSlow, [1, 0]), (Broken::GivenUp, [1, 0]), (Broken::NoRoom, [0, 1])]
        {
            let (registry, next) = (Registry::default(), Arc::new(Refuses(Refused::Full)));
            let entry = Entry::new(&registry, "otlp", "http", next, Room::new(0));
            entry.count_broken(why);
            let counters = [&entry.malformed, &entry.refused_requests];
            assert_eq!(counters.map(|counter| counter.value()), counted, "{why:?}");
            let of_spans = [&entry.refused, &entry.failed, &entry.accepted];
            assert_eq!(of_spans.map(|counter| counter.value()), [0; 3], "{why:?}");
        }
    }

    #[tokio::test]
    async fn what_is_broken_is_counted_apart_from_what_has_no_room() {
        let cases = [
            (Refused::Full, [3, 0]),
            (Refused::NoRoom, [3, 0]),
            (Refused::Memory, [3, 0]),
            (Refused::Storage, [0, 3]),
            (Refused::Closed, [0, 3]),
        ];
        for (why, counted) in cases {
            let registry = Registry::default();
            let next = Arc::new(Refuses(why.clone()));
            let entry = Entry::new(&registry, "otlp", "grpc", next, Room::new(0));
            let sender = Sender::new(Peer::UNKNOWN);
            assert_eq!(entry.offer(batch(1, 3), &sender).await, Err(why.clone()));
            let counters =
                [&entry.refused, &entry.failed, &entry.refused_requests, &entry.accepted];
            let [refused, failed] = counted;
            assert_eq!(counters.map(|counter| counter.value()), [refused, failed, 1, 0], "{why:?}");
        }
    }
}
