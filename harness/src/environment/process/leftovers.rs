//! What runs left behind that could not clean up: their temporary directories.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

use super::{
    DIR_PREFIX,
    record::{self, Process},
};

/// Removes the temporary directories of crashed runs below `parent`, and tells which: those that still name processes,
/// of which none is alive, and that nothing was written to for `age`. What cannot be read or removed is left alone:
/// another user's run, for example.
pub fn remove_leftovers(parent: &Path, age: Duration) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(DIR_PREFIX))
    };
    let mut removed: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named).collect();
    removed.retain(|dir| is_leftover(dir, age).unwrap_or(false));
    removed.retain(|dir| match fs::remove_dir_all(dir) {
        Ok(()) => {
            tracing::info!(dir = %dir.display(), "removed what a crashed run left behind");
            true
        }
        Err(error) => {
            tracing::debug!(dir = %dir.display(), %error, "cannot remove what a run left behind");
            false
        }
    });
    removed
}

/// `None` where it cannot be told.
fn is_leftover(dir: &Path, age: Duration) -> Option<bool> {
    // A link is somebody else's doing.
    if !fs::symlink_metadata(dir).ok()?.is_dir() {
        return Some(false);
    }
    let file = dir.join(record::FILE);
    let old = fs::metadata(&file).ok()?.modified().ok()?.elapsed().ok()? >= age;
    let processes: Vec<Process> = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
    let is_dead = |process: &Process| {
        process.pid > 0 && kill(Pid::from_raw(process.pid), None) == Err(Errno::ESRCH)
    };
    Some(old && processes.iter().all(is_dead))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run's directory that names one process.
    fn run_dir(parent: &Path, name: &str, pid: u32) -> PathBuf {
        let dir = parent.join(name);
        fs::create_dir_all(dir.join("logs")).unwrap();
        let process = serde_json::json!([
            { "pid": pid, "workload": "w", "program": "p", "started_unix_ms": 1 }
        ]);
        fs::write(dir.join(record::FILE), process.to_string()).unwrap();
        dir
    }

    #[test]
    fn only_old_directories_of_runs_whose_processes_are_all_dead_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let dead = run_dir(parent.path(), "tracecheck-dead", ended.id());
        let alive = run_dir(parent.path(), "tracecheck-alive", std::process::id());
        let other = run_dir(parent.path(), "other-dead", ended.id());
        let unknown = parent.path().join("tracecheck-unknown");
        fs::create_dir(&unknown).unwrap();

        assert!(remove_leftovers(parent.path(), Duration::from_secs(3600)).is_empty());
        assert_eq!(remove_leftovers(parent.path(), Duration::ZERO), std::slice::from_ref(&dead));
        assert!(!dead.exists() && alive.exists() && other.exists() && unknown.exists());
    }
}
