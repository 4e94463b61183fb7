//! Senders that keep to a rate, send again what was refused, and know what was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::load::Connection;
use crate::traffic::Traffic;

/// How many requests are in flight at a time.
const CONNECTIONS: usize = 16;
/// How long a refused sender waits: as SDKs do at first.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Log of the senders.
#[derive(Default)]
pub(crate) struct Log {
    /// The numbers of requests that were acknowledged.
    acknowledged: Mutex<Vec<u64>>,
    refused: AtomicU64,
    broken: AtomicU64,
}

/// Senders at work.
pub(crate) struct Senders {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    pub(crate) log: Arc<Log>,
}

impl Log {
    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that were refused, to be sent again.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests that were not answered, to be sent again.
    pub(crate) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Senders {
    /// Begins to send, so many spans a second, until [`Senders::stop`].
    pub(crate) fn start(port: u16, traffic: &Arc<Traffic>, rate: u64) -> Self {
        let (next, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let (stop, log) = (Arc::new(AtomicBool::new(false)), Arc::new(Log::default()));
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (next, stop, log, traffic) =
                (Arc::clone(&next), Arc::clone(&stop), Arc::clone(&log), Arc::clone(traffic));
            tasks.spawn(async move {
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let spans = number * traffic.spans_per_request as u64;
                    sleep_until(begun + Duration::from_secs_f64(spans as f64 / rate as f64)).await;
                    while !stop.load(Ordering::Relaxed)
                        && !send(port, &mut connection, &traffic, number, &log).await
                    {
                        sleep(PAUSE).await;
                    }
                }
            });
        }
        Self { tasks, stop, log }
    }

    /// Stops, and waits for what is in progress.
    pub(crate) async fn stop(mut self) -> Arc<Log> {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.log
    }
}

/// Makes one attempt; whether it was acknowledged.
async fn send(
    port: u16,
    connection: &mut Option<Connection>,
    traffic: &Traffic,
    number: u64,
    log: &Log,
) -> bool {
    let attempt = async {
        let open = match connection.take() {
            Some(open) => open,
            None => Connection::open(port).await?,
        };
        let open = connection.insert(open);
        open.export(traffic.message(number)).await
    };
    match timeout(PATIENCE, attempt).await {
        Ok(Ok(Ok(()))) => {
            log.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            true
        }
        Ok(Ok(Err(_))) => {
            log.refused.fetch_add(1, Ordering::Relaxed);
            false
        }
        Ok(Err(_)) | Err(_) => {
            log.broken.fetch_add(1, Ordering::Relaxed);
            *connection = None;
            false
        }
    }
}
