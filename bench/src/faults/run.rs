//! One run: a fault, a subject, and the ledger of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::time::{Instant, sleep};

use crate::disk::Disk;
use crate::fault::{Blow, Fault};
use crate::intake::{Intake, Mode};
use crate::sender::Senders;
use crate::subject::{Ports, Process, Queue, Subject};
use crate::traffic::{Shape, Traffic};

/// How long things work before the fault.
const BEFORE: Duration = Duration::from_secs(3);
/// How long the intake must hear nothing before what is missing is given up, beside the longest of retries.
const QUIET: Duration = Duration::from_secs(45);
/// How long what is left may take in all.
const DRAIN: Duration = Duration::from_secs(600);
const DUPLICATES: &str = "otelcol_exporter_possible_duplicate_spans";

/// How much and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
}

/// Result of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) fault: Fault,
    pub(crate) subject: &'static str,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    /// Arrivals beyond the first.
    pub(crate) doubled: u64,
    /// Possible duplicates that the subject counted; the reference counts none.
    pub(crate) counted: Option<u64>,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) peak_mib: u64,
    pub(crate) bound_mib: Option<u64>,
    /// From the end of the load until the last span arrived.
    pub(crate) drained_in: Duration,
    pub(crate) exit: String,
    /// Violations by our collector.
    pub(crate) problems: Vec<String>,
}

/// Watches a process: its memory, and its duplicates over its lives.
#[derive(Default)]
struct Watch {
    peak_mib: u64,
    counted: u64,
    counted_before: u64,
}

impl Watch {
    async fn look(&mut self, process: &Process) {
        self.peak_mib = self.peak_mib.max(process.peak_mib());
        if let Some(counted) = process.metric(DUPLICATES).await {
            self.counted = self.counted_before + counted;
        }
    }

    /// The process is another one from now on.
    fn reborn(&mut self) {
        self.counted_before = self.counted;
    }

    async fn look_for(&mut self, process: &Process, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look(process).await;
            sleep(Duration::from_millis(250)).await;
        }
    }
}

pub(crate) async fn run(plan: Plan, fault: Fault, subject: &Subject) -> anyhow::Result<Run> {
    let disk = Disk::new(fault == Fault::DiskFull)?;
    let intake = Intake::start().await?;
    let ports = Ports::free()?;
    let traffic = Arc::new(Traffic::new(Shape::default()));
    let mut process = Some(subject.start(ports, intake.port, &disk.path()).await?);
    let mut watch = Watch::default();
    let senders = Senders::start(ports.otlp, &traffic, plan.rate);
    let mut exit = None;

    let fault_time = Duration::from_secs(plan.seconds);
    if let Some(running) = &process {
        watch.look_for(running, BEFORE).await;
        intake.set(fault.mode());
        let time = if fault.blow().is_some() { fault_time / 2 } else { fault_time };
        watch.look_for(running, time).await;
    }
    match (fault.blow(), process.take()) {
        (Some(Blow::Terminate), Some(running)) => {
            exit = Some(running.terminate().await?.to_string());
        }
        (Some(Blow::Kill), Some(running)) => {
            running.kill().await?;
            watch.reborn();
            let running = subject.start(ports, intake.port, &disk.path()).await?;
            watch.look_for(&running, fault_time / 2).await;
            process = Some(running);
        }
        (_, running) => process = running,
    }
    intake.set(Mode::Works);
    let log = senders.stop().await;

    // What is acknowledged is known now; the rest of it is waited for.
    let numbers = log.acknowledged();
    let acknowledged: HashSet<u64> =
        numbers.iter().flat_map(|number| span_ids(&traffic, *number)).collect();
    let begun = Instant::now();
    let mut quiet_since = (Instant::now(), intake.requests());
    let missing =
        || intake.accepted(|seen| acknowledged.iter().filter(|id| !seen.contains_key(id)).count());
    let mut drained_in = Duration::ZERO;
    loop {
        if let Some(running) = &process {
            watch.look(running).await;
        }
        let is_settled = intake.arrived().is_some_and(|count| count >= acknowledged.len());
        if is_settled && missing() == 0 {
            drained_in = begun.elapsed();
            break;
        }
        if intake.requests() != quiet_since.1 {
            quiet_since = (Instant::now(), intake.requests());
            drained_in = begun.elapsed();
        }
        let patience = if process.is_some() { QUIET } else { Duration::from_secs(1) };
        if quiet_since.0.elapsed() > patience || begun.elapsed() > DRAIN {
            break;
        }
        sleep(Duration::from_millis(250)).await;
    }
    if let Some(running) = process.take() {
        watch.look(&running).await;
        exit = Some(running.terminate().await?.to_string());
    }
    while intake.arrived().is_none() {
        sleep(Duration::from_millis(10)).await;
    }

    let doubled = intake.accepted(|seen| seen.values().map(|times| u64::from(*times) - 1).sum());
    let is_ours = subject.queue() != Queue::Own;
    let mut run = Run {
        fault,
        subject: subject.name(),
        acknowledged: acknowledged.len(),
        lost: missing(),
        doubled,
        counted: is_ours.then_some(watch.counted),
        refused: log.refused(),
        unanswered: log.broken(),
        peak_mib: watch.peak_mib,
        bound_mib: subject.memory_bound_mib(),
        drained_in,
        exit: exit.unwrap_or_default().replace("exit status: ", ""),
        problems: Vec::new(),
    };
    if is_ours {
        run.problems = problems(&run, traffic.spans_per_request as u64);
    }
    Ok(run)
}

/// The ids of the spans in the request of this number.
fn span_ids(traffic: &Traffic, number: u64) -> Vec<u64> {
    // Five bytes of gRPC stand before the message.
    let request = ExportTraceServiceRequest::decode(&traffic.message(number)[5..]);
    let resources = request.unwrap_or_default().resource_spans;
    let scopes = resources.iter().flat_map(|resource| &resource.scope_spans);
    let id = |id: &[u8]| id.try_into().map(u64::from_be_bytes).unwrap_or_default();
    scopes.flat_map(|scope| &scope.spans).map(|span| id(&span.span_id)).collect()
}

fn problems(run: &Run, spans_per_request: u64) -> Vec<String> {
    let mut problems = Vec::new();
    if run.acknowledged == 0 {
        problems.push("nothing was acknowledged".into());
    }
    if run.lost > 0 {
        problems.push(format!("{} spans are lost", run.lost));
    }
    // A sender that was not answered sends again what may have been taken.
    let counted = run.counted.unwrap_or_default() + run.unanswered * spans_per_request;
    if run.doubled > counted {
        problems.push(format!("{} spans came twice, {counted} are counted", run.doubled));
    }
    if let Some(bound) = run.bound_mib.filter(|bound| run.peak_mib > *bound) {
        problems.push(format!("{} MiB of memory, {bound} are allowed", run.peak_mib));
    }
    if run.exit != "0" {
        problems.push(format!("it ended with {}", run.exit));
    }
    problems
}
