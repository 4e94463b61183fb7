//! The rule about the two accounts of one answer: the caller's, and that of the service which gave it.

use std::cell::LazyCell;

use super::{Checked, on_the_way::OnTheWay};
use crate::{
    case::{DRIVER_SERVICE, Outcome, View},
    finding::Failure,
    scenario::Method,
    trace::Span,
};

pub(super) fn status_disagrees(view: View<'_>) -> Checked {
    let (family, way) = (view.family(), LazyCell::new(|| OnTheWay::of(view)));
    let calls = view.spans().iter().filter(|span| span.kind() == "client");
    let found = calls.filter_map(|call| {
        let mut answers = family.children(call.id).iter().filter(|span| span.kind() == "server");
        // Tries and redirects within one call have an answer each.
        let (Some(answer), None) = (answers.next(), answers.next()) else { return None };
        let (got, given) = (status_of_call(view, call)?, answer.http_status()?);
        let (caller, callee) = (view.workload_of(call), view.workload_of(answer));
        let is_wrong = disagree(got, given) && is_direct(view, caller, callee);
        is_wrong.then(|| reported(view, &way, (call, got), (answer, given)))
    });
    Checked::Found(found.collect())
}

/// The status of an answer, under the names that it has on its way.
const STATUS: [&str; 2] = ["http.response.status_code", "http.status_code"];

/// Returns the status that a caller got; the harness's own is what it saw, whatever its span says.
fn status_of_call(view: View<'_>, call: &Span) -> Option<u16> {
    match (call.service == DRIVER_SERVICE, &view.case.outcome) {
        (false, _) => call.http_status(),
        (true, Outcome::Response { status, .. }) if view.case.driver_span == call.id => {
            Some(*status).filter(|_| view.case.method != Method::Grpc)
        }
        _ => None,
    }
}

/// Returns whether two accounts of an answer contradict each other: a failure, and another status. Caches answer 304 with what they
/// kept, and a caller that gave up is a status of its own to some servers (499).
fn disagree(got: u16, given: u16) -> bool {
    let is_failure = |status: u16| (400..600).contains(&status);
    let is_redirect = |status: u16| (300..400).contains(&status);
    let differ = got != given && (is_failure(got) || is_failure(given));
    differ && given != 499 && !is_redirect(got) && !is_redirect(given)
}

/// Returns whether nothing stands between two services that could have answered; the harness reaches whom it names, where anything is known of
/// who does.
fn is_direct(view: View<'_>, caller: &str, callee: &str) -> bool {
    let is_named = caller == DRIVER_SERVICE && view.case.entry.as_deref() == Some(callee);
    let known = view.topology.services.iter().find(|one| one.workload == callee);
    let is_known = known.is_some_and(|one| !one.direct_callers.is_empty());
    view.topology.is_direct(caller, callee) || (is_named && is_known)
}

fn reported(
    view: View<'_>,
    way: &OnTheWay<'_>,
    (call, got): (&Span, u16),
    (answer, given): (&Span, u16),
) -> Failure {
    let (caller, callee) = (view.workload_of(call), view.workload_of(answer));
    let detail = format!(
        "{} says that it answered {given}, and {}, whose call that was, got {got}",
        view.name(answer),
        if call.service == DRIVER_SERVICE { "the harness".to_owned() } else { view.name(call) }
    );
    let is_the_callers = got < 400 && call.service != DRIVER_SERVICE;
    let (cause, of, at) = match is_the_callers {
        true => (
            format!(
                "`{caller}` records another status than it got, or something between `{caller}` and Datadog changes it"
            ),
            caller,
            call,
        ),
        false => (
            format!(
                "the answer is made or changed outside of the instrumentation of `{callee}` (a middleware, a filter or a server around it), or something between `{callee}` and Datadog changes the span's status"
            ),
            callee,
            answer,
        ),
    };
    let right = if is_the_callers { given } else { got };
    let is_right = |text: &str| text.parse() == Ok(right);
    let part = way.part_of_attribute(at.id, &STATUS, is_right);
    let (place, proof) = (part.place(of), part.proof(of));
    let cause = match part.is_behind_the_service() {
        true => format!("{place} changes the status of the span, {proof} with {right}"),
        false => cause,
    };
    let found = Failure::found(detail).because(cause).at_stage(part.stage());
    found.about(of).on_hop(caller, callee).of_span(at.id)
}
