//! Faults: what breaks, and where.

use std::time::Duration;

use harness_core::wire::WireAction;
use serde::{Deserialize, Serialize};

/// Something that breaks, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name of the workload.
    pub at: String,
    /// Kind of fault.
    pub kind: FaultKind,
    /// Only while a request was resent fewer times than this; `None` for always.
    pub first: Option<u32>,
    /// Number of responses after which the fault begins, while further requests are in progress; `None` to begin
    /// before all requests.
    #[serde(default)]
    pub after: Option<u32>,
}

/// The ways to break.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// A service answers this HTTP status instead of doing its work.
    Status(u16),
    /// A service waits this long before it does its work.
    Delay(Duration),
    /// A service resets the connection instead of answering.
    Abort,
    /// A service does not answer until its caller gives up.
    Hang,
    /// A service's handler panics.
    Panic,
    /// A service fails this share of requests with status 500, chosen by the seed.
    ErrorRate {
        /// 0 to 1.
        rate: f64,
        /// Seed that makes the choice repeatable.
        seed: u64,
    },
    /// The workload is stopped before the requests, and started again when all are judged.
    Stop,
    /// The workload is frozen before the requests, and goes on when all are answered.
    Pause,
    /// The workload is killed, so that it has no time to end well, after a first request has gone through, and is up again
    /// before the scenario's own.
    Kill,
    /// The workload is stopped and started again, after a first request has gone through, before the scenario's own.
    Restart,
    /// The workload has no instance from before the requests until all are judged; others still find its name.
    ScaleToZero,
    /// The intake is scripted before the requests.
    Intake(IntakeFault),
    /// A tap between a caller and the workload changes the traffic.
    Between(Between),
    /// The collector is scripted before the requests: it refuses what services send.
    Collector(CollectorFault),
}

/// Fault of the traffic between two workloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// The workload that calls.
    pub caller: String,
    /// The action.
    pub does: WireAction,
    /// Number of requests that it applies to, the next ones; `None` for all.
    pub next: Option<u32>,
}

impl Between {
    /// The header that it changes, where it changes one.
    pub(super) fn header(&self) -> Option<&str> {
        match &self.does {
            WireAction::DropHeader(name)
            | WireAction::SetHeader { name, .. }
            | WireAction::UpperCaseHeader(name)
            | WireAction::DoubleHeader(name) => Some(name),
            _ => None,
        }
    }

    /// Formats the fault as in a scenario, for example `status: 503`.
    pub fn written(&self) -> String {
        match &self.does {
            WireAction::DropHeader(name) => format!("drop_header: {name}"),
            WireAction::SetHeader { name, value } => format!("set_header: {{ {name}: {value} }}"),
            WireAction::UpperCaseHeader(name) => format!("upper_case_header: {name}"),
            WireAction::DoubleHeader(name) => format!("double_header: {name}"),
            WireAction::Duplicate => "duplicate: true".to_owned(),
            WireAction::Swallow => "swallow: true".to_owned(),
            WireAction::Status(status) => format!("status: {status}"),
            WireAction::Delay(delay) => format!("delay: {}", humantime::format_duration(*delay)),
            WireAction::Pass => "nothing".to_owned(),
            WireAction::Breakage { name, .. } => format!("breakage {name}"),
        }
    }
}

/// Response of the collector to services instead of accepting their spans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorFault {
    /// The status of HTTP; over gRPC, the code that stands for it there.
    pub status: u16,
    /// Time that services are asked to wait before a retry.
    pub retry_after: Option<Duration>,
    /// For the next so many requests.
    pub next: Option<u32>,
    /// For this long, from the first request on that meets it.
    pub lasting: Option<Duration>,
}

/// Behaviour of the mock intake instead of accepting payloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntakeFault {
    /// The reply; `None` with a delay alone is a slow success.
    pub reply: Option<IntakeReply>,
    /// Delay of the reply.
    pub delay: Option<Duration>,
    /// For the next so many requests.
    pub next: Option<u32>,
    /// For this long, from the first request on that meets it.
    pub lasting: Option<Duration>,
}

/// A scripted reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum IntakeReply {
    /// This HTTP status.
    Status(u16),
    /// The connection is reset.
    Reset,
}

impl FaultKind {
    /// Returns whether the fault affects more than the request that carries it.
    pub fn needs_own_system(&self) -> bool {
        matches!(
            self,
            Self::Stop
                | Self::Pause
                | Self::Kill
                | Self::Restart
                | Self::ScaleToZero
                | Self::Intake(_)
                | Self::Between(_)
                | Self::Collector(_)
        )
    }

    /// Returns the fault between two workloads, if it is one.
    pub fn between(&self) -> Option<&Between> {
        match self {
            Self::Between(between) => Some(between),
            _ => None,
        }
    }

    /// Returns whether it is a breakage that is to be found, or none at all: it says nothing of what a trace must be like.
    pub(crate) fn is_to_be_found(&self) -> bool {
        let says_nothing =
            |one: &Between| matches!(one.does, WireAction::Breakage { .. } | WireAction::Pass);
        self.between().is_some_and(says_nothing)
    }

    /// Returns whether the fault ends before the requests begin: such a scenario shows that connections recover.
    pub fn is_over_before_requests(&self) -> bool {
        matches!(self, Self::Kill | Self::Restart)
    }
}

impl Fault {
    /// Returns the fault's entry in the header `x-tracecheck-fault`, which asks a sample app for it; `None` if
    /// requests do not carry this kind of fault.
    pub fn header_entry(&self) -> Option<String> {
        let kind = match &self.kind {
            FaultKind::Status(status) => format!("status:{status}"),
            FaultKind::Delay(delay) => format!("delay:{}ms", delay.as_millis()),
            FaultKind::Abort => "abort".to_owned(),
            FaultKind::Hang => "hang".to_owned(),
            FaultKind::Panic => "panic".to_owned(),
            FaultKind::ErrorRate { rate, seed } => format!("error-rate:{rate}:{seed}"),
            FaultKind::Stop
            | FaultKind::Pause
            | FaultKind::Kill
            | FaultKind::Restart
            | FaultKind::ScaleToZero
            | FaultKind::Intake(_)
            | FaultKind::Between(_)
            | FaultKind::Collector(_) => return None,
        };
        let first = self.first.map_or_else(String::new, |first| format!("*{first}"));
        Some(format!("{}={kind}{first}", self.at))
    }
}

/// Returns the value of the header `x-tracecheck-fault` for these faults; `None` if requests carry none of them.
pub fn header_value(faults: &[Fault]) -> Option<String> {
    let entries: Vec<_> = faults.iter().filter_map(Fault::header_entry).collect();
    (!entries.is_empty()).then(|| entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_the_sample_apps_read() {
        let at = |at: &str, kind: FaultKind| {
            let at = at.to_owned();
            Fault { at, kind, first: None, after: None }
        };
        let retried = Fault { first: Some(1), ..at("c", FaultKind::Status(503)) };
        let slow = at("b", FaultKind::Delay(Duration::from_millis(250)));
        assert_eq!(header_value(&[retried, slow]).unwrap(), "c=status:503*1,b=delay:250ms");
        assert_eq!(header_value(&[at("c", FaultKind::Stop)]), None);
    }
}
