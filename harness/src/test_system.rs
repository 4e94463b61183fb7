//! Runs a system in a test, sends requests through it, and judges their traces by all rules. [`InProcess`] is for services that the test
//! runs in its own process.
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! use harness::{scenario::FaultKind, test_system::TestSystem};
//!
//! // In an integration test of the package that builds it: env!("CARGO_BIN_EXE_tracecheck").
//! let chain = TestSystem::chain("target/release/tracecheck").await?;
//! let answer = chain.get("/outgoing-sampleapp").fault("sample-app-2", FaultKind::Status(503)).send().await;
//! assert_eq!(answer.status(), Some(502));
//! let trace = answer.whole_trace()?;
//! assert_eq!(trace.spans.iter().filter(|span| span.error).count(), 4);
//! chain.stop().await?;
//! # Ok(())
//! # }
//! ```

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    case::Outcome,
    environment::{EnvironmentError, process::ProcessEnvironment},
    expectation::{Expect, Node, Order, Overlap, SpanCount},
    judge,
    report::plain,
    run::new_run_id,
    scenario::{ChainChoice, Fault, FaultKind, Request, Scenario, SystemChoice},
    session::{Session, SessionError, Settled},
    system::build::{self, BuildError},
    trace::Trace,
    verdict::CaseResult,
};

mod in_process;

pub use self::in_process::{Call, InProcess};

/// A system that is up for a test. Its processes end with [`TestSystem::stop`], or when it is dropped.
pub struct TestSystem {
    session: Session,
    choice: SystemChoice,
}

/// Error for a test system that did not start.
#[derive(Debug, thiserror::Error)]
pub enum TestSystemError {
    /// The system's description is invalid.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The processes cannot be set up.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A workload did not come up, or cannot be reached.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl TestSystem {
    /// Starts the built-in chain of two sample apps as processes of the executable `tracecheck`.
    ///
    /// # Errors
    ///
    /// If a process does not become ready; the message contains the end of its log.
    pub async fn chain(tracecheck: impl Into<PathBuf>) -> Result<Self, TestSystemError> {
        Self::start(tracecheck, SystemChoice::Chain(ChainChoice::default())).await
    }

    /// Starts a system as processes; built-in workloads run the executable `tracecheck`.
    ///
    /// # Errors
    ///
    /// If the system's description is invalid, or a workload does not become ready.
    pub async fn start(
        tracecheck: impl Into<PathBuf>,
        choice: SystemChoice,
    ) -> Result<Self, TestSystemError> {
        let system = build::system(&choice, &build::Overrides::default())?.system;
        let environment = ProcessEnvironment::builder(tracecheck).build()?;
        let session = Session::start(
            Box::new(environment),
            &system,
            &new_run_id(),
            &CancellationToken::new(),
        )
        .await?;
        Ok(Self { session, choice })
    }

    /// Prepares a GET of `path` at the system's entry; [`TestRequest::send`] sends it.
    pub fn get(&self, path: &str) -> TestRequest<'_> {
        let scenario = Scenario {
            name: "test".to_owned(),
            description: String::new(),
            file: PathBuf::new(),
            system: self.choice.clone(),
            requests: vec![Request::get(path)],
            faults: Vec::new(),
            expect: Expect::default(),
            tolerate: BTreeMap::new(),
            levels: BTreeMap::new(),
            requires: BTreeMap::new(),
        };
        TestRequest { session: &self.session, scenario }
    }

    /// Returns the underlying session, for everything that this type does not offer.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Takes the system down.
    ///
    /// # Errors
    ///
    /// What could not be cleaned up, or ended badly.
    pub async fn stop(self) -> Result<(), EnvironmentError> {
        self.session.stop().await
    }
}

/// A request that is about to be sent.
pub struct TestRequest<'a> {
    session: &'a Session,
    scenario: Scenario,
}

