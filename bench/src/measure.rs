//! One run of one subject.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep, timeout};

use bench::builds::Executable;

use crate::load::{self, Connection, Load};
use crate::process::{Process, free_port};
use crate::sink::{Arrived, Sink};
use crate::subject::{Build, Kind, Subject};
use crate::traffic::{Shape, Traffic};

/// How long a subject is left alone before its idle memory is read.
const IDLE: Duration = Duration::from_secs(2);
/// How long nothing may arrive before the rest is taken for lost: above the reference's flush every 5 s.
const QUIET: Duration = Duration::from_secs(12);
/// How long sending may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// Spans in the floor's payload: about the reference's and our limit of 3.2 MB.
const FLOOR_SPANS: usize = 3000;
/// In every subject, for cost and for latency.
const BATCH_TIMEOUT_MS: u64 = 100;

/// Settings that all runs share.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) ours: Executable,
    /// The build of the revision that ours is compared with.
    pub(crate) before: Option<Executable>,
    pub(crate) spans: u64,
    pub(crate) connections: usize,
    pub(crate) rate: Option<u64>,
}

/// Measurements of a run.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) subject: String,
    pub(crate) shape: Shape,
    pub(crate) sent: u64,
    pub(crate) arrived: Arrived,
    pub(crate) cpu_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) idle_mib: f64,
    pub(crate) peak_mib: f64,
    pub(crate) after_mib: f64,
    pub(crate) refused: u64,
    pub(crate) bytes_in_per_span: f64,
}

impl Cost {
    /// CPU-microseconds for each span that was acknowledged; the same number as CPU-seconds per million.
    pub(crate) fn micros_per_span(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.sent as f64
    }

    pub(crate) fn spans_per_second(&self) -> f64 {
        self.sent as f64 / self.seconds
    }

    pub(crate) fn bytes_per_span(&self) -> f64 {
        self.arrived.bytes as f64 / self.arrived.spans.max(1) as f64
    }
}

/// Latencies in milliseconds, from the moment before a request is sent to the moment its traces are at the sink.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    pub(crate) subject: String,
    pub(crate) requests: usize,
    pub(crate) lost: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// CPU-microseconds per span at this load.
    pub(crate) micros_per_span: f64,
}

/// Sends as much as the plan says, and reads what it cost.
pub(crate) async fn cost(plan: &Plan, subject: &Subject, shape: Shape) -> anyhow::Result<Cost> {
    let context = || format!("measuring `{}`", subject.name);
    let traffic = Arc::new(Traffic::new(shape));
    let (process, sink, port, _files) =
        start(plan, subject, &traffic).await.with_context(context)?;
    // What a first request sets up does not count.
    let mut connection = Connection::open(port).await?;
    let warm_up = 20_000_u64.div_ceil(traffic.spans_per_request as u64);
    for number in 0..warm_up {
        let _refused = connection.export(traffic.message(u64::MAX - number)).await?;
    }
    settle(&sink, warm_up * traffic.spans_per_request as u64).await?;
    let (before, idle_mib) = (sink.arrived()?, process.1);
    let process = process.0;
    let cpu_before = process.cpu_seconds()?;
    let load = Load { spans: plan.spans, connections: plan.connections, rate: plan.rate };
    let outcome = timeout(LOAD_TIMEOUT, load::run(port, &traffic, load)).await;
    let outcome = outcome.with_context(context)?.with_context(context)?;
    settle(&sink, before.spans + outcome.acknowledged).await?;
    let cpu_seconds = process.cpu_seconds()? - cpu_before;
    let (after_mib, peak_mib) = process.memory_mib()?;
    let after = sink.arrived()?;
    process.end().await?;
    Ok(Cost {
        subject: subject.name.clone(),
        shape,
        sent: outcome.acknowledged,
        arrived: Arrived {
            spans: after.spans - before.spans,
            bytes: after.bytes - before.bytes,
            payloads: after.payloads - before.payloads,
            stats_bytes: after.stats_bytes,
        },
        cpu_seconds,
        seconds: outcome.elapsed.as_secs_f64(),
        idle_mib,
        peak_mib,
        after_mib,
        refused: outcome.refused.values().sum(),
        bytes_in_per_span: traffic.bytes_per_span(),
    })
}

