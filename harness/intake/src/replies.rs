//! Scripted replies: what the intake is to answer instead of the usual, and for how long.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::decode::Route;

/// Most replies that may be scripted at a time.
const MAX_SCRIPTS: usize = 1000;
/// Longest `delay`.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// Scripted replies at a path. The oldest script for a path holds until it is used up; then the next one does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Path of the requests, with or without a trailing slash; the traces path by default.
    #[serde(default = "traces_path")]
    pub path: String,
    /// The reply; the usual one where it is missing, which makes sense with a `delay` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ScriptedReply>,
    /// Time between the request's arrival and its reply; at most 10 minutes.
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// Value of the reply's `Retry-After` header, in whole seconds.
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// Holds for so many requests; for ever where both this and `for` are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
    /// Holds for so long, from the first request that it answers.
    #[serde(default, rename = "for", with = "duration", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Duration>,
}

/// A reply that is not the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptedReply {
    /// This HTTP status.
    Status(u16),
    /// `true`: the connection is reset (TCP RST), with no answer.
    Reset(bool),
}

/// Error for an invalid script. Begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Not a path of Datadog's.
    #[error("path: `{0}` must start with `/` and must not be below `/_intake`")]
    Path(String),
    /// No final HTTP status.
    #[error("reply.status: {0} is not a final HTTP status: give one from 200 to 599")]
    Status(u16),
    /// A `reset` that is not `true`.
    #[error("reply.reset: must be true; leave `reply` out for the usual reply")]
    NoReset,
    /// Too long.
    #[error("delay: must be at most 10m")]
    Delay,
    /// A reset has no headers, and `Retry-After` counts seconds.
    #[error("retry_after: must be whole seconds, beside a `reply` with a `status`")]
    RetryAfter,
    /// Nothing would be different.
    #[error("reply: give a `reply`, a `delay` or both")]
    Nothing,
    /// Two ways to end.
    #[error("next: give either `next` or `for`, or neither to hold until cleared")]
    TwoEnds,
    /// A number that would never let the script apply.
    #[error("{0}: must be more than 0")]
    Never(&'static str),
    /// Bounded.
    #[error("there are {MAX_SCRIPTS} scripted replies already: clear them first")]
    TooMany,
}

fn traces_path() -> String {
    Route::Traces.path().to_owned()
}

impl Script {
    /// Creates a script that answers requests for traces with a status until it is cleared; its fields can be changed
    /// for anything else.
    pub fn status(status: u16) -> Self {
        Self {
            path: traces_path(),
            reply: Some(ScriptedReply::Status(status)),
            delay: None,
            retry_after: None,
            next: None,
            lasting: None,
        }
    }

    /// Resets connections that bring traces until cleared; change the fields for anything else.
    pub fn reset() -> Self {
        Self { reply: Some(ScriptedReply::Reset(true)), ..Self::status(200) }
    }

    /// Validates the script.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn validate(&self) -> Result<(), ScriptError> {
        let control = self.path == "/_intake" || self.path.starts_with("/_intake/");
        if !self.path.starts_with('/') || control {
            return Err(ScriptError::Path(self.path.clone()));
        }
        match self.reply {
            Some(ScriptedReply::Status(status)) if !(200..=599).contains(&status) => {
                return Err(ScriptError::Status(status));
            }
            Some(ScriptedReply::Reset(false)) => return Err(ScriptError::NoReset),
            None if self.delay.is_none() => return Err(ScriptError::Nothing),
            _ => {}
        }
        if self.delay.is_some_and(|delay| delay > MAX_DELAY) {
            return Err(ScriptError::Delay);
        }
        let with_status = matches!(self.reply, Some(ScriptedReply::Status(_)));
        if self.retry_after.is_some_and(|after| after.subsec_nanos() != 0 || !with_status) {
            return Err(ScriptError::RetryAfter);
        }
        match (self.next, self.lasting) {
            (Some(_), Some(_)) => Err(ScriptError::TwoEnds),
            (Some(0), None) => Err(ScriptError::Never("next")),
            (None, Some(Duration::ZERO)) => Err(ScriptError::Never("for")),
            _ => Ok(()),
        }
    }

    fn matches(&self, path: &str) -> bool {
        let bare = |path: &str| path.strip_suffix('/').unwrap_or(path).to_owned();
        bare(&self.path) == bare(path)
    }
}

/// The scripts that still hold, each with its end, which is known from the first request on that it answers.
#[derive(Debug, Default)]
pub struct Replies {
    scripts: Vec<(Script, Option<Instant>)>,
}

impl Replies {
    /// Adds a script behind those there are.
    ///
    /// # Errors
    ///
    /// When it is not valid, or there are too many.
    pub fn push(&mut self, script: Script, now: Instant) -> Result<(), ScriptError> {
        script.validate()?;
        self.forget_ended(now);
        if self.scripts.len() >= MAX_SCRIPTS {
            return Err(ScriptError::TooMany);
        }
        self.scripts.push((script, None));
        Ok(())
    }

