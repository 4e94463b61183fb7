//! Reachability within the cluster: that a pod is ready, or gone, is known to its callers only a moment later.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::{Instant, sleep};

use super::{super::exec, Deployed, EXEC_LIMIT, TAIL_LINES};
use crate::EnvironmentError;
use harness_system::Role;

/// How long callers may take to be refused when a workload was stopped.
const REFUSED_LIMIT: Duration = Duration::from_secs(5);
/// How long a workload must be reached, at each try, that was restarted where it was. Its pod keeps its address, so that its
/// callers may still reach it by what the nodes knew before it ended; that it ended, and is ready again, they learn about a
/// second later each, and refuse connections in between.
const STEADY: Duration = Duration::from_secs(2);
/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

impl Deployed {
    /// Waits until every workload, or those that call the given one, reaches what it is configured to call: that a pod is ready is
    /// known to the nodes only a moment later. One that `was_restarted` in its pod must be reached for a while.
    pub(in super::super) async fn wait_until_reached(
        &self,
        callee: Option<&str>,
        was_restarted: bool,
        deadline: Instant,
    ) -> Result<(), EnvironmentError> {
        let steady = if was_restarted { STEADY } else { Duration::ZERO };
        let up = |host: &str| {
            self.workloads.values().any(|one| one.container.host == host && one.wanted > 0)
        };
        let looks = self.who_looks(callee, up).into_iter();
        let looks = looks.map(|(name, addresses)| async move {
            self.look(name, &addresses, steady, deadline).await
        });
        try_join_all(looks).await.map(drop)
    }

    /// Waits until the workload's callers are refused, as they are to be when nobody serves it: for a moment after its end
    /// they are still sent to where it was. A cluster whose network answers nothing then is not waited for.
    pub(super) async fn wait_until_refused(&self, workload: &str) {
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let within = format!("--within={}s", REFUSED_LIMIT.as_secs());
        let looks = self.who_looks(Some(workload), |_| true);
        let looks = looks.into_iter().map(async |(name, addresses)| {
            let mut words = vec!["reach".to_owned(), "--refused".to_owned(), within.clone()];
            words.extend(addresses);
            let pod = self.pods.of(name).into_iter().find(|pod| pod.ready && !pod.deleting);
            let Some(pod) = pod else { return };
            if let Err(reason) = exec::inside(&api, &pod, &words, EXEC_LIMIT).await {
                tracing::debug!(workload, from = name, reason, "not refused yet");
            }
        });
        join_all(looks).await;
    }

    /// From which workloads' pods to look, each with the addresses to look for: all that are called and `is_meant`, or those
    /// of one callee.
    pub(super) fn who_looks(
        &self,
        callee: Option<&str>,
        is_meant: impl Fn(&str) -> bool,
    ) -> BTreeMap<&str, Vec<String>> {
        let callee = callee.and_then(|callee| self.workloads.get(callee));
        let callee = callee.map(|placed| placed.container.host.as_str());
        let intake = self.workloads.iter().find(|(_, one)| one.container.role == Role::Intake);
        let mut looks: BTreeMap<&str, BTreeSet<&String>> = BTreeMap::new();
        for (name, placed) in self.workloads.iter().filter(|(_, one)| one.wanted > 0) {
            // Another program's image has nothing to look with; the intake's pod stands in for it.
            let from = match (placed.container.is_foreign() || placed.paused, intake) {
                (false, _) => name,
                (true, Some((intake, placed))) if placed.wanted > 0 => intake,
                _ => continue,
            };
            let calls = placed.calls.iter().filter(|address| {
                let host = address.split(':').next().unwrap_or_default();
                callee.is_none_or(|callee| callee == host) && is_meant(host)
            });
            looks.entry(from).or_default().extend(calls);
        }
        let owned = |addresses: BTreeSet<&String>| addresses.into_iter().cloned().collect();
        looks.retain(|_, addresses| !addresses.is_empty());
        looks.into_iter().map(|(name, addresses)| (name, owned(addresses))).collect()
    }

    /// Looks from a workload's pod whether the addresses take connections, at each try for as long as `steady`.
    pub(super) async fn look(
        &self,
        workload: &str,
        addresses: &[String],
        steady: Duration,
        deadline: Instant,
    ) -> Result<(), EnvironmentError> {
        let mut words = vec!["reach".to_owned(), format!("--steady={}s", steady.as_secs())];
        words.extend(addresses.iter().cloned());
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        loop {
            let pod = self.pods.of(workload).into_iter().find(|pod| pod.ready && !pod.deleting);
            let looked = match pod {
                Some(pod) => exec::inside(&api, &pod, &words, EXEC_LIMIT).await,
                None => Err("it has no pod that is ready".to_owned()),
            };
            let Err(reason) = looked else { return Ok(()) };
            // One that is called ready as soon as it has started may end all the same.
            if let Some(failed) = self.failed(addresses).await {
                return Err(failed);
            }
            if Instant::now() + RETRY >= deadline {
                return Err(EnvironmentError::NotReady {
                    workload: workload.to_owned(),
                    limit: self.start_limit,
                    waited_for: format!(
                        "it does not reach {}: {reason}",
                        harness_core::source::list(addresses.iter().map(String::as_str))
                    ),
                    log_tail: self.log_tail(workload, TAIL_LINES),
                });
            }
            sleep(RETRY).await;
        }
    }
}
