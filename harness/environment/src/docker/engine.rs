//! Calls to the Docker engine beside starting containers: networks, files, states, and the removal of it all.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use testcontainers::{
    bollard::{
        self, Docker,
        errors::Error,
        models::{
            ContainerCreateBody, ContainerInspectResponse, HostConfig, Mount, MountType,
            NetworkCreateRequest, VolumeCreateRequest,
        },
        query_parameters::{
            CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptions,
            ListNetworksOptions, ListVolumesOptions, RemoveContainerOptionsBuilder,
            RemoveVolumeOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
        },
    },
    core::client::docker_client_instance,
};
use tokio::time::timeout;

use super::{LOOPBACK, NAME};
use crate::{EnvironmentError, container::FILES_DIR};

/// How long the engine may take to answer at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long one step may take; a step that creates or removes one thing takes well under a second.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// A Docker engine that answers.
pub(super) struct Engine {
    docker: Docker,
    /// Address at which its published ports are reached from here.
    address: String,
    /// Address at which it publishes them.
    publish_at: &'static str,
}

/// Version of a Docker engine.
#[derive(Debug, Clone)]
pub struct Version {
    /// Version of the engine, for example `28.2.2`.
    pub version: String,
    /// Version of the engine's API.
    pub api: String,
    /// Operating system and architecture, for example `linux/amd64`.
    pub platform: String,
}

/// Queries the version of the engine that the caller's environment variables name.
///
/// # Errors
/// If there is no engine, or it does not respond.
pub async fn version() -> Result<Version, EnvironmentError> {
    let docker = docker().await?;
    let reported = answer(docker.version()).await?;
    let or = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    Ok(Version {
        version: or(reported.version),
        api: or(reported.api_version),
        platform: format!("{}/{}", or(reported.os), or(reported.arch)),
    })
}

/// A client of the engine that the environment names, as testcontainers finds it.
pub(super) async fn docker() -> Result<Docker, EnvironmentError> {
    docker_client_instance().await.map_err(|error| unavailable(harness_core::chain_of(&error)))
}

fn unavailable(reason: String) -> EnvironmentError {
    EnvironmentError::Unavailable {
        environment: NAME,
        reason: format!("no Docker engine answers ({reason})"),
        remedy: "start Docker, or set DOCKER_HOST to where it is".to_owned(),
    }
}

async fn answer<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, EnvironmentError> {
    match timeout(ANSWER_LIMIT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unavailable(harness_core::chain_of(&error))),
        Err(_) => Err(unavailable(format!("not within {ANSWER_LIMIT:?}"))),
    }
}

