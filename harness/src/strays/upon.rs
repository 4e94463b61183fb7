//! Finds the request upon which something began, where only one can be meant.

use super::ground::Sent;

/// How long after the last of the requests something may begin, in nanoseconds; after another it must have begun before the next is sent.
const AFTER_THE_LAST: i64 = 1_000_000_000;

/// The requests by the time that each was sent at, with the time before which its own work begins.
pub(super) struct Windows<'a>(Vec<(&'a Sent, i64)>);

impl<'a> Windows<'a> {
    pub(super) fn new(sent: &'a [Sent]) -> Self {
        let mut sorted: Vec<&Sent> = sent.iter().collect();
        sorted.sort_by_key(|one| one.sent_at);
        let next = sorted.iter().skip(1).map(|next| next.sent_at);
        let last = sorted.last().map(|last| last.ended_at.saturating_add(AFTER_THE_LAST));
        let ends: Vec<i64> = next.chain(last).collect();
        Self(sorted.into_iter().zip(ends).collect())
    }

    /// Returns the request that was the last to be sent at a time; `None` where it overlaps another, or was sent long before.
    pub(super) fn upon(&self, at: i64) -> Option<&'a Sent> {
        let Self(windows) = self;
        let after = windows.partition_point(|(sent, _)| sent.sent_at <= at);
        let (sent, end) = *windows.get(after.checked_sub(1)?)?;
        let overlaps = windows[..after - 1].iter().any(|(other, _)| other.ended_at > sent.sent_at)
            || windows[after..].first().is_some_and(|(next, _)| next.sent_at < sent.ended_at);
        (at < end && !overlaps).then_some(sent)
    }
}
