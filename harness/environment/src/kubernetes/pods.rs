//! State of the pods and Deployments of one namespace: a copy that watches keep current, to be asked at any time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ContainerState, ContainerStateTerminated, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Client, Resource,
    runtime::{utils::Backoff, watcher::Event},
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    names::{CONTAINER, OPERATOR_CONTAINER, WORKLOAD},
    typed::Typed,
};

/// How soon a watch is tried again, and the most that this grows to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// The kubelet's word for the end of a container of which it knows nothing.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
/// How many pods that are gone are remembered.
const MAX_GONE: usize = 256;

/// The copy. Dropping it ends the watches.
pub(super) struct Pods {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, PodState>,
    gone: Vec<PodState>,
    /// Reason why a Deployment cannot create its pods, by its name.
    refused: BTreeMap<String, String>,
    /// Reason why the watch of pods does not follow.
    broken: Option<String>,
}

/// One pod, as far as it is of interest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PodState {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) workload: String,
    /// The container that runs it; a mesh may put others beside it.
    pub(super) container: String,
    pub(super) created: Option<Time>,
    /// Whether it accepts requests.
    pub(super) ready: bool,
    /// Its container runs.
    pub(super) running: bool,
    /// Since when.
    pub(super) since: Option<Time>,
    /// It is to go.
    pub(super) deleting: bool,
    /// How often its container was started again.
    pub(super) restarts: i32,
    /// Reason why its container does not run yet: Kubernetes' word, and what it says.
    pub(super) waiting: Option<(String, String)>,
    /// How its container ended, if it is not running.
    pub(super) ended: Option<Exit>,
    /// How it ended before it was started again.
    pub(super) ended_before: Option<Exit>,
    /// Reason why no node takes it.
    pub(super) unschedulable: Option<String>,
    /// The pod as a whole failed, for example as it was evicted: why.
    pub(super) failed: Option<String>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) code: i32,
    /// `OOMKilled`, `Error`, `Completed`, …
    pub(super) reason: String,
    pub(super) message: String,
}

impl Exit {
    fn of(ended: &ContainerStateTerminated) -> Self {
        Self {
            code: ended.exit_code,
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.clone().unwrap_or_default(),
        }
    }

    /// For people, for example `exit code 137, OOMKilled`.
    pub(super) fn text(&self) -> String {
        let mut text = format!("exit code {}", self.code);
        if !matches!(self.reason.as_str(), "" | "Error" | "Completed") {
            text.push_str(&format!(", {}", self.reason));
        }
        if !self.message.is_empty() {
            text.push_str(&format!(": {}", self.message.trim()));
        }
        text
    }
}

impl PodState {
    /// Reads a pod's object.
    pub(super) fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let conditions =
            || status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let is = |kind: &str, value: &str| {
            conditions().find(|one| one.type_ == kind && one.status == value)
        };
        let names: Vec<&str> = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|one| one.name.as_str())
            .collect();
        let known = [CONTAINER, OPERATOR_CONTAINER].into_iter().find(|name| names.contains(name));
        let name = known.or(names.first().copied()).unwrap_or(CONTAINER);
        let statuses = status.and_then(|status| status.container_statuses.as_ref());
        let container = statuses.into_iter().flatten().find(|one| one.name == name);
        let now = container.and_then(|one| one.state.as_ref());
        // What the kubelet writes of a container that it never made, when it is asked to end its pod.
        let was_made = container.is_some_and(|one| {
            one.restart_count > 0 || one.container_id.as_ref().is_some_and(|id| !id.is_empty())
        });
        let ended = |state: Option<&ContainerState>| {
            let ended = state.and_then(|state| state.terminated.as_ref());
            ended
                .filter(|one| was_made || one.reason.as_deref() != Some(STATUS_UNKNOWN))
                .map(Exit::of)
        };
        let waiting = now.and_then(|state| state.waiting.as_ref());
        let labels = pod.metadata.labels.as_ref();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            workload: labels.and_then(|all| all.get(WORKLOAD)).cloned().unwrap_or_default(),
            container: name.to_owned(),
            created: pod.metadata.creation_timestamp.clone(),
            ready: is("Ready", "True").is_some(),
            running: now.is_some_and(|state| state.running.is_some()),
            since: now.and_then(|state| state.running.as_ref()?.started_at.clone()),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            restarts: container.map_or(0, |one| one.restart_count),
            waiting: waiting.map(|waiting| {
                let word = waiting.reason.clone().unwrap_or_default();
                (word, waiting.message.clone().unwrap_or_default())
            }),
            ended: ended(now),
            ended_before: ended(container.and_then(|one| one.last_state.as_ref())),
            unschedulable: is("PodScheduled", "False")
                .filter(|one| one.reason.as_deref() == Some("Unschedulable"))
                .map(|one| one.message.clone().unwrap_or_default()),
            failed: status.filter(|status| status.phase.as_deref() == Some("Failed")).map(
                |status| {
                    let reported = [&status.reason, &status.message];
                    let reported: Vec<&str> =
                        reported.into_iter().flatten().map(String::as_str).collect();
                    reported.join(": ")
                },
            ),
        }
    }
}