impl Engine {
    /// Finds it and makes sure that it answers.
    pub(super) async fn connect(address: &str) -> Result<Self, EnvironmentError> {
        let docker = docker().await?;
        answer(docker.ping()).await?;
        let publish_at = match address {
            LOOPBACK | "localhost" => LOOPBACK,
            // Elsewhere, where loopback does not reach from here.
            _ => "0.0.0.0",
        };
        Ok(Self { docker, address: address.to_owned(), publish_at })
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn publish_at(&self) -> &str {
        self.publish_at
    }

    pub(super) async fn create_network(
        &self,
        name: &str,
        labels: HashMap<String, String>,
    ) -> Result<(), EnvironmentError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            labels: Some(labels),
            ..NetworkCreateRequest::default()
        };
        let what = || format!("create the network `{name}`");
        step(what, self.docker.create_network(request)).await.map(|_| ())
    }

    /// Makes a volume with these files in it. They get there through a container that is never started, so that also an
    /// engine on another machine has them. That container is named, for [`Engine::remove_container`]: nothing has to wait for its
    /// end.
    pub(super) async fn create_files(
        &self,
        volume: &str,
        helper_image: &str,
        labels: &HashMap<String, String>,
        files: &BTreeMap<String, String>,
    ) -> Result<String, EnvironmentError> {
        let what = || format!("put files into the volume `{volume}`");
        let request = VolumeCreateRequest {
            name: Some(volume.to_owned()),
            labels: Some(labels.clone()),
            ..VolumeCreateRequest::default()
        };
        step(what, self.docker.create_volume(request)).await?;
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o444);
            header.set_size(text.len() as u64);
            let added = archive.append_data(&mut header, name, text.as_bytes());
            added.map_err(|error| failed(what(), error.to_string()))?;
        }
        let archive = archive.into_inner().map_err(|error| failed(what(), error.to_string()))?;
        let helper = format!("{volume}-helper");
        let body = ContainerCreateBody {
            image: Some(helper_image.to_owned()),
            labels: Some(labels.clone()),
            host_config: Some(HostConfig {
                mounts: Some(vec![files_mount(volume, false)]),
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let named = CreateContainerOptionsBuilder::new().name(&helper).build();
        step(what, self.docker.create_container(Some(named), body)).await?;
        let into = UploadToContainerOptionsBuilder::new().path(FILES_DIR).build();
        let archive = bollard::body_full(archive.into());
        step(what, self.docker.upload_to_container(&helper, Some(into), archive)).await?;
        Ok(helper)
    }

    /// Inspects a container; `None` when there is none of that name.
    pub(super) async fn inspect(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, EnvironmentError> {
        let what = || format!("look at the container `{name}`");
        step(what, found(self.docker.inspect_container(name, None))).await
    }

    /// Sends `signal`, and SIGKILL after `grace`; that at once without one. Returns when it has ended.
    pub(super) async fn stop(
        &self,
        name: &str,
        signal: &str,
        grace: Option<Duration>,
    ) -> Result<(), EnvironmentError> {
        let what = || format!("stop the container `{name}`");
        let ended = match grace {
            Some(grace) => {
                let seconds = i32::try_from(grace.as_secs().max(1)).unwrap_or(i32::MAX);
                let options = StopContainerOptionsBuilder::new().signal(signal).t(seconds).build();
                let stop = found(self.docker.stop_container(name, Some(options)));
                within(STEP_LIMIT + grace, what, stop).await
            }
            None => {
                let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
                step(what, found(self.docker.kill_container(name, Some(options)))).await
            }
        };
        ended.map(|_| ())
    }

    pub(super) async fn pause(&self, name: &str) -> Result<(), EnvironmentError> {
        step(|| format!("pause the container `{name}`"), self.docker.pause_container(name)).await
    }

    pub(super) async fn resume(&self, name: &str) -> Result<(), EnvironmentError> {
        step(|| format!("resume the container `{name}`"), self.docker.unpause_container(name)).await
    }

    /// Removes a container, running or not, and its own volumes; that it is gone is fine.
    pub(super) async fn remove_container(&self, name: &str) -> Result<(), EnvironmentError> {
        let what = || format!("remove the container `{name}`");
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = step(what, found(self.docker.remove_container(name, Some(options)))).await;
        removed.map(|_| ())
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), EnvironmentError> {
        let what = || format!("remove the volume `{name}`");
        let options = None::<RemoveVolumeOptions>;
        step(what, found(self.docker.remove_volume(name, options))).await.map(|_| ())
    }

    pub(super) async fn remove_network(&self, name: &str) -> Result<(), EnvironmentError> {
        let what = || format!("remove the network `{name}`");
        step(what, found(self.docker.remove_network(name))).await.map(|_| ())
    }

    /// Removes everything that has this value of a label: containers at once, then volumes and networks.
    pub(super) async fn remove_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<(), EnvironmentError> {
        let all = self.labelled(&format!("{label}={value}")).await?;
        let containers = all.containers.iter().map(|(name, _)| self.remove_container(name));
        let mut results = futures_util::future::join_all(containers).await;
        let volumes = all.volumes.iter().map(|(name, _)| self.remove_volume(name));
        results.extend(futures_util::future::join_all(volumes).await);
        for (name, _) in &all.networks {
            results.push(self.remove_network(name).await);
        }
        results.into_iter().collect()
    }

    /// Everything with a label (`NAME` or `NAME=VALUE`).
    pub(super) async fn labelled(&self, label: &str) -> Result<Labelled, EnvironmentError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let what = || "list labelled objects".to_owned();
        let containers = ListContainersOptions {
            all: true,
            filters: Some(filters.clone()),
            ..ListContainersOptions::default()
        };
        let containers = step(what, self.docker.list_containers(Some(containers))).await?;
        let networks = ListNetworksOptions { filters: Some(filters.clone()) };
        let networks = step(what, self.docker.list_networks(Some(networks))).await?;
        let volumes = ListVolumesOptions { filters: Some(filters) };
        let volumes = step(what, self.docker.list_volumes(Some(volumes))).await?;
        Ok(Labelled {
            containers: containers
                .into_iter()
                .filter_map(|found| {
                    let name = found.names.unwrap_or_default().into_iter().next().or(found.id)?;
                    let name = name.trim_start_matches('/').to_owned();
                    Some((name, found.labels.unwrap_or_default()))
                })
                .collect(),
            networks: networks
                .into_iter()
                .filter_map(|found| Some((found.name?, found.labels.unwrap_or_default())))
                .collect(),
            volumes: volumes
                .volumes
                .unwrap_or_default()
                .into_iter()
                .map(|found| (found.name, found.labels))
                .collect(),
        })
    }
}

/// Names and labels of what was found.
#[derive(Debug, Default)]
pub(super) struct Labelled {
    pub(super) containers: Vec<(String, HashMap<String, String>)>,
    pub(super) networks: Vec<(String, HashMap<String, String>)>,
    pub(super) volumes: Vec<(String, HashMap<String, String>)>,
}

/// A volume of files where a workload looks for them.
pub(super) fn files_mount(volume: &str, read_only: bool) -> Mount {
    Mount {
        target: Some(FILES_DIR.to_owned()),
        source: Some(volume.to_owned()),
        typ: Some(MountType::VOLUME),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// Returns the host at which an engine's published ports are reachable, from the engine's address (`DOCKER_HOST`);
/// `None` if that is not a network address.
pub fn address_of(docker_host: &str) -> Option<String> {
    let url = reqwest::Url::parse(docker_host).ok()?;
    let over_network = matches!(url.scheme(), "tcp" | "http" | "https");
    url.host_str().filter(|_| over_network).map(str::to_owned)
}

/// Makes an error about the engine.
pub(super) fn failed(what: String, reason: String) -> EnvironmentError {
    EnvironmentError::Backend { environment: NAME, what, reason }
}

/// One call with the usual limit.
pub(super) async fn step<T>(
    what: impl Fn() -> String,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, EnvironmentError> {
    within(STEP_LIMIT, what, call).await
}

async fn within<T>(
    limit: Duration,
    what: impl Fn() -> String,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, EnvironmentError> {
    match timeout(limit, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(what(), harness_core::chain_of(&error))),
        Err(_) => Err(failed(what(), format!("no answer within {limit:?}"))),
    }
}

/// `None` where the thing is not there, or is being removed by somebody else, or does not run.
async fn found<T>(call: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
    match call.await {
        Ok(done) => Ok(Some(done)),
        Err(Error::DockerResponseServerError { status_code: 404 | 304, .. }) => Ok(None),
        Err(Error::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") || message.contains("is not running") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
