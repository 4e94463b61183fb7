//! Log of a workload: its last lines in memory, all of it (up to a limit) in a file.

use std::{
    collections::VecDeque,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::LineTest;
use harness_core::secret::Secret;

/// The longest line; a longer one is broken into several.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// The most that is written to one workload's log file.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The log of one workload, over all its starts.
pub(crate) struct Log {
    path: PathBuf,
    /// Printed as `***`.
    secrets: Vec<Secret>,
    max_lines: usize,
    state: Mutex<State>,
}

struct State {
    /// Each with the time when it was read.
    lines: VecDeque<(SystemTime, String)>,
    /// How many lines there were, those that were pushed out included.
    seen: u64,
    file: fs::File,
    file_bytes: u64,
}

impl Log {
    /// Makes the file, empty.
    pub(crate) fn create(path: &Path, secrets: Vec<Secret>, max_lines: usize) -> io::Result<Self> {
        let state =
            State { lines: VecDeque::new(), seen: 0, file: fs::File::create(path)?, file_bytes: 0 };
        Ok(Self { path: path.to_owned(), secrets, max_lines, state: Mutex::new(state) })
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line, secrets redacted; gives it back as it was.
    pub(crate) fn push(&self, line: &str) {
        let mut line = line.to_owned();
        for secret in &self.secrets {
            line = secret.redact(&line);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen += 1;
        if state.file_bytes <= MAX_FILE_BYTES {
            state.file_bytes += line.len() as u64 + 1;
            let end = if state.file_bytes > MAX_FILE_BYTES {
                "(the log is truncated here: too long)"
            } else {
                &line
            };
            // A full disk must not end the run that could report it; the lines in memory are still there.
            let _ = writeln!(state.file, "{end}");
        }
        if state.lines.len() == self.max_lines {
            state.lines.pop_front();
        }
        state.lines.push_back((SystemTime::now(), line));
    }

    /// How many lines there have been; for [`Log::since`].
    pub(crate) fn mark(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).seen
    }

    /// The last `count` lines.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = state.lines.len().saturating_sub(count);
        state.lines.iter().skip(skipped).map(|(_, line)| line.clone()).collect()
    }

    /// Returns those of the last lines that `is_meant`, each with the time when it was read.
    pub(crate) fn lines(&self, is_meant: LineTest) -> Vec<(SystemTime, String)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines.iter().filter(|(_, line)| is_meant(line)).cloned().collect()
    }

    /// The lines since a mark that are still there, at most `count` of them, the last ones.
    pub(crate) fn since(&self, mark: u64, count: usize) -> Vec<String> {
        let new = usize::try_from(self.mark().saturating_sub(mark)).unwrap_or(usize::MAX);
        self.tail(new.min(count))
    }

    /// Reads lines until the end of `output`, shows each to `observe` as it was printed, and keeps it.
    pub(crate) async fn follow(
        &self,
        output: impl AsyncRead + Unpin,
        mut observe: impl FnMut(&str),
    ) {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            // Nothing more can be read after an error either: the program's end is seen elsewhere.
            match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&bytes);
            let line = line.trim_end_matches(['\n', '\r']);
            observe(line);
            self.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lines_in_memory_are_bounded_and_the_file_has_them_all_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = Log::create(&path, vec![Secret::new("5ecret")], 3).unwrap();
        let text = b"one\r\ntwo\nkey=5ecret\nfour\nfi\xffve";
        let mut observed = Vec::new();
        log.follow(text.as_slice(), |line| observed.push(line.to_owned())).await;
        assert_eq!(observed.len(), 5);
        assert_eq!(log.tail(10), ["key=***", "four", "fi\u{fffd}ve"]);
        assert_eq!(log.tail(1), ["fi\u{fffd}ve"]);
        assert_eq!(log.since(4, 10), ["fi\u{fffd}ve"]);
        let [(read_at, line)] = &log.lines(|line| line.starts_with("key"))[..] else { panic!() };
        assert!(line == "key=***" && read_at.elapsed().is_ok());
        let file = fs::read_to_string(&path).unwrap();
        assert_eq!(file, "one\ntwo\nkey=***\nfour\nfi\u{fffd}ve\n");
    }

    #[tokio::test]
    async fn a_line_without_end_is_broken_up() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(&dir.path().join("a.log"), Vec::new(), 10).unwrap();
        log.follow(vec![b'x'; 40_000].as_slice(), |_| {}).await;
        let lengths: Vec<usize> = log.tail(10).iter().map(String::len).collect();
        assert_eq!(lengths, [16_384, 16_384, 7_232]);
    }
}
