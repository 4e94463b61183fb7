//! Faults, and the shape of a trace that each one implies.
//!
//! Injecting a fault says by itself which span must carry the error, which must not, and how far the request goes;
//! [`Shape::of_chain`] works that out, so that no scenario has to repeat it.

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
        /// Makes the choice repeatable.
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
    /// Something stands between a caller and the workload, and does something to what passes.
    Between(Between),
    /// The collector is scripted before the requests: it refuses what services send.
    Collector(CollectorFault),
}

/// Fault that strikes what passes between two workloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// The workload that calls.
    pub caller: String,
    /// The action.
    pub does: WireAction,
    /// Only to the next so many requests; `None` for all.
    pub next: Option<u32>,
}

impl Between {
    /// The header that it changes, where it changes one.
    fn header(&self) -> Option<&str> {
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

/// Answer to a yes-or-no question, as far as it is known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// It must be so.
    Yes,
    /// It must not be so.
    No,
    /// Either is fine.
    Either,
}

impl Expected {
    fn is_no(&self) -> bool {
        *self == Self::No
    }
}

/// Expected look of one hop of a chain in the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HopShape {
    /// The workload.
    pub workload: String,
    /// Whether it has a server span in the trace.
    pub reached: Expected,
    /// Whether the last of its server spans is marked as an error.
    pub server_error: Expected,
    /// Whether the last of its client spans, if it has any, is marked as an error.
    pub client_error: Expected,
    /// Number of its client spans that must be errors before that last one (failed tries).
    pub failed_tries: u32,
    /// Its server span lasts at least this long: nanoseconds.
    pub at_least: i64,
    /// Whether it begins a trace of its own, since the caller's is not propagated to it.
    #[serde(default = "no", skip_serializing_if = "Expected::is_no")]
    pub apart: Expected,
}

fn no() -> Expected {
    Expected::No
}

/// Expected look of a chain's trace, entry first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// One entry a hop; empty where the system does not say which workload calls which.
    pub hops: Vec<HopShape>,
}

/// Outcome of a call to a hop, as its caller sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Success,
    Failure,
    Either,
}

impl Shape {
    /// Computes the shape of a request along `chain` (workload names, entry first) under `faults`, where a caller
    /// tries `retries` more times and waits `timeout` for a response, and `carriers` returns the headers that carry
    /// trace context to a workload.
    pub fn of_chain(
        chain: &[String],
        faults: &[Fault],
        (retries, timeout): (u32, Duration),
        carriers: &dyn Fn(&str) -> Vec<&'static str>,
    ) -> Self {
        let mut hops = Vec::with_capacity(chain.len());
        // From the far end back: what a hop does depends on what it sees of the next one.
        let mut below: Option<Seen> = None;
        let mut failed_tries = 0;
        for workload in chain.iter().rev() {
            let fault =
                faults.iter().find(|fault| &fault.at == workload && !fault.kind.is_to_be_found());
            let (mut hop, seen, reaches_on) =
                hop_shape(workload, fault, below, (retries, timeout), &carriers(workload));
            hop.failed_tries = failed_tries;
            failed_tries =
                fault.and_then(|fault| fault.first).filter(|first| *first <= retries).unwrap_or(0);
            if reaches_on != Expected::Yes {
                for unreached in &mut hops {
                    cut_off(unreached, reaches_on);
                }
            }
            hops.push(hop);
            below = Some(seen);
        }
        hops.reverse();
        Self { hops }
    }
}

fn cut_off(hop: &mut HopShape, reached: Expected) {
    if hop.reached != Expected::No {
        hop.reached = reached;
    }
    hop.server_error = Expected::Either;
    hop.client_error = Expected::Either;
    hop.failed_tries = 0;
    hop.at_least = 0;
    hop.apart = Expected::No;
}