impl Pods {
    /// Begins to watch a namespace.
    pub(super) fn watch(client: &Client, namespace: &str) -> Self {
        let changed = watch::Sender::new(0);
        let state = Arc::<Mutex<State>>::default();
        let pods = Typed::<Pod>::namespaced(client, namespace);
        let deployments = Typed::<Deployment>::namespaced(client, namespace);
        let tasks = vec![
            tokio::spawn(follow(pods, Arc::clone(&state), changed.clone(), State::take_pod)),
            tokio::spawn(follow(
                deployments,
                Arc::clone(&state),
                changed.clone(),
                State::take_deployment,
            )),
        ];
        Self { state, changed, tasks }
    }

    /// Wakes on each change. What came before the call does not wake it: look first, then wait.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The pods of a workload, the oldest first.
    pub(super) fn of(&self, workload: &str) -> Vec<PodState> {
        let state = self.state();
        let mut pods: Vec<PodState> =
            state.pods.values().filter(|pod| pod.workload == workload).cloned().collect();
        pods.sort_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
        pods
    }

    /// All pods.
    pub(super) fn all(&self) -> Vec<PodState> {
        self.state().pods.values().cloned().collect()
    }

    /// A pod that is gone, as it was last seen.
    pub(super) fn gone(&self, uid: &str) -> Option<PodState> {
        self.state().gone.iter().find(|pod| pod.uid == uid).cloned()
    }

    /// Returns why a Deployment cannot create its pods.
    pub(super) fn refused(&self, deployment: &str) -> Option<String> {
        self.state().refused.get(deployment).cloned()
    }

    /// Returns what keeps the copy from being current.
    pub(super) fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Waits until `holds` gives something; `None` at the deadline.
    pub(super) async fn wait<T>(
        &self,
        deadline: Instant,
        mut holds: impl FnMut(&Self) -> Option<T>,
    ) -> Option<T> {
        let mut changed = self.changed();
        loop {
            changed.mark_unchanged();
            if let Some(found) = holds(self) {
                return Some(found);
            }
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                _ => return holds(self),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl State {
    fn take_pod(&mut self, event: Result<Event<Pod>, String>, listed: &mut Vec<String>) {
        match event {
            Ok(Event::Apply(pod)) => self.put(&pod),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.metadata.name.clone());
                self.put(&pod);
            }
            Ok(Event::Delete(pod)) => {
                let name = pod.metadata.name.clone().unwrap_or_default();
                self.put(&pod);
                self.forget(&name);
            }
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => {
                let known: Vec<String> = self.pods.keys().cloned().collect();
                for name in known.iter().filter(|name| !listed.contains(name)) {
                    self.forget(name);
                }
                self.broken = None;
            }
            Err(error) => {
                self.broken = Some(error);
                return;
            }
        }
        self.broken = None;
    }

    fn put(&mut self, pod: &Pod) {
        let pod = PodState::of(pod);
        self.pods.insert(pod.name.clone(), pod);
    }

    fn forget(&mut self, name: &str) {
        let Some(pod) = self.pods.remove(name) else { return };
        if self.gone.len() == MAX_GONE {
            self.gone.remove(0);
        }
        self.gone.push(pod);
    }

    fn take_deployment(
        &mut self,
        event: Result<Event<Deployment>, String>,
        _listed: &mut Vec<String>,
    ) {
        let (Ok(Event::Apply(deployment)) | Ok(Event::InitApply(deployment))) = event else {
            return;
        };
        let name = deployment.metadata.name.unwrap_or_default();
        let conditions = deployment.status.and_then(|status| status.conditions).unwrap_or_default();
        let failure = conditions
            .into_iter()
            .find(|one| one.type_ == "ReplicaFailure" && one.status == "True")
            .map(|one| one.message.unwrap_or_default());
        match failure {
            Some(why) => self.refused.insert(name, why),
            None => self.refused.remove(&name),
        };
    }
}

/// Each wait twice as long as the one before. The usual one of watches grows to half a minute, in which a scenario is over.
struct Doubling(Duration);

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.0;
        self.0 = (now * 2).min(BACKOFF.1);
        Some(now)
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.0 = BACKOFF.0;
    }
}

