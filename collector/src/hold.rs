//! Tracks the outcome of one request's spans in one exporter, for those that depend on it: the journal that keeps the request, and
//! a sender that waits for the result.
//!
//! A batch carries the holds of the requests that its spans came with, through joining and cutting. An exporter settles the
//! spans of a batch when they are sent or dropped; a hold whose spans are all settled is over. What is forgotten unsettled,
//! because a task ended or was ended, is never taken for sent: the journal still has it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::journal::{Appended, Found, Journal, Progress};

/// Reason for which spans of a request were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Whether sending the request again may help: its destination did not take it at the time, and was not asked for longer.
    pub(crate) may_come_again: bool,
}

impl Failure {
    /// Sending the request again would not help.
    pub(crate) fn for_good(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_come_again: false }
    }

    /// Sending the request again may help.
    pub(crate) fn for_now(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_come_again: true }
    }
}

/// Outcome of a request.
pub(crate) type Outcome = Result<(), Failure>;

/// Channel on which a sender receives the outcome of its request.
pub(crate) type Answer = oneshot::Receiver<Outcome>;

/// One request within one exporter.
pub(crate) struct Hold {
    /// The exporter's id.
    exporter: Arc<str>,
    spans: u64,
    /// Spans that are neither sent nor dropped.
    unsettled: AtomicU64,
    /// Spans whose stats are not sent; zero where there are none to send.
    uncounted: AtomicU64,
    /// Whether stats are waited for at all.
    has_stats: bool,
    record: Option<(Arc<Journal>, u64)>,
    /// Stats of spans that ended before this time were sent, by a process before this one.
    pub(crate) counted_until: u64,
    is_done: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    failure: Option<Failure>,
    sender: Option<oneshot::Sender<Outcome>>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record.as_ref().map(|(_, number)| number);
        let unsettled = self.unsettled.load(Ordering::Relaxed);
        write!(out, "Hold({}, record {record:?}, {unsettled} unsettled)", self.exporter)
    }
}

/// A request that is noted, and not yet handed over: dropping this takes the note back.
pub(crate) struct Note {
    exporter: Arc<str>,
    spans: u64,
    has_stats: bool,
    journal: Option<(Arc<Journal>, Appended)>,
    waits: bool,
}

impl Note {
    /// Notes a request of so many spans: with its record, if it was written, and for a sender, if it waits.
    pub(crate) fn new(
        exporter: Arc<str>,
        spans: usize,
        has_stats: bool,
        journal: Option<(Arc<Journal>, Appended)>,
        waits: bool,
    ) -> Self {
        Self { exporter, spans: spans as u64, has_stats, journal, waits }
    }

    /// The request is handed over: gives its hold, and where its sender hears of it if it waits.
    pub(crate) fn keep(self) -> (Arc<Hold>, Option<Answer>) {
        let (sender, answer) = match self.waits {
            true => {
                let (sender, answer) = oneshot::channel();
                (Some(sender), Some(answer))
            }
            false => (None, None),
        };
        let record = self.journal.map(|(journal, appended)| (journal, appended.keep()));
        let hold = Hold {
            exporter: self.exporter,
            spans: self.spans,
            unsettled: AtomicU64::new(self.spans),
            uncounted: AtomicU64::new(if self.has_stats { self.spans } else { 0 }),
            has_stats: self.has_stats,
            record,
            counted_until: 0,
            is_done: AtomicBool::new(false),
            waiting: Mutex::new(Waiting { failure: None, sender }),
        };
        (Arc::new(hold), answer)
    }
}

impl Hold {
    /// The hold of a record that was found at the start.
    pub(crate) fn found(
        exporter: Arc<str>,
        has_stats: bool,
        journal: &Arc<Journal>,
        found: &Found,
    ) -> Arc<Self> {
        let spans = u64::from(found.spans);
        Arc::new(Self {
            exporter,
            spans,
            unsettled: AtomicU64::new(if found.is_sent { 0 } else { spans }),
            uncounted: AtomicU64::new(if has_stats { spans } else { 0 }),
            has_stats,
            record: Some((Arc::clone(journal), found.number)),
            counted_until: found.counted_until,
            is_done: AtomicBool::new(false),
            waiting: Mutex::default(),
        })
    }

    /// Returns whether this is a hold of that exporter.
    pub(crate) fn is_of(&self, exporter: &str) -> bool {
        &*self.exporter == exporter
    }

    /// The number of the record in the exporter's journal.
    pub(crate) fn record(&self) -> Option<u64> {
        self.record.as_ref().map(|(_, number)| *number)
    }

    /// How many spans the request has.
    pub(crate) fn span_count(&self) -> usize {
        usize::try_from(self.spans).unwrap_or(usize::MAX)
    }

    /// Notes that so many spans cannot be read any more, and returns how many of them were not sent before.
    pub(crate) fn lose(&self, spans: usize, reason: &str) -> usize {
        let unsent = if self.unsettled.load(Ordering::Acquire) > 0 { spans } else { 0 };
        if self.has_stats {
            self.count(spans, 0);
        }
        self.settle(unsent, Some(&Failure::for_good(reason)));
        unsent
    }

    /// So many spans are sent, or dropped for a reason.
    pub(crate) fn settle(&self, spans: usize, failure: Option<&Failure>) {
        if spans == 0 {
            return;
        }
        if let Some(failure) = failure {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // What is dropped for good is not to be sent again with the rest.
            if waiting.failure.as_ref().is_none_or(|known| known.may_come_again) {
                waiting.failure = Some(failure.clone());
            }
        }
        let spans = spans as u64;
        if self.unsettled.fetch_sub(spans, Ordering::AcqRel) != spans {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.sender.take() {
            // A sender that went away will hear nothing.
            let _ = sender.send(waiting.failure.take().map_or(Ok(()), Err));
        }
        drop(waiting);
        if !self.finish()
            && let Some((journal, number)) = &self.record
        {
            journal.mark(*number, Progress::Sent);
        }
    }

    /// Returns whether stats of its spans are to be reported by [`Hold::count`] and [`Hold::count_until`].
    pub(crate) fn wants_stats(&self) -> bool {
        self.has_stats && self.record.is_some()
    }

    /// The stats of so many spans are sent, with those of all spans counted so far that ended before `until`.
    pub(crate) fn count(&self, spans: usize, until: u64) {
        let spans = spans as u64;
        let is_all = self.uncounted.fetch_sub(spans, Ordering::AcqRel) == spans;
        if !self.finish() {
            self.count_until(if is_all { u64::MAX } else { until });
        }
    }

    /// Stats were sent that have all of its spans counted so far that ended before this time, in nanoseconds since the epoch.
    pub(crate) fn count_until(&self, until: u64) {
        if let Some((journal, number)) = &self.record
            && !self.is_done.load(Ordering::Acquire)
        {
            journal.mark(*number, Progress::Counted(until));
        }
    }

    /// Notifies the journal if nothing is left to be done; returns whether that is so.
    fn finish(&self) -> bool {
        let is_over = self.unsettled.load(Ordering::Acquire) == 0
            && self.uncounted.load(Ordering::Acquire) == 0;
        if is_over
            && !self.is_done.swap(true, Ordering::AcqRel)
            && let Some((journal, number)) = &self.record
        {
            journal.mark(*number, Progress::Done);
        }
        is_over
    }
}
