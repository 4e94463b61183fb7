//! A system that is in a cluster: bringing its workloads up, changing them, and removing them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    runtime::{conditions, wait::await_condition},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    CALL_LIMIT, Settings,
    apply::Applier,
    cluster,
    diagnose::{self, Problem},
    evidence, exec,
    forward::{Breaks, Forward, Target},
    io_error,
    logs::Logs,
    manifests::{Objects, STOP_GRACE_SECONDS},
    names::{self, RUN},
    operator,
    pods::{Exit, PodState, Pods},
};
use crate::{
    environment::{
        Endpoints, EnvironmentError, InstanceEndpoints, UncleanStop, UnexpectedExit,
        WorkloadEndpoints, container::Container, log::Log,
    },
    system::Role,
};

/// How long a pod may take to end: its own time, and what the cluster needs besides.
const STOP_LIMIT: Duration = Duration::from_secs(STOP_GRACE_SECONDS.unsigned_abs() + 15);
/// How long a pod may take to be gone from the cluster after it has ended.
const GONE_LIMIT: Duration = Duration::from_secs(30);
/// How long a namespace may take to be gone.
const DELETE_LIMIT: Duration = Duration::from_secs(90);
/// How long a command inside a pod may take.
const EXEC_LIMIT: Duration = Duration::from_secs(30);
/// How long callers may take to be refused when a workload was stopped.
const REFUSED_LIMIT: Duration = Duration::from_secs(5);
/// How long the end of a killed container may take to be seen.
const KILL_LIMIT: Duration = Duration::from_secs(15);
/// How long it is waited for the last lines of a pod that has ended.
const LOG_LIMIT: Duration = Duration::from_secs(2);
/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How many lines of each log are kept in memory.
const LOG_LINES: usize = 2_000;
/// How many lines of a log an error shows.
const TAIL_LINES: usize = 20;

/// What was made, or begun to be made.
pub(super) struct Deployed {
    environment: &'static str,
    /// Where the operator makes the collector: the version of its resource.
    operator: Option<operator::Version>,
    run_id: String,
    client: Client,
    namespace: String,
    start_limit: Duration,
    workloads: BTreeMap<String, Placed>,
    pods: Arc<Pods>,
    logs: Logs,
    breaks: Arc<Breaks>,
    /// How often the container of each pod ended so far, by the pod's uid; all of it told or expected.
    exits: BTreeMap<String, i32>,
}

/// One workload.
struct Placed {
    container: Container,
    /// Addresses in the cluster that it is told to call.
    calls: Vec<String>,
    /// How many pods it has when it is started.
    replicas: u32,
    /// How many it is to have now.
    wanted: u32,
    paused: bool,
    /// By instance, then by port.
    forwards: Vec<BTreeMap<String, Forward>>,
}

