//! Names and labels: whose a container, a network or a volume is.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

/// Label: the id of the run.
pub const RUN: &str = "tracecheck.run";
/// Label: the run's id and the number of the system in it.
pub const SYSTEM: &str = "tracecheck.system";
/// Label: the workload.
pub const WORKLOAD: &str = "tracecheck.workload";
/// Label: the process that will remove it, as `HOST/PID/START`.
pub const OWNER: &str = "tracecheck.owner";
/// Label: when it was made, in seconds since 1970.
pub(super) const CREATED: &str = "tracecheck.created";

/// How long a name may be to be found by DNS.
const MAX_NAME: usize = 63;

/// Names and labels of one system.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    run_id: String,
    number: usize,
    owner: String,
}

impl Labels {
    pub(super) fn new(run_id: &str, number: usize) -> Self {
        Self { run_id: run_id.to_owned(), number, owner: this_process() }
    }

    /// The value of [`SYSTEM`].
    pub(super) fn system(&self) -> String {
        format!("{}-{}", self.run_id, self.number)
    }

    /// The network's name.
    pub(super) fn network(&self) -> String {
        format!("tracecheck-{}", self.system())
    }

    /// The name of a workload's container, by which others find it.
    pub(super) fn name_of(&self, workload: &str) -> String {
        let name = format!("{}-{workload}", self.network());
        if name.len() <= MAX_NAME {
            return name;
        }
        // Two long names may begin alike.
        let digest = crate::image::short_digest(workload.as_bytes());
        let kept = MAX_NAME - digest.len() - 1;
        format!("{}-{digest}", &name[..kept])
    }

    pub(super) fn of_system(&self) -> HashMap<String, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let labels = [
            (RUN, self.run_id.clone()),
            (SYSTEM, self.system()),
            (OWNER, self.owner.clone()),
            (CREATED, now.as_secs().to_string()),
        ];
        labels.map(|(name, value)| (name.to_owned(), value)).into()
    }

    pub(super) fn of_workload(&self, workload: &str) -> HashMap<String, String> {
        let mut labels = self.of_system();
        labels.insert(WORKLOAD.to_owned(), workload.to_owned());
        labels
    }
}

/// This process, distinguished from any other that ever has its number on this machine.
fn this_process() -> String {
    let pid = Pid::this();
    format!("{}/{pid}/{}", host_name(), started(pid).unwrap_or_default())
}

/// Returns whether the process that created something still runs; `None` where that cannot be determined from here.
pub(super) fn owner_lives(owner: &str) -> Option<bool> {
    let mut parts = owner.rsplitn(3, '/');
    let (start, pid, host) = (parts.next()?, parts.next()?, parts.next()?);
    if host != host_name() {
        return None;
    }
    let pid = Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 0)?);
    let runs = kill(pid, None) != Err(Errno::ESRCH);
    Some(runs && started(pid).unwrap_or_default() == start)
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .replace('/', "_")
}

/// When a process started, in ticks since the machine did, where the system reports it.
fn started(pid: Pid) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold anything, and stands in parentheses before the 20th field that follows it.
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart_and_can_be_found() {
        let labels = Labels::new("590bc6e5", 12);
        assert_eq!(labels.name_of("collector"), "tracecheck-590bc6e5-12-collector");
        let (one, two) = (format!("{}-1", "x".repeat(60)), format!("{}-2", "x".repeat(60)));
        let (one, two) = (labels.name_of(&one), labels.name_of(&two));
        assert_ne!(one, two);
        assert_eq!((one.len(), two.len()), (MAX_NAME, MAX_NAME));
    }

    #[test]
    fn an_owner_lives_as_long_as_its_process() {
        assert_eq!(owner_lives(&this_process()), Some(true));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(owner_lives(&format!("{}/{}/1", host_name(), child.id())), Some(false));
        // Another process has the number now.
        let other = format!("{}/{}/1", host_name(), Pid::this());
        assert_eq!(owner_lives(&other), Some(!cfg!(target_os = "linux")));
        assert_eq!(owner_lives("elsewhere/1/1"), None);
        assert_eq!(owner_lives("nobody"), None);
    }
}
