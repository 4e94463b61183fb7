//! Stands before the API server, and can be away.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Proxy {
    address: SocketAddr,
    away: watch::Sender<bool>,
    broken: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let away = watch::Sender::new(false);
        let broken = Arc::new(AtomicUsize::new(0));
        let (server, watching, count) = (server.to_owned(), away.subscribe(), Arc::clone(&broken));
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (server, mut away, count) =
                    (server.clone(), watching.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    if *away.borrow() {
                        return;
                    }
                    let Ok(mut to) = TcpStream::connect(&server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut from, &mut to) => {}
                        _ = away.wait_for(|away| *away) => { count.fetch_add(1, Ordering::Relaxed); }
                    }
                });
            }
        });
        Self { address, away, broken }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection, and takes no other for that long.
    pub(crate) async fn away_for(&self, time: Duration) {
        self.away.send_replace(true);
        tokio::time::sleep(time).await;
        self.away.send_replace(false);
    }

    /// How many connections were broken.
    pub(crate) fn broken(&self) -> usize {
        self.broken.load(Ordering::Relaxed)
    }
}
