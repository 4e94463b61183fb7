//! Table of who is held, and whose turn it is.

use std::collections::BTreeMap;
use std::ops::Bound;

use tokio::sync::oneshot;

use super::{MAX_HELD_BYTES, MAX_HELD_REQUESTS};
use crate::sender::Peer;

/// Least weight of a request, when it is asked which host has most: as much as one of as many as may be held.
const LEAST_WEIGHT: usize = MAX_HELD_BYTES / MAX_HELD_REQUESTS;

/// Notice to a held request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// It is the next one to take the room that there will be.
    Turn,
    /// Another host needs its place.
    GiveWay,
}

/// The requests that are held, by host.
#[derive(Debug)]
pub(super) struct Table {
    max_requests: usize,
    max_bytes: usize,
    requests: usize,
    bytes: usize,
    next: u64,
    hosts: BTreeMap<Peer, Host>,
    /// The peer and request whose turn it is.
    turn: Option<(Peer, u64)>,
    /// The peer whose turn it was last, also when nothing of it is held any more.
    last: Option<Peer>,
}

/// Requests that are held of one host, the oldest first.
#[derive(Debug, Default)]
struct Host {
    held: BTreeMap<u64, Held>,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    bytes: usize,
    /// None once it was reported.
    notify: Option<oneshot::Sender<Notice>>,
}

impl Host {
    fn weight(&self) -> usize {
        self.bytes.max(self.held.len().saturating_mul(LEAST_WEIGHT))
    }

    fn weight_with(&self, bytes: usize) -> usize {
        let requests = (self.held.len() + 1).saturating_mul(LEAST_WEIGHT);
        self.bytes.saturating_add(bytes).max(requests)
    }
}

impl Table {
    pub(super) fn new(max_requests: usize, max_bytes: usize) -> Self {
        let (requests, bytes, next, hosts, turn, last) = Default::default();
        Self { max_requests, max_bytes, requests, bytes, next, hosts, turn, last }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Enters a request, if there is place for it or a host that has more makes some; gives its number.
    pub(super) fn enter(
        &mut self,
        peer: Peer,
        bytes: usize,
        notify: oneshot::Sender<Notice>,
    ) -> Option<u64> {
        while !self.has_place(bytes) {
            self.make_place(peer, bytes)?;
        }
        let number = self.next;
        self.next += 1;
        self.requests += 1;
        self.bytes += bytes;
        let host = self.hosts.entry(peer).or_default();
        host.bytes += bytes;
        host.held.insert(number, Held { bytes, notify: Some(notify) });
        self.pass_turn();
        Some(number)
    }

    /// Takes a request out, if it still is in; the turn passes on if it was its own.
    pub(super) fn leave(&mut self, peer: Peer, number: u64) {
        self.remove(peer, number);
        if self.turn == Some((peer, number)) {
            self.turn = None;
            self.pass_turn();
        }
    }

    fn has_place(&self, bytes: usize) -> bool {
        self.requests < self.max_requests && self.bytes.saturating_add(bytes) <= self.max_bytes
    }

    /// Has the newest request give way of the host with the most, if the newcomer's has less with it than that one.
    fn make_place(&mut self, newcomer: Peer, bytes: usize) -> Option<()> {
        let share = self
            .hosts
            .get(&newcomer)
            .map_or(bytes.max(LEAST_WEIGHT), |host| host.weight_with(bytes));
        let (peer, host) = self.hosts.iter().max_by_key(|(_, host)| host.weight())?;
        if *peer == newcomer || host.weight() <= share {
            return None;
        }
        let (number, newest) = host.held.last_key_value()?;
        // Whose turn it is keeps its place.
        newest.notify.as_ref()?;
        let (peer, number) = (*peer, *number);
        if let Some(notify) = self.remove(peer, number)?.notify {
            // Who is gone meanwhile need not be reported.
            let _ = notify.send(Notice::GiveWay);
        }
        Some(())
    }

    fn remove(&mut self, peer: Peer, number: u64) -> Option<Held> {
        let host = self.hosts.get_mut(&peer)?;
        let held = host.held.remove(&number)?;
        host.bytes -= held.bytes;
        self.bytes -= held.bytes;
        self.requests -= 1;
        if host.held.is_empty() {
            self.hosts.remove(&peer);
        }
        Some(held)
    }

    /// Gives the turn, if nobody has it, to the oldest request of the next host.
    fn pass_turn(&mut self) {
        if self.turn.is_some() {
            return;
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.hosts.range((after, Bound::Unbounded)).next();
        let Some(peer) = next.or_else(|| self.hosts.iter().next()).map(|(peer, _)| *peer) else {
            return;
        };
        let Some(host) = self.hosts.get_mut(&peer) else { return };
        let Some(mut first) = host.held.first_entry() else { return };
        self.turn = Some((peer, *first.key()));
        self.last = Some(peer);
        if let Some(notify) = first.get_mut().notify.take() {
            // Who is gone gives its place, and with it the turn, back.
            let _ = notify.send(Notice::Turn);
        }
    }
}
