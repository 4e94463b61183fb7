//! Commands to the thread that writes a journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SendError, Sender};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::files::size;
use super::frame::Progress;
use super::{AppendError, Appended};

/// Command to the writing thread.
#[derive(Debug)]
pub(super) enum Command {
    Append(Wanted),
    Mark { number: u64, progress: Progress },
    Close { reply: oneshot::Sender<()> },
}

/// The way to the writing thread.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    sender: Sender<Command>,
    /// The number of commands that are not carried out yet.
    open: Arc<AtomicUsize>,
}

/// The other end of it.
pub(super) struct Waiting {
    pub(super) receiver: Receiver<Command>,
    /// To be lowered by what is carried out.
    pub(super) open: Arc<AtomicUsize>,
}

impl Commands {
    pub(super) fn new() -> (Self, Waiting) {
        let ((sender, receiver), open) = (mpsc::channel(), Arc::default());
        (Self { sender, open: Arc::clone(&open) }, Waiting { receiver, open })
    }

    pub(super) fn send(&self, command: Command) -> Result<(), SendError<Command>> {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.sender.send(command)
    }

    /// Returns whether all that was sent is carried out.
    pub(super) fn are_done(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

pub(super) type Reply = oneshot::Sender<Result<Appended, AppendError>>;

/// A record that is to be written.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) spans: u32,
    /// The pieces of it: what the exporter reads, too.
    pub(super) body: Vec<Bytes>,
    pub(super) reply: Reply,
    /// For taking the record back.
    pub(super) commands: Commands,
}

impl Wanted {
    /// The number of bytes that it takes in a file at most.
    pub(super) fn bytes(&self) -> u64 {
        size(&self.body) as u64 + 64
    }
}
