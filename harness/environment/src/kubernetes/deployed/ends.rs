//! Ends of pods: those that are asked for, each reported when it was not clean, and those that nobody asked for.

use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::Instant;

use super::{
    super::{
        exec, manifests,
        pods::{Exit, PodState, Pods},
    },
    Deployed, EXEC_LIMIT, LOG_LIMIT, TAIL_LINES,
};
use crate::{EnvironmentError, UncleanStop, UnexpectedExit, container::Container};
use harness_system::Role;

/// Time that the cluster needs for the end of a pod beside the pod's own.
const STOP_BESIDES: Duration = Duration::from_secs(15);
/// The status of a container that was killed.
const KILLED: i32 = 137;
/// How long the end of a killed container may take to be seen.
const KILL_LIMIT: Duration = Duration::from_secs(15);

impl Deployed {
    /// Stops all workloads of which `is_meant` holds, at the same time; reports those that did not end well.
    pub(in super::super) async fn stop_all(
        &mut self,
        is_meant: impl Fn(&str, Role) -> bool,
    ) -> Result<Vec<UncleanStop>, EnvironmentError> {
        let meant = self.workloads.iter().filter(|(name, one)| is_meant(name, one.container.role));
        let names: Vec<String> = meant.map(|(name, _)| name.clone()).collect();
        let mut leaving = Vec::new();
        for name in &names {
            leaving.push((name, self.leave(name, 0).await?));
        }
        let ended = leaving.into_iter().map(|(name, pods)| self.ended(name, pods, 0));
        let ended = join_all(ended).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(ended.into_iter().flatten().collect())
    }

    /// Stops it, and waits until its callers know; reports whether it ended well.
    pub(in super::super) async fn stop(
        &mut self,
        workload: &str,
    ) -> Result<Vec<UncleanStop>, EnvironmentError> {
        let unclean = self.shrink(workload, 0).await?;
        self.wait_until_refused(workload).await;
        Ok(unclean)
    }

    /// Lets only so many pods of the workload go on, and waits until the others have ended.
    pub(in super::super) async fn shrink(
        &mut self,
        workload: &str,
        instances: u32,
    ) -> Result<Vec<UncleanStop>, EnvironmentError> {
        let pods = self.leave(workload, instances).await?;
        self.ended(workload, pods, instances).await
    }

    /// Asks the cluster to have only so many pods of the workload; gives those there were.
    pub(super) async fn leave(
        &mut self,
        workload: &str,
        instances: u32,
    ) -> Result<Vec<PodState>, EnvironmentError> {
        let placed = self.placed(workload)?;
        if placed.wanted <= instances {
            return Ok(Vec::new());
        }
        if placed.paused {
            // A frozen process does not hear that it is to end.
            self.freeze(workload, false).await?;
        }
        let mut pods = self.pods.of(workload);
        pods.retain(|pod| !pod.deleting);
        self.placed_mut(workload)?.wanted = instances;
        self.set_replicas(workload, instances).await?;
        Ok(pods)
    }

    /// Waits until all but so many of the pods have ended, and reports which did not end well.
    pub(super) async fn ended(
        &self,
        workload: &str,
        pods: Vec<PodState>,
        instances: u32,
    ) -> Result<Vec<UncleanStop>, EnvironmentError> {
        let placed = self.placed(workload)?;
        let leaving = pods.len().saturating_sub(instances as usize);
        let ended = |all: &Pods| {
            let now: Vec<(PodState, bool)> =
                pods.iter().filter_map(|pod| end_of(all, pod)).collect();
            (now.len() >= leaving).then_some(now)
        };
        let grace = Duration::from_secs(manifests::stop_grace(&placed.container).unsigned_abs());
        let limit = grace + STOP_BESIDES;
        let deadline = Instant::now() + limit;
        let Some(ended) = self.pods.wait(deadline, ended).await else {
            let how = format!("its pods still run {limit:?} after they were asked to end");
            return Ok(vec![self.unclean(workload, how)]);
        };
        self.logs.read_to_end(workload, LOG_LIMIT).await;
        let described = |(pod, _): (PodState, bool)| {
            let began = pod.running || pod.ended.is_some() || pod.ended_before.is_some();
            match &pod.ended {
                Some(exit) => is_unclean(&placed.container, exit).then(|| exit.text()),
                None if began => Some(format!(
                    "its end was not seen, since pod `{}` was gone before the cluster reported it",
                    pod.name
                )),
                None => None,
            }
        };
        // Who says how long it has knows how it ends.
        let is_foreseen = placed.container.limits.stop.is_some();
        let is_killed = |pod: &PodState| {
            let by_limit = |exit: &Exit| exit.code == KILLED && exit.reason != "OOMKilled";
            pod.ended.as_ref().is_some_and(by_limit)
        };
        let reported = ended.into_iter().filter_map(|end| {
            let foreseen = is_foreseen && is_killed(&end.0);
            Some(UncleanStop { foreseen, ..self.unclean(workload, described(end)?) })
        });
        Ok(reported.collect())
    }

    pub(super) fn unclean(&self, workload: &str, how: String) -> UncleanStop {
        let log_tail = self.log_tail(workload, TAIL_LINES);
        UncleanStop { workload: workload.to_owned(), how, log_tail, foreseen: false }
    }

