//! A system that is in a cluster: bringing its workloads up, changing them, and removing them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    CALL_LIMIT, Settings,
    apply::Applier,
    cluster, evidence,
    forward::{Breaks, Forward, Target},
    io_error,
    logs::Logs,
    manifests::Objects,
    names::{self, RUN},
    operator,
    pods::Pods,
    typed::Typed,
};
use crate::{
    Endpoints, EnvironmentError, InstanceEndpoints, WorkloadEndpoints, container::Container,
    log::Log,
};

mod ends;
mod reach;
mod ready;

/// How long a pod may take to be gone from the cluster after it has ended.
const GONE_LIMIT: Duration = Duration::from_secs(30);
/// How long a namespace may take to be gone.
const DELETE_LIMIT: Duration = Duration::from_secs(90);
/// How long a command inside a pod may take.
const EXEC_LIMIT: Duration = Duration::from_secs(30);
/// How long it is waited for the last lines of a pod that has ended.
const LOG_LIMIT: Duration = Duration::from_secs(2);
/// How many lines of each log are kept in memory.
const LOG_LINES: usize = 2_000;
/// How many lines of a log an error shows.
const TAIL_LINES: usize = 20;
/// Name of the file with the states of resources.
const STATES: &str = "kubernetes-resources.json";

/// Objects that were created, or begun to be created.
pub(super) struct Deployed {
    environment: &'static str,
    /// Version of the resource from which the operator creates the collector, where it does.
    operator: Option<operator::Version>,
    run_id: String,
    client: Client,
    namespace: String,
    start_limit: Duration,
    workloads: BTreeMap<String, Placed>,
    pods: Arc<Pods>,
    logs: Logs,
    breaks: Arc<Breaks>,
    /// How often the container of each pod ended so far, by the pod's uid; all of it reported or expected.
    exits: BTreeMap<String, i32>,
}

/// One workload.
struct Placed {
    container: Container,
    /// Addresses in the cluster that it is configured to call.
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
        harness_core::source::list(self.names())
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
        // One that is to run already was killed.
        let was_killed = placed.wanted > 0;
        if !was_killed {
            let replicas = placed.replicas;
            self.set_replicas(workload, replicas).await?;
            self.placed_mut(workload)?.wanted = replicas;
        }
        self.wait_until_ready(Some(workload), deadline).await?;
        self.wait_until_reached(Some(workload), was_killed, deadline).await
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
        self.wait_until_reached(Some(workload), false, deadline).await
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
        let deployments = Typed::<Deployment>::namespaced(&self.client, &self.namespace);
        let patch = json!({ "spec": { "replicas": count } });
        let what = format!("scale the deployment `{host}` to {count}");
        self.applier().call(&what, deployments.patch_scale(host, &patch)).await
    }

    fn backend(&self, what: String, reason: String) -> EnvironmentError {
        EnvironmentError::Backend { environment: self.environment, what, reason }
    }

    /// Returns what broke of the way to the pods.
    pub(super) fn disturbances(&self) -> Vec<String> {
        let mut reported = self.breaks.described();
        reported
            .extend(self.pods.broken().map(|why| format!("the cluster cannot be watched: {why}")));
        reported
    }

    pub(super) fn log_tail(&self, workload: &str, lines: usize) -> Vec<String> {
        self.logs.of(workload).map(|log| log.tail(lines)).unwrap_or_default()
    }

    pub(super) fn logged(
        &self,
        workload: &str,
        is_meant: crate::LineTest,
    ) -> Vec<(SystemTime, String)> {
        self.logs.of(workload).map(|log| log.lines(is_meant)).unwrap_or_default()
    }

    /// Writes logs, events and the states of resources. States that are in the folder already stay: when it is written to once
    /// more, the system was taken down meanwhile.
    pub(super) async fn collect(&self, dir: &Path) -> Result<(), EnvironmentError> {
        for (name, log) in self.logs.all() {
            let path = dir.join(format!("{name}.log"));
            fs::copy(log.path(), &path).map_err(io_error("write", &path))?;
        }
        let reported = async {
            let events = match evidence::events(&self.client, &self.namespace).await {
                Ok(events) => events.iter().map(|event| evidence::line(event) + "\n").collect(),
                Err(error) => {
                    format!("the events cannot be read: {}\n", cluster::described(&error))
                }
            };
            (events, evidence::resources(&self.client, &self.namespace).await)
        };
        let (events, resources) = timeout(CALL_LIMIT, reported).await.unwrap_or_else(|_| {
            let late = format!("the API server did not respond within {CALL_LIMIT:?}");
            (format!("{late}\n"), json!(late))
        });
        for (name, text) in
            [("kubernetes-events.txt", events), (STATES, format!("{resources:#}\n"))]
        {
            let path = dir.join(name);
            if name == STATES && path.exists() {
                continue;
            }
            fs::write(&path, text).map_err(io_error("write", &path))?;
        }
        Ok(())
    }

    /// Removes the namespace with all that is in it, and waits until it is gone.
    pub(super) async fn remove(&mut self) -> Result<(), EnvironmentError> {
        let namespaces = Typed::<Namespace>::all(&self.client);
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
        let deleted = namespaces.await_deleted(&self.namespace, &uid);
        match timeout_at(Instant::now() + DELETE_LIMIT, deleted).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.backend(what, harness_core::chain_of(&error))),
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
