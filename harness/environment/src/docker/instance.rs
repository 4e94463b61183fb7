//! One workload's container: whether it runs, how it ended, and what it logged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use testcontainers::{
    ContainerAsync, GenericImage,
    bollard::{
        Docker,
        errors::Error,
        query_parameters::{LogsOptionsBuilder, WaitContainerOptionsBuilder},
    },
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::io::StreamReader;

use super::{TAIL_LINES, engine::Engine};
use crate::{EnvironmentError, UncleanStop, container::Container, log::Log};
use harness_system::{Role, StopSignal};

/// How long the end of a container that has been stopped may take to be reported.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How long the rest of a log is waited for.
const LOG_GRACE: Duration = Duration::from_millis(500);

/// One workload of a system.
pub(super) struct Instance {
    pub(super) container: Container,
    /// Over all its starts.
    pub(super) log: Arc<Log>,
    /// By port name, of its last start; it gets the same ones again.
    pub(super) host_ports: BTreeMap<String, u16>,
    pub(super) was_started: bool,
    pub(super) state: State,
}

pub(super) enum State {
    Stopped,
    Running { running: Box<Running>, paused: bool, exit_reported: bool },
}

/// A container that was started.
pub(super) struct Running {
    pub(super) handle: ContainerAsync<GenericImage>,
    pub(super) host_ports: BTreeMap<String, u16>,
    /// How it ended, when it has.
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) follower: JoinHandle<()>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// `None` when the engine did not report it.
    pub(super) code: Option<i64>,
}

impl Instance {
    pub(super) fn new(container: Container, log: Arc<Log>) -> Self {
        Self {
            container,
            log,
            host_ports: BTreeMap::new(),
            was_started: false,
            state: State::Stopped,
        }
    }

    /// Stops it if it runs, at once without a `grace`, removes the container, and reports if it did not end as it should.
    pub(super) async fn stop(
        &mut self,
        engine: &Engine,
        grace: Option<Duration>,
    ) -> Result<Option<UncleanStop>, EnvironmentError> {
        let State::Running { running, paused, exit_reported } = &mut self.state else {
            return Ok(None);
        };
        let name = self.container.host.clone();
        let grace = planned(&self.container, grace);
        let signal = self.container.limits.stop_signal.name();
        let ended_before = running.exit.borrow().is_some();
        let reported = *exit_reported;
        if !ended_before {
            // The engine takes no signal for one that is paused.
            if *paused {
                engine.resume(&name).await?;
                *paused = false;
            }
            engine.stop(&name, signal, grace).await?;
        }
        let _missed = timeout(END_LIMIT, running.exit.wait_for(Option::is_some)).await.is_err();
        let exit = running.exit.borrow().clone().unwrap_or(Exit { code: None });
        running.end_of_log().await;
        let text = running.describe(engine, &name, &exit).await;
        let is_killed = !ended_before && exit.code == Some(137);
        let how = match (ended_before, grace) {
            // The one who asked for unexpected exits has it already.
            (true, _) if reported => None,
            (true, _) => Some(format!("had ended before it was stopped ({text})")),
            (false, Some(grace)) if is_killed => {
                Some(format!("killed, since it still ran {grace:?} after {signal} ({text})"))
            }
            // That is how it was to end.
            (false, None) if is_killed => None,
            (false, _) => is_unclean(&self.container, &exit).then_some(text),
        };
        let unclean = how.map(|how| UncleanStop {
            workload: self.container.workload.clone(),
            how,
            log_tail: self.log.tail(TAIL_LINES),
            foreseen: is_killed && self.container.limits.stop.is_some(),
        });
        // Removed here, so that the next start finds its name free.
        if let State::Running { running, .. } = std::mem::replace(&mut self.state, State::Stopped) {
            running.remove(engine, &name).await?;
        }
        Ok(unclean)
    }
}

/// How long a container has to end: what its system file says, in whole seconds, else what is usual; `None` where it is not asked.
fn planned(container: &Container, usual: Option<Duration>) -> Option<Duration> {
    let seconds = container.stop_seconds(usual?.as_secs());
    (container.limits.stop_signal != StopSignal::Kill).then(|| Duration::from_secs(seconds))
}

