//! The event stream: everything that is recorded, pushed to whoever listens.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use serde::Serialize;
use tokio::{sync::watch, time::Interval};

use super::{Intake, control_error::ControlError};
use crate::{
    attempt::Attempt,
    stream::{EventId, Gap, GapReason, Heartbeat, Hello},
};

/// `GET /_intake/events`
pub(super) async fn events(
    State(intake): State<Arc<Intake>>,
    headers: HeaderMap,
) -> Result<Response, ControlError> {
    let resume = match headers.get("last-event-id") {
        None => None,
        Some(value) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            let id: EventId = text.parse().map_err(|error| {
                ControlError::bad_request(format!("header Last-Event-ID: {error}"))
            })?;
            if id.instance == intake.instance && id.seq > *intake.newest.borrow() {
                let message = format!("header Last-Event-ID: attempt {} is not made yet", id.seq);
                return Err(ControlError::bad_request(message));
            }
            Some(id)
        }
    };
    let events = stream::unfold(Reader::new(intake, resume), async |mut reader| {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    Ok(Sse::new(events).into_response())
}

/// One reader's place in the stream. It holds no queue: it takes from the store what comes after its place, so a slow
/// reader costs nothing, and one that is too slow finds a gap.
struct Reader {
    intake: Arc<Intake>,
    newest: watch::Receiver<u64>,
    heartbeat: Interval,
    sent: Sent,
    /// Number of the last attempt that was reported.
    seq: u64,
}

enum Sent {
    Nothing { lost: Option<Gap> },
    Hello { lost: Option<Gap> },
    All,
}

impl Reader {
    fn new(intake: Arc<Intake>, resume: Option<EventId>) -> Self {
        let (seq, lost) = match resume {
            None => (0, None),
            Some(id) if id.instance == intake.instance => (id.seq, None),
            Some(id) => {
                let reason = GapReason::InstanceChanged;
                let lost = Gap { instance: id.instance, from: id.seq + 1, to: None, reason };
                (0, Some(lost))
            }
        };
        let mut heartbeat = tokio::time::interval(intake.settings.heartbeat);
        heartbeat.reset();
        let newest = intake.newest.subscribe();
        Self { intake, newest, heartbeat, sent: Sent::Nothing { lost }, seq }
    }

    /// The next event; `None` when the intake stops.
    async fn next(&mut self) -> Option<Event> {
        match &mut self.sent {
            Sent::Nothing { lost } => {
                let lost = lost.take();
                self.sent = Sent::Hello { lost };
                let instance = self.intake.instance.clone();
                return self.event("hello", &Hello { instance, seq: *self.newest.borrow() });
            }
            Sent::Hello { lost } => {
                let lost = lost.take();
                self.sent = Sent::All;
                if let Some(gap) = lost {
                    return self.event("gap", &gap);
                }
            }
            Sent::All => {}
        }
        loop {
            self.newest.mark_unchanged();
            if let Some(event) = self.recorded() {
                return Some(event);
            }
            tokio::select! {
                () = self.intake.stopping.cancelled() => return None,
                changed = self.newest.changed() => changed.ok()?,
                _ = self.heartbeat.tick() => {
                    let heartbeat = Heartbeat { seq: *self.newest.borrow() };
                    return self.event("heartbeat", &heartbeat);
                }
            }
        }
    }

    /// The event for what comes after `seq`, if anything did.
    fn recorded(&mut self) -> Option<Event> {
        let next: Arc<Attempt> = {
            let state = self.intake.state();
            Arc::clone(&state.store.after(self.seq).next()?.attempt)
        };
        if next.seq > self.seq + 1 {
            let gap = Gap {
                instance: self.intake.instance.clone(),
                from: self.seq + 1,
                to: Some(next.seq - 1),
                reason: GapReason::NotKept,
            };
            self.seq = next.seq - 1;
            return self.event("gap", &gap);
        }
        self.seq = next.seq;
        self.event("attempt", &*next)
    }

    /// Ends the stream where an event cannot be written, which its reader notices.
    fn event(&self, name: &str, data: &impl Serialize) -> Option<Event> {
        let id = self.intake.event_id(self.seq).to_string();
        Event::default().event(name).id(id).json_data(data).ok()
    }
}
