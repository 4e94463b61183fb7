//! The thread that writes a journal.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};

use tokio::sync::oneshot;

use super::frame::{self, Entry, Progress};
use super::{AppendError, Appended, OpenError, Record, Segment, Shared, files};

/// How large a file becomes at least before the next one is begun; less where the journal may have little.
const SEGMENT_BYTES: u64 = 16 << 20;
/// How much is written in one go at most.
const GROUP_BYTES: usize = 4 << 20;

/// Command to the writing thread.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        spans: u32,
        body: Vec<u8>,
        reply: Reply,
        /// For taking the record back.
        commands: Sender<Command>,
    },
    Mark {
        number: u64,
        progress: Progress,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The number of the next record.
    next: u64,
    /// The file that is being written; `None` until there is something to write, or after one that could not be repaired.
    current: Option<(u64, File)>,
    /// Marks that are not written yet.
    marks: BTreeMap<Progress, Vec<u64>>,
}

/// A record that is to be written.
struct Wanted {
    spans: u32,
    body: Vec<u8>,
    reply: Reply,
    commands: Sender<Command>,
}

/// A record that is being written.
struct New {
    number: u64,
    record: Record,
    reply: Reply,
    commands: Sender<Command>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, next: u64) -> Result<Self, OpenError> {
        let mut writer = Self { shared, next, current: None, marks: BTreeMap::new() };
        writer.remove_done();
        // A directory that cannot be written to is reported at the start, and not by the first sender.
        writer.segment().map_err(|error| OpenError {
            what: "write to",
            path: writer.shared.directory.clone(),
            error,
            hint: "",
        })?;
        Ok(writer)
    }

    /// Works until the journal is closed or gone.
    pub(super) fn run(mut self, waiting: &Receiver<Command>) {
        while let Ok(first) = waiting.recv() {
            let (mut group, mut bytes, mut closing, mut is_marked) = (Vec::new(), 0, None, false);
            for command in std::iter::once(first).chain(waiting.try_iter()) {
                match command {
                    Command::Append { spans, body, reply, commands } => {
                        bytes += body.len();
                        group.push(Wanted { spans, body, reply, commands });
                    }
                    Command::Mark { number, progress } => {
                        self.mark(number, progress);
                        is_marked = true;
                    }
                    Command::Close { reply } => closing = Some(reply),
                }
                if bytes >= GROUP_BYTES || closing.is_some() {
                    break;
                }
            }
            self.write(group);
            if is_marked {
                self.shared.freed.notify_waiters();
            }
            if let Some(reply) = closing {
                let _ = reply.send(());
                return;
            }
        }
    }

    /// Notes what became of a record, here at once and in the file with what is written next.
    fn mark(&mut self, number: u64, progress: Progress) {
        let mut state = self.shared.state();
        match progress {
            Progress::Done => {
                let Some(record) = state.records.remove(&number) else { return };
                if let Some(segment) = state.segments.get_mut(&record.segment) {
                    segment.live -= 1;
                    segment.live_bytes -= record.size;
                }
            }
            Progress::Sent => match state.records.get_mut(&number) {
                Some(record) => record.is_sent = true,
                None => return,
            },
            Progress::Counted(until) => match state.records.get_mut(&number) {
                Some(record) => record.counted_until = record.counted_until.max(until),
                None => return,
            },
        }
        drop(state);
        self.marks.entry(progress).or_default().push(number);
    }

    /// Writes these records and all marks.
    fn write(&mut self, group: Vec<Wanted>) {
        self.remove_done();
        let wanted: u64 = group.iter().map(|wanted| wanted.body.len() as u64 + 64).sum();
        let is_full = !group.is_empty() && !self.make_room(wanted);
        let mut out = Vec::new();
        let mut new = Vec::new();
        // All of the group goes to one file, so that a failure is one of the group.
        let begun = self.segment();
        let number = self.next;
        if let Ok(segment) = begun {
            for (progress, numbers) in &self.marks {
                let entry = Entry::Progress { progress: *progress, numbers: numbers.clone() };
                frame::put(&mut out, self.shared.seed, &entry);
            }
            let start = self.shared.state().segments.get(&segment).map_or(0, |known| known.bytes);
            for Wanted { spans, body, reply, commands } in group {
                if is_full {
                    let _ = reply.send(Err(AppendError::Full));
                    continue;
                }
                let at = out.len();
                let entry = Entry::Record { number: self.next, spans, body: &body };
                frame::put(&mut out, self.shared.seed, &entry);
                let record = Record {
                    segment,
                    at: start + at as u64,
                    size: (out.len() - at) as u64,
                    spans,
                    is_sent: false,
                    counted_until: 0,
                };
                new.push(New { number: self.next, record, reply, commands });
                self.next += 1;
            }
            match self.append(segment, &out) {
                Ok(()) => {
                    self.marks.clear();
                    self.keep(new);
                }
                Err(error) => {
                    self.next = number;
                    self.refuse(new.into_iter().map(|new| new.reply), &error);
                }
            }
        } else if let Err(error) = begun {
            self.refuse(group.into_iter().map(|wanted| wanted.reply), &error);
        }
        self.remove_done();
    }

    fn refuse(&self, replies: impl Iterator<Item = Reply>, error: &std::io::Error) {
        for reply in replies {
            let _ = reply.send(Err(AppendError::Io(error.to_string())));
        }
    }

    /// Enters records that were written, and notifies those who wait.
    fn keep(&mut self, new: Vec<New>) {
        let mut state = self.shared.state();
        let mut replies = Vec::with_capacity(new.len());
        for New { number, record, reply, commands } in new {
            if let Some(segment) = state.segments.get_mut(&record.segment) {
                segment.live += 1;
                segment.live_bytes += record.size;
            }
            state.records.insert(number, record);
            replies.push((number, reply, commands));
        }
        drop(state);
        for (number, reply, commands) in replies {
            // Whoever does not wait any more drops it, and so takes it back.
            let _ = reply.send(Ok(Appended { number, commands: Some(commands) }));
        }
    }

    /// Returns whether so many more bytes may be written. Where they may not, records that are kept only for their stats are given up.
    fn make_room(&mut self, wanted: u64) -> bool {
        let max = self.shared.options.max_bytes;
        let has_room = |shared: &Shared| shared.bytes.load(Ordering::Relaxed) + wanted <= max;
        if has_room(&self.shared) {
            return true;
        }
        let sent: Vec<_> = {
            let state = self.shared.state();
            let sent = state.records.iter().filter(|(_, record)| record.is_sent);
            sent.map(|(number, record)| (*number, record.spans)).collect()
        };
        for (number, spans) in sent {
            self.shared.given_up.fetch_add(u64::from(spans), Ordering::Relaxed);
            self.mark(number, Progress::Done);
        }
        self.remove_done();
        while !has_room(&self.shared) && self.compact() {}
        has_room(&self.shared)
    }

    /// Writes to the end of a file: all, or nothing.
    fn append(&mut self, segment: u64, out: &[u8]) -> std::io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let Some((_, file)) = &mut self.current else {
            return Err(std::io::Error::other("there is no file"));
        };
        let start = self.shared.state().segments.get(&segment).map_or(0, |known| known.bytes);
        let written = write_all(&self.shared, file, out)
            .and_then(|()| if self.shared.options.fsync { file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // What was written of it is cut off; where that fails too, the file is left and the next one begun. Its torn end
            // is skipped when it is read.
            if file.set_len(start).is_err() {
                self.current = None;
            }
            return Err(error);
        }
        self.grow(segment, out.len() as u64);
        Ok(())
    }

    fn grow(&self, segment: u64, bytes: u64) {
        if let Some(segment) = self.shared.state().segments.get_mut(&segment) {
            segment.bytes += bytes;
        }
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The file to write to; begins one if there is none or the last one is large enough.
    fn segment(&mut self) -> std::io::Result<u64> {
        let limit = SEGMENT_BYTES.min(self.shared.options.max_bytes / 8);
        let last = {
            let state = self.shared.state();
            state.segments.last_key_value().map(|(number, segment)| (*number, segment.bytes))
        };
        if let (Some((number, _)), Some((last, bytes))) = (&self.current, last)
            && *number == last
            && bytes < limit
        {
            return Ok(last);
        }
        let number = last.map_or(1, |(number, _)| number + 1);
        let seed = self.shared.seed;
        let path = self.shared.directory.join(files::name(number, seed));
        let mut file = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
        let mut out = Vec::new();
        frame::put(&mut out, seed, &Entry::Begin { next: self.next });
        let begun = write_all(&self.shared, &mut file, &out).and_then(|()| {
            match self.shared.options.fsync {
                // The name is to be found after a loss of power, too.
                true => {
                    file.sync_all().and_then(|()| File::open(&self.shared.directory)?.sync_all())
                }
                false => Ok(()),
            }
        });
        if let Err(error) = begun {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let reader = Arc::new(file.try_clone()?);
        let segment = Segment { path, seed, file: reader, bytes: 0, live: 0, live_bytes: 0 };
        self.shared.state().segments.insert(number, segment);
        self.grow(number, out.len() as u64);
        self.current = Some((number, file));
        Ok(number)
    }

    /// Removes the oldest files for as long as nothing in them is needed. The marks in them are about records in files that
    /// are gone by then, or are gone with them.
    fn remove_done(&mut self) {
        loop {
            let path = {
                let mut state = self.shared.state();
                let Some((number, segment)) = state.segments.first_key_value() else { return };
                let is_current =
                    self.current.as_ref().is_some_and(|(current, _)| current == number);
                if segment.live > 0 || is_current {
                    return;
                }
                let (number, bytes) = (*number, segment.bytes);
                self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
                state.segments.remove(&number).map(|segment| segment.path)
            };
            // A file that cannot be removed is found again at the next start, and its records with it: they are sent twice
            // then, and not lost.
            if let Some(Err(error)) = path.map(fs::remove_file) {
                tracing::warn!(%error, "a file of the journal cannot be removed");
            }
        }
    }

    /// Writes the records of the oldest file again if they are few, so that one that is tried for long does not keep all that
    /// came after it. Whether it did.
    fn compact(&mut self) -> bool {
        let (oldest, seed, file, records) = {
            let state = self.shared.state();
            let Some((number, segment)) = state.segments.first_key_value() else { return false };
            let is_current = self.current.as_ref().is_some_and(|(current, _)| current == number);
            if is_current || segment.live_bytes > segment.bytes / 4 {
                return false;
            }
            let records = state.records.iter().filter(|(_, record)| record.segment == *number);
            let records: Vec<_> = records.map(|(id, record)| (*id, record.clone())).collect();
            (*number, segment.seed, Arc::clone(&segment.file), records)
        };
        let Ok(segment) = self.segment() else { return false };
        for (number, record) in records {
            let mut bytes = vec![0; usize::try_from(record.size).unwrap_or_default()];
            let whole = file.read_exact_at(&mut bytes, record.at).is_ok();
            let body = match frame::read(&bytes, seed) {
                Some((Entry::Record { body, .. } | Entry::Moved { body, .. }, _)) if whole => body,
                // It is found to be damaged when it is to be sent.
                _ => return false,
            };
            let mut out = Vec::new();
            let spans = record.spans;
            frame::put(&mut out, self.shared.seed, &Entry::Moved { number, spans, body });
            let size = out.len() as u64;
            if record.is_sent {
                let entry = Entry::Progress { progress: Progress::Sent, numbers: vec![number] };
                frame::put(&mut out, self.shared.seed, &entry);
            }
            if record.counted_until > 0 {
                let progress = Progress::Counted(record.counted_until);
                frame::put(
                    &mut out,
                    self.shared.seed,
                    &Entry::Progress { progress, numbers: vec![number] },
                );
            }
            let at = self.shared.state().segments.get(&segment).map_or(0, |known| known.bytes);
            if self.append(segment, &out).is_err() {
                return false;
            }
            let mut state = self.shared.state();
            if let Some(old) = state.segments.get_mut(&oldest) {
                old.live -= 1;
                old.live_bytes -= record.size;
            }
            if let Some(new) = state.segments.get_mut(&segment) {
                new.live += 1;
                new.live_bytes += size;
            }
            state.records.insert(number, Record { segment, at, size, ..record });
        }
        self.remove_done();
        true
    }
}

#[cfg(not(test))]
fn write_all(_: &Shared, file: &mut File, out: &[u8]) -> std::io::Result<()> {
    file.write_all(out)
}

/// As without tests, but for a disk that may be full.
#[cfg(test)]
fn write_all(shared: &Shared, file: &mut File, out: &[u8]) -> std::io::Result<()> {
    let room = shared.disk_bytes.load(Ordering::Relaxed);
    let room = room.saturating_sub(shared.bytes.load(Ordering::Relaxed));
    let part = usize::try_from(room).unwrap_or(usize::MAX).min(out.len());
    file.write_all(&out[..part])?;
    match part == out.len() {
        true => Ok(()),
        false => Err(std::io::ErrorKind::StorageFull.into()),
    }
}
