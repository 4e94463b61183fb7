//! Processes as `/proc` lists them, on Linux; on other systems there is none of it.

use std::{fs, path::Path, time::Duration};

use tokio::time;

/// Longest wait until a process stands still after SIGSTOP.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether it does.
const FREEZE_POLL: Duration = Duration::from_millis(1);

/// The fields of `/proc/PID/stat` that are read (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// State letter: `R` runs, `T` was stopped by a signal, `Z` has ended.
    pub state: char,
    /// Process id of its parent.
    pub parent: u32,
    /// Process group.
    pub group: i32,
    /// Time of its start: ticks since the machine's.
    pub started_ticks: u64,
}

impl Stat {
    /// Reads that of a process; `None` where there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Self::read(format!("/proc/{pid}/stat").as_ref())
    }

    fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// The name may hold anything, so the fields are counted from its end: the first one after it is field 3.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            started_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_still(self) -> bool {
        matches!(self.state, 'T' | 't' | 'X' | 'Z')
    }
}

/// Lists the ids of all processes.
pub fn pids() -> impl Iterator<Item = i32> {
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns whether all threads of a process have stopped, or ended; always `true` where there is no `/proc`.
///
/// A process that is sent SIGSTOP goes on for a moment: one of its threads takes the signal once it is scheduled, and stops the others.
pub fn is_frozen(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // A thread may end meanwhile.
    threads.filter_map(|thread| Stat::read(&thread.path().join("stat"))).all(Stat::is_still)
}

/// Error for a process that does not stand still.
#[derive(Debug, thiserror::Error)]
#[error("it was still at work {:?} after SIGSTOP", FREEZE_LIMIT)]
pub struct StillAtWork;

/// Waits until what was sent SIGSTOP stands still, which `is_frozen` returns.
///
/// # Errors
///
/// When that takes too long.
pub async fn frozen(mut is_frozen: impl FnMut() -> bool) -> Result<(), StillAtWork> {
    let frozen = async {
        while !is_frozen() {
            time::sleep(FREEZE_POLL).await;
        }
    };
    time::timeout(FREEZE_LIMIT, frozen).await.map_err(|_| StillAtWork)
}

/// Returns whether all processes of a group have stopped, or ended; as [`is_frozen`].
pub(crate) fn is_group_frozen(group: i32) -> bool {
    let is_of_it = |pid: &i32| Stat::of(*pid).is_some_and(|stat| stat.group == group);
    pids().filter(is_of_it).all(is_frozen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "12 (a) (b) T 7 11 12 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let fields = Stat { state: 'T', parent: 7, group: 11, started_ticks: 4711 };
        assert_eq!(Stat::parse(stat), Some(fields));
        assert_eq!(Stat::parse("12 tracecheck"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_is_at_work_is_not_frozen() {
        assert!(!is_frozen(std::process::id().cast_signed()));
        assert!(!is_group_frozen(nix::unistd::getpgrp().as_raw()));
    }
}
