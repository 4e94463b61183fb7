//! The words of the event stream, `GET /_intake/events`, which server and client share.
//!
//! Events: `hello` first, then `attempt` for each attempt in order, `gap` where some are missing, and `heartbeat`
//! while there is nothing to report. Each id is an [`EventId`], with which a reader resumes by `Last-Event-ID`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Identifies a place in the stream: `<instance>:<seq>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventId {
    /// The intake's instance id; another one after each start.
    pub instance: String,
    /// Sequence number of the last attempt that was reported.
    pub seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.instance, self.seq)
    }
}

/// Error for a text that is not an event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event id: it has the form `<instance>:<seq>`")]
pub(crate) struct ParseEventIdError(String);

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(instance, seq)| {
            let seq = seq.parse().ok()?;
            (!instance.is_empty()).then(|| Self { instance: instance.to_owned(), seq })
        });
        parsed.ok_or_else(|| ParseEventIdError(text.to_owned()))
    }
}

/// Data of `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hello {
    /// The intake's instance id.
    pub instance: String,
    /// Number of the newest attempt; 0 before the first.
    pub seq: u64,
}

/// Data of `heartbeat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Heartbeat {
    /// Number of the newest attempt.
    pub seq: u64,
}

/// Data of `gap`: attempts that a reader of the stream will never see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The instance whose attempts they are.
    pub instance: String,
    /// Number of the first of them.
    pub from: u64,
    /// Number of the last of them; unknown where the instance is gone.
    pub to: Option<u64>,
    /// The reason.
    pub reason: GapReason,
}

/// Reason for missing attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The intake no longer keeps them: its bound pushed them out before the reader came to them.
    NotKept,
    /// The intake was started anew, and forgot all it had.
    InstanceChanged,
    /// The reader itself pushed them out of its own copy.
    NotKeptByReader,
    /// The reader could not read an event.
    Unreadable,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.to.map_or_else(|| "an unknown one".to_owned(), |to| to.to_string());
        let why = match self.reason {
            GapReason::NotKept => "the intake had pushed them out: raise its --max-memory",
            GapReason::InstanceChanged => "the intake was restarted",
            GapReason::NotKeptByReader => "the harness's own copy had pushed them out",
            GapReason::Unreadable => "the harness could not read them: use the same version",
        };
        write!(f, "attempts {} to {to} are missing, as {why}", self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_reads_what_it_writes_and_nothing_else() {
        let id = EventId { instance: "4be1".to_owned(), seq: 7 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "7", ":7", "4be1:", "4be1:x", "4be1:-1"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
