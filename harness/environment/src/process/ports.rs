//! Ports on the loopback address: choosing free ones, and keeping those of a stopped workload from others.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::net::TcpSocket;

/// Ports that are bound but not listened on, until this is dropped: nobody is given them, and who connects is refused.
#[derive(Debug, Default)]
pub(super) struct Reservation {
    _sockets: Vec<TcpSocket>,
    numbers: BTreeMap<String, u16>,
}

impl Reservation {
    /// Reserves a free port for each name.
    pub(super) fn choose<'a>(names: impl IntoIterator<Item = &'a String>) -> io::Result<Self> {
        let (mut sockets, mut numbers) = (Vec::new(), BTreeMap::new());
        for name in names {
            let socket = bound(0)?;
            numbers.insert(name.clone(), socket.local_addr()?.port());
            sockets.push(socket);
        }
        Ok(Self { _sockets: sockets, numbers })
    }

    /// Keeps these ports, as far as they are free.
    pub(super) fn keep(numbers: &BTreeMap<String, u16>) -> Self {
        let sockets = numbers.values().filter_map(|number| bound(*number).ok()).collect();
        Self { _sockets: sockets, numbers: numbers.clone() }
    }

    /// The port numbers by name.
    pub(super) fn numbers(&self) -> &BTreeMap<String, u16> {
        &self.numbers
    }
}

fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the workload that was there may still be in TIME_WAIT.
    socket.set_reuseaddr(port != 0)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

/// Returns whether a log says that a port is somebody else's; the words of libc, Go, Node, Java and Windows.
pub(super) fn shows_clash(log: &[String]) -> bool {
    const WORDS: [&str; 4] = [
        "address already in use",
        "eaddrinuse",
        "address in use",
        "only one usage of each socket address",
    ];
    log.iter()
        .map(|line| line.to_lowercase())
        .any(|line| WORDS.iter().any(|word| line.contains(word)))
}
