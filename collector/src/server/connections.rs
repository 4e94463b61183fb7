//! The connections of one port: how many there are, what each is doing, and which one goes when there is no room.
//!
//! A connection is busy while a request of it is being answered, else idle. When the port is full, a newcomer takes the
//! place of an idle one: first of one that never made a request, then of the one that is idle for the longest time. So
//! whoever only holds connections open keeps nobody else out.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::sender::Peer;

/// The connections of one port.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    table: Arc<Mutex<Table>>,
    /// Reported when a connection has gone.
    gone: Arc<Notify>,
    most: usize,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    /// Requests being answered.
    busy: usize,
    has_asked: bool,
    /// When it was accepted, or its last request was answered.
    since: Instant,
    close: CancellationToken,
}

impl Connections {
    /// At most this many at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { table: Arc::default(), gone: Arc::default(), most }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new connection, closing an idle one where there is no room. Waits where all are busy.
    pub(super) async fn admit(&self) -> Connection {
        loop {
            let gone = self.gone.notified();
            {
                let mut table = self.table();
                if table.open.len() < self.most {
                    let number = table.next;
                    table.next += 1;
                    let close = CancellationToken::new();
                    let open = Open {
                        busy: 0,
                        has_asked: false,
                        since: Instant::now(),
                        close: close.clone(),
                    };
                    table.open.insert(number, open);
                    return Connection { of: self.clone(), number, close };
                }
                table.close_idle();
            }
            gone.await;
        }
    }

    /// Closes an idle connection, if there is one.
    pub(super) fn close_idle(&self) {
        self.table().close_idle();
    }

    /// Until all connections have gone.
    pub(super) async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.table().open.is_empty() {
                return;
            }
            gone.await;
        }
    }
}

impl Table {
    fn close_idle(&self) {
        let idle = self.open.values().filter(|open| open.busy == 0 && !open.close.is_cancelled());
        if let Some(open) = idle.min_by_key(|open| (open.has_asked, open.since)) {
            open.close.cancel();
        }
    }
}

/// An entered connection; dropped, it has gone.
#[derive(Debug)]
pub(super) struct Connection {
    of: Connections,
    number: u64,
    /// Cancelled when another one is to have its place.
    pub(super) close: CancellationToken,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of.table().open.remove(&self.number);
        // Both may wait: a newcomer, and the end of the server.
        self.of.gone.notify_waiters();
    }
}

impl Connection {
    /// Ends when the connection is due to be closed: without any request for `first`, or idle for `idle`.
    pub(super) async fn is_due(&self, first: Duration, idle: Option<Duration>) {
        loop {
            let left = {
                let table = self.of.table();
                let Some(open) = table.open.get(&self.number) else { return };
                let limit = if open.has_asked { idle } else { Some(first) };
                limit.map(|limit| match open.busy {
                    0 => (open.since + limit).saturating_duration_since(Instant::now()),
                    _ => limit,
                })
            };
            // Looked at again when its first request may have made another limit hold.
            match (left, idle) {
                (None, _) => std::future::pending().await,
                (Some(left), _) if left.is_zero() => return,
                (Some(left), idle) => tokio::time::sleep(idle.unwrap_or(left).min(left)).await,
            }
        }
    }

    /// A service that enters when requests of this connection begin and end, and reports each who sent it.
    pub(super) fn watch<S>(&self, service: S, peer: Peer) -> Watched<S> {
        Watched { service, peer, table: Arc::clone(&self.of.table), number: self.number }
    }
}

/// See [`Connection::watch`].
#[derive(Debug, Clone)]
pub(super) struct Watched<S> {
    service: S,
    peer: Peer,
    table: Arc<Mutex<Table>>,
    number: u64,
}

impl<S, B> Service<Request<B>> for Watched<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        let busy = Busy::begin(Arc::clone(&self.table), self.number);
        let answer = self.service.call(request);
        Box::pin(async move {
            let _until_answered = busy;
            answer.await
        })
    }
}

/// A request being answered. Also one whose client went away ends here.
struct Busy {
    table: Arc<Mutex<Table>>,
    number: u64,
}

impl Busy {
    fn begin(table: Arc<Mutex<Table>>, number: u64) -> Self {
        let busy = Self { table, number };
        busy.change(|open| {
            open.busy += 1;
            open.has_asked = true;
        });
        busy
    }

    fn change(&self, change: impl FnOnce(&mut Open)) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = table.open.get_mut(&self.number) {
            change(open);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.change(|open| {
            open.busy -= 1;
            open.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::{Busy, Connection, Connections};

    fn busy(connection: &Connection) -> Busy {
        Busy::begin(connection.of.table.clone(), connection.number)
    }

    async fn admit(connections: &Connections) -> Connection {
        advance(Duration::from_secs(1)).await;
        connections.admit().now_or_never().expect("there is room")
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_of_the_one_that_is_needed_least() {
        let connections = Connections::new(4);
        let [working, used, used_later, silent] = [
            admit(&connections).await,
            admit(&connections).await,
            admit(&connections).await,
            admit(&connections).await,
        ];
        let _in_progress = busy(&working);
        drop(busy(&used));
        advance(Duration::from_secs(1)).await;
        drop(busy(&used_later));

        let closed = |of: &[&Connection]| of.iter().map(|one| one.close.is_cancelled()).collect();
        let all = [&working, &used, &used_later, &silent];
        for (leaves, expected) in [
            (3, [false, false, false, true]),
            (1, [false, true, false, true]),
            (2, [false, true, true, true]),
        ] {
            assert!(connections.admit().now_or_never().is_none());
            let state: Vec<bool> = closed(&all);
            assert_eq!(state, expected, "the one at {leaves} goes");
        }
        // Now all that are left are busy: the newcomer waits until one has gone.
        let newcomer = connections.admit();
        tokio::pin!(newcomer);
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(!working.close.is_cancelled());
        drop(silent);
        newcomer.now_or_never().expect("there is room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_due_when_it_asks_nothing_and_when_it_is_idle() {
        let (first, idle) = (Duration::from_secs(30), Duration::from_secs(5));
        let connections = Connections::new(4);
        let silent = admit(&connections).await;
        let begun = tokio::time::Instant::now();
        silent.is_due(first, None).await;
        assert_eq!(begun.elapsed(), first);

        let used = admit(&connections).await;
        let request = busy(&used);
        let is_due = used.is_due(first, Some(idle));
        tokio::pin!(is_due);
        assert!(is_due.as_mut().now_or_never().is_none());
        advance(Duration::from_secs(60)).await;
        assert!(is_due.as_mut().now_or_never().is_none(), "it is busy");
        drop(request);
        let begun = tokio::time::Instant::now();
        is_due.await;
        // It is looked at no more often than its limit.
        assert!((idle..2 * idle).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let without_limit = used.is_due(first, None);
        advance(Duration::from_secs(3600)).await;
        assert!(without_limit.now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_last_one() {
        let connections = Connections::new(2);
        let (one, two) = (admit(&connections).await, admit(&connections).await);
        let all_gone = connections.all_gone();
        tokio::pin!(all_gone);
        drop(one);
        assert!(all_gone.as_mut().now_or_never().is_none());
        drop(two);
        assert!(all_gone.now_or_never().is_some());
    }
}