    /// Ends the process in each of its pods at once; the cluster starts it again.
    pub(in super::super) async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError> {
        let before = self.signal(workload, "kill").await?;
        for pod in &before {
            *self.exits.entry(pod.uid.clone()).or_default() += 1;
        }
        self.placed_mut(workload)?.paused = false;
        let again = |all: &Pods| {
            let now = all.of(workload);
            let ended = |before: &PodState| {
                now.iter()
                    .find(|pod| pod.uid == before.uid)
                    .is_none_or(|pod| ends(pod) > ends(before))
            };
            before.iter().all(ended).then_some(())
        };
        match self.pods.wait(Instant::now() + KILL_LIMIT, again).await {
            Some(()) => Ok(()),
            None => Err(self.backend(
                format!("kill `{workload}`"),
                format!("its end was not seen within {KILL_LIMIT:?}"),
            )),
        }
    }

    /// Freezes it, or lets it go on.
    pub(in super::super) async fn freeze(
        &mut self,
        workload: &str,
        pause: bool,
    ) -> Result<(), EnvironmentError> {
        self.signal(workload, if pause { "pause" } else { "resume" }).await?;
        self.placed_mut(workload)?.paused = pause;
        Ok(())
    }

    /// Has a signal sent to the process in each of its pods; gives the pods.
    pub(super) async fn signal(
        &self,
        workload: &str,
        verb: &'static str,
    ) -> Result<Vec<PodState>, EnvironmentError> {
        let unsupported = |reason: &str| EnvironmentError::Unsupported {
            environment: self.environment,
            verb,
            workload: workload.to_owned(),
            reason: reason.to_owned(),
        };
        if self.placed(workload)?.container.is_foreign() {
            return Err(unsupported(
                "its image has no program that could send it a signal, and Kubernetes itself sends SIGTERM only; stop it \
                 instead",
            ));
        }
        let mut pods = self.pods.of(workload);
        pods.retain(|pod| pod.running && !pod.deleting);
        if pods.is_empty() {
            return Err(unsupported("it does not run; start it first"));
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let words = ["signal".to_owned(), verb.to_owned()];
        let sent = pods.iter().map(|pod| exec::inside(&api, pod, &words, EXEC_LIMIT));
        match join_all(sent).await.into_iter().find_map(Result::err) {
            None => Ok(pods),
            Some(reason) => Err(self.backend(format!("{verb} `{workload}`"), reason)),
        }
    }

    /// Returns what ended by itself since this was last asked.
    pub(in super::super) fn unexpected_exits(&mut self) -> Vec<UnexpectedExit> {
        let mut found = Vec::new();
        for (workload, placed) in self.workloads.iter().filter(|(_, placed)| placed.wanted > 0) {
            let pods = self.pods.of(workload);
            let leaving = pods.iter().filter(|pod| pod.deleting).count();
            for pod in pods.iter().filter(|pod| !pod.deleting) {
                let known = self.exits.get(&pod.uid).copied();
                self.exits.insert(pod.uid.clone(), ends(pod).max(known.unwrap_or_default()));
                // One that came later than the system takes the place of one that is reported below, or was asked for.
                let Some(known) = known.filter(|known| ends(pod) > *known) else { continue };
                let exit = pod.ended.as_ref().or(pod.ended_before.as_ref());
                let mut status = exit.map_or_else(String::new, Exit::text);
                if ends(pod) > known + 1 {
                    status.push_str(&format!(", {} times", ends(pod) - known));
                }
                found.push((workload.clone(), status));
            }
            let there =
                pods.iter().filter(|pod| !pod.deleting && self.exits.contains_key(&pod.uid));
            if there.count() < placed.wanted as usize && leaving > 0 {
                for pod in pods.iter().filter(|pod| pod.deleting) {
                    if self.exits.remove(&pod.uid).is_some() {
                        found.push((
                            workload.clone(),
                            format!("somebody deleted its pod `{}`", pod.name),
                        ));
                    }
                }
            }
        }
        let described = |(workload, status): (String, String)| {
            let log_tail = self.log_tail(&workload, TAIL_LINES);
            UnexpectedExit { workload, status, log_tail }
        };
        found.into_iter().map(described).collect()
    }
}

/// How often the pod's container has ended.
pub(super) fn ends(pod: &PodState) -> i32 {
    let ended = pod.ended.is_some() || pod.ended_before.is_some();
    pod.restarts + i32::from(!pod.running && ended)
}

/// A pod that has ended, as it was last seen, and whether it is gone.
fn end_of(all: &Pods, pod: &PodState) -> Option<(PodState, bool)> {
    if let Some(gone) = all.gone(&pod.uid) {
        return Some((gone, true));
    }
    let now = all.of(&pod.workload).into_iter().find(|now| now.uid == pod.uid)?;
    (now.deleting && now.ended.is_some()).then_some((now, false))
}

/// Our own programs and every collector must end with 0, since they say in this way that nothing was lost. Another service
/// may as well be ended by the signal itself, which is reported as 143, as a shell or a JVM reports it.
fn is_unclean(container: &Container, exit: &Exit) -> bool {
    let may = container.is_foreign() && container.role == Role::Service;
    !(exit.code == 0 || may && i64::from(exit.code) == container.status_of_stop())
}
