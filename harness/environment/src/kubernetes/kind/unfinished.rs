//! Deleting a cluster that kind did not make to its end.
//!
//! kind that is killed leaves the docker commands behind that it started, and what they asked Docker for still comes. So their end
//! is waited for before anything is deleted, and deleting goes on until kind knows no such cluster.

use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicI32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::killpg,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use super::{DELETE_LIMIT, PROGRAM, Progress, deletion};

/// How long what kind started may go on after kind itself was ended.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How soon something is looked at again.
const RETRY: Duration = Duration::from_millis(100);

/// A cluster that is being made; when that is given up, what there is of it is deleted.
pub(super) struct Unfinished<'a> {
    name: &'a str,
    progress: Progress<'a>,
    /// The process group of the kind that makes it; 0 before it runs.
    group: AtomicI32,
    finished: bool,
}

impl<'a> Unfinished<'a> {
    /// A cluster of that name, of which there is nothing yet.
    pub(super) fn new(name: &'a str, progress: Progress<'a>) -> Self {
        Self { name, progress, group: AtomicI32::new(0), finished: false }
    }

    /// Cell for the process group of the kind that creates it.
    pub(super) fn group(&self) -> &AtomicI32 {
        &self.group
    }

    /// It is made, and stays.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        (self.progress)(&format!("kind: deleting what was made of cluster `{}`", self.name));
        // Nothing can be awaited here, and the caller may be about to end.
        settle(self.group.load(Ordering::Acquire));
        if let Err(reason) = delete(self.name) {
            (self.progress)(&format!(
                "kind: cluster `{0}` may be there in part: {reason}; `kind delete cluster --name {0}` deletes it",
                self.name
            ));
        }
    }
}

/// Waits until a process group that was ended is gone, its children too.
fn settle(group: i32) {
    if group == 0 {
        return;
    }
    let group = Pid::from_raw(group);
    let deadline = Instant::now() + SETTLE_LIMIT;
    while Instant::now() < deadline {
        // Nobody else may be left to take note of its end, and until then the group is there.
        let _ended_or_not = waitpid(group, Some(WaitPidFlag::WNOHANG));
        if killpg(group, None) == Err(Errno::ESRCH) {
            return;
        }
        pause();
    }
}

/// Deletes a cluster until kind does not know it.
fn delete(name: &str) -> Result<(), String> {
    let deadline = Instant::now() + DELETE_LIMIT;
    let (_nowhere, words) = deletion(name).map_err(|error| error.to_string())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    loop {
        let deleted = run(&words, deadline);
        let known = run(&["get", "clusters"], deadline);
        match known {
            Ok(clusters) if !clusters.lines().any(|line| line.trim() == name) => return Ok(()),
            _ if Instant::now() >= deadline => {
                return Err(deleted
                    .and(known)
                    .err()
                    .unwrap_or_else(|| "it does not go".to_owned()));
            }
            _ => pause(),
        }
    }
}

/// Runs kind and returns what it prints; an error that says why where it fails, or does not end by then.
fn run(words: &[&str], deadline: Instant) -> Result<String, String> {
    let described = |reason: String| format!("`kind {}` {reason}", words.join(" "));
    let mut child = Command::new(PROGRAM)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| described(format!("cannot be run: {error}")))?;
    while child.try_wait().map_err(|error| described(error.to_string()))?.is_none() {
        if Instant::now() >= deadline {
            end(&mut child);
            return Err(described("did not end".to_owned()));
        }
        pause();
    }
    let output = child.wait_with_output().map_err(|error| described(error.to_string()))?;
    if !output.status.success() {
        return Err(described(format!("failed ({})", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "where a value is dropped nothing can be awaited"
    )]
    thread::sleep(RETRY);
}

fn end(child: &mut Child) {
    let _has_ended = child.kill();
    let _is_gone = child.wait();
}
