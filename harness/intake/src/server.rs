//! The intake's HTTP server: Datadog's routes at their own paths, everything of ours below `/_intake/`.
//!
//! It keeps evidence and answers; it judges nothing. Whoever can reach it can read it: it asks for an API key where
//! Datadog does, and for nothing below `/_intake/`.

mod connection;
mod control;
mod control_error;
mod datadog;
mod events;
mod page;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use self::connection::ResettableListener;
pub(crate) use self::control::CountsAnswer;
use crate::{
    ApiKey,
    attempt::Attempt,
    decode::{DEFAULT_MAX_DECODED, Decoded},
    replies::Replies,
    store::{Bounds, Store},
    stream::EventId,
};

/// Settings of an intake.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen at, `host:port`; port 0 takes a free one.
    pub listen: String,
    /// The key that clients must send; `None` accepts any that is not empty.
    pub api_key: Option<ApiKey>,
    /// Bounds of the store.
    pub bounds: Bounds,
    /// Most bytes of a body as received; a larger one is answered 413. Datadog's limit by default.
    pub max_body: usize,
    /// Most bytes of a body once decompressed; a larger one is answered 400.
    pub max_decoded: usize,
    /// Time that a body may take to arrive; a slower one is answered 408.
    pub body_timeout: Duration,
    /// Time between heartbeats of the event stream.
    pub heartbeat: Duration,
    /// Time that requests in flight are given when the server stops.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8126".to_owned(),
            api_key: None,
            bounds: Bounds::default(),
            max_body: 3_200_000,
            max_decoded: DEFAULT_MAX_DECODED,
            body_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(1),
            drain: Duration::from_secs(5),
        }
    }
}

/// Error for an intake that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is in use.
    #[error(
        "cannot listen at {address}: the port is in use; stop the program that listens there, or pass another address with \
         --listen, which is --intake-listen of a run (port 0 takes a free one)"
    )]
    AddressInUse {
        /// Address as requested.
        address: String,
    },
    /// No such address, no permission, …
    #[error("cannot listen at {address}: {source}; pass a local `host:port` with --listen")]
    Bind {
        /// Address as requested.
        address: String,
        /// The system's word.
        source: io::Error,
    },
    /// The listener failed while running.
    #[error("the intake stopped serving: {0}")]
    Serve(io::Error),
}

/// An intake that is bound to its port and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    intake: Arc<Intake>,
}

impl Server {
    /// Binds the address that `settings` give, without serving yet.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound.
    pub async fn bind(settings: Settings) -> Result<Self, ServeError> {
        let address = settings.listen.clone();
        let bound = async {
            let listener = TcpListener::bind(&address).await?;
            let local = listener.local_addr()?;
            Ok::<_, io::Error>((listener, local))
        };
        match bound.await {
            Ok((listener, address)) => {
                Ok(Self { listener, address, intake: Arc::new(Intake::new(settings)) })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(ServeError::AddressInUse { address })
            }
            Err(source) => Err(ServeError::Bind { address, source }),
        }
    }

    /// Returns the bound address, with the port that was assigned.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done, then lets requests in flight finish for `settings.drain` at most.
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let Self { listener, intake, .. } = self;
        let stopping = intake.stopping.clone();
        // Requests in progress must not outlive `run`, even where it is dropped.
        let _stop = stopping.clone().drop_guard();
        let drain = intake.settings.drain;
        let routes: Router = control::routes().merge(datadog::routes()).with_state(intake);
        let serve = axum::serve(
            ResettableListener::new(listener),
            routes.into_make_service_with_connect_info::<connection::Resetter>(),
        )
        .with_graceful_shutdown(stopping.clone().cancelled_owned())
        .into_future();
        let mut serve = std::pin::pin!(serve);
        tokio::select! {
            served = &mut serve => return served.map_err(ServeError::Serve),
            () = shutdown => stopping.cancel(),
        }
        match tokio::time::timeout(drain, serve).await {
            Ok(served) => served.map_err(ServeError::Serve),
            Err(_) => {
                tracing::warn!(?drain, "requests were still in progress at the end");
                Ok(())
            }
        }
    }

    /// Serves in a task of its own until the handle is dropped. For tests, mostly.
    pub fn spawn(self) -> RunningServer {
        let address = self.address;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(self.run(stopped));
        RunningServer { address, stop, task }
    }
}

/// An intake that serves in a task of its own. Dropping it ends the intake at once.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ServeError>>,
}

impl RunningServer {
    /// Returns the intake's base URL: `http://<address>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the server gracefully.
    ///
    /// # Errors
    ///
    /// When it had failed before.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        self.stop.cancel();
        match (&mut self.task).await {
            Ok(served) => served,
            Err(error) => Err(ServeError::Serve(io::Error::other(error))),
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// State that all requests share.
#[derive(Debug)]
struct Intake {
    settings: Settings,
    instance: String,
    started: Instant,
    state: Mutex<State>,
    /// Number of the newest attempt; wakes the readers of the stream.
    newest: watch::Sender<u64>,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct State {
    store: Store,
    replies: Replies,
}

impl Intake {
    fn new(settings: Settings) -> Self {
        Self {
            instance: format!("{:016x}", rand::random::<u64>()),
            started: Instant::now(),
            state: Mutex::new(State {
                store: Store::new(settings.bounds),
                replies: Replies::default(),
            }),
            newest: watch::Sender::new(0),
            stopping: CancellationToken::new(),
            settings,
        }
    }

    /// No code that holds the lock can leave the state half-changed, so a panic elsewhere is no reason to stop.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the attempt its number and keeps it.
    fn record(&self, mut attempt: Attempt, decoded: Decoded) {
        let mut state = self.state();
        attempt.seq = state.store.newest() + 1;
        let (seq, method, path, reply) =
            (attempt.seq, attempt.method.clone(), attempt.path.clone(), attempt.reply);
        let reason = match &decoded {
            Decoded::Undecodable { reason } => Some(reason.clone()),
            _ => None,
        };
        let outcome = state.store.insert(attempt, decoded, Instant::now());
        // Under the lock, so that the numbers come in order.
        self.newest.send_replace(seq);
        drop(state);
        match reason {
            Some(reason) => tracing::warn!(seq, method, path, ?reply, reason, "unreadable body"),
            None => tracing::debug!(seq, method, path, ?reply, ?outcome, "attempt"),
        }
    }

    fn event_id(&self, seq: u64) -> EventId {
        EventId { instance: self.instance.clone(), seq }
    }
}

#[cfg(test)]
mod tests;