impl TestRequest<'_> {
    /// Adds a fault at a sample app.
    #[must_use]
    pub fn fault(mut self, at: &str, kind: FaultKind) -> Self {
        self.scenario.faults.push(Fault { at: at.to_owned(), kind, first: None, after: None });
        self
    }

    /// Sets the time for the trace to complete after the response; 10 s by default.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.scenario.expect.within = within;
        self
    }

    /// Requires the trace to have this tree below the harness's own span.
    #[must_use]
    pub fn tree(mut self, tree: Node) -> Self {
        self.scenario.expect.tree = Some(tree);
        self
    }

    /// Requires the trace to have a number of spans of a kind.
    #[must_use]
    pub fn spans(mut self, count: SpanCount) -> Self {
        self.scenario.expect.spans.push(count);
        self
    }

    /// Requires the failure to begin at this workload or service.
    #[must_use]
    pub fn fails_at(mut self, at: &str) -> Self {
        self.scenario.expect.fails_at = Some(at.to_owned());
        self
    }

    /// Requires the request's work to continue in a linked trace with this tree.
    #[must_use]
    pub fn linked(mut self, tree: Node) -> Self {
        self.scenario.expect.linked.push(tree);
        self
    }

    /// Requires spans to begin after others have ended.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.scenario.expect.order.push(order);
        self
    }

    /// Requires spans to overlap in time.
    #[must_use]
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.scenario.expect.overlap.push(overlap);
        self
    }

    /// Sends the request, waits until its trace is complete or the time has passed, and judges the trace by all rules
    /// and expectations.
    pub async fn send(self) -> Answer {
        let case =
            self.session.send(&self.scenario.requests[0], (0, 0), &self.scenario.faults).await;
        let Settled { evidence, judged_after_ms, .. } =
            self.session.settle(&self.scenario, &case).await;
        let outcome = case.outcome.clone();
        let record = self.session.record_of(self.scenario, case, evidence);
        let result = judge::judge(&record).cases.remove(0);
        let trace = record.cases.into_iter().next().and_then(|of| of.evidence.trace);
        Answer { outcome, result: CaseResult { judged_after_ms, ..result }, trace }
    }
}

/// The answer to a request, and its trace.
#[derive(Debug)]
pub struct Answer {
    outcome: Outcome,
    result: CaseResult,
    trace: Option<Trace>,
}

/// A trace that is not whole, or of which that is not known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotWhole(String);

impl NotWhole {
    fn of(result: &CaseResult) -> Self {
        let found = plain::case(result);
        let open = result.findings.not_evaluated.iter().filter(|open| open.required);
        let open = open.map(|open| format!("\n  {}: not evaluated: {}", open.rule, open.because));
        let open: String = open.collect();
        match result.findings.failures.is_empty() && !open.is_empty() {
            true => Self(format!("it is not known whether the trace is complete:\n{found}{open}")),
            false => Self(format!("the trace is incomplete:\n{found}{open}")),
        }
    }
}

impl Answer {
    /// Returns the HTTP status of the response; `None` if there was no response.
    pub fn status(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Response { status, .. } => Some(status),
            Outcome::Failed { .. } | Outcome::Unobserved { .. } => None,
        }
    }

    /// Returns the result of judging the trace.
    pub fn result(&self) -> &CaseResult {
        &self.result
    }

    /// Returns the captured trace, complete or not.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// Returns the captured trace if no check failed and every required check was evaluated.
    ///
    /// # Errors
    ///
    /// The failures with the expected and the captured tree, and the required checks that were not evaluated.
    pub fn whole_trace(&self) -> Result<&Trace, NotWhole> {
        let findings = &self.result.findings;
        let is_open = findings.not_evaluated.iter().any(|open| open.required);
        match &self.trace {
            Some(trace) if findings.failures.is_empty() && !is_open => Ok(trace),
            _ => Err(NotWhole::of(&self.result)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        finding::NotEvaluated,
        judge::{judge, testing::World},
    };

    fn answer(change: impl FnOnce(&mut World), open: Option<bool>) -> Answer {
        let mut world = World::healthy();
        change(&mut world);
        let mut result = judge(&world.record).cases.remove(0);
        let open = open.map(|required| NotEvaluated {
            rule: "lost-span".to_owned(),
            because: "the ledger did not answer".to_owned(),
            required,
        });
        result.findings.not_evaluated.extend(open);
        let record = world.record.cases.remove(0);
        Answer { outcome: record.case.outcome, result, trace: record.evidence.trace }
    }

    fn refused(answer: &Answer) -> String {
        answer.whole_trace().unwrap_err().to_string()
    }

    #[test]
    fn a_trace_is_whole_only_where_all_that_a_verdict_needs_was_checked() {
        let whole = |_: &mut World| {};
        let cut = |world: &mut World| world.lose("sample-app-2");
        assert_eq!(answer(whole, None).whole_trace().unwrap().spans.len(), 4);
        assert!(answer(whole, Some(false)).whole_trace().is_ok());
        let unknown = refused(&answer(whole, Some(true)));
        assert!(
            unknown.starts_with("it is not known whether the trace is complete:\ntrace "),
            "{unknown}"
        );
        assert!(
            unknown.ends_with("\n  lost-span: not evaluated: the ledger did not answer"),
            "{unknown}"
        );
        let lost = refused(&answer(cut, None));
        assert!(lost.starts_with("the trace is incomplete:\ntrace "), "{lost}");
        assert!(lost.contains("lost-span: `sample-app-2` ended"), "{lost}");
        let both = refused(&answer(cut, Some(true)));
        assert!(
            both.starts_with("the trace is incomplete:") && both.contains("not evaluated"),
            "{both}"
        );
    }
}