/// A built-in and every collector must end with 0, since they say in this way that nothing was lost. Another service may as well
/// say 143, as a shell or a JVM does for SIGTERM, or what goes with another signal that it is stopped by.
fn is_unclean(container: &Container, exit: &Exit) -> bool {
    let may = container.is_foreign() && container.role == Role::Service;
    !(exit.code == Some(0) || may && exit.code == Some(container.status_of_stop()))
}

impl Running {
    /// Waits a moment for the rest of its log, once it has ended.
    pub(super) async fn end_of_log(&mut self) {
        let _still_open = timeout(LOG_GRACE, &mut self.follower).await;
    }

    /// How it ended, for people.
    pub(super) async fn describe(&self, engine: &Engine, name: &str, exit: &Exit) -> String {
        let Some(code) = exit.code else { return "its exit was not observed".to_owned() };
        if code == 0 {
            return "exit code 0".to_owned();
        }
        let state = engine.inspect(name).await.ok().flatten().and_then(|found| found.state);
        let out_of_memory = state.and_then(|state| state.oom_killed).unwrap_or(false);
        let because = if out_of_memory { ", out of memory" } else { "" };
        format!("exit code {code}{because}")
    }

    pub(super) async fn remove(self, engine: &Engine, name: &str) -> Result<(), EnvironmentError> {
        self.follower.abort();
        // What testcontainers has removed it does not remove once more, as it does with all it started.
        match self.handle.rm().await {
            Ok(()) => Ok(()),
            // It may be gone already, or on its way.
            Err(_) => engine.remove_container(name).await,
        }
    }
}

/// Waits for a container's end in the background.
pub(super) fn watch_exit(docker: &Docker, id: &str) -> watch::Receiver<Option<Exit>> {
    let (report, exit) = watch::channel(None);
    let (docker, id) = (docker.clone(), id.to_owned());
    tokio::spawn(async move {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut ends = Box::pin(docker.wait_container(&id, Some(options)));
        let code = match ends.next().await {
            Some(Ok(end)) => Some(end.status_code),
            // Every code but 0 comes as an error.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Some(code),
            Some(Err(_)) | None => None,
        };
        report.send_replace(Some(Exit { code }));
    });
    exit
}

/// Follows a container's output into its log from the beginning, and shows each line to `observe`.
pub(super) fn follow(
    docker: &Docker,
    id: &str,
    log: Arc<Log>,
    observe: impl FnMut(&str) + Send + 'static,
) -> JoinHandle<()> {
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
    let output = docker.logs(id, Some(options));
    let output = output.map_ok(|line| line.into_bytes()).map_err(std::io::Error::other);
    tokio::spawn(async move {
        log.follow(StreamReader::new(Box::pin(output)), observe).await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Image;
    use harness_system::Limits;

    #[test]
    fn a_container_is_stopped_as_its_system_file_says() {
        let container = |limits: Limits| Container {
            workload: "shop".to_owned(),
            role: Role::Service,
            host: "shop".to_owned(),
            image: Image::Named("shop".to_owned()),
            entrypoint: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            files: BTreeMap::new(),
            ports: BTreeMap::new(),
            health: None,
            limits,
            user: None,
        };
        let usual = Some(Duration::from_secs(25));
        let plain = container(Limits::default());
        assert_eq!((planned(&plain, usual), planned(&plain, None)), (usual, None));
        let own = Limits {
            stop: Some(Duration::from_millis(300)),
            stop_signal: StopSignal::Quit,
            ..Limits::default()
        };
        let own = container(own);
        assert_eq!(planned(&own, usual), Some(Duration::from_secs(1)));
        let by = |code| Exit { code: Some(code) };
        assert!(
            !is_unclean(&own, &by(131))
                && is_unclean(&own, &by(143))
                && is_unclean(&plain, &by(131))
        );
        let killed = container(Limits { stop_signal: StopSignal::Kill, ..Limits::default() });
        assert_eq!(planned(&killed, usual), None, "whoever is not asked needs no time");
    }
}
