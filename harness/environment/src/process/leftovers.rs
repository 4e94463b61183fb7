//! Finds what runs that could not clean up left behind: temporary directories, and orphaned processes.
//!
//! Programs of our own end with the harness; somebody else's do not, when the harness is killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{
    DIR_PREFIX,
    record::{self, Process},
};

/// Leftovers of one crashed run.
#[derive(Debug)]
pub struct Leftover {
    /// Its temporary directory.
    pub dir: PathBuf,
    /// Its processes that have ended.
    dead: Vec<Process>,
    /// Its processes that still run.
    orphans: Vec<Process>,
}

impl Leftover {
    /// Returns whether the harness with this process id started the run.
    pub fn is_of(&self, harness: u32) -> bool {
        self.dead.iter().chain(&self.orphans).any(|process| process.owner == harness)
    }

    /// Describes the processes of the run that are still running.
    pub fn processes(&self) -> impl Iterator<Item = String> {
        self.orphans.iter().map(Process::described)
    }

    /// Kills the run's processes and removes its directory; returns whether the directory was removed.
    pub fn remove(&self) -> bool {
        self.orphans.iter().for_each(end);
        match fs::remove_dir_all(&self.dir) {
            Ok(()) => {
                tracing::info!(dir = %self.dir.display(), "removed what a crashed run left behind");
                true
            }
            Err(error) => {
                tracing::debug!(dir = %self.dir.display(), %error, "cannot remove what a run left behind");
                false
            }
        }
    }
}

/// Finds the crashed runs below `parent`: directories that list processes, each of which has ended or lost the
/// harness that started it, and that have not been modified for `age`. Directories that cannot be read, for example
/// those of other users, are ignored.
pub fn find_leftovers(parent: &Path, age: Duration) -> Vec<Leftover> {
    run_dirs(parent).filter_map(|dir| leftover(dir, age)).collect()
}

/// Removes the crashed runs below `parent`, as [`find_leftovers`] finds them, and reports which.
pub fn remove_leftovers(parent: &Path, age: Duration) -> Vec<PathBuf> {
    let found = find_leftovers(parent, age).into_iter();
    found.filter(Leftover::remove).map(|leftover| leftover.dir).collect()
}

fn end(process: &Process) {
    // It leads a group of its own. Somebody else may have ended it meanwhile.
    let _ = killpg(Pid::from_raw(process.pid), Signal::SIGKILL);
}

fn run_dirs(parent: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(parent).into_iter().flatten();
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(DIR_PREFIX))
    };
    // A link is somebody else's doing.
    let is_dir = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named).filter(is_dir)
}

fn read(dir: &Path) -> Option<Vec<Process>> {
    serde_json::from_slice(&fs::read(dir.join(record::FILE)).ok()?).ok()
}

/// `None` where it is none, or that cannot be determined.
fn leftover(dir: PathBuf, age: Duration) -> Option<Leftover> {
    let written = fs::metadata(dir.join(record::FILE)).ok()?.modified().ok()?;
    let processes = read(&dir)?;
    let is_dead = |process: &Process| {
        process.pid > 0 && kill(Pid::from_raw(process.pid), None) == Err(Errno::ESRCH)
    };
    let (dead, alive): (Vec<_>, Vec<_>) = processes.into_iter().partition(is_dead);
    let is_left = written.elapsed().ok()? >= age && alive.iter().all(Process::is_orphan);
    is_left.then_some(Leftover { dir, dead, orphans: alive })
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_whose_harness_is_dead_is_ended_and_no_other() {
        let parent = tempfile::tempdir().unwrap();
        let mut sleeper = std::process::Command::new("sleep");
        let mut sleeper = std::os::unix::process::CommandExt::process_group(sleeper.arg("600"), 0)
            .spawn()
            .unwrap();
        let pid = i32::try_from(sleeper.id()).unwrap();
        let write = |name: &str, owner: u32, stat: Option<u64>| {
            let dir = parent.path().join(name);
            fs::create_dir_all(&dir).unwrap();
            let process = serde_json::json!([{
                "pid": pid, "workload": "w", "program": "sleep", "started_unix_ms": 1,
                "owner": owner, "started_ticks": stat,
            }]);
            fs::write(dir.join(record::FILE), process.to_string()).unwrap();
        };
        let born = crate::proc::Stat::of(pid).map(|stat| stat.started_ticks);
        assert!(born.is_some());
        // Its harness lives (it is this very process), or it is another process that has the same id now.
        write("tracecheck-lives", std::process::id(), born);
        write("tracecheck-reused", 1, born.map(|ticks| ticks + 1));
        write("tracecheck-unknown", 1, None);
        assert!(find_leftovers(parent.path(), Duration::ZERO).is_empty());
        assert!(sleeper.try_wait().unwrap().is_none());
        // Its parent is not the harness that started it.
        let orphaned = parent.path().join("tracecheck-orphaned");
        write("tracecheck-orphaned", u32::MAX, born);
        let found = find_leftovers(parent.path(), Duration::ZERO);
        assert_eq!(found.len(), 1);
        assert!(found[0].is_of(u32::MAX) && !found[0].is_of(1));
        assert_eq!(found[0].processes().collect::<Vec<_>>(), [format!("process {pid} (w: sleep)")]);
        assert_eq!(remove_leftovers(parent.path(), Duration::ZERO), [orphaned]);
        assert!(!sleeper.wait().unwrap().success());
    }
}
