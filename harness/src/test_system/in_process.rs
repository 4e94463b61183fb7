//! Services in the test's own process: an intake beside them captures what they send, and their traces are judged as those of any system.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::Answer;
use crate::{
    case::{self, Capability, Case, Evidence, Outcome, Topology},
    expectation::Expect,
    intake::{Intake, IntakeError},
    judge,
    record::{CaseRecord, Record},
    scenario::{Method, Request, Scenario, SystemChoice},
    trace::{SpanId, TraceId, unix_nanos},
};

/// How long what was captured may take to be read.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Capabilities of an intake that nothing else sends to, of services that have sent all they had.
const CAPABILITIES: [Capability; 3] =
    [Capability::RawPayloads, Capability::Exclusiveness, Capability::Completeness];

/// Services of the test's own process, which send their spans to an intake. Dropping it ends the intake.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use harness::{expectation::Expect, test_system::InProcess};
///
/// let services = InProcess::start().await?;
/// // The exporter of the service under test sends OTLP/HTTP to `services.traces_url()`, with any `dd-api-key`.
/// assert!(services.traces_url().ends_with("/v1/traces"));
///
/// let call = services.call("/cart", Expect::default());
/// // The request is sent with the header `traceparent: call.traceparent()`, and the exporter is flushed once it is answered.
/// let answer = call.answered(200).await?;
///
/// // Nothing was sent here, and nothing that was not seen passes.
/// let wrong = answer.whole_trace().unwrap_err().to_string();
/// assert!(wrong.contains("no span of any service was captured"), "{wrong}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InProcess {
    intake: Intake,
}

impl InProcess {
    /// Starts an intake on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> Result<Self, IntakeError> {
        Ok(Self { intake: Intake::start().await? })
    }

    /// Returns the URL to which exporters send OTLP/HTTP, for `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Requests need the
    /// header `dd-api-key`, with any value.
    pub fn traces_url(&self) -> String {
        format!("{}/v1/traces", self.intake.url())
    }

    /// Returns the underlying intake, for everything that this type does not offer.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Prepares a GET of `path` in a trace of its own, which `expect` describes. The test sends the request.
    pub fn call(&self, path: &str, expect: Expect) -> Call<'_> {
        let scenario = Scenario {
            name: "test".to_owned(),
            description: String::new(),
            file: PathBuf::new(),
            system: SystemChoice::File(PathBuf::new()),
            requests: vec![Request::get(path)],
            faults: Vec::new(),
            expect,
            tolerate: BTreeMap::new(),
            levels: BTreeMap::new(),
            requires: BTreeMap::new(),
        };
        Call {
            intake: &self.intake,
            scenario,
            trace_id: TraceId(rand::random::<u128>().max(1)),
            span_id: SpanId(rand::random::<u64>().max(1)),
            sent_at: unix_nanos(SystemTime::now()),
        }
    }
}

/// A request that the test sends itself, and that is judged once it is answered.
#[derive(Debug)]
pub struct Call<'a> {
    intake: &'a Intake,
    scenario: Scenario,
    trace_id: TraceId,
    span_id: SpanId,
    sent_at: i64,
}

impl Call<'_> {
    /// Returns the trace id of the call.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Returns the value of the header `traceparent` that the test must send with the call.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }

    /// Judges the trace by all rules and expectations, after the call was answered with `status`. Flush the services'
    /// exporters first: spans not sent by then count as missing.
    ///
    /// # Errors
    ///
    /// When what was captured cannot be read.
    pub async fn answered(self, status: u16) -> Result<Answer, IntakeError> {
        self.intake.client().drain(READ_WITHIN).await?;
        let trace = self.intake.client().trace(self.trace_id);
        let outcome = Outcome::Response { status, trace_id: None };
        let case = Case {
            request: 0,
            ordinal: 0,
            trace_id: self.trace_id,
            driver_span: self.span_id,
            driver_exported: false,
            context_sent: true,
            sampled: true,
            sent_at: self.sent_at,
            ended_at: unix_nanos(SystemTime::now()),
            outcome: outcome.clone(),
            method: Method::Get,
            entry: None,
            answer: case::ResponseParts::default(),
        };
        let evidence = Evidence { trace: trace.clone(), ..Evidence::default() };
        let mut record = Record::new(self.scenario, Topology::default(), CAPABILITIES.to_vec());
        record.cases.push(CaseRecord { case, evidence });
        let result = judge::judge(&record).cases.remove(0);
        Ok(Answer { outcome, result, trace })
    }
}
