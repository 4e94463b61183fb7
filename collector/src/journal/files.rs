//! Finding the files of a journal, and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{self, Entry, Progress};
use super::{Found, OpenError, Record, Recovery, Segment, State};

const EXTENSION: &str = "journal";
/// How long to wait before a lock is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The name of a file: its place in the order, and its seed.
pub(super) fn name(number: u64, seed: u32) -> String {
    format!("{number:012}-{seed:08x}.{EXTENSION}")
}

fn parse(name: &str) -> Option<(u64, u32)> {
    let (number, seed) = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.split_once('-')?;
    Some((number.parse().ok()?, u32::from_str_radix(seed, 16).ok()?))
}

/// Takes the lock of a journal, whose directory is made if it is not there; it is held for as long as the file is open.
pub(super) fn lock(directory: &Path, timeout: Duration) -> Result<File, OpenError> {
    let failed =
        |what, path: &Path, error, hint| OpenError { what, path: path.into(), error, hint };
    fs::create_dir_all(directory).map_err(|error| failed("make", directory, error, ""))?;
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| failed("write to", directory, error, ""))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < timeout => {
                #[expect(clippy::disallowed_methods, reason = "a lock has no event to wait for")]
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                let hint =
                    "; another collector has it open: give each one a `directory` of its own";
                return Err(failed("lock", &path, std::io::ErrorKind::WouldBlock.into(), hint));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error, "")),
        }
    }
}

/// The files of a journal by their place in the order; others in the directory are left alone.
fn list(directory: &Path) -> Result<BTreeMap<u64, (PathBuf, u32)>, OpenError> {
    let failed = |error| OpenError { what: "read", path: directory.into(), error, hint: "" };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some((number, seed)) = entry.file_name().to_str().and_then(parse) {
            files.insert(number, (entry.path(), seed));
        }
    }
    Ok(files)
}

/// Reads all files of a journal: what is in it, the number of its next record, and what is to be done.
pub(super) fn recover(directory: &Path) -> Result<(State, u64, Recovery), OpenError> {
    let failed = |what, path: &Path, error| OpenError { what, path: path.into(), error, hint: "" };
    let (mut state, mut recovery) = (State::default(), Recovery::default());
    let (mut begin, mut next) = (None, 1);
    let (mut seen, mut done) = (BTreeSet::new(), BTreeSet::new());
    for (segment, (path, seed)) in list(directory)? {
        let file = File::open(&path).map_err(|error| failed("open", &path, error))?;
        let damage = frame::scan(&file, seed, |entry, at, size| match entry {
            Entry::Begin { next: number } => {
                begin.get_or_insert(number);
                next = next.max(number);
            }
            Entry::Record { number, spans, .. } | Entry::Moved { number, spans, .. } => {
                if matches!(entry, Entry::Record { .. }) {
                    seen.insert(number);
                }
                next = next.max(number + 1);
                let record = Record { segment, at, size, spans, is_sent: false, counted_until: 0 };
                // One that was moved keeps what was known of it.
                match state.records.get_mut(&number) {
                    Some(known) => {
                        *known = Record {
                            is_sent: known.is_sent,
                            counted_until: known.counted_until,
                            ..record
                        }
                    }
                    None => {
                        state.records.insert(number, record);
                    }
                }
            }
            Entry::Progress { progress, numbers } => {
                for number in numbers {
                    match (progress, state.records.get_mut(&number)) {
                        (Progress::Sent, Some(record)) => record.is_sent = true,
                        (Progress::Counted(until), Some(record)) => {
                            record.counted_until = record.counted_until.max(until);
                        }
                        (Progress::Done, _) => {
                            done.insert(number);
                        }
                        (_, None) => {}
                    }
                }
            }
        });
        let damage = damage.map_err(|error| failed("read", &path, error))?;
        recovery.damaged_places += damage.places;
        recovery.damaged_bytes += damage.bytes;
        let bytes = file.metadata().map_err(|error| failed("read", &path, error))?.len();
        let file = Arc::new(file);
        state.segments.insert(segment, Segment { path, seed, file, bytes, live: 0, live_bytes: 0 });
    }
    state.records.retain(|number, _| !done.contains(number));
    for record in state.records.values() {
        if let Some(segment) = state.segments.get_mut(&record.segment) {
            segment.live += 1;
            segment.live_bytes += record.size;
        }
    }
    let begin = begin.or_else(|| seen.first().copied()).unwrap_or(next);
    let missing = (begin..next).filter(|number| !seen.contains(number) && !done.contains(number));
    recovery.lost_records =
        missing.filter(|number| !state.records.contains_key(number)).count() as u64;
    let found = |(number, record): (&u64, &Record)| Found {
        number: *number,
        spans: record.spans,
        bytes: record.size,
        is_sent: record.is_sent,
        counted_until: record.counted_until,
    };
    recovery.found = state.records.iter().map(found).collect();
    Ok((state, next, recovery))
}