/// Sends one trace at a time, at a low rate, and looks when each arrives.
pub(crate) async fn latency(plan: &Plan, subject: &Subject) -> anyhow::Result<Latency> {
    const REQUESTS: u64 = 400;
    /// Uneven, so that requests fall at any moment of a batch's time.
    const GAP: Duration = Duration::from_millis(37);
    let shape = Shape { spans_per_request: 10, ..Shape::default() };
    let traffic = Arc::new(Traffic::new(shape));
    let (process, sink, port, _files) = start(plan, subject, &traffic).await?;
    let process = process.0;
    let mut connection = Connection::open(port).await?;
    for number in 0..20 {
        let _refused = connection.export(traffic.message(u64::MAX - number)).await?;
    }
    settle(&sink, 200).await?;
    let cpu_before = process.cpu_seconds()?;
    let mut sent = Vec::new();
    let mut due = Instant::now();
    for number in 0..REQUESTS {
        due += GAP;
        tokio::time::sleep_until(due).await;
        let (message, at) = (traffic.message(number), std::time::Instant::now());
        if connection.export(message).await?.is_ok() {
            sent.push((number, at));
        }
    }
    settle(&sink, 200 + REQUESTS * 10).await?;
    let micros_per_span = (process.cpu_seconds()? - cpu_before) * 1e6 / (REQUESTS * 10) as f64;
    process.end().await?;
    let arrivals = sink.arrivals()?;
    let (mut millis, mut lost) = (Vec::new(), 0);
    for (number, at) in &sent {
        for id in traffic.trace_ids(*number) {
            match arrivals.get(&id) {
                Some(arrival) => millis.push(arrival.duration_since(*at).as_secs_f64() * 1e3),
                None => lost += 1,
            }
        }
    }
    millis.sort_by(f64::total_cmp);
    let quantile = |part: f64| {
        millis.get((part * (millis.len() - 1) as f64) as usize).copied().unwrap_or(f64::NAN)
    };
    anyhow::ensure!(!millis.is_empty(), "nothing of `{}` arrived", subject.name);
    Ok(Latency {
        subject: subject.name.clone(),
        requests: sent.len(),
        lost,
        p50: quantile(0.5),
        p99: quantile(0.99),
        max: quantile(1.0),
        micros_per_span,
    })
}

/// The process and its idle memory, the sink, the port it listens on, and files that it needs.
type Started = ((Process, f64), Sink, u16, Vec<tempfile::TempPath>);

async fn start(plan: &Plan, subject: &Subject, traffic: &Traffic) -> anyhow::Result<Started> {
    let (port, sink_port) = (free_port()?, free_port()?);
    let sink = Sink::start(sink_port).await?;
    let mut files = Vec::new();
    let (program, args) = match &subject.kind {
        Kind::Floor => {
            let (payload, spans) = payload(traffic)?;
            let file = tempfile::NamedTempFile::new()?.into_temp_path();
            std::fs::write(&file, payload)?;
            let mut args = vec!["floor".to_owned()];
            for (key, value) in [
                ("port", port.to_string()),
                ("sink", sink_port.to_string()),
                ("payload", file.display().to_string()),
                ("payload-spans", spans.to_string()),
                ("spans-per-request", traffic.spans_per_request.to_string()),
                ("compression", subject.compression.to_owned()),
            ] {
                args.extend([format!("--{key}"), value]);
            }
            files.push(file);
            (std::env::current_exe()?, args)
        }
        Kind::Reference(path) => {
            (path.clone(), subject.arguments(port, sink_port, BATCH_TIMEOUT_MS))
        }
        Kind::Ours { build, .. } => {
            let Executable { path, is_subcommand } = match build {
                Build::WorkingTree => &plan.ours,
                Build::Before => plan.before.as_ref().context("there is no build of before")?,
            };
            let mut args = subject.arguments(port, sink_port, BATCH_TIMEOUT_MS);
            if *is_subcommand {
                args.insert(0, "collector".into());
            }
            (path.clone(), args)
        }
    };
    let process = Process::start(&program, &args, port).await?;
    sleep(IDLE).await;
    let (idle, _) = process.memory_mib()?;
    Ok(((process, idle), sink, port, files))
}

/// The payload that the floor sends, and its number of spans.
fn payload(traffic: &Traffic) -> anyhow::Result<(Vec<u8>, usize)> {
    let settings = "{api: {key: x}, hostname: bench, compression: none}";
    let stages =
        collector::internals::DatadogStages::new(settings, false).map_err(anyhow::Error::msg)?;
    let (mut request, mut spans) = (Vec::new(), 0);
    while spans < FLOOR_SPANS {
        // Requests joined are one request.
        request.extend_from_slice(traffic.plain(spans / traffic.spans_per_request));
        spans += traffic.spans_per_request;
    }
    let batch =
        collector::internals::decode_protobuf(request.into()).map_err(anyhow::Error::msg)?;
    let mut payloads = stages.payloads(&batch);
    payloads.truncate(1);
    let (payload, spans) = payloads.pop().context("there is no payload")?;
    Ok((payload, spans))
}

/// Waits until so many spans are at the sink, or nothing comes any more.
async fn settle(sink: &Sink, spans: u64) -> anyhow::Result<()> {
    let (mut payloads, mut moved) = (sink.payloads(), Instant::now());
    loop {
        if sink.arrived()?.spans >= spans {
            return Ok(());
        }
        if sink.payloads() != payloads {
            (payloads, moved) = (sink.payloads(), Instant::now());
        }
        if moved.elapsed() > QUIET {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
}
