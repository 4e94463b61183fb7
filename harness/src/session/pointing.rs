//! Waits until a collector that is somebody else's sends to the mock intake, which it may have to be pointed at first.
//!
//! The sign is a span of a request that was sent for it, twice, the second sent when the first had come: stats, or spans from
//! before, may come from a collector that is just being replaced and ends by sending them, while its successor does not listen yet.
//! So may the first request's; what is sent after that goes the way that the scenarios' requests will go.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Session;
use crate::{
    case::{Case, DRIVER_SERVICE},
    intake::{client::IntakeClient, store::Store},
    scenario::Request,
};

/// How soon another request is sent: later than what collectors keep spans back for.
const SEND_AGAIN: Duration = Duration::from_secs(10);

impl Session {
    /// Sends requests like `like` until spans of two in a row have arrived at the intake, if the collector may first
    /// have to be configured to send there.
    ///
    /// # Errors
    ///
    /// Says what has not come in time, and what helps.
    pub async fn await_pointing(&self, like: &Request) -> Result<(), String> {
        let (Some(limit), Some(intake)) = (self.up.pointing(), self.intake()) else {
            return Ok(());
        };
        let deadline = Instant::now() + limit;
        let like = Request { times: 1, concurrency: 1, ..like.clone() };
        for earlier in [false, true] {
            if let Err(answer) = self.one_arrives(&like, intake, deadline).await {
                let came = match (earlier, intake.with_store(Store::newest) > 0) {
                    (true, _) => {
                        "a span of one request has arrived at the mock intake, but none of those sent after it"
                    }
                    (false, true) => {
                        "what has arrived at the mock intake holds no span of a request that was sent for it"
                    }
                    (false, false) => "nothing has arrived at the mock intake",
                };
                return Err(format!(
                    "{came} within {limit:?} (the last request: {answer}): does the collector that the services send to export \
                     to the address that was given, is it ready, and may its pods reach the intake? `--attach-wait` waits longer"
                ));
            }
        }
        Ok(())
    }

    /// Sends requests until a span of one has arrived.
    ///
    /// # Errors
    ///
    /// Returns how the last one was answered, where none has arrived by the deadline.
    async fn one_arrives(
        &self,
        like: &Request,
        intake: &IntakeClient,
        deadline: Instant,
    ) -> Result<(), String> {
        let mut changed = intake.changed();
        let mut sent: Vec<Case> = Vec::new();
        loop {
            sent.push(self.send_for_itself(like, (0, 0)).await);
            let until = deadline.min(Instant::now() + SEND_AGAIN);
            let arrival = async {
                loop {
                    changed.mark_unchanged();
                    if intake.with_store(|store| has_arrived(store, &sent)) {
                        return;
                    }
                    if changed.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            match timeout_at(until, arrival).await {
                Ok(()) => return Ok(()),
                Err(_) if until == deadline => {
                    return Err(sent
                        .last()
                        .map_or_else(String::new, |case| case.outcome.describe()));
                }
                Err(_) => {}
            }
        }
    }
}

/// Returns whether a service's span of one of these requests was captured: in its trace, or, of services that begin a trace of
/// their own, begun after the first of them was sent.
fn has_arrived(store: &Store, sent: &[Case]) -> bool {
    let since = sent.iter().map(|case| case.sent_at).min();
    store.traces().any(|(id, spans)| {
        let asked_for = sent.iter().any(|case| case.trace_id == id);
        let mut of_services = spans.iter().filter(|span| span.service != DRIVER_SERVICE);
        of_services.any(|span| asked_for || since.is_some_and(|since| span.start >= since))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        intake::{
            attempt::{Attempt, Reply},
            decode::{Decoded, StatsPayload, TracesPayload},
            store::Bounds,
        },
        judge::testing::{MS, TRACE, case, span},
        trace::{Span, TraceId},
    };

    const SENT_AT: i64 = 1000 * MS;

    /// Returns whether what was captured is the sign that a request of ours, sent at [`SENT_AT`], has arrived.
    fn is_sign(captured: impl IntoIterator<Item = Decoded>) -> bool {
        let mut store = Store::new(Bounds::default());
        for (seq, decoded) in (1u64..).zip(captured) {
            let attempt = Attempt {
                seq,
                received_at: 0,
                method: "POST".to_owned(),
                path: "/".to_owned(),
                headers: BTreeMap::new(),
                body: seq.to_be_bytes().to_vec(),
                reply: Reply::Status(202),
            };
            store.insert(attempt, decoded, std::time::Instant::now());
        }
        has_arrived(&store, &[Case { sent_at: SENT_AT, ..case() }])
    }

    fn spans(of: TraceId, service: &str, start: i64) -> Decoded {
        let span = Span { trace_id: of, ..span(0xa1, 0xd0, service, "server", start, MS) };
        Decoded::Traces(TracesPayload {
            hostname: String::new(),
            env: String::new(),
            agent_version: String::new(),
            target_tps: 0.0,
            error_tps: 0.0,
            tags: BTreeMap::new(),
            tracers: Vec::new(),
            repaired_strings: 0,
            spans: vec![span],
        })
    }

    fn stats() -> Decoded {
        Decoded::Stats(StatsPayload {
            agent_hostname: String::new(),
            agent_env: String::new(),
            agent_version: String::new(),
            client_computed: false,
            split_payload: false,
            groups: Vec::new(),
        })
    }

    #[test]
    fn what_a_collector_that_is_being_replaced_still_sends_is_no_sign() {
        assert!(!is_sign([]));
        assert!(!is_sign([stats()]), "stats");
        let before = spans(TraceId(7), "sample-app-1", SENT_AT - MS);
        assert!(!is_sign([stats(), before]), "spans from before");
        let own = spans(TRACE, "tracecheck", SENT_AT);
        assert!(!is_sign([own]), "the harness's own span, which went another way");
    }

    #[test]
    fn a_span_of_a_service_that_was_asked_is_the_sign_whichever_trace_it_is_in() {
        // Of a service whose clock is behind.
        assert!(is_sign([stats(), spans(TRACE, "sample-app-1", SENT_AT - MS)]));
        assert!(is_sign([spans(TraceId(7), "sample-app-1", SENT_AT + MS)]));
    }
}
