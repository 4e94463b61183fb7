//! Requests on disk, until what becomes of them is known: a journal in files of one directory, for one exporter.
//!
//! A record is appended before a sender is answered OK. When its spans are sent or dropped, and what else it is kept for is
//! done, it is marked so; a file is removed when nothing in it, nor in an older one, is needed. All appending is done by one
//! thread, which writes what has gathered in one go (and with `fsync` waits for the disk once for all of it).
//!
//! Files are never changed after the process that wrote them has ended, so that a torn end is no harm: what is not
//! whole is skipped and counted. This module knows bytes and numbers; spans and their fates are [`crate::hold`]'s.

mod files;
mod frame;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use frame::Entry;
pub(crate) use frame::Progress;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};
use writer::{Command, Writer};

/// The settings of a journal.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How many bytes its files may have together.
    pub(crate) max_bytes: u64,
    /// Whether the disk is waited for.
    pub(crate) fsync: bool,
    /// How long another process that has the journal open is waited for.
    pub(crate) lock_timeout: Duration,
}

/// Error for a journal that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{path}`: {error}{hint}")]
pub(crate) struct OpenError {
    pub(crate) what: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) error: std::io::Error,
    pub(crate) hint: &'static str,
}

/// Error for a record that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("the journal has no room left (`max_size_mib`)")]
    Full,
    #[error("the journal cannot be written: {0}")]
    Io(String),
}

/// Error for a record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("record {number} cannot be read: {reason}")]
pub(crate) struct ReadError {
    number: u64,
    reason: String,
}

/// A record that was found when the journal was opened, with work left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) spans: u32,
    pub(crate) bytes: u64,
    /// Whether its spans are sent or dropped already, so that only their stats are missing.
    pub(crate) is_sent: bool,
    /// Spans that ended before this time are in stats that were sent.
    pub(crate) counted_until: u64,
}

/// Content of a journal when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// The oldest first.
    pub(crate) found: Vec<Found>,
    /// How many pieces of its files are not whole entries, and how many bytes they have.
    pub(crate) damaged_places: u64,
    pub(crate) damaged_bytes: u64,
    /// Records that were written and are gone: those whose number is missing between others.
    pub(crate) lost_records: u64,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    /// The lock on the directory, for as long as this lives.
    _lock: File,
}

/// State that the writing thread and readers share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    bytes: AtomicU64,
    options: Options,
    directory: PathBuf,
    /// The seed of the files that this process writes, as in their names.
    seed: u32,
    /// Spans whose stats could no longer be made again, because their room was needed.
    given_up: AtomicU64,
    /// Reported when records are done, so that there may be room for more.
    freed: Notify,
    /// Writing fails as if the disk were full once so many bytes are in files.
    #[cfg(test)]
    disk_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<u64, Segment>,
    records: BTreeMap<u64, Record>,
}

/// A file of the journal.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    seed: u32,
    file: Arc<File>,
    bytes: u64,
    /// The records in it that are still needed, and their bytes.
    live: u64,
    live_bytes: u64,
}

