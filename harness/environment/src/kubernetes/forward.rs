//! A port of a workload's pod at an address of this machine, over the API server.
//!
//! The address stays the same whatever happens to pods and connections: each connection to it finds the pod that serves
//! then, and waits for one, or for the API server, when there is none at the moment.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::Portforwarder};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::pods::{PodState, Pods};

/// How long a connection waits for a pod, or for the API server to come back: longer than a short outage of it.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(5);
/// How soon it is tried again, and the most that this grows to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long the end of a connection is waited for once both sides have said all.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Most connections at once; beyond, new ones wait to be taken.
const MAX_CONNECTIONS: usize = 512;

/// Target of a port-forward.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) pods: Arc<Pods>,
    pub(super) workload: String,
    /// Which of its pods, counted from 0, the oldest first.
    pub(super) instance: usize,
    pub(super) port: u16,
    pub(super) breaks: Arc<Breaks>,
}

/// Connections to pods that broke while both ends were there.
#[derive(Debug, Default)]
pub(super) struct Breaks(Mutex<BTreeMap<String, u64>>);

impl Breaks {
    fn note(&self, workload: &str) {
        let mut breaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *breaks.entry(workload.to_owned()).or_default() += 1;
    }

    /// Each workload that it happened to, in a sentence.
    pub(super) fn described(&self) -> Vec<String> {
        let breaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let described = |(workload, count): (&String, &u64)| {
            format!("the way to `{workload}` over the API server broke ({count} connections)")
        };
        breaks.iter().map(described).collect()
    }
}

/// A forwarded port. Dropping it ends all its connections.
pub(super) struct Forward {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    /// Begins to listen at a free port of the loopback address.
    pub(super) async fn open(target: Target) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, target)) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: Target) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        match listener.accept().await {
            Ok((connection, _)) => {
                let target = target.clone();
                connections.spawn(async move { target.serve(connection).await });
            }
            // Out of file handles, for example; it may get better.
            Err(error) => {
                tracing::warn!(%error, "a forwarded port takes no connection");
                sleep(BACKOFF.1).await;
            }
        }
    }
}

impl Target {
    async fn serve(&self, mut connection: TcpStream) {
        let _slower_without = connection.set_nodelay(true);
        // A client that goes away meanwhile is waited for no longer than the limit.
        let Some((pod, mut forwarder)) = self.connect().await else {
            if self.pod().is_some() {
                self.breaks.note(&self.workload);
            }
            return;
        };
        let (error, stream) = (forwarder.take_error(self.port), forwarder.take_stream(self.port));
        let Some(mut stream) = stream else { return };
        let refused = async {
            match error {
                Some(error) => error.await,
                None => None,
            }
        };
        {
            let mut both = std::pin::pin!(copy_bidirectional(&mut connection, &mut stream));
            tokio::select! {
                _either_end_went = &mut both => {}
                refused = refused => match refused {
                    // What the pod does not take is its own affair.
                    Some(reason) => {
                        tracing::debug!(workload = self.workload, reason = reason.trim(), "refused in the pod");
                        return;
                    }
                    None => {
                        let _either_end_went = both.await;
                    }
                },
            }
        }
        drop(stream);
        let ended = timeout(END_LIMIT, forwarder.join()).await;
        if let Ok(Err(error)) = ended {
            tracing::debug!(workload = self.workload, %error, "a forwarded connection broke");
            // One to a pod that ends, or whose container does, breaks with it.
            let now = self.pods.of(&self.workload).into_iter().find(|now| now.uid == pod.uid);
            if now.is_some_and(|now| now.running && !now.deleting && now.restarts == pod.restarts) {
                self.breaks.note(&self.workload);
            }
        }
    }

    fn pod(&self) -> Option<PodState> {
        serving(self.pods.of(&self.workload), self.instance)
    }

    /// A way to the pod that serves now.
    async fn connect(&self) -> Option<(PodState, Portforwarder)> {
        let deadline = Instant::now() + CONNECT_LIMIT;
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let mut changed = self.pods.changed();
        let mut backoff = BACKOFF.0;
        while Instant::now() < deadline {
            changed.mark_unchanged();
            let Some(pod) = self.pod() else {
                let _changed_or_late = timeout_at(deadline, changed.changed()).await;
                continue;
            };
            match timeout(TRY_LIMIT, api.portforward(&pod.name, &[self.port])).await {
                Ok(Ok(forwarder)) => return Some((pod, forwarder)),
                Ok(Err(error)) => {
                    tracing::debug!(
                        pod = pod.name,
                        error = harness_core::chain_of(&error),
                        "no forward"
                    );
                }
                Err(_) => tracing::debug!(pod = pod.name, "no forward within {TRY_LIMIT:?}"),
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
        None
    }
}

/// The pod for the nth instance: one that takes requests before one that only runs, as a frozen one does.
fn serving(mut pods: Vec<PodState>, instance: usize) -> Option<PodState> {
    pods.retain(|pod| pod.running && !pod.deleting);
    if pods.iter().any(|pod| pod.ready) {
        pods.retain(|pod| pod.ready);
    }
    let count = pods.len();
    (count > 0).then(|| pods.swap_remove(instance % count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_pod_is_preferred_and_one_that_goes_is_left_out() {
        let pod = |name: &str, running, ready, deleting| PodState {
            name: name.to_owned(),
            running,
            ready,
            deleting,
            ..PodState::default()
        };
        let of = |pods: &[PodState], instance| serving(pods.to_vec(), instance).map(|pod| pod.name);
        let (frozen, going, starting) = (
            pod("frozen", true, false, false),
            pod("going", true, true, true),
            pod("new", false, false, false),
        );
        let (one, two) = (pod("one", true, true, false), pod("two", true, true, false));
        assert_eq!(of(&[starting.clone(), going.clone()], 0), None);
        assert_eq!(of(&[starting, frozen.clone()], 0).as_deref(), Some("frozen"));
        assert_eq!(of(&[frozen, one.clone(), two.clone(), going], 1).as_deref(), Some("two"));
        assert_eq!(of(&[one, two], 2).as_deref(), Some("one"));
    }
}
