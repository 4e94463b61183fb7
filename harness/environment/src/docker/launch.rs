//! Starting one container, and waiting until it is ready.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future;
use testcontainers::{
    ContainerRequest, GenericImage, ImageExt,
    bollard::models::{HostConfig, PortBinding},
    core::ContainerPort,
    runners::AsyncRunner,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use super::{
    TAIL_LINES,
    engine::{Engine, failed, files_mount},
    instance::{Running, follow, watch_exit},
};
use crate::{EnvironmentError, container::Container, image::USER, log::Log};

/// Interval for polling something that cannot notify by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// How long one health request may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection must stay open to be one to the container, and not only to the engine's proxy before it.
const OPEN_FOR: Duration = Duration::from_millis(100);
/// How often a port that somebody else has is asked for again.
const PORT_RETRY: Duration = Duration::from_millis(100);
/// Room for files in `/tmp`.
const TMP_OPTIONS: &str = "rw,nosuid,nodev,mode=1777,size=268435456";

/// All that one start needs; owned, so that several can go on at once.
pub(super) struct Launch {
    pub(super) container: Container,
    pub(super) image: String,
    /// An image that the engine has; for a container that is never started.
    pub(super) helper_image: String,
    pub(super) network: String,
    pub(super) labels: HashMap<String, String>,
    /// By port name; those it had before, else the engine chooses.
    pub(super) host_ports: BTreeMap<String, u16>,
    /// It was started before.
    pub(super) again: bool,
    pub(super) log: Arc<Log>,
    pub(super) engine: Arc<Engine>,
    pub(super) client: reqwest::Client,
    /// For the whole start.
    pub(super) limit: Duration,
    pub(super) give_up: CancellationToken,
}

impl Launch {
    pub(super) async fn run(self) -> Result<Running, EnvironmentError> {
        let deadline = Instant::now() + self.limit;
        if self.give_up.is_cancelled() {
            return Err(EnvironmentError::Interrupted);
        }
        let name = self.container.host.clone();
        let mut helper = None;
        if self.again {
            self.engine.remove_container(&name).await?;
        } else if !self.container.files.is_empty() {
            let files = &self.container.files;
            let made = self.engine.create_files(&name, &self.helper_image, &self.labels, files);
            helper = Some(made.await?);
        }
        let mark = self.log.mark();
        let removed = async {
            match &helper {
                Some(helper) => self.engine.remove_container(helper).await,
                None => Ok(()),
            }
        };
        // Where it cannot be removed now, it is with the system.
        let (handle, _removed) = future::join(Box::pin(self.start(deadline)), removed).await;
        let handle = handle?;
        let id = handle.id().to_owned();
        let docker = self.engine.docker();
        let exit = watch_exit(docker, &id);
        let (listens, listening) = watch::channel(false);
        let follower = follow(docker, &id, Arc::clone(&self.log), move |line| {
            if line.starts_with("{\"listening\":") {
                listens.send_replace(true);
            }
        });
        let mut running = Running { handle, host_ports: BTreeMap::new(), exit, follower };
        let mut waits_for = String::new();
        let mut exit = running.exit.clone();
        let ready = async {
            let ports = self.published(&name).await?;
            self.ready(&ports, listening, &mut waits_for).await;
            Ok(ports)
        };
        let outcome = tokio::select! {
            biased;
            _ = exit.wait_for(Option::is_some) => None,
            () = self.give_up.cancelled() => Some(Err(EnvironmentError::Interrupted)),
            ready = time::timeout_at(deadline, ready) => Some(match ready {
                Ok(ready) => ready,
                Err(_) => Err(EnvironmentError::NotReady {
                    workload: self.container.workload.clone(),
                    limit: self.limit,
                    waited_for: waits_for,
                    log_tail: Vec::new(),
                }),
            }),
        };
        let error = match outcome {
            Some(Ok(ports)) => {
                running.host_ports = ports;
                return Ok(running);
            }
            None => {
                let exit = running.exit.borrow().clone();
                running.end_of_log().await;
                let status = match exit {
                    Some(exit) => running.describe(&self.engine, &name, &exit).await,
                    None => "its exit was not observed".to_owned(),
                };
                EnvironmentError::DiedAtStart {
                    workload: self.container.workload.clone(),
                    status,
                    log_tail: self.log.since(mark, TAIL_LINES),
                }
            }
            Some(Err(EnvironmentError::NotReady { workload, limit, waited_for, .. })) => {
                let log_tail = self.log.since(mark, TAIL_LINES);
                EnvironmentError::NotReady { workload, limit, waited_for, log_tail }
            }
            Some(Err(error)) => error,
        };
        running.remove(&self.engine, &name).await?;
        Err(error)
    }

    /// Starts it; where it must have its ports and somebody else has one for the moment, again until the deadline.
    async fn start(
        &self,
        deadline: Instant,
    ) -> Result<testcontainers::ContainerAsync<GenericImage>, EnvironmentError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.request(deadline).start().await {
                Ok(handle) => return Ok(handle),
                Err(error) => harness_core::chain_of(&error),
            };
            // What could not be started was made all the same.
            self.engine.remove_container(&self.container.host).await?;
            let taken = error.contains("port is already allocated")
                || error.contains("address already in use");
            let workload = self.container.workload.clone();
            if !taken {
                let what = format!("start `{workload}` from the image `{}`", self.image);
                return Err(failed(what, error));
            }
            if Instant::now() + PORT_RETRY >= deadline || self.give_up.is_cancelled() {
                let ports = self.host_ports.values();
                let addresses: Vec<String> =
                    ports.map(|port| format!("{}:{port}", self.engine.address())).collect();
                return Err(EnvironmentError::PortTaken {
                    workload,
                    addresses: addresses.join(", "),
                    attempts,
                    log_tail: vec![error],
                });
            }
            time::sleep(PORT_RETRY).await;
        }
    }

    fn request(&self, deadline: Instant) -> ContainerRequest<GenericImage> {
        let container = &self.container;
        let (name, tag) = match self.image.rsplit_once(':') {
            // Of a host and its port there is no tag.
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (self.image.as_str(), "latest"),
        };
        let mut image = GenericImage::new(name, tag);
        for number in container.ports.values() {
            image = image.with_exposed_port(ContainerPort::Tcp(*number));
        }
        let mut words = container.entrypoint.iter().chain(&container.args).cloned();
        if !container.entrypoint.is_empty()
            && let Some(program) = words.next()
        {
            image = image.with_entrypoint(&program);
        }
        let user = container.user.map_or_else(|| USER.to_owned(), |user| format!("{user}:{user}"));
        let mut request = image
            .with_cmd(words)
            .with_container_name(&container.host)
            .with_network(&self.network)
            .with_labels(self.labels.clone())
            .with_user(user)
            .with_readonly_rootfs(true)
            .with_cap_drop("ALL")
            .with_security_opt("no-new-privileges")
            .with_startup_timeout(deadline.saturating_duration_since(Instant::now()));
        for (name, value) in &container.env {
            request = request.with_env_var(name, value);
        }
        for (name, secret) in &container.secrets {
            request = request.with_env_var(name, secret.reveal());
        }
        let bindings = container.ports.iter().map(|(port, number)| {
            let host_port = self.host_ports.get(port).map(u16::to_string);
            let binding = PortBinding {
                host_ip: Some(self.engine.publish_at().to_owned()),
                host_port: Some(host_port.unwrap_or_default()),
            };
            (format!("{number}/tcp"), Some(vec![binding]))
        });
        let bindings: HashMap<_, _> = bindings.collect();
        let files = (!container.files.is_empty()).then(|| files_mount(&container.host, true));
        request.with_host_config_modifier(move |host: &mut HostConfig| {
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(bindings.clone());
            // With these the engine says itself that it knows no such name, where it would ask a server outside else, and that
            // may take long: a workload that is down is unknown at once.
            host.dns_options = Some(vec!["ndots:1".to_owned()]);
            host.dns_search = Some(vec![".".to_owned()]);
            host.tmpfs = Some(HashMap::from([("/tmp".to_owned(), TMP_OPTIONS.to_owned())]));
            if let Some(files) = &files {
                host.mounts = Some(vec![files.clone()]);
            }
        })
    }

    /// The ports of the engine's machine that its ports are published at, by port name.
    async fn published(&self, name: &str) -> Result<BTreeMap<String, u16>, EnvironmentError> {
        let found = self.engine.inspect(name).await?;
        let published = found.and_then(|found| found.network_settings?.ports).unwrap_or_default();
        let number = |number: &u16| {
            let bindings = published.get(&format!("{number}/tcp"))?.as_ref()?;
            bindings.iter().find_map(|binding| binding.host_port.as_ref()?.parse().ok())
        };
        let ports = self.container.ports.iter().map(|(port, inside)| match number(inside) {
            Some(outside) => Ok((port.clone(), outside)),
            None => Err(failed(
                format!("publish port `{port}` of `{}`", self.container.workload),
                format!("it says nothing of {inside}/tcp"),
            )),
        });
        ports.collect()
    }

    /// Waits until it can be used: a built-in has said that it listens, a port of another one takes connections; and it is
    /// healthy, where one can ask.
    async fn ready(
        &self,
        ports: &BTreeMap<String, u16>,
        mut listening: watch::Receiver<bool>,
        waits_for: &mut String,
    ) {
        let host = self.engine.address();
        if self.container.is_foreign() {
            for (port, number) in ports {
                *waits_for = format!("port `{port}` ({host}:{number}) takes no connections");
                accepts(host, *number).await;
            }
        } else {
            "it has not printed its listening line".clone_into(waits_for);
            if listening.wait_for(|listening| *listening).await.is_err() {
                // The log ended without one: its end is near, or the deadline.
                std::future::pending::<()>().await;
            }
        }
        let Some(health) = &self.container.health else { return };
        let Some(number) = ports.get(&health.port) else { return };
        let url = format!("http://{host}:{number}{}", health.path);
        loop {
            match self.client.get(&url).timeout(HEALTH_TIMEOUT).send().await {
                Ok(response) if response.status().is_success() => return,
                Ok(response) => *waits_for = crate::unhealthy(&url, response.status()),
                Err(error) => {
                    *waits_for =
                        format!("{url} does not answer: {}", harness_core::chain_of(&error));
                }
            }
            time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Waits until somebody behind the engine's proxy listens: the proxy itself takes every connection, and closes it again when
/// there is nobody.
async fn accepts(host: &str, port: u16) {
    loop {
        if let Ok(mut connection) = TcpStream::connect((host, port)).await {
            let mut byte = [0];
            match time::timeout(OPEN_FOR, connection.read(&mut byte)).await {
                Err(_still_open) => return,
                Ok(Ok(1..)) => return,
                Ok(Ok(0) | Err(_)) => {}
            }
        }
        time::sleep(POLL_INTERVAL).await;
    }
}
