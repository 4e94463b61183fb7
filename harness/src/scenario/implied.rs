//! The shape of a trace that faults imply.
//!
//! Injecting a fault says by itself which span must carry the error, which must not, and how far the request goes; [`of_chain`] works
//! that out, so that no scenario has to repeat it.

use std::time::Duration;

use harness_core::wire::WireAction;

use super::fault::{Between, Fault, FaultKind};
use crate::case::shape::{Expected, HopShape, Shape};

/// Outcome of a call to a hop, as its caller sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Success,
    Failure,
    Either,
}

/// Computes the shape of a request along `chain` (workload names, entry first) under `faults`, where a caller
/// tries `retries` more times and waits `timeout` for a response, and `carriers` returns the headers that carry
/// trace context to a workload.
pub(crate) fn of_chain(
    chain: &[String],
    faults: &[Fault],
    (retries, timeout): (u32, Duration),
    carriers: &dyn Fn(&str) -> Vec<&'static str>,
) -> Shape {
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
    Shape { hops }
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
            return (whichever(hop), seen, Either);
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

/// Returns a hop's shape where either outcome of each question is fine.
fn whichever(hop: HopShape) -> HopShape {
    let (reached, server_error, client_error) =
        (Expected::Either, Expected::Either, Expected::Either);
    HopShape { reached, server_error, client_error, ..hop }
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
        WireAction::Delay(delay) if *delay >= timeout => (whichever(hop), Seen::Failure, Either),
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
            (HopShape { apart: Either, ..whichever(hop) }, seen, Either)
        }
        _ => (hop, seen, on),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(chain: &[String], faults: &[Fault], retries: u32) -> Shape {
        let carriers = |_: &str| vec!["traceparent"];
        of_chain(chain, faults, (retries, Duration::from_secs(5)), &carriers)
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
}
