//! The harness's view of a mock intake: its own copy of everything recorded, pushed, never polled.
//!
//! A background task follows the event stream through dropped connections. What could not be followed is a `Gap`,
//! which makes verdicts inconclusive; nothing is silently missing.

mod follow;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinHandle, time::timeout_at};

use crate::{
    attempt::Attempt,
    decode::DEFAULT_MAX_DECODED,
    replies::Script,
    server::CountsAnswer,
    store::{Bounds, Counts, Store},
    stream::{EventId, Gap, GapReason},
};
use harness_core::trace::{Trace, TraceId};

/// Settings of a client.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bounds of the client's copy.
    pub bounds: Bounds,
    /// Most bytes of a body once decompressed.
    pub max_decoded: usize,
    /// Time for the first connection, and for each request of the control API.
    pub timeout: Duration,
    /// The stream is taken for dead after so long without any event; the intake sends a heartbeat each second.
    pub silence: Duration,
    /// Longest wait between two tries to connect again.
    pub max_backoff: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bounds: Bounds { max_bytes: 1 << 30, max_attempts: 1_000_000 },
            max_decoded: DEFAULT_MAX_DECODED,
            timeout: Duration::from_secs(10),
            silence: Duration::from_secs(5),
            max_backoff: Duration::from_secs(1),
        }
    }
}

/// Error of a request to the intake.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The HTTP client could not be made, or the URL is none.
    #[error("cannot set up a client for the intake at {url}: {source}")]
    Setup {
        /// Base URL.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The intake did not begin its stream in time.
    #[error("the intake at {url} did not begin its event stream within {timeout:?}: {last}")]
    NoStream {
        /// Base URL.
        url: String,
        /// The limit.
        timeout: Duration,
        /// The result of the last try.
        last: String,
    },
    /// The intake could not be reached, or its response could not be read.
    #[error("{method} {url} failed: {source}")]
    Request {
        /// HTTP method.
        method: &'static str,
        /// Full URL.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The intake refused the request.
    #[error("{method} {url} was answered {status}: {body}")]
    Refused {
        /// HTTP method.
        method: &'static str,
        /// Full URL.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its message.
        body: String,
    },
    /// The own copy is behind at the deadline.
    #[error(
        "the copy of the intake's evidence lags behind: it has {own} attempts of {theirs} after {waited:?} ({stream})"
    )]
    Behind {
        /// Number of the newest attempt here.
        own: u64,
        /// Number of the newest attempt there.
        theirs: u64,
        /// Time waited.
        waited: Duration,
        /// State of the stream.
        stream: String,
    },
}

/// Follows one intake. Dropping it ends the following.
#[derive(Debug)]
pub struct IntakeClient {
    url: String,
    http: reqwest::Client,
    settings: Settings,
    copy: Arc<Copy>,
    task: JoinHandle<()>,
}

/// State that the background task writes and the client reads.
#[derive(Debug)]
struct Copy {
    state: Mutex<State>,
    /// Number of changes; wakes whoever waits for one.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    store: Store,
    gaps: Vec<Gap>,
    /// The place in the stream, once there is one.
    place: Option<EventId>,
    stream: Stream,
    /// Times that a stream was begun.
    connections: u64,
}

/// State of the stream, for messages.
#[derive(Debug)]
enum Stream {
    Following,
    Broken { why: String },
}

impl Copy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes those who wait.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.send_modify(|changes| *changes += 1);
        done
    }
}

impl State {
    /// Number of the newest attempt here; 0 where there is none.
    fn seq(&self) -> u64 {
        self.place.as_ref().map_or(0, |place| place.seq)
    }

    fn has_reached(&self, theirs: &CountsAnswer) -> bool {
        let place = self.place.as_ref();
        place.is_some_and(|place| place.instance == theirs.instance && place.seq >= theirs.seq)
    }

    /// A reader's own bound loses evidence like any other.
    fn note_dropped(&mut self) {
        let Some(place) = &self.place else { return };
        let (Some(oldest), dropped) = (self.store.oldest(), self.store.counts().dropped.attempts)
        else {
            return;
        };
        if dropped == 0 {
            return;
        }
        let gap = Gap {
            instance: place.instance.clone(),
            from: 1,
            to: Some(oldest.saturating_sub(1)),
            reason: GapReason::NotKeptByReader,
        };
        match self.gaps.iter_mut().find(|gap| gap.reason == GapReason::NotKeptByReader) {
            Some(known) => *known = gap,
            None => self.gaps.push(gap),
        }
    }
}