impl Deployed {
    /// Begins to watch what is about to be made.
    pub(super) fn new(
        settings: &Settings,
        namespace: &str,
        dir: &Path,
        containers: Vec<Container>,
        mut calls: BTreeMap<String, Vec<String>>,
        replicas: &BTreeMap<String, u32>,
    ) -> Result<Self, EnvironmentError> {
        let client = settings.client.clone();
        let mut logs = BTreeMap::new();
        for container in &containers {
            let path = dir.join(format!("{}.log", container.workload));
            let secrets = container.secrets.values().cloned().collect();
            let log = Log::create(&path, secrets, LOG_LINES).map_err(io_error("create", &path))?;
            logs.insert(container.workload.clone(), Arc::new(log));
        }
        let pods = Arc::new(Pods::watch(&client, namespace));
        let api = Api::<Pod>::namespaced(client.clone(), namespace);
        let logs = Logs::follow(api, Arc::clone(&pods), logs);
        let workloads = containers.into_iter().map(|container| {
            let name = container.workload.clone();
            let replicas = replicas.get(&name).copied().unwrap_or(1);
            let placed = Placed {
                calls: calls.remove(&name).unwrap_or_default(),
                container,
                replicas,
                wanted: replicas,
                paused: false,
                forwards: Vec::new(),
            };
            (name, placed)
        });
        Ok(Self {
            environment: settings.environment,
            operator: settings.operator.as_ref().map(|operator| operator.version),
            run_id: settings.run_id.clone(),
            client,
            namespace: namespace.to_owned(),
            start_limit: settings.start_limit,
            workloads: workloads.collect(),
            pods,
            logs,
            breaks: Arc::default(),
            exits: BTreeMap::new(),
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.workloads.keys().map(String::as_str)
    }

    /// The names, for people.
    pub(super) fn known(&self) -> String {
        crate::source::list(self.names())
    }

    /// Makes everything.
    pub(super) async fn apply(&self, objects: &Objects) -> Result<(), EnvironmentError> {
        self.applier().apply(objects).await
    }

    fn applier(&self) -> Applier<'_> {
        Applier { environment: self.environment, client: &self.client, namespace: &self.namespace }
    }

    fn placed(&self, workload: &str) -> Result<&Placed, EnvironmentError> {
        self.workloads.get(workload).ok_or_else(|| EnvironmentError::UnknownWorkload {
            workload: workload.to_owned(),
            known: self.known(),
        })
    }

    fn placed_mut(&mut self, workload: &str) -> Result<&mut Placed, EnvironmentError> {
        self.placed(workload)?;
        let unknown = EnvironmentError::UnknownWorkload {
            workload: workload.to_owned(),
            known: String::new(),
        };
        self.workloads.get_mut(workload).ok_or(unknown)
    }

    /// Waits until the workload, or every one, has all its pods, each ready.
    pub(super) async fn wait_until_ready(
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
                let pods = self.pods.of(name);
                let refused = self.pods.refused(&placed.container.host);
                if let Some(problem) = diagnose::final_problem(&pods, refused.as_deref()) {
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

    async fn does_not_start(&self, workload: &str, problem: Problem) -> EnvironmentError {
        EnvironmentError::DoesNotStart {
            workload: workload.to_owned(),
            events: self.events_of(workload).await,
            log_tail: self.tail_of_failed(workload).await,
            problem: problem.what,
            remedy: problem.remedy.to_owned(),
        }
    }

    /// Why a workload behind one of these addresses does not get ready any more.
    async fn failed(&self, addresses: &[String]) -> Option<EnvironmentError> {
        let hosts = || addresses.iter().filter_map(|address| address.split(':').next());
        let callees =
            self.workloads.iter().filter(|(_, one)| hosts().any(|host| host == one.container.host));
        for (name, placed) in callees {
            let refused = self.pods.refused(&placed.container.host);
            if let Some(problem) = diagnose::final_problem(&self.pods.of(name), refused.as_deref())
            {
                return Some(self.does_not_start(name, problem).await);
            }
        }
        None
    }

    async fn not_ready(&self, names: &[String]) -> EnvironmentError {
        let unready = names.iter().find_map(|name| {
            let placed = self.workloads.get(name)?;
            (!is_ready(&self.pods.of(name), placed.wanted)).then_some((name, placed))
        });
        let (workload, mut waited_for) = match unready {
            Some((name, placed)) => {
                let refused = self.pods.refused(&placed.container.host);
                let wanted = placed.wanted as usize;
                let told = diagnose::waits_for(&self.pods.of(name), refused.as_deref(), wanted);
                (name.clone(), told)
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

    /// What has happened to the workload's pods up to now is known.
    fn expect_exits(&mut self, workload: &str) {
        for pod in self.pods.of(workload) {
            self.exits.insert(pod.uid.clone(), ends(&pod));
        }
    }

    /// Waits until every workload, or those that call the given one, reaches what it is told to call: that a pod is ready is
    /// known to the nodes only a moment later.
    pub(super) async fn wait_until_reached(
        &self,
        callee: Option<&str>,
        deadline: Instant,
    ) -> Result<(), EnvironmentError> {
        let up = |host: &str| {
            self.workloads.values().any(|one| one.container.host == host && one.wanted > 0)
        };
        let looks = self
            .who_looks(callee, up)
            .into_iter()
            .map(|(name, addresses)| async move { self.look(name, &addresses, deadline).await });
        try_join_all(looks).await.map(drop)
    }

    /// Waits until the workload's callers are refused, as they are to be when nobody serves it: for a moment after its end
    /// they are still sent to where it was. A cluster whose network answers nothing then is not waited for.
    async fn wait_until_refused(&self, workload: &str) {
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
    fn who_looks(
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

    /// Looks from a workload's pod whether the addresses take connections.
    async fn look(
        &self,
        workload: &str,
        addresses: &[String],
        deadline: Instant,
    ) -> Result<(), EnvironmentError> {
        let mut words = vec!["reach".to_owned()];
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
                        crate::source::list(addresses.iter().map(String::as_str))
                    ),
                    log_tail: self.log_tail(workload, TAIL_LINES),
                });
            }
            sleep(RETRY).await;
        }
    }

    /// Opens the ports of all workloads here.
    pub(super) async fn endpoints(&mut self) -> Result<Endpoints, EnvironmentError> {
        let mut endpoints = Endpoints::default();
        for (name, placed) in &mut self.workloads {
            let mut instances = Vec::new();
            for instance in 0..placed.replicas as usize {
                let mut forwards = BTreeMap::new();
                for (port, number) in &placed.container.ports {
                    let target = Target {
                        client: self.client.clone(),
                        namespace: self.namespace.clone(),
                        pods: Arc::clone(&self.pods),
                        workload: name.clone(),
                        instance,
                        port: *number,
                        breaks: Arc::clone(&self.breaks),
                    };
                    let forward = Forward::open(target).await.map_err(|source| {
                        EnvironmentError::NoFreePort { workload: name.clone(), source }
                    })?;
                    forwards.insert(port.clone(), forward);
                }
                let pods = self.pods.of(name);
                let pod = pods.get(instance).map(|pod| pod.name.clone());
                instances.push(InstanceEndpoints {
                    name: pod.unwrap_or_else(|| format!("{name}-{instance}")),
                    ports: forwards
                        .iter()
                        .map(|(port, forward)| (port.clone(), forward.address().to_string()))
                        .collect(),
                });
                placed.forwards.push(forwards);
            }
            let role = placed.container.role;
            endpoints.workloads.insert(name.clone(), WorkloadEndpoints { role, instances });
        }
        Ok(endpoints)
    }

    /// Starts it again where it was stopped, and waits until it is ready and its callers reach it.
    pub(super) async fn start(
        &mut self,
        workload: &str,
        deadline: Instant,
    ) -> Result<(), EnvironmentError> {
        let placed = self.placed(workload)?;
        if placed.wanted == 0 {
            let replicas = placed.replicas;
            self.set_replicas(workload, replicas).await?;
            self.placed_mut(workload)?.wanted = replicas;
        }
        self.wait_until_ready(Some(workload), deadline).await?;
        self.wait_until_reached(Some(workload), deadline).await
    }

    pub(super) async fn scale(
        &mut self,
        workload: &str,
        instances: u32,
        deadline: Instant,
    ) -> Result<(), EnvironmentError> {
        if instances <= self.placed(workload)?.wanted {
            let unclean = match instances {
                0 => self.stop(workload).await?,
                _ => self.shrink(workload, instances).await?,
            };
            return match unclean.is_empty() {
                true => Ok(()),
                false => Err(EnvironmentError::UncleanStop(unclean)),
            };
        }
        self.set_replicas(workload, instances).await?;
        self.placed_mut(workload)?.wanted = instances;
        self.wait_until_ready(Some(workload), deadline).await?;
        self.wait_until_reached(Some(workload), deadline).await
    }

    /// Stops all workloads of which `is_meant` holds, at the same time; tells of those that did not end well.
    pub(super) async fn stop_all(
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

    /// Stops it, and waits until its callers know; tells if it did not end well.
    pub(super) async fn stop(
        &mut self,
        workload: &str,
    ) -> Result<Vec<UncleanStop>, EnvironmentError> {
        let unclean = self.shrink(workload, 0).await?;
        self.wait_until_refused(workload).await;
        Ok(unclean)
    }

    /// Lets only so many pods of the workload go on, and waits until the others have ended.
    pub(super) async fn shrink(
        &mut self,
        workload: &str,
        instances: u32,
    ) -> Result<Vec<UncleanStop>, EnvironmentError> {
        let pods = self.leave(workload, instances).await?;
        self.ended(workload, pods, instances).await
    }

    /// Asks the cluster to have only so many pods of the workload; gives those there were.
    async fn leave(
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

    /// Waits until all but so many of the pods have ended, and tells which did not end well.
    async fn ended(
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
        let deadline = Instant::now() + STOP_LIMIT;
        let Some(ended) = self.pods.wait(deadline, ended).await else {
            let how = format!("its pods still run {STOP_LIMIT:?} after they were asked to end");
            return Ok(vec![self.unclean(workload, how)]);
        };
        self.logs.read_to_end(workload, LOG_LIMIT).await;
        let told = |(pod, _): (PodState, bool)| {
            let began = pod.running || pod.ended.is_some() || pod.ended_before.is_some();
            match &pod.ended {
                Some(exit) => is_unclean(&placed.container, exit).then(|| exit.text()),
                None if began => Some(format!(
                    "its end was not seen, since pod `{}` was gone before the cluster told it",
                    pod.name
                )),
                None => None,
            }
        };
        Ok(ended.into_iter().filter_map(told).map(|how| self.unclean(workload, how)).collect())
    }

    fn unclean(&self, workload: &str, how: String) -> UncleanStop {
        let log_tail = self.log_tail(workload, TAIL_LINES);
        UncleanStop { workload: workload.to_owned(), how, log_tail }
    }

    async fn set_replicas(&self, workload: &str, count: u32) -> Result<(), EnvironmentError> {
        let host = &self.placed(workload)?.container.host;
        if let Some(version) = self.operator.filter(|_| *host == names::COLLECTOR) {
            // The operator would take back what others change about its Deployment.
            let api = Api::<DynamicObject>::namespaced_with(
                self.client.clone(),
                &self.namespace,
                &version.api(),
            );
            let patch = Patch::Merge(json!({ "spec": { "replicas": count } }));
            let what = format!("scale the {} `{}` to {count}", operator::KIND, operator::RESOURCE);
            let params = PatchParams::default();
            let patched = api.patch(operator::RESOURCE, &params, &patch);
            return self.applier().call(&what, patched).await.map(drop);
        }
        let api = Api::<Deployment>::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({ "spec": { "replicas": count } }));
        let params = PatchParams::default();
        let what = format!("scale the deployment `{host}` to {count}");
        self.applier().call(&what, api.patch_scale(host, &params, &patch)).await.map(drop)
    }

    /// Ends the process in each of its pods at once; the cluster starts it again.
    pub(super) async fn kill(&mut self, workload: &str) -> Result<(), EnvironmentError> {
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
    pub(super) async fn freeze(
        &mut self,
        workload: &str,
        pause: bool,
    ) -> Result<(), EnvironmentError> {
        self.signal(workload, if pause { "pause" } else { "resume" }).await?;
        self.placed_mut(workload)?.paused = pause;
        Ok(())
    }

    /// Has a signal sent to the process in each of its pods; gives the pods.
    async fn signal(
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

    fn backend(&self, what: String, reason: String) -> EnvironmentError {
        EnvironmentError::Backend { environment: self.environment, what, reason }
    }

    /// What ended by itself since this was last asked.
    pub(super) fn unexpected_exits(&mut self) -> Vec<UnexpectedExit> {
        let mut found = Vec::new();
        for (workload, placed) in self.workloads.iter().filter(|(_, placed)| placed.wanted > 0) {
            let pods = self.pods.of(workload);
            let leaving = pods.iter().filter(|pod| pod.deleting).count();
            for pod in pods.iter().filter(|pod| !pod.deleting) {
                let known = self.exits.get(&pod.uid).copied();
                self.exits.insert(pod.uid.clone(), ends(pod).max(known.unwrap_or_default()));
                // One that came later than the system takes the place of one that is told below, or was asked for.
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
        let told = |(workload, status): (String, String)| {
            let log_tail = self.log_tail(&workload, TAIL_LINES);
            UnexpectedExit { workload, status, log_tail }
        };
        found.into_iter().map(told).collect()
    }

    /// What broke of the way to the pods.
    pub(super) fn disturbances(&self) -> Vec<String> {
        let mut told = self.breaks.told();
        told.extend(self.pods.broken().map(|why| format!("the cluster cannot be watched: {why}")));
        told
    }

    pub(super) fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        self.logs.of(workload).map(|log| log.tail(lines)).unwrap_or_default()
    }

    /// The end of the log of a workload that does not come up, whose last lines may still be on their way.
    async fn tail_of_failed(&self, workload: &str) -> Vec<String> {
        let runs = self.pods.of(workload).iter().any(|pod| pod.running);
        if !runs {
            self.logs.read_to_end(workload, LOG_LIMIT).await;
        }
        self.log_tail(workload, TAIL_LINES)
    }

    async fn events_of(&self, workload: &str) -> Vec<String> {
        let Ok(placed) = self.placed(workload) else { return Vec::new() };
        let operated = self.operator.filter(|_| placed.container.host == names::COLLECTOR);
        let prefix = operated.map_or(placed.container.host.as_str(), |_| operator::RESOURCE);
        let events = evidence::last_events(&self.client, &self.namespace, prefix);
        timeout(CALL_LIMIT, events).await.unwrap_or_default()
    }

    /// Writes logs, events and the states of resources.
    pub(super) async fn collect(&self, dir: &Path) -> Result<(), EnvironmentError> {
        for (name, log) in self.logs.all() {
            let path = dir.join(format!("{name}.log"));
            fs::copy(log.path(), &path).map_err(io_error("write", &path))?;
        }
        let told = async {
            let events = match evidence::events(&self.client, &self.namespace).await {
                Ok(events) => events.iter().map(|event| evidence::line(event) + "\n").collect(),
                Err(error) => format!("the events cannot be read: {}\n", cluster::told(&error)),
            };
            (events, evidence::resources(&self.client, &self.namespace).await)
        };
        let (events, resources) = timeout(CALL_LIMIT, told).await.unwrap_or_else(|_| {
            let late = format!("the API server did not tell within {CALL_LIMIT:?}");
            (format!("{late}\n"), json!(late))
        });
        for (name, text) in [
            ("kubernetes-events.txt", events),
            ("kubernetes-resources.json", format!("{resources:#}\n")),
        ] {
            let path = dir.join(name);
            fs::write(&path, text).map_err(io_error("write", &path))?;
        }
        Ok(())
    }

    /// Removes the namespace with all that is in it, and waits until it is gone.
    pub(super) async fn remove(&mut self) -> Result<(), EnvironmentError> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let what = format!("delete the namespace `{}`", self.namespace);
        // Kubernetes looks after a namespace's pods only each so many seconds, so it is emptied first.
        let gone =
            self.pods.wait(Instant::now() + GONE_LIMIT, |all| all.all().is_empty().then_some(()));
        let _gone_or_taken_along = gone.await;
        let found = self.applier().call(&what, namespaces.get_opt(&self.namespace)).await?;
        let Some(namespace) = found else { return Ok(()) };
        let labels = namespace.metadata.labels.unwrap_or_default();
        if labels.get(RUN) != Some(&self.run_id) {
            // It was there before, and somebody else's.
            return Ok(());
        }
        let uid = namespace.metadata.uid.unwrap_or_default();
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        self.applier().call(&what, namespaces.delete(&self.namespace, &params)).await?;
        let deleted = await_condition(namespaces, &self.namespace, conditions::is_deleted(&uid));
        match timeout_at(Instant::now() + DELETE_LIMIT, deleted).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.backend(what, crate::chain_of(&error))),
            Err(_) => Err(self.backend(
                what,
                format!(
                    "it is not gone after {DELETE_LIMIT:?}; see its conditions with `kubectl get namespace {} -o yaml`",
                    self.namespace
                ),
            )),
        }
    }
}

fn is_ready(pods: &[PodState], wanted: u32) -> bool {
    let ready = pods.iter().filter(|pod| pod.ready && !pod.deleting).count();
    let others = pods.iter().filter(|pod| !pod.deleting).count() - ready;
    ready == wanted as usize && others == 0
}

/// How often the pod's container has ended.
fn ends(pod: &PodState) -> i32 {
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
/// may as well be ended by the signal itself, which is told as 143, as a shell or a JVM tells it.
fn is_unclean(container: &Container, exit: &Exit) -> bool {
    let may = container.is_foreign() && container.role == Role::Service;
    !(exit.code == 0 || may && exit.code == 143)
}
