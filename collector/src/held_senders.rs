//! Senders that are held until there is room for their requests, rather than refused.
//!
//! An exporter gives a batch up after a few refusals, and some after the first; none minds an answer that takes a while. So a
//! sender that finds no room is held for somewhat less than the 10 s that exporters wait, and asked to come again only then.
//! Who is held takes memory, and so there are bounds: beyond them senders are refused at once, and asked to wait longer.
//!
//! Hosts share both what is held and the room that comes. Beyond the bounds the newest request of the host with the most of them
//! makes place for one of a host that has less. Room goes to one host after the other, to the oldest request of each: whoever sends
//! without measure waits for itself.

mod table;

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use table::{Notice, Table};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::consumer::Refused;
use crate::sender::{Peer, Sender};
use crate::telemetry::Counter;

/// How many requests are held at a time in front of a stage.
pub(crate) const MAX_HELD_REQUESTS: usize = 1024;
/// How many bytes of spans are held at a time in front of a stage.
pub(crate) const MAX_HELD_BYTES: usize = 32 << 20;

/// The senders that are held in front of one stage.
#[derive(Debug)]
pub(crate) struct HeldSenders {
    table: Mutex<Table>,
    held: Counter,
}

impl HeldSenders {
    /// Holds senders within bounds, or any number of them, and counts them.
    pub(crate) fn new(is_bounded: bool, held: Counter) -> Self {
        let (requests, bytes) = match is_bounded {
            true => (MAX_HELD_REQUESTS, MAX_HELD_BYTES),
            // None but those of the receiver (`block_on_overflow`).
            false => (usize::MAX, usize::MAX),
        };
        Self { table: Mutex::new(Table::new(requests, bytes)), held }
    }

    /// Returns whether nobody is held, so that a newcomer passes nobody by.
    pub(crate) fn is_empty(&self) -> bool {
        self.table().is_empty()
    }

    /// Holds the sender of a request of so many bytes until it is its turn and there is room.
    ///
    /// # Errors
    ///
    /// [`Refused::NoRoom`] if too much is held, at once or when another host needs the place; [`Refused::Full`] if there was no
    /// room for as long as the sender is held.
    pub(crate) async fn hold<T>(
        &self,
        sender: &Sender,
        bytes: usize,
        room: impl Future<Output = T>,
    ) -> Result<T, Refused> {
        let (notify, notice) = oneshot::channel();
        let number = self.table().enter(sender.peer, bytes, notify).ok_or(Refused::NoRoom)?;
        let _place = HeldPlace { of: self, peer: sender.peer, number };
        self.held.add(1);
        let held = async {
            match notice.await {
                Ok(Notice::Turn) => Ok(room.await),
                Ok(Notice::GiveWay) | Err(_) => Err(Refused::NoRoom),
            }
        };
        timeout_at(sender.until, held).await.unwrap_or(Err(Refused::Full))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a request, given back when it is dropped, as when its sender goes away.
struct HeldPlace<'a> {
    of: &'a HeldSenders,
    peer: Peer,
    number: u64,
}

impl Drop for HeldPlace<'_> {
    fn drop(&mut self) {
        self.of.table().leave(self.peer, self.number);
    }
}

#[cfg(test)]
mod tests;
