//! The file that reports which processes a run has, so that they can be found after a crash of the harness.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::proc::Stat;

/// Name of the file.
pub(super) const FILE: &str = "processes.json";

/// `processes.json` in the run's directory: a list, rewritten whenever a process starts or ends.
pub(super) struct Record {
    path: PathBuf,
    running: Mutex<BTreeMap<i32, Process>>,
}

/// One process, which leads a process group of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Process {
    /// Of the process and of its group.
    pub(super) pid: i32,
    pub(super) workload: String,
    /// The started program, without arguments.
    pub(super) program: String,
    /// When it was started, in milliseconds since 1970; distinguishes it from a later process with the same id.
    pub(super) started_unix_ms: u128,
    /// The process id of the harness, which is its parent as long as it lives.
    #[serde(default)]
    pub(super) owner: u32,
    /// When it was started, as the kernel counts; `None` where that is not to be had.
    #[serde(default)]
    pub(super) started_ticks: Option<u64>,
}

impl Process {
    /// Returns whether it runs, and the harness that started it does not. `false` where that cannot be determined.
    pub(super) fn is_orphan(&self) -> bool {
        let (Some(started), Some(stat)) = (self.started_ticks, Stat::of(self.pid)) else {
            return false;
        };
        self.pid > 0 && started == stat.started_ticks && stat.parent != self.owner
    }

    /// For people.
    pub(super) fn described(&self) -> String {
        format!("process {} ({}: {})", self.pid, self.workload, self.program)
    }
}

impl Record {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE), running: Mutex::default() }
    }

    pub(super) fn add(&self, process: Process) -> io::Result<()> {
        self.change(|running| {
            running.insert(process.pid, process);
        })
    }

    pub(super) fn remove(&self, pid: i32) -> io::Result<()> {
        self.change(|running| {
            running.remove(&pid);
        })
    }

    /// Writes a new file and puts it in the old one's place, so that a reader sees one or the other.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<i32, Process>)) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        if running.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let new = self.path.with_extension("json.new");
        let list: Vec<&Process> = running.values().collect();
        fs::write(&new, serde_json::to_vec_pretty(&list)?)?;
        fs::rename(&new, &self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
