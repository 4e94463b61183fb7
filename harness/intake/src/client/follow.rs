//! The background task: reads the event stream into the copy, for ever.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sse_stream::{Sse, SseStream};
use tokio::time::{sleep, timeout};

use super::{Copy, Settings, Stream};
use crate::{
    attempt::Attempt,
    decode::decode,
    stream::{EventId, Gap, GapReason, Hello},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(20);

/// Follows the stream until the task is aborted.
pub(super) async fn follow(
    http: reqwest::Client,
    url: String,
    settings: Settings,
    copy: Arc<Copy>,
) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let connections = copy.state().connections;
        let Err(error) = follow_once(&http, &url, settings, &copy).await;
        copy.change(|state| state.stream = Stream::Broken { why: error.to_string() });
        if copy.state().connections > connections {
            backoff = FIRST_BACKOFF;
        }
        tracing::debug!(url, %error, ?backoff, "the intake's event stream ended");
        sleep(backoff).await;
        backoff = (backoff * 2).min(settings.max_backoff);
    }
}

/// Error that ended a stream.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("cannot connect: {}", chain(.0))]
    Connect(reqwest::Error),
    #[error("it was answered {status}: {body}")]
    Refused { status: u16, body: String },
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("the connection ended")]
    Ended,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// reqwest's own text names the URL and leaves the cause to its sources.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn follow_once(
    http: &reqwest::Client,
    url: &str,
    settings: Settings,
    copy: &Copy,
) -> Result<Infallible, FollowError> {
    let mut request = http.get(format!("{url}/_intake/events"));
    if let Some(place) = &copy.state().place {
        request = request.header("last-event-id", place.to_string());
    }
    let response = timeout(settings.timeout, request.send())
        .await
        .map_err(|_| FollowError::Silent(settings.timeout))?
        .map_err(FollowError::Connect)?;
    if !response.status().is_success() {
        let status = response.status().as_u16();
        let body = timeout(settings.timeout, response.text()).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        return Err(FollowError::Refused { status, body });
    }
    let mut events = std::pin::pin!(SseStream::from_bytes_stream(response.bytes_stream()));
    loop {
        let event = timeout(settings.silence, events.next())
            .await
            .map_err(|_| FollowError::Silent(settings.silence))?
            .ok_or(FollowError::Ended)?
            .map_err(|error| FollowError::Unreadable(error.to_string()))?;
        take(event, settings, copy)?;
    }
}

/// Puts one event into the copy.
fn take(event: Sse, settings: Settings, copy: &Copy) -> Result<(), FollowError> {
    match event.event.as_deref() {
        Some("hello") => {
            let hello: Hello = read(&event)?;
            copy.change(|state| {
                state.connections += 1;
                state.stream = Stream::Following;
                // A place in another instance stays until that instance's gap event comes, or its first attempt.
                state.place.get_or_insert(EventId { instance: hello.instance, seq: 0 });
            });
        }
        Some("attempt") => match read::<Attempt>(&event) {
            Ok(attempt) => {
                let received = Instant::now();
                let id = id(&event)?;
                // Outside the lock: it takes its time.
                let decoded = decode(&attempt, settings.max_decoded);
                copy.change(|state| {
                    if let Some(place) = &state.place
                        && place.instance == id.instance
                        && id.seq > place.seq + 1
                    {
                        state.gaps.push(Gap {
                            instance: id.instance.clone(),
                            from: place.seq + 1,
                            to: Some(id.seq - 1),
                            reason: GapReason::NotKept,
                        });
                    }
                    state.place = Some(id);
                    state.store.insert(attempt, decoded, received);
                    state.note_dropped();
                });
            }
            // To ask for it again would end the same way.
            Err(error) => {
                tracing::warn!(%error, "an attempt in the intake's event stream is unreadable");
                let id = id(&event)?;
                copy.change(|state| {
                    let (from, to) = (id.seq, Some(id.seq));
                    let instance = id.instance.clone();
                    let reason = GapReason::Unreadable;
                    state.gaps.push(Gap { instance, from, to, reason });
                    state.place = Some(id);
                });
            }
        },
        Some("gap") => {
            let gap: Gap = read(&event)?;
            let id = id(&event)?;
            copy.change(|state| {
                state.gaps.push(gap);
                state.place = Some(id);
            });
        }
        // Its coming is all it has to say; and what a newer intake may add is none of our business.
        _ => {}
    }
    Ok(())
}

fn read<T: DeserializeOwned>(event: &Sse) -> Result<T, FollowError> {
    let data = event.data.as_deref().unwrap_or_default();
    serde_json::from_str(data).map_err(|error| {
        let name = event.event.as_deref().unwrap_or_default();
        FollowError::Unreadable(format!("event `{name}`: {error}"))
    })
}

fn id(event: &Sse) -> Result<EventId, FollowError> {
    let id = event.id.as_deref().unwrap_or_default();
    id.parse().map_err(|error| FollowError::Unreadable(format!("{error}")))
}