impl IntakeClient {
    /// Connects to the intake at `url` (`http://host:port`) and returns once its event stream has begun.
    ///
    /// # Errors
    ///
    /// If the stream does not begin within `settings.timeout`, or the URL is invalid.
    pub async fn connect(url: &str, settings: Settings) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/').to_owned();
        let setup = |source| ClientError::Setup { url: url.clone(), source };
        let http = harness_core::http::client()
            .connect_timeout(settings.timeout)
            .build()
            .map_err(setup)?;
        http.get(&url).build().map_err(setup)?;
        let copy = Arc::new(Copy {
            state: Mutex::new(State {
                store: Store::new(settings.bounds),
                gaps: Vec::new(),
                place: None,
                stream: Stream::Broken { why: "not connected yet".to_owned() },
                connections: 0,
            }),
            changed: watch::Sender::new(0),
        });
        let following = follow::follow(http.clone(), url.clone(), settings, Arc::clone(&copy));
        let client = Self { task: tokio::spawn(following), url, http, settings, copy };
        let began =
            client.wait(Instant::now() + settings.timeout, |state| state.place.is_some()).await;
        if began {
            return Ok(client);
        }
        Err(ClientError::NoStream {
            url: client.url.clone(),
            timeout: settings.timeout,
            last: client.stream(),
        })
    }

    /// Returns the intake's base URL, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Assembles the trace from the spans accepted for `id` so far; `None` if there are none.
    pub fn trace(&self, id: TraceId) -> Option<Trace> {
        self.copy.state().store.trace(id)
    }

    /// Returns the ids of all traces captured so far, in no particular order.
    pub fn trace_ids(&self) -> Vec<TraceId> {
        self.copy.state().store.trace_ids().collect()
    }

    /// Returns the counts of the own copy.
    pub fn counts(&self) -> Counts {
        self.copy.state().store.counts().clone()
    }

    /// Returns the gaps of the own copy. Where there are any, absence cannot be distinguished from loss.
    pub fn gaps(&self) -> Vec<Gap> {
        self.copy.state().gaps.clone()
    }

    /// Returns all attempts in the client's copy, oldest first.
    pub fn attempts(&self) -> Vec<Arc<Attempt>> {
        let state = self.copy.state();
        state.store.entries().map(|entry| Arc::clone(&entry.attempt)).collect()
    }

    /// Returns when the client received an attempt; `None` if its copy does not have it.
    pub fn received_at(&self, seq: u64) -> Option<Instant> {
        self.copy.state().store.entry(seq).map(|entry| entry.received)
    }

    /// Calls `read` with the client's copy, which must return quickly, since the copy is locked meanwhile.
    pub fn with_store<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.copy.state().store)
    }

    /// Wakes on each attempt and each gap. What came before the call does not wake it: look first, then wait.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.copy.changed.subscribe()
    }

    /// Returns how often the event stream was opened: 1 if its connection was never lost.
    pub fn connections(&self) -> u64 {
        self.copy.state().connections
    }

    /// Describes the state of the event stream, for messages.
    pub fn stream(&self) -> String {
        match &self.copy.state().stream {
            Stream::Following => "the event stream is being followed".to_owned(),
            Stream::Broken { why } => format!("the event stream is broken: {why}"),
        }
    }

    /// Scripts a reply.
    ///
    /// # Errors
    ///
    /// When the intake cannot be reached or refuses the script, naming the field.
    pub async fn script_reply(&self, script: &Script) -> Result<(), ClientError> {
        let url = format!("{}/_intake/replies", self.url);
        self.send("POST", &url, self.http.post(&url).json(script)).await.map(drop)
    }

    /// Clears all scripted replies.
    ///
    /// # Errors
    ///
    /// When the intake cannot be reached.
    pub async fn clear_replies(&self) -> Result<(), ClientError> {
        let url = format!("{}/_intake/replies", self.url);
        self.send("DELETE", &url, self.http.delete(&url)).await.map(drop)
    }

    /// Returns the intake's own counts.
    ///
    /// # Errors
    ///
    /// When the intake cannot be reached.
    pub async fn server_counts(&self) -> Result<Counts, ClientError> {
        self.ask_counts().await.map(|answer| answer.counts)
    }

    async fn ask_counts(&self) -> Result<CountsAnswer, ClientError> {
        let url = format!("{}/_intake/counts", self.url);
        let response = self.send("GET", &url, self.http.get(&url)).await?;
        response.json().await.map_err(|source| ClientError::Request { method: "GET", url, source })
    }

    async fn send(
        &self,
        method: &'static str,
        url: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let sent = request.timeout(self.settings.timeout).send().await;
        let response =
            sent.map_err(|source| ClientError::Request { method, url: url.to_owned(), source })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(ClientError::Refused {
            method,
            url: url.to_owned(),
            status: response.status().as_u16(),
            body: response.text().await.unwrap_or_default(),
        })
    }

    /// Waits until the own copy has all that the intake had recorded when this was called.
    ///
    /// # Errors
    ///
    /// When the intake cannot be asked, or the copy is still behind after `limit`.
    pub async fn drain(&self, limit: Duration) -> Result<(), ClientError> {
        let began = Instant::now();
        let theirs = self.ask_counts().await?;
        match self.wait(began + limit, |state| state.has_reached(&theirs)).await {
            true => Ok(()),
            false => Err(self.behind(&theirs, began)),
        }
    }

    /// Waits, as long as the own copy grows, until it has all that the intake had recorded when this was called: an intake that was
    /// there before may have a long record.
    ///
    /// # Errors
    ///
    /// When the intake cannot be asked, or nothing came within `settings.timeout` though there is more.
    pub async fn catch_up(&self) -> Result<(), ClientError> {
        let began = Instant::now();
        let theirs = self.ask_counts().await?;
        loop {
            let before = self.copy.state().seq();
            let deadline = Instant::now() + self.settings.timeout;
            if self.wait(deadline, |state| state.has_reached(&theirs)).await {
                return Ok(());
            }
            if self.copy.state().seq() == before {
                return Err(self.behind(&theirs, began));
            }
        }
    }

    fn behind(&self, theirs: &CountsAnswer, began: Instant) -> ClientError {
        // Not inside the value below: its lock would still be held when `stream` takes it.
        let own = self.copy.state().seq();
        let (waited, stream) = (began.elapsed(), self.stream());
        ClientError::Behind { own, theirs: theirs.seq, waited, stream }
    }

    /// Waits until `holds`; whether it did before the deadline.
    async fn wait(&self, deadline: Instant, holds: impl Fn(&State) -> bool) -> bool {
        let mut changed = self.changed();
        loop {
            changed.mark_unchanged();
            if holds(&self.copy.state()) {
                return true;
            }
            if timeout_at(deadline.into(), changed.changed()).await.is_err() {
                return holds(&self.copy.state());
            }
        }
    }
}

impl Drop for IntakeClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