/// Location and state of a record.
#[derive(Debug, Clone)]
struct Record {
    segment: u64,
    at: u64,
    size: u64,
    spans: u32,
    is_sent: bool,
    counted_until: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal {
    /// Opens the journal in this directory, which is made if it is not there, and finds what is left to do. Blocks.
    pub(crate) fn open(directory: &Path, options: Options) -> Result<(Self, Recovery), OpenError> {
        let lock = files::lock(directory, options.lock_timeout)?;
        let (state, next, recovery) = files::recover(directory)?;
        let bytes = state.segments.values().map(|segment| segment.bytes).sum();
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            bytes: AtomicU64::new(bytes),
            options,
            directory: directory.into(),
            seed: rand::random(),
            given_up: AtomicU64::new(0),
            freed: Notify::new(),
            #[cfg(test)]
            disk_bytes: AtomicU64::new(u64::MAX),
        });
        let (commands, waiting) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), next)?;
        let failed = |error| OpenError {
            what: "start a thread for",
            path: directory.into(),
            error,
            hint: "",
        };
        let thread = std::thread::Builder::new().name("journal".into());
        thread.spawn(move || writer.run(&waiting)).map_err(failed)?;
        Ok((Self { shared, commands, _lock: lock }, recovery))
    }

    /// Writes a record, whose body `write` appends; it is safe when this returns. Gives its number.
    pub(crate) async fn append(
        &self,
        spans: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Appended, AppendError> {
        let mut body = Vec::new();
        write(&mut body);
        let (reply, answer) = oneshot::channel();
        let gone = || AppendError::Io("its thread has ended".into());
        let commands = self.commands.clone();
        let command = Command::Append { spans, body, reply, commands };
        self.commands.send(command).map_err(|_| gone())?;
        // A clock that is paused in a test must not run ahead of the disk, as it does while nothing but a thread is waited for.
        #[cfg(test)]
        let answer = async {
            let blocking = tokio::task::spawn_blocking(move || answer.blocking_recv());
            blocking.await.unwrap()
        };
        answer.await.map_err(|_| gone())?
    }

    /// Waits, from this call on, until there may be room for more.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.shared.freed.notified()
    }

    /// Marks what became of a record; this is not waited for, and repeated work is all that its loss costs.
    pub(crate) fn mark(&self, number: u64, progress: Progress) {
        // A journal that ended takes no marks any more, which has the same price.
        let _ = self.commands.send(Command::Mark { number, progress });
    }

    /// Reads the body of a record. Blocks.
    pub(crate) fn read(&self, number: u64) -> Result<Bytes, ReadError> {
        let failed = |reason: &str| ReadError { number, reason: reason.into() };
        let (file, seed, record) = {
            let state = self.shared.state();
            let record = state.records.get(&number).ok_or_else(|| failed("it is not there"))?;
            let segment = state.segments.get(&record.segment);
            let segment = segment.ok_or_else(|| failed("its file is not there"))?;
            (Arc::clone(&segment.file), segment.seed, record.clone())
        };
        let mut bytes = vec![0; usize::try_from(record.size).unwrap_or_default()];
        file.read_exact_at(&mut bytes, record.at).map_err(|error| failed(&error.to_string()))?;
        let body = match frame::read(&bytes, seed) {
            Some((
                Entry::Record { number: found, body, .. }
                | Entry::Moved { number: found, body, .. },
                _,
            )) if found == number => body,
            _ => return Err(failed("its bytes were changed")),
        };
        let begin = bytes.len() - body.len();
        Ok(Bytes::from(bytes).slice(begin..))
    }

    /// How many bytes the files have.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// How many spans were given up that were kept only so that their stats can be made again after a restart.
    pub(crate) fn given_up_spans(&self) -> u64 {
        self.shared.given_up.load(Ordering::Relaxed)
    }

    /// How many spans of its records are neither sent nor dropped.
    pub(crate) fn unsent_spans(&self) -> u64 {
        let state = self.shared.state();
        let unsent = state.records.values().filter(|record| !record.is_sent);
        unsent.map(|record| u64::from(record.spans)).sum()
    }

    /// Writes the marks that were made before; nothing is written afterwards.
    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).is_ok() {
            let _ = answer.await;
        }
    }

    #[cfg(test)]
    pub(crate) fn limit_disk(&self, bytes: u64) {
        self.shared.disk_bytes.store(bytes, Ordering::Relaxed);
    }
}

/// A record that was written. Unless it is kept, it is taken back when this is dropped.
#[derive(Debug)]
pub(crate) struct Appended {
    number: u64,
    commands: Option<mpsc::Sender<Command>>,
}

impl Appended {
    /// Keeps the record; gives its number.
    pub(crate) fn keep(mut self) -> u64 {
        self.commands = None;
        self.number
    }
}

impl Drop for Appended {
    fn drop(&mut self) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(Command::Mark { number: self.number, progress: Progress::Done });
        }
    }
}

#[cfg(test)]
mod tests;