/// The hop's own shape, what its caller sees, and whether the request goes on to the next hop.
fn hop_shape(
    workload: &str,
    fault: Option<&Fault>,
    below: Option<Seen>,
    (retries, timeout): (u32, Duration),
    carriers: &[&str],
) -> (HopShape, Seen, Expected) {
    use Expected::{Either, No, Yes};
    let hop = |reached, server_error, client_error| HopShape {
        workload: workload.to_owned(),
        reached,
        server_error,
        client_error,
        failed_tries: 0,
        at_least: 0,
        apart: No,
    };
    let undisturbed = || match below {
        None => (hop(Yes, No, Either), Seen::Success, Yes),
        Some(Seen::Success) => (hop(Yes, No, No), Seen::Success, Yes),
        Some(Seen::Failure) => (hop(Yes, Yes, Yes), Seen::Failure, Yes),
        Some(Seen::Either) => (hop(Yes, Either, Either), Seen::Either, Yes),
    };
    let Some(fault) = fault else { return undisturbed() };
    if fault.after.is_some() {
        // It is unknown which requests it meets.
        return (hop(Either, Either, Either), Seen::Either, Either);
    }
    let failing = match &fault.kind {
        FaultKind::Status(status) => {
            let server = if *status >= 500 { Yes } else { No };
            let seen = if *status >= 400 { Seen::Failure } else { Seen::Success };
            (hop(Yes, server, Either), seen, No)
        }
        FaultKind::Abort | FaultKind::Panic => (hop(Yes, Yes, Either), Seen::Failure, No),
        // The server notices that its caller went away only some time later, or calls it an error or not.
        FaultKind::Hang => (hop(Yes, Either, Either), Seen::Failure, No),
        FaultKind::Stop | FaultKind::ScaleToZero => (hop(No, Either, Either), Seen::Failure, No),
        FaultKind::Pause => (hop(Either, Either, Either), Seen::Failure, Either),
        FaultKind::ErrorRate { .. } => (hop(Yes, Either, Either), Seen::Either, Either),
        FaultKind::Delay(delay) if *delay >= timeout => {
            (hop(Yes, Either, Either), Seen::Failure, Either)
        }
        FaultKind::Delay(delay) => {
            let (mut hop, seen, on) = undisturbed();
            hop.at_least = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
            // Delays of several hops add up in the callers' waits, so success is likely but not certain.
            return (hop, seen, on);
        }
        FaultKind::Kill | FaultKind::Restart | FaultKind::Intake(_) | FaultKind::Collector(_) => {
            return undisturbed();
        }
        FaultKind::Between(between) => {
            let (mut hop, seen, on) = between_shape(between, undisturbed(), timeout, carriers);
            if between.next.is_none() || (&hop, seen, on) == as_refs(&undisturbed()) {
                return (hop, seen, on);
            }
            // It is unknown which requests it meets.
            let seen = if hop.apart == No { Seen::Either } else { seen };
            hop.apart = if hop.apart == No { No } else { Either };
            return (hop.whichever(), seen, Either);
        }
    };
    match fault.first {
        // The caller tries again and gets past the fault.
        Some(first) if first <= retries => undisturbed(),
        _ => failing,
    }
}

fn as_refs((hop, seen, on): &(HopShape, Seen, Expected)) -> (&HopShape, Seen, Expected) {
    (hop, *seen, *on)
}

impl HopShape {
    /// The same where either outcome of each question is fine.
    fn whichever(self) -> Self {
        let (reached, server_error, client_error) =
            (Expected::Either, Expected::Either, Expected::Either);
        Self { reached, server_error, client_error, ..self }
    }
}

