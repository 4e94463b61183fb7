//! Faults that are injected.

use std::time::Duration;

use crate::intake::Mode;
use crate::subject::Queue;

/// One way to break things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Unavailable,
    TooMany,
    Refused,
    Resets,
    TooLarge,
    Slow,
    VerySlow,
    Terminated,
    Killed,
    DiskFull,
}

/// Fault of the collector's process, half way through the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// Reported to end; the load ends with it.
    Terminate,
    /// Killed, and started again at once.
    Kill,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::Unavailable,
        Self::TooMany,
        Self::Refused,
        Self::Resets,
        Self::TooLarge,
        Self::Slow,
        Self::VerySlow,
        Self::Terminated,
        Self::Killed,
        Self::DiskFull,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "503",
            Self::TooMany => "429 with Retry-After",
            Self::Refused => "refused",
            Self::Resets => "resets",
            Self::TooLarge => "413",
            Self::Slow => "reply after 1 s",
            Self::VerySlow => "reply after 15 s",
            Self::Terminated => "SIGTERM",
            Self::Killed => "SIGKILL and restart",
            Self::DiskFull => "disk full",
        }
    }

    /// Returns whether a subject with such a queue is to stand it.
    pub(crate) fn concerns(self, queue: Queue) -> bool {
        match self {
            Self::Killed => queue != Queue::Memory,
            Self::DiskFull => queue == Queue::Disk,
            _ => true,
        }
    }

    /// Returns the intake's behaviour during the fault.
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::Unavailable | Self::DiskFull => Mode::Status(503, None),
            Self::TooMany => Mode::Status(429, Some(2)),
            Self::Refused => Mode::Refuses,
            Self::Resets => Mode::Resets,
            Self::TooLarge => Mode::TooLarge(50_000),
            Self::Slow => Mode::Delays(Duration::from_secs(1)),
            Self::VerySlow => Mode::Delays(Duration::from_secs(15)),
            Self::Terminated | Self::Killed => Mode::Works,
        }
    }

    /// Returns the fault of the process.
    pub(crate) fn blow(self) -> Option<Blow> {
        match self {
            Self::Terminated => Some(Blow::Terminate),
            Self::Killed => Some(Blow::Kill),
            _ => None,
        }
    }
}
