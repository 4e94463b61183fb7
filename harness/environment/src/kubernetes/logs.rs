//! Follows the logs of all pods of a namespace into one log for each workload, so that they are there when the pods are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, api::LogParams};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::pods::{PodState, Pods};
use crate::log::Log;

/// The longest line; a longer one is broken into several.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// How soon a log that broke off is followed again.
const RETRY: Duration = Duration::from_millis(300);
/// How often that is tried for nothing.
const MAX_RETRIES: u32 = 100;

/// Follows the logs. Dropping it ends that.
pub(super) struct Logs {
    logs: BTreeMap<String, Arc<Log>>,
    task: JoinHandle<()>,
    /// The starts of containers whose logs are being followed, by workload.
    followed: Arc<Mutex<BTreeMap<Start, String>>>,
    changed: watch::Sender<()>,
}

/// One start of a pod's container: the pod's uid, and how often it was started before.
type Start = (String, i32);

impl Logs {
    /// Begins to follow the logs of the pods that are there and of those that come, by workload.
    pub(super) fn follow(api: Api<Pod>, pods: Arc<Pods>, logs: BTreeMap<String, Arc<Log>>) -> Self {
        let followed = Arc::default();
        let changed = watch::Sender::new(());
        let follower = Follower {
            api,
            pods,
            logs: logs.clone(),
            followed: Arc::clone(&followed),
            changed: changed.clone(),
        };
        Self { logs, task: tokio::spawn(follower.run()), followed, changed }
    }

    /// The log of a workload.
    pub(super) fn of(&self, workload: &str) -> Option<&Arc<Log>> {
        self.logs.get(workload)
    }

    /// All of them, by workload.
    pub(super) fn all(&self) -> &BTreeMap<String, Arc<Log>> {
        &self.logs
    }

    fn reads(&self, workload: &str) -> bool {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.values().any(|of| of == workload)
    }

    /// Waits until what a workload's ended pods said has been read, at most for `limit`.
    pub(super) async fn read_to_end(&self, workload: &str, limit: Duration) {
        let mut changed = self.changed.subscribe();
        let deadline = Instant::now() + limit;
        loop {
            changed.mark_unchanged();
            if !self.reads(workload)
                || tokio::time::timeout_at(deadline, changed.changed()).await.is_err()
            {
                return;
            }
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    api: Api<Pod>,
    pods: Arc<Pods>,
    logs: BTreeMap<String, Arc<Log>>,
    followed: Arc<Mutex<BTreeMap<Start, String>>>,
    changed: watch::Sender<()>,
}

impl Follower {
    async fn run(self) {
        let mut changed = self.pods.changed();
        let mut begun = BTreeSet::new();
        let mut reading = JoinSet::new();
        loop {
            changed.mark_unchanged();
            for pod in self.pods.all() {
                let start = (pod.uid.clone(), pod.restarts);
                let has_begun = pod.running || pod.ended.is_some();
                let Some(log) = self.logs.get(&pod.workload).filter(|_| has_begun) else {
                    continue;
                };
                if !begun.insert(start.clone()) {
                    continue;
                }
                self.followed().insert(start.clone(), pod.workload.clone());
                let (api, pods, log) = (self.api.clone(), Arc::clone(&self.pods), Arc::clone(log));
                reading.spawn(async move {
                    read(&api, &pods, &pod, &log).await;
                    start
                });
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                Some(ended) = reading.join_next(), if !reading.is_empty() => {
                    if let Ok(start) = ended {
                        self.followed().remove(&start);
                        self.changed.send_replace(());
                    }
                }
            }
        }
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, BTreeMap<Start, String>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what one start of a pod's container says, to its end.
async fn read(api: &Api<Pod>, pods: &Pods, pod: &PodState, log: &Log) {
    let mut last: Option<Timestamp> = None;
    for _ in 0..MAX_RETRIES {
        let params = LogParams {
            container: Some(pod.container.clone()),
            follow: true,
            timestamps: true,
            since_time: last,
            ..LogParams::default()
        };
        let broke = match api.log_stream(&pod.name, &params).await {
            Ok(stream) => copy(stream.compat(), log, &mut last).await.is_err(),
            Err(error) => super::cluster::code(&error) != Some(404),
        };
        // A stream ends without an error also when only the way to it ended.
        let runs = pods.all().into_iter().any(|now| {
            now.uid == pod.uid && now.restarts == pod.restarts && now.running && !now.deleting
        });
        if !broke && !runs {
            return;
        }
        if pods.gone(&pod.uid).is_some() {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Takes over the lines that are later than `last`.
async fn copy(
    stream: impl tokio::io::AsyncRead + Unpin,
    log: &Log,
    last: &mut Option<Timestamp>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        let stamped = line.split_once(' ').unwrap_or((line, ""));
        match stamped.0.parse::<Timestamp>() {
            Ok(at) if last.is_some_and(|last| at <= last) => {}
            Ok(at) => {
                *last = Some(at);
                log.push(stamped.1);
            }
            // The rest of a line that was broken up.
            Err(_) => log.push(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_that_were_read_before_are_not_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::create(&dir.path().join("a.log"), Vec::new(), 10).unwrap();
        let mut last = None;
        let first = "2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:00.2Z two\n";
        copy(first.as_bytes(), &log, &mut last).await.unwrap();
        let again = "2026-01-01T00:00:00.2Z two\n2026-01-01T00:00:00.3Z \n2026-01-01T00:00:00.4Z four five\n";
        copy(again.as_bytes(), &log, &mut last).await.unwrap();
        assert_eq!(log.tail(10), ["one", "two", "", "four five"]);
    }
}
