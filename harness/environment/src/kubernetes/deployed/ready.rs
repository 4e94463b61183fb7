//! Waiting until pods are ready, and finding why they are not.

use tokio::time::{Instant, timeout};

use super::{
    super::{
        CALL_LIMIT,
        diagnose::{self, Problem},
        error::KubernetesError,
        evidence, names, operator,
        pods::PodState,
    },
    Deployed, LOG_LIMIT, TAIL_LINES, ends,
};
use crate::EnvironmentError;

impl Deployed {
    /// Waits until the workload, or every one, has all its pods, each ready.
    pub(in super::super) async fn wait_until_ready(
        &mut self,
        workload: Option<&str>,
        deadline: Instant,
    ) -> Result<(), EnvironmentError> {
        let names: Vec<String> = match workload {
            Some(workload) => vec![workload.to_owned()],
            None => self.names().map(str::to_owned).collect(),
        };
        let outcome = self.pods.wait(deadline, |_| {
            let mut all_ready = true;
            for name in &names {
                let Some(placed) = self.workloads.get(name) else { continue };
                let pods = self.unforeseen(name);
                let refused = self.pods.refused(&placed.container.host);
                if let Some(problem) =
                    diagnose::final_problem(placed.container.role, &pods, refused.as_deref())
                {
                    return Some(Err((name.clone(), problem)));
                }
                all_ready &= is_ready(&pods, placed.wanted);
            }
            all_ready.then_some(Ok(()))
        });
        match outcome.await {
            Some(Ok(())) => {
                for name in &names {
                    self.expect_exits(name);
                }
                Ok(())
            }
            Some(Err((workload, problem))) => Err(self.does_not_start(&workload, problem).await),
            None => Err(self.not_ready(&names).await),
        }
    }

    /// Returns the workload's pods with those restarts only that are not known yet: a container that is killed on purpose does not
    /// end again and again.
    fn unforeseen(&self, workload: &str) -> Vec<PodState> {
        let mut pods = self.pods.of(workload);
        for pod in &mut pods {
            let known = self.exits.get(&pod.uid).copied().unwrap_or_default();
            pod.restarts = (pod.restarts - known).max(0);
        }
        pods
    }

    pub(super) async fn does_not_start(
        &self,
        workload: &str,
        problem: Problem,
    ) -> EnvironmentError {
        let error = KubernetesError::DoesNotStart {
            workload: workload.to_owned(),
            events: self.events_of(workload).await,
            log_tail: self.tail_of_failed(workload).await,
            problem: problem.what,
            remedy: problem.remedy.to_owned(),
        };
        error.into()
    }

    /// Finds why a workload behind one of these addresses does not get ready any more.
    pub(super) async fn failed(&self, addresses: &[String]) -> Option<EnvironmentError> {
        let hosts = || addresses.iter().filter_map(|address| address.split(':').next());
        let callees =
            self.workloads.iter().filter(|(_, one)| hosts().any(|host| host == one.container.host));
        for (name, placed) in callees {
            let refused = self.pods.refused(&placed.container.host);
            if let Some(problem) = diagnose::final_problem(
                placed.container.role,
                &self.unforeseen(name),
                refused.as_deref(),
            ) {
                return Some(self.does_not_start(name, problem).await);
            }
        }
        None
    }

    pub(super) async fn not_ready(&self, names: &[String]) -> EnvironmentError {
        let unready = names.iter().find_map(|name| {
            let placed = self.workloads.get(name)?;
            (!is_ready(&self.pods.of(name), placed.wanted)).then_some((name, placed))
        });
        let (workload, mut waited_for) = match unready {
            Some((name, placed)) => {
                let refused = self.pods.refused(&placed.container.host);
                let wanted = placed.wanted as usize;
                let reported = diagnose::waits_for(&self.pods.of(name), refused.as_deref(), wanted);
                (name.clone(), reported)
            }
            None => (names.first().cloned().unwrap_or_default(), "its pods".to_owned()),
        };
        let is_collector =
            self.placed(&workload).is_ok_and(|one| one.container.host == names::COLLECTOR);
        if self.operator.is_some() && is_collector && self.pods.of(&workload).is_empty() {
            waited_for.push_str(&format!(
                "; the operator took the {} `{}`, but no pod came of it: see the operator's log",
                operator::KIND,
                operator::RESOURCE
            ));
        }
        if let Some(broken) = self.pods.broken() {
            waited_for.push_str(&format!("; the cluster cannot be watched: {broken}"));
        }
        for event in self.events_of(&workload).await {
            waited_for.push_str(&format!("\n  event: {event}"));
        }
        let log_tail = self.tail_of_failed(&workload).await;
        EnvironmentError::NotReady { workload, limit: self.start_limit, waited_for, log_tail }
    }

    /// Takes what has happened to the workload's pods up to now as known.
    pub(super) fn expect_exits(&mut self, workload: &str) {
        for pod in self.pods.of(workload) {
            self.exits.insert(pod.uid.clone(), ends::ends(&pod));
        }
    }

    pub(super) async fn events_of(&self, workload: &str) -> Vec<String> {
        let Ok(placed) = self.placed(workload) else { return Vec::new() };
        let operated = self.operator.filter(|_| placed.container.host == names::COLLECTOR);
        let prefix = operated.map_or(placed.container.host.as_str(), |_| operator::RESOURCE);
        let events = evidence::last_events(&self.client, &self.namespace, prefix);
        timeout(CALL_LIMIT, events).await.unwrap_or_default()
    }

    /// The end of the log of a workload that does not come up, whose last lines may still be on their way.
    pub(super) async fn tail_of_failed(&self, workload: &str) -> Vec<String> {
        let runs = self.pods.of(workload).iter().any(|pod| pod.running);
        if !runs {
            self.logs.read_to_end(workload, LOG_LIMIT).await;
        }
        self.log_tail(workload, TAIL_LINES)
    }
}

pub(super) fn is_ready(pods: &[PodState], wanted: u32) -> bool {
    let ready = pods.iter().filter(|pod| pod.ready && !pod.deleting).count();
    let others = pods.iter().filter(|pod| !pod.deleting).count() - ready;
    ready == wanted as usize && others == 0
}