    /// Takes the script that applies to `path`, which counts down its `next` and starts the time of its `for`.
    pub fn take(&mut self, path: &str, now: Instant) -> Option<Script> {
        self.forget_ended(now);
        let at = self.scripts.iter().position(|(script, _)| script.matches(path))?;
        let (script, end) = &mut self.scripts[at];
        let taken = script.clone();
        *end = end.or_else(|| script.lasting.and_then(|lasting| now.checked_add(lasting)));
        match &mut script.next {
            Some(1) => {
                self.scripts.remove(at);
            }
            Some(next) => *next -= 1,
            None => {}
        }
        Some(taken)
    }

    /// Returns the scripts still in force, with what remains of `next` and `for`.
    pub fn left(&mut self, now: Instant) -> Vec<Script> {
        self.forget_ended(now);
        let left = self.scripts.iter().map(|(script, end)| {
            let lasting = end.map(|end| end - now).or(script.lasting);
            Script { lasting, ..script.clone() }
        });
        left.collect()
    }

    /// Removes all scripts.
    pub fn clear(&mut self) {
        self.scripts.clear();
    }

    fn forget_ended(&mut self, now: Instant) {
        self.scripts.retain(|(_, end)| end.is_none_or(|end| end > now));
    }
}

/// Durations as people write them: `1s`, `250ms`.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Some).map_err(|error| {
            D::Error::custom(format!("`{text}` is not a duration such as `250ms` or `1s`: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Script, String> {
        let script: Script = serde_json::from_str(json).map_err(|error| error.to_string())?;
        script.validate().map_err(|error| error.to_string())?;
        Ok(script)
    }

    #[test]
    fn a_script_reads_as_documented() {
        let script =
            read(r#"{"reply":{"status":503},"delay":"1s","retry_after":"2s","next":3}"#).unwrap();
        assert_eq!(
            script,
            Script {
                delay: Some(Duration::from_secs(1)),
                retry_after: Some(Duration::from_secs(2)),
                next: Some(3),
                ..Script::status(503)
            }
        );
        assert_eq!(read(r#"{"reply":{"reset":true}}"#), Ok(Script::reset()));
    }

    #[test]
    fn a_bad_script_is_refused_with_the_name_of_its_field() {
        for (json, field) in [
            (r#"{"reply":{"status":42}}"#, "reply.status"),
            (r#"{"reply":{"reset":false}}"#, "reply.reset"),
            (r#"{"repli":{"status":503}}"#, "repli"),
            (r#"{"reply":{"status":503},"delay":"fast"}"#, "`fast` is not a duration"),
            (r#"{"reply":{"status":503},"delay":"11m"}"#, "delay"),
            (r#"{"reply":{"reset":true},"retry_after":"2s"}"#, "retry_after"),
            (r#"{"reply":{"status":503},"retry_after":"2500ms"}"#, "retry_after"),
            (r#"{"reply":{"status":503},"next":1,"for":"1s"}"#, "next"),
            (r#"{"reply":{"status":503},"next":0}"#, "next"),
            (r#"{"reply":{"status":503},"for":"0s"}"#, "for"),
            (r#"{"path":"/_intake/counts","reply":{"status":503}}"#, "path"),
            (r#"{"path":"traces","reply":{"status":503}}"#, "path"),
            ("{}", "reply"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(field), "{json}: {error}");
        }
    }

    #[test]
    fn scripts_hold_one_after_the_other_and_end() {
        let now = Instant::now();
        let mut replies = Replies::default();
        replies.push(Script { next: Some(2), ..Script::status(503) }, now).unwrap();
        let second = Duration::from_secs(1);
        replies.push(Script { lasting: Some(second), ..Script::status(429) }, now).unwrap();

        let taken = |replies: &mut Replies, at| {
            replies.take("/api/v0.2/traces/", at).map(|script| script.reply)
        };
        assert!(replies.take("/api/v0.2/stats", now).is_none());
        assert_eq!(taken(&mut replies, now), Some(Some(ScriptedReply::Status(503))));
        assert_eq!(replies.left(now)[0].next, Some(1));
        assert_eq!(taken(&mut replies, now), Some(Some(ScriptedReply::Status(503))));
        // Its second begins with the first request that meets it, however late that comes.
        let late = now + 5 * second;
        assert_eq!(replies.left(late)[0].lasting, Some(second));
        assert_eq!(taken(&mut replies, late), Some(Some(ScriptedReply::Status(429))));
        let almost = late + second * 9 / 10;
        assert_eq!(replies.left(almost)[0].lasting, Some(second / 10));
        assert_eq!(taken(&mut replies, almost), Some(Some(ScriptedReply::Status(429))));
        assert_eq!(taken(&mut replies, late + second), None);
        assert_eq!(replies.left(late + second), []);
    }

    #[test]
    fn the_number_of_scripts_is_bounded() {
        let now = Instant::now();
        let mut replies = Replies::default();
        for _ in 0..MAX_SCRIPTS {
            replies.push(Script::status(503), now).unwrap();
        }
        assert_eq!(replies.push(Script::status(503), now), Err(ScriptError::TooMany));
        replies.clear();
        assert_eq!(replies.push(Script::status(503), now), Ok(()));
    }
}