/// The shape of a hop whose caller's requests have something done to them, where `undisturbed` is what it is without that.
fn between_shape(
    between: &Between,
    undisturbed: (HopShape, Seen, Expected),
    timeout: Duration,
    carriers: &[&str],
) -> (HopShape, Seen, Expected) {
    use Expected::{Either, No, Yes};
    let (hop, seen, on) = undisturbed;
    let unreached =
        HopShape { reached: No, server_error: Either, client_error: Either, ..hop.clone() };
    match &between.does {
        WireAction::Status(status) if *status >= 400 => (unreached, Seen::Failure, No),
        WireAction::Status(_) | WireAction::Swallow => (unreached, Seen::Success, No),
        WireAction::Delay(delay) if *delay >= timeout => (hop.whichever(), Seen::Failure, Either),
        WireAction::DropHeader(_) if carriers == [between.header().unwrap_or_default()] => {
            // It does its work as ever, in a trace that it begins.
            (HopShape { apart: Yes, ..unreached }, seen, No)
        }
        WireAction::SetHeader { .. }
        | WireAction::UpperCaseHeader(_)
        | WireAction::DoubleHeader(_)
            if between.header().is_some_and(|name| carriers.contains(&name)) =>
        {
            // Services differ in what they make of it.
            (HopShape { apart: Either, ..hop.whichever() }, seen, Either)
        }
        _ => (hop, seen, on),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(chain: &[String], faults: &[Fault], retries: u32) -> Shape {
        let carriers = |_: &str| vec!["traceparent"];
        Shape::of_chain(chain, faults, (retries, Duration::from_secs(5)), &carriers)
    }

    fn shape(faults: &[Fault], retries: u32) -> Vec<(Expected, Expected, Expected)> {
        let chain = ["a", "b", "c"].map(str::to_owned);
        let shape = whole(&chain, faults, retries);
        shape.hops.iter().map(|hop| (hop.reached, hop.server_error, hop.client_error)).collect()
    }

    fn at(at: &str, kind: FaultKind) -> Fault {
        Fault { at: at.to_owned(), kind, first: None, after: None }
    }

    use Expected::{Either, No, Yes};

    #[test]
    fn without_faults_every_hop_is_reached_and_none_fails() {
        assert_eq!(shape(&[], 0), [(Yes, No, No), (Yes, No, No), (Yes, No, Either)]);
    }

    #[test]
    fn a_failing_hop_fails_its_callers_and_cuts_off_what_is_below() {
        assert_eq!(
            shape(&[at("b", FaultKind::Status(503))], 0),
            [(Yes, Yes, Yes), (Yes, Yes, Either), (No, Either, Either)]
        );
    }

    #[test]
    fn a_client_error_is_not_the_servers_fault() {
        assert_eq!(shape(&[at("c", FaultKind::Status(404))], 0)[2], (Yes, No, Either));
        assert_eq!(shape(&[at("c", FaultKind::Status(404))], 0)[1], (Yes, Yes, Yes));
    }

    #[test]
    fn a_stopped_workload_is_not_reached() {
        assert_eq!(shape(&[at("c", FaultKind::Stop)], 0)[2], (No, Either, Either));
        assert_eq!(shape(&[at("c", FaultKind::Stop)], 0)[1], (Yes, Yes, Yes));
    }

    #[test]
    fn what_is_up_again_disturbs_nothing_and_what_has_no_instance_is_not_reached() {
        let healthy = shape(&[], 0);
        assert_eq!(shape(&[at("b", FaultKind::Kill)], 0), healthy);
        assert_eq!(shape(&[at("b", FaultKind::Restart)], 0), healthy);
        let stopped = shape(&[at("b", FaultKind::Stop)], 0);
        assert_eq!(shape(&[at("b", FaultKind::ScaleToZero)], 0), stopped);
    }

    #[test]
    fn what_happens_meanwhile_may_meet_any_request() {
        let fault = Fault { after: Some(5), ..at("b", FaultKind::Kill) };
        let any = (Either, Either, Either);
        assert_eq!(shape(&[fault], 0), [(Yes, Either, Either), any, any]);
        // A caller is not cut off by what happens to the collector.
        let fault = Fault { after: Some(5), ..at("collector", FaultKind::Kill) };
        assert_eq!(shape(&[fault], 0), shape(&[], 0));
    }

    #[test]
    fn a_retry_gets_past_a_fault_of_the_first_try_only() {
        let fault = Fault { first: Some(1), ..at("c", FaultKind::Status(503)) };
        assert_eq!(shape(std::slice::from_ref(&fault), 0)[0], (Yes, Yes, Yes));
        assert_eq!(shape(std::slice::from_ref(&fault), 1)[0], (Yes, No, No));
        let chain = ["a", "b", "c"].map(str::to_owned);
        let shape = whole(&chain, &[fault], 1);
        assert_eq!(shape.hops.iter().map(|hop| hop.failed_tries).collect::<Vec<_>>(), [0, 1, 0]);
    }

    fn between(does: WireAction, next: Option<u32>) -> Fault {
        at("b", FaultKind::Between(Between { caller: "a".to_owned(), does, next }))
    }

    fn apart(faults: &[Fault]) -> Vec<Expected> {
        let chain = ["a", "b", "c"].map(str::to_owned);
        whole(&chain, faults, 0).hops.iter().map(|hop| hop.apart).collect()
    }

    #[test]
    fn who_is_not_sent_the_trace_begins_one_of_its_own() {
        let dropped = between(WireAction::DropHeader("traceparent".to_owned()), None);
        let none = (No, Either, Either);
        assert_eq!(shape(std::slice::from_ref(&dropped), 0), [(Yes, No, No), none, none]);
        assert_eq!(apart(&[dropped]), [No, Yes, No]);
        let other = between(WireAction::DropHeader("tracestate".to_owned()), None);
        assert_eq!(shape(std::slice::from_ref(&other), 0), shape(&[], 0));
        assert_eq!(apart(&[other]), [No, No, No]);
        let some = between(WireAction::DropHeader("traceparent".to_owned()), Some(1));
        let any = (Either, Either, Either);
        assert_eq!(shape(std::slice::from_ref(&some), 0), [(Yes, No, No), any, any]);
        assert_eq!(apart(&[some]), [No, Either, No]);
    }

    #[test]
    fn who_is_not_reached_leaves_nothing_and_its_caller_sees_the_answer_of_another() {
        let refused = between(WireAction::Status(503), None);
        assert_eq!(shape(&[refused], 0), shape(&[at("b", FaultKind::Stop)], 0));
        let swallowed = between(WireAction::Swallow, None);
        let none = (No, Either, Either);
        assert_eq!(shape(&[swallowed], 0), [(Yes, No, No), none, none]);
        for harmless in [WireAction::Duplicate, WireAction::Delay(Duration::from_secs(1))] {
            assert_eq!(shape(&[between(harmless, Some(1))], 0), shape(&[], 0));
        }
        let late = between(WireAction::Delay(Duration::from_secs(9)), None);
        assert_eq!(shape(&[late], 0)[0], (Yes, Yes, Yes));
    }

    #[test]
    fn the_header_is_what_the_sample_apps_read() {
        let retried = Fault { first: Some(1), ..at("c", FaultKind::Status(503)) };
        let slow = at("b", FaultKind::Delay(Duration::from_millis(250)));
        assert_eq!(header_value(&[retried, slow]).unwrap(), "c=status:503*1,b=delay:250ms");
        assert_eq!(header_value(&[at("c", FaultKind::Stop)]), None);
    }
}