/// Follows all objects of a kind, for ever.
async fn follow<K>(
    objects: Typed<K>,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    take: fn(&mut State, Result<Event<K>, String>, &mut Vec<String>),
) where
    K: Resource + DeserializeOwned + 'static,
{
    let events = objects.watch(Doubling(BACKOFF.0));
    let mut events = std::pin::pin!(events);
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        take(&mut state.lock().unwrap_or_else(PoisonError::into_inner), event, &mut listed);
        changed.send_modify(|changes| *changes += 1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, status: serde_json::Value) -> Pod {
        let metadata = json!({ "name": name, "uid": name, "labels": { WORKLOAD: "web" } });
        serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
    }

    #[test]
    fn a_pods_object_is_read() {
        let running = json!({
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{
                "name": "workload", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                "state": { "running": {} },
                "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
            }],
        });
        let state = PodState::of(&pod("a", running));
        assert!(state.ready && state.running && !state.deleting);
        assert_eq!((state.workload.as_str(), state.restarts), ("web", 1));
        assert_eq!(state.ended_before.unwrap().text(), "exit code 137, OOMKilled");
        let pending = json!({
            "phase": "Pending",
            "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes",
            }],
        });
        let state = PodState::of(&pod("a", pending));
        assert_eq!(state.unschedulable.as_deref(), Some("0/1 nodes"));
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" });
        let state = PodState::of(&pod("a", evicted));
        assert_eq!(state.failed.as_deref(), Some("Evicted: low on memory"));
    }

    #[test]
    fn a_container_that_was_never_made_has_not_ended() {
        let unknown = |id: serde_json::Value| {
            json!({ "phase": "Failed", "containerStatuses": [{
                "name": "workload", "image": "", "imageID": "", "ready": false, "restartCount": 0, "containerID": id,
                "state": { "terminated": {
                    "exitCode": 137, "reason": STATUS_UNKNOWN, "message": "The container could not be located",
                } },
            }] })
        };
        assert_eq!(PodState::of(&pod("a", unknown(serde_json::Value::Null))).ended, None);
        let lost = PodState::of(&pod("a", unknown("containerd://1".into()))).ended.unwrap();
        assert!(lost.text().contains(STATUS_UNKNOWN), "{lost:?}");
    }

    #[test]
    fn pods_that_a_new_list_lacks_are_gone_and_what_they_were_last_is_remembered() {
        let mut state = State::default();
        let mut listed = Vec::new();
        let ended = json!({ "containerStatuses": [{
            "name": "workload", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 3 } },
        }] });
        state.take_pod(Ok(Event::Apply(pod("a", json!({})))), &mut listed);
        state.take_pod(Ok(Event::Apply(pod("b", json!({})))), &mut listed);
        state.take_pod(Ok(Event::Delete(pod("a", ended))), &mut listed);
        assert_eq!(state.gone[0].ended.as_ref().unwrap().code, 3);
        state.take_pod(Err("away".to_owned()), &mut listed);
        assert_eq!(state.broken.as_deref(), Some("away"));
        for event in [Event::Init, Event::InitApply(pod("c", json!({}))), Event::InitDone] {
            state.take_pod(Ok(event), &mut listed);
        }
        assert_eq!(state.broken, None);
        assert_eq!(state.pods.keys().collect::<Vec<_>>(), ["c"]);
        assert_eq!(state.gone.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
